//! The processes that share a store.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::AccountId;
use cfr_core::time::Timestamp;

use crate::{batch, outside};

/// One run of a process, by a random number that it draws at its start: two processes of one name differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Boot(pub u128);

/// One life of one node: a node that lost a lease or restarted comes back under a higher epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// The node by its configured name.
    pub node: Arc<str>,
    /// Counts its lives, from 1.
    pub epoch: i64,
}

/// How the names of commands beside the servers begin. They live once: such a name is drawn at random and never used again,
/// so that the store need not remember its epochs.
pub const ONE_LIFE_PREFIX: &str = "cli:";

/// How the names of lives begin whose rights are set aside, for a batch or for the call of another program. No process has
/// such a name.
pub const ASIDE_PREFIXES: [&str; 2] = [batch::LIFE_PREFIX, outside::LIFE_PREFIX];

/// How the names of nodes begin that live once: those of commands beside the servers, and those whose rights are set aside.
pub const ONE_LIFE_PREFIXES: [&str; 3] = [ONE_LIFE_PREFIX, batch::LIFE_PREFIX, outside::LIFE_PREFIX];

/// How long a store that is [reclaimed](super::LedgerStore::reclaim) remembers a node that lives once and was not heard of:
/// one that was killed. One that [retires](super::LedgerStore::retire) is forgotten at once. Either is remembered for as
/// long as it has leases or open holds.
pub const ONE_LIFE_REMEMBERED: Duration = Duration::from_secs(24 * 3_600);

/// Whether a node of this name lives once: the store forgets it with its life.
#[must_use]
pub fn lives_once(node: &str) -> bool {
    ONE_LIFE_PREFIXES.iter().any(|prefix| node.starts_with(prefix))
}

/// What a renewal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The accounts on which the incarnation has a lease, in the order of their ids.
    pub accounts: Vec<AccountId>,
    /// Nodes that are alive, this one included.
    pub nodes: u32,
    /// The store's clock; what a store without a clock was told. Periods begin and end by it.
    pub now: Timestamp,
}

/// A node as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Its name.
    pub node: Arc<str>,
    /// The number of its lives.
    pub epoch: i64,
    /// Whether its last life is taken for alive: its lease time is not over, and it neither retired nor was fenced.
    pub alive: bool,
    /// When the store last heard of it.
    pub seen_at: Timestamp,
    /// Accounts on which it, or a life before, has a lease.
    pub leases: u64,
    /// What these leases have left, in nano-units of the currencies concerned.
    pub leased: i64,
    /// Its holds that are open, of this life or one before.
    pub open_holds: u64,
}
