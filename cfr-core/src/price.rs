//! What a provider charges: the price table, the exact cost of a usage, and the most that a call can cost.

use jiff::Timestamp;

use crate::chat::envelope::InputBound;
use crate::chat::{Meter, Usage};

pub use crate::money::PicoUsd;

/// Every price that we know, with when it holds. Immutable; a change is another table with another version.
#[derive(Debug)]
pub struct PriceTable {
    version: PriceVersion,
}

/// The SHA-256 of a price table's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PriceVersion(pub [u8; 32]);

impl PriceVersion {
    /// Its first eight bytes, as usage records keep it.
    #[must_use]
    pub fn short(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }
}

/// Why a table cannot be loaded. PLACEHOLDER for the variants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceTableError {
    /// Not the JSON of schema `cfr.prices/1`.
    #[error("not a price table: {reason}")]
    Malformed {
        /// What is wrong, with the entry.
        reason: Box<str>,
    },
}

/// Why something has no price. Unknown is never free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// The meter was used and has no rate.
    #[error("{} of `{}` has no price", .meter.name(), .model)]
    UnpricedMeter {
        /// The model.
        model: Box<str>,
        /// The meter.
        meter: Meter,
    },
    /// The tier is dearer than standard and has no rate.
    #[error("service tier `{tier}` of `{model}` has no price")]
    UnpricedTier {
        /// The model.
        model: Box<str>,
        /// The tier.
        tier: Box<str>,
    },
    /// The model needs a cap on answer tokens: the table has none.
    #[error("`{model}` has no known output limit: send max_tokens")]
    UnboundedOutput {
        /// The model.
        model: Box<str>,
    },
    /// The amount is beyond what money can be.
    #[error("price out of range")]
    OutOfRange,
}

/// One model of one provider with its rates. PLACEHOLDER for the fields.
#[derive(Debug, Clone)]
pub struct PriceEntry {}

/// Under which terms a usage is priced.
#[derive(Debug, Clone, Copy, Default)]
pub struct PriceTerms<'a> {
    /// The service tier, by the provider's word: the one that served, else the one asked for.
    pub tier: Option<&'a str>,
    /// The region or geography of the endpoint, for multipliers.
    pub region: Option<&'a str>,
    /// When the request began: decides off-peak windows.
    pub at: Option<Timestamp>,
}

/// The most that a call can cost: a fixed part and a part per answer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Input and fees.
    pub fixed: PicoUsd,
    /// One answer token, times the number of answers.
    pub per_output_token: PicoUsd,
    /// The model's own limit of answer tokens, when the table knows it.
    pub output_tokens_model_max: Option<u64>,
}

impl Bound {
    /// The most that the call costs with this cap on answer tokens.
    #[must_use]
    pub fn total(&self, output_tokens: u64) -> PicoUsd {
        PicoUsd(self.fixed.0.saturating_add(self.per_output_token.0.saturating_mul(i128::from(output_tokens))))
    }

    /// The largest cap that costs at most `cost`; `None` when even the input costs more. Rounds down.
    #[must_use]
    pub fn output_tokens_within(&self, cost: PicoUsd) -> Option<u64> {
        let rest = cost.0.checked_sub(self.fixed.0).filter(|rest| *rest >= 0)?;
        if self.per_output_token.0 == 0 {
            return Some(u64::MAX);
        }
        Some(u64::try_from(rest / self.per_output_token.0).unwrap_or(u64::MAX)) // down: never above `cost`
    }
}

impl PriceTable {
    /// Loads a table of schema `cfr.prices/1`.
    ///
    /// # Errors
    /// For anything that is not exactly such a table.
    pub fn from_json(_json: &[u8]) -> Result<Self, PriceTableError> {
        Err(PriceTableError::Malformed { reason: "PLACEHOLDER".into() })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> PriceVersion {
        self.version
    }

    /// Every entry, in the table's order.
    #[must_use]
    pub fn entries(&self) -> &[PriceEntry] {
        &[]
    }

    /// The entry of a provider's model, by name or alias, that holds at a moment.
    #[must_use]
    pub fn find(&self, _provider: &str, _model: &str, _at: Timestamp) -> Option<&PriceEntry> {
        None
    }
}

impl PriceEntry {
    /// What a usage costs, exactly.
    ///
    /// # Errors
    /// When a meter or tier that was used has no price.
    pub fn cost(&self, _usage: &Usage, _terms: &PriceTerms<'_>) -> Result<PicoUsd, PriceError> {
        Err(PriceError::OutOfRange)
    }

    /// The most that a call can cost. Never below [`PriceEntry::cost`] of any usage that the call can have.
    ///
    /// # Errors
    /// When a meter or tier that the call can use has no price.
    pub fn upper_bound(&self, _input: &InputBound, _choices: u32, _terms: &PriceTerms<'_>) -> Result<Bound, PriceError> {
        Err(PriceError::OutOfRange)
    }
}
