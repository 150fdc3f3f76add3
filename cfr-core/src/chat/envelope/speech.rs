//! `/v1/audio/speech` of OpenAI.

use bytes::Bytes;

use super::fields::{Known as _, fields};
use super::text::as_u64;
use super::{Envelope, EnvelopeError, InputBound, Script, Work};

/// What a provider says to the model around the text.
const TEMPLATE_TOKENS: u64 = 256;
/// The word of `stream_format` for events; any other word means the sound itself.
const EVENTS: &str = "sse";

fields! { "":
    Model => "model",
    Input => "input",
    StreamFormat => "stream_format",
    User => "user",
}

pub(super) fn read(body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let fields = Fields::document(body, |json, _| json.skip())?;
    let missing = || EnvelopeError::field(Field::Input.name(), "is missing");
    let text = fields.string(Field::Input)?.ok_or_else(missing)?;
    let script = Script { characters: as_u64(text.chars().count()) };
    let input = InputBound {
        text_tokens: fields.tokens_max + TEMPLATE_TOKENS,
        work: Work::Speech(script),
        ..InputBound::default()
    };
    let user = fields.tag(Field::User)?;
    let stream = fields.string(Field::StreamFormat)?.as_deref() == Some(EVENTS);
    let plain = Envelope::of_input(fields.model(Field::Model)?, fields.span(Field::Model), input);
    Ok(Envelope { stream, user, include_usage: true, ..plain })
}
