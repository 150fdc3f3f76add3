//! An engine over a store in memory, with a clock that stands still.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod cluster;
pub(crate) mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cfr_billing::approval::Consent;
use cfr_billing::audit_log::{Actor, ActorKind};
use cfr_billing::budget::GrantKind;
use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::store::{LedgerStore, MemoryStore, NewGrant};
use cfr_core::chat::{Operation, Usage, UsageSource};
use cfr_core::conformance::ledger::LedgerUnderTest;
use cfr_core::id::{BudgetId, HoldId, TenantId};
use cfr_core::ledger::{BudgetLedger, BudgetSpec, CallerIds, HoldRequest, LimitPolicy, Scope, Settlement, UsageRecord};
use cfr_core::money::{Charge, Currency, Money};
use cfr_core::time::{Clock, ManualClock, Period, TimeZone, Timestamp};

/// Everything a test of the engine touches.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) escrow: Arc<Escrow>,
    next_id: AtomicU64,
}

pub(crate) const START: &str = "2026-03-10T12:00:00Z";

impl Bench {
    pub(crate) async fn exclusive() -> Self {
        Self::over(MemoryStore::exclusive(), EscrowConfig::new("node-1")).await
    }

    pub(crate) async fn shared() -> Self {
        Self::over(MemoryStore::shared(), EscrowConfig::new("node-1")).await
    }

    pub(crate) async fn over(store: MemoryStore, config: EscrowConfig) -> Self {
        let clock = Arc::new(ManualClock::new(START.parse().expect("a timestamp")));
        let store = Arc::new(store);
        let escrow = Escrow::start(store.clone(), clock.clone(), config).await.expect("the store works");
        Self { clock, store, escrow, next_id: AtomicU64::new(1) }
    }

    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Another life of a node over the same store.
    pub(crate) async fn start(&self, config: EscrowConfig) -> Arc<Escrow> {
        Escrow::start(self.store.clone(), self.clock.clone(), config).await.expect("the store works")
    }

    pub(crate) fn budget(&self, euros: i64, period: Period) -> BudgetId {
        self.budget_with(euros, period, LimitPolicy::Hard)
    }

    pub(crate) fn budget_with(&self, nanos: i64, period: Period, policy: LimitPolicy) -> BudgetId {
        let id = BudgetId::from_u128(self.fresh());
        let (scope, currency, zone) = (Scope::User, Currency::EUR, TimeZone::UTC);
        self.store.add_budget(
            BudgetSpec { id, scope, currency, included_nanos: nanos, policy, period, zone },
            self.clock.now(),
        );
        id
    }

    pub(crate) fn fresh(&self) -> u128 {
        u128::from(self.next_id.fetch_add(1, Ordering::SeqCst))
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

    /// Holds what must be there, and leaves it held.
    pub(crate) async fn admits(&self, path: &[BudgetId], nanos: i64, why: &str) {
        let hold = self.escrow.authorize(self.ask(path, nanos)).await.expect(why);
        assert_eq!(hold.amount, eur(nanos), "{why}");
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

pub(crate) fn caller() -> CallerIds {
    CallerIds { tenant: TenantId::from_u128(7), user: None, key: None, product_version: None }
}

pub(crate) const fn eur(nanos: i64) -> Money {
    Money::from_nanos(nanos, Currency::EUR)
}

pub(crate) fn price(hold: HoldId, at: Timestamp, nanos: i64) -> Settlement {
    Settlement {
        charge: Charge { cost: eur(nanos), margin: eur(0), price: eur(nanos) },
        record: Box::new(record(hold, at, nanos)),
    }
}

pub(crate) fn record(id: HoldId, at: Timestamp, nanos: i64) -> UsageRecord {
    UsageRecord {
        id,
        at,
        caller: caller(),
        operation: Operation::ChatCompletions,
        model_requested: "gpt-4o".into(),
        provider: "openai".into(),
        model_served: "gpt-4o".into(),
        usage: Usage::text(10, 20),
        source: UsageSource::Provider,
        cost_nanos: nanos,
        price_nanos: nanos,
        charged_nanos: 0,
        overrun_nanos: 0,
        price_version: 1,
        fx_e6: 1_000_000,
        margin_bps: 0,
        status: 200,
        finish: "stop".into(),
        streamed: false,
        latency_ms: 12,
        first_byte_ms: Some(3),
        attempts: Vec::new(),
        upstream_id: None,
        tags: cfr_core::chat::Tags::default(),
        output_tokens_max_applied: None,
    }
}

#[async_trait]
impl LedgerUnderTest for Bench {
    fn ledger(&self) -> Arc<dyn BudgetLedger> {
        self.escrow.clone()
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    async fn add_budget(&self, spec: BudgetSpec) {
        self.store.add_budget(spec, self.clock.now());
    }

    async fn grant(&self, budget: BudgetId, amount: Money, idempotency_key: &str) {
        let kind = GrantKind::Adjustment; // what was bought would roll over into the next period
        let grant = NewGrant { kind, ..top_up(budget, amount.nanos(), idempotency_key) };
        self.escrow.grant(&grant).await.expect("the store works");
    }

    fn past_money_can_be_claimed(&self) -> bool {
        self.store.exclusive()
    }

    async fn settle_down(&self) {
        self.escrow.flush().await.expect("the store works");
    }
}

pub(crate) fn top_up(budget: BudgetId, amount: i64, key: &str) -> NewGrant {
    NewGrant {
        budget,
        kind: GrantKind::TopUp,
        amount,
        idempotency_key: key.into(),
        reason: "a test".into(),
        actor: Arc::new(Actor::of_kind(ActorKind::Operator)),
        overcommit: false,
        consent: Consent::NotNeeded,
    }
}

/// Longer than the engine waits before it asks a store again that had no more.
pub(crate) const RECHECK: Duration = Duration::from_millis(300);
