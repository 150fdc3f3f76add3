//! Durable files and batches.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::{BatchId, FileId};
use cfr_core::time::Timestamp;

use super::{Page, PageRequest, StoreError};
use crate::batch::{Batch, BatchState, FilePurpose, KeptFile, Owner};

/// Batches that are claimed at once, at most.
pub const CLAIMS_MAX: u32 = 100;

/// Durable files and batches. Every list is of one owner, the newest first.
#[async_trait]
pub trait BatchStore: Debug + Send + Sync + 'static {
    /// Writes a file down.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its id is known.
    async fn add_file(&self, file: &KeptFile) -> Result<(), StoreError>;
    /// A file of this owner.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also when it is somebody else's.
    async fn file(&self, owner: Owner, id: FileId) -> Result<KeptFile, StoreError>;
    /// The files of an owner, all or those for one purpose.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn files(
        &self,
        owner: Owner,
        purpose: Option<FilePurpose>,
        page: PageRequest,
    ) -> Result<Page<KeptFile>, StoreError>;
    /// Forgets a file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also when it is somebody else's.
    async fn forget_file(&self, owner: Owner, id: FileId) -> Result<(), StoreError>;

    /// Writes a batch down.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its id is known.
    async fn add_batch(&self, batch: &Batch) -> Result<(), StoreError>;
    /// A batch of this owner.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also when it is somebody else's.
    async fn batch(&self, owner: Owner, id: BatchId) -> Result<Batch, StoreError>;
    /// The batches of an owner, but those that are [void](BatchState::Void).
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn batches(&self, owner: Owner, page: PageRequest) -> Result<Page<Batch>, StoreError>;
    /// Writes what has become of a batch, with the files that came of it, if it is still in the state `from`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when somebody else brought it further; then nothing is written.
    async fn update_batch(&self, from: BatchState, batch: &Batch, files: &[KeptFile]) -> Result<(), StoreError>;
    /// Batches that are not over and due by `now`, the longest due first, at most `limit` and [`CLAIMS_MAX`]. Nobody else
    /// gets them before `until`, unless they are written meanwhile.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn claim_batches(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Batch>, StoreError>;
}

const _: fn(&dyn BatchStore) = |_| {};
