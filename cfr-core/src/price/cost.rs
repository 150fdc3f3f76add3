//! What a usage costs, exactly (providers.md §16.1).

use super::rate::fallback;
use super::{Condition, Factor, PicoUsd, PriceEntry, PriceError, PriceTerms, Tier, UnitPrice};
use crate::chat::{Meter, Usage};

/// One meter of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CostLine {
    /// What was counted.
    pub meter: Meter,
    /// How much of it.
    pub quantity: u64,
    /// The price of one unit before multipliers.
    pub rate: UnitPrice,
    /// The amount, multipliers included.
    pub amount: PicoUsd,
}

impl PriceEntry {
    /// What a usage costs, exactly.
    ///
    /// # Errors
    /// When a meter or tier that was used has no price.
    pub fn cost(&self, usage: &Usage, terms: &PriceTerms<'_>) -> Result<PicoUsd, PriceError> {
        self.lines(usage, terms)?.try_fold(PicoUsd::default(), |sum, line| {
            sum.0.checked_add(line?.amount.0).map(PicoUsd).ok_or(PriceError::OutOfRange)
        })
    }

    /// The same cost, meter by meter.
    ///
    /// # Errors
    /// When a meter or tier that was used has no price.
    pub fn cost_lines(&self, usage: &Usage, terms: &PriceTerms<'_>) -> Result<Vec<CostLine>, PriceError> {
        self.lines(usage, terms)?.collect()
    }

    fn lines<'a>(
        &'a self,
        usage: &'a Usage,
        terms: &PriceTerms<'_>,
    ) -> Result<impl Iterator<Item = Result<CostLine, PriceError>> + 'a, PriceError> {
        self.refuse_unpriced_geo(terms)?;
        let tier = self.tier(terms.tier)?;
        let band = self.band(usage.input_total());
        let off_peak = self.off_peak.as_ref().filter(|windows| terms.at.is_some_and(|at| windows.contains(at)));
        let factor = self.factor(terms.factor, |when| applies(when, terms))?;
        Ok(usage.used().filter(|(meter, _)| self.is_charged(*meter, usage)).map(move |(meter, quantity)| {
            let quantity = self.charged_quantity(meter, quantity);
            let cheaper = off_peak.and_then(|off_peak| off_peak.rates.find(meter, tier, band));
            let rate = cheaper.map_or_else(|| self.price(meter, tier, band), Ok)?;
            let factor = if meter.is_token() { factor } else { Factor::ONE };
            let amount = i128::from(rate.pico_usd()).checked_mul(i128::from(quantity));
            let amount = amount.and_then(|amount| factor.of(amount)).ok_or(PriceError::OutOfRange)?;
            Ok(CostLine { meter, quantity, rate, amount: PicoUsd(amount) })
        }))
    }

    /// Our tier behind a provider's word. A dearer tier without a single rate of its own is refused.
    pub(super) fn tier(&self, word: Option<&str>) -> Result<Tier, PriceError> {
        let Some(word) = word.filter(|word| !self.tiers_alike && !self.is_speed(word)) else {
            return Ok(Tier::Standard);
        };
        let alias = self.tier_words.iter().find(|(known, _)| **known == *word).map(|(_, tier)| *tier);
        let usable = |tier: &Tier| tier.is_at_most_standard() || self.rates.has_tier(*tier);
        let tier = alias.or_else(|| Tier::from_name(word)).or_else(|| is_ordinary(word).then_some(Tier::Standard));
        tier.filter(usable).ok_or_else(|| PriceError::UnpricedTier { model: self.model.clone(), tier: word.into() })
    }

    /// Whether the word is a speed that multiplies the standard rates.
    fn is_speed(&self, word: &str) -> bool {
        self.multipliers
            .iter()
            .any(|multiplier| matches!(&multiplier.when, Condition::Speed(speed) if **speed == *word))
    }

    /// The band of a whole request with so many prompt tokens.
    pub(super) fn band(&self, input_total: u64) -> u64 {
        let reached = |above: u64| if self.band_inclusive { input_total >= above } else { input_total > above };
        self.bands.iter().copied().rev().find(|above| reached(*above)).unwrap_or(0)
    }

    /// The product of the operator's own factor and of the multipliers whose condition holds.
    pub(super) fn factor(&self, own: Factor, holds: impl Fn(&Condition) -> bool) -> Result<Factor, PriceError> {
        let applied = self.multipliers.iter().filter(|multiplier| holds(&multiplier.when));
        applied.map(|multiplier| multiplier.factor).try_fold(own, Factor::times).ok_or(PriceError::OutOfRange)
    }

    /// The price of one unit: of the meter on its tier, else on the standard tier, else of the meter that stands in.
    pub(super) fn price(&self, meter: Meter, tier: Tier, band: u64) -> Result<UnitPrice, PriceError> {
        let of_meter = |meter| {
            let rate = self.rates.find(meter, tier, band).or_else(|| self.rates.find(meter, Tier::Standard, band));
            rate.or_else(|| self.fee(meter))
        };
        let mut candidates = std::iter::successors(Some(meter), |meter| fallback(*meter));
        let unpriced = || PriceError::UnpricedMeter { model: self.model.clone(), meter };
        candidates.find_map(of_meter).ok_or_else(unpriced)
    }

    /// The fee of a call. A web search of unknown size costs as much as the dearest size.
    fn fee(&self, meter: Meter) -> Option<UnitPrice> {
        let exact = self.fees.iter().find(|(known, _)| *known == meter).map(|(_, fee)| *fee);
        if meter != Meter::WebSearchCalls {
            return exact;
        }
        exact.or_else(|| self.fees.iter().filter(|(known, _)| is_sized_search(*known)).map(|(_, fee)| *fee).max())
    }

    /// Whether the provider charges a search for each request, by size.
    pub(super) fn searches_always(&self) -> bool {
        self.fees.iter().any(|(meter, _)| is_sized_search(*meter))
    }
}

const fn is_sized_search(meter: Meter) -> bool {
    matches!(meter, Meter::WebSearchCallsLow | Meter::WebSearchCallsMedium | Meter::WebSearchCallsHigh)
}

/// Words of the OpenAI dialect that every server takes for its ordinary service.
fn is_ordinary(word: &str) -> bool {
    matches!(word, "auto" | "default" | "on_demand" | "scale" | "")
}

fn applies(when: &Condition, terms: &PriceTerms<'_>) -> bool {
    match when {
        Condition::Region(place) | Condition::Geo(place) => terms.is_in(place),
        Condition::RegionNot(region) => terms.region.is_some_and(|known| *known != **region),
        Condition::Speed(speed) => terms.tier == Some(speed),
    }
}
