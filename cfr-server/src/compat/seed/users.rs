//! `/api/users`: people as the billing API that runs today manages them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use cfr_billing::approval::Consent;
use cfr_billing::budget::{Budget, NewBudget, ScopeId};
use cfr_billing::identity::{KeyKind, NewUser, Role, User, UserFilter};
use cfr_billing::store::{CatalogStore, PAGE_ROWS_MAX, PageRequest};
use cfr_core::ledger::{BudgetLedger, LimitPolicy, Scope};
use cfr_core::time::Period;
use serde::{Deserialize, Serialize};

use super::super::amount::Amount;
use super::super::body::{Body, Params, invalid, refused};
use super::super::manager::Manager;
use super::super::names;
use super::super::price::positive;
use super::super::view::{BudgetFields, Presenter, UserFields, user_budget};
use crate::api::grant_of;
use crate::auth::KeyWish;
use crate::auth::access::Permission;
use crate::error::ApiError;
use crate::state::App;

/// Users on one answer when nobody says.
const LIMIT_DEFAULT: u32 = 100;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 200;
/// Characters of an e-mail address (RFC 5321).
const EMAIL_CHARS_MAX: usize = 254;

/// Why money is granted again.
const RESET: &str = "reset of the budget";

/// Which users.
#[derive(Debug, Deserialize)]
pub(super) struct ListUsers {
    tenant_id: Option<String>,
    email: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Some users.
#[derive(Debug, Serialize)]
pub(super) struct UserList {
    users: Vec<UserFields>,
    next_cursor: Option<String>,
}

/// List users in the order of their creation, or the one with an address.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    manager: Manager,
    Params(query): Params<ListUsers>,
) -> Result<Json<UserList>, ApiError> {
    manager.may(Permission::UsersRead)?;
    let mut presenter = Presenter::new(&app);
    if let Some(email) = &query.email {
        let found = manager.view.user_by_email(email).await.map_err(refused)?;
        let users = match found {
            Some(user) => vec![presenter.user(&user).await?],
            None => Vec::new(),
        };
        return Ok(Json(UserList { users, next_cursor: None }));
    }
    let tenant = match &query.tenant_id {
        Some(name) => Some(names::tenant(&*app.books.store, &manager.view, name).await?.id),
        None => None,
    };
    let filter = UserFilter { tenant, status: None };
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=PAGE_ROWS_MAX).contains(&limit) {
        return Err(invalid("limit", format_args!("1 to {PAGE_ROWS_MAX}")));
    }
    let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
    let page = manager.view.users(&filter, PageRequest { after, limit }).await.map_err(refused)?;
    let mut users = Vec::with_capacity(page.items.len());
    for user in &page.items {
        users.push(presenter.user(user).await?);
    }
    Ok(Json(UserList { users, next_cursor: page.next.map(|next| format!("{:032x}", next.0)) }))
}

fn parse_cursor(text: &str) -> Result<cfr_billing::store::Cursor, ApiError> {
    let value = u128::from_str_radix(text, 16).map_err(|_| invalid("cursor", "send back `next_cursor`"))?;
    Ok(cfr_billing::store::Cursor(value))
}

/// Show a user.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    manager: Manager,
    Path(user): Path<String>,
) -> Result<Json<UserFields>, ApiError> {
    manager.may(Permission::UsersRead)?;
    let user = names::user(&*app.books.store, &manager.view, &user).await?;
    Ok(Json(Presenter::new(&app).user(&user).await?))
}

/// Somebody to make.
#[derive(Debug, Deserialize)]
pub(super) struct CreateUser {
    email: String,
    name: Option<String>,
    tenant_id: Option<String>,
    product_id: Option<String>,
    role: Option<Role>,
    /// Whether they get a key at once; so they did.
    #[serde(default = "yes")]
    create_key: bool,
}

const fn yes() -> bool {
    true
}

/// A new user, and the key that is shown once.
#[derive(Debug, Serialize)]
pub(super) struct CreatedUser {
    #[serde(flatten)]
    user: UserFields,
    /// Shown this once.
    litellm_api_key: Option<String>,
}

/// Make a user with a budget by their product's terms, and a key.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    manager: Manager,
    Body(wish): Body<CreateUser>,
) -> Result<(StatusCode, Json<CreatedUser>), ApiError> {
    manager.may(Permission::UsersWrite)?;
    wish.check()?;
    if wish.create_key {
        manager.may(Permission::KeysWrite)?;
    }
    let store = &*app.books.store;
    let tenant = match (&wish.tenant_id, manager.tenant()) {
        (Some(name), _) => names::tenant(store, &manager.view, name).await?,
        (None, Some(own)) => manager.view.tenant(own).await.map_err(refused)?,
        (None, None) => return Err(invalid("tenant_id", "which tenant the user belongs to")),
    };
    let product_version = match &wish.product_id {
        Some(name) => Some(names::product(store, &manager.view, name).await?.current.id),
        None => None,
    };
    let new = NewUser {
        tenant: tenant.id,
        email: wish.email.as_str().into(),
        name: wish.name.as_deref().unwrap_or(&wish.email).into(),
        role: wish.role.unwrap_or(Role::User),
        product_version,
        locale: None,
    };
    let user = manager.view.create_user(&new, &manager.act).await.map_err(refused)?;
    app.keys.changed().await;
    let secret = if wish.create_key { Some(first_key(&app, &manager, &user).await?) } else { None };
    let user = Presenter::new(&app).user(&user).await?;
    Ok((StatusCode::CREATED, Json(CreatedUser { user, litellm_api_key: secret })))
}

impl CreateUser {
    fn check(&self) -> Result<(), ApiError> {
        let parts = self.email.split_once('@');
        let shape =
            parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
        let letters = !self.email.chars().any(|letter| letter.is_whitespace() || letter.is_control());
        if !shape || !letters || self.email.len() > EMAIL_CHARS_MAX {
            return Err(invalid("email", "an e-mail address"));
        }
        let name = self.name.as_deref().unwrap_or(&self.email);
        if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(invalid("name", format_args!("1 to {NAME_CHARS_MAX} characters on one line")));
        }
        Ok(())
    }
}

async fn first_key(app: &App, manager: &Manager, user: &User) -> Result<String, ApiError> {
    let wish = KeyWish { tenant: Some(user.tenant), user: Some(user.id), ..KeyWish::new(KeyKind::Live, "first key") };
    let (text, _) = app.keys.issue(wish, &manager.act).await.map_err(refused)?;
    Ok(text.expose().to_owned())
}

/// What became of a user's budget.
#[derive(Debug, Serialize)]
pub(super) struct BudgetAnswer {
    user_id: Arc<str>,
    #[serde(flatten)]
    budget: BudgetFields,
}

/// Let a user spend anew what the current period included: what was spent is granted once more. Nothing is zeroed.
pub(super) async fn reset_budget(
    State(app): State<Arc<App>>,
    manager: Manager,
    Path(user): Path<String>,
) -> Result<Json<BudgetAnswer>, ApiError> {
    manager.may(Permission::LedgerAdjust)?;
    let user = names::user(&*app.books.store, &manager.view, &user).await?;
    let budget = budget_of(&app, &user).await?;
    let balance = app.books.escrow.balance(budget.spec.id).await.map_err(ApiError::ledger_unavailable)?;
    let (view, by) = (&manager.view, &manager.act.by);
    let grant = grant_of(view, budget.spec.id, &balance, RESET, (by, Consent::NotNeeded)).await.map_err(refused)?;
    if let Some(grant) = grant {
        view.check_grant(grant.budget, grant.amount).await.map_err(refused)?;
        app.books.escrow.grant(&grant).await.map_err(refused)?;
    }
    answer(&app, user, &budget).await
}

/// A user's limit.
#[derive(Debug, Deserialize)]
pub(super) struct SetBudget {
    #[serde(alias = "budget", alias = "max_budget")]
    budget_total: Amount,
    budget_reset_date: Option<serde_json::Value>,
}

/// Set what each period of a user's budget includes; the current one gets the difference.
pub(super) async fn set_budget(
    State(app): State<Arc<App>>,
    manager: Manager,
    Path(user): Path<String>,
    Body(wish): Body<SetBudget>,
) -> Result<Json<BudgetAnswer>, ApiError> {
    manager.may(Permission::BudgetsWrite)?;
    if wish.budget_reset_date.is_some() {
        return Err(invalid(
            "budget_reset_date",
            "periods of a budget cannot be moved; make another budget by /api/v1/budgets",
        ));
    }
    let user = names::user(&*app.books.store, &manager.view, &user).await?;
    let tenant = app.books.store.tenant(user.tenant).await.map_err(refused)?;
    let limit = positive("budget_total", wish.budget_total)?.money(tenant.currency);
    let limit = limit.map_err(|error| invalid("budget_total", error))?.nanos();
    let budget = match user_budget(&app, user.id).await.map_err(refused)? {
        Some(budget) => {
            let change = manager.view.set_budget_limit(budget.spec.id, budget.version, limit, &manager.act);
            app.books.escrow.recalled(budget.spec.id, change).await.map_err(refused)?
        }
        None => {
            let new = NewBudget {
                scope: Scope::User,
                scope_id: ScopeId(user.id.as_u128()),
                tenant: Some(tenant.id),
                currency: tenant.currency,
                included_nanos: limit,
                policy: LimitPolicy::Hard,
                period: Period::CalendarMonth,
                zone: tenant.zone.clone(),
            };
            manager.view.create_budget(&new, &manager.act).await.map_err(refused)?
        }
    };
    app.keys.changed().await;
    answer(&app, user, &budget).await
}

async fn budget_of(app: &App, user: &User) -> Result<Budget, ApiError> {
    let budget = user_budget(app, user.id).await.map_err(refused)?;
    budget.ok_or_else(|| ApiError::not_found("budget_not_found", "the user has no budget: PUT /api/users/{id}/budget"))
}

async fn answer(app: &App, user: User, budget: &Budget) -> Result<Json<BudgetAnswer>, ApiError> {
    let budget = BudgetFields::of(app, budget).await?;
    let user_id = Presenter::new(app).user(&user).await?.id;
    Ok(Json(BudgetAnswer { user_id, budget }))
}
