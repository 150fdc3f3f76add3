//! What the gateway needs of a provider, and everything that can go wrong there.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderValue, StatusCode};

use crate::chat::{Call, Operation, Usage};
use crate::price::PicoUsd;

mod realtime;

pub use realtime::{RealtimeOrder, RealtimeSocket};

/// A server that answers calls. It speaks the caller's dialect on our side and its own on the other.
///
/// The gateway decides what is sent where, when to try again and what it costs; an upstream encodes, sends, decodes.
#[async_trait]
pub trait Upstream: Debug + Send + Sync + 'static {
    /// What it can do; read when routes are planned.
    fn capabilities(&self) -> Capabilities;

    /// Sends one call and returns when the status and, for a stream, the headers are known.
    ///
    /// # Errors
    /// Everything that is not a success, typed; [`UpstreamError::retry`] says what to do next.
    ///
    /// # Cancel safety
    /// Dropping the future, or the stream that it returned, aborts the call at the provider.
    async fn send(&self, order: Order<'_>) -> Result<Reply, UpstreamError>;

    /// Counts the tokens of a call's prompt, where the provider does so for nothing; none where it has no counter. A count
    /// is the provider's estimate and no bound.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    ///
    /// # Cancel safety
    /// Dropping the future aborts the request.
    async fn count(&self, order: Order<'_>) -> Result<Option<TokenCount>, UpstreamError> {
        let _ = order;
        Ok(None)
    }

    /// Asks for something that it keeps.
    ///
    /// # Errors
    /// As [`Upstream::send`]; [`UpstreamError::Unsupported`] where it keeps nothing.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the request.
    async fn stored(&self, order: StoredOrder<'_>) -> Result<StoredReply, UpstreamError> {
        let _ = order;
        Err(UpstreamError::Unsupported { message: "keeping answers".into() })
    }

    /// Opens a conversation over a connection of its own.
    ///
    /// # Errors
    /// As [`Upstream::send`]; [`UpstreamError::Unsupported`] where there is nothing of the kind.
    ///
    /// # Cancel safety
    /// Dropping the future, or the connection that it returned, closes it.
    async fn connect(&self, order: RealtimeOrder<'_>) -> Result<Box<dyn RealtimeSocket>, UpstreamError> {
        let _ = order;
        Err(UpstreamError::Unsupported { message: "the realtime API".into() })
    }
}

const _: fn(&dyn Upstream) = |_| {};

/// What an upstream can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Conversations, whatever the caller's dialect.
    pub chat: bool,
    /// Legacy text completions.
    pub completions: bool,
    /// Embeddings.
    pub embeddings: bool,
    /// Images made, from words or from other images.
    pub images: bool,
    /// Texts read aloud.
    pub speech: bool,
    /// Speech written down, in its own language or in English.
    pub transcriptions: bool,
    /// Texts judged.
    pub moderations: bool,
    /// Documents put in order.
    pub rerank: bool,
    /// Conversations over an open connection.
    pub realtime: bool,
    /// Reports usage at the end of a stream, always or when asked.
    pub usage_in_stream: bool,
    /// Every token that is charged is visible in the answer, so that a cut stream can be counted.
    pub visible_output: bool,
}

impl Capabilities {
    /// Nothing, with usage in streams and visible output as most have it.
    pub const NONE: Self = Self {
        chat: false,
        completions: false,
        embeddings: false,
        images: false,
        speech: false,
        transcriptions: false,
        moderations: false,
        rerank: false,
        realtime: false,
        usage_in_stream: true,
        visible_output: true,
    };

    /// Everything with texts: conversations, legacy completions, embeddings.
    pub const TEXT: Self = Self { chat: true, completions: true, embeddings: true, ..Self::NONE };

    /// Everything.
    pub const ALL: Self = Self {
        images: true,
        speech: true,
        transcriptions: true,
        moderations: true,
        rerank: true,
        realtime: true,
        ..Self::TEXT
    };

    /// Whether it can do this at all.
    #[must_use]
    pub const fn serves(&self, operation: Operation) -> bool {
        match operation {
            Operation::Completions => self.completions,
            Operation::Embeddings => self.embeddings,
            Operation::ImageGenerations | Operation::ImageEdits => self.images,
            Operation::Speech => self.speech,
            Operation::Transcriptions | Operation::Translations => self.transcriptions,
            Operation::Moderations => self.moderations,
            Operation::Rerank => self.rerank,
            Operation::Realtime => self.realtime,
            _ => operation.is_chat() && self.chat,
        }
    }
}

/// One attempt to have a call answered.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The caller's request.
    pub call: &'a Call,
    /// The model by the upstream's own name.
    pub model: &'a str,
    /// The cap on answer tokens to set where the caller set none; `None` leaves the body alone.
    pub output_tokens_max: Option<u64>,
    /// How long to wait for the status line.
    pub timeout: Duration,
    /// How long a stream may be silent.
    pub idle_timeout: Duration,
}

/// A request about a response that an upstream keeps.
#[derive(Debug, Clone, Copy)]
pub struct StoredOrder<'a> {
    /// The upstream's own id of it.
    pub id: &'a str,
    /// What is to be done.
    pub action: StoredAction,
    /// What the caller put behind the question mark.
    pub query: Option<&'a str>,
    /// How long to wait.
    pub timeout: Duration,
}

/// What can be done with a response that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredAction {
    /// Show it.
    Show,
    /// Forget it.
    Delete,
    /// Stop making it.
    Cancel,
    /// List what it answers.
    InputItems,
}

/// What an upstream says about something that it keeps.
#[derive(Debug)]
pub struct StoredReply {
    /// The media type of `body`.
    pub content_type: HeaderValue,
    /// Its answer.
    pub body: Bytes,
    /// Its own ids of responses that stand in it.
    pub ids: Vec<Box<str>>,
}

/// A successful answer.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per call and taken apart at once")]
#[non_exhaustive]
pub enum Reply {
    /// Complete.
    Whole(WholeReply),
    /// To be read as it comes.
    Stream(StreamReply),
}

/// The tokens of a prompt, as its provider counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCount {
    /// How many.
    pub tokens: u64,
    /// The provider's own answer, where the caller speaks its dialect.
    pub body: Option<Bytes>,
}

/// A complete answer in the caller's dialect.
#[derive(Debug)]
pub struct WholeReply {
    /// The media type of `body`.
    pub content_type: HeaderValue,
    /// The body to hand on; the provider's own bytes when both sides speak the same dialect.
    pub body: Bytes,
    /// What it reports about itself.
    pub report: Report,
    /// The provider's id of the request.
    pub upstream_id: Option<Box<str>>,
    /// Fields of the call that were left out because the provider has no words for them.
    pub dropped: Vec<Box<str>>,
}

/// A streamed answer in the caller's dialect.
pub struct StreamReply {
    /// Wire bytes with what they report. Ends after the answer's end, or with an error: a stream that stops without a
    /// finish reason ends with [`UpstreamError::Truncated`]. Dropping it aborts the call.
    pub events: EventStream,
    /// The provider's id of the request.
    pub upstream_id: Option<Box<str>>,
    /// Fields of the call that were left out because the provider has no words for them.
    pub dropped: Vec<Box<str>>,
}

/// Wire bytes of a streamed answer.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<StreamEvent, UpstreamError>> + Send>>;

impl Debug for StreamReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReply").field("upstream_id", &self.upstream_id).finish_non_exhaustive()
    }
}

/// Bytes to hand on, and what was seen in them. One event may carry several frames that arrived together.
#[derive(Debug, Default)]
pub struct StreamEvent {
    /// Whole frames in the caller's dialect; empty when the frames were for us alone, as a forced usage frame is.
    pub bytes: Bytes,
    /// What these frames report. Quantities of output are increments; usage is the total so far.
    pub report: Report,
}

/// What an answer, or a piece of it, says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Usage as the provider counts it, normalised; a later one replaces an earlier one.
    pub usage: Option<Usage>,
    /// What the provider says it charges, where that is authoritative.
    pub provider_cost: Option<PicoUsd>,
    /// Bytes of visible answer: text, reasoning, refusals, tool arguments.
    pub output_bytes: u64,
    /// Tokens of sound in the answer, by its length, where the provider sends it in pieces.
    pub output_audio_tokens: u64,
    /// Why the answer ended, in OpenAI's words.
    pub finish: Option<FinishReason>,
    /// The model that answered, by its own word.
    pub model: Option<Box<str>>,
    /// The service tier that served, by the provider's word.
    pub service_tier: Option<Box<str>>,
    /// The geography in which the answer was made, by the provider's word.
    pub geo: Option<Box<str>>,
    /// The provider's id under which it keeps the answer, where it does.
    pub kept_as: Option<Box<str>>,
}

impl Report {
    /// Takes in what a later piece of the same answer reports.
    pub fn absorb(&mut self, later: Self) {
        self.usage = later.usage.or(self.usage);
        self.provider_cost = later.provider_cost.or(self.provider_cost);
        self.output_bytes = self.output_bytes.saturating_add(later.output_bytes);
        self.output_audio_tokens = self.output_audio_tokens.saturating_add(later.output_audio_tokens);
        self.finish = later.finish.or(self.finish.take());
        self.model = later.model.or(self.model.take());
        self.service_tier = later.service_tier.or(self.service_tier.take());
        self.kept_as = later.kept_as.or(self.kept_as.take());
        self.geo = later.geo.or(self.geo.take());
    }
}

/// Why an answer ended, in OpenAI's words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model was done.
    Stop,
    /// A cap on tokens was reached.
    Length,
    /// The model wants tools to be called.
    ToolCalls,
    /// A filter stopped it.
    ContentFilter,
    /// The provider failed after it had begun to answer.
    Error,
    /// Another word, handed on as it is.
    Other(Box<str>),
}

impl FinishReason {
    /// OpenAI's word.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Error => "error",
            Self::Other(word) => word,
        }
    }

    /// The reason behind OpenAI's word.
    #[must_use]
    pub fn from_name(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            "error" => Self::Error,
            other => Self::Other(other.into()),
        }
    }
}

/// Why a call was not answered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The provider refused the call as it stands: 400, 404, 409, 413, 422 and their kin. The caller's to mend.
    #[error("upstream refused the call with {status}: {message}")]
    Rejected {
        /// The provider's status.
        status: StatusCode,
        /// What kind of refusal it is.
        kind: Rejection,
        /// The provider's text, for the caller.
        message: Box<str>,
        /// The provider's error body in the caller's dialect, handed on untouched when the dialects match.
        body: Option<Bytes>,
    },
    /// The provider refused our credentials or our account: 401, 402, 403. Never the caller's fault.
    #[error("upstream refused our account with {status}")]
    Account {
        /// The provider's status.
        status: StatusCode,
        /// The provider's text, for the log only.
        message: Box<str>,
    },
    /// The provider asks for patience.
    #[error("upstream is rate limited")]
    RateLimited {
        /// How long to wait, when it says so.
        retry_after: Option<Duration>,
        /// True when waiting does not help: a quota is used up.
        exhausted: bool,
        /// The provider's text.
        message: Box<str>,
    },
    /// The provider failed: 5xx, overload.
    #[error("upstream failed with {status}: {message}")]
    Failed {
        /// The provider's status.
        status: StatusCode,
        /// How long to wait, when it says so.
        retry_after: Option<Duration>,
        /// The provider's text, for the log.
        message: Box<str>,
    },
    /// No connection: nothing was sent.
    #[error("upstream unreachable: {message}")]
    Unreachable {
        /// For the log.
        message: Box<str>,
    },
    /// It did not answer in time. The provider may have worked, and may charge for it.
    #[error("upstream did not answer within {after:?}")]
    Timeout {
        /// The time that was allowed.
        after: Duration,
    },
    /// The connection broke, or the stream ended, before the answer did.
    #[error("upstream cut the answer short: {message}")]
    Truncated {
        /// For the log.
        message: Box<str>,
    },
    /// The provider reported an error inside a stream that had begun.
    #[error("upstream reported an error in the stream: {message}")]
    InStream {
        /// The provider's text.
        message: Box<str>,
        /// The frame as it came, in the caller's dialect.
        frame: Option<Bytes>,
    },
    /// What came is not an answer in the provider's format, or is beyond a limit.
    #[error("upstream sent an answer that cannot be read: {message}")]
    Malformed {
        /// What is wrong with it.
        message: Box<str>,
    },
    /// The call cannot be expressed for this upstream.
    #[error("this provider cannot do that: {message}")]
    Unsupported {
        /// The field or feature.
        message: Box<str>,
    },
}

/// What kind of refusal a 4xx is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// A malformed or unsupported request.
    Invalid,
    /// More input than the model takes.
    ContextWindow,
    /// The provider's content policy.
    ContentPolicy,
    /// The provider does not have the model.
    ModelNotFound,
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Tell the caller.
    Never,
    /// Try the same target again, not before this time has passed; another target is as good.
    SameTarget {
        /// How long to wait at the least.
        after: Duration,
    },
    /// Only another target can help.
    NextTarget,
}

impl UpstreamError {
    /// What to do next. An answer that had begun is never tried again, and a target that may charge for what it broke
    /// off is not asked for the same again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Rejected { kind: Rejection::ModelNotFound, .. }
            | Self::Account { .. }
            | Self::RateLimited { exhausted: true, .. }
            | Self::Malformed { .. }
            | Self::Unsupported { .. }
            | Self::Truncated { .. }
            | Self::Timeout { .. } => Retry::NextTarget,
            Self::Rejected { .. } | Self::InStream { .. } => Retry::Never,
            Self::RateLimited { retry_after: Some(after), .. } | Self::Failed { retry_after: Some(after), .. } => {
                Retry::SameTarget { after: *after }
            }
            Self::RateLimited { .. } | Self::Failed { .. } => Retry::SameTarget { after: Duration::from_millis(500) },
            Self::Unreachable { .. } => Retry::SameTarget { after: Duration::ZERO },
        }
    }

    /// A stable word for records and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "rejected",
            Self::Account { .. } => "account",
            Self::RateLimited { .. } => "rate_limited",
            Self::Failed { .. } => "failed",
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Truncated { .. } => "truncated",
            Self::InStream { .. } => "in_stream",
            Self::Malformed { .. } => "malformed",
            Self::Unsupported { .. } => "unsupported",
        }
    }
}

/// Upstreams by their configured name.
pub type Upstreams = std::collections::HashMap<Arc<str>, Arc<dyn Upstream>>;
