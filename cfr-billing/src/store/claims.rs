//! Requests that callers repeat under one name, and what they were answered.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::id::RequestId;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::StoreError;

/// A request that changes something, under a name that its caller gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who asks. Everybody has names of their own.
    pub subject: Arc<str>,
    /// What they call the request.
    pub key: Arc<str>,
    /// SHA-256 of what they ask for.
    pub digest: [u8; 32],
    /// The request that does it. Events of the audit log name it, too.
    pub request: RequestId,
    /// When it begins.
    pub at: Timestamp,
    /// Until when the answer is kept.
    pub until: Timestamp,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Headers that belong to the answer.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The body.
    pub body: Box<str>,
}

/// What becomes of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody asked this under this name before: do it.
    New,
    /// It was done.
    Answered(KeptAnswer),
    /// Something else was asked under this name.
    Other,
    /// A request is at it, or was when its process died.
    Running {
        /// Which.
        request: RequestId,
        /// Since when.
        since: Timestamp,
    },
}

/// Durable names of requests. Of many claims of one name at the same time, one is [new](Claimed::New).
#[async_trait]
pub trait ClaimStore: Debug + Send + Sync + 'static {
    /// Claims a name. A request that is over without an answer is named as `instead_of` to take its place.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn claim_request(&self, claim: &Claim, instead_of: Option<RequestId>) -> Result<Claimed, StoreError>;
    /// Keeps what a claim was answered, if its request still has it.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn answer_request(&self, claim: &Claim, answer: &KeptAnswer) -> Result<(), StoreError>;
    /// Gives a name back: the request that has it did nothing.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn forget_request(&self, claim: &Claim) -> Result<(), StoreError>;
    /// Forgets what is kept until `now` or less, and says how many.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError>;
}

const _: fn(&dyn ClaimStore) = |_| {};
