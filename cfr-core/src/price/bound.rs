//! The most that a call can cost: worst rates over every meter, tier and band that it can reach (providers.md §17).

use jiff::{SignedDuration, Timestamp};

use super::image::image_tokens_max;
use super::{Bound, Condition, Factor, Mode, PicoUsd, PriceEntry, PriceError, PriceTerms, Tier};
use crate::chat::Meter;
use crate::chat::envelope::{InputBound, TOOL_SEARCHES_MAX, Work};

/// A price change this near counts as well: clocks differ, and so do ideas of when a request begins.
const CHANGE_SOON: SignedDuration = SignedDuration::from_hours(1);
/// Answer tokens that hosts make beyond the cap while they finish a step.
const OVERSHOOT_TOKENS: u64 = 8;
/// Gemini's overshoot: at least this many tokens, and one in a hundred.
const GEMINI_OVERSHOOT_TOKENS: u64 = 64;
const GEMINI_OVERSHOOT_FACTOR: (i128, i128) = (101, 100);

const INPUT_MODALITIES: [Meter; 5] = [
    Meter::InputAudioTokens,
    Meter::InputImageTokens,
    Meter::InputVideoTokens,
    Meter::CacheReadAudioTokens,
    Meter::CacheReadImageTokens,
];
const OUTPUT_MODALITIES: [Meter; 3] = [Meter::OutputAudioTokens, Meter::OutputImageTokens, Meter::OutputVideoTokens];

impl PriceEntry {
    /// The most that a call can cost. Never below [`PriceEntry::cost`] of any usage that the call can have, on the
    /// assumptions of providers.md §17.7: the provider keeps its own limits, and enforces the cap on answer tokens.
    ///
    /// # Errors
    /// When a meter or tier that the call can use has no price, or nothing bounds it.
    pub fn upper_bound(&self, input: &InputBound, choices: u32, terms: &PriceTerms<'_>) -> Result<Bound, PriceError> {
        self.worst_around(terms.at, |entry| entry.bound(input, choices, terms, entry.tiers(terms)?))
    }

    /// The most that a request costs in a batch: a provider that took it into one serves it on no other tier.
    ///
    /// # Errors
    /// As [`PriceEntry::upper_bound`], and when batches have no price of their own.
    pub fn batch_upper_bound(
        &self,
        input: &InputBound,
        choices: u32,
        terms: &PriceTerms<'_>,
    ) -> Result<Bound, PriceError> {
        if !self.has_batch_price() {
            return Err(PriceError::UnpricedTier { model: self.model.clone(), tier: Tier::Batch.name().into() });
        }
        let terms = PriceTerms { tier: Some(Tier::Batch.name()), ..*terms };
        self.worst_around(terms.at, |entry| entry.bound(input, choices, &terms, [Tier::Batch; 2]))
    }

    /// Whether the table says what the model costs in a batch.
    #[must_use]
    pub fn has_batch_price(&self) -> bool {
        self.tiers_alike || self.rates.has_tier(Tier::Batch)
    }

    /// The worse of what holds now and what will in a moment.
    fn worst_around(
        &self,
        at: Option<Timestamp>,
        bound: impl Fn(&Self) -> Result<Bound, PriceError>,
    ) -> Result<Bound, PriceError> {
        let now = bound(self)?;
        match at.and_then(|at| self.successor_within(at, CHANGE_SOON)) {
            Some(next) => Ok(now.worse(bound(next)?)),
            None => Ok(now),
        }
    }

    fn bound(
        &self,
        input: &InputBound,
        choices: u32,
        terms: &PriceTerms<'_>,
        tiers: [Tier; 2],
    ) -> Result<Bound, PriceError> {
        self.refuse_deep_research()?;
        self.refuse_unpriced_geo(terms)?;
        let choices = u64::from(choices.max(1));
        if !matches!(input.work, Work::Text | Work::Conversation(_)) {
            return self.bound_of_work(input, choices, terms, tiers);
        }
        let tokens = self.input_tokens_max(input, choices)?;
        let reach = self.reach(tokens, terms, tiers)?;
        let fixed = self.input_cost_max(input, tokens, &reach)?;
        let fixed = fixed.checked_add(self.fees_max(input)?).ok_or(PriceError::OutOfRange)?;
        let bound = Bound {
            fixed: PicoUsd(fixed),
            per_output_token: PicoUsd(0),
            output_tokens_floor: 0,
            output_tokens_model_max: self.limits.max_output_tokens,
        };
        if self.answers() { self.with_output(bound, &reach, input, choices) } else { Ok(bound) }
    }

    /// Whether what comes back may be charged. Models of images and sound can also be talked to.
    const fn answers(&self) -> bool {
        matches!(self.mode, Mode::Chat | Mode::Image | Mode::Stt | Mode::Tts | Mode::Realtime)
    }

    fn input_cost_max(&self, input: &InputBound, tokens: u64, reach: &Reach) -> Result<i128, PriceError> {
        let is_search = input.search_units.whole.max > 0; // else tokens count, and have no price
        if is_search && self.is_charged_by_search() {
            let rate = self.worst(reach, std::iter::once(Meter::RerankQueries))?;
            return product(rate, self.searches(&input.search_units).max);
        }
        let rate = self.worst(reach, self.input_meters(input))?;
        reach.factor.of(product(rate, tokens)?).ok_or(PriceError::OutOfRange)
    }

    fn with_output(&self, bound: Bound, reach: &Reach, input: &InputBound, choices: u64) -> Result<Bound, PriceError> {
        let rate = self.worst(reach, self.output_meters())?;
        let mut per_token = reach.factor.of(product(rate, choices)?).ok_or(PriceError::OutOfRange)?;
        let mut extra = OVERSHOOT_TOKENS;
        if matches!(self.provider(), "gemini" | "vertex") {
            let (numerator, denominator) = GEMINI_OVERSHOOT_FACTOR;
            per_token =
                (per_token.checked_mul(numerator).ok_or(PriceError::OutOfRange)? + denominator - 1) / denominator; // up
            extra = GEMINI_OVERSHOOT_TOKENS;
        }
        let extra = i128::from(extra.saturating_add(input.predicted_tokens));
        let extra = per_token.checked_mul(extra).and_then(|extra| bound.fixed.0.checked_add(extra));
        Ok(Bound {
            fixed: PicoUsd(extra.ok_or(PriceError::OutOfRange)?),
            per_output_token: PicoUsd(per_token),
            output_tokens_floor: self.output_tokens_floor()?,
            ..bound
        })
    }

    /// The most input tokens. A provider refuses what exceeds the model's limit; of embeddings the limit is per text, so
    /// it bounds nothing. A document or a hosted tool can fill the context, and each call of a hosted tool reads it anew.
    fn input_tokens_max(&self, input: &InputBound, choices: u64) -> Result<u64, PriceError> {
        let limit = self.limits.max_input_tokens.filter(|_| self.mode != Mode::Embedding);
        let context = || limit.ok_or_else(|| PriceError::UnboundedInput { model: self.model.clone() });
        if input.unbounded {
            let reads = u64::from(input.hosted_calls.max(self.web_searches_max(input))).saturating_add(1);
            return Ok(context()?.saturating_mul(reads.max(choices)));
        }
        let images = match (input.images, image_tokens_max(self.provider(), self.model())) {
            (0, _) => 0,
            (images, Some(tokens)) => u64::from(images).saturating_mul(tokens),
            (_, None) => context()?,
        };
        let all = input.text_tokens.saturating_add(images);
        Ok(limit.map_or(all, |limit| all.min(limit.saturating_mul(choices))))
    }

    fn input_meters(&self, input: &InputBound) -> impl Iterator<Item = Meter> {
        let media = input.unbounded || input.images > 0;
        let marked = input.cache_markers;
        let has = |meter: Meter| self.rates.has_meter(meter);
        [Meter::InputTokens, Meter::CacheReadTokens]
            .into_iter()
            .chain([Meter::CacheWriteTokens].into_iter().filter(move |meter| marked || has(*meter)))
            .chain([Meter::CacheWrite1hTokens, Meter::CacheWrite12hTokens].into_iter().filter(move |_| marked))
            .chain(INPUT_MODALITIES.into_iter().filter(move |_| media))
    }

    /// Models that can answer in sound or pictures may do so unasked.
    fn output_meters(&self) -> impl Iterator<Item = Meter> {
        let has = |meter: &Meter| self.rates.has_meter(*meter);
        [Meter::OutputTokens, Meter::ReasoningTokens].into_iter().chain(OUTPUT_MODALITIES.into_iter().filter(has))
    }

    /// What hosted tools cost by the call, apart from their tokens.
    fn fees_max(&self, input: &InputBound) -> Result<i128, PriceError> {
        let calls = [
            (Meter::FileSearchCalls, input.file_searches),
            (Meter::MapsGroundingQueries, input.maps_queries),
            (Meter::CodeInterpreterSessions, input.code_sessions),
        ];
        calls.into_iter().filter(|(_, calls)| *calls > 0).try_fold(self.search_fees(input)?, |sum, (meter, calls)| {
            let fee = self.price(meter, Tier::Standard, 0)?;
            sum.checked_add(product(fee.pico_usd(), u64::from(calls))?).ok_or(PriceError::OutOfRange)
        })
    }

    /// Nothing caps how often a model of Google's searches: it is priced with the cap that other providers get.
    fn web_searches_max(&self, input: &InputBound) -> u32 {
        let capped = !matches!(self.provider(), "gemini" | "vertex");
        if capped || input.web_searches == 0 { input.web_searches } else { input.web_searches.max(TOOL_SEARCHES_MAX) }
    }

    fn search_fees(&self, input: &InputBound) -> Result<i128, PriceError> {
        let searches = self.web_searches_max(input).max(u32::from(self.searches_always()));
        if searches == 0 {
            return Ok(0);
        }
        let sizes =
            [Meter::WebSearchCalls, Meter::WebSearchCallsLow, Meter::WebSearchCallsMedium, Meter::WebSearchCallsHigh];
        let prices = sizes.into_iter().map(|meter| self.price(meter, Tier::Standard, 0));
        let dearest = prices.filter_map(Result::ok).max();
        let unpriced = || PriceError::UnpricedMeter { model: self.model.clone(), meter: Meter::WebSearchCalls };
        product(dearest.ok_or_else(unpriced)?.pico_usd(), u64::from(searches))
    }

    /// xAI and Perplexity count reasoning outside the cap, so that only the model's own maximum bounds the answer.
    fn output_tokens_floor(&self) -> Result<u64, PriceError> {
        let outside = matches!(self.provider(), "xai" | "perplexity") && !self.model.contains("non-reasoning");
        if !outside {
            return Ok(0);
        }
        let most = self.limits.max_output_tokens.or(self.limits.max_input_tokens);
        most.ok_or_else(|| PriceError::UnboundedOutput { model: self.model.clone() })
    }

    /// Deep research reads and cites without limit, in meters that a table must price.
    fn refuse_deep_research(&self) -> Result<(), PriceError> {
        let meter = Meter::CitationTokens;
        if self.model.contains("deep-research") && !self.rates.has_meter(meter) {
            return Err(PriceError::UnpricedMeter { model: self.model.clone(), meter });
        }
        Ok(())
    }

    /// Anthropic alone lets callers choose; it makes answers anywhere for the price without a factor.
    pub(super) fn refuse_unpriced_geo(&self, terms: &PriceTerms<'_>) -> Result<(), PriceError> {
        let is_of = |when: &Condition, geo: &str| matches!(when, Condition::Geo(known) if **known == *geo);
        let priced = |geo: &str| geo == "global" || self.multipliers.iter().any(|known| is_of(&known.when, geo));
        match terms.geo.filter(|geo| self.provider() == "anthropic" && !priced(geo)) {
            Some(geo) => Err(PriceError::UnpricedGeo { model: self.model.clone(), geo: geo.into() }),
            None => Ok(()),
        }
    }

    /// The tiers that can serve the call. `auto` may be served with priority; any other tier may fall back to the standard
    /// one.
    fn tiers(&self, terms: &PriceTerms<'_>) -> Result<[Tier; 2], PriceError> {
        let asked = self.tier(terms.tier)?;
        let upgraded = terms.tier == Some("auto") && !self.tiers_alike && self.rates.has_tier(Tier::Priority);
        Ok([Tier::Standard, if upgraded { Tier::Priority } else { asked }])
    }

    /// The tiers, bands and factor that the call can meet.
    pub(super) fn reach(
        &self,
        input_tokens: u64,
        terms: &PriceTerms<'_>,
        tiers: [Tier; 2],
    ) -> Result<Reach, PriceError> {
        Ok(Reach { tiers, input_tokens, factor: self.factor_max(terms)? })
    }

    /// The dearest rate in pico-USD of any of the meters, within reach.
    pub(super) fn worst(&self, reach: &Reach, meters: impl Iterator<Item = Meter>) -> Result<i64, PriceError> {
        let mut worst = None;
        for meter in meters {
            for tier in reach.tiers {
                for band in self.bands.iter().copied().chain([0]).filter(|band| reach.includes(*band)) {
                    worst = worst.max(Some(self.price(meter, tier, band)?.pico_usd()));
                }
            }
            let reserve = self.reserve.iter().filter(|rate| rate.meter == meter && reach.includes(rate.above));
            worst = worst.max(reserve.map(|rate| rate.price.pico_usd()).max());
        }
        worst.ok_or(PriceError::OutOfRange)
    }
}

/// What a call can meet.
pub(super) struct Reach {
    tiers: [Tier; 2],
    input_tokens: u64,
    pub(super) factor: Factor,
}

impl Reach {
    fn includes(&self, band: u64) -> bool {
        band <= self.input_tokens
    }
}

impl Bound {
    fn worse(self, other: Self) -> Self {
        Self {
            fixed: self.fixed.max(other.fixed),
            per_output_token: self.per_output_token.max(other.per_output_token),
            output_tokens_floor: self.output_tokens_floor.max(other.output_tokens_floor),
            output_tokens_model_max: self.output_tokens_model_max.max(other.output_tokens_model_max),
        }
    }
}

impl PriceEntry {
    /// The product of the operator's own factor and of every multiplier that may hold. A discount is not counted: whoever
    /// serves may do without it.
    fn factor_max(&self, terms: &PriceTerms<'_>) -> Result<Factor, PriceError> {
        let may_hold = self.multipliers.iter().filter(|multiplier| may_apply(&multiplier.when, terms));
        let mut factors = may_hold.map(|multiplier| multiplier.factor.at_least_one());
        factors.try_fold(terms.factor, Factor::times).ok_or(PriceError::OutOfRange)
    }
}

/// An unknown region may be the dearer one, and so may the geography of a call that names none.
fn may_apply(when: &Condition, terms: &PriceTerms<'_>) -> bool {
    match when {
        Condition::Region(region) => terms.is_in(region),
        Condition::Geo(geo) => terms.geo.is_none() || terms.is_in(geo),
        Condition::RegionNot(region) => terms.region.is_none_or(|known| *known != **region),
        Condition::Speed(speed) => terms.tier == Some(speed),
    }
}

pub(super) fn product(rate: i64, quantity: u64) -> Result<i128, PriceError> {
    i128::from(rate).checked_mul(i128::from(quantity)).ok_or(PriceError::OutOfRange)
}
