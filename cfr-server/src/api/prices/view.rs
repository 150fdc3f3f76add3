//! Prices and their changes as JSON.

use std::fmt::Display;

use cfr_core::price::{Change, Mode, PriceChange as CoreChange, PriceEntry, Rate as CoreRate};
use cfr_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::schema;

/// What a provider charges for a model, for as long as it does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Price {
    /// The provider's name.
    #[schema(example = "openai")]
    pub(crate) provider: String,
    /// The provider's name of the model.
    #[schema(example = "gpt-4o")]
    pub(crate) model: String,
    /// Other names of the model.
    pub(crate) aliases: Vec<String>,
    /// What the model is for.
    #[schema(value_type = schema::Mode)]
    pub(crate) mode: Mode,
    /// The currency of its prices.
    #[schema(value_type = schema::CurrencyCode, example = "USD")]
    pub(crate) currency: &'static str,
    /// From when the prices hold; null for ever since.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) effective_from: Option<Timestamp>,
    /// Until when they hold; null for no end.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) effective_to: Option<Timestamp>,
    /// The day that the provider ends the model.
    pub(crate) shutdown_date: Option<String>,
    /// Prompt tokens of one request at the most; null when unknown.
    pub(crate) input_tokens_max: Option<u64>,
    /// Answer tokens of one answer at the most; null when unknown.
    pub(crate) output_tokens_max: Option<u64>,
    /// Prices per unit.
    pub(crate) rates: Vec<Rate>,
    /// Prices per call: web searches and their kin.
    pub(crate) fees: Vec<Fee>,
    /// What the model can do, as in `vision`.
    pub(crate) capabilities: Vec<String>,
    /// Remarks of the table.
    pub(crate) flags: Vec<String>,
}

/// The price of one unit of a meter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rate {
    /// What is counted.
    #[schema(example = "input_tokens")]
    pub(crate) meter: &'static str,
    /// The service tier.
    #[schema(example = "standard")]
    pub(crate) tier: &'static str,
    /// Holds above so many prompt tokens.
    pub(crate) above: u64,
    /// Per unit, as a decimal number in text.
    #[schema(example = "0.0000025")]
    pub(crate) price: String,
}

/// The price of one call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Fee {
    /// What is counted.
    #[schema(example = "web_search_calls")]
    pub(crate) meter: &'static str,
    /// Per call, as a decimal number in text.
    #[schema(example = "0.01")]
    pub(crate) price: String,
}

/// Every price of the table is in dollars.
const CURRENCY: &str = "USD";

impl From<&PriceEntry> for Price {
    fn from(entry: &PriceEntry) -> Self {
        let limits = entry.limits();
        Self {
            provider: entry.provider().to_owned(),
            model: entry.model().to_owned(),
            aliases: entry.aliases().map(ToOwned::to_owned).collect(),
            mode: entry.mode(),
            currency: CURRENCY,
            effective_from: entry.effective_from(),
            effective_to: entry.effective_to(),
            shutdown_date: entry.shutdown_date().map(ToOwned::to_owned),
            input_tokens_max: limits.max_input_tokens,
            output_tokens_max: limits.max_output_tokens,
            rates: entry.rates().map(Rate::from).collect(),
            fees: entry.fees().map(|(meter, price)| Fee { meter: meter.name(), price: price.to_string() }).collect(),
            capabilities: entry.capabilities().map(ToOwned::to_owned).collect(),
            flags: entry.flags().map(ToOwned::to_owned).collect(),
        }
    }
}

impl From<&CoreRate> for Rate {
    fn from(rate: &CoreRate) -> Self {
        let price = rate.price.to_string();
        Self { meter: rate.meter.name(), tier: rate.tier.name(), above: rate.above, price }
    }
}

/// One difference between two price tables.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct PriceChange {
    /// The provider.
    pub(crate) provider: String,
    /// The model.
    pub(crate) model: String,
    /// From when the prices hold; null for ever since.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) effective_from: Option<Timestamp>,
    /// What changed. A `removed` model can no longer be called.
    #[schema(value_type = schema::PriceChangeKind)]
    pub(crate) change: &'static str,
    /// What it means for those who pay.
    #[schema(value_type = schema::PriceChangeEffect)]
    pub(crate) effect: &'static str,
    /// The meter of a `rate` or `fee`.
    pub(crate) meter: Option<&'static str>,
    /// The service tier of a `rate`.
    pub(crate) tier: Option<&'static str>,
    /// The prompt length above which a `rate` holds.
    pub(crate) above: Option<u64>,
    /// What was there before; null when nothing.
    pub(crate) before: Option<String>,
    /// What is there now; null when nothing.
    pub(crate) after: Option<String>,
}

impl From<CoreChange> for PriceChange {
    fn from(core: CoreChange) -> Self {
        let named = Self {
            effect: effect(&core.change),
            provider: core.provider.into(),
            model: core.model.into(),
            effective_from: core.effective_from,
            ..Self::default()
        };
        match core.change {
            Change::Added => Self { change: "added", ..named },
            Change::Removed => Self { change: "removed", ..named },
            Change::Rate { meter, tier, above, old, new } => {
                let place =
                    Self { change: "rate", meter: Some(meter), tier: Some(tier.name()), above: Some(above), ..named };
                place.between(old, new)
            }
            Change::Fee { meter, old, new } => Self { change: "fee", meter: Some(meter), ..named }.between(old, new),
            Change::EffectiveTo { old, new } => Self { change: "effective_to", ..named }.between(old, new),
            Change::Limits { old, new } => {
                let words = |limit: Option<u64>| limit.map_or("unknown".to_owned(), |tokens| tokens.to_string());
                let pair = |input, output| format!("{} in, {} out", words(input), words(output));
                let before = pair(old.max_input_tokens, old.max_output_tokens);
                let after = pair(new.max_input_tokens, new.max_output_tokens);
                Self { change: "limits", ..named }.between(Some(before), Some(after))
            }
            _ => Self { change: "terms", ..named },
        }
    }
}

/// A rate that appears or goes may make a call dearer or cheaper: another meter's rate stood in, or stands in now.
fn effect(change: &Change) -> &'static str {
    match change {
        Change::Added => "new",
        Change::Removed => "gone",
        Change::Rate { old: Some(old), new: Some(new), .. } | Change::Fee { old: Some(old), new: Some(new), .. } => {
            if new > old {
                "dearer"
            } else {
                "cheaper"
            }
        }
        _ => "other",
    }
}

/// How many differences there are, by what they mean for those who pay.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct PriceChangeCounts {
    /// Models that have a price now.
    pub(crate) new: usize,
    /// Models that can no longer be called.
    pub(crate) gone: usize,
    /// Rates and fees that are higher.
    pub(crate) dearer: usize,
    /// Rates and fees that are lower.
    pub(crate) cheaper: usize,
    /// Everything else: rates of more or fewer meters, limits, dates, terms.
    pub(crate) other: usize,
}

impl PriceChangeCounts {
    /// Counts them.
    pub(crate) fn of(changes: &[PriceChange]) -> Self {
        let count = |effect| changes.iter().filter(|change| change.effect == effect).count();
        Self {
            new: count("new"),
            gone: count("gone"),
            dearer: count("dearer"),
            cheaper: count("cheaper"),
            other: count("other"),
        }
    }
}

/// What was left out of a file for one reason.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LeftOut {
    /// Why.
    pub(crate) reason: String,
    /// The models by the file's names, `model: field` where it is only a field; of foreign providers, the providers.
    pub(crate) names: Vec<String>,
}

impl From<cfr_core::price::LeftOut> for LeftOut {
    fn from(core: cfr_core::price::LeftOut) -> Self {
        Self { reason: core.reason.into(), names: core.names.into_iter().map(Into::into).collect() }
    }
}

impl PriceChange {
    fn between<T: Display>(self, before: Option<T>, after: Option<T>) -> Self {
        Self { before: before.map(|old| old.to_string()), after: after.map(|new| new.to_string()), ..self }
    }
}
