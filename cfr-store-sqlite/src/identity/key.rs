//! API keys by their MAC, and everything that a request with one needs.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::budget::ScopeId;
use cfr_billing::identity::{ApiKey, KeyContext, KeyMac, KeyStatus, NewKey, User};
use cfr_billing::plan::ProductVersion;
use cfr_billing::store::{Page, PageRequest, StoreError};
use cfr_core::id::{KeyId, TenantId, UserId};
use cfr_core::ledger::Scope;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{tenant, user};
use crate::audit_log;
use crate::catalog::{budget, product};
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, blob, json, word};
use crate::writer::Tx;

/// The scope id of budgets that limit everybody.
const PLATFORM: ScopeId = ScopeId(0);

/// Writes a key.
pub(crate) async fn create(tx: &mut Tx<'_>, new: &NewKey, act: &Act) -> Result<ApiKey, Fault> {
    check_owner(tx, new).await?;
    let id = KeyId::generate(tx.now);
    let sql = "INSERT INTO api_keys (id, tenant_id, user_id, name, kind, mac, prefix, last4, models, status, expires_at, \
         created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let insert = sqlx::query(sql)
        .bind(blob(id.to_bytes()))
        .bind(new.tenant.map(|id| blob(id.to_bytes())))
        .bind(new.user.map(|id| blob(id.to_bytes())))
        .bind(new.name.clone())
        .bind(word(&new.kind)?)
        .bind(&new.mac.0[..])
        .bind(new.prefix.clone())
        .bind(new.last4.clone())
        .bind(json(&new.models)?)
        .bind(word(&KeyStatus::Active)?)
        .bind(new.expires_at.map(|at| at.as_microsecond()))
        .bind(tx.micros());
    insert.execute(tx.connection()).await?;
    let made = by_id(tx.connection(), id).await?;
    audit_log::created(tx, act, Action::KeyCreated, made).await
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
    let sql = "UPDATE api_keys SET status = 'revoked', revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1";
    let at = tx.micros();
    sqlx::query(sql).bind(blob(id.to_bytes())).bind(at).execute(tx.connection()).await?;
    let revoked = by_id(tx.connection(), id).await?;
    audit_log::changed(tx, act, Action::KeyRevoked, &before, revoked).await
}

pub(crate) async fn by_id(connection: &mut SqliteConnection, id: KeyId) -> Result<ApiKey, Fault> {
    let query = sqlx::query("SELECT * FROM api_keys WHERE id = ?").bind(blob(id.to_bytes()));
    from_row(&query.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "key" })?)
}

pub(crate) async fn list(
    readers: &SqlitePool,
    tenant: Option<TenantId>,
    user: Option<UserId>,
    page: PageRequest,
) -> Result<Page<ApiKey>, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM api_keys WHERE TRUE");
    if let Some(tenant) = tenant {
        sql.push(" AND tenant_id = ").push_bind(blob(tenant.to_bytes()));
    }
    if let Some(user) = user {
        sql.push(" AND user_id = ").push_bind(blob(user.to_bytes()));
    }
    if let Some(after) = page.after {
        sql.push(" AND id > ").push_bind(after.0.to_be_bytes().to_vec());
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().fetch_all(readers).await?, page, from_row, |key| key.id.as_u128())
}

/// Key, user, tenant, product and budgets; every step is one row by its key, the budgets are one indexed read.
pub(crate) async fn context(connection: &mut SqliteConnection, mac: &KeyMac) -> Result<Option<KeyContext>, Fault> {
    let query = sqlx::query("SELECT * FROM api_keys WHERE mac = ?").bind(&mac.0[..]);
    let Some(row) = query.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let key = from_row(&row)?;
    let user = match key.user {
        Some(id) => Some(user::by_id(connection, id).await?),
        None => None,
    };
    let tenant = match key.tenant {
        Some(id) => Some(tenant::by_id(connection, id).await?),
        None => None,
    };
    let product = product_of(connection, user.as_ref()).await?;
    let budgets = budget::path(connection, &rungs(&key, product.as_ref())).await?;
    Ok(Some(KeyContext { key, user, tenant, product, budgets }))
}

async fn product_of(connection: &mut SqliteConnection, user: Option<&User>) -> Result<Option<ProductVersion>, Fault> {
    match user.and_then(|user| user.product_version) {
        Some(id) => product::version(connection, id).await.map(Some),
        None => Ok(None),
    }
}

fn rungs(key: &ApiKey, product: Option<&ProductVersion>) -> Vec<(Scope, ScopeId)> {
    let rungs = [
        (Scope::Key, Some(key.id.as_u128())),
        (Scope::User, key.user.map(UserId::as_u128)),
        (Scope::Tenant, key.tenant.map(TenantId::as_u128)),
        (Scope::Product, product.map(|version| version.product.as_u128())),
        (Scope::Platform, Some(PLATFORM.0)),
    ];
    rungs.into_iter().filter_map(|(scope, id)| Some((scope, ScopeId(id?)))).collect()
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<ApiKey, Fault> {
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
        expires_at: row.time_opt("expires_at")?,
        created_at: row.time("created_at")?,
    })
}
