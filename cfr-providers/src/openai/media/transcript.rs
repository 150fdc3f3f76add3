//! Speech written down, whole. Texts and subtitles do not say what they cost: the provider is asked for JSON, and they are
//! made of it here.

use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::upstream::{Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::subtitles::{self, Segment};
use super::usage::{Makes, MediaUsage, Seconds};
use super::word;
use crate::openai::decode::malformed;
use crate::openai::error;
use crate::openai::quirks::{Quirks, SpeechWords};

const FORMAT: &str = "response_format";
const JSON: &str = "json";
const VERBOSE_JSON: &str = "verbose_json";
/// Mistral has one format, and adds segments when it is asked for their times.
const GRANULARITIES: &str = "timestamp_granularities";

#[derive(Deserialize)]
struct Answer<'a> {
    text: String,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    duration: Option<Seconds>,
    #[serde(borrow, default)]
    segments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

/// Changes the fields of a form so that the answer says what it used.
pub(super) fn ask_for_usage(quirks: &Quirks, call: &Call, model: &str, fields: &mut Map<String, Value>) {
    let wanted = wanted(call);
    if quirks.speech == SpeechWords::Mistral {
        fields.remove(FORMAT);
        if needs_segments(&wanted) {
            fields.insert(GRANULARITIES.into(), json!(["segment"]));
        }
    } else if !call.envelope.stream {
        fields.insert(FORMAT.into(), format_asked(&wanted, model).into());
    }
}

/// The format to ask for. GPT transcribes in plain JSON only, which has its usage; Whisper's length is in the long form.
fn format_asked<'a>(wanted: &'a str, model: &str) -> &'a str {
    let (is_gpt, is_whisper) = (model.contains("gpt"), model.contains("whisper"));
    match wanted {
        "text" | JSON if is_whisper => VERBOSE_JSON,
        "text" => JSON,
        "srt" | "vtt" if !is_gpt => VERBOSE_JSON,
        other => other,
    }
}

fn wanted(call: &Call) -> String {
    word(call, FORMAT).unwrap_or_else(|| JSON.to_owned())
}

fn needs_segments(format: &str) -> bool {
    matches!(format, "srt" | "vtt" | VERBOSE_JSON)
}

/// The meaning of a complete answer, in the format that the caller asked for.
pub(super) fn whole(
    quirks: &Quirks,
    call: &Call,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<WholeReply, UpstreamError> {
    let wanted = wanted(call);
    let is_json = super::content_type(headers).contains("json") || body.trim_ascii_start().starts_with(b"{");
    if !is_json {
        return Ok(reply(headers.get(header::CONTENT_TYPE).cloned(), body, None)); // as the server understood it
    }
    let answer = crate::json::parse::<Answer<'_>>(&body).map_err(|cause| match has_error(&body) {
        true => error::read_in_success(headers, &body),
        false => malformed(headers, &cause),
    })?;
    let usage = answer.used();
    let text =
        |text: String| Ok(reply(Some(HeaderValue::from_static("text/plain; charset=utf-8")), text.into(), usage));
    let own_shape = quirks.speech == SpeechWords::Mistral;
    match &*wanted {
        "text" => text(format!("{}\n", answer.text)),
        "srt" => text(subtitles::srt(&answer.segments()?)),
        "vtt" => text(subtitles::vtt(&answer.segments()?)),
        VERBOSE_JSON if own_shape => Ok(reply(None, answer.verbose()?.to_string().into(), usage)),
        JSON if own_shape || answer.duration.is_some() => Ok(reply(None, answer.plain().to_string().into(), usage)),
        _ => Ok(reply(None, body, usage)),
    }
}

fn reply(content_type: Option<HeaderValue>, body: Bytes, usage: Option<Usage>) -> WholeReply {
    let content_type = content_type.unwrap_or_else(|| HeaderValue::from_static("application/json"));
    let report = Report { usage, ..Report::default() };
    WholeReply { content_type, report, upstream_id: None, body, dropped: Vec::new() }
}

fn has_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Failed {
        #[serde(rename = "error")]
        _error: IgnoredAny,
    }
    crate::json::parse::<Failed>(body).is_ok()
}

impl Answer<'_> {
    /// By what is reported, else by the length.
    fn used(&self) -> Option<Usage> {
        let reported = self.usage.and_then(|raw| serde_json::from_str::<MediaUsage>(raw.get()).ok());
        let reported = reported.and_then(|usage| usage.read(Makes::Words));
        let by_length = || self.duration.map(|length| Usage::default().with(Meter::InputSeconds, length.0));
        reported.or_else(by_length)
    }

    fn segments(&self) -> Result<Vec<Segment>, UpstreamError> {
        let segments = self.segments.and_then(|raw| serde_json::from_str(raw.get()).ok());
        segments.ok_or_else(|| UpstreamError::Malformed { message: "the transcript has no segments".into() })
    }

    /// OpenAI's short form.
    fn plain(&self) -> Value {
        let mut plain = json!({"text": self.text});
        if let Some(Seconds(seconds)) = self.duration.filter(|_| self.usage.is_none()) {
            plain["usage"] = json!({"type": "duration", "seconds": seconds});
        } else if let Some(usage) = self.usage {
            plain["usage"] = json!(usage);
        }
        plain
    }

    /// OpenAI's long form, of an answer that has another one.
    fn verbose(&self) -> Result<Value, UpstreamError> {
        let seconds = self.used().map_or(0, |usage| usage.get(Meter::InputSeconds));
        let segments = self.segments.map(|raw| serde_json::from_str::<Vec<Map<String, Value>>>(raw.get()));
        let malformed = |cause: serde_json::Error| UpstreamError::Malformed { message: cause.to_string().into() };
        let mut segments = segments.transpose().map_err(malformed)?.unwrap_or_default();
        for (number, segment) in (0..).zip(&mut segments) {
            segment.insert("id".into(), Value::from(number));
        }
        Ok(json!({
            "task": "transcribe", "language": self.language.as_deref().unwrap_or_default(), "duration": seconds,
            "text": self.text, "segments": segments, "usage": {"type": "duration", "seconds": seconds},
        }))
    }
}
