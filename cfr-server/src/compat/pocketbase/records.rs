//! The four collections, and where their records are here.

use cfr_billing::identity::UserFilter;
use cfr_billing::store::{CatalogStore as _, Cursor, PAGE_ROWS_MAX, PageRequest};
use cfr_billing::usage::UsageFilter;
use serde::Serialize;
use serde_json::Value;

use super::super::body::{not_found, refused};
use super::super::manager::Manager;
use super::super::names;
use super::super::view::{Presenter, ProductFields, TenantFields, UsageFields, UserFields};
use super::filter::Filter;
use super::{RECORDS_MAX, no_collection};
use crate::auth::access::Permission;
use crate::error::ApiError;
use crate::state::App;

/// A collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collection {
    Tenants,
    Products,
    Users,
    UsageLogs,
}

/// A record with the name of its collection.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    #[serde(rename = "collectionId")]
    collection_id: &'static str,
    #[serde(rename = "collectionName")]
    collection_name: &'static str,
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Fields {
    Tenant(Box<TenantFields>),
    Product(Box<ProductFields>),
    User(Box<UserFields>),
    Usage(Box<UsageFields>),
}

/// Records that were gone through.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    /// Whether these are all that the filter wants.
    pub(super) complete: bool,
}

impl Found {
    fn take(&mut self, record: Record, filter: &Filter) {
        if filter.wants(&serde_json::to_value(&record).unwrap_or(Value::Null)) {
            self.records.push(record);
        }
    }
}

impl Collection {
    pub(super) fn named(name: &str) -> Result<Self, ApiError> {
        match name {
            "tenants" => Ok(Self::Tenants),
            "products" => Ok(Self::Products),
            "users" => Ok(Self::Users),
            "usage_logs" => Ok(Self::UsageLogs),
            _ => Err(no_collection()),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Products => "products",
            Self::Users => "users",
            Self::UsageLogs => "usage_logs",
        }
    }

    /// Where its things are changed.
    pub(super) const fn management(self) -> &'static str {
        match self {
            Self::Tenants => "/api/v1/tenants",
            Self::Products => "/api/v1/products",
            Self::Users => "/api/v1/users",
            Self::UsageLogs => "/api/usage/log, or /api/v1/usage",
        }
    }

    pub(super) const fn permission(self) -> Permission {
        match self {
            Self::Tenants => Permission::TenantsRead,
            Self::Products => Permission::ProductsRead,
            Self::Users => Permission::UsersRead,
            Self::UsageLogs => Permission::UsageRead,
        }
    }

    pub(super) const fn comes_newest_first(self) -> bool {
        matches!(self, Self::UsageLogs)
    }

    /// There may be millions of usage records.
    pub(super) const fn is_cheap_to_count(self) -> bool {
        !matches!(self, Self::UsageLogs)
    }

    const fn record_of(self, fields: Fields) -> Record {
        Record { collection_id: self.name(), collection_name: self.name(), fields }
    }

    /// Records that the filter wants, at least `enough` of them unless there are fewer, in the order that is asked for.
    ///
    /// # Errors
    /// 400 when they would have to be turned around and are too many.
    pub(super) async fn records(
        self,
        app: &App,
        manager: &Manager,
        filter: &Filter,
        newest_first: bool,
        enough: usize,
    ) -> Result<Found, ApiError> {
        let turned = newest_first != self.comes_newest_first();
        let enough = if turned { RECORDS_MAX } else { enough };
        let mut presenter = Presenter::new(app);
        let mut found = Found::default();
        let (mut after, mut seen) = (None, 0);
        loop {
            let request = PageRequest { after, limit: PAGE_ROWS_MAX };
            let (rows, next) = self.page(manager, app, filter, request, &mut presenter).await?;
            seen += rows.len();
            rows.into_iter().for_each(|record| found.take(record, filter));
            found.complete = next.is_none();
            after = next;
            if found.complete || found.records.len() >= enough || seen >= RECORDS_MAX {
                break;
            }
        }
        if turned {
            if !found.complete {
                let message = format!("more than {RECORDS_MAX} records cannot be sorted this way: filter them");
                return Err(ApiError::bad_request("too_many_records", message).param("sort"));
            }
            found.records.reverse();
        }
        Ok(found)
    }

    async fn page(
        self,
        manager: &Manager,
        app: &App,
        filter: &Filter,
        request: PageRequest,
        presenter: &mut Presenter<'_>,
    ) -> Result<(Vec<Record>, Option<Cursor>), ApiError> {
        let mut records = Vec::new();
        let next = match self {
            Self::Tenants => {
                let page = manager.view.tenants(request).await.map_err(refused)?;
                for row in &page.items {
                    records.push(self.record_of(Fields::Tenant(Box::new(presenter.tenant(row).await?))));
                }
                page.next
            }
            Self::Products => {
                let page = manager.view.products(request).await.map_err(refused)?;
                for row in &page.items {
                    records.push(self.record_of(Fields::Product(Box::new(presenter.product(row).await?))));
                }
                page.next
            }
            Self::Users => {
                let wanted = user_filter(app, manager, filter).await?;
                let page = manager.view.users(&wanted, request).await.map_err(refused)?;
                for row in &page.items {
                    records.push(self.record_of(Fields::User(Box::new(presenter.user(row).await?))));
                }
                page.next
            }
            Self::UsageLogs => {
                let wanted = usage_filter(app, manager, filter).await?;
                let page = manager.view.usage(&wanted, request).await.map_err(refused)?;
                for row in &page.items {
                    records.push(self.record_of(Fields::Usage(Box::new(presenter.usage(row).await?))));
                }
                page.next
            }
        };
        Ok((records, next))
    }

    /// One record, by its id there or here.
    ///
    /// # Errors
    /// 404 when it is not there, or out of reach.
    pub(super) async fn record(self, app: &App, manager: &Manager, id: &str) -> Result<Record, ApiError> {
        let (store, view) = (&*app.books.store, &manager.view);
        let mut presenter = Presenter::new(app);
        let fields = match self {
            Self::Tenants => Fields::Tenant(Box::new(presenter.tenant(&names::tenant(store, view, id).await?).await?)),
            Self::Products => {
                Fields::Product(Box::new(presenter.product(&names::product(store, view, id).await?).await?))
            }
            Self::Users => Fields::User(Box::new(presenter.user(&names::user(store, view, id).await?).await?)),
            Self::UsageLogs => {
                let id = id.parse().map_err(|_| not_found("usage log"))?;
                let wanted = UsageFilter { id: Some(id), ..UsageFilter::default() };
                let page = view.usage(&wanted, PageRequest { after: None, limit: 1 }).await.map_err(refused)?;
                let row = page.items.first().ok_or_else(|| not_found("usage log"))?;
                Fields::Usage(Box::new(presenter.usage(row).await?))
            }
        };
        Ok(self.record_of(fields))
    }
}

/// What the store can look for by itself.
async fn user_filter(app: &App, manager: &Manager, filter: &Filter) -> Result<UserFilter, ApiError> {
    let tenant = match filter.wanted("tenant_id") {
        Some(name) => Some(names::tenant(&*app.books.store, &manager.view, name).await?.id),
        None => None,
    };
    Ok(UserFilter { tenant, status: None })
}

async fn usage_filter(app: &App, manager: &Manager, filter: &Filter) -> Result<UsageFilter, ApiError> {
    let UserFilter { tenant, .. } = user_filter(app, manager, filter).await?;
    let user = match filter.wanted("user_id") {
        Some(name) => Some(names::user(&*app.books.store, &manager.view, name).await?.id),
        None => None,
    };
    Ok(UsageFilter { tenant, user, ..UsageFilter::default() })
}
