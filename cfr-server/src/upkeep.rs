//! What is done once a minute beside the requests: uses of keys are written down, sessions, links and answers that are over are
//! forgotten.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::store::Store;
use cfr_core::time::Clock;

use crate::auth::Keys;

/// How often. Uses of keys are noted to the minute.
const EVERY: Duration = Duration::from_mins(1);

/// Does so until it is stopped.
///
/// # Cancel safety
/// What was not done is done by another server or after the next start; a last use of a key may be forgotten.
pub(crate) async fn run(keys: Arc<Keys>, store: Arc<dyn Store>, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = keys.write_uses().await {
            tracing::warn!(%error, "uses of keys were not written down");
        }
        if let Err(error) = store.sweep(clock.now()).await {
            tracing::warn!(%error, "sessions and links that are over were not forgotten");
        }
        if let Err(error) = store.forget_requests(clock.now()).await {
            tracing::warn!(%error, "answers were kept for longer than they had to be");
        }
    }
}
