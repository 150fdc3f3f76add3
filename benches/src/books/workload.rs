//! Who spends: tenants with users, each request on a path of budgets from the user up.

use std::sync::Arc;

use cfr_billing::budget::{NewBudget, ScopeId};
use cfr_billing::identity::{NewTenant, TenantKind};
use cfr_billing::store::{Store, StoreError};
use cfr_core::chat::{Operation, Tags, Usage, UsageSource};
use cfr_core::id::{BudgetId, HoldId, KeyId, RequestId, TenantId, UserId};
use cfr_core::ledger::{CallerIds, HoldRequest, LimitPolicy, Path, Scope, Settlement, UsageRecord};
use cfr_core::money::{Charge, Currency, Money};
use cfr_core::time::{Period, TimeZone, Timestamp};

/// The limit of every budget, in nano-euro: more than any measurement spends.
const LIMIT_NANOS: i64 = 1_000_000_000_000_000;
/// What a request holds.
pub const HELD_NANOS: i64 = 3_000_000;
/// What it costs in the end.
pub const CHARGED_NANOS: i64 = 1_000_000;
/// Users of one tenant, who take turns.
pub const USERS_OF_A_TENANT: usize = 20;

/// Somebody who sends requests.
#[derive(Debug, Clone)]
pub struct Spender {
    caller: CallerIds,
    path: Path,
}

/// Makes `tenants` tenants whose users have paths of `depth` budgets: from the narrowest, which only the user spends
/// from, to the widest, which all users of the tenant share.
///
/// # Errors
/// When the store cannot be written.
pub async fn spenders(
    store: &dyn Store,
    tenants: usize,
    depth: usize,
    now: Timestamp,
) -> Result<Vec<Spender>, StoreError> {
    let mut spenders = Vec::with_capacity(tenants * USERS_OF_A_TENANT);
    for _ in 0..tenants {
        let tenant = tenant(store, now).await?;
        let mut shared = Vec::new();
        for level in 1..depth {
            shared.push(budget(store, tenant, Scope::Tenant, level as u128, now).await?);
        }
        for _ in 0..USERS_OF_A_TENANT {
            let user = UserId::generate(now);
            let own = budget(store, tenant, Scope::User, user.as_u128(), now).await?;
            let path: Vec<BudgetId> = std::iter::once(own).chain(shared.iter().copied()).collect();
            let key = Some(KeyId::generate(now));
            let caller = CallerIds { tenant, user: Some(user), key, product_version: None };
            spenders.push(Spender { caller, path: path.into() });
        }
    }
    Ok(spenders)
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
    };
    Ok(store.create_tenant(&new, now).await?.id)
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
    Ok(store.create_budget(&new, now).await?.spec.id)
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
