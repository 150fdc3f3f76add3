//! Batches: files of requests that a provider answers within a day, for less than the price of an ordinary call.
//!
//! A file has a request on each line. [`Lines`] cuts a file into its lines, [`RequestLine`] and [`AnswerLine`] read one,
//! and a [`BatchHost`] is a provider that keeps such files and works on them. What a line may cost, and what it did cost,
//! says [`Offer`](crate::gateway::Offer); whether a caller may send it, [`Gateway`](crate::gateway::Gateway).

use std::collections::HashMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chat::Operation;
use crate::price::PricedAs;
use crate::time::Timestamp;
use crate::upstream::{Order, Report, UpstreamError};

mod line;
mod lines;

pub use line::{AnswerLine, CUSTOM_ID_BYTES_MAX, LineError, RequestLine};
pub use lines::{LineTooLong, Lines};

/// Requests in one batch, as OpenAI limits them.
pub const LINES_MAX: u64 = 50_000;
/// Bytes of a file of requests, as OpenAI limits them.
pub const FILE_BYTES_MAX: u64 = 200 * 1024 * 1024;
/// The longest line of a file of answers: a request of the largest kind, answered at length.
pub const ANSWER_LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who works on batches, by the configured names of upstreams.
pub type BatchHosts = HashMap<Arc<str>, Arc<dyn BatchHost>>;

/// Bytes on their way, in the pieces in which they come.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, UpstreamError>> + Send>>;

/// A model as the lines of a file name it, and whose prices hold for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchModel {
    /// The name that callers use.
    pub public: Arc<str>,
    /// The provider, by its name in the price table.
    pub provider: Arc<str>,
    /// The provider's own name of the model, which stands in the file.
    pub model: Arc<str>,
    /// The region of the endpoint, for prices that depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Arc<str>>,
    /// What the operator said of its price.
    #[serde(default)]
    pub price: PricedAs,
}

/// A batch that is to be made.
#[derive(Debug, Clone)]
pub struct NewBatch<'a> {
    /// The file of requests, by the provider's id.
    pub input_file: &'a str,
    /// What each of its lines asks for.
    pub operation: Operation,
    /// How long it may take, in the provider's words: `24h`.
    pub window: &'a str,
    /// The caller's notes.
    pub metadata: Map<String, Value>,
    /// Under which name [`BatchHost::find`] finds it again.
    pub mark: &'a str,
}

/// A batch as its provider tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteBatch {
    /// The provider's id.
    pub id: Box<str>,
    /// The file of answers, by the provider's id; none when no line was answered.
    pub output_file: Option<Box<str>>,
    /// The file of lines that failed, by the provider's id; none when none did.
    pub error_file: Option<Box<str>>,
    /// Whether nothing changes any more: completed, failed, expired or cancelled.
    pub is_over: bool,
    /// Requests that were answered, by the provider's count.
    pub completed: u64,
    /// Everything that it says, in OpenAI's shape, without our mark.
    pub object: Map<String, Value>,
}

/// A provider that keeps files and works on batches.
#[async_trait]
pub trait BatchHost: Debug + Send + Sync + 'static {
    /// Whether batches of such requests are taken.
    fn takes(&self, operation: Operation) -> bool;

    /// The body of a line, as the provider is to read it: its own name of the model, and the cap that bounds the price.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] for what only another of its paths answers, or none.
    fn encode(&self, order: &Order<'_>) -> Result<Bytes, UpstreamError>;

    /// What the answer of a line says of itself; the default report when it says nothing that can be read.
    fn report(&self, operation: Operation, body: &Bytes) -> Report;

    /// Keeps a file of requests, and returns its id there and how many bytes it has. Nothing is kept of a file whose
    /// `content` ends with an error, or of a future that is dropped.
    ///
    /// # Errors
    /// When the provider does not take it.
    async fn upload(&self, name: &str, content: ByteStream) -> Result<(Box<str>, u64), UpstreamError>;

    /// What is in a file.
    ///
    /// # Errors
    /// [`UpstreamError::Rejected`] when there is no such file any more.
    async fn content(&self, file: &str) -> Result<ByteStream, UpstreamError>;

    /// Forgets a file. One that is gone already is no error.
    ///
    /// # Errors
    /// When the provider does not do it.
    async fn delete(&self, file: &str) -> Result<(), UpstreamError>;

    /// Begins a batch.
    ///
    /// # Errors
    /// After [`UpstreamError::Rejected`], `Account`, `RateLimited`, `Unreachable` and `Unsupported` there is none; after any
    /// other error there may be one, which [`BatchHost::find`] finds.
    async fn create(&self, batch: NewBatch<'_>) -> Result<RemoteBatch, UpstreamError>;

    /// What has become of a batch.
    ///
    /// # Errors
    /// When the provider does not say.
    async fn batch(&self, id: &str) -> Result<RemoteBatch, UpstreamError>;

    /// Ends a batch early. Lines that were answered are charged.
    ///
    /// # Errors
    /// When the provider does not do it.
    async fn cancel(&self, id: &str) -> Result<RemoteBatch, UpstreamError>;

    /// The batch that was made with this mark at `since` or later; none when there is none.
    ///
    /// # Errors
    /// When the provider does not say: then there may be one.
    async fn find(&self, mark: &str, since: Timestamp) -> Result<Option<RemoteBatch>, UpstreamError>;
}

const _: fn(&dyn BatchHost) = |_| {};

/// Whether an error of [`BatchHost::create`] proves that no batch was made.
#[must_use]
pub const fn was_not_made(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Rejected { .. }
            | UpstreamError::Account { .. }
            | UpstreamError::RateLimited { .. }
            | UpstreamError::Unreachable { .. }
            | UpstreamError::Unsupported { .. }
    )
}

/// Where a batch of such requests goes, by OpenAI's word; none for what goes into no batch.
#[must_use]
pub const fn endpoint(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::ChatCompletions => Some("/v1/chat/completions"),
        Operation::Completions => Some("/v1/completions"),
        Operation::Embeddings => Some("/v1/embeddings"),
        Operation::Responses => Some("/v1/responses"),
        _ => None,
    }
}

/// What a batch with this `endpoint`, or a line with this `url`, asks for.
#[must_use]
pub fn operation(endpoint: &str) -> Option<Operation> {
    use Operation::{ChatCompletions, Completions, Embeddings, Responses};
    [ChatCompletions, Completions, Embeddings, Responses]
        .into_iter()
        .find(|known| self::endpoint(*known) == Some(endpoint))
}
