//! `/users/{user}/activate` and `/reject`: what becomes of who waits to be admitted.

use axum::extract::Path;
use cfr_billing::identity::{KeyKind, User as Row, UserPatch, UserStatus};
use cfr_billing::people::{Activation, Mail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::idempotency::ShownOnce;
use super::input::{Checks, Json};
use super::lookup::{self, Memo};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::users::{self, User, product_version};
use crate::auth::KeyWish;
use crate::mail::Template;

/// The fields of an answer that are shown once.
const SECRETS: &[&str] = &["secret"];

/// How a pending user is admitted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActivateUser {
    /// The id or code of a product, whose newest version they get with a budget by its terms; the one that they signed up
    /// for when absent.
    #[schema(example = "starter")]
    pub(crate) product: Option<String>,
    /// The name of a first key for them, whose secret the answer has.
    #[schema(example = "first key")]
    pub(crate) first_key: Option<String>,
}

/// A user who was just admitted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActivatedUser {
    /// The user.
    pub(crate) user: User,
    /// The secret of the first key, when one was asked for. It is stored nowhere, and null when the same request is repeated.
    #[schema(example = "cfr_live_2xTq0d8HkVnW3sYbL5mZp7RcJfGaE4u1Xn9fQa")]
    pub(crate) secret: Option<String>,
}

/// Admit a pending user: a place in the tenant, the product, a budget by its terms and a first key, all of it or nothing.
#[utoipa::path(post, path = "/users/{user}/activate", operation_id = "activate_user", tag = "users",
    request_body = ActivateUser,
    params(("user" = String, Path, description = "Id or e-mail address"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the decision was made for")),
    responses((status = 201, description = "The user, and the secret of the first key", body = ActivatedUser), Problems))]
pub(crate) async fn activate(
    desk: Desk,
    Acting(act): Acting,
    Path(user): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ActivateUser>,
) -> Result<ShownOnce<ActivatedUser>, Problem> {
    let mut checks = Checks::default();
    body.first_key.iter().for_each(|name| checks.name("first_key", name));
    checks.finish()?;
    let row = pending(&desk, &user, &if_match).await?;
    let tenant = desk.store.tenant(row.tenant).await?;
    let terms = product_version(&desk, body.product.as_deref(), tenant.currency).await?;
    desk.view.check_admission(row.tenant, row.role, terms.or(row.product_version)).await?;
    let (secret, first_key) = match body.first_key {
        Some(name) => {
            let wish = KeyWish { tenant: Some(row.tenant), user: Some(row.id), ..KeyWish::new(KeyKind::Live, &name) };
            let (text, key) = desk.keys().prepare(wish)?;
            (Some(text), Some(key))
        }
        None => (None, None),
    };
    let letter = letter(&desk, &row, &tenant.name, row.locale.unwrap_or(tenant.settings.locale)).await?;
    let new = Activation { user: row.id, version: row.version, terms, first_key, letter };
    let (active, _) = desk.within(Some(row.tenant))?.activate(&new, &act).await?;
    desk.changed().await;
    let user = users::present(active, &mut Memo::new(&*desk.store)).await?;
    let secret = secret.map(|text| text.expose().to_owned());
    Ok(ShownOnce { body: ActivatedUser { user, secret }, secrets: SECRETS })
}

/// Turn a pending user down. The address stays taken, so that they do not ask again.
#[utoipa::path(post, path = "/users/{user}/reject", operation_id = "reject_user", tag = "users",
    params(("user" = String, Path, description = "Id or e-mail address"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the decision was made for")),
    responses((status = 200, description = "The user as they are now", body = User,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn reject(
    desk: Desk,
    Acting(act): Acting,
    Path(user): Path<String>,
    if_match: IfMatch,
) -> Result<Versioned<User>, Problem> {
    let row = pending(&desk, &user, &if_match).await?;
    let patch = UserPatch { status: Some(UserStatus::Rejected), ..UserPatch::default() };
    let row = desk.store.update_user(row.id, row.version, &patch, &act).await?;
    Ok(Versioned::ok(row.version, users::present(row, &mut Memo::new(&*desk.store)).await?))
}

async fn pending(desk: &Desk, user: &str, if_match: &IfMatch) -> Result<Row, Problem> {
    let row = lookup::user(&*desk.store, user).await?;
    if_match.check(row.version)?;
    match row.status {
        UserStatus::Pending => Ok(row),
        _ => Err(Problem::conflict(cfr_billing::identity::NOT_PENDING)),
    }
}

async fn letter(
    desk: &Desk,
    user: &Row,
    tenant: &str,
    language: cfr_billing::identity::Language,
) -> Result<Option<Mail>, Problem> {
    let letters = desk.letters();
    if !letters.are_sent() {
        return Ok(None);
    }
    let values = json!({ "name": user.name, "tenant": tenant });
    let letter = letters.write(&user.email, language, Template::Activated, &values, desk.now()).await;
    letter.map(Some).map_err(Problem::internal)
}
