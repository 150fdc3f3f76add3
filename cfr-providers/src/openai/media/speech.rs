//! Texts read aloud, whole. Sound alone does not say what it cost: models that are charged by tokens are asked for events,
//! of which the last one says it, and the sound is put together again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use cfr_core::chat::Call;
use cfr_core::upstream::{Order, Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::Value;

use super::usage::Makes;
use super::{content_type, events, word};
use crate::framing::sse;
use crate::openai::quirks::{Quirks, SpeechWords};
use crate::openai::{encode, error};

const STREAM_FORMAT: &str = "stream_format";

/// The body to send.
pub(super) fn body(quirks: &Quirks, order: &Order<'_>) -> Result<Bytes, UpstreamError> {
    match quirks.speech {
        SpeechWords::OpenAi if !is_charged_by_tokens(quirks, order.model) => encode::body(quirks, order),
        SpeechWords::OpenAi => {
            let mut fields = super::fields(order)?;
            fields.insert(STREAM_FORMAT.into(), "sse".into());
            Ok(Value::Object(fields).to_string().into())
        }
        SpeechWords::Mistral => mistral(order),
    }
}

/// OpenAI's models but the first ones: those take no events, and are charged by characters.
fn is_charged_by_tokens(quirks: &Quirks, model: &str) -> bool {
    quirks.words.openai_models && model.contains("gpt")
}

/// Mistral has another name for the voice, and knows neither a speed nor instructions.
fn mistral(order: &Order<'_>) -> Result<Bytes, UpstreamError> {
    let mut fields = super::fields(order)?;
    for field in ["speed", "instructions"] {
        if fields.remove(field).is_some_and(|value| !value.is_null()) && !order.call.drop_params {
            return Err(UpstreamError::Unsupported { message: format!("{field}: unknown to this provider").into() });
        }
    }
    fields.remove(STREAM_FORMAT);
    if order.call.envelope.stream {
        fields.insert("stream".into(), true.into());
    }
    if let Some(voice) = fields.remove("voice") {
        fields.insert("voice_id".into(), voice);
    }
    Ok(Value::Object(fields).to_string().into())
}

/// The meaning of a complete answer: sound, a list of events, or JSON that holds the sound.
pub(super) fn whole(call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
    let kind = content_type(headers);
    if kind.contains("json") {
        return of_json(call, headers, &body);
    }
    if kind.contains("event-stream") {
        return of_events(call, &body);
    }
    let said = headers.get(header::CONTENT_TYPE).cloned().unwrap_or_else(|| media_type(call));
    reply(said, body, Report::default())
}

fn reply(content_type: HeaderValue, body: Bytes, report: Report) -> Result<WholeReply, UpstreamError> {
    if body.is_empty() {
        return Err(UpstreamError::Malformed { message: "the answer has no sound".into() });
    }
    Ok(WholeReply { content_type, report, upstream_id: None, body, dropped: Vec::new() })
}

/// Mistral's answer.
fn of_json(call: &Call, headers: &HeaderMap, body: &Bytes) -> Result<WholeReply, UpstreamError> {
    #[derive(Deserialize)]
    struct Answer {
        audio_data: String,
    }
    let Ok(answer) = crate::json::parse::<Answer>(body) else { return Err(error::read_in_success(headers, body)) };
    reply(media_type(call), decoded(&answer.audio_data)?.into(), Report::default())
}

fn of_events(call: &Call, body: &Bytes) -> Result<WholeReply, UpstreamError> {
    let (mut sound, mut usage, mut done) = (BytesMut::new(), None, false);
    for frame in sse::frames(body) {
        let Some(event) = frame.event else { continue };
        let event = events::Event::read(&event.data)?;
        match event.kind() {
            events::Kind::Sound => sound.put_slice(&decoded(event.sound())?),
            events::Kind::End => (usage, done) = (event.usage(Makes::Sound), true),
            events::Kind::Error => return Err(error::read_in_success(&HeaderMap::new(), body)),
            _ => {}
        }
    }
    if !done {
        return Err(UpstreamError::Truncated { message: "the sound ended before its end".into() });
    }
    reply(media_type(call), sound.freeze(), Report { usage, ..Report::default() })
}

pub(super) fn decoded(base64: &str) -> Result<Vec<u8>, UpstreamError> {
    let malformed = |cause| UpstreamError::Malformed { message: format!("sound is not base64: {cause}").into() };
    STANDARD.decode(base64).map_err(malformed)
}

/// The media type of the format that the caller asked for; MP3 without a word.
fn media_type(call: &Call) -> HeaderValue {
    HeaderValue::from_static(match word(call, "response_format").as_deref() {
        Some("opus") => "audio/ogg",
        Some("aac") => "audio/aac",
        Some("flac") => "audio/flac",
        Some("wav") => "audio/wav",
        Some("pcm") => "audio/pcm",
        _ => "audio/mpeg",
    })
}
