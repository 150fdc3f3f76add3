//! The catalog as one caller may see it: the filter that keeps tenants apart stands here, below every handler.
//!
//! What is out of reach is not there: it is not found, not listed, and nothing is made or changed in it. A method that the
//! catalog gets does not compile until it says here what it reaches.

use std::sync::Arc;

use cfr_core::id::{BudgetId, KeyId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::{LimitPolicy, Scope};

use super::{CatalogStore, PageRequest, StoreError};
use crate::budget::{Budget, BudgetFilter, NewBudget, ScopeId};
use crate::identity::{ApiKey, KeyKind, NewKey, Role, Tenant, TenantPatch, User};

mod catalog;

/// What a caller may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// The whole platform.
    All,
    /// One tenant with its users, keys, budgets, usage and events.
    Tenant(TenantId),
    /// One user, with their own keys, budget, usage and events.
    User {
        /// Whom.
        user: UserId,
        /// The user's tenant.
        tenant: TenantId,
    },
}

impl Reach {
    /// The tenant that everything in reach belongs to; none for the whole platform.
    #[must_use]
    pub const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::All => None,
            Self::Tenant(tenant) | Self::User { tenant, .. } => Some(tenant),
        }
    }

    /// The user that everything in reach belongs to, where it is one user's.
    #[must_use]
    pub const fn user(self) -> Option<UserId> {
        match self {
            Self::User { user, .. } => Some(user),
            Self::All | Self::Tenant(_) => None,
        }
    }

    /// Whether the whole platform is in reach.
    #[must_use]
    pub const fn is_all(self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether things of a tenant as a whole are in reach.
    #[must_use]
    pub fn has_tenant(self, tenant: TenantId) -> bool {
        match self {
            Self::All => true,
            Self::Tenant(own) => own == tenant,
            Self::User { .. } => false,
        }
    }

    /// Whether things of a user of a tenant are in reach.
    #[must_use]
    pub fn has_user(self, tenant: TenantId, user: UserId) -> bool {
        match self {
            Self::User { user: own, .. } => own == user,
            _ => self.has_tenant(tenant),
        }
    }
}

/// Why a role is not given away here.
pub const NO_PLATFORM_ADMIN: &str = "an administrator of the platform is made on the command line only: `cfr-server admin \
     create`";

/// The catalog within a caller's [`Reach`].
#[derive(Debug, Clone)]
pub struct View {
    store: Arc<dyn CatalogStore>,
    reach: Reach,
}

impl View {
    /// The catalog of `store` within `reach`.
    #[must_use]
    pub fn new(store: Arc<dyn CatalogStore>, reach: Reach) -> Self {
        Self { store, reach }
    }

    /// What is in reach.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        self.reach
    }

    /// Passes when the whole platform is in reach.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for everybody else.
    pub const fn check_all(&self, what: &'static str) -> Result<(), StoreError> {
        if self.reach.is_all() { Ok(()) } else { Err(StoreError::NotFound { what }) }
    }

    /// Passes when things of this tenant as a whole are in reach.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn check_tenant(&self, tenant: TenantId) -> Result<(), StoreError> {
        found(self.reach.has_tenant(tenant), "tenant")
    }

    /// The tenant that a list is of: the one in reach, whoever asks for all of them.
    fn tenant_of(&self, asked: Option<TenantId>) -> Result<Option<TenantId>, StoreError> {
        let own = self.reach.tenant();
        found(own.is_none() || asked.is_none() || asked == own, "tenant")?;
        Ok(own.or(asked))
    }

    /// The user that a list is of: the one in reach, where it is one.
    fn user_of(&self, asked: Option<UserId>) -> Result<Option<UserId>, StoreError> {
        let own = self.reach.user();
        found(own.is_none() || asked.is_none() || asked == own, "user")?;
        Ok(own.or(asked))
    }

    fn visible_tenant(&self, tenant: Tenant) -> Result<Tenant, StoreError> {
        found(self.reach.tenant().is_none_or(|own| own == tenant.id), "tenant")?;
        Ok(tenant)
    }

    fn visible_user(&self, user: User) -> Result<User, StoreError> {
        found(self.reach.has_user(user.tenant, user.id), "user")?;
        Ok(user)
    }

    fn visible_key(&self, key: ApiKey) -> Result<ApiKey, StoreError> {
        let (tenant, user) = (key.tenant, key.user);
        found(self.has_owner(tenant, user), "key")?;
        Ok(key)
    }

    fn has_owner(&self, tenant: Option<TenantId>, user: Option<UserId>) -> bool {
        match (tenant, user) {
            (Some(tenant), Some(user)) => self.reach.has_user(tenant, user),
            (Some(tenant), None) => self.reach.has_tenant(tenant),
            (None, _) => self.reach.is_all(),
        }
    }

    async fn visible_budget(&self, budget: Budget) -> Result<Budget, StoreError> {
        let visible = match (self.reach, budget.tenant) {
            (Reach::All, _) => true,
            (Reach::Tenant(own), tenant) => tenant == Some(own),
            (Reach::User { user, .. }, _) => match budget.spec.scope {
                Scope::User => budget.scope_id == ScopeId(user.as_u128()),
                Scope::Key => self.key_in_reach(budget.scope_id).await?,
                _ => false,
            },
        };
        found(visible, "budget")?;
        Ok(budget)
    }

    async fn key_in_reach(&self, id: ScopeId) -> Result<bool, StoreError> {
        match self.store.key(KeyId::from_u128(id.0)).await {
            Ok(key) => Ok(self.has_owner(key.tenant, key.user)),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Nobody but the operator makes whoever runs the platform, or touches them.
    fn check_role(&self, role: Role) -> Result<(), StoreError> {
        if self.reach.is_all() || role != Role::Admin { Ok(()) } else { Err(StoreError::invalid(NO_PLATFORM_ADMIN)) }
    }

    fn check_patch(&self, patch: &TenantPatch) -> Result<(), StoreError> {
        let own = patch.status.is_none() && patch.users_max.is_none();
        if own || self.reach.is_all() {
            return Ok(());
        }
        Err(StoreError::invalid("the state of a tenant and how many users it may have are for the platform to change"))
    }

    /// A budget of a user's key only narrows what its user has; that of a service key is a share of what the tenant has.
    async fn check_new_key(&self, new: &NewKey) -> Result<(), StoreError> {
        found(self.has_owner(new.tenant, new.user), if new.user.is_some() { "user" } else { "tenant" })?;
        match (new.kind, &new.budget, self.reach.tenant()) {
            (KeyKind::Admin, _, _) => self.check_all("tenant"),
            (KeyKind::Service, Some(budget), Some(tenant)) => {
                self.check_share(tenant, LimitPolicy::Hard, budget.included_nanos).await
            }
            _ => Ok(()),
        }
    }

    /// Within a tenant, budgets are divided up, and none is made: users and keys get shares of what the tenant has.
    async fn check_new_budget(&self, new: &NewBudget) -> Result<(), StoreError> {
        if self.reach.is_all() {
            return Ok(());
        }
        let tenant = new.tenant.ok_or(StoreError::NotFound { what: "tenant" })?;
        self.check_tenant(tenant)?;
        let inside = match new.scope {
            Scope::User => self.user(UserId::from_u128(new.scope_id.0)).await.is_ok(),
            Scope::Key => self.key_in_reach(new.scope_id).await?,
            _ => return Err(StoreError::invalid("a tenant's administrator sets the budgets of users and keys only")),
        };
        found(inside, new.scope.name())?;
        self.check_share(tenant, new.policy, new.included_nanos).await
    }

    async fn check_limit(&self, id: BudgetId, included: i64) -> Result<(), StoreError> {
        let budget = self.budget(id).await?;
        let Some(tenant) = self.reach.tenant() else { return Ok(()) };
        self.check_tenant(tenant)?;
        if !matches!(budget.spec.scope, Scope::User | Scope::Key) {
            return Err(StoreError::invalid("the tenant's own budget is for the platform to change"));
        }
        self.check_share(tenant, budget.spec.policy, included).await
    }

    /// Passes when money may be granted to a budget: a tenant's own budget gets more from the platform only.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is out of reach, [`StoreError::Invalid`] when it is not for this caller to grant.
    pub async fn check_grant(&self, budget: BudgetId, amount_nanos: i64) -> Result<(), StoreError> {
        self.check_limit(budget, amount_nanos).await
    }

    /// Passes when somebody may become a user of this tenant with this role and on these terms.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a tenant out of reach, [`StoreError::Invalid`] for what is not the caller's to give.
    pub async fn check_admission(
        &self,
        tenant: TenantId,
        role: Role,
        terms: Option<ProductVersionId>,
    ) -> Result<(), StoreError> {
        self.check_tenant(tenant)?;
        self.check_role(role)?;
        self.check_product(tenant, terms).await
    }

    /// What a product gives to its users is a share like any other.
    async fn check_product(&self, tenant: TenantId, version: Option<ProductVersionId>) -> Result<(), StoreError> {
        match version {
            Some(version) if !self.reach.is_all() => {
                let terms = self.store.product_version(version).await?.terms;
                self.check_share(tenant, LimitPolicy::Hard, terms.budget_included_nanos).await
            }
            _ => Ok(()),
        }
    }

    /// A share is at most what the tenant has. All shares together may be more: every request is charged to the tenant's
    /// budget, too, so that what is spent never is.
    async fn check_share(&self, tenant: TenantId, policy: LimitPolicy, included: i64) -> Result<(), StoreError> {
        if policy != LimitPolicy::Hard {
            return Err(StoreError::invalid("within a tenant, limits are hard"));
        }
        let scope_id = Some(ScopeId(tenant.as_u128()));
        let filter = BudgetFilter { tenant: Some(tenant), scope: Some(Scope::Tenant), scope_id };
        let pool = self.store.budgets(&filter, PageRequest::default()).await?.items;
        let largest = pool.iter().filter(|budget| budget.active).map(|budget| budget.spec.included_nanos).max();
        match largest {
            Some(pool) if included <= pool => Ok(()),
            Some(_) => Err(StoreError::invalid("this is more than the tenant's own budget")),
            None => Err(StoreError::invalid(
                "the tenant has no budget of its own to give shares of: ask the platform's administrator to set one",
            )),
        }
    }
}

fn found(visible: bool, what: &'static str) -> Result<(), StoreError> {
    if visible { Ok(()) } else { Err(StoreError::NotFound { what }) }
}

#[cfg(test)]
mod tests;
