//! `/budgets`: limits per period, and what is left of them now.

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::budget::{Budget as Row, BudgetFilter, NewBudget, ScopeId};
use cfr_billing::identity::Tenant;
use cfr_billing::store::CatalogStore;
use cfr_core::id::{BudgetId, KeyId, ProductId, TenantId, UserId};
use cfr_core::ledger::{Balance as CoreBalance, LimitPolicy, Scope};
use cfr_core::money::{Currency, Money as Amount};
use cfr_core::time::{Period as CorePeriod, TimeZone, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::{Checks, Json, Params};
use super::money::{Money, Period, Window};
use super::page::{Listing, page_request};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::{approvals, lookup, schema};

/// A limit per period for one key, user, tenant or product, or for everybody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Budget {
    /// Its id.
    #[schema(value_type = schema::BudgetId)]
    pub(crate) id: BudgetId,
    /// Whom it limits.
    #[schema(value_type = schema::Scope)]
    pub(crate) scope: Scope,
    /// The id of the key, user, tenant or product that it limits; null for the platform.
    #[schema(example = "usr_01kahr4kz8fyksn1c1d5v2c9zt")]
    pub(crate) subject: Option<String>,
    /// The tenant that owns it; null for products and the platform.
    #[schema(value_type = Option<schema::TenantId>)]
    pub(crate) tenant: Option<TenantId>,
    /// What each new period is granted.
    pub(crate) limit: Money,
    /// What happens at the limit.
    #[schema(value_type = schema::LimitPolicy)]
    pub(crate) policy: LimitPolicy,
    /// When it begins anew.
    pub(crate) period: Period,
    /// The zone in which the period's edges lie.
    #[schema(value_type = schema::Zone)]
    pub(crate) time_zone: TimeZone,
    /// Whether requests may be charged to it.
    pub(crate) active: bool,
    /// Counts changes; also in `etag`.
    pub(crate) version: i64,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
    /// The current period, to the moment of the answer. Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) balance: Option<Balance>,
}

/// What became of a budget's current period.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Balance {
    /// The period.
    pub(crate) period: Window,
    /// Everything granted to it.
    pub(crate) granted: Money,
    /// Everything charged in it.
    pub(crate) settled: Money,
    /// Everything held by requests that run now.
    pub(crate) held: Money,
    /// What a new request could hold.
    pub(crate) available: Money,
}

impl From<CoreBalance> for Balance {
    fn from(balance: CoreBalance) -> Self {
        Self {
            period: balance.period.into(),
            granted: balance.granted.into(),
            settled: balance.settled.into(),
            held: balance.held.into(),
            available: balance.available.into(),
        }
    }
}

impl From<Row> for Budget {
    fn from(row: Row) -> Self {
        Self {
            id: row.spec.id,
            scope: row.spec.scope,
            subject: print_subject(row.spec.scope, row.scope_id),
            tenant: row.tenant,
            limit: Money::nanos(row.spec.included_nanos, row.spec.currency),
            policy: row.spec.policy,
            period: Period::from(&row.spec.period),
            time_zone: row.spec.zone,
            active: row.active,
            version: row.version,
            created_at: row.created_at,
            balance: None,
        }
    }
}

/// A budget to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBudget {
    /// Whom it limits.
    #[schema(value_type = schema::Scope)]
    pub(crate) scope: Scope,
    /// The key's id, the user's id or address, the tenant's id or slug, or the product's id or code; absent for the
    /// platform.
    #[schema(example = "anna@acme.example")]
    pub(crate) subject: Option<String>,
    /// What each period is granted. Every budget that a request is charged to has the same currency.
    pub(crate) limit: Money,
    /// What happens at the limit; `hard` when absent.
    #[schema(value_type = Option<schema::LimitPolicy>)]
    pub(crate) policy: Option<LimitPolicy>,
    /// When it begins anew; each calendar month when absent.
    pub(crate) period: Option<Period>,
    /// The zone in which the period's edges lie; the tenant's when absent.
    #[schema(value_type = Option<schema::Zone>)]
    pub(crate) time_zone: Option<String>,
}

/// What to change of a budget.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBudget {
    /// What new periods are granted. The current one is granted the difference.
    pub(crate) limit: Money,
}

/// Which budgets.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BudgetQuery {
    /// Only those of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// Only those of this scope.
    #[param(value_type = Option<schema::Scope>)]
    pub(crate) scope: Option<Scope>,
    /// Only those of this key, user, tenant or product, by id or name. Needs `scope`.
    pub(crate) subject: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List budgets in the order of their creation.
#[utoipa::path(get, path = "/budgets", operation_id = "list_budgets", tag = "budgets", params(BudgetQuery),
    responses((status = 200, description = "A page of budgets", body = Listing<Budget>), Problems))]
pub(crate) async fn list(desk: Desk, Params(query): Params<BudgetQuery>) -> Result<Answer<Listing<Budget>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let tenant = lookup::tenant_filter(&*desk.store, query.tenant.as_deref()).await?;
    let scope_id = match (query.scope, &query.subject) {
        (_, None) => None,
        (None, Some(_)) => return Err(Problem::bad_request("query: subject needs scope, which says what it names")),
        (Some(scope), Some(name)) => Some(subject(&desk, scope, Some(name)).await?.scope_id),
    };
    let filter = BudgetFilter { tenant, scope: query.scope, scope_id };
    Ok(Answer(Listing::of(desk.store.budgets(&filter, page).await?, Budget::from)))
}

/// Create a budget. It holds for the next request.
#[utoipa::path(post, path = "/budgets", operation_id = "create_budget", tag = "budgets", request_body = CreateBudget,
    responses((status = 201, description = "The new budget", body = Budget,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateBudget>,
) -> Result<Versioned<Budget>, Problem> {
    let found = subject(&desk, body.scope, body.subject.as_deref()).await;
    let new = check(&body, &lookup::named("subject", found)?, desk.now())?;
    let row = desk.store.create_budget(&new, &act).await?;
    desk.changed().await;
    with_balance(&desk, row).await.map(|budget| Versioned::created(budget.version, budget))
}

/// Show a budget with its live balance.
#[utoipa::path(get, path = "/budgets/{budget}", operation_id = "get_budget", tag = "budgets",
    params(("budget" = schema::BudgetId, Path, description = "Id")),
    responses((status = 200, description = "The budget", body = Budget,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn show(desk: Desk, Path(budget): Path<String>) -> Result<Versioned<Budget>, Problem> {
    let row = desk.store.budget(lookup::id(&budget, "budget")?).await?;
    with_balance(&desk, row).await.map(|budget| Versioned::ok(budget.version, budget))
}

/// Change the limit of a budget. Below what is used, nothing new is held until the next period.
#[utoipa::path(patch, path = "/budgets/{budget}", operation_id = "update_budget", tag = "budgets", request_body = ChangeBudget,
    params(("budget" = schema::BudgetId, Path, description = "Id"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "The budget as it is now", body = Budget,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    Path(budget): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ChangeBudget>,
) -> Result<Versioned<Budget>, Problem> {
    let row = desk.store.budget(lookup::id(&budget, "budget")?).await?;
    if_match.check(row.version)?;
    let mut checks = Checks::default();
    let limit = body.limit.check_positive("limit", &mut checks);
    require_currency(&mut checks, "limit", &body.limit, row.spec.currency);
    checks.finish()?;
    let included = limit.map_or(row.spec.included_nanos, |limit| limit.nanos());
    approvals::check_alone(&desk, row.spec.id, included.saturating_sub(row.spec.included_nanos), &act).await?;
    let change = desk.store.set_budget_limit(row.spec.id, row.version, included, &act);
    let row = desk.recalled(row.spec.id, change).await?;
    desk.changed().await;
    with_balance(&desk, row).await.map(|budget| Versioned::ok(budget.version, budget))
}

/// Refuses an amount in a currency that is not the budget's.
pub(super) fn require_currency(checks: &mut Checks, field: &str, money: &Money, currency: Currency) {
    let message = format!("the budget is in {currency}");
    checks.require(money.currency == currency, &format!("{field}.currency"), &message);
}

pub(super) async fn with_balance(desk: &Desk, row: Row) -> Result<Budget, Problem> {
    let balance = match row.active {
        true => Some(desk.balance(row.spec.id).await?.into()),
        false => None,
    };
    Ok(Budget { balance, ..row.into() })
}

/// Whom a budget limits, and the tenant that gives it its currency and zone.
struct Subject {
    scope_id: ScopeId,
    tenant: Option<Tenant>,
}

async fn subject(desk: &Desk, scope: Scope, name: Option<&str>) -> Result<Subject, Problem> {
    let (id, tenant) = subject_ids(&*desk.store, scope, name).await?;
    let tenant = match tenant {
        Some(id) => Some(desk.store.tenant(id).await?),
        None => None,
    };
    Ok(Subject { scope_id: ScopeId(id), tenant })
}

async fn subject_ids(
    store: &dyn CatalogStore,
    scope: Scope,
    name: Option<&str>,
) -> Result<(u128, Option<TenantId>), Problem> {
    let Some(name) = name else {
        let message = format_args!("name the {} that it limits", scope.name());
        return if scope == Scope::Platform { Ok((0, None)) } else { Err(Problem::invalid_field("subject", message)) };
    };
    match scope {
        Scope::Key => {
            store.key(lookup::id(name, "key")?).await.map(|key| (key.id.as_u128(), key.tenant)).map_err(Problem::from)
        }
        Scope::User => lookup::user(store, name).await.map(|user| (user.id.as_u128(), Some(user.tenant))),
        Scope::Tenant => lookup::tenant(store, name).await.map(|tenant| (tenant.id.as_u128(), Some(tenant.id))),
        Scope::Product => lookup::product(store, name).await.map(|product| (product.id.as_u128(), None)),
        Scope::Platform => Err(Problem::invalid_field("subject", "a platform budget limits everybody: leave it out")),
        _ => Err(Problem::invalid_field("scope", "one of key, user, tenant, product, platform")),
    }
}

fn check(body: &CreateBudget, subject: &Subject, now: Timestamp) -> Result<NewBudget, Problem> {
    let mut checks = Checks::default();
    let limit = body.limit.check_positive("limit", &mut checks);
    if let Some(tenant) = &subject.tenant {
        let message = format!("the tenant's budgets are in {}", tenant.currency);
        checks.require(body.limit.currency == tenant.currency, "limit.currency", &message);
    }
    let default_zone = subject.tenant.as_ref().map_or(TimeZone::UTC, |tenant| tenant.zone.clone());
    let zone = checks.take("time_zone", body.time_zone.as_deref().map_or(Ok(default_zone), str::parse));
    let period = body.period.as_ref().map_or(CorePeriod::CalendarMonth, |period| period.anchored(now));
    if let Some(zone) = &zone {
        checks.take("period", period.window_at(zone, now));
    }
    checks.finish()?;
    Ok(NewBudget {
        scope: body.scope,
        scope_id: subject.scope_id,
        tenant: subject.tenant.as_ref().map(|tenant| tenant.id),
        currency: body.limit.currency,
        included_nanos: limit.map_or(0, Amount::nanos),
        policy: body.policy.unwrap_or(LimitPolicy::Hard),
        period,
        zone: zone.unwrap_or(TimeZone::UTC),
    })
}

fn print_subject(scope: Scope, id: ScopeId) -> Option<String> {
    Some(match scope {
        Scope::Key => KeyId::from_u128(id.0).to_string(),
        Scope::User => UserId::from_u128(id.0).to_string(),
        Scope::Tenant => TenantId::from_u128(id.0).to_string(),
        Scope::Product => ProductId::from_u128(id.0).to_string(),
        _ => return None,
    })
}
