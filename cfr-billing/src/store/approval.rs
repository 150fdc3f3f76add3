//! Durable proposals. What books one is [`LedgerStore::grant`](super::LedgerStore::grant) with a second person's consent.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::ProposalId;

use super::{Page, PageRequest, StoreError};
use crate::approval::{Proposal, ProposalFilter};
use crate::audit_log::Act;

/// Durable proposals to grant or take money.
#[async_trait]
pub trait ApprovalStore: Debug + Send + Sync + 'static {
    /// Writes a proposal. One that was made before under the same key and is the same changes nothing, and is returned.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the key was used for another one.
    async fn add_proposal(&self, new: &Proposal, act: &Act) -> Result<Proposal, StoreError>;
    /// A proposal by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn proposal(&self, id: ProposalId) -> Result<Proposal, StoreError>;
    /// Proposals, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn proposals(&self, filter: &ProposalFilter, page: PageRequest) -> Result<Page<Proposal>, StoreError>;
    /// Notes that a second person does not agree.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is decided or expired, or the actor proposed it.
    async fn reject_proposal(&self, id: ProposalId, why: &str, act: &Act) -> Result<Proposal, StoreError>;
}

const _: fn(&dyn ApprovalStore) = |_| {};
