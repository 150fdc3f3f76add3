//! `/keys`: API keys. The secret is in the answer that makes the key, and nowhere else.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use cfr_billing::identity::{ApiKey as Row, KeyKind, KeyStatus};
use cfr_core::id::{KeyId, TenantId, UserId};
use cfr_core::time::Timestamp;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::admin::Acting;
use super::input::{Checks, Json, Params, nullable};
use super::page::{Listing, page_request};
use super::problem::{Problem, Problems};
use super::{ApiState, lookup, schema};
use crate::auth::KeyWish;

/// How long a key lives when nobody says otherwise (money.md §5.3).
const DEFAULT_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct Key {
    /// Its id.
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
    /// Where it is in its life.
    #[schema(value_type = schema::KeyStatus)]
    pub(crate) status: KeyStatus,
    /// When it ends; null for never.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) expires_at: Option<Timestamp>,
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
            status: row.status,
            expires_at: row.expires_at,
            created_at: row.created_at,
        }
    }
}

/// A new key, with its secret. It is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewKey {
    /// The key.
    #[serde(flatten)]
    pub(crate) key: Key,
    /// What a client sends. It is stored nowhere: whoever loses it makes another key.
    #[schema(example = "cfr_live_2xTq0d8HkVnW3sYbL5mZp7RcJfGaE4u1Xn9fQa")]
    pub(crate) secret: String,
}

/// A key to make: for a user, for a service of a tenant, or for the operator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// What it opens; `live` when absent.
    #[schema(value_type = Option<schema::KeyKind>)]
    pub(crate) kind: Option<KeyKind>,
    /// The id or e-mail address of the user that it acts for. Needed for `live` and `test`.
    pub(crate) user: Option<String>,
    /// The id or slug of the tenant that owns it. Needed for `service`.
    pub(crate) tenant: Option<String>,
    /// For people.
    #[schema(example = "laptop", min_length = 1, max_length = 200)]
    pub(crate) name: String,
    /// Public model names that it may use, within the product's; all of them when empty.
    #[serde(default)]
    pub(crate) models: Vec<String>,
    /// When it ends; in 365 days when absent, never when null.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) expires_at: Option<Option<Timestamp>>,
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
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<KeyQuery>,
) -> Result<Answer<Listing<Key>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let tenant = lookup::tenant_filter(&*state.store, query.tenant.as_deref()).await?;
    let user = lookup::user_filter(&*state.store, query.user.as_deref()).await?;
    Ok(Answer(Listing::of(state.store.keys(tenant, user, page).await?, Key::from)))
}

/// Create a key. The answer is the only place where its secret is ever shown.
#[utoipa::path(post, path = "/keys", operation_id = "create_key", tag = "keys", request_body = CreateKey,
    responses((status = 201, description = "The new key with its secret", body = NewKey), Problems))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    Acting(act): Acting,
    Json(body): Json<CreateKey>,
) -> Result<(StatusCode, Answer<NewKey>), Problem> {
    let now = state.clock.now();
    let expires_at = body.expires_at.unwrap_or_else(|| now.checked_add(DEFAULT_LIFE).ok());
    let mut checks = Checks::default();
    checks.name("name", &body.name);
    checks.names("models", &body.models);
    checks.require(expires_at.is_none_or(|end| end > now), "expires_at", "a moment in the future");
    checks.finish()?;
    let (tenant, user) = owner(&state, &body).await?;
    let wish = KeyWish {
        kind: body.kind.unwrap_or(KeyKind::Live),
        tenant,
        user,
        name: body.name.into(),
        models: body.models.into_iter().map(Into::into).collect(),
        expires_at,
    };
    let (text, row) = state.keys.issue(wish, &act).await?;
    Ok((StatusCode::CREATED, Answer(NewKey { key: row.into(), secret: text.expose().to_owned() })))
}

/// Show a key, without its secret.
#[utoipa::path(get, path = "/keys/{key}", operation_id = "get_key", tag = "keys",
    params(("key" = schema::KeyId, Path, description = "Id")),
    responses((status = 200, description = "The key", body = Key), Problems))]
pub(crate) async fn show(State(state): State<ApiState>, Path(key): Path<String>) -> Result<Answer<Key>, Problem> {
    Ok(Answer(state.store.key(lookup::id(&key, "key")?).await?.into()))
}

/// Revoke a key for good. Its next request is refused. A key cannot revoke itself: nobody locks themselves out.
#[utoipa::path(post, path = "/keys/{key}/revoke", operation_id = "revoke_key", tag = "keys",
    params(("key" = schema::KeyId, Path, description = "Id")),
    responses((status = 200, description = "The key as it is now", body = Key), Problems))]
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    Acting(act): Acting,
    Path(key): Path<String>,
) -> Result<Answer<Key>, Problem> {
    let id: KeyId = lookup::id(&key, "key")?;
    if act.by.id.as_deref() == Some(&*id.to_string()) {
        return Err(Problem::conflict(
            "this is the key that asks: revoke it with another admin key, or on the command line",
        ));
    }
    let row = state.store.revoke_key(id, &act).await?;
    state.keys.changed().await;
    Ok(Answer(row.into()))
}

/// Whom a new key belongs to. The kind decides what must be named.
async fn owner(state: &ApiState, body: &CreateKey) -> Result<(Option<TenantId>, Option<UserId>), Problem> {
    match (body.kind.unwrap_or(KeyKind::Live), &body.tenant, &body.user) {
        (KeyKind::Admin, None, None) => Ok((None, None)),
        (KeyKind::Admin, tenant, _) => {
            let field = if tenant.is_some() { "tenant" } else { "user" };
            Err(Problem::invalid_field(field, "an admin key belongs to the operator: leave it out"))
        }
        (KeyKind::Service, Some(tenant), None) => {
            Ok((Some(lookup::named("tenant", lookup::tenant(&*state.store, tenant).await)?.id), None))
        }
        (KeyKind::Service, _, Some(_)) => {
            Err(Problem::invalid_field("user", "a service key has no user: leave it out"))
        }
        (KeyKind::Service, None, None) => {
            Err(Problem::invalid_field("tenant", "a service key belongs to a tenant: name it"))
        }
        (_, tenant, Some(user)) => {
            let user = lookup::named("user", lookup::user(&*state.store, user).await)?;
            check_tenant(state, tenant.as_deref(), user.tenant).await?;
            Ok((Some(user.tenant), Some(user.id)))
        }
        (_, _, None) => Err(Problem::invalid_field("user", "a live or test key acts for a user: name them")),
    }
}

async fn check_tenant(state: &ApiState, named: Option<&str>, actual: TenantId) -> Result<(), Problem> {
    let Some(name) = named else { return Ok(()) };
    let tenant = lookup::named("tenant", lookup::tenant(&*state.store, name).await)?;
    if tenant.id == actual {
        return Ok(());
    }
    Err(Problem::invalid_field("tenant", "the user belongs to another tenant"))
}
