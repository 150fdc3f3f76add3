//! The task that keeps leases alive, gives idle ones back, and takes over those of dead nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::BudgetId;

use super::engine::Engine;
use crate::store::StoreError;

/// Leases are renewed this many times in their life, so that one failure does no harm.
const RENEWALS_PER_LEASE: u32 = 3;

/// Runs until it is cancelled.
pub(super) async fn run(engine: Arc<Engine>) {
    let exclusive = engine.store.exclusive();
    let renew_every = engine.config.lease_ttl / RENEWALS_PER_LEASE;
    let idle_after = engine.config.idle_after;
    let pause = if exclusive { idle_after } else { renew_every.min(idle_after) };
    let mut since_look = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        if !exclusive {
            keep_leases(&engine).await;
        }
        since_look += pause;
        if since_look >= idle_after {
            since_look = Duration::ZERO;
            return_idle(&engine).await;
        }
    }
}

async fn keep_leases(engine: &Engine) {
    if let Err(error) = renew(engine).await {
        tracing::warn!(%error, "leases could not be renewed; holds are made until they end");
    }
    if let Err(error) = reclaim(engine).await {
        tracing::warn!(%error, "leases of dead nodes could not be taken over");
    }
}

/// Prolongs this node's leases. When one of them is gone the node begins a new life (R9).
async fn renew(engine: &Engine) -> Result<(), StoreError> {
    let (by, known) = {
        let book = engine.book();
        (book.incarnation().clone(), book.leased_accounts())
    };
    let sent = engine.clock.uptime();
    let complete = match engine.store.renew(&by, engine.config.lease_ttl, engine.clock.now()).await {
        Ok(alive) => engine.book().renewed(&by, &known, &alive.accounts, engine.deadline(sent)),
        Err(StoreError::Fenced) => false,
        Err(error) => return Err(error),
    };
    if !complete {
        engine.reborn(&by).await?;
    }
    Ok(())
}

async fn reclaim(engine: &Engine) -> Result<(), StoreError> {
    let now = engine.clock.now();
    let longest = engine.config.hold_max + engine.config.reclaim_grace;
    let Ok(expired_before) = now.checked_sub(longest) else { return Ok(()) };
    let found = engine.store.reclaim(expired_before, engine.config.orphan_policy, now).await?;
    if found.leases > 0 {
        tracing::warn!(?found, "leases of a dead node were taken over");
    }
    Ok(())
}

/// Gives back what nobody used for a while. Each budget's gate is closed meanwhile: a request that comes right now finds
/// the rights at the store, not on the way there.
async fn return_idle(engine: &Engine) {
    let idle = engine.book().idle_budgets();
    let mut by_gate = BTreeMap::<usize, Vec<BudgetId>>::new();
    for budget in idle {
        by_gate.entry(super::gates::gate(budget)).or_default().push(budget);
    }
    for budgets in by_gate.into_values() {
        let _closed = engine.gates.pass(budgets.iter().copied()).await;
        let rights = engine.take(|book| budgets.iter().filter_map(|budget| book.drop_idle(*budget)).collect());
        engine.give_back(rights).await;
    }
}
