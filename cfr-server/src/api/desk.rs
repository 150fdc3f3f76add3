//! What a handler can reach: the catalog within the caller's reach, money on what is in it, and what belongs to nobody.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use cfr_billing::budget::{Budget, Grant};
use cfr_billing::identity::{ApiKey, User};
use cfr_billing::store::{
    ApprovalStore, CatalogStore, NewGrant, OidcStore, Store, StoreError, SubscriptionStore, View,
};
use cfr_core::broadcast::Broadcast;
use cfr_core::id::{BudgetId, KeyId, TenantId};
use cfr_core::ledger::{Balance, BudgetLedger as _};
use cfr_core::time::{Clock, Timestamp};

use super::problem::Problem;
use super::{ApiState, PriceDesk};
use crate::accounts::AccountDesk;
use crate::auth::Keys;
use crate::auth::access::Access;
use crate::mail::Letters;
use crate::secrets::Vault;

/// What all requests share. The guard has it, handlers have a [`Desk`] each.
#[derive(Debug, Clone)]
pub struct Shared(Arc<ApiState>);

impl Shared {
    /// Over these parts.
    #[must_use]
    pub fn new(state: ApiState) -> Self {
        Self(Arc::new(state))
    }

    /// Everything, for the guard: nothing is filtered here.
    pub(super) fn parts(&self) -> &ApiState {
        &self.0
    }
}

/// One request's view of everything.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Tenants, products, users, keys, budgets, usage and events within the caller's reach.
    pub(crate) store: Arc<dyn CatalogStore>,
    /// The same, for questions about what is in reach.
    pub(crate) view: View,
    /// Who asks, and what they may do.
    pub(crate) access: Access,
    shared: Shared,
}

impl FromRequestParts<Shared> for Desk {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let access = parts.extensions.get::<Access>().ok_or_else(|| Problem::internal("nobody asks"))?.clone();
        let view = View::new(Arc::clone(&shared.0.store) as _, access.reach);
        Ok(Self { store: Arc::new(view.clone()), view, access, shared: shared.clone() })
    }
}

impl Desk {
    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.shared.0.clock.now()
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.0.clock
    }

    /// The prices that requests are charged by.
    pub(crate) fn prices(&self) -> &Arc<dyn PriceDesk> {
        &self.shared.0.prices
    }

    /// Word to the other replicas.
    pub(crate) fn broadcast(&self) -> &Arc<dyn Broadcast> {
        &self.shared.0.broadcast
    }

    /// Judges accounts at providers.
    pub(crate) fn accounts(&self) -> &Arc<AccountDesk> {
        &self.shared.0.accounts
    }

    /// What one person may grant to a budget within a day alone; none for everything.
    pub(crate) fn second_person_above(&self) -> Option<i64> {
        self.shared.0.second_person_above
    }

    /// Subscriptions of everybody. Whose one is says only itself: [`Desk::within`] says whether that is in reach.
    pub(crate) fn subscriptions(&self) -> &dyn SubscriptionStore {
        &*self.shared.0.store
    }

    /// Proposals about every budget, likewise.
    pub(crate) fn approvals(&self) -> &dyn ApprovalStore {
        &*self.shared.0.store
    }

    /// The key with this id, wherever it belongs: for who is behind it.
    pub(crate) async fn any_key(&self, id: KeyId) -> Result<ApiKey, StoreError> {
        self.shared.0.store.key(id).await
    }

    /// Seals secrets.
    pub(crate) fn vault(&self) -> &Arc<Vault> {
        &self.shared.0.vault
    }

    /// Writes letters.
    pub(crate) fn letters(&self) -> &Letters {
        &self.shared.0.letters
    }

    /// Makes the texts of keys. What it writes itself is not filtered: keys are written by [`Desk::store`].
    pub(super) fn keys(&self) -> &Arc<Keys> {
        &self.shared.0.keys
    }

    /// Something that a key can feel was changed: every replica reads it anew.
    pub(crate) async fn changed(&self) {
        self.shared.0.keys.changed().await;
    }

    /// The whole store, for what belongs to this tenant as a whole, or to nobody but the platform.
    ///
    /// # Errors
    /// 404 when that is out of reach.
    pub(crate) fn within(&self, tenant: Option<TenantId>) -> Result<&Arc<dyn Store>, Problem> {
        match tenant {
            Some(tenant) => self.view.check_tenant(tenant)?,
            None => self.view.check_all("platform")?,
        }
        Ok(&self.shared.0.store)
    }

    /// The whole store, for what belongs to this user.
    ///
    /// # Errors
    /// 404 when they are out of reach.
    pub(crate) fn of_user(&self, user: &User) -> Result<&Arc<dyn Store>, Problem> {
        match self.view.reach().has_user(user.tenant, user.id) {
            true => Ok(&self.shared.0.store),
            false => Err(Problem::not_found("user")),
        }
    }

    /// Programs that people sign in to. Whose one is says only itself: [`Desk::within`] says whether that is in reach.
    pub(crate) fn oidc(&self) -> &dyn OidcStore {
        &*self.shared.0.store
    }

    /// What is left of a budget within reach, to this moment.
    pub(crate) async fn balance(&self, budget: BudgetId) -> Result<Balance, Problem> {
        self.store.budget(budget).await?;
        Ok(self.shared.0.escrow.balance(budget).await?)
    }

    /// Grants money to a budget within reach, or takes some.
    ///
    /// # Errors
    /// [`StoreError::NeedsSecondPerson`] among others.
    pub(crate) async fn grant(&self, new: &NewGrant) -> Result<Grant, StoreError> {
        self.view.check_grant(new.budget, new.amount).await?;
        self.shared.0.escrow.grant(new).await
    }

    /// Changes the terms of a budget; running leases learn of it.
    pub(crate) async fn recalled(
        &self,
        budget: BudgetId,
        change: impl Future<Output = Result<Budget, StoreError>> + Send,
    ) -> Result<Budget, Problem> {
        Ok(self.shared.0.escrow.recalled(budget, change).await?)
    }

    /// The ledger reads the terms of a budget anew.
    pub(crate) async fn forget_budget(&self, budget: BudgetId) {
        self.shared.0.escrow.forget(budget).await;
    }

    /// Passes who proved of late who they are. A key does so with every request.
    ///
    /// # Errors
    /// 403 with what to do.
    pub(crate) fn require_recent_proof(&self) -> Result<(), Problem> {
        if self.access.is_proved(self.now()) { Ok(()) } else { Err(Problem::step_up_required()) }
    }
}
