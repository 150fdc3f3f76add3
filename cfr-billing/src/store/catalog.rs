//! Everything durable but money: who there is, what is sold, what was used.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::{BudgetId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::UsageRecord;

use super::StoreError;
use crate::audit_log::{Act, AuditEvent, AuditFilter, Event};
use crate::budget::{Budget, BudgetFilter, Grant, NewBudget};
use crate::identity::{ApiKey, KeyContext, KeyMac, NewKey, NewTenant, NewUser, Tenant, TenantPatch, User, UserPatch};
use crate::plan::{NewProduct, Product, ProductVersion};
use crate::usage::{UsageDay, UsageFilter};

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
    /// Users, of one tenant or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn users(&self, tenant: Option<TenantId>, page: PageRequest) -> Result<Page<User>, StoreError>;
    /// The user with this address, without regard to case. Reads all users; a store with an index does better.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        let email = email.to_lowercase();
        let mut page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
        loop {
            let users = self.users(None, page).await?;
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
    /// Everything that a request with this key needs, in one read: key, user, tenant, product terms, budgets of the path.
    ///
    /// # Errors
    /// When the store cannot be read. An unknown key is `None`.
    async fn key_context(&self, mac: &KeyMac) -> Result<Option<KeyContext>, StoreError>;

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
    /// Usage per day, tenant, user, key and model, from the rollup.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn usage_daily(&self, filter: &UsageFilter) -> Result<Vec<UsageDay>, StoreError>;

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
