//! `/user/*`: people.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cfr_billing::identity::{NewUser, Role, User, UserFilter, UserPatch, UserStatus};
use cfr_billing::outside::Named;
use cfr_billing::store::{CatalogStore as _, PAGE_ROWS_MAX, PageRequest};
use cfr_core::ledger::Scope;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::body::{Params, invalid, refused};
use super::super::manager::Manager;
use super::super::names;
use super::fields::Fields;
use super::keys::{self, KeyView};
use super::limit::{Limit, LimitFields};
use super::{notes, teams};
use crate::auth::access::Permission;
use crate::error::ApiError;
use crate::state::App;

/// What limits a user and is not enforced here.
const UNSUPPORTED: &[&str] = &[
    "models",
    "budget_limits",
    "tpm_limit",
    "rpm_limit",
    "tpd_limit",
    "max_parallel_requests",
    "model_max_budget",
    "model_rpm_limit",
    "model_tpm_limit",
    "allowed_cache_controls",
    "permissions",
    "guardrails",
    "policies",
    "object_permission",
    "organizations",
    "aliases",
    "config",
    "password",
];
/// Users on a page when nobody says.
const PAGE_SIZE_DEFAULT: usize = 25;
/// And at the most.
const PAGE_SIZE_MAX: usize = 500;
/// Where users have an address who were made without one. Nobody has such an address (RFC 2606).
const NO_MAIL: &str = "users.invalid";

/// A user as LiteLLM shows them.
#[derive(Debug, Serialize)]
pub(super) struct UserView {
    user_id: String,
    user_email: Arc<str>,
    user_alias: Arc<str>,
    user_role: &'static str,
    teams: Vec<String>,
    #[serde(flatten)]
    limit: LimitFields,
    models: [Value; 0],
    blocked: bool,
    created_at: String,
    updated_at: String,
    #[serde(flatten)]
    notes: Map<String, Value>,
}

/// A new user, and their key, which is shown once.
#[derive(Debug, Serialize)]
pub(super) struct NewUserView {
    #[serde(flatten)]
    user: UserView,
    key: Option<String>,
    expires: Option<String>,
}

/// Make a user and, unless it is not wanted, a key.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<NewUserView>, ApiError> {
    manager.may(Permission::UsersWrite)?;
    fields.refuse(UNSUPPORTED)?;
    let id = fields.name("user_id")?;
    let email = fields.name("user_email")?;
    let alias = fields.name("user_alias")?;
    let role = role(fields.take::<String>("user_role")?.as_deref())?;
    let team = team(&mut fields)?;
    let wants_key = fields.take::<bool>("auto_create_key")?.unwrap_or(true);
    let key_alias = fields.name("key_alias")?;
    let end = fields.end("duration", manager.act.at)?.flatten();
    let limit = Limit::take(&mut fields, manager.act.at)?;
    let notes = fields.notes()?;
    if wants_key {
        manager.may(Permission::KeysWrite)?;
    }
    let tenant = teams::of_request(&app, &manager, team.as_deref()).await?;
    let address = match (&email, &id) {
        (Some(email), _) => email.clone(),
        (None, Some(id)) if id.contains('@') => id.clone(),
        (None, Some(id)) => format!("{id}@{NO_MAIL}"),
        (None, None) => format!("{:032x}@{NO_MAIL}", rand::random::<u128>()),
    };
    if !address.contains('@') || address.chars().any(char::is_whitespace) {
        return Err(invalid("user_email", "an e-mail address"));
    }
    let new = NewUser {
        tenant: tenant.id,
        name: alias.as_deref().or(id.as_deref()).unwrap_or(&address).into(),
        email: address.as_str().into(),
        role,
        product_version: None,
        locale: None,
    };
    let user = manager.view.create_user(&new, &manager.act).await.map_err(refused)?;
    limit.apply(&app, &manager, &tenant, (Scope::User, user.id.as_u128())).await?;
    let named = Named::User(user.id);
    notes::keep(&*app.books.store, named, Some(tenant.id), id.as_deref(), notes, &manager.act).await?;
    let key = match wants_key {
        true => Some(keys::first_of(&app, &manager, &user, key_alias, end).await?),
        false => None,
    };
    app.keys.changed().await;
    let expires = end.filter(|_| key.is_some()).map(|end| end.to_string());
    Ok(Json(NewUserView { user: view(&app, &user).await?, key, expires }))
}

/// The one team that a user is in.
fn team(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let single: Option<String> = fields.take("team_id")?;
    let listed: Vec<Value> = fields.take("teams")?.unwrap_or_default();
    if listed.len() + usize::from(single.is_some()) > 1 {
        return Err(invalid("teams", "a user is in one team here"));
    }
    let of_list = listed.first().map(|team| match team {
        Value::String(id) => Ok(id.clone()),
        team => team.get("team_id").and_then(Value::as_str).map(str::to_owned).ok_or(()),
    });
    let of_list = of_list.transpose().map_err(|()| invalid("teams", "ids of teams"))?;
    Ok(single.or(of_list))
}

fn role(word: Option<&str>) -> Result<Role, ApiError> {
    match word {
        None | Some("internal_user") => Ok(Role::User),
        Some("proxy_admin") => Ok(Role::Admin),
        Some("team_admin" | "org_admin") => Ok(Role::TenantAdmin),
        Some(_) => Err(invalid("user_role", "one of proxy_admin, org_admin, internal_user; there are no viewers here")),
    }
}

const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Admin => "proxy_admin",
        Role::TenantAdmin => "org_admin",
        _ => "internal_user",
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct UserQuery {
    user_id: Option<String>,
}

/// Show a user with their keys and their team.
pub(super) async fn info(
    State(app): State<Arc<App>>,
    manager: Manager,
    Params(query): Params<UserQuery>,
) -> Result<Json<UserInfo>, ApiError> {
    manager.may(Permission::UsersRead)?;
    let id = query.user_id.ok_or_else(|| invalid("user_id", "which user"))?;
    let user = names::user(&*app.books.store, &manager.view, &id).await?;
    let page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    let mut keys = Vec::new();
    for key in manager.view.keys(None, Some(user.id), page).await.map_err(refused)?.items {
        keys.push(KeyView::of(&app, &key).await?);
    }
    let tenant = manager.view.tenant(user.tenant).await.map_err(refused)?;
    let user_info = view(&app, &user).await?;
    let teams = user_info.teams.iter().map(|id| json!({"team_id": id, "team_alias": tenant.name})).collect();
    Ok(Json(UserInfo { user_id: user_info.user_id.clone(), user_info, keys, teams }))
}

/// A user with what is theirs.
#[derive(Debug, Serialize)]
pub(super) struct UserInfo {
    user_id: String,
    user_info: UserView,
    keys: Vec<KeyView>,
    teams: Vec<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    page: Option<usize>,
    page_size: Option<usize>,
    role: Option<String>,
    user_email: Option<String>,
    team: Option<String>,
}

/// A page of users.
#[derive(Debug, Serialize)]
pub(super) struct UserList {
    users: Vec<UserView>,
    total: usize,
    page: usize,
    page_size: usize,
    total_pages: usize,
}

/// List users.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    manager: Manager,
    Params(query): Params<ListQuery>,
) -> Result<Json<UserList>, ApiError> {
    manager.may(Permission::UsersRead)?;
    let role = query.role.as_deref().map(|word| role(Some(word))).transpose()?;
    let tenant = match &query.team {
        Some(team) => Some(names::tenant(&*app.books.store, &manager.view, team).await?.id),
        None => None,
    };
    let page_size = query.page_size.unwrap_or(PAGE_SIZE_DEFAULT).clamp(1, PAGE_SIZE_MAX);
    let page = query.page.unwrap_or(1).max(1);
    let wanted = |user: &User| {
        user.status != UserStatus::Deleted
            && role.is_none_or(|role| user.role == role)
            && query.user_email.as_ref().is_none_or(|email| user.email.contains(email.as_str()))
    };
    let mut all = Vec::new();
    let mut request = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    loop {
        let rows = manager.view.users(&UserFilter { tenant, status: None }, request).await.map_err(refused)?;
        all.extend(rows.items.into_iter().filter(wanted));
        match rows.next {
            Some(next) => request.after = Some(next),
            None => break,
        }
    }
    let mut users = Vec::new();
    for user in all.iter().skip((page - 1).saturating_mul(page_size)).take(page_size) {
        users.push(view(&app, user).await?);
    }
    Ok(Json(UserList { users, total: all.len(), page, page_size, total_pages: all.len().div_ceil(page_size) }))
}

/// What became of a user.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    user_id: String,
    data: UserView,
}

/// Change a user.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<Changed>, ApiError> {
    manager.may(Permission::UsersWrite)?;
    fields.refuse(UNSUPPORTED)?;
    let (id, email) = (fields.name("user_id")?, fields.name("user_email")?);
    let named = id.or(email).ok_or_else(|| invalid("user_id", "which user"))?;
    let user = names::user(&*app.books.store, &manager.view, &named).await?;
    let word: Option<String> = fields.take("user_role")?;
    let patch = UserPatch {
        name: fields.name("user_alias")?.map(Into::into),
        role: word.map(|word| role(Some(&word))).transpose()?,
        ..UserPatch::default()
    };
    let limit = Limit::take(&mut fields, manager.act.at)?;
    let notes = fields.notes()?;
    let user = match patch == UserPatch::default() {
        true => user,
        false => manager.view.update_user(user.id, user.version, &patch, &manager.act).await.map_err(refused)?,
    };
    let tenant = manager.view.tenant(user.tenant).await.map_err(refused)?;
    limit.apply(&app, &manager, &tenant, (Scope::User, user.id.as_u128())).await?;
    notes::keep(&*app.books.store, Named::User(user.id), Some(tenant.id), None, notes, &manager.act).await?;
    app.keys.changed().await;
    let user = view(&app, &user).await?;
    Ok(Json(Changed { user_id: user.user_id.clone(), data: user }))
}

/// Delete users: they stay as tombstones, and their keys work no more.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<usize>, ApiError> {
    manager.may(Permission::UsersWrite)?;
    let ids: Vec<String> = fields.need("user_ids")?;
    for id in &ids {
        let user = names::user(&*app.books.store, &manager.view, id).await?;
        let patch = UserPatch { status: Some(UserStatus::Deleted), ..UserPatch::default() };
        manager.view.update_user(user.id, user.version, &patch, &manager.act).await.map_err(refused)?;
    }
    app.keys.changed().await;
    Ok(Json(ids.len()))
}

async fn view(app: &App, user: &User) -> Result<UserView, ApiError> {
    let (user_id, notes) = notes::of(&*app.books.store, Named::User(user.id)).await?;
    let (team, _) = notes::of(&*app.books.store, Named::Tenant(user.tenant)).await?;
    Ok(UserView {
        user_id,
        user_email: Arc::clone(&user.email),
        user_alias: Arc::clone(&user.name),
        user_role: role_word(user.role),
        teams: vec![team],
        limit: LimitFields::of(app, Scope::User, user.id.as_u128()).await?,
        models: [],
        blocked: user.status != UserStatus::Active,
        created_at: user.created_at.to_string(),
        updated_at: user.updated_at.to_string(),
        notes,
    })
}
