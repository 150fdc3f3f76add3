//! The words in which the rules are written.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::chat::{Operation, Tags, Usage, UsageSource};
use cfr_core::id::{AccountId, BudgetId, HoldId, TenantId};
use cfr_core::ledger::{CallerIds, LimitPolicy, ReleaseReason, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone, Timestamp};

use crate::approval::Consent;
use crate::audit_log::{Act, Actor, ActorKind};
use crate::budget::{GrantKind, NewBudget, ScopeId};
use crate::identity::{NewTenant, NewUser, Role, TenantKind, User};
use crate::store::{
    AccountState, AcquireError, Boot, Incarnation, LeaseAsk, LeaseGrant, NewGrant, Op, OpenedHold, SettledHold, Store,
};

pub(super) const TTL: Duration = Duration::from_secs(30);
/// All nodes of a rule live in one process, unless it is about processes.
pub(super) const BOOT: Boot = Boot(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Noon of a day in the middle of a month.
pub(super) fn noon() -> Timestamp {
    "2026-03-10T12:00:00Z".parse().expect("a timestamp")
}

/// A node at work on a store, at one moment.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) by: Incarnation,
    pub(super) tenant: TenantId,
    pub(super) now: Timestamp,
}

impl<'a> Node<'a> {
    pub(super) async fn start(store: &'a dyn Store) -> Self {
        let now = noon();
        let by = store.register("node-1", BOOT, now).await.expect("the store works");
        let tenant = store.create_tenant(&new_tenant("acme"), &Act::of_system(now)).await.expect("the slug is free").id;
        Self { store, by, tenant, now }
    }

    /// The same node in its next life.
    pub(super) async fn restarted(&self) -> Self {
        let by = self.store.register(&self.by.node, BOOT, self.now).await.expect("the store works");
        Self { by, ..self.clone() }
    }

    pub(super) fn later(&self, by: Duration) -> Self {
        Self { now: self.now.checked_add(by).expect("inside the calendar"), ..self.clone() }
    }

    /// A budget of a user of its own.
    pub(super) async fn budget(&self, included: i64, policy: LimitPolicy, period: Period) -> BudgetId {
        let user = self.user().await;
        let new = NewBudget { included_nanos: included, policy, period, ..user_budget(&user) };
        self.store.create_budget(&new, &Act::of_system(self.now)).await.expect("the user has none").spec.id
    }

    pub(super) async fn hard(&self, included: i64) -> BudgetId {
        self.budget(included, LimitPolicy::Hard, Period::Never).await
    }

    pub(super) async fn user(&self) -> User {
        let address = format!("{}@example.org", TenantId::generate(self.now));
        self.store
            .create_user(&new_user(self.tenant, &address), &Act::of_system(self.now))
            .await
            .expect("the address is free")
    }

    pub(super) async fn acquire(&self, asks: &[LeaseAsk]) -> Result<Vec<LeaseGrant>, AcquireError> {
        self.store.acquire(&self.by, asks, TTL, self.now).await
    }

    /// A lease of exactly this much.
    pub(super) async fn lease(&self, budget: BudgetId, amount: i64) -> AccountId {
        let granted = self.acquire(&[ask(budget, amount, amount)]).await.expect("there is room");
        assert_eq!(granted.first().map(|grant| grant.granted), Some(amount));
        granted.first().expect("one grant per ask").account
    }

    pub(super) async fn commit(&self, ops: &[Op]) {
        self.store.commit(&self.by, ops, self.now).await.expect("the store works");
    }

    pub(super) async fn state(&self, budget: BudgetId) -> AccountState {
        self.store.account(budget, self.now).await.expect("the budget exists")
    }

    /// Granted, settled and leased on the current account.
    pub(super) async fn sums(&self, budget: BudgetId) -> (i64, i64, i64) {
        let state = self.state(budget).await;
        (state.granted, state.settled, state.leased)
    }

    pub(super) async fn grant(&self, budget: BudgetId, amount: i64, key: &str) {
        self.store.grant(&top_up(budget, amount, key), self.now).await.expect("the budget exists");
    }

    pub(super) async fn assert_books_agree(&self) {
        assert_eq!(self.store.audit().await.expect("the store works"), []);
    }

    pub(super) fn hold(&self) -> HoldId {
        HoldId::generate(self.now)
    }

    pub(super) fn open(&self, hold: HoldId, accounts: &[AccountId], amount: i64) -> Op {
        let (epoch, accounts) = (self.by.epoch, accounts.into());
        Op::Open(Box::new(OpenedHold {
            id: hold,
            epoch,
            accounts,
            amount,
            caller: caller(self.tenant),
            model: "m".into(),
            at: self.now,
        }))
    }

    pub(super) fn settle(&self, hold: HoldId, accounts: &[AccountId], charged: i64) -> Op {
        let record = Box::new(UsageRecord { charged_nanos: charged, ..self.record(hold, charged) });
        Op::Settle(Box::new(SettledHold { id: hold, epoch: self.by.epoch, accounts: accounts.into(), charged, record }))
    }

    pub(super) fn checkpoint(&self, hold: HoldId, charged: i64) -> Op {
        Op::Checkpoint { hold, charged, record: Box::new(self.record(hold, charged)) }
    }

    pub(super) fn record(&self, id: HoldId, price: i64) -> UsageRecord {
        UsageRecord {
            id,
            at: self.now,
            caller: caller(self.tenant),
            cost_nanos: price,
            price_nanos: price,
            ..blank_record(id)
        }
    }
}

pub(super) const fn release(hold: HoldId) -> Op {
    Op::Release { hold, reason: ReleaseReason::Abandoned }
}

pub(super) const fn ask(budget: BudgetId, min: i64, want: i64) -> LeaseAsk {
    LeaseAsk { budget, min, want }
}

pub(super) fn new_tenant(slug: &str) -> NewTenant {
    NewTenant {
        slug: slug.into(),
        name: slug.into(),
        domain: None,
        kind: TenantKind::Customer,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::EUR,
        settings: Default::default(),
    }
}

pub(super) fn new_user(tenant: TenantId, email: &str) -> NewUser {
    NewUser {
        tenant,
        email: email.into(),
        name: "A. Person".into(),
        role: Role::User,
        product_version: None,
        locale: None,
    }
}

pub(super) fn user_budget(user: &User) -> NewBudget {
    NewBudget {
        scope: Scope::User,
        scope_id: ScopeId(user.id.as_u128()),
        tenant: Some(user.tenant),
        currency: Currency::EUR,
        included_nanos: 0,
        policy: LimitPolicy::Hard,
        period: Period::Never,
        zone: TimeZone::UTC,
    }
}

pub(super) fn top_up(budget: BudgetId, amount: i64, key: &str) -> NewGrant {
    NewGrant {
        budget,
        kind: GrantKind::TopUp,
        amount,
        idempotency_key: key.into(),
        reason: "a rule".into(),
        actor: Arc::new(Actor::of_kind(ActorKind::Operator)),
        overcommit: false,
        consent: Consent::NotNeeded,
    }
}

pub(super) const fn caller(tenant: TenantId) -> CallerIds {
    CallerIds { tenant, user: None, key: None, product_version: None }
}

pub(super) fn blank_record(id: HoldId) -> UsageRecord {
    UsageRecord {
        id,
        at: noon(),
        caller: caller(TenantId::from_u128(0)),
        operation: Operation::ChatCompletions,
        model_requested: "fast".into(),
        provider: "openai".into(),
        model_served: "gpt-4o".into(),
        usage: Usage::text(10, 20),
        source: UsageSource::Provider,
        cost_nanos: 0,
        price_nanos: 0,
        charged_nanos: 0,
        overrun_nanos: 0,
        price_version: 7,
        fx_e6: 1_160_000,
        margin_bps: 2_000,
        status: 200,
        finish: "stop".into(),
        streamed: true,
        latency_ms: 1_200,
        first_byte_ms: Some(300),
        attempts: Vec::new(),
        upstream_id: None,
        tags: Tags::default(),
        output_tokens_max_applied: None,
    }
}
