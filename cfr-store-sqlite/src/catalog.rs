//! [`CatalogStore`]: reads go to the reading connections, every change is one transaction of the writer.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, AuditEvent, AuditFilter, Event};
use cfr_billing::budget::{Budget, BudgetFilter, Grant, NewBudget};
use cfr_billing::identity::{
    ApiKey, KeyContext, KeyMac, KeyPatch, NewKey, NewSecret, NewTenant, NewUser, Tenant, TenantPatch, User,
    UserContext, UserFilter, UserPatch,
};
use cfr_billing::plan::{NewProduct, Product, ProductVersion};
use cfr_billing::store::{CatalogStore, Page, PageRequest, StoreError};
use cfr_billing::usage::{Dimension, ReportRow, UsageDay, UsageFilter};
use cfr_core::id::{BudgetId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::UsageRecord;
use cfr_core::time::Timestamp;

use crate::SqliteStore;
use crate::audit_log;
use crate::identity::{key, tenant, user};
use crate::ledger::grant;
use crate::writer::write;
use crate::{report, usage};

pub(crate) mod budget;
mod price;
pub(crate) mod product;

#[async_trait]
impl CatalogStore for SqliteStore {
    async fn create_tenant(&self, new: &NewTenant, act: &Act) -> Result<Tenant, StoreError> {
        write!(self, act.at, |tx| tenant::create(tx, new, act))
    }

    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError> {
        Ok(tenant::by_id(&mut *self.reader().await?, id).await?)
    }

    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<Tenant>, StoreError> {
        Ok(tenant::by_slug(self.readers(), slug).await?)
    }

    async fn tenants(&self, page: PageRequest) -> Result<Page<Tenant>, StoreError> {
        Ok(tenant::list(self.readers(), page).await?)
    }

    async fn update_tenant(
        &self,
        id: TenantId,
        version: i64,
        patch: &TenantPatch,
        act: &Act,
    ) -> Result<Tenant, StoreError> {
        write!(self, act.at, |tx| tenant::update(tx, id, version, patch, act))
    }

    async fn publish_product(&self, new: &NewProduct, act: &Act) -> Result<ProductVersion, StoreError> {
        write!(self, act.at, |tx| product::publish(tx, new, act))
    }

    async fn products(&self, page: PageRequest) -> Result<Page<Product>, StoreError> {
        Ok(product::list(self.readers(), page).await?)
    }

    async fn product(&self, id: ProductId) -> Result<Product, StoreError> {
        Ok(product::by_id(&mut *self.reader().await?, id).await?)
    }

    async fn product_by_code(&self, code: &str) -> Result<Option<Product>, StoreError> {
        Ok(product::by_code(self.readers(), code).await?)
    }

    async fn product_version(&self, id: ProductVersionId) -> Result<ProductVersion, StoreError> {
        Ok(product::version(&mut *self.reader().await?, id).await?)
    }

    async fn product_versions(&self, id: ProductId) -> Result<Vec<ProductVersion>, StoreError> {
        Ok(product::versions(self.readers(), id).await?)
    }

    async fn set_product_active(&self, id: ProductId, active: bool, act: &Act) -> Result<Product, StoreError> {
        write!(self, act.at, |tx| product::set_active(tx, id, active, act))
    }

    async fn create_user(&self, new: &NewUser, act: &Act) -> Result<User, StoreError> {
        write!(self, act.at, |tx| user::create(tx, new, act))
    }

    async fn user(&self, id: UserId) -> Result<User, StoreError> {
        Ok(user::by_id(&mut *self.reader().await?, id).await?)
    }

    async fn users(&self, filter: &UserFilter, page: PageRequest) -> Result<Page<User>, StoreError> {
        Ok(user::list(self.readers(), filter, page).await?)
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        Ok(user::by_email(self.readers(), email).await?)
    }

    async fn update_user(&self, id: UserId, version: i64, patch: &UserPatch, act: &Act) -> Result<User, StoreError> {
        write!(self, act.at, |tx| user::update(tx, id, version, patch, act))
    }

    async fn create_key(&self, new: &NewKey, act: &Act) -> Result<ApiKey, StoreError> {
        write!(self, act.at, |tx| key::create(tx, new, act))
    }

    async fn key(&self, id: KeyId) -> Result<ApiKey, StoreError> {
        Ok(key::by_id(&mut *self.reader().await?, id).await?)
    }

    async fn keys(
        &self,
        tenant: Option<TenantId>,
        user: Option<UserId>,
        page: PageRequest,
    ) -> Result<Page<ApiKey>, StoreError> {
        Ok(key::list(self.readers(), tenant, user, page).await?)
    }

    async fn revoke_key(&self, id: KeyId, act: &Act) -> Result<ApiKey, StoreError> {
        write!(self, act.at, |tx| key::revoke(tx, id, act))
    }

    async fn update_key(&self, id: KeyId, version: i64, patch: &KeyPatch, act: &Act) -> Result<ApiKey, StoreError> {
        write!(self, act.at, |tx| key::update(tx, id, version, patch, act))
    }

    async fn rotate_key(
        &self,
        id: KeyId,
        secret: &NewSecret,
        grace_until: Timestamp,
        act: &Act,
    ) -> Result<ApiKey, StoreError> {
        write!(self, act.at, |tx| key::rotate(tx, id, secret, grace_until, act))
    }

    async fn revoke_secret(&self, mac: &KeyMac, act: &Act) -> Result<Option<ApiKey>, StoreError> {
        write!(self, act.at, |tx| key::revoke_secret(tx, mac, act))
    }

    async fn touch_keys(&self, used: &[(KeyId, Timestamp)]) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| key::touch(tx, used))
    }

    async fn key_context(&self, mac: &KeyMac) -> Result<Option<KeyContext>, StoreError> {
        Ok(key::context(&mut *self.reader().await?, mac).await?)
    }

    async fn user_context(&self, user: UserId, key: Option<KeyId>) -> Result<UserContext, StoreError> {
        Ok(key::user_context(&mut *self.reader().await?, user, key).await?)
    }

    async fn create_budget(&self, new: &NewBudget, act: &Act) -> Result<Budget, StoreError> {
        write!(self, act.at, |tx| budget::create(tx, new, act))
    }

    async fn budget(&self, id: BudgetId) -> Result<Budget, StoreError> {
        let budget = budget::find(&mut *self.reader().await?, id).await?;
        budget.ok_or(StoreError::NotFound { what: "budget" })
    }

    async fn budgets(&self, filter: &BudgetFilter, page: PageRequest) -> Result<Page<Budget>, StoreError> {
        Ok(budget::list(self.readers(), filter, page).await?)
    }

    async fn set_budget_limit(
        &self,
        id: BudgetId,
        version: i64,
        included: i64,
        act: &Act,
    ) -> Result<Budget, StoreError> {
        write!(self, act.at, |tx| budget::set_limit(tx, id, version, included, act))
    }

    async fn grants(&self, budget: BudgetId, page: PageRequest) -> Result<Page<Grant>, StoreError> {
        Ok(grant::list(self.readers(), budget, page).await?)
    }

    async fn usage(&self, filter: &UsageFilter, page: PageRequest) -> Result<Page<UsageRecord>, StoreError> {
        Ok(usage::list(self.readers(), filter, page).await?)
    }

    async fn usage_daily(&self, filter: &UsageFilter) -> Result<Vec<UsageDay>, StoreError> {
        Ok(usage::daily(self.readers(), filter).await?)
    }

    async fn usage_report(&self, filter: &UsageFilter, by: &[Dimension]) -> Result<Vec<ReportRow>, StoreError> {
        Ok(report::rows(self.readers(), filter, by).await?)
    }

    async fn active_users(&self, filter: &UsageFilter) -> Result<i64, StoreError> {
        Ok(report::active_users(self.readers(), filter).await?)
    }

    async fn save_prices(&self, hash: &[u8; 32], source: &str, body: &[u8], act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| price::save(tx, hash, source, body, act))
    }

    async fn latest_prices(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(price::latest(self.readers()).await?)
    }

    async fn record(&self, event: &Event, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| audit_log::record(tx, act, event))
    }

    async fn audit_events(&self, filter: &AuditFilter, page: PageRequest) -> Result<Page<AuditEvent>, StoreError> {
        Ok(audit_log::list(self.readers(), filter, page).await?)
    }

    async fn audit_chain(&self, seq: i64, limit: u32) -> Result<Vec<AuditEvent>, StoreError> {
        Ok(audit_log::chain(self.readers(), seq, limit).await?)
    }
}
