//! `/key/*`: keys of users and of services.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use cfr_billing::identity::{ApiKey, KeyKind, KeyPatch, KeyRules, KeyStatus, Tenant, User};
use cfr_billing::outside::{Named, NamedKind};
use cfr_billing::store::{CatalogStore as _, PAGE_ROWS_MAX, PageRequest};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::KeyId;
use cfr_core::ledger::Scope;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::amount::Amount;
use super::super::body::{Params, invalid, not_found, refused};
use super::super::manager::Manager;
use super::super::names;
use super::fields::Fields;
use super::limit::{Limit, LimitFields};
use super::{notes, teams};
use crate::auth::access::Permission;
use crate::auth::{KeyText, KeyWish};
use crate::error::ApiError;
use crate::state::App;

/// What limits a key and is not enforced here.
const UNSUPPORTED: &[&str] = &[
    "budget_limits",
    "budget_id",
    "end_user_budget_id",
    "organization_id",
    "project_id",
    "agent_id",
    "tpm_limit",
    "tpd_limit",
    "tpm_limit_type",
    "rpm_limit_type",
    "model_max_budget",
    "model_rpm_limit",
    "model_tpm_limit",
    "budget_fallbacks",
    "throttle_on_budget_exceeded",
    "aliases",
    "config",
    "permissions",
    "allowed_cache_controls",
    "allowed_routes",
    "allowed_passthrough_routes",
    "enforced_params",
    "guardrails",
    "policies",
    "object_permission",
    "access_group_ids",
    "router_settings",
    "auto_rotate",
    "rotation_interval",
    "temp_budget_increase",
    "temp_budget_expiry",
];
/// Keys on a page when nobody says.
const PAGE_SIZE_DEFAULT: usize = 10;
/// And at the most.
const PAGE_SIZE_MAX: usize = 100;

/// A key as LiteLLM shows it.
#[derive(Debug, Serialize)]
pub(super) struct KeyView {
    token: String,
    token_id: String,
    key_name: String,
    key_alias: Arc<str>,
    #[serde(flatten)]
    limit: LimitFields,
    models: Vec<Arc<str>>,
    user_id: Option<String>,
    team_id: Option<String>,
    rpm_limit: Option<NonZeroU32>,
    max_parallel_requests: Option<NonZeroU32>,
    blocked: bool,
    status: &'static str,
    expires: Option<Timestamp>,
    created_at: Timestamp,
    created_by: Option<Arc<str>>,
    #[serde(flatten)]
    notes: Map<String, Value>,
}

impl KeyView {
    /// The key as it is now.
    ///
    /// # Errors
    /// When the books cannot be read.
    pub(super) async fn of(app: &App, key: &ApiKey) -> Result<Self, ApiError> {
        let store = &*app.books.store;
        let (_, notes) = notes::of(store, Named::Key(key.id)).await?;
        let user_id = match key.user {
            Some(user) => Some(notes::of(store, Named::User(user)).await?.0),
            None => None,
        };
        let team_id = match key.tenant {
            Some(tenant) => Some(notes::of(store, Named::Tenant(tenant)).await?.0),
            None => None,
        };
        let mut limit = LimitFields::of(app, Scope::Key, key.id.as_u128()).await?;
        if limit.spend.is_none() {
            limit.spend = Some(spent(app, key.id).await?);
        }
        let over = key.expires_at.is_some_and(|end| end <= app.clock.now());
        Ok(Self {
            token: key.id.to_string(),
            token_id: key.id.to_string(),
            key_name: format!("{}...{}", key.prefix, key.last4),
            key_alias: Arc::clone(&key.name),
            limit,
            models: key.models.clone(),
            user_id,
            team_id,
            rpm_limit: key.rules.requests_per_minute,
            max_parallel_requests: key.rules.parallel_requests_max,
            blocked: key.status == KeyStatus::Disabled,
            status: match key.status {
                KeyStatus::Revoked => "revoked",
                _ if over => "expired",
                _ => "active",
            },
            expires: key.expires_at,
            created_at: key.created_at,
            created_by: key.created_by.clone(),
            notes,
        })
    }
}

/// What a key without a budget of its own was charged, by the sums of its days.
async fn spent(app: &App, key: KeyId) -> Result<Amount, ApiError> {
    let filter = UsageFilter { key: Some(key), ..UsageFilter::default() };
    let rows = app.books.store.usage_report(&filter, &[]).await.map_err(refused)?;
    Ok(Amount::of_nanos(rows.first().map_or(0, |row| row.sums.charged_nanos)))
}

/// A new key with its secret, which is shown once.
#[derive(Debug, Serialize)]
pub(super) struct NewKeyView {
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

/// Whose a key is.
struct Owner {
    tenant: Tenant,
    user: Option<User>,
}

/// Make a key, of a user or of a team's service.
pub(super) async fn generate(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<NewKeyView>, ApiError> {
    manager.may(Permission::KeysWrite)?;
    fields.refuse(UNSUPPORTED)?;
    refuse_other_types(&mut fields)?;
    let owner = owner(&app, &manager, &mut fields).await?;
    let alias = fields.name("key_alias")?;
    let wanted: Option<String> = fields.take("key")?;
    let blocked = fields.take::<bool>("blocked")?.unwrap_or_default();
    let models: Vec<Arc<str>> = fields.take("models")?.unwrap_or_default();
    let rules = rules(KeyRules::default(), &mut fields)?;
    let expires_at = fields.end("duration", manager.act.at)?.flatten();
    let limit = Limit::take(&mut fields, manager.act.at)?;
    let notes = fields.notes()?;
    let wish = KeyWish {
        kind: if owner.user.is_some() { KeyKind::Live } else { KeyKind::Service },
        tenant: Some(owner.tenant.id),
        user: owner.user.as_ref().map(|user| user.id),
        name: alias.as_deref().unwrap_or("key").into(),
        models: every_model(models),
        expires_at,
        rules,
        budget: None,
    };
    let (text, key) = match wanted {
        Some(text) => import(&app, &manager, wish, &text).await?,
        None => app.keys.issue(wish, &manager.act).await.map_err(refused)?,
    };
    limit.apply(&app, &manager, &owner.tenant, (Scope::Key, key.id.as_u128())).await?;
    let named = Named::Key(key.id);
    notes::keep(&*app.books.store, named, key.tenant, alias.as_deref(), notes, &manager.act).await?;
    let key = if blocked { set_enabled(&app, &manager, key, false).await? } else { key };
    app.keys.changed().await;
    Ok(Json(NewKeyView { key: text.expose().to_owned(), view: KeyView::of(&app, &key).await? }))
}

/// Keys of other types open what is not for calls: admin keys are made by the management API alone.
fn refuse_other_types(fields: &mut Fields) -> Result<(), ApiError> {
    match fields.take::<String>("key_type")?.as_deref() {
        None | Some("default" | "llm_api") => Ok(()),
        Some(_) => Err(invalid("key_type", "keys that are made here call models; /api/v1/keys makes others")),
    }
}

async fn import(app: &App, manager: &Manager, wish: KeyWish, text: &str) -> Result<(KeyText, ApiKey), ApiError> {
    let text = KeyText::parse(text).ok_or_else(|| invalid("key", "16 to 256 visible characters"))?;
    let key = app.keys.import(wish, &text, &manager.act).await.map_err(refused)?;
    Ok((text, key))
}

async fn owner(app: &App, manager: &Manager, fields: &mut Fields) -> Result<Owner, ApiError> {
    let (user, team): (Option<String>, Option<String>) = (fields.take("user_id")?, fields.take("team_id")?);
    let Some(user) = user else {
        let team = team.as_deref();
        if team.is_none() && manager.tenant().is_none() {
            return Err(invalid("team_id", "name a team, or a `user_id`: a key without an owner has no budget"));
        }
        return Ok(Owner { tenant: teams::of_request(app, manager, team).await?, user: None });
    };
    let user = names::user(&*app.books.store, &manager.view, &user).await?;
    let tenant = manager.view.tenant(user.tenant).await.map_err(refused)?;
    if let Some(team) = team
        && names::tenant(&*app.books.store, &manager.view, &team).await?.id != tenant.id
    {
        return Err(invalid("team_id", "the user is in another team"));
    }
    Ok(Owner { tenant, user: Some(user) })
}

/// LiteLLM has words for all models.
fn every_model(models: Vec<Arc<str>>) -> Vec<Arc<str>> {
    let all = |model: &Arc<str>| matches!(&**model, "all-proxy-models" | "all-team-models" | "*");
    if models.iter().any(all) { Vec::new() } else { models }
}

fn rules(rules: KeyRules, fields: &mut Fields) -> Result<KeyRules, ApiError> {
    let per_minute = fields.take_nullable::<u32>("rpm_limit")?;
    let parallel = fields.take_nullable::<u32>("max_parallel_requests")?;
    let positive = |name: &'static str, limit: Option<u32>| match limit.map(NonZeroU32::new) {
        Some(None) => Err(invalid(name, "1 or more; `blocked` switches a key off")),
        limit => Ok(limit.flatten()),
    };
    Ok(KeyRules {
        requests_per_minute: match per_minute {
            Some(limit) => positive("rpm_limit", limit)?,
            None => rules.requests_per_minute,
        },
        parallel_requests_max: match parallel {
            Some(limit) => positive("max_parallel_requests", limit)?,
            None => rules.parallel_requests_max,
        },
        ..rules
    })
}

/// The first key of a new user.
///
/// # Errors
/// When it cannot be written.
pub(super) async fn first_of(
    app: &App,
    manager: &Manager,
    user: &User,
    alias: Option<String>,
    expires_at: Option<Timestamp>,
) -> Result<String, ApiError> {
    let wish = KeyWish {
        kind: KeyKind::Live,
        tenant: Some(user.tenant),
        user: Some(user.id),
        name: alias.as_deref().unwrap_or("first key").into(),
        models: Vec::new(),
        expires_at,
        rules: KeyRules::default(),
        budget: None,
    };
    let (text, key) = app.keys.issue(wish, &manager.act).await.map_err(refused)?;
    if alias.is_some() {
        let (store, named) = (&*app.books.store, Named::Key(key.id));
        notes::keep(store, named, key.tenant, alias.as_deref(), Map::new(), &manager.act).await?;
    }
    Ok(text.expose().to_owned())
}

#[derive(Debug, Deserialize)]
pub(super) struct KeyQuery {
    key: Option<String>,
}

/// A key, under the name that LiteLLM gives it.
#[derive(Debug, Serialize)]
pub(super) struct KeyInfo {
    key: String,
    info: KeyView,
}

/// Show a key: the one that is named, else the one that asks.
pub(super) async fn info(
    State(app): State<Arc<App>>,
    manager: Manager,
    Params(query): Params<KeyQuery>,
    headers: HeaderMap,
) -> Result<Json<KeyInfo>, ApiError> {
    let key = match query.key {
        Some(name) => {
            manager.may(Permission::KeysRead)?;
            find(&app, &manager, &name).await?
        }
        None => app.keys.authenticate(&headers, manager.act.by.address).await?.context.key.clone(),
    };
    let info = KeyView::of(&app, &key).await?;
    Ok(Json(KeyInfo { key: info.token.clone(), info }))
}

/// The key with this id, secret, SHA-256 of an imported secret, or alias.
///
/// # Errors
/// 404 when there is none in reach.
pub(super) async fn find(app: &App, manager: &Manager, name: &str) -> Result<ApiKey, ApiError> {
    let gone = || not_found("key");
    if let Ok(id) = name.parse() {
        return manager.view.key(id).await.map_err(refused);
    }
    let known = app.keys.look_up(name).await.map_err(refused)?;
    let id = match known {
        Some(known) => known.context.key.id,
        None => match app.books.store.outside_name(NamedKind::Key, name).await.map_err(refused)?.map(|kept| kept.named)
        {
            Some(Named::Key(id)) => id,
            _ => return Err(gone()),
        },
    };
    manager.view.key(id).await.map_err(|_| gone())
}

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    page: Option<usize>,
    size: Option<usize>,
    user_id: Option<String>,
    team_id: Option<String>,
    key_alias: Option<String>,
    return_full_object: Option<bool>,
}

/// List keys.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    manager: Manager,
    Params(query): Params<ListQuery>,
) -> Result<Json<KeyList>, ApiError> {
    manager.may(Permission::KeysRead)?;
    let store = &*app.books.store;
    let user = match &query.user_id {
        Some(name) => Some(names::user(store, &manager.view, name).await?.id),
        None => None,
    };
    let tenant = match &query.team_id {
        Some(name) => Some(names::tenant(store, &manager.view, name).await?.id),
        None => None,
    };
    let wanted = |key: &ApiKey| {
        key.status != KeyStatus::Revoked && query.key_alias.as_ref().is_none_or(|alias| *key.name == **alias)
    };
    let mut all = Vec::new();
    let mut request = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    loop {
        let rows = manager.view.keys(tenant, user, request).await.map_err(refused)?;
        all.extend(rows.items.into_iter().filter(wanted));
        match rows.next {
            Some(next) => request.after = Some(next),
            None => break,
        }
    }
    let size = query.size.unwrap_or(PAGE_SIZE_DEFAULT).clamp(1, PAGE_SIZE_MAX);
    let current_page = query.page.unwrap_or(1).max(1);
    let full = query.return_full_object.unwrap_or_default();
    let mut keys = Vec::new();
    for key in all.iter().skip((current_page - 1).saturating_mul(size)).take(size) {
        keys.push(match full {
            true => Listed::Whole(Box::new(KeyView::of(&app, key).await?)),
            false => Listed::Token(key.id.to_string()),
        });
    }
    Ok(Json(KeyList { keys, total_count: all.len(), current_page, total_pages: all.len().div_ceil(size) }))
}

/// A page of keys.
#[derive(Debug, Serialize)]
pub(super) struct KeyList {
    keys: Vec<Listed>,
    total_count: usize,
    current_page: usize,
    total_pages: usize,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Listed {
    Token(String),
    Whole(Box<KeyView>),
}

/// Change a key.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<KeyView>, ApiError> {
    manager.may(Permission::KeysWrite)?;
    fields.refuse(UNSUPPORTED)?;
    fields.refuse(&["user_id", "team_id"])?;
    let name: String = fields.need("key")?;
    let key = find(&app, &manager, &name).await?;
    let patch = KeyPatch {
        name: fields.name("key_alias")?.map(Into::into),
        enabled: fields.take::<bool>("blocked")?.map(|blocked| !blocked),
        models: fields.take_nullable::<Vec<Arc<str>>>("models")?.map(|models| every_model(models.unwrap_or_default())),
        rules: Some(rules(key.rules.clone(), &mut fields)?).filter(|rules| *rules != key.rules),
        expires_at: fields.end("duration", manager.act.at)?,
    };
    let limit = Limit::take(&mut fields, manager.act.at)?;
    let notes = fields.notes()?;
    let key = match patch == KeyPatch::default() {
        true => key,
        false => manager.view.update_key(key.id, key.version, &patch, &manager.act).await.map_err(refused)?,
    };
    let tenant = key.tenant.ok_or_else(|| invalid("key", "it is no key of a team or user"))?;
    let tenant = manager.view.tenant(tenant).await.map_err(refused)?;
    limit.apply(&app, &manager, &tenant, (Scope::Key, key.id.as_u128())).await?;
    notes::keep(&*app.books.store, Named::Key(key.id), key.tenant, None, notes, &manager.act).await?;
    app.keys.changed().await;
    Ok(Json(KeyView::of(&app, &key).await?))
}

/// Revoke keys, by secret, id or alias. Those that are not there are named.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<Value>, ApiError> {
    manager.may(Permission::KeysWrite)?;
    let mut names: Vec<String> = fields.take("keys")?.unwrap_or_default();
    names.extend(fields.take::<Vec<String>>("key_aliases")?.unwrap_or_default());
    if names.is_empty() {
        return Err(invalid("keys", "which keys"));
    }
    let mut found = Vec::new();
    for name in &names {
        found.push(find(&app, &manager, name).await?);
    }
    let mut deleted = Vec::new();
    for key in found {
        manager.view.revoke_key(key.id, &manager.act).await.map_err(refused)?;
        deleted.push(key.id.to_string());
    }
    app.keys.changed().await;
    Ok(Json(json!({"deleted_keys": deleted})))
}

/// Switch a key off.
pub(super) async fn block(state: State<Arc<App>>, manager: Manager, fields: Fields) -> Result<Json<KeyView>, ApiError> {
    switch(state, manager, fields, false).await
}

/// Switch a key on again.
pub(super) async fn unblock(
    state: State<Arc<App>>,
    manager: Manager,
    fields: Fields,
) -> Result<Json<KeyView>, ApiError> {
    switch(state, manager, fields, true).await
}

async fn switch(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
    enabled: bool,
) -> Result<Json<KeyView>, ApiError> {
    manager.may(Permission::KeysWrite)?;
    let name: String = fields.need("key")?;
    let key = find(&app, &manager, &name).await?;
    let key = set_enabled(&app, &manager, key, enabled).await?;
    Ok(Json(KeyView::of(&app, &key).await?))
}

async fn set_enabled(app: &App, manager: &Manager, key: ApiKey, enabled: bool) -> Result<ApiKey, ApiError> {
    let patch = KeyPatch { enabled: Some(enabled), ..KeyPatch::default() };
    let key = manager.view.update_key(key.id, key.version, &patch, &manager.act).await.map_err(refused)?;
    app.keys.changed().await;
    Ok(key)
}

/// Give a key another secret; the one before ends now, or after `grace_period`.
pub(super) async fn regenerate(
    State(app): State<Arc<App>>,
    manager: Manager,
    Path(name): Path<String>,
    mut fields: Fields,
) -> Result<Json<NewKeyView>, ApiError> {
    manager.may(Permission::KeysWrite)?;
    fields.refuse(UNSUPPORTED)?;
    fields.refuse(&["new_key", "max_budget", "models", "duration", "rpm_limit"])?;
    let key = find(&app, &manager, &name).await?;
    let now = manager.act.at;
    let grace = fields.end("grace_period", now)?.flatten().unwrap_or(now);
    let (text, secret) = app.keys.prepare_secret(key.kind).map_err(refused)?;
    let key = manager.view.rotate_key(key.id, &secret, grace, &manager.act).await.map_err(refused)?;
    app.keys.changed().await;
    Ok(Json(NewKeyView { key: text.expose().to_owned(), view: KeyView::of(&app, &key).await? }))
}
