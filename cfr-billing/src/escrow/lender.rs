//! The task that gives other nodes what this one does not use, when they ask.

use std::iter::once;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::BudgetId;
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
        let free = engine.gates.pass_free(budgets.iter().copied());
        let busy: Vec<BudgetId> = budgets.into_iter().filter(|budget| !free.covers(once(*budget))).collect();
        return_rights(&engine, free, |book, budget| book.lend(budget, uptime)).await;
        for budget in busy {
            let closed = engine.gates.pass(once(budget)).await;
            return_rights(&engine, closed, |book, budget| book.lend(budget, uptime)).await;
        }
    }
}
