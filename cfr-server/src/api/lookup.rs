//! Names where ids are expected: a tenant's slug, a product's code, a user's e-mail address.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use cfr_billing::identity::{Tenant, User};
use cfr_billing::plan::{Product, ProductVersion};
use cfr_billing::store::{CatalogStore, StoreError};
use cfr_core::id::{ProductVersionId, TenantId, UserId};
use cfr_core::money::Currency;

use super::problem::Problem;

/// The tenant with this id or slug.
///
/// # Errors
/// 404 when there is none.
pub(crate) async fn tenant(store: &dyn CatalogStore, name: &str) -> Result<Tenant, Problem> {
    match name.parse() {
        Ok(id) => Ok(store.tenant(id).await?),
        Err(_) => store.tenant_by_slug(name).await?.ok_or_else(|| Problem::not_found("tenant")),
    }
}

/// The product with this id or code.
///
/// # Errors
/// 404 when there is none.
pub(crate) async fn product(store: &dyn CatalogStore, name: &str) -> Result<Product, Problem> {
    match name.parse() {
        Ok(id) => Ok(store.product(id).await?),
        Err(_) => store.product_by_code(name).await?.ok_or_else(|| Problem::not_found("product")),
    }
}

/// The user with this id or e-mail address.
///
/// # Errors
/// 404 when there is none.
pub(crate) async fn user(store: &dyn CatalogStore, name: &str) -> Result<User, Problem> {
    match name.parse() {
        Ok(id) => Ok(store.user(id).await?),
        Err(_) => store.user_by_email(name).await?.ok_or_else(|| Problem::not_found("user")),
    }
}

/// The tenant that a filter names, if it names one.
///
/// # Errors
/// 404 when there is none.
pub(crate) async fn tenant_filter(store: &dyn CatalogStore, name: Option<&str>) -> Result<Option<TenantId>, Problem> {
    let Some(name) = name else { return Ok(None) };
    Ok(Some(tenant(store, name).await?.id))
}

/// The user that a filter names, if it names one.
///
/// # Errors
/// 404 when there is none.
pub(crate) async fn user_filter(store: &dyn CatalogStore, name: Option<&str>) -> Result<Option<UserId>, Problem> {
    let Some(name) = name else { return Ok(None) };
    Ok(Some(user(store, name).await?.id))
}

/// The id that stands in a path.
///
/// # Errors
/// 404 when it is no id of that kind: then there is no such row either.
pub(crate) fn id<T: FromStr>(text: &str, what: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found(what))
}

/// What a field of a body names: if there is no such row, the field is wrong and not the path.
///
/// # Errors
/// 422 in place of 404.
pub(crate) fn named<T>(field: &str, found: Result<T, Problem>) -> Result<T, Problem> {
    found.map_err(|problem| match problem.status {
        404 => Problem::invalid_field(field, problem.detail),
        _ => problem,
    })
}

/// What one request has looked up already: a page of rows names few tenants and few product versions.
#[derive(Debug)]
pub(crate) struct Memo<'a> {
    store: &'a dyn CatalogStore,
    currencies: HashMap<TenantId, Currency>,
    versions: HashMap<ProductVersionId, Arc<ProductVersion>>,
}

impl<'a> Memo<'a> {
    /// Nothing looked up yet.
    pub(crate) fn new(store: &'a dyn CatalogStore) -> Self {
        Self { store, currencies: HashMap::new(), versions: HashMap::new() }
    }

    /// The currency of a tenant's budgets, and so of its usage.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn currency(&mut self, tenant: TenantId) -> Result<Currency, StoreError> {
        if let Some(currency) = self.currencies.get(&tenant) {
            return Ok(*currency);
        }
        let currency = self.store.tenant(tenant).await?.currency;
        self.currencies.insert(tenant, currency);
        Ok(currency)
    }

    /// One version of a product.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn version(&mut self, id: ProductVersionId) -> Result<Arc<ProductVersion>, StoreError> {
        if let Some(version) = self.versions.get(&id) {
            return Ok(Arc::clone(version));
        }
        let version = Arc::new(self.store.product_version(id).await?);
        self.versions.insert(id, Arc::clone(&version));
        Ok(version)
    }
}
