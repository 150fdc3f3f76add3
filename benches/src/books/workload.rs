//! Who spends: tenants with users, each request on a path of budgets from the user up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::budget::{NewBudget, ScopeId};
use cfr_billing::identity::{NewTenant, TenantKind};
use cfr_billing::store::{Boot, LeaseAsk, Store, StoreError};
use cfr_core::chat::{Operation, Tags, Usage, UsageSource};
use cfr_core::id::{AccountId, BudgetId, HoldId, KeyId, RequestId, TenantId, UserId};
use cfr_core::ledger::{CallerIds, HoldRequest, LimitPolicy, Path, Scope, Settlement, UsageRecord};
use cfr_core::money::{Charge, Currency, Money};
use cfr_core::time::{Period, TimeZone, Timestamp};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::Failure;

/// The limit of every budget, in nano-euro: more than any measurement spends.
const LIMIT_NANOS: i64 = 1_000_000_000_000_000;
/// What a request holds.
pub const HELD_NANOS: i64 = 3_000_000;
/// What it costs in the end.
pub const CHARGED_NANOS: i64 = 1_000_000;
/// Budgets that are made at a time.
const WRITERS: usize = 8;
/// Periods that are opened in one transaction.
const OPENED_AT_ONCE: usize = 500;

/// Somebody who sends requests.
#[derive(Debug, Clone)]
pub struct Spender {
    caller: CallerIds,
    path: Path,
}

/// Who there is to spend.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    /// Tenants.
    pub tenants: usize,
    /// Users of each of them.
    pub users: usize,
    /// Budgets on the path of each user: from the narrowest, which only the user spends from, to the widest, which all
    /// users of the tenant share.
    pub depth: usize,
}

/// Makes the tenants, and the budgets of their users.
///
/// # Errors
/// When the store cannot be written.
pub async fn spenders(store: &dyn Store, population: Population, now: Timestamp) -> Result<Vec<Spender>, StoreError> {
    let mut spenders = Vec::with_capacity(population.tenants * population.users);
    for _ in 0..population.tenants {
        let tenant = tenant(store, now).await?;
        let mut shared = Vec::new();
        for level in 1..population.depth {
            shared.push(budget(store, tenant, Scope::Tenant, level as u128, now).await?);
        }
        let users = stream::iter(0..population.users).map(|_| spender(store, tenant, &shared, now));
        spenders.extend(users.buffered(WRITERS).try_collect::<Vec<_>>().await?);
    }
    Ok(spenders)
}

async fn spender(
    store: &dyn Store,
    tenant: TenantId,
    shared: &[BudgetId],
    now: Timestamp,
) -> Result<Spender, StoreError> {
    let user = UserId::generate(now);
    let own = budget(store, tenant, Scope::User, user.as_u128(), now).await?;
    let path: Vec<BudgetId> = std::iter::once(own).chain(shared.iter().copied()).collect();
    let key = Some(KeyId::generate(now));
    let caller = CallerIds { tenant, user: Some(user), key, product_version: None };
    Ok(Spender { caller, path: path.into() })
}

/// Opens the current period of every budget, as users do who came before.
///
/// # Errors
/// When the store cannot be written.
pub async fn open_periods(store: &dyn Store, spenders: &[Spender], now: Timestamp) -> Result<(), Failure> {
    let by = store.register("bench-opener", Boot(0), now).await?;
    let budgets: BTreeSet<BudgetId> = spenders.iter().flat_map(|spender| spender.path.iter().copied()).collect();
    let asks: Vec<LeaseAsk> = budgets.into_iter().map(|budget| LeaseAsk { budget, min: 0, want: 0 }).collect();
    for some in asks.chunks(OPENED_AT_ONCE) {
        let leases = store.acquire(&by, some, Duration::from_secs(1), now).await?;
        let rights: Vec<(AccountId, i64)> = leases.iter().map(|lease| (lease.account, lease.granted)).collect();
        store.give_back(&by, &rights).await?;
    }
    Ok(store.retire(&by, now).await?)
}

async fn tenant(store: &dyn Store, now: Timestamp) -> Result<TenantId, StoreError> {
    let slug = format!("bench-{:032x}", TenantId::generate(now).as_u128());
    let new = NewTenant {
        slug: slug.into(),
        name: "Bench".into(),
        domain: None,
        kind: TenantKind::Internal,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::EUR,
        settings: Default::default(),
    };
    Ok(store.create_tenant(&new, &Act::of_system(now)).await?.id)
}

/// `subject` tells the budgets of one scope apart; the levels of a tenant's path are subjects of their own.
async fn budget(
    store: &dyn Store,
    tenant: TenantId,
    scope: Scope,
    subject: u128,
    now: Timestamp,
) -> Result<BudgetId, StoreError> {
    let scope_id = ScopeId(tenant.as_u128().wrapping_add(subject));
    let new = NewBudget {
        scope,
        scope_id,
        tenant: Some(tenant),
        currency: Currency::EUR,
        included_nanos: LIMIT_NANOS,
        policy: LimitPolicy::Hard,
        period: Period::Never,
        zone: TimeZone::UTC,
    };
    Ok(store.create_budget(&new, &Act::of_system(now)).await?.spec.id)
}

impl Spender {
    /// A request at its worst-case price.
    #[must_use]
    pub fn ask(&self, at: Timestamp) -> HoldRequest {
        HoldRequest {
            id: HoldId::generate(at),
            path: self.path.clone(),
            amount: eur(HELD_NANOS),
            amount_min: eur(HELD_NANOS),
            caller: self.caller,
            model: Arc::from("gpt-4o"),
            at,
        }
    }

    /// Its true price.
    #[must_use]
    pub fn settlement(&self, id: RequestId, at: Timestamp) -> Settlement {
        let charge = Charge { cost: eur(CHARGED_NANOS), margin: eur(0), price: eur(CHARGED_NANOS) };
        Settlement { charge, record: Box::new(self.record(id, at)) }
    }

    fn record(&self, id: RequestId, at: Timestamp) -> UsageRecord {
        UsageRecord {
            id,
            at,
            caller: self.caller,
            operation: Operation::ChatCompletions,
            model_requested: "gpt-4o".into(),
            provider: "openai".into(),
            model_served: "gpt-4o-2024-11-20".into(),
            usage: Usage::text(1_234, 321),
            source: UsageSource::Provider,
            cost_nanos: CHARGED_NANOS,
            price_nanos: CHARGED_NANOS,
            charged_nanos: CHARGED_NANOS,
            overrun_nanos: 0,
            price_version: 0x0123_4567_89ab_cdef,
            fx_e6: 1_160_000,
            margin_bps: 0,
            status: 200,
            finish: "stop".into(),
            streamed: true,
            latency_ms: 1_890,
            first_byte_ms: Some(310),
            attempts: Vec::new(),
            upstream_id: Some("chatcmpl-9f8e7d6c5b4a".into()),
            tags: Tags::default(),
            output_tokens_max_applied: None,
        }
    }
}

const fn eur(nanos: i64) -> Money {
    Money::from_nanos(nanos, Currency::EUR)
}
