//! Budgets: who is limited, to how much, from when to when.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::budget::{Budget, BudgetFilter, NewBudget, ScopeId};
use cfr_billing::plan::Terms;
use cfr_billing::store::{Page, PageRequest, StoreError};
use cfr_core::id::{BudgetId, TenantId, UserId};
use cfr_core::ledger::{BudgetSpec, LimitPolicy, Scope};
use cfr_core::time::{Period, TimeZone};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::audit_log;
use crate::error::Fault;
use crate::ledger::grant;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, json, query, uuid, word};
use crate::writer::Tx;

/// Writes a budget that somebody asked for.
pub(crate) async fn create(tx: &mut Tx<'_>, new: &NewBudget, act: &Act) -> Result<Budget, Fault> {
    let made = insert(tx, new).await?;
    audit_log::created(tx, act, Action::BudgetCreated, made).await
}

async fn insert(tx: &mut Tx<'_>, new: &NewBudget) -> Result<Budget, Fault> {
    check_limit(new.included_nanos)?;
    let id = BudgetId::generate(tx.now);
    let sql = "INSERT INTO budgets (id, scope, scope_id, tenant_id, currency, included, policy, period_kind, period, \
         zone, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb ->> 'kind', $8::jsonb, $9, $10)";
    let insert = query(sql)
        .bind(uuid(id.to_bytes()))
        .bind(new.scope.name())
        .bind(uuid(new.scope_id.0.to_be_bytes()))
        .bind(new.tenant.map(|tenant| uuid(tenant.to_bytes())))
        .bind(new.currency.code().to_owned())
        .bind(new.included_nanos)
        .bind(word(&new.policy)?)
        .bind(json(&new.period)?)
        .bind(new.zone.name().to_owned())
        .bind(tx.micros());
    insert.execute(tx.connection()).await?;
    require(tx.connection(), id).await
}

/// The budget that a user gets with a product. The event of the user tells of it.
pub(crate) async fn create_for_user(
    tx: &mut Tx<'_>,
    user: UserId,
    tenant: TenantId,
    zone: TimeZone,
    terms: &Terms,
) -> Result<Budget, Fault> {
    let new = NewBudget {
        scope: Scope::User,
        scope_id: ScopeId(user.as_u128()),
        tenant: Some(tenant),
        currency: terms.currency,
        included_nanos: terms.budget_included_nanos,
        policy: LimitPolicy::Hard,
        period: terms.period.clone(),
        zone,
    };
    insert(tx, &new).await
}

/// New periods of the user's budget are granted what the new terms say. `false` when the user has no budget.
pub(crate) async fn follow_terms(tx: &mut Tx<'_>, user: UserId, terms: &Terms) -> Result<bool, Fault> {
    check_limit(terms.budget_included_nanos)?;
    let sql = "UPDATE budgets SET included = $2, version = version + 1 WHERE id = \
         (SELECT id FROM budgets WHERE scope = 'user' AND scope_id = $1 ORDER BY id LIMIT 1)";
    let update = query(sql).bind(uuid(user.to_bytes())).bind(terms.budget_included_nanos);
    Ok(update.execute(tx.connection()).await?.rows_affected() > 0)
}

/// New periods of somebody's first budget are granted what `new` says; whoever has none gets it.
pub(crate) async fn follow_or_create(tx: &mut Tx<'_>, new: &NewBudget) -> Result<(), Fault> {
    check_limit(new.included_nanos)?;
    let sql = "UPDATE budgets SET included = $3, version = version + 1 WHERE id = \
         (SELECT id FROM budgets WHERE scope = $1 AND scope_id = $2 ORDER BY id LIMIT 1)";
    let update = query(sql).bind(new.scope.name()).bind(uuid(new.scope_id.0.to_be_bytes())).bind(new.included_nanos);
    match update.execute(tx.connection()).await?.rows_affected() {
        0 => insert(tx, new).await.map(drop),
        _ => Ok(()),
    }
}

/// Changes what new periods are granted, and the open one by the difference.
pub(super) async fn set_limit(
    tx: &mut Tx<'_>,
    id: BudgetId,
    version: i64,
    included: i64,
    act: &Act,
) -> Result<Budget, Fault> {
    check_limit(included)?;
    let budget = lock(tx.connection(), id).await?;
    if budget.version != version {
        return Err(StoreError::conflict("the budget was changed meanwhile").into());
    }
    grant::adjust_limit(tx, &budget, included - budget.spec.included_nanos, &act.by).await?;
    let sql = "UPDATE budgets SET included = $1, version = version + 1 WHERE id = $2";
    query(sql).bind(included).bind(uuid(id.to_bytes())).execute(tx.connection()).await?;
    let changed = require(tx.connection(), id).await?;
    audit_log::changed(tx, act, Action::BudgetChanged, &budget, changed).await
}

fn check_limit(included: i64) -> Result<(), StoreError> {
    if included >= 0 { Ok(()) } else { Err(StoreError::invalid("a limit is not negative")) }
}

async fn require(connection: &mut PgConnection, id: BudgetId) -> Result<Budget, Fault> {
    Ok(find(connection, id).await?.ok_or(StoreError::NotFound { what: "budget" })?)
}

/// A budget that nobody else changes before this transaction ends.
pub(crate) async fn lock(connection: &mut PgConnection, id: BudgetId) -> Result<Budget, Fault> {
    let query = query("SELECT * FROM budgets WHERE id = $1 FOR NO KEY UPDATE").bind(uuid(id.to_bytes()));
    from_row(&query.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "budget" })?)
}

/// Those of these budgets that money may be booked on, in the order of their ids. Nobody else changes them before this
/// transaction ends.
pub(crate) async fn lock_active(tx: &mut Tx<'_>, ids: &[BudgetId]) -> Result<Vec<Budget>, Fault> {
    const LOCK: &str = "SELECT * FROM budgets WHERE id = ANY($1) AND active ORDER BY id FOR NO KEY UPDATE";
    let ids: Vec<Uuid> = ids.iter().map(|id| uuid(id.to_bytes())).collect();
    let mut arguments = PgArguments::default();
    arguments.add(ids).map_err(sqlx::Error::Encode)?;
    let rows = tx.prepared(LOCK, arguments).fetch_all(tx.connection()).await?;
    rows.iter().map(from_row).collect()
}

/// A budget by id.
pub(super) async fn find(connection: &mut PgConnection, id: BudgetId) -> Result<Option<Budget>, Fault> {
    let query = query("SELECT * FROM budgets WHERE id = $1").bind(uuid(id.to_bytes()));
    query.fetch_optional(connection).await?.as_ref().map(from_row).transpose()
}

/// A budget that money may be booked on.
pub(crate) async fn active(connection: &mut PgConnection, id: BudgetId) -> Result<Option<Budget>, Fault> {
    Ok(find(connection, id).await?.filter(|budget| budget.active))
}

pub(super) async fn list(
    connection: &mut PgConnection,
    filter: &BudgetFilter,
    page: PageRequest,
) -> Result<Page<Budget>, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM budgets WHERE TRUE");
    if let Some(tenant) = filter.tenant {
        sql.push(" AND tenant_id = ").push_bind(uuid(tenant.to_bytes()));
    }
    if let Some(scope) = filter.scope {
        sql.push(" AND scope = ").push_bind(scope.name());
    }
    if let Some(ScopeId(id)) = filter.scope_id {
        sql.push(" AND scope_id = ").push_bind(uuid(id.to_be_bytes()));
    }
    if let Some(after) = page.after {
        sql.push(" AND id > ").push_bind(Uuid::from_u128(after.0));
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().persistent(false).fetch_all(connection).await?, page, from_row, |budget| {
        budget.spec.id.as_u128()
    })
}

/// The active budgets of the given scopes, in their order.
pub(crate) async fn path(connection: &mut PgConnection, rungs: &[(Scope, ScopeId)]) -> Result<Vec<BudgetSpec>, Fault> {
    let scopes: Vec<&str> = rungs.iter().map(|(scope, _)| scope.name()).collect();
    let ids: Vec<Uuid> = rungs.iter().map(|(_, ScopeId(id))| Uuid::from_u128(*id)).collect();
    let sql = "SELECT * FROM budgets WHERE active AND (scope, scope_id) IN \
         (SELECT * FROM unnest($1::text[], $2::uuid[])) ORDER BY id";
    let rows = query(sql).bind(scopes).bind(ids).fetch_all(connection).await?;
    let mut specs = rows.iter().map(|row| Ok(from_row(row)?.spec)).collect::<Result<Vec<BudgetSpec>, Fault>>()?;
    specs.sort_by_key(|spec| rungs.iter().position(|(scope, _)| *scope == spec.scope));
    Ok(specs)
}

pub(crate) fn from_row(row: &PgRow) -> Result<Budget, Fault> {
    let period: Period = row.json("period")?;
    let spec = BudgetSpec {
        id: row.id("id", BudgetId::from_bytes)?,
        scope: row.word("scope")?,
        currency: row.word("currency")?,
        included_nanos: row.int("included")?,
        policy: row.word("policy")?,
        period,
        zone: row.word("zone")?,
    };
    Ok(Budget {
        spec,
        tenant: row.id_opt("tenant_id", TenantId::from_bytes)?,
        scope_id: row.id("scope_id", |bytes| ScopeId(u128::from_be_bytes(bytes)))?,
        active: row.flag("active")?,
        version: row.int("version")?,
        created_at: row.time("created_at")?,
    })
}
