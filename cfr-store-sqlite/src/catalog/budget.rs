//! Budgets: who is limited, to how much, from when to when.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::budget::{Budget, BudgetFilter, NewBudget, ScopeId};
use cfr_billing::plan::Terms;
use cfr_billing::store::{Page, PageRequest, StoreError};
use cfr_core::id::{BudgetId, TenantId, UserId};
use cfr_core::ledger::{BudgetSpec, LimitPolicy, Scope};
use cfr_core::time::{Period, TimeZone};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::audit_log;
use crate::error::Fault;
use crate::ledger::grant;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, blob, json, word};
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
         zone, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 ->> 'kind', ?8, ?9, ?10)";
    let insert = sqlx::query(sql)
        .bind(blob(id.to_bytes()))
        .bind(new.scope.name())
        .bind(blob(new.scope_id.0.to_be_bytes()))
        .bind(new.tenant.map(|tenant| blob(tenant.to_bytes())))
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
    let sql = "UPDATE budgets SET included = ?2, version = version + 1 WHERE id = \
         (SELECT id FROM budgets WHERE scope = 'user' AND scope_id = ?1 ORDER BY id LIMIT 1)";
    let update = sqlx::query(sql).bind(blob(user.to_bytes())).bind(terms.budget_included_nanos);
    Ok(update.execute(tx.connection()).await?.rows_affected() > 0)
}

/// New periods of somebody's first budget are granted what `new` says; whoever has none gets it.
pub(crate) async fn follow_or_create(tx: &mut Tx<'_>, new: &NewBudget) -> Result<(), Fault> {
    check_limit(new.included_nanos)?;
    let sql = "UPDATE budgets SET included = ?3, version = version + 1 WHERE id = \
         (SELECT id FROM budgets WHERE scope = ?1 AND scope_id = ?2 ORDER BY id LIMIT 1)";
    let update =
        sqlx::query(sql).bind(new.scope.name()).bind(blob(new.scope_id.0.to_be_bytes())).bind(new.included_nanos);
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
    let budget = require(tx.connection(), id).await?;
    if budget.version != version {
        return Err(StoreError::conflict("the budget was changed meanwhile").into());
    }
    grant::adjust_limit(tx, &budget, included - budget.spec.included_nanos, &act.by).await?;
    let sql = "UPDATE budgets SET included = ?, version = version + 1 WHERE id = ?";
    sqlx::query(sql).bind(included).bind(blob(id.to_bytes())).execute(tx.connection()).await?;
    let changed = require(tx.connection(), id).await?;
    audit_log::changed(tx, act, Action::BudgetChanged, &budget, changed).await
}

fn check_limit(included: i64) -> Result<(), StoreError> {
    if included >= 0 { Ok(()) } else { Err(StoreError::invalid("a limit is not negative")) }
}

async fn require(connection: &mut SqliteConnection, id: BudgetId) -> Result<Budget, Fault> {
    Ok(find(connection, id).await?.ok_or(StoreError::NotFound { what: "budget" })?)
}

/// A budget by id.
pub(super) async fn find(connection: &mut SqliteConnection, id: BudgetId) -> Result<Option<Budget>, Fault> {
    let query = sqlx::query("SELECT * FROM budgets WHERE id = ?").bind(blob(id.to_bytes()));
    query.fetch_optional(connection).await?.as_ref().map(from_row).transpose()
}

/// A budget that money may be booked on.
pub(crate) async fn active(connection: &mut SqliteConnection, id: BudgetId) -> Result<Option<Budget>, Fault> {
    Ok(find(connection, id).await?.filter(|budget| budget.active))
}

pub(super) async fn list(
    readers: &SqlitePool,
    filter: &BudgetFilter,
    page: PageRequest,
) -> Result<Page<Budget>, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM budgets WHERE TRUE");
    if let Some(tenant) = filter.tenant {
        sql.push(" AND tenant_id = ").push_bind(blob(tenant.to_bytes()));
    }
    if let Some(scope) = filter.scope {
        sql.push(" AND scope = ").push_bind(scope.name());
    }
    if let Some(ScopeId(id)) = filter.scope_id {
        sql.push(" AND scope_id = ").push_bind(blob(id.to_be_bytes()));
    }
    if let Some(after) = page.after {
        sql.push(" AND id > ").push_bind(after.0.to_be_bytes().to_vec());
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().fetch_all(readers).await?, page, from_row, |budget| budget.spec.id.as_u128())
}

/// The active budgets of the given scopes, in their order.
pub(crate) async fn path(
    connection: &mut SqliteConnection,
    rungs: &[(Scope, ScopeId)],
) -> Result<Vec<BudgetSpec>, Fault> {
    let mut sql =
        QueryBuilder::<Sqlite>::new("SELECT * FROM budgets WHERE active = 1 AND (scope, scope_id) IN (VALUES ");
    let mut list = sql.separated(", ");
    for (scope, ScopeId(id)) in rungs {
        list.push("(").push_bind_unseparated(scope.name()).push_unseparated(", ");
        list.push_bind_unseparated(blob(id.to_be_bytes())).push_unseparated(")");
    }
    sql.push(") ORDER BY id");
    let rows = sql.build().fetch_all(connection).await?;
    let mut specs = rows.iter().map(|row| Ok(from_row(row)?.spec)).collect::<Result<Vec<BudgetSpec>, Fault>>()?;
    specs.sort_by_key(|spec| rungs.iter().position(|(scope, _)| *scope == spec.scope));
    Ok(specs)
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<Budget, Fault> {
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
