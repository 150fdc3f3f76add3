//! `/users`: people. A new user on a product gets a budget by its terms in the same transaction.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::budget::{BudgetFilter, ScopeId};
use cfr_billing::identity::{Language, NewUser, Role, User as Row, UserFilter, UserPatch, UserStatus};
use cfr_billing::store::{NO_PLATFORM_ADMIN, PageRequest};
use cfr_core::id::{ProductVersionId, TenantId, UserId};
use cfr_core::ledger::Scope;
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::{Checks, Json, Params};
use super::lookup::{self, Memo};
use super::page::{Listing, page_request};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::schema;
use crate::auth::access::Subject;

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    /// Their id.
    #[schema(value_type = schema::UserId)]
    pub(crate) id: UserId,
    /// Their tenant.
    #[schema(value_type = schema::TenantId)]
    pub(crate) tenant: TenantId,
    /// Their address; it may stand wherever the id may.
    #[schema(value_type = String, example = "anna@acme.example")]
    pub(crate) email: Arc<str>,
    /// Their name.
    #[schema(value_type = String, example = "Anna Schmidt")]
    pub(crate) name: Arc<str>,
    /// What they may do.
    #[schema(value_type = schema::Role)]
    pub(crate) role: Role,
    /// Where they are in their life.
    #[schema(value_type = schema::UserStatus)]
    pub(crate) status: UserStatus,
    /// The code of the product that they are on.
    #[schema(value_type = Option<String>, example = "starter")]
    pub(crate) product: Option<Arc<str>>,
    /// The version of it.
    #[schema(value_type = Option<schema::ProductVersionId>)]
    pub(crate) product_version: Option<ProductVersionId>,
    /// When they proved that they read their address.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) email_verified_at: Option<Timestamp>,
    /// The language that they are written to in; null for their tenant's.
    #[schema(value_type = Option<schema::Language>)]
    pub(crate) locale: Option<Language>,
    /// Counts changes; also in `etag`.
    pub(crate) version: i64,
    /// When the user was made.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
    /// When the user was last changed.
    #[schema(value_type = schema::Time)]
    pub(crate) updated_at: Timestamp,
}

/// A user to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateUser {
    /// The tenant's id or slug.
    #[schema(example = "acme")]
    pub(crate) tenant: String,
    /// Unique without regard to case.
    #[schema(example = "anna@acme.example", format = Email, max_length = 254)]
    pub(crate) email: String,
    /// The address when absent.
    #[schema(example = "Anna Schmidt")]
    pub(crate) name: Option<String>,
    /// `user` when absent.
    #[schema(value_type = Option<schema::Role>)]
    pub(crate) role: Option<Role>,
    /// The id or code of a product, whose newest version they get.
    #[schema(example = "starter")]
    pub(crate) product: Option<String>,
    /// The language that they are written to in; their tenant's when absent.
    #[schema(value_type = Option<schema::Language>)]
    pub(crate) locale: Option<Language>,
}

/// What to change of a user; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeUser {
    /// A new name.
    pub(crate) name: Option<String>,
    /// A new role.
    #[schema(value_type = Option<schema::Role>)]
    pub(crate) role: Option<Role>,
    /// A new state. Who is pending is activated or rejected instead.
    #[schema(value_type = Option<schema::UserStatus>)]
    pub(crate) status: Option<UserStatus>,
    /// The language that they are written to in.
    #[schema(value_type = Option<schema::Language>)]
    pub(crate) locale: Option<Language>,
    /// The id or code of another product. Its terms hold for new requests; the budget follows with its next period.
    pub(crate) product: Option<String>,
}

/// Which users.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserQuery {
    /// Only those of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// Only those in this state: `pending` is the queue of who waits to be admitted.
    #[param(value_type = Option<schema::UserStatus>)]
    pub(crate) status: Option<UserStatus>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List users in the order of their creation.
#[utoipa::path(get, path = "/users", operation_id = "list_users", tag = "users", params(UserQuery),
    responses((status = 200, description = "A page of users", body = Listing<User>), Problems))]
pub(crate) async fn list(desk: Desk, Params(query): Params<UserQuery>) -> Result<Answer<Listing<User>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let tenant = lookup::tenant_filter(&*desk.store, query.tenant.as_deref()).await?;
    let filter = UserFilter { tenant, status: query.status };
    let rows = desk.store.users(&filter, page).await?;
    let mut memo = Memo::new(&*desk.store);
    let mut items = Vec::with_capacity(rows.items.len());
    for row in rows.items {
        items.push(present(row, &mut memo).await?);
    }
    Ok(Answer(Listing::page(items, rows.next)))
}

/// Create a user.
#[utoipa::path(post, path = "/users", operation_id = "create_user", tag = "users", request_body = CreateUser,
    responses((status = 201, description = "The new user", body = User,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateUser>,
) -> Result<Versioned<User>, Problem> {
    let name = body.name.as_deref().unwrap_or(&body.email);
    let mut checks = Checks::default();
    checks.email("email", &body.email);
    checks.name("name", name);
    checks.finish()?;
    check_role(&desk, body.role)?;
    let tenant = lookup::named("tenant", lookup::tenant(&*desk.store, &body.tenant).await)?;
    let new = NewUser {
        tenant: tenant.id,
        email: body.email.as_str().into(),
        name: name.into(),
        role: body.role.unwrap_or(Role::User),
        product_version: product_version(&desk, body.product.as_deref(), tenant.currency).await?,
        locale: body.locale,
    };
    let row = desk.store.create_user(&new, &act).await?;
    desk.changed().await;
    let version = row.version;
    Ok(Versioned::created(version, present(row, &mut Memo::new(&*desk.store)).await?))
}

/// Show a user.
#[utoipa::path(get, path = "/users/{user}", operation_id = "get_user", tag = "users",
    params(("user" = String, Path, description = "Id or e-mail address")),
    responses((status = 200, description = "The user", body = User,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn show(desk: Desk, Path(user): Path<String>) -> Result<Versioned<User>, Problem> {
    let row = lookup::user(&*desk.store, &user).await?;
    Ok(Versioned::ok(row.version, present(row, &mut Memo::new(&*desk.store)).await?))
}

/// Change a user. The requests of a user who is not active are refused at once.
#[utoipa::path(patch, path = "/users/{user}", operation_id = "update_user", tag = "users", request_body = ChangeUser,
    params(("user" = String, Path, description = "Id or e-mail address"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "The user as they are now", body = User,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    Path(user): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ChangeUser>,
) -> Result<Versioned<User>, Problem> {
    let mut checks = Checks::default();
    if let Some(name) = &body.name {
        checks.name("name", name);
    }
    checks.finish()?;
    check_role(&desk, body.role)?;
    let row = lookup::user(&*desk.store, &user).await?;
    if_match.check(row.version)?;
    let currency = desk.store.tenant(row.tenant).await?.currency;
    let patch = UserPatch {
        name: body.name.map(Into::into),
        role: body.role,
        status: body.status,
        locale: body.locale,
        product_version: product_version(&desk, body.product.as_deref(), currency).await?,
    };
    let before = row.role;
    let row = desk.store.update_user(row.id, row.version, &patch, &act).await?;
    if row.role != before {
        // What somebody may do has changed: they sign in anew for it.
        desk.of_user(&row)?.end_sessions(row.id, None, &act).await?;
    }
    if patch.product_version.is_some() {
        forget_budgets(&desk, row.id).await?;
    }
    desk.changed().await;
    Ok(Versioned::ok(row.version, present(row, &mut Memo::new(&*desk.store)).await?))
}

/// A role is given by somebody who proved of late who they are, and that of the platform's administrators on the command line
/// alone.
fn check_role(desk: &Desk, role: Option<Role>) -> Result<(), Problem> {
    match role {
        None | Some(Role::User | Role::Guest) => Ok(()),
        Some(Role::Admin) if desk.access.subject != Subject::Operator => {
            Err(Problem::invalid_field("role", NO_PLATFORM_ADMIN))
        }
        Some(_) => desk.require_recent_proof(),
    }
}

/// The newest version of a product that new customers of a tenant with this currency can have.
pub(super) async fn product_version(
    desk: &Desk,
    product: Option<&str>,
    currency: Currency,
) -> Result<Option<ProductVersionId>, Problem> {
    let Some(name) = product else { return Ok(None) };
    let product = lookup::named("product", lookup::product(&*desk.store, name).await)?;
    let mut checks = Checks::default();
    checks.require(product.active, "product", "it is closed for new customers");
    let sold_in = product.current.terms.currency;
    let message = format!("it is sold in {sold_in}, and the tenant's budgets are in {currency}");
    checks.require(sold_in == currency, "product", &message);
    checks.finish()?;
    Ok(Some(product.current.id))
}

/// The ledger reads the terms of the user's budgets anew.
async fn forget_budgets(desk: &Desk, user: UserId) -> Result<(), Problem> {
    let filter = BudgetFilter { scope: Some(Scope::User), scope_id: Some(ScopeId(user.as_u128())), tenant: None };
    for budget in desk.store.budgets(&filter, PageRequest::default()).await?.items {
        desk.forget_budget(budget.spec.id).await;
    }
    Ok(())
}

pub(super) async fn present(row: Row, memo: &mut Memo<'_>) -> Result<User, Problem> {
    let product = match row.product_version {
        Some(id) => Some(Arc::clone(&memo.version(id).await?.code)),
        None => None,
    };
    Ok(User {
        id: row.id,
        tenant: row.tenant,
        email: row.email,
        name: row.name,
        role: row.role,
        status: row.status,
        product,
        product_version: row.product_version,
        email_verified_at: row.email_verified_at,
        locale: row.locale,
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}
