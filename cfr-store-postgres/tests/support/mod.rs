//! A store in a database of its own, and the few rows that tests of money need.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::budget::{Budget, NewBudget, ScopeId};
use cfr_billing::identity::{NewTenant, Tenant, TenantKind};
use cfr_billing::store::{
    CatalogStore, Finding, Incarnation, LeaseAsk, LeaseGrant, LedgerStore, Op, OpenedHold, SettledHold,
};
use cfr_core::chat::{Operation, Usage, UsageSource};
use cfr_core::id::{AccountId, HoldId, RequestId, TenantId};
use cfr_core::ledger::{CallerIds, LimitPolicy, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone, Timestamp};
use cfr_store_postgres::{PostgresOptions, PostgresStore, StoreClock};
use cfr_testbed::Postgres;

pub const TTL: Duration = Duration::from_secs(30);

/// A database of its own, empty before the first store opens it.
pub struct Home {
    pub url: String,
}

impl Home {
    pub async fn new() -> Self {
        Self { url: Postgres::shared().await.database().await }
    }

    /// A store whose time is that of the callers.
    pub async fn open(&self) -> PostgresStore {
        self.open_with(callers_clock()).await
    }

    pub async fn open_with(&self, options: PostgresOptions) -> PostgresStore {
        PostgresStore::open(&self.url, options).await.expect("the store opens")
    }
}

pub fn callers_clock() -> PostgresOptions {
    let mut options = PostgresOptions::default();
    options.clock = StoreClock::Caller;
    options
}

/// An empty store.
pub async fn fresh() -> PostgresStore {
    Home::new().await.open().await
}

/// The first of May 2026, and some seconds.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_777_593_600 + second).expect("in range")
}

pub async fn tenant(store: &PostgresStore) -> Tenant {
    tenant_of(store).await
}

/// The same in any store.
pub async fn tenant_of(store: &dyn CatalogStore) -> Tenant {
    let new = NewTenant {
        slug: "acme".into(),
        name: "Acme".into(),
        domain: None,
        kind: TenantKind::Customer,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::EUR,
        settings: Default::default(),
    };
    store.create_tenant(&new, &Act::of_system(at(0))).await.expect("a tenant")
}

/// A hard budget of the tenant that never ends.
pub async fn budget(store: &PostgresStore, tenant: &Tenant, included_nanos: i64) -> Budget {
    budget_of(store, tenant, included_nanos).await
}

/// The same in any store.
pub async fn budget_of(store: &dyn CatalogStore, tenant: &Tenant, included_nanos: i64) -> Budget {
    let new = NewBudget {
        scope: Scope::Tenant,
        scope_id: ScopeId(tenant.id.as_u128()),
        tenant: Some(tenant.id),
        currency: Currency::EUR,
        included_nanos,
        policy: LimitPolicy::Hard,
        period: Period::Never,
        zone: TimeZone::UTC,
    };
    store.create_budget(&new, &Act::of_system(at(0))).await.expect("a budget")
}

pub async fn acquire(store: &PostgresStore, by: &Incarnation, budget: &Budget, want: i64) -> LeaseGrant {
    let ask = LeaseAsk { budget: budget.spec.id, min: want, want };
    store.acquire(by, &[ask], TTL, at(1)).await.expect("there is room").remove(0)
}

pub fn caller(tenant: TenantId) -> CallerIds {
    CallerIds { tenant, user: None, key: None, product_version: None }
}

pub fn record(id: RequestId, tenant: TenantId, charged: i64) -> Box<UsageRecord> {
    Box::new(UsageRecord {
        id,
        at: at(2),
        caller: caller(tenant),
        operation: Operation::ChatCompletions,
        model_requested: "fast".into(),
        provider: "openai".into(),
        model_served: "gpt-4o-mini".into(),
        usage: Usage::text(12, 34),
        source: UsageSource::Provider,
        cost_nanos: charged / 2,
        price_nanos: charged,
        charged_nanos: charged,
        overrun_nanos: 0,
        price_version: u64::MAX - 7,
        fx_e6: 1_160_000,
        margin_bps: 2_000,
        status: 200,
        finish: "stop".into(),
        streamed: true,
        latency_ms: 812,
        first_byte_ms: Some(301),
        attempts: Vec::new(),
        upstream_id: None,
        tags: cfr_core::chat::Tags { user: Some("nightly".into()), ..Default::default() },
        output_tokens_max_applied: None,
    })
}

pub fn open(by: &Incarnation, id: HoldId, account: AccountId, amount: i64, tenant: TenantId) -> Op {
    Op::Open(Box::new(OpenedHold {
        id,
        epoch: by.epoch,
        accounts: [account].into_iter().collect(),
        amount,
        caller: caller(tenant),
        model: Arc::from("fast"),
        at: at(2),
    }))
}

pub fn settle(by: &Incarnation, id: HoldId, account: AccountId, charged: i64, tenant: TenantId) -> Op {
    let (epoch, accounts) = (by.epoch, [account].into_iter().collect());
    Op::Settle(Box::new(SettledHold { id, epoch, accounts, charged, record: record(id, tenant, charged) }))
}

pub fn hold_id(number: u128) -> HoldId {
    HoldId::from_u128(number)
}

/// Runs SQL on the database behind the store's back.
pub async fn raw(url: &str, sql: &str) -> Result<String, String> {
    Postgres::shared().await.try_execute(url, sql).await
}

/// Nothing is wrong with the books.
#[track_caller]
pub fn assert_clean(findings: &[Finding]) {
    assert!(findings.is_empty(), "{findings:#?}");
}
