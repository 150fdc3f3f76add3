//! The task that gives other nodes what this one does not use, when they ask.

use std::sync::Arc;

use cfr_core::time::Clock;

use super::engine::Engine;
use super::keeper::return_rights;

/// Runs until it is cancelled.
pub(super) async fn run(engine: Arc<Engine>) {
    loop {
        let by = engine.incarnation();
        let budgets = tokio::select! {
            budgets = engine.store.recalled(&by) => budgets,
            () = engine.reborn.notified() => continue,
        };
        let uptime = engine.clock.uptime();
        return_rights(&engine, budgets, |book, budget| book.lend(budget, uptime)).await;
        tokio::task::yield_now().await; // a store that answers at once must not keep the others from running
    }
}
