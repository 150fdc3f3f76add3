//! Users: each address once, no more of them than tenant and product allow, and with a product a budget.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::identity::{NOT_ACTIVATED, NOT_PENDING, NewUser, Tenant, User, UserFilter, UserPatch, UserStatus};
use cfr_billing::oidc::Ending;
use cfr_billing::people::Activation;
use cfr_billing::plan::ProductVersion;
use cfr_billing::store::{Page, PageRequest, StoreError};
use cfr_billing::subscription::OWNED;
use cfr_core::id::{ProductVersionId, TenantId, UserId};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::tenant;
use crate::audit_log;
use crate::catalog::{budget, product};
use crate::error::Fault;
use crate::oidc;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, blob, word};
use crate::subscription;
use crate::writer::Tx;

/// Writes a user, and the user's budget by the product's terms.
pub(crate) async fn create(tx: &mut Tx<'_>, new: &NewUser, act: &Act) -> Result<User, Fault> {
    let made = insert(tx, new, UserStatus::Active, false).await?;
    audit_log::created(tx, act, Action::UserCreated, made).await
}

/// Writes a user: one who is active at once takes a place and gets a budget, one who is pending does not yet.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    new: &NewUser,
    status: UserStatus,
    email_verified: bool,
) -> Result<User, Fault> {
    let tenant = tenant::by_id(tx.connection(), new.tenant).await?;
    let version = terms_of(tx, new.product_version).await?;
    let id = UserId::generate(tx.now);
    if status.takes_place() {
        check_room(tx, &tenant).await?;
        check_seat(tx, tenant.id, version.as_ref()).await?;
    }
    insert_row(tx, id, new, status, email_verified).await?;
    if let Some(version) = version.filter(|_| status.takes_place()) {
        budget::create_for_user(tx, id, tenant.id, tenant.zone, &version.terms).await?;
    }
    by_id(tx.connection(), id).await
}

/// Makes a pending user an active one, with a place, the terms, and a budget by them.
pub(crate) async fn activate(tx: &mut Tx<'_>, new: &Activation, act: &Act) -> Result<User, Fault> {
    let user = by_id(tx.connection(), new.user).await?;
    if user.version != new.version {
        return Err(StoreError::conflict("the user was changed meanwhile").into());
    }
    if user.status != UserStatus::Pending {
        return Err(StoreError::conflict(NOT_PENDING).into());
    }
    let tenant = tenant::by_id(tx.connection(), user.tenant).await?;
    let terms = new.terms.or(user.product_version);
    let version = terms_of(tx, terms).await?;
    check_room(tx, &tenant).await?;
    check_seat(tx, tenant.id, version.as_ref()).await?;
    let sql = "UPDATE users SET status = 'active', product_version_id = ?2, version = version + 1, updated_at = ?3 \
         WHERE id = ?1";
    let terms = terms.map(|id| blob(id.to_bytes()));
    let update = sqlx::query(sql).bind(blob(user.id.to_bytes())).bind(terms).bind(tx.micros());
    update.execute(tx.connection()).await?;
    if let Some(version) = version {
        budget::create_for_user(tx, user.id, tenant.id, tenant.zone, &version.terms).await?;
    }
    let active = by_id(tx.connection(), user.id).await?;
    audit_log::changed(tx, act, Action::UserActivated, &user, active).await
}

/// Notes that a user reads an address, and makes it theirs.
pub(crate) async fn verify_email(tx: &mut Tx<'_>, id: UserId, email: &str, act: &Act) -> Result<User, Fault> {
    let user = by_id(tx.connection(), id).await?;
    let sql = "UPDATE users SET email = ?2, email_normal = ?3, email_verified_at = ?4, updated_at = ?4, \
         version = version + 1 WHERE id = ?1";
    let update = sqlx::query(sql).bind(blob(id.to_bytes())).bind(email).bind(normal(email)).bind(tx.micros());
    update.execute(tx.connection()).await?;
    let verified = by_id(tx.connection(), id).await?;
    audit_log::changed(tx, act, Action::EmailVerified, &user, verified).await
}

async fn terms_of(tx: &mut Tx<'_>, id: Option<ProductVersionId>) -> Result<Option<ProductVersion>, Fault> {
    match id {
        Some(id) => product::version(tx.connection(), id).await.map(Some),
        None => Ok(None),
    }
}

async fn insert_row(
    tx: &mut Tx<'_>,
    id: UserId,
    new: &NewUser,
    status: UserStatus,
    email_verified: bool,
) -> Result<(), Fault> {
    let sql = "INSERT INTO users (id, tenant_id, email, email_normal, name, role, status, product_version_id, \
         created_at, updated_at, email_verified_at, locale) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11)";
    let insert = sqlx::query(sql)
        .bind(blob(id.to_bytes()))
        .bind(blob(new.tenant.to_bytes()))
        .bind(new.email.clone())
        .bind(normal(&new.email))
        .bind(new.name.clone())
        .bind(word(&new.role)?)
        .bind(word(&status)?)
        .bind(new.product_version.map(|id| blob(id.to_bytes())))
        .bind(tx.micros())
        .bind(email_verified.then(|| tx.micros()))
        .bind(new.locale.as_ref().map(word).transpose()?);
    insert.execute(tx.connection()).await?;
    Ok(())
}

/// The form in which two addresses are the same.
pub(crate) fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

async fn check_room(tx: &mut Tx<'_>, tenant: &Tenant) -> Result<(), Fault> {
    let seats = subscription::live(tx.connection(), tenant.id.as_u128()).await?.and_then(|live| live.seats);
    let Some(max) = tenant.users_max.into_iter().chain(seats).min() else { return Ok(()) };
    if count(tx, tenant.id).await? < i64::from(max) {
        return Ok(());
    }
    Err(StoreError::conflict(format_args!("the tenant has all of its {max} users")).into())
}

/// Users of a tenant who have a place.
pub(crate) async fn count(tx: &mut Tx<'_>, tenant: TenantId) -> Result<i64, Fault> {
    let sql = "SELECT count(*) FROM users WHERE tenant_id = ? AND status IN ('active', 'suspended')";
    let query = sqlx::query_scalar(sql).bind(blob(tenant.to_bytes()));
    Ok(query.fetch_one(tx.connection()).await?)
}

async fn check_seat(tx: &mut Tx<'_>, tenant: TenantId, version: Option<&ProductVersion>) -> Result<(), Fault> {
    let Some(version) = version else { return Ok(()) };
    let Some(seats) = version.terms.seats else { return Ok(()) };
    let sql = "SELECT count(*) FROM users u JOIN product_versions v ON v.id = u.product_version_id \
         WHERE u.tenant_id = ? AND u.status IN ('active', 'suspended') AND v.product_id = ?";
    let query = sqlx::query_scalar(sql).bind(blob(tenant.to_bytes())).bind(blob(version.product.to_bytes()));
    let taken: i64 = query.fetch_one(tx.connection()).await?;
    if taken < i64::from(seats) {
        return Ok(());
    }
    Err(StoreError::conflict(format_args!("all {seats} seats of the product `{}` are taken", version.code)).into())
}

/// Changes a user if its version is still `version`, and no subscription says the terms.
pub(crate) async fn update(
    tx: &mut Tx<'_>,
    id: UserId,
    version: i64,
    patch: &UserPatch,
    act: &Act,
) -> Result<User, Fault> {
    if patch.product_version.is_some() && subscription::last(tx.connection(), id.as_u128()).await?.is_some() {
        return Err(StoreError::conflict(OWNED).into());
    }
    change(tx, id, version, patch, act).await
}

/// Changes a user if its version is still `version`.
pub(crate) async fn change(
    tx: &mut Tx<'_>,
    id: UserId,
    version: i64,
    patch: &UserPatch,
    act: &Act,
) -> Result<User, Fault> {
    let user = by_id(tx.connection(), id).await?;
    if user.version != version {
        return Err(StoreError::conflict("the user was changed meanwhile").into());
    }
    user.check_change(patch)?;
    check_return(tx, &user, patch).await?;
    if patch.product_version.is_some() && !user.status.waits() {
        change_terms(tx, &user, patch.product_version).await?;
    }
    let sql = "UPDATE users SET name = ?2, role = ?3, status = ?4, product_version_id = ?5, version = version + 1, \
         updated_at = ?6, locale = ?7 WHERE id = ?1";
    let terms = patch.product_version.or(user.product_version);
    let update = sqlx::query(sql)
        .bind(blob(id.to_bytes()))
        .bind(patch.name.as_ref().unwrap_or(&user.name).clone())
        .bind(word(&patch.role.unwrap_or(user.role))?)
        .bind(word(&patch.status.unwrap_or(user.status))?)
        .bind(terms.map(|id| blob(id.to_bytes())))
        .bind(tx.micros())
        .bind(patch.locale.or(user.locale).as_ref().map(word).transpose()?);
    update.execute(tx.connection()).await?;
    let changed = by_id(tx.connection(), id).await?;
    if changed.status != UserStatus::Active {
        oidc::end_sessions(tx, Ending::User(id), act).await?;
    }
    audit_log::changed(tx, act, Action::UserChanged, &user, changed).await
}

/// A deleted user who comes back needs a place like a new one, and who waits is activated.
async fn check_return(tx: &mut Tx<'_>, user: &User, patch: &UserPatch) -> Result<(), Fault> {
    let returns = !user.status.takes_place() && patch.status.is_some_and(UserStatus::takes_place);
    if !returns {
        return Ok(());
    }
    if user.status.waits() {
        return Err(StoreError::conflict(NOT_ACTIVATED).into());
    }
    let tenant = tenant::by_id(tx.connection(), user.tenant).await?;
    check_room(tx, &tenant).await?;
    let version = terms_of(tx, user.product_version).await?;
    check_seat(tx, tenant.id, version.as_ref()).await
}

async fn change_terms(tx: &mut Tx<'_>, user: &User, wanted: Option<ProductVersionId>) -> Result<(), Fault> {
    let Some(version) = terms_of(tx, wanted).await? else { return Ok(()) };
    let before = terms_of(tx, user.product_version).await?;
    if before.is_none_or(|before| before.product != version.product) {
        check_seat(tx, user.tenant, Some(&version)).await?;
    }
    if !budget::follow_terms(tx, user.id, &version.terms).await? {
        let tenant = tenant::by_id(tx.connection(), user.tenant).await?;
        budget::create_for_user(tx, user.id, tenant.id, tenant.zone, &version.terms).await?;
    }
    Ok(())
}

pub(crate) async fn by_id(connection: &mut SqliteConnection, id: UserId) -> Result<User, Fault> {
    let query = sqlx::query("SELECT * FROM users WHERE id = ?").bind(blob(id.to_bytes()));
    from_row(&query.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "user" })?)
}

pub(crate) async fn by_email(readers: &SqlitePool, email: &str) -> Result<Option<User>, Fault> {
    let query = sqlx::query("SELECT * FROM users WHERE email_normal = ?").bind(normal(email));
    query.fetch_optional(readers).await?.as_ref().map(from_row).transpose()
}

pub(crate) async fn list(readers: &SqlitePool, filter: &UserFilter, page: PageRequest) -> Result<Page<User>, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM users WHERE TRUE");
    if let Some(tenant) = filter.tenant {
        sql.push(" AND tenant_id = ").push_bind(blob(tenant.to_bytes()));
    }
    if let Some(status) = filter.status {
        sql.push(" AND status = ").push_bind(word(&status)?);
    }
    if let Some(after) = page.after {
        sql.push(" AND id > ").push_bind(after.0.to_be_bytes().to_vec());
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().fetch_all(readers).await?, page, from_row, |user| user.id.as_u128())
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<User, Fault> {
    Ok(User {
        id: row.id("id", UserId::from_bytes)?,
        tenant: row.id("tenant_id", TenantId::from_bytes)?,
        email: row.text("email")?,
        name: row.text("name")?,
        role: row.word("role")?,
        status: row.word("status")?,
        product_version: row.id_opt("product_version_id", ProductVersionId::from_bytes)?,
        email_verified_at: row.time_opt("email_verified_at")?,
        locale: row.word_opt("locale")?,
        version: row.int("version")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
