//! Rates of one model and how one is found: by meter, tier and band of prompt length.

use serde::Serialize;

use super::{Tier, UnitPrice};
use crate::chat::Meter;

/// The price of one unit of a meter on a tier, from a prompt length on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// What is counted.
    #[serde(serialize_with = "meter_name")]
    pub meter: Meter,
    /// The service tier.
    pub tier: Tier,
    /// The band: all prompt tokens of the request lie above this number; 0 is the lowest band.
    pub above: u64,
    /// The price of one unit.
    pub price: UnitPrice,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn meter_name<S: serde::Serializer>(meter: &Meter, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(meter.name())
}

/// Rates in the order of meter, tier and band.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rates(Vec<Rate>);

impl Rates {
    /// Sorts; a rate that is given twice comes back as the error.
    pub(super) fn new(mut rates: Vec<Rate>) -> Result<Self, Rate> {
        rates.sort_by_key(Self::key);
        let twice = rates.windows(2).find(|pair| Self::key(&pair[0]) == Self::key(&pair[1])).map(|pair| pair[0]);
        twice.map_or(Ok(Self(rates)), Err)
    }

    fn key(rate: &Rate) -> (Meter, Tier, u64) {
        (rate.meter, rate.tier, rate.above)
    }

    pub(super) fn as_slice(&self) -> &[Rate] {
        &self.0
    }

    pub(super) fn has_tier(&self, tier: Tier) -> bool {
        self.0.iter().any(|rate| rate.tier == tier)
    }

    pub(super) fn has_meter(&self, meter: Meter) -> bool {
        self.0.iter().any(|rate| rate.meter == meter)
    }

    /// The rate of exactly this meter and tier in this band, else in the next lower one.
    pub(super) fn find(&self, meter: Meter, tier: Tier, band: u64) -> Option<UnitPrice> {
        let after = self.0.partition_point(|rate| Self::key(rate) <= (meter, tier, band));
        let rate = self.0.get(after.checked_sub(1)?)?;
        (rate.meter == meter && rate.tier == tier).then_some(rate.price)
    }
}

/// The meter whose rate counts where this one has none (providers.md §16.1).
pub(super) const fn fallback(meter: Meter) -> Option<Meter> {
    match meter {
        Meter::CacheWrite1hTokens | Meter::CacheWrite12hTokens => Some(Meter::CacheWriteTokens),
        Meter::CacheReadAudioTokens => Some(Meter::InputAudioTokens),
        Meter::CacheReadImageTokens => Some(Meter::InputImageTokens),
        Meter::CacheReadTokens
        | Meter::CacheWriteTokens
        | Meter::InputAudioTokens
        | Meter::InputImageTokens
        | Meter::InputVideoTokens => Some(Meter::InputTokens),
        Meter::ReasoningTokens
        | Meter::OutputAudioTokens
        | Meter::OutputImageTokens
        | Meter::OutputVideoTokens
        | Meter::CitationTokens => Some(Meter::OutputTokens),
        Meter::WebSearchCallsLow | Meter::WebSearchCallsMedium | Meter::WebSearchCallsHigh => {
            Some(Meter::WebSearchCalls)
        }
        Meter::OutputImages => Some(Meter::InputImages), // some tables call the price of an image so, whichever way it goes
        _ => None,
    }
}
