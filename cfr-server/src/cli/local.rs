//! The management API without a socket: over a data folder that no server owns, or beside the servers that share a database.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use cfr_core::gateway::Offer;
use cfr_core::price::PriceTable;
use cfr_core::route::Routes;
use cfr_core::time::{Clock, SystemClock};
use tokio_util::task::TaskTracker;

use super::error::CliError;
use crate::accounts::AccountDesk;
use crate::api::{self, ApiState, PriceDesk};
use crate::config::{Config, DatabaseUrl, offer, prices, prices_json};
use crate::state::{Books, StartError};

/// Opens the folder of a configuration. The books are closed by whoever gets them.
///
/// # Errors
/// When there is no such folder, or a server owns it, or its prices cannot be read.
pub(crate) async fn open(config: &Arc<Config>) -> Result<(Router, Books), CliError> {
    if let DatabaseUrl::Sqlite(path) = config.database_url()
        && !path.exists()
    {
        let data = config.data.display();
        let begin = format!("begin one with `cfr-server migrate --data {data}`");
        let hint = format!("name another with --data, a server with --server, or {begin}");
        return Err(CliError::Unreachable(format!("no data in {data}: {hint}").into()));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let books = Books::open_for_command(config, clock).await?;
    match FolderPrices::read(config, &books).await {
        Ok(prices) => Ok((router(&books, prices, config), books)),
        Err(error) => {
            books.close().await?;
            Err(error)
        }
    }
}

fn router(books: &Books, prices: FolderPrices, config: &Config) -> Router {
    let state = ApiState {
        store: Arc::clone(&books.store),
        escrow: Arc::clone(&books.escrow),
        clock: Arc::clone(&books.clock),
        keys: Arc::clone(&books.keys),
        prices: Arc::new(prices),
        vault: Arc::clone(&books.vault),
        letters: books.letters.clone(),
        accounts: Arc::new(AccountDesk::new(config)),
        broadcast: Arc::clone(&books.broadcast),
        second_person_above: config.settings.second_person_above,
        sign_ins: None,
        running: TaskTracker::new(),
    };
    Router::new().nest_service(api::BASE_PATH, api::local_router(state))
}

/// The prices that the next start of a server reads. Nobody is served now, so an import changes nobody's calls.
#[derive(Debug)]
struct FolderPrices {
    offer: Offer,
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
}

impl FolderPrices {
    async fn read(config: &Arc<Config>, books: &Books) -> Result<Self, CliError> {
        let imported = books.store.latest_prices().await.map_err(StartError::from)?;
        let table = prices(config, imported.as_deref());
        let offer = table.and_then(|table| offer(config, &[], &table, books.clock.now()));
        let offer = offer.map_err(|problem| CliError::misused(problem.what))?;
        Ok(Self { offer, config: Arc::clone(config), clock: Arc::clone(&books.clock) })
    }
}

impl PriceDesk for FolderPrices {
    fn current(&self) -> Arc<PriceTable> {
        Arc::clone(&self.offer.prices)
    }

    fn offered(&self) -> Arc<Routes> {
        Arc::clone(&self.offer.routes)
    }

    fn complete(&self, imported: &PriceTable) -> Result<Arc<PriceTable>, String> {
        let completed = offer(&self.config, &[], &Arc::new(imported.clone()), self.clock.now());
        completed.map(|offer| offer.prices).map_err(|problem| problem.what)
    }

    fn source(&self, imported: Option<Vec<u8>>) -> Result<Vec<u8>, String> {
        let json = prices_json(&self.config, imported.as_deref());
        json.map(Cow::into_owned).map_err(|problem| problem.what)
    }

    fn replace(&self, _: Arc<PriceTable>) {}
}
