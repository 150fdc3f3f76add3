//! What other replicas tell this one: to look again at keys, sessions, prices or accounts.

use std::sync::Arc;

use cfr_billing::store::CatalogStore;
use cfr_core::broadcast::Notice;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::auth::Keys;
use crate::state::RunningPrices;

/// What hears the notices.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) keys: Arc<Keys>,
    pub(crate) prices: Arc<RunningPrices>,
    pub(crate) store: Arc<dyn CatalogStore>,
}

impl Listener {
    /// Follows notices until nobody gives them any longer.
    pub(crate) async fn follow(self, mut notices: Receiver<Notice>) {
        loop {
            match notices.recv().await {
                Ok(Notice::Access) => self.keys.forget(),
                Ok(Notice::Prices) => self.read_prices().await,
                Ok(Notice::Accounts) => self.prices.reload_accounts().await,
                Ok(Notice::Sessions) => self.keys.forget_sessions(),
                Ok(unknown) => tracing::debug!(?unknown, "a notice that this version does not know"),
                Err(RecvError::Lagged(_)) => {
                    self.keys.forget();
                    self.keys.forget_sessions();
                    self.prices.reload_accounts().await;
                    self.read_prices().await;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// An import that cannot be read changes nothing: what is in force stays until the next one.
    async fn read_prices(&self) {
        match self.store.latest_prices().await {
            Ok(imported) => self.prices.reload(imported).await,
            Err(error) => tracing::warn!(%error, "another replica imported prices, which cannot be read yet"),
        }
    }
}
