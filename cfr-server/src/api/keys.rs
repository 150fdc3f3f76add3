//! `/keys`: API keys. A secret is in the answer that makes it, and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::identity::{ApiKey as Row, KeyKind, KeyStatus};
use cfr_core::id::{KeyId, TenantId, UserId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::idempotency::ShownOnce;
use super::input::{Json, Params};
use super::page::{Listing, page_request};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::{lookup, schema};
use crate::auth::access::Subject;

mod rights;
mod wish;

use self::rights::{check_currency, check_owner_may, check_scopes, owner};
use self::wish::{ChangeKey, CreateKey};

/// How long the secret before works beside a new one, when nobody says otherwise (money.md §5.3).
const GRACE: Duration = Duration::from_hours(24);
/// The longest such time.
const GRACE_SECONDS_MAX: u64 = 30 * 24 * 3_600;
/// The fields of an answer that are shown once.
const SECRETS: &[&str] = &["secret"];

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct Key {
    /// Its id. It stays when the key gets a new secret.
    #[schema(value_type = schema::KeyId)]
    pub(crate) id: KeyId,
    /// The tenant that owns it; null for keys of the operator.
    #[schema(value_type = Option<schema::TenantId>)]
    pub(crate) tenant: Option<TenantId>,
    /// The user that it acts for; null for a service.
    #[schema(value_type = Option<schema::UserId>)]
    pub(crate) user: Option<UserId>,
    /// For people.
    #[schema(value_type = String, example = "laptop")]
    pub(crate) name: Arc<str>,
    /// What it opens.
    #[schema(value_type = schema::KeyKind)]
    pub(crate) kind: KeyKind,
    /// Its first characters, to recognise it.
    #[schema(value_type = String, example = "cfr_live_2xT")]
    pub(crate) prefix: Arc<str>,
    /// Its last four characters, to recognise it.
    #[schema(value_type = String, example = "9fQa")]
    pub(crate) last4: Arc<str>,
    /// Public model names that it may use, within the product's; empty for all of them.
    #[schema(value_type = Vec<String>)]
    pub(crate) models: Vec<Arc<str>>,
    /// What it may do in the management API; empty for nothing, and of an admin key for everything.
    #[schema(value_type = Vec<String>, example = json!(["users:read"]))]
    pub(crate) scopes: Vec<Arc<str>>,
    /// Networks that it may be used from; empty for all of them.
    #[schema(example = json!(["192.0.2.0/24"]))]
    pub(crate) networks: Vec<String>,
    /// Requests per minute, within what the product allows.
    pub(crate) requests_per_minute: Option<u32>,
    /// Requests at the same time, within what the product allows.
    pub(crate) parallel_requests_max: Option<u32>,
    /// Whether its requests may be made for users whom a signed header names.
    pub(crate) on_behalf_of: bool,
    /// Where it is in its life.
    #[schema(value_type = schema::KeyStatus)]
    pub(crate) status: KeyStatus,
    /// When it ends; null for never.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) expires_at: Option<Timestamp>,
    /// Until when the secret before its present one works, too.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) grace_until: Option<Timestamp>,
    /// When it was last used, to some minutes.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) used_at: Option<Timestamp>,
    /// Who made it: the id of a key or a user, or `operator`.
    #[schema(value_type = Option<String>)]
    pub(crate) created_by: Option<Arc<str>>,
    /// Counts changes; also in `etag`.
    pub(crate) version: i64,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
}

impl From<Row> for Key {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            tenant: row.tenant,
            user: row.user,
            name: row.name,
            kind: row.kind,
            prefix: row.prefix,
            last4: row.last4,
            models: row.models,
            scopes: row.rules.scopes,
            networks: row.rules.networks.iter().map(ToString::to_string).collect(),
            requests_per_minute: row.rules.requests_per_minute.map(Into::into),
            parallel_requests_max: row.rules.parallel_requests_max.map(Into::into),
            on_behalf_of: row.rules.on_behalf_of,
            status: row.status,
            expires_at: row.expires_at,
            grace_until: row.grace_until,
            used_at: row.used_at,
            created_by: row.created_by,
            version: row.version,
            created_at: row.created_at,
        }
    }
}

impl From<Row> for Versioned<Key> {
    fn from(row: Row) -> Self {
        Self::ok(row.version, row.into())
    }
}

/// A key with a new secret. It is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewKey {
    /// The key.
    #[serde(flatten)]
    pub(crate) key: Key,
    /// What a client sends. It is stored nowhere, and null when the same request is repeated: whoever lost it rotates the
    /// key.
    #[schema(example = "cfr_live_2xTq0d8HkVnW3sYbL5mZp7RcJfGaE4u1Xn9fQa")]
    pub(crate) secret: Option<String>,
}

/// How a key gets a new secret.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKey {
    /// How long the secret before works beside the new one; a day when absent, at most 30 days. 0 for one that leaked.
    #[schema(maximum = 2_592_000, example = 86_400)]
    pub(crate) grace_seconds: Option<u64>,
}

/// Which keys.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeyQuery {
    /// Only those of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// Only those of this user, by id or e-mail address.
    pub(crate) user: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List keys in the order of their creation.
#[utoipa::path(get, path = "/keys", operation_id = "list_keys", tag = "keys", params(KeyQuery),
    responses((status = 200, description = "A page of keys", body = Listing<Key>), Problems))]
pub(crate) async fn list(desk: Desk, Params(query): Params<KeyQuery>) -> Result<Answer<Listing<Key>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let tenant = lookup::tenant_filter(&*desk.store, query.tenant.as_deref()).await?;
    let user = lookup::user_filter(&*desk.store, query.user.as_deref()).await?;
    Ok(Answer(Listing::of(desk.store.keys(tenant, user, page).await?, Key::from)))
}

/// Create a key. The answer is the only place where its secret is ever shown.
#[utoipa::path(post, path = "/keys", operation_id = "create_key", tag = "keys", request_body = CreateKey,
    responses((status = 201, description = "The new key with its secret", body = NewKey), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateKey>,
) -> Result<ShownOnce<NewKey>, Problem> {
    let owner = owner(&desk, &body).await?;
    check_currency(&desk, &body, owner).await?;
    let wish = body.check(owner, act.at)?;
    check_scopes(&desk, wish.kind, &wish.rules.scopes)?;
    check_owner_may(&desk, wish.user).await?;
    let (text, new) = desk.keys().prepare(wish)?;
    let row = desk.store.create_key(&new, &act).await?;
    desk.changed().await;
    Ok(shown_once(row, text.expose()))
}

/// Show the key that asks.
#[utoipa::path(get, path = "/keys/self", operation_id = "get_own_key", tag = "keys",
    responses((status = 200, description = "The key", body = Key), Problems))]
pub(crate) async fn own(desk: Desk) -> Result<Answer<Key>, Problem> {
    let Subject::Key(id) = desk.access.subject else { return Err(Problem::not_found("key")) };
    Ok(Answer(desk.store.key(id).await?.into()))
}

/// Show a key, without its secret.
#[utoipa::path(get, path = "/keys/{key}", operation_id = "get_key", tag = "keys",
    params(("key" = schema::KeyId, Path, description = "Id")),
    responses((status = 200, description = "The key", body = Key,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn show(desk: Desk, Path(key): Path<String>) -> Result<Versioned<Key>, Problem> {
    Ok(desk.store.key(lookup::id(&key, "key")?).await?.into())
}

/// Change a key, switch it off or on. It holds for its next request.
#[utoipa::path(patch, path = "/keys/{key}", operation_id = "update_key", tag = "keys", request_body = ChangeKey,
    params(("key" = schema::KeyId, Path, description = "Id"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "The key as it is now", body = Key,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    Path(key): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ChangeKey>,
) -> Result<Versioned<Key>, Problem> {
    let row = desk.store.key(lookup::id(&key, "key")?).await?;
    if_match.check(row.version)?;
    check_owner_may(&desk, row.user).await?;
    check_scopes(&desk, row.kind, &row.rules.scopes)?;
    let patch = body.check(&row, act.at)?;
    if let Some(rules) = &patch.rules {
        check_scopes(&desk, row.kind, &rules.scopes)?;
    }
    let row = desk.store.update_key(row.id, row.version, &patch, &act).await?;
    desk.changed().await;
    Ok(row.into())
}

/// Give a key a new secret. Budgets, limits and usage stay the key's, and the secret before works for a while beside the new
/// one: answers to it say until when in `x-cfr-key-expires`.
#[utoipa::path(post, path = "/keys/{key}/rotate", operation_id = "rotate_key", tag = "keys", request_body = RotateKey,
    params(("key" = schema::KeyId, Path, description = "Id")),
    responses((status = 201, description = "The key with its new secret", body = NewKey), Problems))]
pub(crate) async fn rotate(
    desk: Desk,
    Acting(act): Acting,
    Path(key): Path<String>,
    Json(body): Json<RotateKey>,
) -> Result<ShownOnce<NewKey>, Problem> {
    let row = desk.store.key(lookup::id(&key, "key")?).await?;
    check_owner_may(&desk, row.user).await?;
    check_scopes(&desk, row.kind, &row.rules.scopes)?;
    let grace = body.grace_seconds.map_or(GRACE, Duration::from_secs);
    if grace > Duration::from_secs(GRACE_SECONDS_MAX) {
        return Err(Problem::invalid_field("grace_seconds", format_args!("at most {GRACE_SECONDS_MAX}")));
    }
    let (text, secret) = desk.keys().prepare_secret(row.kind)?;
    let row = desk.store.rotate_key(row.id, &secret, act.at + grace, &act).await?;
    desk.changed().await;
    Ok(shown_once(row, text.expose()))
}

/// Revoke a key for good. Its next request is refused. A key cannot revoke itself: nobody locks themselves out.
#[utoipa::path(post, path = "/keys/{key}/revoke", operation_id = "revoke_key", tag = "keys",
    params(("key" = schema::KeyId, Path, description = "Id")),
    responses((status = 200, description = "The key as it is now", body = Key), Problems))]
pub(crate) async fn revoke(desk: Desk, Acting(act): Acting, Path(key): Path<String>) -> Result<Answer<Key>, Problem> {
    let id: KeyId = lookup::id(&key, "key")?;
    if desk.access.subject == Subject::Key(id) {
        return Err(Problem::conflict(
            "this is the key that asks: revoke it with another key, signed in, or on the command line",
        ));
    }
    let row = desk.store.revoke_key(id, &act).await?;
    desk.changed().await;
    Ok(Answer(row.into()))
}

fn shown_once(row: Row, secret: &str) -> ShownOnce<NewKey> {
    ShownOnce { body: NewKey { key: row.into(), secret: Some(secret.to_owned()) }, secrets: SECRETS }
}
