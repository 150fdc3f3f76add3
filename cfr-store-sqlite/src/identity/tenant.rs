//! Tenants.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::identity::{NewTenant, Tenant, TenantPatch, TenantStatus};
use cfr_billing::store::{Page, PageRequest, StoreError};
use cfr_core::id::TenantId;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::audit_log;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, blob, json, word};
use crate::writer::Tx;

/// Writes a tenant.
pub(crate) async fn create(tx: &mut Tx<'_>, new: &NewTenant, act: &Act) -> Result<Tenant, Fault> {
    check_slug(&new.slug)?;
    let id = TenantId::generate(tx.now);
    let sql = "INSERT INTO tenants (id, slug, name, domain, kind, status, users_max, zone, currency, created_at, \
         updated_at, settings) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11)";
    let insert = sqlx::query(sql)
        .bind(blob(id.to_bytes()))
        .bind(new.slug.clone())
        .bind(new.name.clone())
        .bind(new.domain.clone())
        .bind(word(&new.kind)?)
        .bind(word(&TenantStatus::Active)?)
        .bind(new.users_max)
        .bind(new.zone.name().to_owned())
        .bind(new.currency.code().to_owned())
        .bind(tx.micros())
        .bind(json(&new.settings)?);
    insert.execute(tx.connection()).await?;
    let made = by_id(tx.connection(), id).await?;
    audit_log::created(tx, act, Action::TenantCreated, made).await
}

/// Lower case letters, digits and `-`: what is safe in host names and paths.
fn check_slug(slug: &str) -> Result<(), StoreError> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !slug.is_empty() && slug.bytes().all(fine) {
        return Ok(());
    }
    Err(StoreError::invalid("a slug has lower case letters, digits and `-`"))
}

/// Changes a tenant if its version is still `version`.
pub(crate) async fn update(
    tx: &mut Tx<'_>,
    id: TenantId,
    version: i64,
    patch: &TenantPatch,
    act: &Act,
) -> Result<Tenant, Fault> {
    let tenant = by_id(tx.connection(), id).await?;
    if tenant.version != version {
        return Err(StoreError::conflict("the tenant was changed meanwhile").into());
    }
    let sql = "UPDATE tenants SET name = ?2, status = ?3, users_max = ?4, settings = ?6, version = version + 1, \
         updated_at = ?5 WHERE id = ?1";
    let update = sqlx::query(sql)
        .bind(blob(id.to_bytes()))
        .bind(patch.name.as_ref().unwrap_or(&tenant.name).clone())
        .bind(word(&patch.status.unwrap_or(tenant.status))?)
        .bind(patch.users_max.unwrap_or(tenant.users_max))
        .bind(tx.micros())
        .bind(json(patch.settings.as_ref().unwrap_or(&tenant.settings))?);
    update.execute(tx.connection()).await?;
    let changed = by_id(tx.connection(), id).await?;
    audit_log::changed(tx, act, Action::TenantChanged, &tenant, changed).await
}

pub(crate) async fn by_id(connection: &mut SqliteConnection, id: TenantId) -> Result<Tenant, Fault> {
    let query = sqlx::query("SELECT * FROM tenants WHERE id = ?").bind(blob(id.to_bytes()));
    from_row(&query.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "tenant" })?)
}

pub(crate) async fn by_slug(readers: &SqlitePool, slug: &str) -> Result<Option<Tenant>, Fault> {
    let query = sqlx::query("SELECT * FROM tenants WHERE slug = ?").bind(slug);
    query.fetch_optional(readers).await?.as_ref().map(from_row).transpose()
}

pub(crate) async fn list(readers: &SqlitePool, page: PageRequest) -> Result<Page<Tenant>, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM tenants");
    if let Some(after) = page.after {
        sql.push(" WHERE id > ").push_bind(after.0.to_be_bytes().to_vec());
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().fetch_all(readers).await?, page, from_row, |tenant| tenant.id.as_u128())
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<Tenant, Fault> {
    Ok(Tenant {
        id: row.id("id", TenantId::from_bytes)?,
        slug: row.text("slug")?,
        name: row.text("name")?,
        domain: row.text_opt("domain")?,
        kind: row.word("kind")?,
        status: row.word("status")?,
        users_max: row.number_opt("users_max")?,
        zone: row.word("zone")?,
        currency: row.word("currency")?,
        settings: row.json("settings")?,
        version: row.int("version")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
