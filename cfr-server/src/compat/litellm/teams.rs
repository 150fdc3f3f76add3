//! `/team/*`: tenants.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cfr_billing::identity::{NewTenant, Tenant, TenantKind, TenantPatch, TenantStatus, UserFilter};
use cfr_billing::outside::Named;
use cfr_billing::store::{CatalogStore as _, PAGE_ROWS_MAX, PageRequest};
use cfr_core::ledger::Scope;
use cfr_core::money::Currency;
use cfr_core::time::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::body::{Params, invalid, refused};
use super::super::manager::Manager;
use super::super::names;
use super::fields::Fields;
use super::keys::KeyView;
use super::limit::{Limit, LimitFields};
use super::notes;
use crate::auth::access::Permission;
use crate::error::ApiError;
use crate::state::App;

/// What limits a team and is not enforced here.
const UNSUPPORTED: &[&str] = &[
    "models",
    "model_aliases",
    "budget_limits",
    "tpm_limit",
    "rpm_limit",
    "tpd_limit",
    "rpm_limit_type",
    "tpm_limit_type",
    "model_rpm_limit",
    "model_tpm_limit",
    "team_member_budget",
    "team_member_budget_duration",
    "team_member_rpm_limit",
    "team_member_tpm_limit",
    "guardrails",
    "policies",
    "object_permission",
    "organization_id",
    "access_group_ids",
    "allowed_passthrough_routes",
    "members",
    "members_with_roles",
    "admins",
];
/// The tenant of users whom nobody puts into a team.
const DEFAULT_TEAM: &str = "default";

/// A team as LiteLLM shows it.
#[derive(Debug, Serialize)]
pub(super) struct TeamView {
    team_id: String,
    team_alias: Arc<str>,
    #[serde(flatten)]
    limit: LimitFields,
    models: [Value; 0],
    blocked: bool,
    members_with_roles: Vec<Value>,
    created_at: String,
    updated_at: String,
    #[serde(flatten)]
    notes: Map<String, Value>,
}

/// Make a team.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<TeamView>, ApiError> {
    manager.may(Permission::TenantsCreate)?;
    fields.refuse(UNSUPPORTED)?;
    let now = manager.act.at;
    let (alias, id) = (fields.name("team_alias")?, fields.name("team_id")?);
    let blocked = fields.take::<bool>("blocked")?.unwrap_or_default();
    let limit = Limit::take(&mut fields, now)?;
    let notes = fields.notes()?;
    let name = alias.or_else(|| id.clone()).unwrap_or_else(|| "team".to_owned());
    let tenant = new_tenant(&app, &manager, &name).await?;
    limit.apply(&app, &manager, &tenant, (Scope::Tenant, tenant.id.as_u128())).await?;
    let named = Named::Tenant(tenant.id);
    notes::keep(&*app.books.store, named, Some(tenant.id), id.as_deref(), notes, &manager.act).await?;
    let tenant = if blocked { set_status(&manager, tenant, TenantStatus::Suspended).await? } else { tenant };
    app.keys.changed().await;
    Ok(Json(view(&app, &manager, &tenant).await?))
}

async fn new_tenant(app: &App, manager: &Manager, name: &str) -> Result<Tenant, ApiError> {
    let wanted = names::slug(name).unwrap_or_else(|| "team".to_owned());
    let taken = app.books.store.tenant_by_slug(&wanted).await.map_err(refused)?.is_some();
    let new = NewTenant {
        slug: if taken { format!("{wanted}-{:08x}", rand::random::<u32>()).into() } else { wanted.into() },
        name: name.into(),
        domain: None,
        kind: TenantKind::Customer,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::USD,
        settings: Default::default(),
    };
    manager.view.create_tenant(&new, &manager.act).await.map_err(refused)
}

/// The team that a request names; that of the key, or the one for everybody without a team.
///
/// # Errors
/// 404 when it is not in reach.
pub(super) async fn of_request(app: &App, manager: &Manager, name: Option<&str>) -> Result<Tenant, ApiError> {
    match (name, manager.tenant()) {
        (Some(name), _) => names::tenant(&*app.books.store, &manager.view, name).await,
        (None, Some(own)) => manager.view.tenant(own).await.map_err(refused),
        (None, None) => match manager.view.tenant_by_slug(DEFAULT_TEAM).await.map_err(refused)? {
            Some(tenant) => Ok(tenant),
            None => new_tenant(app, manager, DEFAULT_TEAM).await,
        },
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct TeamQuery {
    team_id: Option<String>,
}

/// Show a team with its keys.
pub(super) async fn info(
    State(app): State<Arc<App>>,
    manager: Manager,
    Params(query): Params<TeamQuery>,
) -> Result<Json<TeamInfo>, ApiError> {
    manager.may(Permission::TenantsRead)?;
    let id = query.team_id.ok_or_else(|| invalid("team_id", "which team"))?;
    let tenant = names::tenant(&*app.books.store, &manager.view, &id).await?;
    let team_info = view(&app, &manager, &tenant).await?;
    let page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    let mut keys = Vec::new();
    for key in manager.view.keys(Some(tenant.id), None, page).await.map_err(refused)?.items {
        keys.push(KeyView::of(&app, &key).await?);
    }
    Ok(Json(TeamInfo { team_id: team_info.team_id.clone(), team_info, keys, team_memberships: [] }))
}

/// A team, and its keys.
#[derive(Debug, Serialize)]
pub(super) struct TeamInfo {
    team_id: String,
    team_info: TeamView,
    keys: Vec<KeyView>,
    team_memberships: [Value; 0],
}

/// List teams.
pub(super) async fn list(State(app): State<Arc<App>>, manager: Manager) -> Result<Json<Vec<TeamView>>, ApiError> {
    manager.may(Permission::TenantsRead)?;
    let page = manager.view.tenants(PageRequest { after: None, limit: PAGE_ROWS_MAX }).await.map_err(refused)?;
    let mut teams = Vec::new();
    for tenant in page.items.iter().filter(|tenant| tenant.status != TenantStatus::Deleted) {
        teams.push(view(&app, &manager, tenant).await?);
    }
    Ok(Json(teams))
}

/// What became of a team.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    team_id: String,
    data: TeamView,
}

/// Change a team.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<Changed>, ApiError> {
    manager.may(Permission::TenantsWrite)?;
    manager.may(Permission::BudgetsWrite)?;
    fields.refuse(UNSUPPORTED)?;
    let id: String = fields.need("team_id")?;
    let tenant = names::tenant(&*app.books.store, &manager.view, &id).await?;
    let alias = fields.name("team_alias")?;
    let blocked = fields.take::<bool>("blocked")?;
    let limit = Limit::take(&mut fields, manager.act.at)?;
    let notes = fields.notes()?;
    let status = blocked.map(|blocked| if blocked { TenantStatus::Suspended } else { TenantStatus::Active });
    let patch = TenantPatch { name: alias.map(Into::into), status, ..TenantPatch::default() };
    let changed = patch != TenantPatch::default();
    let tenant = match changed {
        true => manager.view.update_tenant(tenant.id, tenant.version, &patch, &manager.act).await.map_err(refused)?,
        false => tenant,
    };
    limit.apply(&app, &manager, &tenant, (Scope::Tenant, tenant.id.as_u128())).await?;
    notes::keep(&*app.books.store, Named::Tenant(tenant.id), Some(tenant.id), None, notes, &manager.act).await?;
    app.keys.changed().await;
    let team = view(&app, &manager, &tenant).await?;
    Ok(Json(Changed { team_id: team.team_id.clone(), data: team }))
}

/// Delete teams: they stay as tombstones, and nobody of them calls any more.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
) -> Result<Json<Value>, ApiError> {
    manager.may(Permission::TenantsCreate)?;
    let ids: Vec<String> = fields.need("team_ids")?;
    for id in &ids {
        let tenant = names::tenant(&*app.books.store, &manager.view, id).await?;
        set_status(&manager, tenant, TenantStatus::Deleted).await?;
    }
    app.keys.changed().await;
    Ok(Json(json!({"deleted_teams": ids})))
}

/// Refuse the calls of a team from now on.
pub(super) async fn block(
    state: State<Arc<App>>,
    manager: Manager,
    fields: Fields,
) -> Result<Json<TeamView>, ApiError> {
    switch(state, manager, fields, TenantStatus::Suspended).await
}

/// Take them again.
pub(super) async fn unblock(
    state: State<Arc<App>>,
    manager: Manager,
    fields: Fields,
) -> Result<Json<TeamView>, ApiError> {
    switch(state, manager, fields, TenantStatus::Active).await
}

async fn switch(
    State(app): State<Arc<App>>,
    manager: Manager,
    mut fields: Fields,
    status: TenantStatus,
) -> Result<Json<TeamView>, ApiError> {
    manager.may(Permission::TenantsWrite)?;
    let id: String = fields.need("team_id")?;
    let tenant = names::tenant(&*app.books.store, &manager.view, &id).await?;
    let tenant = set_status(&manager, tenant, status).await?;
    app.keys.changed().await;
    Ok(Json(view(&app, &manager, &tenant).await?))
}

async fn set_status(manager: &Manager, tenant: Tenant, status: TenantStatus) -> Result<Tenant, ApiError> {
    let patch = TenantPatch { status: Some(status), ..TenantPatch::default() };
    manager.view.update_tenant(tenant.id, tenant.version, &patch, &manager.act).await.map_err(refused)
}

async fn view(app: &App, manager: &Manager, tenant: &Tenant) -> Result<TeamView, ApiError> {
    let (team_id, notes) = notes::of(&*app.books.store, Named::Tenant(tenant.id)).await?;
    let page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    let users = manager.view.users(&UserFilter::of_tenant(tenant.id), page).await.map_err(refused)?;
    let mut members_with_roles = Vec::new();
    for user in users.items {
        let (user_id, _) = notes::of(&*app.books.store, Named::User(user.id)).await?;
        let role = if user.role == cfr_billing::identity::Role::TenantAdmin { "admin" } else { "user" };
        members_with_roles.push(json!({"user_id": user_id, "user_email": user.email, "role": role}));
    }
    Ok(TeamView {
        team_id,
        team_alias: Arc::clone(&tenant.name),
        limit: LimitFields::of(app, Scope::Tenant, tenant.id.as_u128()).await?,
        models: [],
        blocked: tenant.status != TenantStatus::Active,
        members_with_roles,
        created_at: tenant.created_at.to_string(),
        updated_at: tenant.updated_at.to_string(),
        notes,
    })
}
