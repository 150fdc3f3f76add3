//! The management API under `/api/v1`: resources with stable ids, pages, versions and problem details.
//!
//! Every route names the permission that it asks for, and handlers see the world through a `desk::Desk` that is bound to
//! what their caller may reach. Every change of a budget goes through the escrow engine,
//! so that running leases learn of it, and every change that a key can feel empties the key cache.

use std::fmt::Debug;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::response::Response;
use cfr_billing::escrow::Escrow;
use cfr_billing::store::Store;
use cfr_core::broadcast::Broadcast;
use cfr_core::price::PriceTable;
use cfr_core::route::Routes;
use cfr_core::time::Clock;
use tokio_util::task::TaskTracker;
use utoipa_axum::routes;

mod activation;
mod approvals;
mod audit;
mod budgets;
mod desk;
mod events;
mod export;
mod grants;
mod guard;
mod idempotency;
mod impersonation;
pub(crate) mod input;
mod invitations;
mod keys;
mod leads;
mod lookup;
mod money;
mod nodes;
mod oidc_clients;
mod page;
mod precondition;
mod prices;
mod privacy;
pub(crate) mod problem;
mod products;
mod provider_accounts;
mod reports;
mod resets;
mod routes;
pub(crate) mod schema;
mod secrets;
mod subscriptions;
mod tenants;
mod usage;
mod users;

use self::desk::Shared;
pub(crate) use self::guard::SignIns;
pub(crate) use self::input::Json;
use self::problem::Problem;
pub(crate) use self::resets::grant_of;
pub(crate) use self::routes::operations;
pub use self::routes::{ACCESS_FIELD, GuardedRoutes};
use crate::accounts::AccountDesk;
use crate::auth::Keys;
use crate::auth::access::Permission as P;
use crate::mail::Letters;
use crate::secrets::Vault;

/// Where the router is mounted.
pub const BASE_PATH: &str = "/api/v1";
/// A body of anything but a price table.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Everything that a handler can reach.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// Tenants, products, users, keys, usage and prices.
    pub store: Arc<dyn Store>,
    /// Budgets with their live balances.
    pub escrow: Arc<Escrow>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Makes, checks and forgets keys.
    pub keys: Arc<Keys>,
    /// The prices that requests are charged by.
    pub prices: Arc<dyn PriceDesk>,
    /// Seals secrets.
    pub vault: Arc<Vault>,
    /// Writes letters.
    pub letters: Letters,
    /// Judges accounts at providers.
    pub accounts: Arc<AccountDesk>,
    /// Tells the other replicas of new prices.
    pub broadcast: Arc<dyn Broadcast>,
    /// What one person may grant to a budget within a day alone, in nano-units of its currency; none for everything.
    pub second_person_above: Option<i64>,
    /// Who is signed in; none where nobody signs in.
    pub(crate) sign_ins: Option<Arc<dyn SignIns>>,
    /// Changes that go on when whoever asked for them has left.
    pub running: TaskTracker,
}

/// What the API needs of whatever charges requests.
pub trait PriceDesk: Debug + Send + Sync + 'static {
    /// The table that new requests are priced by.
    fn current(&self) -> Arc<PriceTable>;

    /// The models that are offered, priced or not.
    fn offered(&self) -> Arc<Routes>;

    /// An imported table as it would be in force: with the prices that the operator's configuration adds.
    ///
    /// # Errors
    /// When the two contradict each other, in words for the operator.
    fn complete(&self, imported: &PriceTable) -> Result<Arc<PriceTable>, String>;

    /// The JSON of the table in force, without what the configuration adds, given the newest imported one.
    ///
    /// # Errors
    /// When the configuration names a file that cannot be read, in words for the operator.
    fn source(&self, imported: Option<Vec<u8>>) -> Result<Vec<u8>, String>;

    /// Prices new requests by an imported table from now on; running ones keep theirs.
    fn replace(&self, imported: Arc<PriceTable>);
}

/// The API for callers from outside: keys, and people who signed in.
pub fn router(state: ApiState) -> Router {
    let shared = Shared::new(state);
    let names = middleware::from_fn_with_state(shared.clone(), idempotency::once);
    let guard = middleware::from_fn_with_state(shared.clone(), guard::admit);
    finish(shared, |router| router.layer(names).layer(guard))
}

/// The API for the command line on an opened store: whoever can open the data folder is the operator.
pub fn local_router(state: ApiState) -> Router {
    let shared = Shared::new(state);
    let guard = middleware::from_fn_with_state(shared.clone(), guard::trust_the_operator);
    finish(shared, |router| router.layer(guard))
}

fn finish(shared: Shared, guard: impl FnOnce(Router<Shared>) -> Router<Shared>) -> Router {
    let (router, _) = routes().split();
    let router = router.fallback(unknown_path).method_not_allowed_fallback(wrong_method);
    guard(router)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(forbid_caching))
        .with_state(shared)
}

/// Every route with what it asks for. What is not listed here does not exist.
#[must_use]
pub fn routes() -> GuardedRoutes {
    GuardedRoutes::default()
        .route(P::TenantsRead, routes!(tenants::list))
        .route(P::TenantsCreate, routes!(tenants::create))
        .route(P::TenantsRead, routes!(tenants::show))
        .route(P::TenantsWrite, routes!(tenants::change))
        .route(P::ProductsRead, routes!(products::list))
        .route(P::ProductsWrite, routes!(products::create))
        .route(P::ProductsRead, routes!(products::show))
        .route(P::ProductsWrite, routes!(products::change))
        .route(P::ProductsWrite, routes!(products::versions, products::publish))
        .route(P::UsersRead, routes!(users::list))
        .route(P::UsersWrite, routes!(users::create))
        .route(P::UsersRead, routes!(users::show))
        .route(P::UsersWrite, routes!(users::change))
        .route(P::UsersWrite, routes!(activation::activate))
        .route(P::UsersWrite, routes!(activation::reject))
        .route(P::UsersExport, routes!(privacy::download))
        .proved(P::UsersErase, routes!(privacy::erase_user))
        .proved(P::TenantsErase, routes!(privacy::erase_tenant))
        .route(P::UsersRead, routes!(invitations::list))
        .route(P::UsersWrite, routes!(invitations::create))
        .route(P::UsersWrite, routes!(invitations::revoke))
        .route(P::UsersWrite, routes!(invitations::resend))
        .proved(P::UsersImpersonate, routes!(impersonation::begin))
        .route(P::UsersImpersonate, routes!(impersonation::end))
        .route(P::SubscriptionsRead, routes!(subscriptions::list))
        .proved(P::SubscriptionsWrite, routes!(subscriptions::create))
        .route(P::SubscriptionsRead, routes!(subscriptions::show))
        .proved(P::SubscriptionsWrite, routes!(subscriptions::change))
        .route(P::KeysRead, routes!(keys::list))
        .proved(P::KeysWrite, routes!(keys::create))
        .route(P::KeysSelf, routes!(keys::own))
        .route(P::KeysRead, routes!(keys::show))
        .route(P::KeysWrite, routes!(keys::change))
        .proved(P::KeysWrite, routes!(keys::rotate))
        .route(P::KeysWrite, routes!(keys::revoke))
        .route(P::BudgetsRead, routes!(budgets::list))
        .route(P::BudgetsWrite, routes!(budgets::create))
        .route(P::BudgetsRead, routes!(budgets::show))
        .route(P::BudgetsWrite, routes!(budgets::change))
        .route(P::BudgetsWrite, routes!(resets::reset))
        .route(P::BudgetsRead, routes!(grants::list))
        .proved(P::LedgerAdjust, routes!(grants::create))
        .route(P::LedgerAdjust, routes!(approvals::list))
        .route(P::LedgerAdjust, routes!(approvals::show))
        .proved(P::LedgerAdjust, routes!(approvals::approve))
        .proved(P::LedgerAdjust, routes!(approvals::reject))
        .route(P::LeadsRead, routes!(leads::list))
        .route(P::LeadsRead, routes!(leads::show))
        .route(P::LeadsWrite, routes!(leads::change))
        .route(P::LeadsWrite, routes!(leads::remove))
        .proved(P::LeadsWrite, routes!(leads::forget))
        .route(P::UsageRead, routes!(usage::list))
        .route(P::UsageRead, routes!(usage::daily))
        .route(P::UsageRead, routes!(usage::export::download))
        .route(P::UsageRead, routes!(reports::sums))
        .route(P::UsageRead, routes!(reports::analytics))
        .route(P::UsageRead, routes!(events::follow))
        .route(P::PricesRead, routes!(prices::list))
        .route(P::PricesRead, routes!(prices::show))
        .route(P::ClientsRead, routes!(oidc_clients::list))
        .proved(P::ClientsWrite, routes!(oidc_clients::create))
        .route(P::ClientsRead, routes!(oidc_clients::show))
        .proved(P::ClientsWrite, routes!(oidc_clients::change))
        .proved(P::ClientsWrite, routes!(oidc_clients::rotate))
        .route(P::ClientsWrite, routes!(oidc_clients::revoke))
        .route(P::AccountsRead, routes!(provider_accounts::list))
        .proved(P::AccountsWrite, routes!(provider_accounts::create))
        .route(P::AccountsRead, routes!(provider_accounts::show))
        .proved(P::AccountsWrite, routes!(provider_accounts::change))
        .proved(P::AccountsWrite, routes!(provider_accounts::remove))
        .route(P::AccountsWrite, routes!(provider_accounts::check))
        .proved(P::SecretsWrite, routes!(secrets::rotate_master_key))
        .proved(P::SecretsWrite, routes!(secrets::rotate_data_key))
        .route(P::SecretsWrite, routes!(secrets::verify))
        .route(P::AuditRead, routes!(audit::list))
        .route(P::AuditRead, routes!(audit::export::download))
        .route(P::NodesRead, routes!(nodes::list))
        .proved(P::NodesWrite, routes!(nodes::fence))
        .merge(price_table())
}

/// The routes that take a whole price table.
fn price_table() -> GuardedRoutes {
    GuardedRoutes::default()
        .route(P::PricesRead, routes!(prices::table))
        .route(P::PricesWrite, routes!(prices::import))
        .route(P::PricesRead, routes!(prices::diff))
        .route(P::PricesRead, routes!(prices::audit))
        .body_limit(prices::TABLE_BYTES_MAX)
}

async fn unknown_path() -> Problem {
    Problem::not_found("path")
}

async fn wrong_method() -> Problem {
    Problem::method_not_allowed()
}

/// Answers name people, money and once even a secret: no proxy may keep them.
async fn forbid_caching(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
