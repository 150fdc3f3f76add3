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
    /// `POST /v1/responses` of OpenAI.
    Responses,
    /// `POST /v1/messages` of Anthropic.
    Messages,
    /// `:generateContent` and `:streamGenerateContent` of Gemini.
    GenerateContent,
    /// `POST /v1/images/generations` of OpenAI.
    ImageGenerations,
    /// `POST /v1/images/edits` of OpenAI: a form.
    ImageEdits,
    /// `POST /v1/audio/speech` of OpenAI.
    Speech,
    /// `POST /v1/audio/transcriptions` of OpenAI: a form.
    Transcriptions,
    /// `POST /v1/audio/translations` of OpenAI: a form.
    Translations,
    /// `POST /v1/moderations` of OpenAI.
    Moderations,
    /// `POST /v1/rerank`, as Cohere and Jina have it.
    Rerank,
    /// A response in a conversation over `GET /v1/realtime` of OpenAI, a WebSocket.
    Realtime,
}

/// The wire format in which a client speaks and is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Chat completions of OpenAI and its siblings, among them all work that is no conversation.
    OpenAi,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's Gemini.
    Gemini,
}

impl Operation {
    /// A stable name for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::GenerateContent => "generate_content",
            Self::ImageGenerations => "image_generations",
            Self::ImageEdits => "image_edits",
            Self::Speech => "speech",
            Self::Transcriptions => "transcriptions",
            Self::Translations => "translations",
            Self::Moderations => "moderations",
            Self::Rerank => "rerank",
            Self::Realtime => "realtime",
        }
    }

    /// Whose wire format it is in.
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Responses => Dialect::Responses,
            Self::Messages => Dialect::Anthropic,
            Self::GenerateContent => Dialect::Gemini,
            _ => Dialect::OpenAi,
        }
    }

    /// Whether it asks for the next turn of a conversation. What one dialect says of a conversation, the others can say
    /// as well.
    #[must_use]
    pub const fn is_chat(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Responses | Self::Messages | Self::GenerateContent)
    }

    /// Whether its request is a form with files. The other fields of the form are the body, as a JSON object.
    #[must_use]
    pub const fn has_form(self) -> bool {
        matches!(self, Self::ImageEdits | Self::Transcriptions | Self::Translations)
    }

    /// Whether its answer can be had as a stream of events.
    #[must_use]
    pub const fn can_stream(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Translations | Self::Moderations | Self::Rerank)
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
    /// The body, byte for byte as the client sent it; of a form, its fields but the files, as a JSON object.
    pub body: Bytes,
    /// The files of a form, in their order; see [`Operation::has_form`].
    pub files: Vec<FormFile>,
    /// The caller's own names for the request.
    pub tags: Tags,
    /// What the caller wants of the response cache.
    pub cache: CacheUse,
    /// Whether we may leave out what a provider has no words for. Otherwise such a call is refused.
    pub drop_params: bool,
    /// Features in trial that the caller asks for, by Anthropic's names with commas between: the header `anthropic-beta`.
    /// Providers of other dialects have no use for them.
    pub betas: Option<Box<str>>,
    /// The version of the dialect that the caller speaks, where one says: the header `anthropic-version`.
    pub dialect_version: Option<Box<str>>,
}

/// A file that came in a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormFile {
    /// The field of the form: `file`, `image[]`, `mask`.
    pub field: Box<str>,
    /// The caller's name for it.
    pub name: Option<Box<str>>,
    /// Its media type by the caller's word.
    pub content_type: Option<Box<str>>,
    /// What is in it.
    pub bytes: Bytes,
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
    /// Reads a body that names its model as a call with a new id.
    ///
    /// # Errors
    /// When the body cannot be read; see [`EnvelopeError`].
    pub fn parse(operation: Operation, body: Bytes, now: Timestamp) -> Result<Self, EnvelopeError> {
        let envelope = Envelope::parse(operation, &body)?;
        let tags = Tags::of(&envelope);
        let (id, cache, drop_params) = (RequestId::generate(now), CacheUse::default(), false);
        let (betas, dialect_version) = (None, None);
        Ok(Self { id, operation, envelope, body, files: Vec::new(), tags, cache, drop_params, betas, dialect_version })
    }

    /// Puts another body in place of the caller's. What the path said still holds; tags stay as the caller gave them.
    ///
    /// # Errors
    /// When the body cannot be read; the call is then as it was.
    pub fn rewrite(&mut self, body: Bytes) -> Result<(), EnvelopeError> {
        self.envelope = match self.operation {
            Operation::GenerateContent => {
                let Envelope { model, stream, .. } = &self.envelope;
                Envelope::parse_named(self.operation, model, *stream, &body)?
            }
            Operation::Realtime => {
                let read = Envelope::parse_named(self.operation, &self.envelope.model, true, &body)?;
                Envelope { input: self.envelope.input, ..read } // the conversation is not in the body
            }
            _ => Envelope::parse_form(self.operation, &body, &self.files)?,
        };
        self.body = body;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Capabilities;

    const ALL: [Operation; 14] = [
        Operation::ChatCompletions,
        Operation::Completions,
        Operation::Embeddings,
        Operation::Responses,
        Operation::Messages,
        Operation::GenerateContent,
        Operation::ImageGenerations,
        Operation::ImageEdits,
        Operation::Speech,
        Operation::Transcriptions,
        Operation::Translations,
        Operation::Moderations,
        Operation::Rerank,
        Operation::Realtime,
    ];

    #[test]
    fn records_and_names_spell_an_operation_the_same() {
        for operation in ALL {
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.name());
        }
    }

    #[test]
    fn who_can_chat_serves_every_conversation() {
        let none = Capabilities::NONE;
        for operation in ALL {
            assert!(Capabilities::ALL.serves(operation) && !none.serves(operation));
            assert_eq!(Capabilities { chat: true, ..none }.serves(operation), operation.is_chat());
        }
    }

    #[test]
    fn a_rewritten_body_keeps_what_the_path_said() {
        let body = Bytes::from_static(br#"{"contents":[{"parts":[{"text":"a"}]}]}"#);
        let envelope = Envelope::parse_named(Operation::GenerateContent, "m", true, &body).unwrap();
        let mut call = Call::parse(
            Operation::Embeddings,
            Bytes::from_static(br#"{"model":"e","input":"x"}"#),
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
        call.rewrite(Bytes::from_static(br#"{"model":"f","input":"x"}"#)).unwrap();
        assert_eq!(&*call.envelope.model, "f");
        (call.operation, call.envelope, call.body) = (Operation::GenerateContent, envelope, body);
        let longer = Bytes::from_static(br#"{"contents":[{"parts":[{"text":"abc"}]}]}"#);
        call.rewrite(longer.clone()).unwrap();
        assert_eq!((&*call.envelope.model, call.envelope.stream, &call.body), ("m", true, &longer));
        assert!(call.rewrite(Bytes::from_static(b"{}")).is_err());
        assert_eq!(call.body, longer);
    }
}
