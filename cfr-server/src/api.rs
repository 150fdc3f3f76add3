//! The management API under `/api/v1`: resources with stable ids, pages, versions and problem details.
//!
//! Handlers see the world through [`ApiState`] and nothing else. Every change of a budget goes through the escrow engine,
//! so that running leases learn of it, and every change that a key can feel empties the key cache.

use std::fmt::Debug;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::response::Response;
use cfr_billing::escrow::Escrow;
use cfr_billing::store::Store;
use cfr_core::broadcast::Broadcast;
use cfr_core::price::PriceTable;
use cfr_core::route::Routes;
use cfr_core::time::Clock;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

mod admin;
mod audit;
mod budgets;
mod grants;
mod input;
mod keys;
mod lookup;
mod money;
mod nodes;
mod page;
mod precondition;
mod prices;
pub(crate) mod problem;
mod products;
pub(crate) mod schema;
mod tenants;
mod usage;
mod users;

use self::problem::Problem;
use crate::auth::Keys;
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
    /// Tells the other replicas of new prices.
    pub broadcast: Arc<dyn Broadcast>,
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

/// The API for callers from outside: an admin key is demanded.
pub fn router(state: ApiState) -> Router {
    let guard = middleware::from_fn_with_state(state.clone(), admin::require_admin_key);
    finish(state, |router| router.layer(guard))
}

/// The API for the command line on an opened store: whoever can open the data folder is the operator.
pub fn local_router(state: ApiState) -> Router {
    finish(state, |router| router.layer(middleware::from_fn(admin::trust_the_operator)))
}

fn finish(state: ApiState, guard: impl FnOnce(Router<ApiState>) -> Router<ApiState>) -> Router {
    let (router, _) = routes().split_for_parts();
    let router = router.fallback(unknown_path).method_not_allowed_fallback(wrong_method);
    guard(router)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(forbid_caching))
        .with_state(state)
}

/// Every route with its description. What is not listed here does not exist.
#[must_use]
pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::show, tenants::change))
        .routes(routes!(products::list, products::create))
        .routes(routes!(products::show, products::change))
        .routes(routes!(products::versions, products::publish))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::change))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show))
        .routes(routes!(keys::revoke))
        .routes(routes!(budgets::list, budgets::create))
        .routes(routes!(budgets::show, budgets::change))
        .routes(routes!(grants::list, grants::create))
        .routes(routes!(usage::list))
        .routes(routes!(usage::daily))
        .routes(routes!(prices::list))
        .routes(routes!(prices::show))
        .routes(routes!(audit::list))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::fence))
        .merge(price_table())
}

/// The routes that take a whole price table.
fn price_table() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(prices::table, prices::import))
        .routes(routes!(prices::diff))
        .routes(routes!(prices::audit))
        .layer(DefaultBodyLimit::max(prices::TABLE_BYTES_MAX))
}

async fn unknown_path(_: State<ApiState>) -> Problem {
    Problem::not_found("path")
}

async fn wrong_method(_: State<ApiState>) -> Problem {
    Problem::method_not_allowed()
}

/// Answers name people, money and once even a secret: no proxy may keep them.
async fn forbid_caching(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
