//! Why a call was not answered. The shell turns these into its dialect's words and status codes.

use crate::chat::EnvelopeError;
use crate::hook::DenyReason;
use crate::ledger::{Attempt, Denial, LedgerError};
use crate::limit::LimitExceeded;
use crate::money::Money;
use crate::price::PriceError;
use crate::upstream::UpstreamError;

/// Why a call was not answered, or not to its end.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The body cannot be read.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// No public model has this name, or none of its upstreams can do what is asked.
    #[error("the model `{model}` does not exist")]
    UnknownModel {
        /// The name.
        model: Box<str>,
    },
    /// The caller may not use this model.
    #[error("the model `{model}` is not part of your plan")]
    ForbiddenModel {
        /// The name.
        model: Box<str>,
    },
    /// Nothing of the caller's is kept under this id. Whether something of another's is, is not told.
    #[error("nothing is kept under the id `{id}`")]
    NotStored {
        /// The field that names it; none where the path does.
        field: Option<&'static str>,
        /// The id as the caller gave it.
        id: Box<str>,
    },
    /// Something that the call can use has no price, and unknown is never free.
    #[error(transparent)]
    NotPriced(#[from] PriceError),
    /// The model has no price at all.
    #[error("the model `{model}` has no price")]
    ModelNotPriced {
        /// The public name.
        model: Box<str>,
    },
    /// There is no exchange rate for the currency of the caller's budgets.
    #[error("no exchange rate for {currency}")]
    NoExchangeRate {
        /// The currency.
        currency: crate::money::Currency,
    },
    /// The worst-case price is beyond what money can be.
    #[error("the call is too large to be priced")]
    TooLarge,
    /// A rate limit.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// A budget does not have the worst-case price.
    #[error(transparent)]
    BudgetExceeded(Box<BudgetExceeded>),
    /// The ledger cannot decide or cannot write.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A hook refused.
    #[error(transparent)]
    DeniedByHook(DenyReason),
    /// No upstream answered, or the answer broke off.
    #[error("{error}")]
    Upstream {
        /// What the last one said.
        error: Box<UpstreamError>,
        /// What was tried.
        attempts: Vec<Attempt>,
    },
}

/// A budget does not have the worst-case price of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "budget of the {} exhausted: this request could cost up to {estimate}, {} available",
    .denial.scope.name(), .denial.available
)]
pub struct BudgetExceeded {
    /// The tightest budget.
    pub denial: Denial,
    /// The worst-case price of the call as it was asked for.
    pub estimate: Money,
    /// The largest cap on answer tokens that the budget affords; zero when not even the input is.
    pub output_tokens_affordable: u64,
}
