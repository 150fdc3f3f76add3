//! [`CatalogStore`] for a [`View`]: every method with what it reaches.

use async_trait::async_trait;
use cfr_core::id::{BudgetId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::{Scope, UsageRecord};
use cfr_core::time::Timestamp;

use super::{Reach, View};
use crate::audit_log::{Act, AuditEvent, AuditFilter, Event};
use crate::budget::{Budget, BudgetFilter, Grant, NewBudget, ScopeId};
use crate::identity::{
    ApiKey, KeyContext, KeyMac, KeyPatch, NewKey, NewSecret, NewTenant, NewUser, Tenant, TenantPatch, User,
    UserContext, UserFilter, UserPatch,
};
use crate::plan::{NewProduct, Product, ProductVersion};
use crate::store::{CatalogStore, Page, PageRequest, StoreError};
use crate::usage::{Dimension, ReportRow, UsageDay, UsageFilter};

impl View {
    fn usage_filter(&self, asked: &UsageFilter) -> Result<UsageFilter, StoreError> {
        let (tenant, user) = (self.tenant_of(asked.tenant)?, self.user_of(asked.user)?);
        Ok(UsageFilter { tenant, user, ..asked.clone() })
    }

    fn audit_filter(&self, asked: &AuditFilter) -> Result<AuditFilter, StoreError> {
        let tenant = self.tenant_of(asked.tenant)?;
        let own = self.reach.user().map(|user| user.to_string().into());
        Ok(AuditFilter { tenant, actor: own.or_else(|| asked.actor.clone()), ..asked.clone() })
    }

    fn budget_filter(&self, asked: &BudgetFilter) -> Result<BudgetFilter, StoreError> {
        let tenant = self.tenant_of(asked.tenant)?;
        Ok(match self.reach {
            Reach::User { user, .. } => {
                BudgetFilter { tenant, scope: Some(Scope::User), scope_id: Some(ScopeId(user.as_u128())) }
            }
            _ => BudgetFilter { tenant, ..asked.clone() },
        })
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl CatalogStore for View {
    async fn create_tenant(&self, new: &NewTenant, act: &Act) -> Result<Tenant, StoreError> {
        self.check_all("platform")?;
        self.store.create_tenant(new, act).await
    }

    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError> {
        self.visible_tenant(self.store.tenant(id).await?)
    }

    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<Tenant>, StoreError> {
        Ok(self.store.tenant_by_slug(slug).await?.and_then(|tenant| self.visible_tenant(tenant).ok()))
    }

    async fn tenants(&self, page: PageRequest) -> Result<Page<Tenant>, StoreError> {
        match self.reach.tenant() {
            None => self.store.tenants(page).await,
            Some(own) => Ok(one(self.store.tenant(own).await?, own.as_u128(), page)),
        }
    }

    async fn update_tenant(
        &self,
        id: TenantId,
        version: i64,
        patch: &TenantPatch,
        act: &Act,
    ) -> Result<Tenant, StoreError> {
        self.check_tenant(id)?;
        self.check_patch(patch)?;
        self.store.update_tenant(id, version, patch, act).await
    }

    async fn publish_product(&self, new: &NewProduct, act: &Act) -> Result<ProductVersion, StoreError> {
        self.check_all("platform")?;
        self.store.publish_product(new, act).await
    }

    async fn products(&self, page: PageRequest) -> Result<Page<Product>, StoreError> {
        let mut products = self.store.products(page).await?;
        products.items.retain(|product| product.active || self.reach.is_all());
        Ok(products)
    }

    async fn product(&self, id: ProductId) -> Result<Product, StoreError> {
        self.store.product(id).await
    }

    async fn product_by_code(&self, code: &str) -> Result<Option<Product>, StoreError> {
        self.store.product_by_code(code).await
    }

    async fn product_version(&self, id: ProductVersionId) -> Result<ProductVersion, StoreError> {
        self.store.product_version(id).await
    }

    async fn product_versions(&self, id: ProductId) -> Result<Vec<ProductVersion>, StoreError> {
        self.check_all("product")?;
        self.store.product_versions(id).await
    }

    async fn set_product_active(&self, id: ProductId, active: bool, act: &Act) -> Result<Product, StoreError> {
        self.check_all("product")?;
        self.store.set_product_active(id, active, act).await
    }

    async fn create_user(&self, new: &NewUser, act: &Act) -> Result<User, StoreError> {
        self.check_admission(new.tenant, new.role, new.product_version).await?;
        self.store.create_user(new, act).await
    }

    async fn user(&self, id: UserId) -> Result<User, StoreError> {
        self.visible_user(self.store.user(id).await?)
    }

    async fn users(&self, filter: &UserFilter, page: PageRequest) -> Result<Page<User>, StoreError> {
        let filter = UserFilter { tenant: self.tenant_of(filter.tenant)?, ..*filter };
        let Some(own) = self.reach.user() else { return self.store.users(&filter, page).await };
        let mut users = one(self.store.user(own).await?, own.as_u128(), page);
        users.items.retain(|user| filter.wants(user));
        Ok(users)
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        Ok(self.store.user_by_email(email).await?.and_then(|user| self.visible_user(user).ok()))
    }

    async fn update_user(&self, id: UserId, version: i64, patch: &UserPatch, act: &Act) -> Result<User, StoreError> {
        let user = self.user(id).await?;
        self.check_tenant(user.tenant)?;
        self.check_role(user.role)?;
        self.check_role(patch.role.unwrap_or(user.role))?;
        self.check_product(user.tenant, patch.product_version).await?;
        self.store.update_user(id, version, patch, act).await
    }

    async fn create_key(&self, new: &NewKey, act: &Act) -> Result<ApiKey, StoreError> {
        self.check_new_key(new).await?;
        self.store.create_key(new, act).await
    }

    async fn key(&self, id: KeyId) -> Result<ApiKey, StoreError> {
        self.visible_key(self.store.key(id).await?)
    }

    async fn keys(
        &self,
        tenant: Option<TenantId>,
        user: Option<UserId>,
        page: PageRequest,
    ) -> Result<Page<ApiKey>, StoreError> {
        self.store.keys(self.tenant_of(tenant)?, self.user_of(user)?, page).await
    }

    async fn revoke_key(&self, id: KeyId, act: &Act) -> Result<ApiKey, StoreError> {
        self.key(id).await?;
        self.store.revoke_key(id, act).await
    }

    async fn update_key(&self, id: KeyId, version: i64, patch: &KeyPatch, act: &Act) -> Result<ApiKey, StoreError> {
        self.key(id).await?;
        self.store.update_key(id, version, patch, act).await
    }

    async fn rotate_key(
        &self,
        id: KeyId,
        secret: &NewSecret,
        grace_until: Timestamp,
        act: &Act,
    ) -> Result<ApiKey, StoreError> {
        self.key(id).await?;
        self.store.rotate_key(id, secret, grace_until, act).await
    }

    async fn revoke_secret(&self, mac: &KeyMac, act: &Act) -> Result<Option<ApiKey>, StoreError> {
        self.check_all("key")?;
        self.store.revoke_secret(mac, act).await
    }

    async fn touch_keys(&self, used: &[(KeyId, Timestamp)]) -> Result<(), StoreError> {
        self.check_all("key")?;
        self.store.touch_keys(used).await
    }

    async fn key_context(&self, mac: &KeyMac) -> Result<Option<KeyContext>, StoreError> {
        self.check_all("key")?;
        self.store.key_context(mac).await
    }

    async fn user_context(&self, user: UserId, key: Option<KeyId>) -> Result<UserContext, StoreError> {
        self.check_all("user")?;
        self.store.user_context(user, key).await
    }

    async fn create_budget(&self, new: &NewBudget, act: &Act) -> Result<Budget, StoreError> {
        self.check_new_budget(new).await?;
        self.store.create_budget(new, act).await
    }

    async fn budget(&self, id: BudgetId) -> Result<Budget, StoreError> {
        self.visible_budget(self.store.budget(id).await?).await
    }

    async fn budgets(&self, filter: &BudgetFilter, page: PageRequest) -> Result<Page<Budget>, StoreError> {
        self.store.budgets(&self.budget_filter(filter)?, page).await
    }

    async fn set_budget_limit(
        &self,
        id: BudgetId,
        version: i64,
        included: i64,
        act: &Act,
    ) -> Result<Budget, StoreError> {
        self.check_limit(id, included).await?;
        self.store.set_budget_limit(id, version, included, act).await
    }

    async fn grants(&self, budget: BudgetId, page: PageRequest) -> Result<Page<Grant>, StoreError> {
        self.budget(budget).await?;
        self.store.grants(budget, page).await
    }

    async fn usage(&self, filter: &UsageFilter, page: PageRequest) -> Result<Page<UsageRecord>, StoreError> {
        self.store.usage(&self.usage_filter(filter)?, page).await
    }

    async fn usage_daily(&self, filter: &UsageFilter) -> Result<Vec<UsageDay>, StoreError> {
        self.store.usage_daily(&self.usage_filter(filter)?).await
    }

    async fn usage_report(&self, filter: &UsageFilter, by: &[Dimension]) -> Result<Vec<ReportRow>, StoreError> {
        self.store.usage_report(&self.usage_filter(filter)?, by).await
    }

    async fn active_users(&self, filter: &UsageFilter) -> Result<i64, StoreError> {
        self.store.active_users(&self.usage_filter(filter)?).await
    }

    async fn save_prices(&self, hash: &[u8; 32], source: &str, body: &[u8], act: &Act) -> Result<(), StoreError> {
        self.check_all("platform")?;
        self.store.save_prices(hash, source, body, act).await
    }

    async fn latest_prices(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.check_all("platform")?;
        self.store.latest_prices().await
    }

    async fn record(&self, event: &Event, act: &Act) -> Result<(), StoreError> {
        self.tenant_of(event.tenant)?;
        self.store.record(event, act).await
    }

    async fn audit_events(&self, filter: &AuditFilter, page: PageRequest) -> Result<Page<AuditEvent>, StoreError> {
        self.store.audit_events(&self.audit_filter(filter)?, page).await
    }

    async fn audit_chain(&self, seq: i64, limit: u32) -> Result<Vec<AuditEvent>, StoreError> {
        self.check_all("platform")?;
        self.store.audit_chain(seq, limit).await
    }
}

/// The page of a list that has one row.
fn one<T>(row: T, position: u128, page: PageRequest) -> Page<T> {
    let before = page.after.is_none_or(|after| after.0 < position);
    Page { items: before.then_some(row).into_iter().collect(), next: None }
}
