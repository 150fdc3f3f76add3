//! Everything durable but money: who there is, what is sold, what was used.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::{BudgetId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::UsageRecord;
use cfr_core::time::Timestamp;

use super::StoreError;
use crate::audit_log::{Act, AuditEvent, AuditFilter, Event};
use crate::budget::{Budget, BudgetFilter, Grant, NewBudget};
use crate::identity::{
    ApiKey, KeyContext, KeyMac, KeyPatch, NewKey, NewSecret, NewTenant, NewUser, Tenant, TenantPatch, User,
    UserContext, UserFilter, UserPatch,
};
use crate::plan::{NewProduct, Product, ProductVersion};
use crate::usage::{Dimension, ReportRow, UsageDay, UsageFilter};

/// Rows on one page of a list, at most.
pub const PAGE_ROWS_MAX: u32 = 1_000;

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, at most as many as were asked for.
    pub items: Vec<T>,
    /// Where the next page begins; none on the last one.
    pub next: Option<Cursor>,
}

/// A position in a list that is ordered by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub u128);

/// Which page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Only rows after this position.
    pub after: Option<Cursor>,
    /// At most this many rows, at most [`PAGE_ROWS_MAX`].
    pub limit: u32,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { after: None, limit: 100 }
    }
}

/// Durable tenants, products, users, keys, budgets, usage and prices. Every change writes an event of the audit log in the
/// same transaction: see [`audit_log`](crate::audit_log).
#[async_trait]
pub trait CatalogStore: Debug + Send + Sync + 'static {
    /// Writes a tenant.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the slug or domain is taken.
    async fn create_tenant(&self, new: &NewTenant, act: &Act) -> Result<Tenant, StoreError>;
    /// A tenant by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError>;
    /// A tenant by its slug.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<Tenant>, StoreError>;
    /// Tenants in the order of their creation.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn tenants(&self, page: PageRequest) -> Result<Page<Tenant>, StoreError>;
    /// Changes a tenant if its version is still `version`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile.
    async fn update_tenant(
        &self,
        id: TenantId,
        version: i64,
        patch: &TenantPatch,
        act: &Act,
    ) -> Result<Tenant, StoreError>;

    /// Writes a product with its first version, or the next version of an existing code. Versions are immutable.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn publish_product(&self, new: &NewProduct, act: &Act) -> Result<ProductVersion, StoreError>;
    /// Products with their newest version.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn products(&self, page: PageRequest) -> Result<Page<Product>, StoreError>;
    /// A product by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn product(&self, id: ProductId) -> Result<Product, StoreError>;
    /// A product by code.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn product_by_code(&self, code: &str) -> Result<Option<Product>, StoreError>;
    /// One version of a product.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn product_version(&self, id: ProductVersionId) -> Result<ProductVersion, StoreError>;
    /// Every version of a product, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn product_versions(&self, id: ProductId) -> Result<Vec<ProductVersion>, StoreError>;
    /// Opens or closes a product for new customers.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn set_product_active(&self, id: ProductId, active: bool, act: &Act) -> Result<Product, StoreError>;

    /// Writes a user, and the user's budget by the product's terms, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the address is taken or the tenant is full.
    async fn create_user(&self, new: &NewUser, act: &Act) -> Result<User, StoreError>;
    /// A user by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn user(&self, id: UserId) -> Result<User, StoreError>;
    /// Users, in the order of their creation.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn users(&self, filter: &UserFilter, page: PageRequest) -> Result<Page<User>, StoreError>;
    /// The user with this address, without regard to case. Reads all users; a store with an index does better.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        let email = email.to_lowercase();
        let mut page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
        loop {
            let users = self.users(&UserFilter::default(), page).await?;
            let found = users.items.into_iter().find(|user| user.email.to_lowercase() == email);
            match users.next {
                Some(next) if found.is_none() => page.after = Some(next),
                _ => return Ok(found),
            }
        }
    }
    /// Changes a user if its version is still `version`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile.
    async fn update_user(&self, id: UserId, version: i64, patch: &UserPatch, act: &Act) -> Result<User, StoreError>;

    /// Writes a key by its MAC.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown tenant or user.
    async fn create_key(&self, new: &NewKey, act: &Act) -> Result<ApiKey, StoreError>;
    /// A key by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn key(&self, id: KeyId) -> Result<ApiKey, StoreError>;
    /// Keys, of one tenant or user or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn keys(
        &self,
        tenant: Option<TenantId>,
        user: Option<UserId>,
        page: PageRequest,
    ) -> Result<Page<ApiKey>, StoreError>;
    /// Revokes a key for good.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn revoke_key(&self, id: KeyId, act: &Act) -> Result<ApiKey, StoreError>;
    /// Changes a key if its version is still `version`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile or was revoked.
    async fn update_key(&self, id: KeyId, version: i64, patch: &KeyPatch, act: &Act) -> Result<ApiKey, StoreError>;
    /// Gives a key another secret. The one before works until `grace_until`, and the one before that no more. Budgets, usage
    /// and rules stay: they are the key's.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the key was revoked.
    async fn rotate_key(
        &self,
        id: KeyId,
        secret: &NewSecret,
        grace_until: Timestamp,
        act: &Act,
    ) -> Result<ApiKey, StoreError>;
    /// Ends a secret that somebody found: its key is revoked or, when it has a newer secret, loses the old one. `None` when
    /// no key has it, or it works no more.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn revoke_secret(&self, mac: &KeyMac, act: &Act) -> Result<Option<ApiKey>, StoreError>;
    /// Notes when keys were last used. No event tells of it, and keys that are unknown are left out.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn touch_keys(&self, used: &[(KeyId, Timestamp)]) -> Result<(), StoreError>;
    /// Everything that a request with this key needs, in one read: key, user, tenant, product terms, budgets of the path.
    ///
    /// # Errors
    /// When the store cannot be read. An unknown key is `None`.
    async fn key_context(&self, mac: &KeyMac) -> Result<Option<KeyContext>, StoreError>;
    /// What a request of a user needs, who uses no key, or one that acts for many.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn user_context(&self, user: UserId, key: Option<KeyId>) -> Result<UserContext, StoreError>;

    /// Writes a budget.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the scope has one in this period kind and currency.
    async fn create_budget(&self, new: &NewBudget, act: &Act) -> Result<Budget, StoreError>;
    /// A budget by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn budget(&self, id: BudgetId) -> Result<Budget, StoreError>;
    /// Budgets.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn budgets(&self, filter: &BudgetFilter, page: PageRequest) -> Result<Page<Budget>, StoreError>;
    /// Changes what new periods are granted, and the current one by the difference.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile.
    async fn set_budget_limit(
        &self,
        id: BudgetId,
        version: i64,
        included: i64,
        act: &Act,
    ) -> Result<Budget, StoreError>;
    /// Grants of a budget, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn grants(&self, budget: BudgetId, page: PageRequest) -> Result<Page<Grant>, StoreError>;

    /// Usage records, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn usage(&self, filter: &UsageFilter, page: PageRequest) -> Result<Page<UsageRecord>, StoreError>;
    /// Usage per day, tenant, user, key and model, from the rollup: at most one row more than
    /// [`REPORT_ROWS_MAX`](crate::usage::REPORT_ROWS_MAX).
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn usage_daily(&self, filter: &UsageFilter) -> Result<Vec<UsageDay>, StoreError>;
    /// Usage from the rollups, a row for each value of the dimensions in `by`, in the order day, tenant, user, key, model, currency;
    /// at most [`REPORT_ROWS_MAX`](crate::usage::REPORT_ROWS_MAX) rows. It is of every day (UTC) that the time of the filter
    /// touches; `id` is not looked at.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn usage_report(&self, filter: &UsageFilter, by: &[Dimension]) -> Result<Vec<ReportRow>, StoreError>;
    /// Users who made a request, by the same rollup and the same filter.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn active_users(&self, filter: &UsageFilter) -> Result<i64, StoreError>;

    /// Keeps a price table under its hash, so that old usage can be priced again. A known hash changes nothing.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn save_prices(&self, hash: &[u8; 32], source: &str, body: &[u8], act: &Act) -> Result<(), StoreError>;
    /// The price table that was saved last.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn latest_prices(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes an event of its own, of something that changed nothing else in the store.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn record(&self, event: &Event, act: &Act) -> Result<(), StoreError>;
    /// Events of the audit log, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn audit_events(&self, filter: &AuditFilter, page: PageRequest) -> Result<Page<AuditEvent>, StoreError>;
    /// The events after the one at `seq`, in the order in which they were sealed, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn audit_chain(&self, seq: i64, limit: u32) -> Result<Vec<AuditEvent>, StoreError>;
}

const _: fn(&dyn CatalogStore) = |_| {};
