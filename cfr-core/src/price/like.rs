//! Whose price holds for a model that its provider knows under another name, as deployments are.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Factor, PriceEntry, PriceTable};

/// What an operator says of the price of a model at one upstream. Without a word, the table's price for the model holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedAs {
    /// The model of the same provider whose price holds, whatever model says that it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// Times this, on all token meters.
    #[serde(default)]
    pub factor: Factor,
}

impl PricedAs {
    /// The entry that holds for a provider's model at a moment.
    #[must_use]
    pub fn find<'a>(
        &self,
        prices: &'a PriceTable,
        provider: &str,
        model: &str,
        at: Timestamp,
    ) -> Option<&'a PriceEntry> {
        prices.find(provider, self.model.as_deref().unwrap_or(model), at)
    }
}
