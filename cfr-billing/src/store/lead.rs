//! Durable leads.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::LeadId;

use super::{Page, PageRequest, StoreError};
use crate::audit_log::Act;
use crate::lead::{Lead, LeadFilter};
use crate::people::Mail;

/// Durable leads. The audit log knows that there is one and what became of it, and nothing of the person.
#[async_trait]
pub trait LeadStore: Debug + Send + Sync + 'static {
    /// Writes a lead, and the letter that tells of it.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn add_lead(&self, new: &Lead, letter: Option<&Mail>, act: &Act) -> Result<(), StoreError>;
    /// A lead by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn lead(&self, id: LeadId) -> Result<Lead, StoreError>;
    /// Leads, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn leads(&self, filter: &LeadFilter, page: PageRequest) -> Result<Page<Lead>, StoreError>;
    /// Writes a lead in place of the one with its id, if that has the version that `new` names, and counts it up.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile.
    async fn update_lead(&self, new: &Lead, act: &Act) -> Result<Lead, StoreError>;
    /// Forgets a lead.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn remove_lead(&self, id: LeadId, act: &Act) -> Result<(), StoreError>;
}

const _: fn(&dyn LeadStore) = |_| {};
