//! Things as the stack that runs today shows them: flat records with the names of its collections (money.md §1.2).

use std::collections::HashMap;
use std::sync::Arc;

use cfr_billing::budget::{Budget, BudgetFilter, ScopeId};
use cfr_billing::identity::{Tenant, User};
use cfr_billing::outside::Named;
use cfr_billing::plan::{Product, ProductVersion};
use cfr_billing::store::{PageRequest, StoreError};
use cfr_core::id::{ProductVersionId, UserId};
use cfr_core::ledger::{Balance, BudgetLedger, Scope, UsageRecord};
use cfr_core::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::amount::Amount;
use super::body::refused;
use super::names;
use crate::error::ApiError;
use crate::state::App;

/// The tool whose names are shown.
pub(crate) const POCKETBASE: &str = "pocketbase";

/// What is left of a budget, in its currency.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BudgetFields {
    /// Everything granted to the current period.
    pub(super) budget_total: Option<Amount>,
    /// Everything charged in it.
    pub(super) budget_used: Option<Amount>,
    /// What is granted and not charged.
    pub(super) budget_remaining: Option<Amount>,
    /// What a new call could hold.
    pub(super) budget_available: Option<Amount>,
    /// When the next period begins.
    pub(super) budget_reset_date: Option<String>,
    /// In which currency.
    pub(super) currency: Option<Arc<str>>,
}

impl BudgetFields {
    /// Of who has none.
    pub(super) const NONE: Self = Self {
        budget_total: None,
        budget_used: None,
        budget_remaining: None,
        budget_available: None,
        budget_reset_date: None,
        currency: None,
    };

    /// Of a budget as it is now.
    ///
    /// # Errors
    /// When the ledger cannot tell.
    pub(super) async fn of(app: &App, budget: &Budget) -> Result<Self, ApiError> {
        let balance = app.books.escrow.balance(budget.spec.id).await;
        Ok(balance.map_err(ApiError::ledger_unavailable)?.into())
    }
}

impl From<Balance> for BudgetFields {
    fn from(balance: Balance) -> Self {
        let left = balance.granted.nanos().saturating_sub(balance.settled.nanos());
        Self {
            budget_total: Some(balance.granted.into()),
            budget_used: Some(balance.settled.into()),
            budget_remaining: Some(Amount::of_nanos(left)),
            budget_available: Some(balance.available.into()),
            budget_reset_date: balance.period.end.map(moment),
            currency: Some(balance.granted.currency().code().into()),
        }
    }
}

/// A user's record.
#[derive(Debug, Serialize)]
pub(super) struct UserFields {
    pub(super) id: Arc<str>,
    email: Arc<str>,
    name: Arc<str>,
    role: Value,
    status: Value,
    tenant_id: Arc<str>,
    product_id: Option<Arc<str>>,
    #[serde(flatten)]
    budget: BudgetFields,
    created: String,
    updated: String,
}

/// A tenant's record.
#[derive(Debug, Serialize)]
pub(super) struct TenantFields {
    id: Arc<str>,
    name: Arc<str>,
    slug: Arc<str>,
    domain: Option<Arc<str>>,
    #[serde(rename = "type")]
    kind: Value,
    status: Value,
    services: Value,
    billing_plan: Value,
    max_users: Option<u32>,
    created: String,
    updated: String,
}

/// A product's record.
#[derive(Debug, Serialize)]
pub(super) struct ProductFields {
    id: Arc<str>,
    name: Arc<str>,
    description: Arc<str>,
    price: Amount,
    currency: Arc<str>,
    budget_included: Amount,
    models: Vec<Arc<str>>,
    features: Vec<Arc<str>>,
    rate_limit: Option<u32>,
    active: bool,
    created: String,
    updated: String,
}

/// A usage record.
#[derive(Debug, Serialize)]
pub(super) struct UsageFields {
    id: String,
    user_id: Option<Arc<str>>,
    tenant_id: Arc<str>,
    model: Arc<str>,
    tokens_input: u64,
    tokens_output: u64,
    total_tokens: u64,
    cost_total: String,
    timestamp: String,
    request_id: Option<Box<str>>,
    created: String,
    updated: String,
}

/// Shows things, and remembers names while it does: a page names few tenants and few products.
#[derive(Debug)]
pub(super) struct Presenter<'a> {
    app: &'a App,
    names: HashMap<Named, Arc<str>>,
    versions: HashMap<ProductVersionId, Arc<ProductVersion>>,
}

impl<'a> Presenter<'a> {
    pub(super) fn new(app: &'a App) -> Self {
        Self { app, names: HashMap::new(), versions: HashMap::new() }
    }

    pub(super) async fn user(&mut self, user: &User) -> Result<UserFields, ApiError> {
        let product_id = match user.product_version {
            Some(id) => {
                let product = self.version(id).await.map_err(refused)?.product;
                Some(self.name(Named::Product(product)).await?)
            }
            None => None,
        };
        let budget = match user_budget(self.app, user.id).await.map_err(refused)? {
            Some(budget) => BudgetFields::of(self.app, &budget).await?,
            None => BudgetFields::NONE,
        };
        Ok(UserFields {
            id: self.name(Named::User(user.id)).await?,
            email: Arc::clone(&user.email),
            name: Arc::clone(&user.name),
            role: word(&user.role),
            status: word(&user.status),
            tenant_id: self.name(Named::Tenant(user.tenant)).await?,
            product_id,
            budget,
            created: moment(user.created_at),
            updated: moment(user.updated_at),
        })
    }

    pub(super) async fn tenant(&mut self, tenant: &Tenant) -> Result<TenantFields, ApiError> {
        let store = &*self.app.books.store;
        let given = names::given(store, Named::Tenant(tenant.id), POCKETBASE).await.map_err(refused)?;
        let note = |name: &str| given.as_ref().and_then(|given| given.notes.get(name)).cloned().unwrap_or_default();
        Ok(TenantFields {
            id: given.as_ref().map_or_else(|| tenant.id.to_string().into(), |given| Arc::clone(&given.name)),
            name: Arc::clone(&tenant.name),
            slug: Arc::clone(&tenant.slug),
            domain: tenant.domain.clone(),
            kind: word(&tenant.kind),
            status: word(&tenant.status),
            services: note("services"),
            billing_plan: note("billing_plan"),
            max_users: tenant.users_max,
            created: moment(tenant.created_at),
            updated: moment(tenant.updated_at),
        })
    }

    pub(super) async fn product(&mut self, product: &Product) -> Result<ProductFields, ApiError> {
        let terms = &product.current.terms;
        let created = moment(product.current.created_at);
        Ok(ProductFields {
            id: self.name(Named::Product(product.id)).await?,
            name: Arc::clone(&terms.name),
            description: Arc::clone(&terms.description),
            price: Amount(rust_decimal::Decimal::new(terms.price_minor, 2)),
            currency: terms.currency.code().into(),
            budget_included: Amount::of_nanos(terms.budget_included_nanos),
            models: terms.models.clone(),
            features: terms.features.clone(),
            rate_limit: terms.requests_per_minute,
            active: product.active,
            updated: created.clone(),
            created,
        })
    }

    pub(super) async fn usage(&mut self, record: &UsageRecord) -> Result<UsageFields, ApiError> {
        let user_id = match record.caller.user {
            Some(user) => Some(self.name(Named::User(user)).await?),
            None => None,
        };
        let (input, output) = (record.usage.input_total(), record.usage.output_total());
        let at = moment(record.at);
        Ok(UsageFields {
            id: record.id.to_string(),
            user_id,
            tenant_id: self.name(Named::Tenant(record.caller.tenant)).await?,
            model: Arc::clone(served(record)),
            tokens_input: input,
            tokens_output: output,
            total_tokens: input.saturating_add(output),
            cost_total: Amount::of_nanos(record.charged_nanos).0.to_string(),
            timestamp: at.clone(),
            request_id: record.tags.request_id.clone(),
            updated: at.clone(),
            created: at,
        })
    }

    async fn name(&mut self, named: Named) -> Result<Arc<str>, ApiError> {
        if let Some(known) = self.names.get(&named) {
            return Ok(Arc::clone(known));
        }
        let name = names::shown(&*self.app.books.store, named, POCKETBASE).await.map_err(refused)?;
        self.names.insert(named, Arc::clone(&name));
        Ok(name)
    }

    async fn version(&mut self, id: ProductVersionId) -> Result<Arc<ProductVersion>, StoreError> {
        if let Some(known) = self.versions.get(&id) {
            return Ok(Arc::clone(known));
        }
        let version = Arc::new(self.app.books.store.product_version(id).await?);
        self.versions.insert(id, Arc::clone(&version));
        Ok(version)
    }
}

/// The budget of a user's own, if there is one.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn user_budget(app: &App, user: UserId) -> Result<Option<Budget>, StoreError> {
    budget_of(app, Scope::User, user.as_u128()).await
}

/// The first active budget of this scope and subject.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn budget_of(app: &App, scope: Scope, id: u128) -> Result<Option<Budget>, StoreError> {
    let filter = BudgetFilter { scope: Some(scope), scope_id: Some(ScopeId(id)), tenant: None };
    let budgets = app.books.store.budgets(&filter, PageRequest::default()).await?.items;
    Ok(budgets.into_iter().find(|budget| budget.active))
}

/// The model that was priced; the one asked for when no provider was.
pub(super) fn served(record: &UsageRecord) -> &Arc<str> {
    if record.model_served.is_empty() { &record.model_requested } else { &record.model_served }
}

/// A moment as PocketBase writes it.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
}

pub(super) fn word(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
