//! The plain reference implementation of [`BudgetLedger`]: one lock over maps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use self::books::Books;
use super::{
    AuthorizeError, Balance, BudgetLedger, BudgetSpec, Commit, Hold, HoldRequest, LedgerError, ReleaseReason, Settled,
    Settlement, UsageRecord,
};
use crate::id::{BudgetId, HoldId};
use crate::money::Money;
use crate::time::Clock;

mod account;
mod books;

/// A ledger without a store: for tests, examples and embedders to whom a restart may forgive every debt.
///
/// Budgets are added by hand; their periods open when they are first used. It is exact and safe under any number of
/// tasks, but knows no durability, so every [`Commit`] is already done.
///
/// Memory is bounded by the number of budgets, of grants ever made and of open holds,
/// [`MemoryLedger::ENDED_HOLDS_REMEMBERED`] and [`MemoryLedger::RECORDS_KEPT`].
///
/// # Example
/// ```
/// # use std::sync::Arc;
/// # use cfr_core::id::{BudgetId, HoldId, TenantId};
/// # use cfr_core::ledger::{BudgetLedger, BudgetSpec, CallerIds, HoldRequest, LimitPolicy, MemoryLedger, Scope};
/// # use cfr_core::money::{Currency, Money};
/// # use cfr_core::time::{Clock, Period, SystemClock, TimeZone};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Arc::new(SystemClock::new());
/// let budget = BudgetId::generate(clock.now());
/// let ledger = MemoryLedger::new(clock.clone()).with_budget(BudgetSpec {
///     id: budget,
///     scope: Scope::Tenant,
///     currency: Currency::EUR,
///     included_nanos: 5_000_000_000,
///     policy: LimitPolicy::Hard,
///     period: Period::Never,
///     zone: TimeZone::UTC,
/// });
/// let euro = Money::from_nanos(1_000_000_000, Currency::EUR);
/// let hold = ledger
///     .authorize(HoldRequest {
///         id: HoldId::generate(clock.now()),
///         path: Arc::from([budget]),
///         amount: euro,
///         amount_min: euro,
///         caller: CallerIds { tenant: TenantId::generate(clock.now()), user: None, key: None, product_version: None },
///         model: "gpt-4o".into(),
///         at: clock.now(),
///     })
///     .await?;
/// assert_eq!(hold.available_after.to_string(), "4 EUR");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryLedger {
    clock: Arc<dyn Clock>,
    books: Mutex<Books>,
}

impl MemoryLedger {
    /// Ended holds and denials that are remembered, the latest ones. An older id is like one that was never used: it can
    /// be held again, and ending it is [`LedgerError::UnknownHold`].
    pub const ENDED_HOLDS_REMEMBERED: usize = 16_384;
    /// Usage records that are kept, the latest ones.
    pub const RECORDS_KEPT: usize = 4_096;

    /// A ledger without budgets.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, books: Mutex::default() }
    }

    /// The same ledger with one more budget.
    #[must_use]
    pub fn with_budget(self, spec: BudgetSpec) -> Self {
        self.add_budget(spec);
        self
    }

    /// Adds a budget. When there is one with this id, it stays as it is.
    pub fn add_budget(&self, spec: BudgetSpec) {
        self.books().add_budget(spec);
    }

    /// Adds `amount` to the budget's current period. The same key changes nothing a second time. Granted money is spent
    /// after the period's own, and what is free of it when the next period opens rolls over.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] for an amount that is not positive or in another currency, and for a key that was used
    /// for another grant; [`LedgerError::UnknownBudget`].
    pub fn grant(&self, budget: BudgetId, amount: Money, idempotency_key: &str) -> Result<(), LedgerError> {
        self.books().grant(budget, amount, idempotency_key, self.clock.now())
    }

    /// Changes what each period is granted, and the current period by the difference. When that is less than what is
    /// used already, nothing more is held until the period has drained or ended.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] for a negative limit or another currency; [`LedgerError::UnknownBudget`].
    pub fn set_limit(&self, budget: BudgetId, included: Money) -> Result<(), LedgerError> {
        self.books().set_limit(budget, included, self.clock.now())
    }

    /// The latest usage records, the oldest first, at most `RECORDS_KEPT`.
    #[must_use]
    pub fn records(&self) -> Vec<UsageRecord> {
        self.books().records()
    }

    /// What was last noted about an open hold by [`BudgetLedger::checkpoint`].
    #[must_use]
    pub fn evidence(&self, hold: HoldId) -> Option<Settlement> {
        self.books().evidence(hold)
    }

    /// A panic under the lock can only come from a broken invariant in a debug build; the books are whole then, too.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BudgetLedger for MemoryLedger {
    async fn authorize(&self, ask: HoldRequest) -> Result<Hold, AuthorizeError> {
        self.books().authorize(ask, self.clock.now())
    }

    async fn extend(&self, hold: HoldId, step: u32, amount: Money) -> Result<Commit, AuthorizeError> {
        self.books().extend(hold, step, amount).map(|()| Commit::done())
    }

    fn checkpoint(&self, hold: HoldId, so_far: Settlement) -> Result<(), LedgerError> {
        self.books().checkpoint(hold, so_far)
    }

    fn settle(&self, hold: HoldId, settlement: Settlement) -> Result<Settled, LedgerError> {
        self.books().settle(hold, settlement)
    }

    fn release(&self, hold: HoldId, _reason: ReleaseReason) -> Result<Commit, LedgerError> {
        self.books().release(hold).map(|()| Commit::done())
    }

    async fn balance(&self, budget: BudgetId) -> Result<Balance, LedgerError> {
        self.books().balance(budget, self.clock.now())
    }
}
