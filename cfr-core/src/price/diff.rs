//! What differs between two tables, for people who decide whether to take the newer one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Limits, PriceEntry, PriceTable, Tier, UnitPrice};

/// One difference of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PriceChange {
    /// The provider.
    pub provider: Box<str>,
    /// The model.
    pub model: Box<str>,
    /// When the entry begins to hold; none when it always did.
    pub effective_from: Option<jiff::Timestamp>,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
}

/// What changed of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// The model has a price now.
    Added,
    /// The model has no price any more.
    Removed,
    /// A rate is another, new or gone.
    Rate {
        /// The meter's name.
        meter: &'static str,
        /// The service tier.
        tier: Tier,
        /// The band of prompt length.
        above: u64,
        /// The old price, if there was one.
        old: Option<UnitPrice>,
        /// The new price, if there is one.
        new: Option<UnitPrice>,
    },
    /// A fee per call is another, new or gone.
    Fee {
        /// The meter's name.
        meter: &'static str,
        /// The old price, if there was one.
        old: Option<UnitPrice>,
        /// The new price, if there is one.
        new: Option<UnitPrice>,
    },
    /// Limits on tokens are others.
    Limits {
        /// The old ones.
        old: Limits,
        /// The new ones.
        new: Limits,
    },
    /// The prices end at another moment.
    EffectiveTo {
        /// The old end.
        old: Option<jiff::Timestamp>,
        /// The new end.
        new: Option<jiff::Timestamp>,
    },
    /// Multipliers, bands, off-peak hours or reserve rates are others.
    Terms,
}

impl PriceTable {
    /// Every difference from `old` to `new`, by provider, model and time.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Vec<PriceChange> {
        merged(by_key(old), by_key(new)).into_values().flat_map(changes).collect()
    }
}

type Key<'a> = (&'a str, &'a str, Option<jiff::Timestamp>);

fn by_key(table: &PriceTable) -> impl Iterator<Item = (Key<'_>, &PriceEntry)> {
    table.entries.iter().map(|entry| ((entry.provider(), entry.model(), entry.effective_from), entry))
}

/// Old and new by key; at least one of them is there.
fn merged<K: Ord, V>(
    old: impl Iterator<Item = (K, V)>,
    new: impl Iterator<Item = (K, V)>,
) -> BTreeMap<K, (Option<V>, Option<V>)> {
    let mut pairs: BTreeMap<_, _> = old.map(|(key, value)| (key, (Some(value), None))).collect();
    for (key, value) in new {
        pairs.entry(key).or_insert((None, None)).1 = Some(value);
    }
    pairs
}

fn changes(pair: (Option<&PriceEntry>, Option<&PriceEntry>)) -> Vec<PriceChange> {
    match pair {
        (Some(old), Some(new)) => differences(old, new).into_iter().map(|change| new.changed(change)).collect(),
        (Some(old), None) => vec![old.changed(Change::Removed)],
        (None, Some(new)) => vec![new.changed(Change::Added)],
        (None, None) => Vec::new(),
    }
}

fn differences(old: &PriceEntry, new: &PriceEntry) -> Vec<Change> {
    let rates = |entry: &PriceEntry| {
        entry.rates().map(|rate| ((rate.meter, rate.tier, rate.above), rate.price)).collect::<Vec<_>>().into_iter()
    };
    let rates = merged(rates(old), rates(new)).into_iter().filter(|(_, (old, new))| old != new);
    let rates =
        rates.map(|((meter, tier, above), (old, new))| Change::Rate { meter: meter.name(), tier, above, old, new });
    let fees = merged(old.fees(), new.fees()).into_iter().filter(|(_, (old, new))| old != new);
    let fees = fees.map(|(meter, (old, new))| Change::Fee { meter: meter.name(), old, new });
    let limits = (old.limits != new.limits).then_some(Change::Limits { old: old.limits, new: new.limits });
    let (old_end, new_end) = (old.effective_to, new.effective_to);
    let end = (old_end != new_end).then_some(Change::EffectiveTo { old: old_end, new: new_end });
    let terms = (!same_terms(old, new)).then_some(Change::Terms);
    rates.chain(fees).chain(limits).chain(end).chain(terms).collect()
}

fn same_terms(old: &PriceEntry, new: &PriceEntry) -> bool {
    old.multipliers == new.multipliers
        && old.reserve == new.reserve
        && old.bands == new.bands
        && old.band_inclusive == new.band_inclusive
        && old.off_peak == new.off_peak
}

impl PriceEntry {
    /// Every difference to the entry that follows, but for when it holds.
    pub(super) fn changes_to(&self, next: &Self) -> Vec<Change> {
        let changes = differences(self, next).into_iter();
        changes.filter(|change| !matches!(change, Change::EffectiveTo { .. })).collect()
    }

    fn changed(&self, change: Change) -> PriceChange {
        PriceChange {
            provider: self.provider().into(),
            model: self.model().into(),
            effective_from: self.effective_from,
            change,
        }
    }
}
