//! How the lives of a node begin.

use std::sync::Arc;

use cfr_core::time::Clock;

use super::config::EscrowConfig;
use super::engine::Engine;
use crate::store::{Boot, Incarnation, LedgerStore, StoreError};

/// A name that is in use is asked for again this many times while a lease lasts.
const REGISTRATIONS_PER_LEASE: u32 = 5;

/// The first life of this process. A process of the same name that was killed is taken for alive until its lease time is
/// over: so long this waits, unless the other one shows that it lives.
///
/// # Errors
/// [`StoreError::NodeInUse`] when the other process lives, or when the store cannot be written.
pub(super) async fn first(
    store: &dyn LedgerStore,
    clock: &dyn Clock,
    config: &EscrowConfig,
) -> Result<Incarnation, StoreError> {
    let mut last_seen = None;
    for _ in 0..=REGISTRATIONS_PER_LEASE {
        match store.register(&config.node, config.boot, clock.now()).await {
            Err(StoreError::NodeInUse { seen_at, .. }) if last_seen.is_none_or(|last| last == seen_at) => {
                if last_seen.replace(seen_at).is_none() {
                    let lease_ttl = config.lease_ttl;
                    tracing::warn!(node = %config.node, %seen_at, ?lease_ttl, "a process of this name ran a moment ago; waiting until it must be over");
                }
            }
            answer => return answer,
        }
        tokio::time::sleep(config.lease_ttl / REGISTRATIONS_PER_LEASE).await;
    }
    store.register(&config.node, config.boot, clock.now()).await
}

/// The next life after `dead` was declared dead, unless it began already (R9).
pub(super) async fn next(engine: &Engine, dead: &Incarnation) -> Result<Incarnation, StoreError> {
    let mut name = engine.name.lock().await;
    let current = engine.incarnation();
    if current != *dead {
        return Ok(current);
    }
    let by = match register(engine, &name).await {
        Err(error @ StoreError::NodeInUse { .. }) => {
            *name = name_of_its_own(&engine.config.node, engine.config.boot);
            tracing::error!(%error, goes_on_as = %name, "this node's name was taken; its setting is `ledger.node` (EscrowConfig::node)");
            register(engine, &name).await?
        }
        answer => answer?,
    };
    tracing::warn!(node = %by.node, epoch = by.epoch, "this node lost its leases and begins a new epoch");
    engine.book().reborn(by.clone());
    engine.reborn.notify_one();
    if let Err(error) = engine.store.renew(&by, engine.config.lease_ttl, engine.clock.machine().now()).await {
        tracing::debug!(%error, "the next renewal tells the store that this life has begun");
    }
    Ok(by)
}

async fn register(engine: &Engine, name: &str) -> Result<Incarnation, StoreError> {
    engine.store.register(name, engine.config.boot, engine.clock.now()).await
}

/// A name that no other process has.
fn name_of_its_own(node: &str, Boot(boot): Boot) -> Arc<str> {
    format!("{node}-{:08x}", boot >> 96).into()
}
