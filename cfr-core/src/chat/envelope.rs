//! What the gateway reads from a request body, once, without rebuilding it.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{FormFile, Operation};

mod bound;
mod fields;
mod gemini;
mod images;
mod json;
mod media;
mod messages;
mod moderations;
mod openai;
mod realtime;
mod record;
mod recording;
mod rerank;
mod responses;
mod speech;
mod splice;
mod text;
mod transcript;
mod work;

#[cfg(test)]
mod tests;

pub use images::{IMAGES_GIVEN_MAX, IMAGES_MADE_MAX, PARTIAL_IMAGES_MAX};
pub use rerank::DOCUMENT_TOKENS_DEFAULT;
pub use splice::{Edit, splice};
pub use work::{Heard, ImageOrder, ImageQuality, Recording, Script, Work};

/// Where a value stands in a body, in bytes.
pub type Span = Range<usize>;

/// The few facts that routing and pricing need, with the places in the body that may be rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The public name of the model.
    pub model: Box<str>,
    /// Where the model's value stands, quotes included; `None` when the path names the model, or nobody does.
    pub model_span: Option<Span>,
    /// Whether a stream is wanted. Embeddings have none.
    pub stream: bool,
    /// Whether the caller wants a usage chunk at the end of the stream. Dialects that always report usage want it always.
    pub include_usage: bool,
    /// Where the value of `stream_options` stands.
    pub stream_options_span: Option<Span>,
    /// The caller's cap on answer tokens.
    pub output_cap: Option<OutputCap>,
    /// Where a cap can be set that the caller left open; use it by [`Envelope::cap_edit`].
    pub open_caps: OpenCaps,
    /// Caps on hosted tools that the caller left out and the bound relies on: the adapter of the same dialect must set
    /// them, see [`Envelope::hosted_edits`].
    pub hosted_caps: Vec<HostedCap>,
    /// What the call goes on from, where it names something that a provider keeps.
    pub refers_to: Option<Box<Reference>>,
    /// Answers per request: the larger of `n` and `best_of`, times the number of prompts of a legacy completion;
    /// `candidateCount`; 2 where the provider may sum up the conversation first.
    pub choices: u32,
    /// The service tier, or Anthropic's speed, asked for.
    pub service_tier: Option<Box<str>>,
    /// The geography in which the caller wants the answer made, which can raise the price.
    pub geo: Option<Box<str>>,
    /// What the input can cost at the most.
    pub input: InputBound,
    /// The caller's `user`, cut to [`TAG_BYTES_MAX`].
    pub user: Option<Box<str>>,
    /// The caller's `metadata`, an object as it stands in the body.
    pub metadata: Option<Box<str>>,
}

/// A cap on answer tokens as the caller sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputCap {
    /// The field that says it.
    pub field: CapField,
    /// The number.
    pub tokens: u64,
    /// Where the number stands.
    pub span: Span,
}

/// A field that caps answer tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CapField {
    /// `max_tokens` of chat completions, legacy completions and Messages.
    MaxTokens,
    /// `max_completion_tokens` of chat completions.
    MaxCompletionTokens,
    /// `max_output_tokens` of Responses.
    MaxOutputTokens,
    /// `maxOutputTokens` in Gemini's `generationConfig`.
    GenerationConfig,
}

impl CapField {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::GenerationConfig => "maxOutputTokens",
        }
    }
}

/// Where a cap can be set that the caller left open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenCaps(SmallVec<[(CapField, Gap); 2]>);

/// A cap on the calls of a hosted tool that must be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedCap {
    field: &'static str,
    gap: Gap,
}

/// A place for a cap. Without one it becomes a field of the outer object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Gap {
    /// A `null` that stands as its value.
    Null(Span),
    /// The object that should hold it, by its opening brace.
    Inside(usize),
    /// A `null` in place of the object that should hold it.
    NullObject(Span),
}

/// An earlier response, or a conversation, that a call goes on from and that its provider keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The field that names it.
    pub field: &'static str,
    /// Its id, as the caller gives it; none where the field holds something else than a text.
    pub id: Option<Box<str>>,
    /// Where the field's value stands, quotes included.
    pub span: Span,
}

/// Gemini's object around the cap.
const GENERATION_CONFIG: &str = "generationConfig";

/// Bounds on the input, from the body alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputBound {
    /// No tokenizer makes more tokens of the text, tools, schema and framing than this.
    pub text_tokens: u64,
    /// Images, whose tokens depend on the model.
    pub images: u32,
    /// Whether a part has no bound in the body (PDF, audio, hosted tools): then only the model's context bounds it.
    pub unbounded: bool,
    /// Calls of hosted tools at the most; after each the provider reads the input anew.
    pub hosted_calls: u32,
    /// Web searches at the most.
    pub web_searches: u32,
    /// File searches at the most.
    pub file_searches: u32,
    /// Queries to a map service at the most.
    pub maps_queries: u32,
    /// Sessions of a hosted interpreter at the most.
    pub code_sessions: u32,
    /// Whether the caller marks text for the provider's cache: then its dearest cache write may be charged.
    pub cache_markers: bool,
    /// Tokens of a predicted answer, which are charged as output where the prediction is wrong.
    pub predicted_tokens: u64,
    /// Search units of a rerank.
    pub search_units: SearchUnits,
    /// What is asked for beside text.
    pub work: Work,
}

/// How often a rerank is charged where that goes by searches: one for each hundred documents, of which a long one counts
/// as several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchUnits {
    /// Where documents are read to their ends.
    pub whole: Searches,
    /// Where each is cut at `max_tokens_per_doc`, or at [`DOCUMENT_TOKENS_DEFAULT`] when the caller does not say.
    pub cut: Searches,
}

/// A number of search units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Searches {
    /// At the most.
    pub max: u64,
    /// What is taken for used when a provider does not say, by the usual length of tokens.
    pub estimated: u64,
}

/// Bytes of a caller's tag that are kept.
pub const TAG_BYTES_MAX: usize = 256;
/// Bytes of a caller's metadata: the 16 pairs that OpenAI allows fit well.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a model's name.
pub const MODEL_BYTES_MAX: usize = 256;
/// Bytes of a service tier's name.
pub const TIER_BYTES_MAX: usize = 32;
/// A cap on answer tokens above this is a typing error; it also keeps every product inside `i128`.
pub const OUTPUT_TOKENS_MAX: u64 = 100_000_000;
/// Answers per prompt, as OpenAI limits them.
pub const CHOICES_MAX: u32 = 128;
/// Prompts in one legacy completion.
pub const PROMPTS_MAX: u32 = 2_048;
/// Arrays and objects inside each other: what JSON parsers down the line accept.
pub const DEPTH_MAX: usize = 128;
/// Web searches that one hosted tool may make when the caller names no `max_uses`.
pub const TOOL_SEARCHES_MAX: u32 = TOOL_CALLS_MAX;
/// Calls of one hosted tool when the caller names no cap: Anthropic's own limit of one request.
pub const TOOL_CALLS_MAX: u32 = 10;
/// [`TOOL_CALLS_MAX`] as JSON.
const TOOL_CALLS_MAX_JSON: &[u8] = b"10";

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
    /// Reads a body that names its model and came without files.
    ///
    /// A field that we read and that is given twice, or once more in other letter case, is refused: what we price must
    /// be what every upstream reads, and parsers differ in which of the two they take.
    ///
    /// # Errors
    /// When it is not a JSON object, or a field that we need is missing, of the wrong type or out of range.
    pub fn parse(operation: Operation, body: &Bytes) -> Result<Self, EnvelopeError> {
        Self::parse_form(operation, body, &[])
    }

    /// Reads a body that names its model, with the files that came along: what is in them may decide about the price.
    ///
    /// # Errors
    /// As [`Envelope::parse`], and when a file that the operation needs is missing or not what it should be.
    pub fn parse_form(operation: Operation, body: &Bytes, files: &[FormFile]) -> Result<Self, EnvelopeError> {
        match operation {
            Operation::Responses => responses::read(body),
            Operation::Messages => messages::read(body),
            Operation::GenerateContent => Err(EnvelopeError::field("model", "must be named by the path")),
            Operation::Realtime => Err(EnvelopeError::field("model", "must be named by the address")),
            Operation::ImageGenerations | Operation::ImageEdits => images::read(operation, body, files),
            Operation::Speech => speech::read(body),
            Operation::Transcriptions | Operation::Translations => transcript::read(operation, body, files),
            Operation::Moderations => moderations::read(body),
            Operation::Rerank => rerank::read(body),
            _ => openai::read(operation, body),
        }
    }

    /// Of a call that neither streams nor caps anything.
    fn of_input(model: Box<str>, model_span: Option<Span>, input: InputBound) -> Self {
        Self {
            model,
            model_span,
            stream: false,
            include_usage: false,
            stream_options_span: None,
            output_cap: None,
            open_caps: OpenCaps::default(),
            hosted_caps: Vec::new(),
            refers_to: None,
            choices: 1,
            service_tier: None,
            geo: None,
            input,
            user: None,
            metadata: None,
        }
    }

    /// Reads a body whose model, and whether it streams, the path says, as Gemini's does. Where the body names its model
    /// in any case, the body counts.
    ///
    /// # Errors
    /// As [`Envelope::parse`], and when a body of Gemini names another model than the path.
    pub fn parse_named(operation: Operation, model: &str, stream: bool, body: &Bytes) -> Result<Self, EnvelopeError> {
        match operation {
            Operation::GenerateContent => gemini::read(model, stream, body),
            Operation::Realtime => realtime::read(model, body),
            _ => Self::parse(operation, body),
        }
    }

    /// The edit that sets a cap on answer tokens where the caller set none: in place of a `null`, else as a new field.
    #[must_use]
    pub fn cap_edit<'a>(&self, field: CapField, json: &'a [u8]) -> Edit<'a> {
        let wrapped = || [b"{\"", field.name().as_bytes(), b"\":", json, b"}"].concat();
        match self.open_caps.gap(field) {
            Some(Gap::Null(span)) => Edit::Replace { span: span.clone(), json: json.into() },
            Some(Gap::NullObject(span)) => Edit::Replace { span: span.clone(), json: wrapped().into() },
            Some(Gap::Inside(opening)) => {
                Edit::InsertInto { opening: *opening, field: field.name(), json: json.into() }
            }
            None if field == CapField::GenerationConfig => {
                Edit::Insert { field: GENERATION_CONFIG, json: wrapped().into() }
            }
            None => Edit::Insert { field: field.name(), json: json.into() },
        }
    }

    /// The edits that cap hosted tools where the caller did not: without them the bound would not be true.
    pub fn hosted_edits(&self) -> impl Iterator<Item = Edit<'static>> + '_ {
        self.hosted_caps.iter().map(HostedCap::edit)
    }
}

impl HostedCap {
    fn edit(&self) -> Edit<'static> {
        let json = TOOL_CALLS_MAX_JSON.into();
        match &self.gap {
            Gap::Null(span) | Gap::NullObject(span) => Edit::Replace { span: span.clone(), json },
            Gap::Inside(opening) => Edit::InsertInto { opening: *opening, field: self.field, json },
        }
    }
}

impl OpenCaps {
    /// Whether a `null` stands as the value of this field.
    #[must_use]
    pub fn is_null(&self, field: CapField) -> bool {
        matches!(self.gap(field), Some(Gap::Null(_)))
    }

    fn gap(&self, field: CapField) -> Option<&Gap> {
        self.0.iter().find(|(known, _)| *known == field).map(|(_, gap)| gap)
    }
}

impl EnvelopeError {
    fn not_json(reason: &dyn std::fmt::Display) -> Self {
        Self::NotJson { reason: reason.to_string().into() }
    }

    fn field(param: &'static str, reason: impl Into<Box<str>>) -> Self {
        Self::Field { param, reason: reason.into() }
    }
}
