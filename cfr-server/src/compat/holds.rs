//! Amounts that are held for calls which another program makes: asked for before, told of afterwards, and ended by themselves
//! when nobody tells.
//!
//! ```text
//! reserve   written down ── rights set aside ── answered
//! settle    charged against the rights, once per id ── the rest goes back ── forgotten
//! end       the time is over: the rights go back ── forgotten
//! ```
//! Every step may be taken again, by any process. What is told of without a hold, or after its end, is charged as it is: what
//! the budgets do not have is the operator's loss, and stands in the record.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::escrow::{AsideAsk, Escrow};
use cfr_billing::outside::{OutsideHold, life};
use cfr_billing::store::PageRequest;
use cfr_billing::store::{SettledHold, Store, StoreError};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::{BudgetId, HoldId};
use cfr_core::ledger::{AuthorizeError, BudgetLedger, Denial, HoldRequest, LedgerError, Settlement, UsageRecord};
use cfr_core::money::{Charge, Money};
use cfr_core::time::{Clock, Timestamp};

/// How often holds are looked for whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Longer than any hold lasts, with the time until somebody looks: then a store that many share may take its rights back.
const RIGHTS_KEPT: Duration = Duration::from_secs(2 * 24 * 3_600);
/// Holds that are looked for at once.
const AT_ONCE: u32 = 100;

/// Where such amounts are held and charged.
#[derive(Debug, Clone)]
pub(crate) struct OutsideDesk {
    store: Arc<dyn Store>,
    escrow: Arc<Escrow>,
    clock: Arc<dyn Clock>,
}

/// Why nothing is held.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReserveError {
    /// A budget does not have it.
    #[error("over the budget")]
    Denied(Denial),
    /// The id stands for another hold, or one that is over.
    #[error("the request id was used before, for another amount or another caller")]
    IdReused,
    /// The books cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot decide.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl OutsideDesk {
    pub(crate) fn new(store: Arc<dyn Store>, escrow: Arc<Escrow>, clock: Arc<dyn Clock>) -> Self {
        Self { store, escrow, clock }
    }

    /// Holds the amount on every budget of the path, or on none. The same hold may be asked for again.
    ///
    /// # Errors
    /// [`ReserveError::Denied`] names the tightest budget.
    ///
    /// # Cancel safety
    /// A dropped future may leave the hold: it ends by itself.
    pub(crate) async fn reserve(&self, hold: OutsideHold) -> Result<OutsideHold, ReserveError> {
        if let Some(known) = self.store.outside_hold(hold.id).await? {
            return same(known, &hold);
        }
        if self.record(hold.id).await?.is_some() {
            return Err(ReserveError::IdReused);
        }
        match self.store.add_outside_hold(&hold).await {
            Err(StoreError::Conflict { .. }) => return Err(ReserveError::IdReused), // another one asks at this moment
            added => added?,
        }
        let (life, amount) = (hold.life(), Money::from_nanos(hold.amount_nanos, hold.currency));
        let ask = AsideAsk { life: &life, path: &hold.path, amount, keep: RIGHTS_KEPT };
        match self.escrow.set_aside(ask).await {
            Ok(_) => Ok(hold),
            Err(error) => {
                self.store.forget_outside_hold(hold.id).await?;
                Err(match error {
                    AuthorizeError::Denied(denial) => ReserveError::Denied(denial),
                    AuthorizeError::Ledger(error) => error.into(),
                })
            }
        }
    }

    /// A hold whose time is not over, or that nobody has looked for since.
    pub(crate) async fn hold(&self, id: HoldId) -> Result<Option<OutsideHold>, StoreError> {
        self.store.outside_hold(id).await
    }

    /// What was booked under an id.
    pub(crate) async fn record(&self, id: HoldId) -> Result<Option<UsageRecord>, StoreError> {
        let filter = UsageFilter { id: Some(id), ..UsageFilter::default() };
        let page = self.store.usage(&filter, PageRequest { after: None, limit: 1 }).await?;
        Ok(page.items.into_iter().next())
    }

    /// Charges a hold, once however often it is told, and gives the rest back. False when its rights are gone: then it is
    /// charged like a call without a hold.
    ///
    /// # Errors
    /// When the books cannot be written. The same may be told again.
    pub(crate) async fn settle(&self, hold: &OutsideHold, record: UsageRecord) -> Result<bool, StoreError> {
        let life = hold.life();
        let accounts = match self.store.renew(&life, RIGHTS_KEPT, self.clock.now()).await {
            Err(StoreError::Fenced) => return Ok(false),
            renewal => renewal?.accounts,
        };
        if accounts.is_empty() {
            return Ok(false);
        }
        let (epoch, charged) = (life.epoch, record.charged_nanos);
        let settled = SettledHold { id: hold.id, epoch, accounts: accounts.into(), charged, record: Box::new(record) };
        self.escrow.settle_aside(&life, vec![settled]).await?;
        self.end(hold).await?;
        Ok(true)
    }

    /// Gives the rights of a hold back and forgets it. One that is over is no error.
    ///
    /// # Errors
    /// When the books cannot be written.
    pub(crate) async fn end(&self, hold: &OutsideHold) -> Result<(), StoreError> {
        self.escrow.end_aside(&hold.life(), &hold.path).await?;
        self.store.forget_outside_hold(hold.id).await
    }

    /// Charges a call that nothing was held for.
    ///
    /// # Errors
    /// When the ledger cannot decide or write.
    pub(crate) async fn charge(
        &self,
        path: &[BudgetId],
        charge: Charge,
        record: UsageRecord,
    ) -> Result<(), LedgerError> {
        let (id, caller, model) = (record.id, record.caller, Arc::clone(&record.model_requested));
        let none = Money::zero(charge.price.currency());
        let at = self.clock.now();
        let ask = HoldRequest { id, path: path.into(), amount: charge.price, amount_min: none, caller, model, at };
        match self.escrow.authorize(ask).await {
            Ok(_) => {}
            Err(AuthorizeError::Denied(_)) => return self.charge_beyond(path, record).await,
            Err(AuthorizeError::Ledger(LedgerError::AlreadyClosed { .. })) => return Ok(()),
            Err(AuthorizeError::Ledger(error)) => return Err(error),
        }
        let settled = self.escrow.settle(id, Settlement { charge, record: Box::new(record) })?;
        settled.committed.await
    }

    /// Books a call on budgets that are used beyond their limit: what they do not have is the operator's loss.
    async fn charge_beyond(&self, path: &[BudgetId], record: UsageRecord) -> Result<(), LedgerError> {
        let mut accounts = Vec::with_capacity(path.len());
        for &budget in path {
            let account = self.store.account(budget, self.clock.now()).await;
            accounts.push(account.map_err(LedgerError::unavailable)?.account);
        }
        let life = life(record.id); // it never began, so there are no rights to charge
        let (id, epoch, charged) = (record.id, life.epoch, record.charged_nanos);
        let settled = SettledHold { id, epoch, accounts: accounts.into(), charged, record: Box::new(record) };
        self.escrow.settle_aside(&life, vec![settled]).await.map_err(LedgerError::unavailable)
    }

    /// Ends holds whose time is over, until it is cancelled.
    pub(crate) async fn work(self) {
        loop {
            if let Err(error) = self.end_all(self.clock.now()).await {
                tracing::warn!(%error, "holds of other programs could not be ended");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends every hold whose time is over.
    ///
    /// # Errors
    /// When the books cannot be read or written.
    pub(crate) async fn end_all(&self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            let ended = self.store.ended_outside_holds(now, AT_ONCE).await?;
            for hold in &ended {
                tracing::warn!(hold = %hold.id, model = %hold.model, "nobody told what became of a call: its hold is over");
                self.end(hold).await?;
            }
            if ended.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Whether a hold is what is asked for again.
fn same(known: OutsideHold, asked: &OutsideHold) -> Result<OutsideHold, ReserveError> {
    let terms = |hold: &OutsideHold| (hold.caller, hold.amount_nanos, hold.currency, Arc::clone(&hold.model));
    if terms(&known) == terms(asked) { Ok(known) } else { Err(ReserveError::IdReused) }
}

#[cfg(test)]
mod tests {
    use cfr_billing::escrow::EscrowConfig;
    use cfr_billing::store::MemoryStore;
    use cfr_core::id::TenantId;
    use cfr_core::ledger::{BudgetSpec, CallerIds, LimitPolicy, Scope};
    use cfr_core::money::Currency;
    use cfr_core::time::{Period, SystemClock, TimeZone};

    use super::*;

    async fn desk(included_nanos: i64) -> (OutsideDesk, BudgetId) {
        let (store, clock) = (Arc::new(MemoryStore::exclusive()), Arc::new(SystemClock::new()));
        let now = clock.now();
        let id = BudgetId::generate(now);
        let spec = BudgetSpec {
            id,
            scope: Scope::Tenant,
            currency: Currency::EUR,
            included_nanos,
            policy: LimitPolicy::Hard,
            period: Period::Never,
            zone: TimeZone::UTC,
        };
        store.add_budget(spec, now);
        let escrow = Escrow::start(Arc::clone(&store) as _, Arc::clone(&clock) as _, EscrowConfig::new("node-1"));
        let escrow = escrow.await.expect("a ledger");
        (OutsideDesk::new(store, escrow, clock), id)
    }

    fn hold(budget: BudgetId, amount_nanos: i64, at: Timestamp) -> OutsideHold {
        let caller = CallerIds { tenant: TenantId::from_u128(1), user: None, key: None, product_version: None };
        OutsideHold {
            id: HoldId::generate(at),
            caller,
            path: vec![budget],
            amount_nanos,
            currency: Currency::EUR,
            fx_e6: 1_160_000,
            margin_bps: 2_000,
            model: "m".into(),
            created_at: at,
            ends_at: at.checked_add(Duration::from_secs(60)).expect("inside the calendar"),
        }
    }

    async fn available(desk: &OutsideDesk, budget: BudgetId) -> i64 {
        desk.escrow.balance(budget).await.expect("a balance").available.nanos()
    }

    #[tokio::test]
    async fn a_hold_that_nobody_tells_of_ends_at_its_time_and_not_before() {
        let (desk, budget) = desk(100).await;
        let hold = hold(budget, 60, desk.clock.now());
        desk.reserve(hold.clone()).await.expect("there is room");
        desk.end_all(hold.created_at).await.expect("the store works");
        assert_eq!(available(&desk, budget).await, 40);
        desk.end_all(hold.ends_at).await.expect("the store works");
        assert_eq!(available(&desk, budget).await, 100);
        assert_eq!(desk.hold(hold.id).await.expect("readable"), None);
    }

    #[tokio::test]
    async fn of_holds_that_do_not_fit_together_one_is_made() {
        let (desk, budget) = desk(100).await;
        let now = desk.clock.now();
        let (one, other) = tokio::join!(desk.reserve(hold(budget, 60, now)), desk.reserve(hold(budget, 60, now)));
        assert_eq!([one.is_ok(), other.is_ok()].iter().filter(|made| **made).count(), 1);
        assert_eq!(available(&desk, budget).await, 40);
    }
}
