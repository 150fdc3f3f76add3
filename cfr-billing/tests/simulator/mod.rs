//! The pieces of the model, in reading order: what the store does, what a node does, what can happen to them, and what
//! must hold meanwhile. Time is in milliseconds, money in the smallest unit.

mod node;
mod oracle;
mod random;
mod store;
mod world;

pub(crate) use world::{Tally, play};

/// A budget's account, by its position: 0 is the tenant, then its users, then their keys.
pub(crate) type Account = usize;
/// A request, numbered in order.
pub(crate) type Request = u64;
/// A point in time, or a time span.
pub(crate) type Millis = u64;

/// The users of the one tenant.
pub(crate) const USERS: usize = 3;
/// The keys of each user.
pub(crate) const KEYS_PER_USER: usize = 3;
/// All accounts of the hierarchy.
pub(crate) const ACCOUNTS: usize = 1 + USERS + USERS * KEYS_PER_USER;

/// The tenant, the user and the key that a request is charged to.
pub(crate) type Path = [Account; 3];

/// The path of one of the keys.
pub(crate) fn path_of(key: usize) -> Path {
    [0, 1 + key / KEYS_PER_USER, 1 + USERS + key]
}

/// One life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incarnation {
    /// The node by its position.
    pub(crate) node: usize,
    /// Grows with every restart and every lost lease.
    pub(crate) epoch: u64,
}

/// The terms of a simulation.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// How many nodes share the store.
    pub(crate) nodes: usize,
    /// How long a lease lasts on the store's clock.
    pub(crate) ttl_ms: Millis,
    /// The longest request.
    pub(crate) request_ms_max: Millis,
    /// How long after that the store waits before it reclaims an expired lease.
    pub(crate) grace_ms: Millis,
    /// What a node asks for at the least when it needs more; zero asks for exactly what is needed.
    pub(crate) chunk: i64,
    /// How many of 1 000 requests cost more than their hold.
    pub(crate) overrun_permille: u64,
    /// The longest time that a node cannot reach the store.
    pub(crate) partition_ms_max: Millis,
    /// Whether settlements may come after their lease was reclaimed. The limits may then be exceeded by what was
    /// reclaimed, and by no more.
    pub(crate) late_allowed: bool,
    /// Multiplies every limit.
    pub(crate) limit_scale: i64,
    /// The rule that is left out.
    pub(crate) mutant: Option<Mutant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: 4,
            ttl_ms: 2_000,
            request_ms_max: 5_000,
            grace_ms: 20_000,
            chunk: 1_500,
            overrun_permille: 0,
            partition_ms_max: 8_000,
            late_allowed: false,
            limit_scale: 1,
            mutant: None,
        }
    }
}

/// A mistake that an implementation could make, and that the oracle must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The store books a settlement that it has booked before.
    SettlesTwice,
    /// A node admits requests after its lease has expired (against R1, R4).
    IgnoresDeadline,
    /// A settlement is posted against the node's epoch of now, not the one that made the hold.
    SettlesUnderCurrentEpoch,
    /// A price above the hold is charged in full, whether the lease has the rest or not.
    ChargesBeyondLease,
    /// The store takes a lease as soon as it expires, while requests that were admitted under it still run (against R3).
    ReclaimsAtExpiry,
    /// A node that lost a lease acquires another under the same epoch (against R9).
    KeepsEpochAfterLoss,
}
