//! Forgets sessions and tokens that are over, until the server ends. None of them works before either.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::store::PeopleStore;
use cfr_core::time::Clock;

/// How often it is swept.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// Forgets what is over.
#[derive(Debug)]
pub struct Sweeper {
    store: Arc<dyn PeopleStore>,
    clock: Arc<dyn Clock>,
}

impl Sweeper {
    /// Sweeps this store.
    #[must_use]
    pub fn new(store: Arc<dyn PeopleStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Runs until it is cancelled.
    pub async fn work(self) {
        loop {
            match self.store.sweep(self.clock.now()).await {
                Ok(count) => tracing::debug!(count, "forgot sessions and tokens that are over"),
                Err(error) => tracing::warn!(%error, "sessions and tokens that are over could not be forgotten"),
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }
}
