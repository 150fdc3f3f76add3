//! Images, speech and transcripts as they are made: each event is read from the side, and handed on as it came where the
//! provider speaks the caller's words.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cfr_core::chat::{Call, Operation, Usage};
use cfr_core::upstream::{FinishReason, Report, UpstreamError, WholeReply};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::images;
use super::usage::{Makes, MediaUsage};
use crate::adapter::{Forward, StreamDecoder, WireEvent};
use crate::openai::error;
use crate::openai::quirks::{Quirks, SpeechWords};
use crate::openai::wire::Word;

const DONE: &[u8] = b"[DONE]";

/// What we read of an event.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
    #[serde(borrow, default)]
    delta: Word<'a>,
    #[serde(borrow, default)]
    text: Word<'a>,
    /// Sound, by OpenAI's name and by Mistral's.
    #[serde(borrow, default, alias = "audio_data")]
    audio: Word<'a>,
    #[serde(borrow, default)]
    b64_json: Word<'a>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sound,
    Text,
    Image,
    End,
    Error,
    Other,
}

impl<'a> Event<'a> {
    pub(super) fn read(data: &'a [u8]) -> Result<Self, UpstreamError> {
        crate::json::parse(data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("an event is not JSON: {cause}").into() })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.kind.text().unwrap_or_default() {
            _ if self.error.is_some() => Kind::Error,
            "error" => Kind::Error,
            "speech.audio.delta" => Kind::Sound,
            "transcript.text.delta" | "transcription.text.delta" => Kind::Text,
            "speech.audio.done" | "transcript.text.done" | "transcription.done" => Kind::End,
            "image_generation.completed" | "image_edit.completed" => Kind::End,
            kind if kind.ends_with(".partial_image") => Kind::Image,
            _ => Kind::Other,
        }
    }

    pub(super) fn sound(&self) -> &str {
        self.audio.text().unwrap_or_default()
    }

    pub(super) fn usage(&self, makes: Makes) -> Option<Usage> {
        serde_json::from_str::<MediaUsage>(self.usage?.get()).ok()?.read(makes)
    }

    fn visible_bytes(&self) -> u64 {
        let parts = [&self.delta, &self.audio, &self.b64_json];
        parts.into_iter().filter_map(Word::text).map(str::len).sum::<usize>() as u64
    }

    /// The same event in OpenAI's words, for those of Mistral's that have other ones.
    fn translated(&self) -> Option<Value> {
        let text = self.text.text().unwrap_or_default();
        Some(match self.kind.text()? {
            "transcription.text.delta" => json!({"type": "transcript.text.delta", "delta": text}),
            "transcription.done" => json!({"type": "transcript.text.done", "text": text, "usage": self.usage}),
            "speech.audio.delta" => json!({"type": "speech.audio.delta", "audio": self.sound()}),
            "speech.audio.done" => json!({"type": "speech.audio.done", "usage": self.usage}),
            _ => return None,
        })
    }
}

/// Watches one stream.
#[derive(Debug)]
pub(in crate::openai) struct MediaDecoder {
    makes: Makes,
    /// Whether the provider has words of its own.
    is_foreign: bool,
    /// Whether the provider counts what is charged.
    counts: bool,
    /// What one end without a word about its usage stands for.
    piece: Option<Usage>,
    /// Ends that are to come: one for each image.
    expected: u32,
    ended: u32,
    begun: bool,
    used: Option<Usage>,
}

impl MediaDecoder {
    pub(in crate::openai) fn new(quirks: &Quirks, call: &Call) -> Self {
        let makes = makes(call.operation);
        let is_foreign = quirks.speech == SpeechWords::Mistral;
        let expected = if makes == Makes::Images { call.envelope.choices } else { 1 };
        Self {
            makes,
            is_foreign,
            counts: !(is_foreign && makes == Makes::Sound), // Mistral counts tokens of speech and charges characters
            piece: (makes == Makes::Images).then(|| images::by_piece(call, 1)),
            expected,
            ended: 0,
            begun: false,
            used: None,
        }
    }

    fn end(&mut self, event: &Event<'_>, report: &mut Report) {
        self.ended += 1;
        let used = if self.counts { event.usage(self.makes).or(self.piece) } else { None };
        self.used = match (self.used, used) {
            (Some(before), Some(now)) => Some(sum(before, now)),
            (before, now) => now.or(before),
        };
        report.usage = self.used;
        report.finish = Some(FinishReason::Stop);
    }

    /// An error before the answer began is as good as an error status: another target may still answer.
    fn failure(&self, data: &[u8]) -> UpstreamError {
        if self.begun {
            error::in_stream(data)
        } else {
            error::read_in_success(&HeaderMap::new(), &Bytes::copy_from_slice(data))
        }
    }
}

impl StreamDecoder for MediaDecoder {
    fn feed(&mut self, event: &WireEvent<'_>, report: &mut Report) -> Result<Forward, UpstreamError> {
        let data = event.data.trim_ascii();
        if *event.name == *b"error" {
            return Err(self.failure(data));
        }
        if self.is_done() || data.is_empty() || data == DONE {
            return Ok(if data == DONE { Forward::AsIs } else { Forward::Nothing });
        }
        let event = Event::read(data)?;
        report.output_bytes += event.visible_bytes();
        match event.kind() {
            Kind::Error => return Err(self.failure(data)),
            Kind::End => self.end(&event, report),
            _ => {}
        }
        self.begun = true;
        Ok(match event.translated().filter(|_| self.is_foreign) {
            Some(translated) => Forward::Instead(frame(&translated)),
            None if self.is_foreign => Forward::Nothing,
            None => Forward::AsIs,
        })
    }

    fn is_done(&self) -> bool {
        self.ended >= self.expected
    }

    /// Fewer images than were asked for are an answer too.
    fn finish(&mut self, _report: &mut Report) -> Result<Bytes, UpstreamError> {
        match self.ended {
            0 => Err(UpstreamError::Truncated { message: "the stream ended before its last event".into() }),
            _ => Ok(Bytes::new()),
        }
    }
}

pub(super) const fn makes(operation: Operation) -> Makes {
    match operation {
        Operation::Speech => Makes::Sound,
        Operation::Transcriptions | Operation::Translations => Makes::Words,
        _ => Makes::Images,
    }
}

fn sum(left: Usage, right: Usage) -> Usage {
    right.used().fold(left, |sum, (meter, quantity)| sum.with(meter, sum.get(meter).saturating_add(quantity)))
}

fn frame(event: &Value) -> Bytes {
    let name = event["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {event}\n\n").into()
}

/// The events that say what a complete answer says, for servers that ignore the wish for a stream.
pub(super) fn stream_of(call: &Call, reply: &WholeReply) -> Result<Bytes, UpstreamError> {
    if call.operation == Operation::Speech {
        let audio = STANDARD.encode(&reply.body);
        let events = [json!({"type": "speech.audio.delta", "audio": audio}), json!({"type": "speech.audio.done"})];
        return Ok(events.iter().map(frame).collect::<Vec<_>>().concat().into());
    }
    let answer = Value::Object(super::object(&reply.body)?);
    let events = match call.operation {
        Operation::Transcriptions | Operation::Translations => {
            vec![json!({"type": "transcript.text.done", "text": answer["text"], "usage": answer["usage"]})]
        }
        operation => images_of(operation, &answer),
    };
    Ok(events.iter().map(frame).collect::<Vec<_>>().concat().into())
}

/// The usage of all images stands at the last one.
fn images_of(operation: Operation, answer: &Value) -> Vec<Value> {
    let kind = if operation == Operation::ImageEdits { "image_edit" } else { "image_generation" };
    let images = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = images.len().saturating_sub(1);
    let event = |(index, image): (usize, &Value)| {
        let usage = if index == last { answer["usage"].clone() } else { Value::Null };
        json!({
            "type": format!("{kind}.completed"), "b64_json": image["b64_json"], "created_at": answer["created"],
            "background": answer["background"], "output_format": answer["output_format"], "quality": answer["quality"],
            "size": answer["size"], "usage": usage,
        })
    };
    images.iter().enumerate().map(event).collect()
}
