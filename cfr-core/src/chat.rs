//! Calls and what they used, independent of any provider's wire format.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::CacheUse;
use crate::id::RequestId;

pub mod envelope;
pub mod usage;

pub use envelope::{Envelope, EnvelopeError};
pub use usage::{Meter, Usage, UsageSource};

/// What a client asks for, and in whose dialect it speaks and wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// `POST /v1/chat/completions` of OpenAI.
    ChatCompletions,
    /// `POST /v1/completions` of OpenAI.
    Completions,
    /// `POST /v1/embeddings` of OpenAI.
    Embeddings,
}

impl Operation {
    /// A stable name for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
        }
    }
}

/// One request of a client: the body as it came, and what we read from it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request's id; also names its hold.
    pub id: RequestId,
    /// What is asked for.
    pub operation: Operation,
    /// What we read from the body, once.
    pub envelope: Envelope,
    /// The body, byte for byte as the client sent it.
    pub body: Bytes,
    /// The caller's own names for the request.
    pub tags: Tags,
    /// What the caller wants of the response cache.
    pub cache: CacheUse,
}

/// The caller's own names for a request. They mean nothing to us and are kept on its usage record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    /// The header `x-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Box<str>>,
    /// The body's `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// The body's `metadata`: a JSON object as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<str>>,
}

impl Tags {
    /// What the body of a call says.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Self {
        Self { request_id: None, user: envelope.user.clone(), metadata: envelope.metadata.clone() }
    }

    /// Whether the caller gave none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.request_id.is_none() && self.user.is_none() && self.metadata.is_none()
    }
}

impl Call {
    /// Reads a body as a call with a new id.
    ///
    /// # Errors
    /// When the body cannot be read; see [`EnvelopeError`].
    pub fn parse(operation: Operation, body: Bytes, now: Timestamp) -> Result<Self, EnvelopeError> {
        let envelope = Envelope::parse(operation, &body)?;
        let tags = Tags::of(&envelope);
        Ok(Self { id: RequestId::generate(now), operation, envelope, body, tags, cache: CacheUse::default() })
    }
}
