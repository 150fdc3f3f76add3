//! [`CatalogStore`] over maps that are ordered by id.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::id::{BudgetId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::{BudgetSpec, LimitPolicy, Scope, UsageRecord};
use cfr_core::time::{TimeZone, Timestamp};
use jiff::tz;

use super::MemoryStore;
use super::books::Budgets;
use super::tables::{check_free, check_slug, check_version, page};
use crate::audit_log::{Act, Action, AuditEvent, AuditFilter, Event};
use crate::budget::{Budget, BudgetFilter, Grant, NewBudget, ScopeId};
use crate::identity::{
    ApiKey, KeyContext, KeyMac, KeyStatus, NewKey, NewTenant, NewUser, Tenant, TenantPatch, TenantStatus, User,
    UserPatch, UserStatus,
};
use crate::plan::{NewProduct, Product, ProductVersion};
use crate::store::{CatalogStore, Page, PageRequest, StoreError};
use crate::usage::{UsageDay, UsageFilter};

/// The scope id of budgets that limit everybody.
const PLATFORM: ScopeId = ScopeId(0);

#[derive(Debug, Default)]
pub(super) struct Catalog {
    tenants: BTreeMap<TenantId, Tenant>,
    products: BTreeMap<ProductId, ProductRow>,
    versions: BTreeMap<ProductVersionId, ProductVersion>,
    users: BTreeMap<UserId, User>,
    keys: BTreeMap<KeyId, ApiKey>,
    macs: HashMap<KeyMac, KeyId>,
    pub(super) budgets: Budgets,
    prices: Vec<([u8; 32], Vec<u8>)>,
}

#[derive(Debug)]
struct ProductRow {
    code: Arc<str>,
    active: bool,
    versions: Vec<ProductVersionId>,
}

impl Catalog {
    fn tenant(&self, id: TenantId) -> Result<&Tenant, StoreError> {
        self.tenants.get(&id).ok_or(StoreError::NotFound { what: "tenant" })
    }

    fn user(&self, id: UserId) -> Result<&User, StoreError> {
        self.users.get(&id).ok_or(StoreError::NotFound { what: "user" })
    }

    fn version(&self, id: ProductVersionId) -> Result<&ProductVersion, StoreError> {
        self.versions.get(&id).ok_or(StoreError::NotFound { what: "product version" })
    }

    /// A budget that money may be booked on.
    pub(super) fn open_budget(&self, id: BudgetId) -> Result<&Budget, StoreError> {
        self.budgets.get(&id).filter(|budget| budget.active).ok_or(StoreError::NotFound { what: "budget" })
    }

    fn product(&self, id: ProductId) -> Result<Product, StoreError> {
        let not_found = StoreError::NotFound { what: "product" };
        let row = self.products.get(&id).ok_or(not_found.clone())?;
        let current = row.versions.last().and_then(|version| self.versions.get(version)).ok_or(not_found)?;
        Ok(Product { id, code: row.code.clone(), active: row.active, current: current.clone() })
    }

    fn insert_budget(&mut self, new: &NewBudget, now: Timestamp) -> Budget {
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

    fn check_room_for(&self, new: &NewUser) -> Result<(), StoreError> {
        let tenant = self.tenant(new.tenant)?;
        let members =
            || self.users.values().filter(|user| user.tenant == new.tenant && user.status != UserStatus::Deleted);
        check_free(self.users.values().any(|user| same_email(&user.email, &new.email)), "the address")?;
        if tenant.users_max.is_some_and(|max| members().count() >= max as usize) {
            return Err(StoreError::conflict("the tenant has as many users as it may have"));
        }
        let Some(version) = new.product_version.map(|id| self.version(id)).transpose()? else { return Ok(()) };
        let on_product = members()
            .filter_map(|user| self.versions.get(&user.product_version?))
            .filter(|other| other.product == version.product);
        if version.terms.seats.is_some_and(|seats| on_product.count() >= seats as usize) {
            return Err(StoreError::conflict("every seat of the product is taken"));
        }
        Ok(())
    }

    /// The budget's limit follows new terms with its next period.
    fn follow_terms(&mut self, user: &User, version: &ProductVersion, now: Timestamp) -> Result<(), StoreError> {
        let scope_id = ScopeId(user.id.as_u128());
        let mine = |budget: &&mut Budget| budget.spec.scope == Scope::User && budget.scope_id == scope_id;
        if let Some(budget) = self.budgets.values_mut().find(mine) {
            budget.spec.included_nanos = version.terms.budget_included_nanos;
            budget.version += 1;
            return Ok(());
        }
        let zone = self.tenant(user.tenant)?.zone.clone();
        self.insert_user_budget(user, version, zone, now);
        Ok(())
    }

    /// The active budgets of a path, in order: key, user, tenant, product, platform.
    fn path(&self, key: &ApiKey, product: Option<ProductId>) -> Vec<BudgetSpec> {
        let rungs = [
            (Scope::Key, Some(key.id.as_u128())),
            (Scope::User, key.user.map(UserId::as_u128)),
            (Scope::Tenant, key.tenant.map(TenantId::as_u128)),
            (Scope::Product, product.map(ProductId::as_u128)),
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
        let (state, now) = (&mut *self.state(), act.at);
        let catalog = &mut state.catalog;
        catalog.check_room_for(new)?;
        let user = User {
            id: UserId::generate(now),
            tenant: new.tenant,
            email: new.email.clone(),
            name: new.name.clone(),
            role: new.role,
            status: UserStatus::Active,
            product_version: new.product_version,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        if let Some(version) = new.product_version {
            let (version, zone) = (catalog.version(version)?.clone(), catalog.tenant(new.tenant)?.zone.clone());
            catalog.insert_user_budget(&user, &version, zone, now);
        }
        catalog.users.insert(user.id, user.clone());
        state.log.record(&Event::created(Action::UserCreated, &user), act);
        Ok(user)
    }

    async fn user(&self, id: UserId) -> Result<User, StoreError> {
        self.state().catalog.user(id).cloned()
    }

    async fn users(&self, tenant: Option<TenantId>, request: PageRequest) -> Result<Page<User>, StoreError> {
        let state = self.state();
        let wanted = state.catalog.users.values().filter(|user| tenant.is_none_or(|tenant| user.tenant == tenant));
        Ok(page(wanted.map(|user| (user.id.as_u128(), user.clone())), request, false))
    }

    async fn update_user(&self, id: UserId, version: i64, patch: &UserPatch, act: &Act) -> Result<User, StoreError> {
        let (state, now) = (&mut *self.state(), act.at);
        let catalog = &mut state.catalog;
        let before = catalog.user(id)?.clone();
        let mut user = before.clone();
        check_version(user.version, version)?;
        if let Some(terms) = patch.product_version.map(|id| catalog.version(id).cloned()).transpose()? {
            catalog.follow_terms(&user, &terms, now)?;
            user.product_version = Some(terms.id);
        }
        user.name = patch.name.clone().unwrap_or(user.name);
        user.role = patch.role.unwrap_or(user.role);
        user.status = patch.status.unwrap_or(user.status);
        (user.version, user.updated_at) = (version + 1, now);
        catalog.users.insert(id, user.clone());
        state.log.record(&Event::changed(Action::UserChanged, &before, &user), act);
        Ok(user)
    }

    async fn create_key(&self, new: &NewKey, act: &Act) -> Result<ApiKey, StoreError> {
        let (state, now) = (&mut *self.state(), act.at);
        let catalog = &mut state.catalog;
        new.tenant.map(|id| catalog.tenant(id)).transpose()?;
        new.user.map(|id| catalog.user(id)).transpose()?;
        check_free(catalog.macs.contains_key(&new.mac), "the key")?;
        let key = ApiKey {
            id: KeyId::generate(now),
            tenant: new.tenant,
            user: new.user,
            name: new.name.clone(),
            kind: new.kind,
            prefix: new.prefix.clone(),
            last4: new.last4.clone(),
            models: new.models.clone(),
            status: KeyStatus::Active,
            expires_at: new.expires_at,
            created_at: now,
        };
        catalog.macs.insert(new.mac, key.id);
        catalog.keys.insert(key.id, key.clone());
        state.log.record(&Event::created(Action::KeyCreated, &key), act);
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

    async fn key_context(&self, mac: &KeyMac) -> Result<Option<KeyContext>, StoreError> {
        let catalog = &self.state().catalog;
        let Some(key) = catalog.macs.get(mac).and_then(|id| catalog.keys.get(id)).cloned() else { return Ok(None) };
        let user = key.user.and_then(|id| catalog.users.get(&id)).cloned();
        let product = user.as_ref().and_then(|user| catalog.versions.get(&user.product_version?)).cloned();
        let tenant = key.tenant.and_then(|id| catalog.tenants.get(&id)).cloned();
        let budgets = catalog.path(&key, product.as_ref().map(|version| version.product));
        Ok(Some(KeyContext { key, user, tenant, product, budgets }))
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
        for record in self.state().books.usage.values().filter(|record| matches(filter, record)) {
            let day = tz::TimeZone::UTC.to_datetime(record.at).date();
            let key = (day, record.caller.tenant, record.caller.user, record.caller.key, record.model_served.clone());
            add(days.entry(key).or_insert_with(|| empty_day(record)), record);
        }
        Ok(days.into_values().collect())
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

fn empty_day(record: &UsageRecord) -> UsageDay {
    UsageDay {
        day: tz::TimeZone::UTC.to_datetime(record.at).date(),
        tenant: record.caller.tenant,
        user: record.caller.user,
        key: record.caller.key,
        model: record.model_served.clone(),
        requests: 0,
        tokens_in: 0,
        tokens_out: 0,
        cost_nanos: 0,
        charged_nanos: 0,
    }
}

fn add(day: &mut UsageDay, record: &UsageRecord) {
    day.requests += 1;
    day.tokens_in = day.tokens_in.saturating_add_unsigned(record.usage.input_total());
    day.tokens_out = day.tokens_out.saturating_add_unsigned(record.usage.output_total());
    day.cost_nanos = day.cost_nanos.saturating_add(record.cost_nanos);
    day.charged_nanos += record.charged_nanos;
}
