//! The task that gives other nodes what this one does not use, when they ask.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::time::Clock;

use super::engine::Engine;
use super::keeper::return_rights;

/// A store that cannot say who asks is listened to again after this time.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Runs until it is cancelled.
pub(super) async fn run(engine: Arc<Engine>) {
    loop {
        let by = engine.incarnation();
        let budgets = tokio::select! {
            biased;
            budgets = engine.store.recalled(&by) => budgets,
            () = engine.reborn.notified() => continue,
        };
        if budgets.is_empty() {
            tokio::time::sleep(LISTEN_AGAIN_AFTER).await; // the store could not say who asks
            continue;
        }
        let uptime = engine.clock.uptime();
        return_rights(&engine, budgets, |book, budget| book.lend(budget, uptime)).await;
    }
}
