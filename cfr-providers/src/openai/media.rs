//! Images, speech and transcripts for callers of OpenAI's dialect.
//!
//! A body of JSON stays what it is but for the model's name; a form is written again from its fields and files. Where a
//! format of an answer would not say what it used, as subtitles and sound do not, the provider is asked for one that does,
//! and what the caller asked for is made of it (providers.md §4).

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Order, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value};

use super::encode;
use super::quirks::Quirks;

mod events;
mod form;
mod images;
mod speech;
mod subtitles;
mod transcript;
mod usage;

pub(super) use events::MediaDecoder;

/// Whether an operation is of these.
pub(crate) const fn is_media(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::ImageGenerations
            | Operation::ImageEdits
            | Operation::Speech
            | Operation::Transcriptions
            | Operation::Translations
    )
}

/// The body to send, and its media type.
pub(super) fn body(quirks: &Quirks, order: &Order<'_>) -> Result<(Bytes, HeaderValue), UpstreamError> {
    let call = order.call;
    match call.operation {
        Operation::ImageEdits if call.files.is_empty() => json(encode::body(quirks, order)?),
        Operation::ImageEdits if quirks.edits_in_json => json(images::edit_in_json(order)?),
        Operation::ImageEdits => form::write(call.id, &fields(order)?, &call.files),
        Operation::Speech => json(speech::body(quirks, order)?),
        Operation::Transcriptions | Operation::Translations => {
            let mut fields = fields(order)?;
            transcript::ask_for_usage(quirks, call, order.model, &mut fields);
            form::write(call.id, &fields, &call.files)
        }
        _ => json(encode::body(quirks, order)?),
    }
}

/// The meaning of a complete answer.
pub(super) fn whole(
    quirks: &Quirks,
    call: &Call,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<WholeReply, UpstreamError> {
    match call.operation {
        Operation::Speech => speech::whole(call, headers, body),
        Operation::Transcriptions | Operation::Translations => transcript::whole(quirks, call, headers, body),
        _ => images::whole(quirks, call, headers, body),
    }
}

/// The frames of a stream that says what a complete answer says.
pub(super) fn stream_of_whole(
    quirks: &Quirks,
    call: &Call,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<WholeReply, UpstreamError> {
    let reply = whole(quirks, call, headers, body)?;
    let body = events::stream_of(call, &reply)?;
    Ok(WholeReply { content_type: HeaderValue::from_static("text/event-stream"), body, ..reply })
}

fn json(body: Bytes) -> Result<(Bytes, HeaderValue), UpstreamError> {
    Ok((body, HeaderValue::from_static("application/json")))
}

/// The fields of the body, with the model by the provider's name.
fn fields(order: &Order<'_>) -> Result<Map<String, Value>, UpstreamError> {
    let mut fields = object(&order.call.body)?;
    fields.insert("model".into(), order.model.into());
    Ok(fields)
}

/// An object that was read before.
fn object(body: &[u8]) -> Result<Map<String, Value>, UpstreamError> {
    serde_json::from_slice(body).map_err(|cause| UpstreamError::Malformed { message: cause.to_string().into() })
}

/// A word of the caller's body.
fn word(call: &Call, field: &str) -> Option<String> {
    object(&call.body).ok()?.get(field)?.as_str().map(str::to_owned)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
