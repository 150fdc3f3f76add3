//! How the engine is set up.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{Boot, OrphanPolicy};

/// Unused rights go back after this time, unless somebody says otherwise.
const IDLE_AFTER_SHARED: Duration = Duration::from_secs(2);
const IDLE_AFTER_OWNED: Duration = Duration::from_secs(600);

/// The settings of an engine. [`EscrowConfig::new`] has defaults for all of them.
#[derive(Debug, Clone)]
pub struct EscrowConfig {
    /// The node's name: unique among the nodes of a store, and the same after a restart.
    pub node: Arc<str>,
    /// This run of the process.
    pub boot: Boot,
    /// How long leases last on a store that many nodes share. Without the store, a node makes holds for that long.
    pub lease_ttl: Duration,
    /// Steps of holds in one transaction, at most.
    pub batch_ops_max: usize,
    /// How long the first step of a batch waits for others. Zero writes at once; what arrives meanwhile is the next batch.
    pub flush_delay: Duration,
    /// Steps that may wait to be written. Beyond it no holds are made; settlements are still taken.
    pub outbox_ops_max: usize,
    /// How long a request waits for the store before it is told that its decision may not be durable. On a store that many
    /// nodes share, what was decided inside a lease waits as long as leases last.
    pub commit_patience: Duration,
    /// The longest life of a hold: the gateway ends every call before.
    pub hold_max: Duration,
    /// How long after its last possible hold an expired lease of another node is taken for dead.
    pub reclaim_grace: Duration,
    /// Rights that were not used for this long are given back. None for what suits the store: two seconds where nodes share
    /// it, because they keep each other waiting with unused rights, and ten minutes for its owner, who keeps nobody waiting.
    pub idle_after: Option<Duration>,
    /// How long a request that a shared store denies waits for rights that other nodes do not use.
    pub recall_patience: Duration,
    /// How holds end whose node died.
    pub orphan_policy: OrphanPolicy,
}

impl EscrowConfig {
    /// The defaults for a node of this name.
    #[must_use]
    pub fn new(node: impl Into<Arc<str>>) -> Self {
        Self {
            node: node.into(),
            boot: Boot(rand::random()),
            lease_ttl: Duration::from_secs(30),
            batch_ops_max: 1_024,
            flush_delay: Duration::ZERO,
            outbox_ops_max: 65_536,
            commit_patience: Duration::from_secs(5),
            hold_max: Duration::from_secs(1_800),
            reclaim_grace: Duration::from_secs(3_600),
            idle_after: None,
            recall_patience: Duration::from_millis(250),
            orphan_policy: OrphanPolicy::default(),
        }
    }

    /// [`EscrowConfig::idle_after`], on a store that one node owns, or that many share.
    pub(super) fn idle_time(&self, exclusive: bool) -> Duration {
        self.idle_after.unwrap_or(if exclusive { IDLE_AFTER_OWNED } else { IDLE_AFTER_SHARED })
    }
}
