//! What the engine counts, for `/metrics`.

/// Counters of one engine since it started, and what is in flight now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EscrowStats {
    /// Holds that are open now.
    pub open_holds: u64,
    /// Budgets of which this node has rights now.
    pub active_accounts: u64,
    /// Decisions that wait to be written now.
    pub queued_ops: u64,
    /// Holds that were made.
    pub holds: u64,
    /// Holds that were denied for lack of money.
    pub denials: u64,
    /// Holds that ended with a charge, which may be zero.
    pub settlements: u64,
    /// Holds that ended without a trace.
    pub releases: u64,
    /// Settlements whose price exceeded what could be charged.
    pub overruns: u64,
    /// The sum of that, in nano-units of the currencies concerned.
    pub overrun_nanos: i64,
    /// Transactions that were written.
    pub batches: u64,
    /// Steps of holds in them.
    pub ops_committed: u64,
    /// Steps in the last one.
    pub last_batch_ops: u64,
    /// Transactions that failed; each was tried again.
    pub commit_errors: u64,
    /// Questions to the store about rights, of requests that the local ones did not suffice for.
    pub acquires: u64,
    /// Conversations in which they were asked, several at a time when there are many.
    pub conversations: u64,
    /// Times that other nodes were asked for rights that they do not use.
    pub recalls: u64,
    /// Times that other nodes were given such rights.
    pub lent: u64,
    /// Nodes that share the store and are alive, this one included.
    pub nodes: u32,
    /// What the store's clock is ahead of this node's, in microseconds.
    pub clock_offset_us: i64,
}
