//! The promise of this project as a trait: hold the worst case, then settle the true price, once.
//!
//! [`BudgetLedger`] is the contract; [`MemoryLedger`] is its plain reference implementation, for tests, examples and
//! embedders without a store. The production engine is `cfr_billing::Escrow`, which runs the same protocol over a durable
//! store. [`invariants`] says in code what must always hold.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::id::{AccountId, BudgetId, HoldId, KeyId, ProductVersionId, TenantId, UserId};
use crate::money::{Charge, Currency, Money};
use crate::time::{Period, PeriodWindow, TimeZone};

pub mod invariants;
mod memory;
mod record;

pub use memory::MemoryLedger;
pub use record::{Attempt, UsageRecord};

/// Budgets on one path: bounded work per decision.
pub const PATH_BUDGETS_MAX: usize = 12;

/// Whom a budget limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// One API key.
    Key,
    /// One user.
    User,
    /// A team inside a tenant.
    Team,
    /// A whole tenant.
    Tenant,
    /// Everybody on a product.
    Product,
    /// Everybody.
    Platform,
}

impl Scope {
    /// The name in records, errors and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Team => "team",
            Self::Tenant => "tenant",
            Self::Product => "product",
            Self::Platform => "platform",
        }
    }
}

/// What happens at the limit of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitPolicy {
    /// Nothing is held beyond it.
    Hard,
    /// It is counted and alarmed, not enforced.
    Soft,
    /// There is no limit; what is spent is counted.
    Unlimited,
}

/// The terms of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetSpec {
    /// Its id.
    pub id: BudgetId,
    /// Whom it limits.
    pub scope: Scope,
    /// Its currency; every budget of a path has the same.
    pub currency: Currency,
    /// What each new period is granted, in nano-units of the currency.
    pub included_nanos: i64,
    /// What happens at the limit.
    pub policy: LimitPolicy,
    /// When a new period begins.
    pub period: Period,
    /// The zone in which the period's edges lie.
    pub zone: TimeZone,
}

/// The budgets that a request is charged to, all or nothing: key, user, tenant, product, platform.
pub type Path = Arc<[BudgetId]>;

/// Who asks, as every hold and usage record names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerIds {
    /// The tenant.
    pub tenant: TenantId,
    /// The user; none for a service key.
    pub user: Option<UserId>,
    /// The key that was presented.
    pub key: Option<KeyId>,
    /// The terms under which the request runs.
    pub product_version: Option<ProductVersionId>,
}

/// A request to hold money on every budget of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    /// The hold's id and idempotency key.
    pub id: HoldId,
    /// The budgets to hold on: 1 to [`PATH_BUDGETS_MAX`], each once.
    pub path: Path,
    /// The worst-case price.
    pub amount: Money,
    /// The least that is worth holding. Below `amount` when the caller can shrink the call to what is affordable;
    /// then the hold gets as much of `amount` as every budget has.
    pub amount_min: Money,
    /// Who asks.
    pub caller: CallerIds,
    /// The model asked for, for whoever has to resolve the hold after a crash.
    pub model: Arc<str>,
    /// When the request began.
    pub at: Timestamp,
}

/// An open hold.
#[derive(Debug)]
#[must_use = "an open hold keeps budget reserved until it is settled or released"]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// What is held on each budget of the path: between `amount_min` and `amount`.
    pub amount: Money,
    /// What the tightest budget has left beside this hold.
    pub available_after: Money,
    /// Resolves when the hold is durable.
    pub committed: Commit,
}

/// Why no hold was made: the tightest budget of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The budget with the least room.
    pub budget: BudgetId,
    /// Whom it limits.
    pub scope: Scope,
    /// What it has left; zero when over-committed.
    pub available: Money,
    /// What was asked for at the least.
    pub asked: Money,
    /// When its next period begins; never for budgets without periods.
    pub period_end: Option<Timestamp>,
}

/// Why a hold was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// A budget does not have the money. Final for this id.
    #[error("budget of the {} exhausted: {} available, {} needed", .0.scope.name(), .0.available, .0.asked)]
    Denied(Denial),
    /// The ledger cannot decide.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What went wrong in the ledger itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The books cannot be reached or written. Requests are refused until they can.
    #[error("the ledger is unavailable: {reason}")]
    Unavailable {
        /// For the log, not for the caller.
        reason: Arc<str>,
    },
    /// A budget of the path does not exist or is closed.
    #[error("{budget} does not exist or is closed")]
    UnknownBudget {
        /// The budget.
        budget: BudgetId,
    },
    /// No hold with this id is open, and none was closed that the ledger remembers.
    #[error("no hold {hold}")]
    UnknownHold {
        /// The hold.
        hold: HoldId,
    },
    /// The hold was settled or released before.
    #[error("hold {hold} is already closed")]
    AlreadyClosed {
        /// The hold.
        hold: HoldId,
    },
    /// The id was used before with other arguments.
    #[error("hold {hold} was asked for before with other arguments")]
    IdReused {
        /// The hold.
        hold: HoldId,
    },
    /// The request is malformed: an empty, repeated or too long path, mixed currencies, a negative amount.
    #[error("malformed ledger request: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
}

impl LedgerError {
    /// The books are out of reach, with the reason for the log.
    #[must_use]
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable { reason: reason.to_string().into() }
    }
}

/// Resolves when a decision is durable. Dropping it loses nothing: the commit happens anyway.
#[derive(Debug)]
pub struct Commit(CommitState);

#[derive(Debug)]
enum CommitState {
    Done,
    Pending(oneshot::Receiver<Result<(), LedgerError>>),
}

impl Commit {
    /// Already durable, or the ledger has nothing to make durable.
    #[must_use]
    pub const fn done() -> Self {
        Self(CommitState::Done)
    }

    /// A commit that whoever holds the sender will report.
    #[must_use]
    pub fn pending() -> (oneshot::Sender<Result<(), LedgerError>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(CommitState::Pending(receiver)))
    }
}

/// Waits until the decision is durable; [`LedgerError::Unavailable`] when it could not be written.
impl Future for Commit {
    type Output = Result<(), LedgerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            CommitState::Done => Poll::Ready(Ok(())),
            CommitState::Pending(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|sent| sent.unwrap_or_else(|_| Err(LedgerError::unavailable("the committer is gone")))),
        }
    }
}

/// How a hold ends with a charge, which may be zero.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The true price. The ledger charges at most what the budgets have.
    pub charge: Charge,
    /// The record of the request. The ledger fills in `charged` and `overrun`.
    pub record: Box<UsageRecord>,
}

/// What a settlement did.
#[derive(Debug)]
pub struct Settled {
    /// What the customer was charged, equal on every budget of the path.
    pub charged: Money,
    /// What the price exceeded the hold and the free budget by: the operator's loss.
    pub overrun: Money,
    /// What the tightest budget of the path has left now.
    pub available: Money,
    /// Resolves when the charge is durable.
    pub committed: Commit,
}

/// Why a hold ends without a charge and without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReleaseReason {
    /// The caller went away before anything was sent upstream.
    Abandoned,
    /// A hook or a limit refused the call after the hold.
    Refused,
    /// The upstream was not reached.
    NotSent,
}

/// The state of a budget's current period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// The budget.
    pub budget: BudgetId,
    /// Its current account.
    pub account: AccountId,
    /// Whom it limits.
    pub scope: Scope,
    /// What happens at the limit.
    pub policy: LimitPolicy,
    /// The period.
    pub period: PeriodWindow,
    /// Everything granted to the period.
    pub granted: Money,
    /// Everything charged in it.
    pub settled: Money,
    /// Everything held by open requests.
    pub held: Money,
    /// What a new request could hold: `granted - settled - held`, zero when over-committed.
    pub available: Money,
}

/// Holds worst-case prices against budgets and settles true ones.
///
/// Decisions are made in memory and become durable behind a [`Commit`], so that a caller chooses what waits for what.
/// `settle` and `release` decide at once and never fail for lack of money: a stream can settle from a destructor.
///
/// # Contract
/// - A hold is made on every budget of its path or on none. `settled + held` never exceeds what was granted.
/// - The same id with the same arguments gives the same answer, a denial included; with other arguments it is
///   [`LedgerError::IdReused`], and after the hold ended [`LedgerError::AlreadyClosed`].
/// - A hold ends once. A second end is [`LedgerError::AlreadyClosed`] and changes nothing.
/// - A charge above the hold takes more only where every budget has it; the rest is reported as overrun.
///
/// `cfr_core::conformance` tests all of it.
#[async_trait]
pub trait BudgetLedger: Debug + Send + Sync + 'static {
    /// Holds `ask.amount`, or as much of it as there is down to `ask.amount_min`, on every budget of the path.
    ///
    /// # Errors
    /// [`AuthorizeError::Denied`] names the tightest budget.
    ///
    /// # Cancel safety
    /// A dropped future may leave the hold open; settle or release it by its id, or let it be resolved as an orphan.
    async fn authorize(&self, ask: HoldRequest) -> Result<Hold, AuthorizeError>;

    /// Raises a hold by `amount`, for a dearer failover target or a longer stream. `step` numbers the raises of a hold
    /// from 1: a repeated step changes nothing.
    ///
    /// # Errors
    /// As [`BudgetLedger::authorize`]; the hold stays as it was.
    async fn extend(&self, hold: HoldId, step: u32, amount: Money) -> Result<Commit, AuthorizeError>;

    /// Notes what was delivered so far, to charge it after a crash. Moves no money; the last note counts.
    ///
    /// # Errors
    /// When the hold is not open, or the price is below zero or in another currency.
    fn checkpoint(&self, hold: HoldId, so_far: Settlement) -> Result<(), LedgerError>;

    /// Ends a hold with a charge and its usage record.
    ///
    /// # Errors
    /// When the hold is not open, or the price is below zero or in another currency. Never for lack of money.
    fn settle(&self, hold: HoldId, settlement: Settlement) -> Result<Settled, LedgerError>;

    /// Ends a hold without a trace.
    ///
    /// # Errors
    /// When the hold is not open.
    fn release(&self, hold: HoldId, reason: ReleaseReason) -> Result<Commit, LedgerError>;

    /// The state of a budget's current period, opened if it was not.
    ///
    /// # Errors
    /// When the budget does not exist or the books are out of reach.
    async fn balance(&self, budget: BudgetId) -> Result<Balance, LedgerError>;
}

const _: fn(&dyn BudgetLedger) = |_| {};

/// Checks what every ledger must check of a request before it looks at any budget.
///
/// # Errors
/// [`LedgerError::Malformed`].
pub fn check_request(ask: &HoldRequest) -> Result<(), LedgerError> {
    let reason = if ask.path.is_empty() {
        "a path needs at least one budget"
    } else if ask.path.len() > PATH_BUDGETS_MAX {
        "a path has at most 12 budgets"
    } else if ask.amount.currency() != ask.amount_min.currency() {
        "amount and minimum differ in currency"
    } else if ask.amount_min.nanos() < 0 || ask.amount.nanos() < ask.amount_min.nanos() {
        "amounts must satisfy 0 <= minimum <= amount"
    } else if repeats(&ask.path) {
        "a path names each budget once"
    } else {
        return Ok(());
    };
    Err(LedgerError::Malformed { reason })
}

fn repeats(path: &[BudgetId]) -> bool {
    let mut seen = SmallVec::<[BudgetId; PATH_BUDGETS_MAX]>::new();
    path.iter().any(|budget| {
        let known = seen.contains(budget);
        seen.push(*budget);
        known
    })
}
