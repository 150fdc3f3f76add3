//! `/v1/audio/transcriptions` and `/v1/audio/translations` of OpenAI.

use bytes::Bytes;

use super::fields::{Known as _, fields};
use super::recording::seconds_max;
use super::{Envelope, EnvelopeError, InputBound, Recording, Work};
use crate::chat::{FormFile, Operation};

/// The field of the form that holds the recording.
const FILE: &str = "file";
/// What a provider says to the model around the prompt.
const TEMPLATE_TOKENS: u64 = 256;

fields! { "":
    Model => "model",
    Stream => "stream",
    User => "user",
    Chunking => "chunking_strategy",
    Url => "url",
    FileUrl => "file_url",
    FileId => "file_id",
}

pub(super) fn read(operation: Operation, body: &Bytes, files: &[FormFile]) -> Result<Envelope, EnvelopeError> {
    let fields = Fields::document(body, |json, _| json.skip())?;
    refuse_elsewhere(&fields)?;
    let recording = Recording { in_pieces: fields.has(Field::Chunking), ..recording(files)? };
    let input = InputBound {
        text_tokens: fields.tokens_max + TEMPLATE_TOKENS,
        work: Work::Transcript(recording),
        ..InputBound::default()
    };
    let user = fields.tag(Field::User)?;
    let stream = fields.flag(Field::Stream)? && operation.can_stream();
    let plain = Envelope::of_input(fields.model(Field::Model)?, fields.span(Field::Model), input);
    Ok(Envelope { stream, user, include_usage: true, ..plain })
}

/// A recording that the provider would fetch has no length that we know.
fn refuse_elsewhere(fields: &Fields<'_>) -> Result<(), EnvelopeError> {
    match [Field::Url, Field::FileUrl, Field::FileId].into_iter().find(|field| fields.has(*field)) {
        Some(field) => {
            Err(EnvelopeError::field(field.name(), "is not taken: send the recording as the file of a form"))
        }
        None => Ok(()),
    }
}

/// The one file of the form.
fn recording(files: &[FormFile]) -> Result<Recording, EnvelopeError> {
    match files {
        [file] if *file.field == *FILE && !file.bytes.is_empty() => Ok(seconds_max(&file.bytes)),
        [file] if *file.field == *FILE => Err(EnvelopeError::field(FILE, "is empty")),
        [] => Err(EnvelopeError::field(FILE, "is missing: send the recording as the file of a form")),
        _ => Err(EnvelopeError::field(FILE, "must be the only file of the form")),
    }
}
