//! What a store can fail with.

use std::fmt;
use std::sync::Arc;

use cfr_core::time::Timestamp;

/// What a store can fail with.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached, or is broken.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// For the log.
        reason: Arc<str>,
    },
    /// The database answers that it takes no writes: it is read-only, or its disk is full. Whoever waits for one waits in
    /// vain until somebody mends that; one that is tried again later may succeed.
    #[error("the store takes no writes: {reason}")]
    Unwritable {
        /// For the log.
        reason: Arc<str>,
    },
    /// There is no such row.
    #[error("no such {what}")]
    NotFound {
        /// The kind of row.
        what: &'static str,
    },
    /// A unique value is taken, or a row was changed by somebody else.
    #[error("{what}")]
    Conflict {
        /// What is in conflict.
        what: Arc<str>,
    },
    /// The store refuses the value.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: Arc<str>,
    },
    /// One person alone may not grant or take so much: propose it, for another one to agree.
    #[error("one person alone may not grant or take so much of this budget within a day")]
    NeedsSecondPerson,
    /// Another process runs under this node's name.
    #[error(
        "another process runs as node `{node}` (last seen {seen_at}); give every replica a name of its own, or stop the other one"
    )]
    NodeInUse {
        /// The name.
        node: Arc<str>,
        /// When the store last heard of the other process.
        seen_at: Timestamp,
    },
    /// This incarnation of the node was declared dead: register again.
    #[error("this node's leases were taken away; it must register again")]
    Fenced,
}

impl StoreError {
    /// The database is out of reach, with the reason for the log.
    #[must_use]
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable { reason: reason.to_string().into() }
    }

    /// The database takes no writes, with the reason for the log.
    #[must_use]
    pub fn unwritable(reason: impl fmt::Display) -> Self {
        Self::Unwritable { reason: reason.to_string().into() }
    }

    /// A value is taken, or was changed meanwhile.
    #[must_use]
    pub fn conflict(what: impl fmt::Display) -> Self {
        Self::Conflict { what: what.to_string().into() }
    }

    /// A value is refused.
    #[must_use]
    pub fn invalid(what: impl fmt::Display) -> Self {
        Self::Invalid { what: what.to_string().into() }
    }
}
