//! Word between the processes of one deployment: what one of them changed, the others should look at again.
//!
//! A notice is a hint. Losing one costs freshness until what is remembered expires by itself, never money.

use std::fmt::Debug;

use async_trait::async_trait;
use tokio::sync::broadcast::{Receiver, Sender};

/// Notices that wait for a slow subscriber. Who falls behind is told so, and should look at everything again.
pub const NOTICES_MAX: usize = 256;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// Something about keys, users, tenants, products or budgets: a revoked key must not be believed any longer.
    Access,
    /// The price table.
    Prices,
    /// Accounts at providers, or the keys that seal their secrets.
    Accounts,
    /// Sessions ended: what was given out in them must not be believed any longer.
    Sessions,
}

impl Notice {
    /// Every kind.
    pub const ALL: &[Self] = &[Self::Access, Self::Prices, Self::Accounts, Self::Sessions];
}

/// A notice that may not have reached the others.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the other replicas could not be told: {reason}")]
pub struct BroadcastError {
    /// For the log.
    pub reason: String,
}

/// Carries notices between processes.
#[async_trait]
pub trait Broadcast: Debug + Send + Sync + 'static {
    /// Tells everybody, this process included.
    ///
    /// # Errors
    /// When the others may not hear of it. The subscribers of this process do.
    async fn publish(&self, notice: Notice) -> Result<(), BroadcastError>;

    /// Everything that is told from now on. After a gap in the connection to the others, every kind of notice is given
    /// once, since any of them may have been missed.
    fn subscribe(&self) -> Receiver<Notice>;

    /// Whether notices of the others arrive now. While they do not, what is remembered should be believed for a moment
    /// only. Asked on every request: an answer from memory.
    fn is_connected(&self) -> bool {
        true
    }
}

const _: fn(&dyn Broadcast) = |_| {};

/// Notices inside one process.
#[derive(Debug)]
pub struct LocalBroadcast(Sender<Notice>);

impl Default for LocalBroadcast {
    fn default() -> Self {
        Self(Sender::new(NOTICES_MAX))
    }
}

#[async_trait]
impl Broadcast for LocalBroadcast {
    async fn publish(&self, notice: Notice) -> Result<(), BroadcastError> {
        let _ = self.0.send(notice); // nobody listening is fine
        Ok(())
    }

    fn subscribe(&self) -> Receiver<Notice> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_in_the_process_hears_a_notice() {
        let broadcast = LocalBroadcast::default();
        let (mut one, mut two) = (broadcast.subscribe(), broadcast.subscribe());
        broadcast.publish(Notice::Access).await.unwrap();
        assert_eq!((one.recv().await.unwrap(), two.recv().await.unwrap()), (Notice::Access, Notice::Access));
    }
}
