//! API keys by their MAC, and everything that a request with one needs.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::budget::{NewBudget, ScopeId};
use cfr_billing::identity::{ApiKey, KeyContext, KeyMac, KeyStatus, NewKey, User, UserContext};
use cfr_billing::plan::ProductVersion;
use cfr_billing::store::{Page, PageRequest, StoreError};
use cfr_billing::subscription::Subscription;
use cfr_core::id::{KeyId, TenantId, UserId};
use cfr_core::ledger::{LimitPolicy, Scope};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::{tenant, user};
use crate::audit_log;
use crate::catalog::{budget, product};
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, json, query, uuid, word};
use crate::subscription;
use crate::writer::Tx;

mod change;

pub(crate) use change::{revoke_secret, rotate, touch, update};

/// The scope id of budgets that limit everybody.
const PLATFORM: ScopeId = ScopeId(0);

/// Writes a key.
pub(crate) async fn create(tx: &mut Tx<'_>, new: &NewKey, act: &Act) -> Result<ApiKey, Fault> {
    check_owner(tx, new).await?;
    let id = KeyId::generate(tx.now);
    let sql = "INSERT INTO api_keys (id, tenant_id, user_id, name, kind, mac, prefix, last4, models, status, expires_at, \
         created_at, rules, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11, $12, $13::jsonb, $14)";
    let insert = query(sql)
        .bind(uuid(id.to_bytes()))
        .bind(new.tenant.map(|id| uuid(id.to_bytes())))
        .bind(new.user.map(|id| uuid(id.to_bytes())))
        .bind(new.name.clone())
        .bind(word(&new.kind)?)
        .bind(&new.mac.0[..])
        .bind(new.prefix.clone())
        .bind(new.last4.clone())
        .bind(json(&new.models)?)
        .bind(word(&KeyStatus::Active)?)
        .bind(new.expires_at.map(|at| at.as_microsecond()))
        .bind(tx.micros())
        .bind(json(&new.rules)?)
        .bind(act.by.label());
    insert.execute(tx.connection()).await?;
    let made = by_id(tx.connection(), id).await?;
    let made = audit_log::created(tx, act, Action::KeyCreated, made).await?;
    create_budget(tx, &made, new, act).await?;
    Ok(made)
}

/// The budget that a key was to have of its own.
async fn create_budget(tx: &mut Tx<'_>, key: &ApiKey, new: &NewKey, act: &Act) -> Result<(), Fault> {
    let Some(wanted) = &new.budget else { return Ok(()) };
    let tenant = key.tenant.ok_or_else(|| StoreError::invalid("the key of a tenant has a budget"))?;
    let tenant = tenant::by_id(tx.connection(), tenant).await?;
    let budget = NewBudget {
        scope: Scope::Key,
        scope_id: ScopeId(key.id.as_u128()),
        tenant: Some(tenant.id),
        currency: tenant.currency,
        included_nanos: wanted.included_nanos,
        policy: LimitPolicy::Hard,
        period: wanted.period.clone(),
        zone: tenant.zone,
    };
    budget::create(tx, &budget, act).await?;
    Ok(())
}

async fn check_owner(tx: &mut Tx<'_>, new: &NewKey) -> Result<(), Fault> {
    if let Some(tenant) = new.tenant {
        tenant::by_id(tx.connection(), tenant).await?;
    }
    let Some(user) = new.user else { return Ok(()) };
    let user = user::by_id(tx.connection(), user).await?;
    if new.tenant == Some(user.tenant) {
        return Ok(());
    }
    Err(StoreError::invalid("the key of a user belongs to the user's tenant").into())
}

/// Revokes a key for good.
pub(crate) async fn revoke(tx: &mut Tx<'_>, id: KeyId, act: &Act) -> Result<ApiKey, Fault> {
    let before = by_id(tx.connection(), id).await?;
    let sql = "UPDATE api_keys SET status = 'revoked', revoked_at = coalesce(revoked_at, $2) WHERE id = $1";
    let at = tx.micros();
    query(sql).bind(uuid(id.to_bytes())).bind(at).execute(tx.connection()).await?;
    let revoked = by_id(tx.connection(), id).await?;
    audit_log::changed(tx, act, Action::KeyRevoked, &before, revoked).await
}

pub(crate) async fn by_id(connection: &mut PgConnection, id: KeyId) -> Result<ApiKey, Fault> {
    let query = query("SELECT * FROM api_keys WHERE id = $1").bind(uuid(id.to_bytes()));
    from_row(&query.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "key" })?)
}

pub(crate) async fn list(
    connection: &mut PgConnection,
    tenant: Option<TenantId>,
    user: Option<UserId>,
    page: PageRequest,
) -> Result<Page<ApiKey>, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM api_keys WHERE TRUE");
    if let Some(tenant) = tenant {
        sql.push(" AND tenant_id = ").push_bind(uuid(tenant.to_bytes()));
    }
    if let Some(user) = user {
        sql.push(" AND user_id = ").push_bind(uuid(user.to_bytes()));
    }
    if let Some(after) = page.after {
        sql.push(" AND id > ").push_bind(Uuid::from_u128(after.0));
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().persistent(false).fetch_all(connection).await?, page, from_row, |key| key.id.as_u128())
}

/// Key, user, tenant, product and budgets; every step is one row by its key, the budgets are one indexed read.
pub(crate) async fn context(connection: &mut PgConnection, mac: &KeyMac) -> Result<Option<KeyContext>, Fault> {
    let query =
        query("SELECT *, mac <> $1 AS superseded FROM api_keys WHERE mac = $1 OR old_mac = $1").bind(&mac.0[..]);
    let Some(row) = query.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let (key, superseded) = (from_row(&row)?, row.flag("superseded")?);
    let user = match key.user {
        Some(id) => Some(user::by_id(connection, id).await?),
        None => None,
    };
    let tenant = match key.tenant {
        Some(id) => Some(tenant::by_id(connection, id).await?),
        None => None,
    };
    let subscription = subscription::governing(connection, key.user, key.tenant).await?;
    let product = product_of(connection, user.as_ref(), subscription.as_ref()).await?;
    let budgets = budget::path(connection, &rungs(Some(key.id), key.user, key.tenant, product.as_ref())).await?;
    Ok(Some(KeyContext { key, superseded, user, tenant, product, subscription, budgets }))
}

/// The terms: the user's own, or those of the subscription that governs the request.
async fn product_of(
    connection: &mut PgConnection,
    user: Option<&User>,
    subscription: Option<&Subscription>,
) -> Result<Option<ProductVersion>, Fault> {
    let own = user.and_then(|user| user.product_version);
    match own.or(subscription.map(|subscription| subscription.product_version)) {
        Some(id) => product::version(connection, id).await.map(Some),
        None => Ok(None),
    }
}

/// What a user's own request needs, without a key or with one that acts for them.
pub(crate) async fn user_context(
    connection: &mut PgConnection,
    user: UserId,
    key: Option<KeyId>,
) -> Result<UserContext, Fault> {
    let user = user::by_id(connection, user).await?;
    let tenant = tenant::by_id(connection, user.tenant).await?;
    let subscription = subscription::governing(connection, Some(user.id), Some(tenant.id)).await?;
    let product = product_of(connection, Some(&user), subscription.as_ref()).await?;
    let rungs = rungs(key, Some(user.id), Some(tenant.id), product.as_ref());
    let budgets = budget::path(connection, &rungs).await?;
    Ok(UserContext { user, tenant, product, subscription, budgets })
}

fn rungs(
    key: Option<KeyId>,
    user: Option<UserId>,
    tenant: Option<TenantId>,
    product: Option<&ProductVersion>,
) -> Vec<(Scope, ScopeId)> {
    let rungs = [
        (Scope::Key, key.map(KeyId::as_u128)),
        (Scope::User, user.map(UserId::as_u128)),
        (Scope::Tenant, tenant.map(TenantId::as_u128)),
        (Scope::Product, product.map(|version| version.product.as_u128())),
        (Scope::Platform, Some(PLATFORM.0)),
    ];
    rungs.into_iter().filter_map(|(scope, id)| Some((scope, ScopeId(id?)))).collect()
}

pub(crate) fn from_row(row: &PgRow) -> Result<ApiKey, Fault> {
    Ok(ApiKey {
        id: row.id("id", KeyId::from_bytes)?,
        tenant: row.id_opt("tenant_id", TenantId::from_bytes)?,
        user: row.id_opt("user_id", UserId::from_bytes)?,
        name: row.text("name")?,
        kind: row.word("kind")?,
        prefix: row.text("prefix")?,
        last4: row.text("last4")?,
        models: row.json("models")?,
        status: row.word("status")?,
        rules: row.json("rules")?,
        expires_at: row.time_opt("expires_at")?,
        grace_until: row.time_opt("grace_until")?,
        used_at: row.time_opt("used_at")?,
        created_by: row.text_opt("created_by")?,
        version: row.int("version")?,
        created_at: row.time("created_at")?,
    })
}
