//! Looks after batches that are due, until the server ends: whoever made them, and in whichever process.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::batch::{Batch, BatchState};
use cfr_billing::store::StoreError;
use futures_util::future::join_all;

use super::{ASK_EVERY, BatchDesk, BatchError};

/// How often the worker looks for batches that are due.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long nobody else looks after a batch that this process does.
const CLAIMED_FOR: Duration = Duration::from_secs(900);
/// When a batch is looked after again where that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Batches that are looked after at the same time.
const AT_ONCE: u32 = 8;
/// How much earlier than here a batch may have been made by the provider's clock.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3_600);

impl BatchDesk {
    /// Runs until it is cancelled.
    pub async fn work(self: Arc<Self>) {
        loop {
            if let Err(error) = self.look_after_all().await {
                tracing::warn!(%error, "batches that are due could not be looked for");
            }
            let _ = tokio::time::timeout(LOOK_EVERY, self.due.notified()).await; // either way it looks again
        }
    }

    /// Looks once after every batch that is due.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn look_after_all(&self) -> Result<(), StoreError> {
        loop {
            let claimed = self.store.claim_batches(self.clock.now(), self.after(CLAIMED_FOR), AT_ONCE).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            join_all(claimed.into_iter().map(|batch| self.look_after(batch))).await;
        }
    }

    async fn look_after(&self, batch: Batch) {
        let again = Batch { due_at: self.after(AGAIN_AFTER), ..batch.clone() };
        if let Err(error) = self.bring_further(batch).await {
            tracing::warn!(%error, batch = %again.id, state = again.state.name(), "a batch could not be looked after");
            drop(self.store.update_batch(again.state, &again, &[]).await); // else it is due when its claim ends
        }
    }

    async fn bring_further(&self, batch: Batch) -> Result<(), BatchError> {
        match batch.state {
            BatchState::Begun => {
                self.void(&batch).await; // whoever made it is gone before the provider was asked
                Ok(())
            }
            BatchState::Reserved => self.look_for(batch).await,
            BatchState::Running => self.ask_about(batch).await,
            _ => Ok(()),
        }
    }

    /// Whoever made it is gone, and the provider may have it.
    async fn look_for(&self, batch: Batch) -> Result<(), BatchError> {
        let since = batch.created_at.checked_sub(CLOCKS_DIFFER).unwrap_or(batch.created_at);
        match self.host(&batch.upstream)?.find(&batch.id.to_string(), since).await? {
            Some(remote) => {
                let upstream_id = Some(remote.id.as_ref().into());
                let due_at = self.clock.now();
                let running = Batch { state: BatchState::Running, upstream_id, object: remote.object, due_at, ..batch };
                Ok(self.store.update_batch(BatchState::Reserved, &running, &[]).await?)
            }
            None => {
                self.void(&batch).await;
                Ok(())
            }
        }
    }

    async fn ask_about(&self, batch: Batch) -> Result<(), BatchError> {
        let upstream_id = batch.upstream_id.clone().unwrap_or_default();
        let remote = self.host(&batch.upstream)?.batch(&upstream_id).await?;
        if remote.is_over {
            return self.settle(batch, remote).await;
        }
        let running = Batch { object: remote.object, due_at: self.after(ASK_EVERY), ..batch };
        Ok(self.store.update_batch(BatchState::Running, &running, &[]).await?)
    }
}
