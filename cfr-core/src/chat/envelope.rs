//! What the gateway reads from a request body, once, without rebuilding it.

use std::ops::Range;

use bytes::Bytes;

use super::Operation;

/// Where a value stands in a body, in bytes.
pub type Span = Range<usize>;

/// The few facts that routing and pricing need, with the places in the body that may be rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The public name of the model.
    pub model: Box<str>,
    /// Where the model's value stands, quotes included.
    pub model_span: Span,
    /// Whether a stream is wanted.
    pub stream: bool,
    /// Whether the caller wants a usage chunk at the end of the stream.
    pub include_usage: bool,
    /// Where the value of `stream_options` stands.
    pub stream_options_span: Option<Span>,
    /// The caller's cap on answer tokens.
    pub output_cap: Option<OutputCap>,
    /// Answers per request: `n`, or the larger of `n` and `best_of`.
    pub choices: u32,
    /// The service tier asked for.
    pub service_tier: Option<Box<str>>,
    /// What the input can cost at the most.
    pub input: InputBound,
    /// The caller's `user`, cut to [`TAG_BYTES_MAX`].
    pub user: Option<Box<str>>,
}

/// A cap on answer tokens as the caller sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputCap {
    /// `max_completion_tokens` rather than `max_tokens`.
    pub completion: bool,
    /// The number.
    pub tokens: u64,
    /// Where the number stands.
    pub span: Span,
}

/// Bounds on the input, from the body alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputBound {
    /// No tokenizer makes more tokens of the text, tools, schema and framing than this.
    pub text_tokens: u64,
    /// Images, whose tokens depend on the model.
    pub images: u32,
    /// Whether a part has no bound in the body (PDF, audio, hosted tools): then only the model's context bounds it.
    pub unbounded: bool,
    /// Web searches at the most.
    pub web_searches: u32,
}

/// Bytes of a caller's tag that are kept.
pub const TAG_BYTES_MAX: usize = 256;

/// Why a body cannot be read. Every variant is the caller's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not JSON, not UTF-8, or not an object.
    #[error("the body is not a JSON object: {reason}")]
    NotJson {
        /// What the parser says, with the place.
        reason: Box<str>,
    },
    /// A field is missing, of the wrong type or out of range.
    #[error("{param}: {reason}")]
    Field {
        /// The field.
        param: &'static str,
        /// What is wrong.
        reason: Box<str>,
    },
}

impl Envelope {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not a JSON object, or a field that we need is missing, of the wrong type or out of range.
    pub fn parse(_operation: Operation, _body: &Bytes) -> Result<Self, EnvelopeError> {
        Err(EnvelopeError::NotJson { reason: "PLACEHOLDER".into() })
    }
}

/// One change of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Puts `json` where a value stood.
    Replace {
        /// Where.
        span: Span,
        /// The new value, as JSON.
        json: &'a [u8],
    },
    /// Adds a field to the outer object.
    Insert {
        /// Its name, which needs no escaping.
        field: &'a str,
        /// Its value, as JSON.
        json: &'a [u8],
    },
}

/// The body with the edits made and every other byte as it was. No edits: the same bytes, not copied.
#[must_use]
pub fn splice(body: &Bytes, _edits: &[Edit<'_>]) -> Bytes {
    body.clone() // PLACEHOLDER
}
