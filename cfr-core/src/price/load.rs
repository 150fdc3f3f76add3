//! The strict loader of schema `cfr.prices/1`: what it does not understand it refuses, naming the entry.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::off_peak::{OffPeak, Window, parse_minutes};
use super::{
    Condition, Factor, Index, Limits, Mode, Multiplier, PriceEntry, PriceTable, PriceTableError, PriceVersion, Rate,
    Rates, Tier, TierWords, UnitPrice,
};
use crate::chat::Meter;

/// The largest file that is read; the bundled table has a fortieth of it.
pub const PRICE_TABLE_BYTES_MAX: usize = 32 * 1024 * 1024;

const SCHEMA: &str = "cfr.prices/1";
const CURRENCY: &str = "USD";
/// A chat token above a dollar per thousand is a typing error.
pub(super) const CHAT_TOKEN_PICO_USD_MAX: i64 = 1_000_000_000;

/// Whether prices that look like typing errors are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sanity {
    /// A chat token costs at most a dollar per thousand.
    Enforced,
    /// Any price is taken as it is.
    Waived,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTable<'a> {
    schema: String,
    as_of: String,
    currency: String,
    #[serde(rename = "price_unit")]
    _price_unit: Option<IgnoredAny>,
    #[serde(default)]
    tier_aliases: HashMap<String, HashMap<String, String>>,
    #[serde(default)]
    provider_fees: Vec<WireProviderFee>,
    #[serde(rename = "sources")]
    _sources: Option<IgnoredAny>,
    #[serde(borrow)]
    entries: Vec<WireEntry<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireProviderFee {
    provider: String,
    meter: String,
    price: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEntry<'a> {
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    provider: String,
    model: String,
    #[serde(default)]
    aliases: Vec<Box<str>>,
    mode: Mode,
    currency: String,
    #[serde(default)]
    effective_from: Option<String>,
    #[serde(default)]
    effective_to: Option<String>,
    #[serde(borrow)]
    rates: Vec<WireRate<'a>>,
    #[serde(default)]
    threshold_rule: Option<WireThreshold>,
    #[serde(default)]
    fees: Vec<WireFee>,
    #[serde(default)]
    multipliers: Vec<WireMultiplier>,
    #[serde(borrow, default)]
    off_peak: Option<WireOffPeak<'a>>,
    #[serde(borrow, default)]
    reserve_rates: Vec<WireRate<'a>>,
    #[serde(default)]
    limits: WireLimits,
    #[serde(default)]
    capabilities: Vec<Box<str>>,
    #[serde(default)]
    flags: Vec<Box<str>>,
    #[serde(default)]
    shutdown_date: Option<Box<str>>,
    #[serde(rename = "bill_by")]
    _bill_by: Option<IgnoredAny>,
    #[serde(rename = "assumed_rates")]
    _assumed_rates: Option<IgnoredAny>,
    #[serde(rename = "web_search_unit")]
    _web_search_unit: Option<IgnoredAny>,
    #[serde(rename = "web_search_free")]
    _web_search_free: Option<IgnoredAny>,
    #[serde(rename = "source")]
    _source: Option<IgnoredAny>,
    #[serde(rename = "cross_check")]
    _cross_check: Option<IgnoredAny>,
    #[serde(rename = "correction")]
    _correction: Option<IgnoredAny>,
}

/// Borrowed: a table has thousands of them, and nearly all other text is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireRate<'a> {
    #[serde(borrow)]
    meter: Cow<'a, str>,
    #[serde(borrow)]
    tier: Cow<'a, str>,
    above: u64,
    #[serde(borrow)]
    price: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFee {
    meter: String,
    price: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireThreshold {
    basis: String,
    compare: String,
    scope: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMultiplier {
    when: HashMap<String, Box<str>>,
    factor: String,
    applies_to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireOffPeak<'a> {
    windows: Vec<WireWindow>,
    #[serde(borrow)]
    rates: Vec<WireRate<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireWindow {
    utc_hours: Vec<String>,
    weekdays: Vec<i8>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WireLimits {
    max_input_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    #[serde(rename = "cache_min_tokens")]
    _cache_min_tokens: Option<u64>,
    #[serde(rename = "vector_size")]
    _vector_size: Option<u64>,
}

pub(super) fn load(json: &[u8], sanity: Sanity) -> Result<PriceTable, PriceTableError> {
    if json.len() > PRICE_TABLE_BYTES_MAX {
        return Err(PriceTableError::TooLarge);
    }
    let text = std::str::from_utf8(json).map_err(|error| malformed(error.to_string()))?;
    let wire = serde_json::from_str::<WireTable<'_>>(text).map_err(|error| malformed(error.to_string()))?;
    if wire.schema != SCHEMA || wire.currency != CURRENCY {
        return Err(malformed(format!("expected schema {SCHEMA} in {CURRENCY}")));
    }
    let context = Context::new(&wire, sanity)?;
    let entries = wire.entries.into_iter().map(|entry| context.entry(entry)).collect::<Result<Vec<_>, _>>()?;
    PriceTable::assemble(entries, wire.as_of.into(), PriceVersion(Sha256::digest(json).into()))
}

fn malformed(reason: impl Into<Box<str>>) -> PriceTableError {
    PriceTableError::Malformed { reason: reason.into() }
}

type Refused = Box<str>;

/// What holds for all entries of a provider.
struct Context {
    sanity: Sanity,
    tier_words: HashMap<String, TierWords>,
    provider_fees: HashMap<String, Vec<(Meter, UnitPrice)>>,
}

impl Context {
    fn new(wire: &WireTable<'_>, sanity: Sanity) -> Result<Self, PriceTableError> {
        let mut tier_words = HashMap::new();
        for (provider, words) in &wire.tier_aliases {
            let words = words.iter().map(|(word, ours)| Ok((Box::from(word.as_str()), tier(ours)?)));
            let words = words.collect::<Result<Vec<_>, Refused>>().map_err(malformed)?;
            tier_words.insert(provider.clone(), words.into());
        }
        let mut provider_fees = HashMap::<String, Vec<_>>::new();
        for WireProviderFee { provider, meter: name, price: text } in &wire.provider_fees {
            let fee = meter(name).and_then(|meter| Ok((meter, price(text)?))).map_err(malformed)?;
            provider_fees.entry(provider.clone()).or_default().push(fee);
        }
        Ok(Self { sanity, tier_words, provider_fees })
    }

    fn entry(&self, wire: WireEntry<'_>) -> Result<PriceEntry, PriceTableError> {
        let name = format!("{}/{}", wire.provider, wire.model);
        self.checked(wire).map_err(|reason| PriceTableError::Entry { entry: name.into(), reason })
    }

    fn checked(&self, wire: WireEntry<'_>) -> Result<PriceEntry, Refused> {
        if wire.provider.is_empty() || wire.model.is_empty() || wire.currency != CURRENCY {
            return Err("needs a provider, a model and prices in USD".into());
        }
        let rates = unique(wire.rates)?;
        let reserve = wire.reserve_rates.into_iter().map(rate).collect::<Result<Box<[_]>, _>>()?;
        if self.sanity == Sanity::Enforced && wire.mode == Mode::Chat {
            sane(rates.as_slice().iter().chain(&reserve))?;
        }
        let bands = bands(&rates);
        if !bands.is_empty() && wire.threshold_rule.is_none() {
            return Err("has bands of prompt length without a threshold_rule".into());
        }
        Ok(PriceEntry {
            tier_words: self.tier_words.get(&wire.provider).cloned().unwrap_or_default(),
            fees: self.fees(&wire.provider, wire.fees)?,
            band_inclusive: wire.threshold_rule.map_or(Ok(false), inclusive)?,
            multipliers: wire.multipliers.into_iter().map(multiplier).collect::<Result<_, _>>()?,
            off_peak: wire.off_peak.map(off_peak).transpose()?,
            effective_from: wire.effective_from.map(moment).transpose()?,
            effective_to: wire.effective_to.map(moment).transpose()?,
            provider: wire.provider.into(),
            model: wire.model.into(),
            aliases: wire.aliases.into(),
            mode: wire.mode,
            limits: Limits {
                max_input_tokens: wire.limits.max_input_tokens,
                max_output_tokens: wire.limits.max_output_tokens,
            },
            shutdown_date: wire.shutdown_date,
            flags: wire.flags.into(),
            capabilities: wire.capabilities.into(),
            rates,
            reserve,
            bands,
            tiers_alike: false,
            successor: None,
        })
    }

    /// The entry's own fees, and those of its provider that it has not.
    fn fees(&self, provider: &str, wire: Vec<WireFee>) -> Result<Box<[(Meter, UnitPrice)]>, Refused> {
        let mut fees = Vec::with_capacity(wire.len());
        for WireFee { meter: name, price: text } in wire {
            let (meter, price) = (meter(&name)?, price(&text)?);
            if fees.iter().any(|(known, _)| *known == meter) {
                return Err(format!("fee `{name}` is given twice").into());
            }
            fees.push((meter, price));
        }
        let of_provider = self.provider_fees.get(provider).into_iter().flatten();
        let missing: Vec<_> = of_provider.filter(|(meter, _)| !fees.iter().any(|(known, _)| known == meter)).collect();
        fees.extend(missing);
        Ok(fees.into())
    }
}

fn unique(wire: Vec<WireRate<'_>>) -> Result<Rates, Refused> {
    let rates = wire.into_iter().map(rate).collect::<Result<Vec<_>, _>>()?;
    Rates::new(rates).map_err(|Rate { meter, tier, above, .. }| {
        format!("rate {}/{}/{above} is given twice", meter.name(), tier.name()).into()
    })
}

pub(super) fn rate(wire: WireRate<'_>) -> Result<Rate, Refused> {
    Ok(Rate { meter: meter(&wire.meter)?, tier: tier(&wire.tier)?, above: wire.above, price: price(&wire.price)? })
}

fn meter(name: &str) -> Result<Meter, Refused> {
    Meter::from_name(name).ok_or_else(|| format!("unknown meter `{name}`").into())
}

fn tier(name: &str) -> Result<Tier, Refused> {
    Tier::from_name(name).ok_or_else(|| format!("unknown tier `{name}`").into())
}

fn price(text: &str) -> Result<UnitPrice, Refused> {
    text.parse().map_err(|error| format!("`{text}`: {error}").into())
}

fn sane<'a>(mut rates: impl Iterator<Item = &'a Rate>) -> Result<(), Refused> {
    let absurd = rates.find(|rate| rate.meter.is_token() && rate.price.pico_usd() > CHAT_TOKEN_PICO_USD_MAX);
    let Some(rate) = absurd else { return Ok(()) };
    Err(format!("{} at {} USD is above a dollar per thousand tokens", rate.meter.name(), rate.price).into())
}

fn bands(rates: &Rates) -> Box<[u64]> {
    let mut bands: Vec<_> = rates.as_slice().iter().map(|rate| rate.above).filter(|above| *above > 0).collect();
    bands.sort_unstable();
    bands.dedup();
    bands.into()
}

fn inclusive(rule: WireThreshold) -> Result<bool, Refused> {
    match (&*rule.basis, &*rule.compare, &*rule.scope) {
        ("total_prompt_tokens", "gt", "whole_request") => Ok(false),
        ("total_prompt_tokens", "gte", "whole_request") => Ok(true),
        _ => Err("unknown threshold_rule".into()),
    }
}

fn multiplier(wire: WireMultiplier) -> Result<Multiplier, Refused> {
    let mut conditions = wire.when.into_iter();
    let (Some((kind, value)), None) = (conditions.next(), conditions.next()) else {
        return Err("a multiplier needs exactly one condition".into());
    };
    let when = match &*kind {
        "region" => Condition::Region(value),
        "inference_geo" => Condition::Geo(value),
        "location_not" => Condition::RegionNot(value),
        "speed" => Condition::Speed(value),
        _ => return Err(format!("unknown condition `{kind}`").into()),
    };
    if wire.applies_to != "all_token_meters" {
        return Err("a multiplier must apply to all_token_meters".into());
    }
    let factor = Factor::parse(&wire.factor).ok_or_else(|| format!("`{}` is not a factor", wire.factor))?;
    Ok(Multiplier { when, factor })
}

fn off_peak(wire: WireOffPeak<'_>) -> Result<OffPeak, Refused> {
    let windows = wire.windows.into_iter().map(window).collect::<Result<_, _>>()?;
    Ok(OffPeak { windows, rates: unique(wire.rates)? })
}

fn window(wire: WireWindow) -> Result<Window, Refused> {
    if !wire.weekdays.iter().all(|day| (1..=7).contains(day)) {
        return Err("a weekday is 1 (Monday) to 7".into());
    }
    let range = |text: &String| parse_minutes(text).ok_or_else(|| format!("`{text}` is not a range of hours").into());
    let minutes = wire.utc_hours.iter().map(range).collect::<Result<_, Refused>>()?;
    Ok(Window { weekdays: wire.weekdays, minutes })
}

/// The first moment of a day in UTC.
fn moment(day: String) -> Result<Timestamp, Refused> {
    let moment = day.parse::<Date>().and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC));
    moment.map(|zoned| zoned.timestamp()).map_err(|_| format!("`{day}` is not a day").into())
}

impl PriceTable {
    /// Builds the index and checks what no entry can check alone.
    pub(super) fn assemble(
        mut entries: Vec<PriceEntry>,
        as_of: Box<str>,
        version: PriceVersion,
    ) -> Result<Self, PriceTableError> {
        link_successors(&mut entries)?;
        let models: HashSet<(&str, &str)> = entries.iter().map(|entry| (entry.provider(), entry.model())).collect();
        let mut index = Index::new();
        let mut owners = HashMap::<(&str, &str), &str>::new();
        for (position, entry) in entries.iter().enumerate() {
            for alias in entry.aliases() {
                let owner = *owners.entry((entry.provider(), alias)).or_insert(entry.model());
                if models.contains(&(entry.provider(), alias)) || owner != entry.model() {
                    return Err(entry.refused(format!("alias `{alias}` is the name of another model")));
                }
            }
            let position = u32::try_from(position).map_err(|_| malformed("too many entries"))?;
            let names = index.entry(entry.provider().into()).or_default();
            for name in std::iter::once(entry.model()).chain(entry.aliases()) {
                names.entry(name.into()).or_default().push(position);
            }
        }
        Ok(Self { version, as_of, entries, index })
    }
}

/// Entries of the same model must not overlap in time; each learns which one follows it.
fn link_successors(entries: &mut [PriceEntry]) -> Result<(), PriceTableError> {
    let mut groups = HashMap::<(Arc<str>, Box<str>), Vec<usize>>::new();
    for (position, entry) in entries.iter().enumerate() {
        groups.entry((entry.provider.clone(), entry.model.clone())).or_default().push(position);
    }
    for positions in groups.values_mut().filter(|positions| positions.len() > 1) {
        positions.sort_by_key(|position| entries[*position].effective_from);
        for pair in positions.windows(2) {
            let later = entries[pair[1]].clone();
            let earlier = &mut entries[pair[0]];
            let disjoint = earlier.effective_to.zip(later.effective_from).is_some_and(|(to, from)| to <= from);
            if !disjoint {
                return Err(earlier.refused("holds at the same time as another entry of the model"));
            }
            earlier.successor = Some(Arc::new(later));
        }
    }
    let empty = entries.iter().find(|entry| entry.effective_from.zip(entry.effective_to).is_some_and(|(a, b)| a >= b));
    empty.map_or(Ok(()), |entry| Err(entry.refused("ends before it begins")))
}

impl PriceEntry {
    fn refused(&self, reason: impl Into<Box<str>>) -> PriceTableError {
        PriceTableError::Entry { entry: format!("{}/{}", self.provider, self.model).into(), reason: reason.into() }
    }
}
