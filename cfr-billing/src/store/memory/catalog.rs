//! [`CatalogStore`] over maps that are ordered by id.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::id::{BudgetId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::{BudgetSpec, LimitPolicy, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::time::{TimeZone, Timestamp};
use jiff::tz;

use super::books::Budgets;
use super::subscription::Subscriptions;
use super::tables::{check_free, check_slug, check_version, page};
use super::{MemoryStore, oidc};
use crate::audit_log::{Act, Action, AuditEvent, AuditFilter, Event};
use crate::budget::{Budget, BudgetFilter, Grant, NewBudget, ScopeId};
use crate::identity::{
    ApiKey, KeyContext, KeyMac, KeyPatch, KeyStatus, NOT_ACTIVATED, NOT_PENDING, NewKey, NewSecret, NewTenant, NewUser,
    Tenant, TenantPatch, TenantStatus, User, UserContext, UserFilter, UserPatch, UserStatus,
};
use crate::oidc::Ending;
use crate::people::Activation;
use crate::plan::{NewProduct, Product, ProductVersion};
use crate::store::{CatalogStore, Page, PageRequest, StoreError};
use crate::subscription::{OWNED, Subscription};
use crate::usage::{Dimension, REPORT_ROWS_MAX, ReportRow, UsageDay, UsageFilter, UsageSums};

/// The scope id of budgets that limit everybody.
const PLATFORM: ScopeId = ScopeId(0);

#[derive(Debug, Default)]
pub(super) struct Catalog {
    tenants: BTreeMap<TenantId, Tenant>,
    products: BTreeMap<ProductId, ProductRow>,
    versions: BTreeMap<ProductVersionId, ProductVersion>,
    users: BTreeMap<UserId, User>,
    pub(super) keys: BTreeMap<KeyId, ApiKey>,
    pub(super) macs: HashMap<KeyMac, KeyId>,
    /// The secrets that were replaced.
    pub(super) old_macs: HashMap<KeyMac, KeyId>,
    pub(super) budgets: Budgets,
    pub(super) subscriptions: Subscriptions,
    prices: Vec<([u8; 32], Vec<u8>)>,
}

#[derive(Debug)]
struct ProductRow {
    code: Arc<str>,
    active: bool,
    versions: Vec<ProductVersionId>,
}

impl Catalog {
    pub(super) fn tenant(&self, id: TenantId) -> Result<&Tenant, StoreError> {
        self.tenants.get(&id).ok_or(StoreError::NotFound { what: "tenant" })
    }

    pub(super) fn user(&self, id: UserId) -> Result<&User, StoreError> {
        self.users.get(&id).ok_or(StoreError::NotFound { what: "user" })
    }

    pub(super) fn version(&self, id: ProductVersionId) -> Result<&ProductVersion, StoreError> {
        self.versions.get(&id).ok_or(StoreError::NotFound { what: "product version" })
    }

    /// A budget that money may be booked on.
    pub(super) fn keep_user(&mut self, user: User) {
        self.users.insert(user.id, user);
    }

    pub(super) fn open_budget(&self, id: BudgetId) -> Result<&Budget, StoreError> {
        self.budgets.get(&id).filter(|budget| budget.active).ok_or(StoreError::NotFound { what: "budget" })
    }

    fn product(&self, id: ProductId) -> Result<Product, StoreError> {
        let not_found = StoreError::NotFound { what: "product" };
        let row = self.products.get(&id).ok_or(not_found.clone())?;
        let current = row.versions.last().and_then(|version| self.versions.get(version)).ok_or(not_found)?;
        Ok(Product { id, code: row.code.clone(), active: row.active, current: current.clone() })
    }

    pub(super) fn insert_budget(&mut self, new: &NewBudget, now: Timestamp) -> Budget {
        let spec = BudgetSpec {
            id: BudgetId::generate(now),
            scope: new.scope,
            currency: new.currency,
            included_nanos: new.included_nanos,
            policy: new.policy,
            period: new.period.clone(),
            zone: new.zone.clone(),
        };
        let budget =
            Budget { spec, tenant: new.tenant, scope_id: new.scope_id, active: true, version: 1, created_at: now };
        self.budgets.insert(budget.spec.id, budget.clone());
        budget
    }

    /// The budget that a user gets with a product.
    fn insert_user_budget(&mut self, user: &User, version: &ProductVersion, zone: TimeZone, now: Timestamp) {
        let new = NewBudget {
            scope: Scope::User,
            scope_id: ScopeId(user.id.as_u128()),
            tenant: Some(user.tenant),
            currency: version.terms.currency,
            included_nanos: version.terms.budget_included_nanos,
            policy: LimitPolicy::Hard,
            period: version.terms.period.clone(),
            zone,
        };
        self.insert_budget(&new, now);
    }

    /// Users who have a place.
    pub(super) fn members(&self, tenant: TenantId) -> impl Iterator<Item = &User> {
        self.users.values().filter(move |user| user.tenant == tenant && user.status.takes_place())
    }

    fn check_address_free(&self, email: &str) -> Result<(), StoreError> {
        check_free(self.users.values().any(|user| same_email(&user.email, email)), "the address")
    }

    /// Whether one more user of this tenant, on these terms, has a place.
    fn check_place(&self, tenant: TenantId, terms: Option<ProductVersionId>) -> Result<(), StoreError> {
        let tenant = self.tenant(tenant)?;
        let most = tenant.users_max.into_iter().chain(self.seats(tenant.id)).min();
        if most.is_some_and(|max| self.members(tenant.id).count() >= max as usize) {
            return Err(StoreError::conflict("the tenant has as many users as it may have"));
        }
        let Some(version) = terms.map(|id| self.version(id)).transpose()? else { return Ok(()) };
        let on_product = self
            .members(tenant.id)
            .filter_map(|user| self.versions.get(&user.product_version?))
            .filter(|other| other.product == version.product);
        if version.terms.seats.is_some_and(|seats| on_product.count() >= seats as usize) {
            return Err(StoreError::conflict("every seat of the product is taken"));
        }
        Ok(())
    }

    /// Writes a user, and the budget by the product's terms for one who is active at once.
    pub(super) fn insert_user(
        &mut self,
        new: &NewUser,
        status: UserStatus,
        email_verified_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<User, StoreError> {
        self.check_address_free(&new.email)?;
        let zone = self.tenant(new.tenant)?.zone.clone();
        let terms = new.product_version.map(|id| self.version(id).cloned()).transpose()?;
        let user = User {
            id: UserId::generate(now),
            tenant: new.tenant,
            email: new.email.clone(),
            name: new.name.clone(),
            role: new.role,
            status,
            product_version: new.product_version,
            email_verified_at,
            locale: new.locale,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        if status.takes_place() {
            self.check_place(new.tenant, new.product_version)?;
            if let Some(version) = terms {
                self.insert_user_budget(&user, &version, zone, now);
            }
        }
        self.users.insert(user.id, user.clone());
        Ok(user)
    }

    pub(super) fn insert_key(&mut self, new: &NewKey, act: &Act) -> Result<ApiKey, StoreError> {
        new.tenant.map(|id| self.tenant(id)).transpose()?;
        new.user.map(|id| self.user(id)).transpose()?;
        check_free(self.macs.contains_key(&new.mac), "the key")?;
        let key = ApiKey {
            id: KeyId::generate(act.at),
            tenant: new.tenant,
            user: new.user,
            name: new.name.clone(),
            kind: new.kind,
            prefix: new.prefix.clone(),
            last4: new.last4.clone(),
            models: new.models.clone(),
            status: KeyStatus::Active,
            rules: new.rules.clone(),
            expires_at: new.expires_at,
            grace_until: None,
            used_at: None,
            created_by: Some(act.by.label()),
            version: 1,
            created_at: act.at,
        };
        self.macs.insert(new.mac, key.id);
        self.keys.insert(key.id, key.clone());
        Ok(key)
    }

    /// Makes a pending user an active one, with a budget by the terms.
    pub(super) fn activate(&mut self, new: &Activation, now: Timestamp) -> Result<User, StoreError> {
        let mut user = self.user(new.user)?.clone();
        check_version(user.version, new.version)?;
        if user.status != UserStatus::Pending {
            return Err(StoreError::conflict(NOT_PENDING));
        }
        check_free(new.first_key.as_ref().is_some_and(|key| self.macs.contains_key(&key.mac)), "the key")?;
        user.product_version = new.terms.or(user.product_version);
        self.check_place(user.tenant, user.product_version)?;
        let terms = user.product_version.map(|id| self.version(id).cloned()).transpose()?;
        if let Some(version) = terms {
            let zone = self.tenant(user.tenant)?.zone.clone();
            self.insert_user_budget(&user, &version, zone, now);
        }
        user.status = UserStatus::Active;
        (user.version, user.updated_at) = (user.version + 1, now);
        self.users.insert(user.id, user.clone());
        Ok(user)
    }

    /// Notes that a user reads an address.
    pub(super) fn verify_email(&mut self, id: UserId, email: &str, now: Timestamp) -> Result<User, StoreError> {
        let mut user = self.user(id)?.clone();
        if !same_email(&user.email, email) {
            self.check_address_free(email)?;
        }
        user.email = email.into();
        user.email_verified_at = Some(now);
        (user.version, user.updated_at) = (user.version + 1, now);
        self.users.insert(id, user.clone());
        Ok(user)
    }

    /// Whether a user may come back so: a place is needed like a new one's, and who waits is activated.
    fn check_return(&self, user: &User, patch: &UserPatch) -> Result<(), StoreError> {
        match patch.status {
            Some(status) if status.takes_place() && user.status.waits() => Err(StoreError::conflict(NOT_ACTIVATED)),
            Some(status) if status.takes_place() && !user.status.takes_place() => {
                self.check_place(user.tenant, user.product_version)
            }
            _ => Ok(()),
        }
    }

    /// The budget's limit follows new terms with its next period.
    fn follow_terms(&mut self, user: &User, version: &ProductVersion, now: Timestamp) -> Result<(), StoreError> {
        if self.follow(Scope::User, ScopeId(user.id.as_u128()), version.terms.budget_included_nanos) {
            return Ok(());
        }
        let zone = self.tenant(user.tenant)?.zone.clone();
        self.insert_user_budget(user, version, zone, now);
        Ok(())
    }

    /// New periods of somebody's first budget are granted this much; `false` when there is no budget.
    pub(super) fn follow(&mut self, scope: Scope, scope_id: ScopeId, included_nanos: i64) -> bool {
        let theirs = |budget: &&mut Budget| budget.spec.scope == scope && budget.scope_id == scope_id;
        let Some(budget) = self.budgets.values_mut().find(theirs) else { return false };
        budget.spec.included_nanos = included_nanos;
        budget.version += 1;
        true
    }

    /// Puts a user on these terms.
    pub(super) fn set_terms(
        &mut self,
        before: &User,
        version: ProductVersionId,
        now: Timestamp,
    ) -> Result<User, StoreError> {
        let terms = self.version(version)?.clone();
        self.follow_terms(before, &terms, now)?;
        let mut user = User { product_version: Some(version), ..before.clone() };
        (user.version, user.updated_at) = (user.version + 1, now);
        self.users.insert(user.id, user.clone());
        Ok(user)
    }

    /// The terms of a request: the user's own, or those of the subscription that governs it.
    fn terms_of(&self, user: Option<&User>, subscription: Option<&Subscription>) -> Option<&ProductVersion> {
        let own = user.and_then(|user| user.product_version);
        self.versions.get(&own.or(subscription.map(|subscription| subscription.product_version))?)
    }

    /// The active budgets of a path, in order: key, user, tenant, product, platform.
    fn path(
        &self,
        key: Option<KeyId>,
        user: Option<UserId>,
        tenant: Option<TenantId>,
        product: Option<&ProductVersion>,
    ) -> Vec<BudgetSpec> {
        let rungs = [
            (Scope::Key, key.map(KeyId::as_u128)),
            (Scope::User, user.map(UserId::as_u128)),
            (Scope::Tenant, tenant.map(TenantId::as_u128)),
            (Scope::Product, product.map(|version| version.product.as_u128())),
            (Scope::Platform, Some(PLATFORM.0)),
        ];
        let rungs = rungs.into_iter().filter_map(|(scope, id)| Some((scope, ScopeId(id?))));
        rungs
            .flat_map(|(scope, id)| {
                self.budgets
                    .values()
                    .filter(move |budget| budget.active && budget.spec.scope == scope && budget.scope_id == id)
            })
            .map(|budget| budget.spec.clone())
            .collect()
    }
}

fn same_email(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

#[async_trait]
impl CatalogStore for MemoryStore {
    async fn create_tenant(&self, new: &NewTenant, act: &Act) -> Result<Tenant, StoreError> {
        check_slug(&new.slug)?;
        let (state, now) = (&mut *self.state(), act.at);
        let tenants = &mut state.catalog.tenants;
        check_free(tenants.values().any(|tenant| tenant.slug == new.slug), "the slug")?;
        check_free(new.domain.is_some() && tenants.values().any(|tenant| tenant.domain == new.domain), "the domain")?;
        let tenant = Tenant {
            id: TenantId::generate(now),
            slug: new.slug.clone(),
            name: new.name.clone(),
            domain: new.domain.clone(),
            kind: new.kind,
            status: TenantStatus::Active,
            users_max: new.users_max,
            zone: new.zone.clone(),
            currency: new.currency,
            settings: new.settings.clone(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        tenants.insert(tenant.id, tenant.clone());
        state.log.record(&Event::created(Action::TenantCreated, &tenant), act);
        Ok(tenant)
    }

    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError> {
        self.state().catalog.tenant(id).cloned()
    }

    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<Tenant>, StoreError> {
        Ok(self.state().catalog.tenants.values().find(|tenant| &*tenant.slug == slug).cloned())
    }

    async fn tenants(&self, request: PageRequest) -> Result<Page<Tenant>, StoreError> {
        let state = self.state();
        Ok(page(state.catalog.tenants.iter().map(|(id, tenant)| (id.as_u128(), tenant.clone())), request, false))
    }

    async fn update_tenant(
        &self,
        id: TenantId,
        version: i64,
        patch: &TenantPatch,
        act: &Act,
    ) -> Result<Tenant, StoreError> {
        let state = &mut *self.state();
        let tenant = state.catalog.tenants.get_mut(&id).ok_or(StoreError::NotFound { what: "tenant" })?;
        check_version(tenant.version, version)?;
        let before = tenant.clone();
        tenant.name = patch.name.clone().unwrap_or_else(|| tenant.name.clone());
        tenant.status = patch.status.unwrap_or(tenant.status);
        tenant.users_max = patch.users_max.unwrap_or(tenant.users_max);
        tenant.settings = patch.settings.clone().unwrap_or_else(|| tenant.settings.clone());
        (tenant.version, tenant.updated_at) = (version + 1, act.at);
        state.log.record(&Event::changed(Action::TenantChanged, &before, tenant), act);
        Ok(tenant.clone())
    }

    async fn publish_product(&self, new: &NewProduct, act: &Act) -> Result<ProductVersion, StoreError> {
        let (state, now) = (&mut *self.state(), act.at);
        let catalog = &mut state.catalog;
        let known = catalog.products.iter().find(|(_, row)| row.code == new.code).map(|(id, _)| *id);
        let product = known.unwrap_or_else(|| ProductId::generate(now));
        let row = || ProductRow { code: new.code.clone(), active: true, versions: Vec::new() };
        let row = catalog.products.entry(product).or_insert_with(row);
        let version = ProductVersion {
            id: ProductVersionId::generate(now),
            product,
            code: new.code.clone(),
            version: i64::try_from(row.versions.len()).unwrap_or(i64::MAX).saturating_add(1),
            terms: new.terms.clone(),
            created_at: now,
        };
        row.versions.push(version.id);
        catalog.versions.insert(version.id, version.clone());
        state.log.record(&Event::created(Action::ProductPublished, &version), act);
        Ok(version)
    }

    async fn products(&self, request: PageRequest) -> Result<Page<Product>, StoreError> {
        let state = self.state();
        let products =
            state.catalog.products.keys().filter_map(|&id| Some((id.as_u128(), state.catalog.product(id).ok()?)));
        Ok(page(products, request, false))
    }

    async fn product(&self, id: ProductId) -> Result<Product, StoreError> {
        self.state().catalog.product(id)
    }

    async fn product_by_code(&self, code: &str) -> Result<Option<Product>, StoreError> {
        let catalog = &self.state().catalog;
        let found = catalog.products.iter().find(|(_, row)| &*row.code == code).map(|(id, _)| *id);
        found.map(|id| catalog.product(id)).transpose()
    }

    async fn product_version(&self, id: ProductVersionId) -> Result<ProductVersion, StoreError> {
        self.state().catalog.version(id).cloned()
    }

    async fn product_versions(&self, id: ProductId) -> Result<Vec<ProductVersion>, StoreError> {
        let catalog = &self.state().catalog;
        let row = catalog.products.get(&id).ok_or(StoreError::NotFound { what: "product" })?;
        Ok(row.versions.iter().rev().filter_map(|version| catalog.versions.get(version).cloned()).collect())
    }

    async fn set_product_active(&self, id: ProductId, active: bool, act: &Act) -> Result<Product, StoreError> {
        let state = &mut *self.state();
        let before = state.catalog.product(id)?;
        state.catalog.products.get_mut(&id).ok_or(StoreError::NotFound { what: "product" })?.active = active;
        let after = state.catalog.product(id)?;
        state.log.record(&Event::changed(Action::ProductChanged, &before, &after), act);
        Ok(after)
    }

    async fn create_user(&self, new: &NewUser, act: &Act) -> Result<User, StoreError> {
        let state = &mut *self.state();
        let user = state.catalog.insert_user(new, UserStatus::Active, None, act.at)?;
        state.log.record(&Event::created(Action::UserCreated, &user), act);
        Ok(user)
    }

    async fn user(&self, id: UserId) -> Result<User, StoreError> {
        self.state().catalog.user(id).cloned()
    }

    async fn users(&self, filter: &UserFilter, request: PageRequest) -> Result<Page<User>, StoreError> {
        let state = self.state();
        let wanted = state.catalog.users.values().filter(|user| filter.wants(user));
        Ok(page(wanted.map(|user| (user.id.as_u128(), user.clone())), request, false))
    }

    async fn update_user(&self, id: UserId, version: i64, patch: &UserPatch, act: &Act) -> Result<User, StoreError> {
        let (state, now) = (&mut *self.state(), act.at);
        let catalog = &mut state.catalog;
        let before = catalog.user(id)?.clone();
        let mut user = before.clone();
        check_version(user.version, version)?;
        user.check_change(patch)?;
        catalog.check_return(&user, patch)?;
        if patch.product_version.is_some() && catalog.last_subscription(id.as_u128()).is_some() {
            return Err(StoreError::conflict(OWNED));
        }
        if let Some(terms) = patch.product_version.map(|id| catalog.version(id).cloned()).transpose()? {
            if !user.status.waits() {
                catalog.follow_terms(&user, &terms, now)?;
            }
            user.product_version = Some(terms.id);
        }
        user.name = patch.name.clone().unwrap_or(user.name);
        user.role = patch.role.unwrap_or(user.role);
        user.status = patch.status.unwrap_or(user.status);
        user.locale = patch.locale.or(user.locale);
        (user.version, user.updated_at) = (version + 1, now);
        catalog.users.insert(id, user.clone());
        if user.status != UserStatus::Active {
            oidc::end(state, Ending::User(id), act);
        }
        state.log.record(&Event::changed(Action::UserChanged, &before, &user), act);
        Ok(user)
    }

    async fn create_key(&self, new: &NewKey, act: &Act) -> Result<ApiKey, StoreError> {
        let state = &mut *self.state();
        let key = state.catalog.insert_key(new, act)?;
        state.log.record(&Event::created(Action::KeyCreated, &key), act);
        if let Some(budget) = state.catalog.insert_key_budget(&key, new)? {
            state.log.record(&Event::created(Action::BudgetCreated, &budget), act);
        }
        Ok(key)
    }

    async fn key(&self, id: KeyId) -> Result<ApiKey, StoreError> {
        self.state().catalog.keys.get(&id).cloned().ok_or(StoreError::NotFound { what: "key" })
    }

    async fn keys(
        &self,
        tenant: Option<TenantId>,
        user: Option<UserId>,
        request: PageRequest,
    ) -> Result<Page<ApiKey>, StoreError> {
        let state = self.state();
        let wanted = |key: &&ApiKey| {
            tenant.is_none_or(|id| key.tenant == Some(id)) && user.is_none_or(|id| key.user == Some(id))
        };
        Ok(page(state.catalog.keys.values().filter(wanted).map(|key| (key.id.as_u128(), key.clone())), request, false))
    }

    async fn revoke_key(&self, id: KeyId, act: &Act) -> Result<ApiKey, StoreError> {
        let state = &mut *self.state();
        let key = state.catalog.keys.get_mut(&id).ok_or(StoreError::NotFound { what: "key" })?;
        let before = key.clone();
        key.status = KeyStatus::Revoked;
        state.log.record(&Event::changed(Action::KeyRevoked, &before, key), act);
        Ok(key.clone())
    }

    async fn update_key(&self, id: KeyId, version: i64, patch: &KeyPatch, act: &Act) -> Result<ApiKey, StoreError> {
        self.state().update_key(id, version, patch, act)
    }

    async fn rotate_key(
        &self,
        id: KeyId,
        secret: &NewSecret,
        grace_until: Timestamp,
        act: &Act,
    ) -> Result<ApiKey, StoreError> {
        self.state().rotate_key(id, secret, grace_until, act)
    }

    async fn revoke_secret(&self, mac: &KeyMac, act: &Act) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.state().revoke_secret(mac, act))
    }

    async fn touch_keys(&self, used: &[(KeyId, Timestamp)]) -> Result<(), StoreError> {
        self.state().catalog.touch_keys(used);
        Ok(())
    }

    async fn key_context(&self, mac: &KeyMac) -> Result<Option<KeyContext>, StoreError> {
        let catalog = &self.state().catalog;
        let superseded = !catalog.macs.contains_key(mac);
        let id = catalog.macs.get(mac).or_else(|| catalog.old_macs.get(mac));
        let Some(key) = id.and_then(|id| catalog.keys.get(id)).cloned() else { return Ok(None) };
        let user = key.user.and_then(|id| catalog.users.get(&id)).cloned();
        let subscription = catalog.governing(key.user, key.tenant).cloned();
        let product = catalog.terms_of(user.as_ref(), subscription.as_ref()).cloned();
        let tenant = key.tenant.and_then(|id| catalog.tenants.get(&id)).cloned();
        let budgets = catalog.path(Some(key.id), key.user, key.tenant, product.as_ref());
        Ok(Some(KeyContext { key, superseded, user, tenant, product, subscription, budgets }))
    }

    async fn user_context(&self, user: UserId, key: Option<KeyId>) -> Result<UserContext, StoreError> {
        let catalog = &self.state().catalog;
        let user = catalog.user(user)?.clone();
        let tenant = catalog.tenant(user.tenant)?.clone();
        let subscription = catalog.governing(Some(user.id), Some(tenant.id)).cloned();
        let product = catalog.terms_of(Some(&user), subscription.as_ref()).cloned();
        let budgets = catalog.path(key, Some(user.id), Some(tenant.id), product.as_ref());
        Ok(UserContext { user, tenant, product, subscription, budgets })
    }

    async fn create_budget(&self, new: &NewBudget, act: &Act) -> Result<Budget, StoreError> {
        let state = &mut *self.state();
        let catalog = &mut state.catalog;
        let kind = std::mem::discriminant(&new.period);
        let twin = |other: &Budget| {
            let spec = &other.spec;
            other.scope_id == new.scope_id
                && spec.scope == new.scope
                && spec.currency == new.currency
                && std::mem::discriminant(&spec.period) == kind
        };
        check_free(catalog.budgets.values().any(twin), "the scope's budget of this kind")?;
        let budget = catalog.insert_budget(new, act.at);
        state.log.record(&Event::created(Action::BudgetCreated, &budget), act);
        Ok(budget)
    }

    async fn budget(&self, id: BudgetId) -> Result<Budget, StoreError> {
        self.state().catalog.budgets.get(&id).cloned().ok_or(StoreError::NotFound { what: "budget" })
    }

    async fn budgets(&self, filter: &BudgetFilter, request: PageRequest) -> Result<Page<Budget>, StoreError> {
        let state = self.state();
        let wanted = |budget: &&Budget| {
            filter.tenant.is_none_or(|tenant| budget.tenant == Some(tenant))
                && filter.scope.is_none_or(|scope| budget.spec.scope == scope)
                && filter.scope_id.is_none_or(|id| budget.scope_id == id)
        };
        let rows =
            state.catalog.budgets.values().filter(wanted).map(|budget| (budget.spec.id.as_u128(), budget.clone()));
        Ok(page(rows, request, false))
    }

    async fn set_budget_limit(
        &self,
        id: BudgetId,
        version: i64,
        included: i64,
        act: &Act,
    ) -> Result<Budget, StoreError> {
        let state = &mut *self.state();
        let budget = state.catalog.budgets.get_mut(&id).ok_or(StoreError::NotFound { what: "budget" })?;
        check_version(budget.version, version)?;
        let by = included
            .checked_sub(budget.spec.included_nanos)
            .ok_or_else(|| StoreError::invalid("the limit is out of range"))?;
        state.books.adjust_limit(budget, by, &act.by, act.at)?;
        let before = budget.clone();
        budget.spec.included_nanos = included;
        budget.version += 1;
        state.log.record(&Event::changed(Action::BudgetChanged, &before, budget), act);
        Ok(budget.clone())
    }

    async fn grants(&self, budget: BudgetId, request: PageRequest) -> Result<Page<Grant>, StoreError> {
        let state = self.state();
        let rows = state.books.grants.values().rev().filter(|grant| grant.budget == budget);
        Ok(page(rows.map(|grant| (grant.id.as_u128(), grant.clone())), request, true))
    }

    async fn usage(&self, filter: &UsageFilter, request: PageRequest) -> Result<Page<UsageRecord>, StoreError> {
        let state = self.state();
        let rows = state.books.usage.values().rev().filter(|record| matches(filter, record));
        Ok(page(rows.map(|record| (record.id.as_u128(), record.clone())), request, true))
    }

    async fn usage_daily(&self, filter: &UsageFilter) -> Result<Vec<UsageDay>, StoreError> {
        let mut days = BTreeMap::new();
        let filter = &by_whole_days(filter);
        for record in self.state().books.usage.values().filter(|record| matches(filter, record)) {
            let day = tz::TimeZone::UTC.to_datetime(record.at).date();
            let key = (day, record.caller.tenant, record.caller.user, record.caller.key, record.model_served.clone());
            let sums: &mut UsageSums = days.entry(key).or_default();
            sums.count(record, record.charged_nanos);
        }
        let days = days.into_iter();
        Ok(days
            .map(|((day, tenant, user, key, model), sums)| UsageDay { day, tenant, user, key, model, sums })
            .take(REPORT_ROWS_MAX + 1)
            .collect())
    }

    async fn usage_report(&self, filter: &UsageFilter, by: &[Dimension]) -> Result<Vec<ReportRow>, StoreError> {
        let filter = &by_whole_days(filter);
        let mut rows = BTreeMap::new();
        let state = self.state();
        for record in state.books.usage.values().filter(|record| matches(filter, record)) {
            let tenant = state.catalog.tenants.get(&record.caller.tenant);
            let row = report_row(by, record, tenant.map(|tenant| tenant.currency));
            let currency = row.currency.map(|currency| currency.to_string());
            let key = (row.day, row.tenant, row.user, row.key, row.model.clone(), currency);
            rows.entry(key).or_insert(row).sums.count(record, record.charged_nanos);
        }
        Ok(rows.into_values().take(REPORT_ROWS_MAX + 1).collect())
    }

    async fn active_users(&self, filter: &UsageFilter) -> Result<i64, StoreError> {
        let filter = &by_whole_days(filter);
        let state = self.state();
        let records = state.books.usage.values().filter(|record| matches(filter, record));
        let users: BTreeSet<_> = records.filter_map(|record| record.caller.user).collect();
        Ok(i64::try_from(users.len()).unwrap_or(i64::MAX))
    }

    async fn save_prices(&self, hash: &[u8; 32], source: &str, body: &[u8], act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let prices = &mut state.catalog.prices;
        if prices.iter().all(|(known, _)| known != hash) {
            prices.push((*hash, body.to_vec()));
            state.log.record(&Event::prices_imported(hash, source), act);
        }
        Ok(())
    }

    async fn latest_prices(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().catalog.prices.last().map(|(_, body)| body.clone()))
    }

    async fn record(&self, event: &Event, act: &Act) -> Result<(), StoreError> {
        self.state().log.record(event, act);
        Ok(())
    }

    async fn audit_events(&self, filter: &AuditFilter, page: PageRequest) -> Result<Page<AuditEvent>, StoreError> {
        Ok(self.state().log.list(filter, page))
    }

    async fn audit_chain(&self, seq: i64, limit: u32) -> Result<Vec<AuditEvent>, StoreError> {
        Ok(self.state().log.after(seq, limit))
    }
}

fn matches(filter: &UsageFilter, record: &UsageRecord) -> bool {
    filter.id.is_none_or(|id| record.id == id)
        && filter.tenant.is_none_or(|tenant| record.caller.tenant == tenant)
        && filter.user.is_none_or(|user| record.caller.user == Some(user))
        && filter.key.is_none_or(|key| record.caller.key == Some(key))
        && filter.model.as_ref().is_none_or(|model| record.model_served == *model)
        && filter.from.is_none_or(|from| from <= record.at)
        && filter.to.is_none_or(|to| record.at < to)
}

/// The same filter, over every day (UTC) that its time touches.
fn by_whole_days(filter: &UsageFilter) -> UsageFilter {
    const DAY_MICROS: i64 = 86_400_000_000;
    let moment = |micros| Timestamp::from_microsecond(micros).ok();
    let begins = |at: Timestamp| moment(at.as_microsecond().div_euclid(DAY_MICROS) * DAY_MICROS);
    let ends = |at: Timestamp| moment((at.as_microsecond() - 1).div_euclid(DAY_MICROS) * DAY_MICROS + DAY_MICROS);
    UsageFilter { id: None, from: filter.from.and_then(begins), to: filter.to.and_then(ends), ..filter.clone() }
}

/// The row of a report that a record belongs to.
fn report_row(by: &[Dimension], record: &UsageRecord, currency: Option<Currency>) -> ReportRow {
    let has = |dimension| by.contains(&dimension);
    ReportRow {
        day: has(Dimension::Day).then(|| tz::TimeZone::UTC.to_datetime(record.at).date()),
        tenant: has(Dimension::Tenant).then_some(record.caller.tenant),
        user: record.caller.user.filter(|_| has(Dimension::User)),
        key: record.caller.key.filter(|_| has(Dimension::Key)),
        model: has(Dimension::Model).then(|| record.model_served.clone()),
        currency: currency.filter(|_| has(Dimension::Currency)),
        sums: UsageSums::default(),
    }
}
