//! Batches of callers at their providers: held when they are made, charged when they are over, whoever is alive then.
//!
//! ```text
//! upload    a file goes through line by line, each let in as a call of its own; the provider keeps it
//! submit    begun ── rights set aside ── reserved ── made at the provider ── running
//! settle    running ── the files of answers are read, each line is charged once ── rights given back ── settled
//! ```
//! Every step is written down before the next one, and every step may be taken again: what a process leaves behind when it
//! dies, the `worker` of any other finds when it is due. A batch that may or may not have been made at the provider
//! is looked for there by its mark. Lines are charged under ids that follow from the batch and their place, so that a second
//! settlement of any part changes nothing.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::batch::{Batch, BatchState, KeptFile, Owner};
use cfr_billing::escrow::Escrow;
use cfr_billing::store::{Store, StoreError};
use cfr_core::batch::{BatchHost, BatchHosts, ByteStream, RemoteBatch};
use cfr_core::gateway::{Caller, Gateway};
use cfr_core::id::{BatchId, FileId};
use cfr_core::time::{Clock, Timestamp};
use cfr_core::upstream::UpstreamError;
use tokio::sync::Notify;

use crate::auditor::Halt;

mod error;
mod settle;
mod submit;
mod upload;
mod worker;

pub use error::BatchError;
pub use submit::BatchWish;

/// How long a batch may be on its way to the provider before somebody looks what became of it.
const SUBMIT_PATIENCE: Duration = Duration::from_secs(600);
/// How often a provider is asked what has become of a batch, when its owner does not ask.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Where batches are made and looked after.
#[derive(Debug)]
pub struct BatchDesk {
    gateway: Gateway,
    hosts: BatchHosts,
    store: Arc<dyn Store>,
    escrow: Arc<Escrow>,
    clock: Arc<dyn Clock>,
    /// Whether nothing new is begun because the books do not agree.
    halt: Arc<Halt>,
    /// The longest line of a file.
    line_bytes_max: usize,
    /// Tells the worker that a batch is due.
    due: Notify,
}

impl BatchDesk {
    /// A desk for batches at these hosts. Lines may be as long as the bodies of calls.
    #[must_use]
    pub fn new(
        gateway: Gateway,
        hosts: BatchHosts,
        (store, escrow): (Arc<dyn Store>, Arc<Escrow>),
        clock: Arc<dyn Clock>,
        halt: Arc<Halt>,
        line_bytes_max: usize,
    ) -> Self {
        Self { gateway, hosts, store, escrow, clock, halt, line_bytes_max, due: Notify::new() }
    }

    /// The store, for lists.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// What is in a file of this caller.
    ///
    /// # Errors
    /// When it is not theirs, or the provider does not hand it out.
    pub async fn content(&self, caller: &Caller, id: FileId) -> Result<ByteStream, BatchError> {
        let file = self.store.file(Owner::of(&caller.ids), id).await?;
        Ok(self.host(&file.upstream)?.content(&file.upstream_id).await?)
    }

    /// Forgets a file of this caller, here and at the provider.
    ///
    /// # Errors
    /// When it is not theirs, or the provider does not forget it.
    pub async fn forget_file(&self, caller: &Caller, id: FileId) -> Result<(), BatchError> {
        let owner = Owner::of(&caller.ids);
        let file = self.store.file(owner, id).await?;
        self.host(&file.upstream)?.delete(&file.upstream_id).await?;
        Ok(self.store.forget_file(owner, id).await?)
    }

    /// A batch of this caller, as its provider tells of it now.
    ///
    /// # Errors
    /// When it is not theirs, or the provider does not say.
    pub async fn batch(&self, caller: &Caller, id: BatchId) -> Result<Batch, BatchError> {
        let batch = self.store.batch(Owner::of(&caller.ids), id).await?;
        let (BatchState::Running, Some(upstream_id)) = (batch.state, &batch.upstream_id) else { return Ok(batch) };
        if is_over(&batch) {
            return Ok(batch); // it waits for its settlement
        }
        let remote = self.host(&batch.upstream)?.batch(upstream_id).await?;
        self.note(batch, remote).await
    }

    /// Ends a batch of this caller early. What was answered is charged.
    ///
    /// # Errors
    /// As [`BatchDesk::batch`], and when it cannot be ended any more, or not yet.
    pub async fn cancel(&self, caller: &Caller, id: BatchId) -> Result<Batch, BatchError> {
        let batch = self.store.batch(Owner::of(&caller.ids), id).await?;
        let (BatchState::Running, Some(upstream_id)) = (batch.state, &batch.upstream_id) else {
            return Err(BatchError::NotCancellable { state: batch.state });
        };
        let remote = self.host(&batch.upstream)?.cancel(upstream_id).await?;
        self.note(batch, remote).await
    }

    /// Writes down what the provider said of a running batch, unless somebody knows more already.
    async fn note(&self, batch: Batch, remote: RemoteBatch) -> Result<Batch, BatchError> {
        if remote.object == batch.object {
            return Ok(batch);
        }
        let due_at = if remote.is_over { self.clock.now() } else { batch.due_at };
        let noted = Batch { object: remote.object, due_at, ..batch };
        match self.store.update_batch(BatchState::Running, &noted, &[]).await {
            Ok(()) => {}
            Err(StoreError::Conflict { .. }) => return Ok(self.store.batch(noted.owner, noted.id).await?),
            Err(error) => return Err(error.into()),
        }
        if remote.is_over {
            self.due.notify_one();
        }
        Ok(noted)
    }

    fn host(&self, upstream: &str) -> Result<&Arc<dyn BatchHost>, BatchError> {
        self.hosts.get(upstream).ok_or_else(|| BatchError::Gone { upstream: upstream.into() })
    }

    fn after(&self, pause: Duration) -> Timestamp {
        self.clock.now().checked_add(pause).unwrap_or(Timestamp::MAX)
    }
}

/// Whether nothing happens to a batch any more at its provider, by its last word.
#[must_use]
pub fn is_over(batch: &Batch) -> bool {
    let status = batch.object.get("status").and_then(|status| status.as_str());
    matches!(status, Some("completed" | "failed" | "expired" | "cancelled"))
}

/// The file of a batch that its provider has under this id.
fn made_file(batch: &Batch, upstream_id: &str, role: &str, bytes: u64, now: Timestamp) -> KeptFile {
    KeptFile {
        id: FileId::generate(now),
        owner: batch.owner,
        upstream: Arc::clone(&batch.upstream),
        upstream_id: upstream_id.into(),
        purpose: cfr_billing::batch::FilePurpose::BatchOutput,
        name: format!("{}_{role}.jsonl", batch.id).into(),
        bytes: Some(bytes),
        models: Vec::new(),
        created_at: now,
    }
}

/// Whether a provider says that it has no such thing.
const fn is_missing(error: &UpstreamError) -> bool {
    matches!(error, UpstreamError::Rejected { status, .. } if status.as_u16() == 404)
}
