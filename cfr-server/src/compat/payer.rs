//! Who pays for a call that another program makes.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use cfr_billing::budget::Budget;
use cfr_billing::outside::OutsideHold;
use cfr_core::gateway::Caller;
use cfr_core::id::BudgetId;
use cfr_core::ledger::{CallerIds, Scope};
use cfr_core::money::{Currency, Margin};
use serde::Deserialize;

use super::body::{invalid, not_found, refused};
use super::manager::Manager;
use super::names;
use crate::auth::user_caller;
use crate::error::ApiError;
use crate::state::App;

/// Whom a request names: a user, or a key.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Whom {
    /// The user's id, address or imported name.
    pub(super) user_id: Option<String>,
    /// The key that was presented to the other program.
    pub(super) key: Option<String>,
}

impl Whom {
    /// Whether anybody is named.
    pub(super) const fn is_named(&self) -> bool {
        self.user_id.is_some() || self.key.is_some()
    }

    /// What a call of theirs may do, and what it is charged to.
    ///
    /// # Errors
    /// 404 when there is nobody of that name in reach, 403 when they may not call.
    pub(super) async fn caller(&self, app: &App, manager: &Manager) -> Result<Caller, ApiError> {
        let caller = match (&self.key, &self.user_id) {
            (Some(key), _) => Caller::clone(app.keys.authenticate(&bearing(key)?, None).await?.caller()?),
            (None, Some(user)) => {
                let user = names::user(&*app.books.store, &manager.view, user).await?;
                let context = app.books.store.user_context(user.id, None).await.map_err(refused)?;
                user_caller(&context, None, app.clock.now())?
            }
            (None, None) => return Err(invalid("user_id", "name a user, or a `key`")),
        };
        manager.view.check_tenant(caller.ids.tenant).map_err(|_| not_found("key"))?;
        Ok(caller)
    }
}

/// The headers of a request that presents this key.
fn bearing(key: &str) -> Result<HeaderMap, ApiError> {
    let value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| not_found("key"))?;
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// Who pays, and on which terms. They are frozen with a hold.
#[derive(Debug, Clone)]
pub(super) struct Payer {
    pub(super) ids: CallerIds,
    pub(super) path: Vec<BudgetId>,
    pub(super) currency: Currency,
    pub(super) margin: Margin,
}

impl From<&Caller> for Payer {
    fn from(caller: &Caller) -> Self {
        Self { ids: caller.ids, path: caller.path.to_vec(), currency: caller.currency, margin: caller.margin }
    }
}

impl From<&OutsideHold> for Payer {
    fn from(hold: &OutsideHold) -> Self {
        let margin = Margin::from_bps(hold.margin_bps).unwrap_or(Margin::DEFAULT);
        Self { ids: hold.caller, path: hold.path.clone(), currency: hold.currency, margin }
    }
}

impl Payer {
    /// The budget that is shown as theirs: that of the user, else the first of the path.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn own_budget(&self, app: &App) -> Result<Budget, ApiError> {
        let mut own = None;
        for &id in &self.path {
            let budget = app.books.store.budget(id).await.map_err(refused)?;
            if budget.spec.scope == Scope::User {
                return Ok(budget);
            }
            own = own.or(Some(budget));
        }
        own.ok_or_else(|| not_found("budget"))
    }
}
