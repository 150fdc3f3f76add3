//! Keys that seal secrets in a store, themselves wrapped by a master key that is in no store.
//!
//! Each tenant has keys of its own and the platform has others, so that forgetting the keys of a tenant makes all that
//! they sealed unreadable, wherever it was copied to without them. Who wraps and seals is not the store's concern.

use std::sync::Arc;

use cfr_core::id::{DataKeyId, TenantId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit_log::{Action, Event};

/// A key that seals secrets, as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKey {
    /// Its id.
    pub id: DataKeyId,
    /// Whose secrets it seals; none for the platform's.
    pub tenant: Option<TenantId>,
    /// The id of the master key that wraps it.
    pub master: Arc<str>,
    /// The key under the master key: a text that only its maker can read.
    pub wrapped: Arc<str>,
    /// Whether it seals what is written now. Every owner has one such key at most; the others still open.
    pub current: bool,
    /// When it was made.
    pub made_at: Timestamp,
}

impl DataKey {
    /// Tells what happened to the key, but not what it is.
    #[must_use]
    pub fn event(&self, action: Action) -> Event {
        let changes = serde_json::json!({ "master": self.master }).to_string();
        Event { action, tenant: self.tenant, target: self.id.to_string().into(), changes: changes.into() }
    }
}
