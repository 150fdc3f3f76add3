//! Several engines over one store, and a clock that goes with the timers: in a test with paused time all of it is
//! virtual.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::store::{LedgerStore, MemoryStore, StoreError};
use cfr_core::id::{BudgetId, HoldId};
use cfr_core::ledger::{AuthorizeError, BudgetLedger, BudgetSpec, Hold, HoldRequest, LimitPolicy, Scope, Settled};
use cfr_core::money::Currency;
use cfr_core::time::{Clock, Period, TimeZone, Timestamp};
use jiff::SignedDuration;
use tokio::time::Instant;

use super::{caller, eur, price};

pub(crate) const TTL: Duration = Duration::from_secs(30);
pub(crate) const IDLE: Duration = Duration::from_secs(2);
pub(crate) const RECALL: Duration = Duration::from_millis(250);

/// Shows the time of the timers.
#[derive(Debug, Clone)]
pub(crate) struct TimerClock {
    start: Timestamp,
    origin: Instant,
}

impl TimerClock {
    pub(crate) fn starting_at(start: &str) -> Self {
        Self { start: start.parse().expect("a timestamp"), origin: Instant::now() }
    }

    /// The same clock, set wrong.
    pub(crate) fn ahead(&self, by: SignedDuration) -> Self {
        Self { start: self.start.checked_add(by).expect("inside the calendar"), ..self.clone() }
    }
}

impl Clock for TimerClock {
    fn now(&self) -> Timestamp {
        self.start.checked_add(self.uptime()).expect("inside the calendar")
    }

    fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A shared store, and what its nodes have in common.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) clock: TimerClock,
    pub(crate) store: Arc<MemoryStore>,
    ids: AtomicU64,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::starting_at(super::START)
    }

    pub(crate) fn starting_at(start: &str) -> Self {
        let clock = TimerClock::starting_at(start);
        let store = Arc::new(MemoryStore::shared_with_clock(Arc::new(clock.clone())));
        Self { clock, store, ids: AtomicU64::new(1) }
    }

    /// A process that runs as `node`.
    pub(crate) async fn start(&self, node: &str) -> Arc<Escrow> {
        self.try_start(node).await.expect("the name is free")
    }

    pub(crate) async fn try_start(&self, node: &str) -> Result<Arc<Escrow>, StoreError> {
        self.start_with(&self.clock, config(node)).await
    }

    pub(crate) async fn start_with(&self, clock: &TimerClock, config: EscrowConfig) -> Result<Arc<Escrow>, StoreError> {
        Escrow::start(self.store.clone(), Arc::new(clock.clone()), config).await
    }

    pub(crate) fn budget(&self, nanos: i64, period: Period) -> BudgetId {
        let id = BudgetId::from_u128(self.fresh());
        let (scope, currency, policy, zone) = (Scope::User, Currency::EUR, LimitPolicy::Hard, TimeZone::UTC);
        let spec = BudgetSpec { id, scope, currency, included_nanos: nanos, policy, period, zone };
        self.store.add_budget(spec, self.clock.now());
        id
    }

    fn fresh(&self) -> u128 {
        u128::from(self.ids.fetch_add(1, Ordering::SeqCst))
    }

    pub(crate) fn ask(&self, path: &[BudgetId], nanos: i64) -> HoldRequest {
        HoldRequest {
            id: HoldId::from_u128(self.fresh()),
            path: path.into(),
            amount: eur(nanos),
            amount_min: eur(nanos),
            caller: caller(),
            model: "gpt-4o".into(),
            at: self.clock.now(),
        }
    }

    pub(crate) async fn hold(&self, node: &Escrow, budget: BudgetId, nanos: i64) -> Result<Hold, AuthorizeError> {
        node.authorize(self.ask(&[budget], nanos)).await
    }

    pub(crate) fn settle(&self, node: &Escrow, hold: HoldId, nanos: i64) -> Settled {
        node.settle(hold, price(hold, self.clock.now(), nanos)).expect("it is open")
    }

    /// Holds, serves and settles one request; none when it is denied.
    pub(crate) async fn serve(&self, node: &Escrow, budget: BudgetId, held: i64, charged: i64) -> Option<i64> {
        let hold = match self.hold(node, budget, held).await {
            Ok(hold) => hold,
            Err(AuthorizeError::Denied(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        hold.committed.await.expect("it is written");
        let settled = self.settle(node, hold.id, charged);
        settled.committed.await.expect("it is written");
        Some(settled.charged.nanos())
    }

    /// What the store has on the budget's newest account: granted, settled, leased.
    pub(crate) async fn booked(&self, budget: BudgetId) -> (i64, i64, i64) {
        let account = self.store.account(budget, self.clock.now()).await.expect("the store works");
        (account.granted, account.settled, account.leased)
    }

    pub(crate) async fn assert_books_agree(&self) {
        assert_eq!(self.store.audit().await.expect("the store works"), []);
    }
}

pub(crate) fn config(node: &str) -> EscrowConfig {
    EscrowConfig { lease_ttl: TTL, idle_after: Some(IDLE), recall_patience: RECALL, ..EscrowConfig::new(node) }
}
