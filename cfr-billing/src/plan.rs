//! Products and their immutable versions.

use std::sync::Arc;

use cfr_core::id::{ProductId, ProductVersionId};
use cfr_core::money::{Currency, Margin};
use cfr_core::time::{Period, Timestamp};
use serde::{Deserialize, Serialize};

/// The terms of a product, frozen. Editing a product publishes the next version; customers keep theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The name on invoices and in the portal.
    pub name: Arc<str>,
    /// For people.
    #[serde(default)]
    pub description: Arc<str>,
    /// The price per interval in the currency's minor unit: 999 is 9.99 EUR.
    pub price_minor: i64,
    /// The currency of price and budget.
    pub currency: Currency,
    /// What each user's budget is granted per period, in nano-units.
    pub budget_included_nanos: i64,
    /// When budgets begin anew.
    pub period: Period,
    /// Public model names that may be used; `*` allows all, `gpt-*` all that begin so.
    pub models: Vec<Arc<str>>,
    /// Flags that the portal and the API know.
    #[serde(default)]
    pub features: Vec<Arc<str>>,
    /// Requests per minute of each key, none for no limit.
    pub requests_per_minute: Option<u32>,
    /// Requests of each key at the same time, none for no limit.
    pub parallel_requests_max: Option<u32>,
    /// Answer tokens per request when the caller names no cap; none for the model's own.
    pub output_tokens_default: Option<u64>,
    /// What is added to the provider's cost.
    pub margin_bps: u32,
    /// Users of a tenant on this product, none for no limit.
    pub seats: Option<u32>,
}

impl Terms {
    /// The margin; the default one when the stored figure is out of range.
    #[must_use]
    pub fn margin(&self) -> Margin {
        Margin::from_bps(self.margin_bps).unwrap_or(Margin::DEFAULT)
    }
}

/// One immutable version of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductVersion {
    /// Its id.
    pub id: ProductVersionId,
    /// The product.
    pub product: ProductId,
    /// The product's code.
    pub code: Arc<str>,
    /// Counts the versions, from 1.
    pub version: i64,
    /// The terms.
    pub terms: Terms,
    /// When it was published.
    pub created_at: Timestamp,
}

/// A product with its newest version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its id.
    pub id: ProductId,
    /// A short unique name.
    pub code: Arc<str>,
    /// Whether new customers can have it.
    pub active: bool,
    /// The newest version.
    pub current: ProductVersion,
}

/// A product to publish, or a new version of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewProduct {
    /// A short unique name: letters, digits, `-`.
    pub code: Arc<str>,
    /// The terms.
    pub terms: Terms,
}
