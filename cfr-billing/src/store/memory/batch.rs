//! [`BatchStore`] over maps that are ordered by id.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cfr_core::id::{BatchId, FileId};
use cfr_core::time::Timestamp;

use super::MemoryStore;
use super::tables::{check_free, page};
use crate::batch::{Batch, BatchState, FilePurpose, KeptFile, Owner};
use crate::store::batch::CLAIMS_MAX;
use crate::store::{BatchStore, Page, PageRequest, StoreError};

#[derive(Debug, Default)]
pub(super) struct Batches {
    files: BTreeMap<FileId, KeptFile>,
    batches: BTreeMap<BatchId, Batch>,
}

#[async_trait]
impl BatchStore for MemoryStore {
    async fn add_file(&self, file: &KeptFile) -> Result<(), StoreError> {
        let files = &mut self.state().batches.files;
        check_free(files.contains_key(&file.id), "the id of the file")?;
        files.insert(file.id, file.clone());
        Ok(())
    }

    async fn file(&self, owner: Owner, id: FileId) -> Result<KeptFile, StoreError> {
        let file = self.state().batches.files.get(&id).filter(|file| file.owner == owner).cloned();
        file.ok_or(StoreError::NotFound { what: "file" })
    }

    async fn files(
        &self,
        owner: Owner,
        purpose: Option<FilePurpose>,
        request: PageRequest,
    ) -> Result<Page<KeptFile>, StoreError> {
        let wanted = |file: &&KeptFile| file.owner == owner && purpose.is_none_or(|purpose| file.purpose == purpose);
        let state = self.state();
        let files = state.batches.files.values().rev().filter(wanted);
        Ok(page(files.map(|file| (file.id.as_u128(), file.clone())), request, true))
    }

    async fn forget_file(&self, owner: Owner, id: FileId) -> Result<(), StoreError> {
        self.file(owner, id).await?;
        self.state().batches.files.remove(&id);
        Ok(())
    }

    async fn add_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        let batches = &mut self.state().batches.batches;
        check_free(batches.contains_key(&batch.id), "the id of the batch")?;
        batches.insert(batch.id, batch.clone());
        Ok(())
    }

    async fn batch(&self, owner: Owner, id: BatchId) -> Result<Batch, StoreError> {
        let batch = self.state().batches.batches.get(&id).filter(|batch| batch.owner == owner).cloned();
        batch.ok_or(StoreError::NotFound { what: "batch" })
    }

    async fn batches(&self, owner: Owner, request: PageRequest) -> Result<Page<Batch>, StoreError> {
        let state = self.state();
        let batches = state
            .batches
            .batches
            .values()
            .rev()
            .filter(|batch| batch.owner == owner && batch.state != BatchState::Void);
        Ok(page(batches.map(|batch| (batch.id.as_u128(), batch.clone())), request, true))
    }

    async fn update_batch(&self, from: BatchState, batch: &Batch, files: &[KeptFile]) -> Result<(), StoreError> {
        let batches = &mut self.state().batches;
        let known = batches.batches.get_mut(&batch.id).filter(|known| known.state == from);
        *known.ok_or_else(|| StoreError::conflict("the batch was brought further meanwhile"))? = batch.clone();
        batches.files.extend(files.iter().map(|file| (file.id, file.clone())));
        Ok(())
    }

    async fn claim_batches(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Batch>, StoreError> {
        let mut state = self.state();
        let due = |batch: &&mut Batch| !batch.state.is_over() && batch.due_at <= now;
        let mut due: Vec<&mut Batch> = state.batches.batches.values_mut().filter(due).collect();
        due.sort_by_key(|batch| (batch.due_at, batch.id));
        let claim = |batch: &mut Batch| {
            batch.due_at = until;
            batch.clone()
        };
        Ok(due.into_iter().take(limit.min(CLAIMS_MAX) as usize).map(claim).collect())
    }
}
