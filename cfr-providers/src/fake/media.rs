//! Images, speech and transcripts of the fake provider: a dot, a tone, and words that nobody said.
//!
//! It answers in OpenAI's words, as OpenAI's models do that are charged by tokens or by the piece, and the answer is read
//! as OpenAI's would be. An image costs 272 tokens, one that is given 65; sound costs a token for every 50 milliseconds.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cfr_core::chat::Operation;
use cfr_core::chat::envelope::Work;
use cfr_core::upstream::{EventStream, Order, Reply, StreamEvent, StreamReply, UpstreamError};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::foreign::{NOWHERE, relayed};
use super::log::Entry;
use super::prompt::Prompt;
use super::words::{self, Dice};
use crate::adapter::{Adapter, Framing};
use crate::framing::Relay;
use crate::openai::OpenAi;
use crate::openai::quirks::OPENAI;
use crate::wav;

/// A picture of one dot.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const IMAGE_TOKENS: u64 = 272;
const GIVEN_IMAGE_TOKENS: u64 = 65;
/// Words of a transcript, and of one of its segments.
const WORDS: u64 = 12;
const SEGMENT_WORDS: usize = 4;
const SAMPLES_PER_SECOND: u32 = 8_000;
/// Samples of 50 milliseconds.
const SAMPLES_PER_TOKEN: u32 = SAMPLES_PER_SECOND / 20;
/// The longest sound: ten seconds.
const SOUND_TOKENS_MAX: u64 = 200;

pub(super) fn reply(prompt: &Prompt, order: &Order<'_>, pace: Duration, entry: &Entry) -> Result<Reply, UpstreamError> {
    if prompt.script.breaks() {
        return Err(UpstreamError::Truncated { message: "ordered by the prompt".into() });
    }
    let adapter = OpenAi::new(&OPENAI, Some(NOWHERE));
    let adapter = adapter.map_err(|_| UpstreamError::Unreachable { message: NOWHERE.into() })?;
    let said = Said::of(prompt, order);
    entry.add(said.tokens);
    entry.finish();
    if order.call.envelope.stream {
        let relay = Relay::new(Framing::Sse, adapter.stream_decoder(order.call));
        let events = relayed(paced(said.events(prompt, order), pace), relay);
        return Ok(Reply::Stream(StreamReply { events, upstream_id: None, dropped: Vec::new() }));
    }
    let (kind, body) = said.whole(order);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    adapter.decode(order.call, &headers, body).map(Reply::Whole)
}

fn paced(events: Vec<Value>, pace: Duration) -> EventStream {
    let frames = events.into_iter().map(|event| Bytes::from(format!("data: {event}\n\n")));
    let paced = stream::iter(frames).then(move |bytes| async move {
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        Ok(StreamEvent { bytes, ..StreamEvent::default() })
    });
    paced.boxed()
}

/// What is answered, and what it costs.
struct Said {
    /// Of the answer.
    tokens: u64,
    /// The usage where the model is charged by tokens.
    usage: Option<Value>,
    /// The complete answer as JSON, but for sound.
    answer: Value,
    sound: Bytes,
    words: Vec<String>,
}

impl Said {
    fn of(prompt: &Prompt, order: &Order<'_>) -> Self {
        let said = match order.call.operation {
            Operation::Speech => Self::speech(prompt),
            Operation::Transcriptions | Operation::Translations => Self::transcript(prompt, order),
            _ => Self::images(prompt, order),
        };
        let reports = order.model.contains("gpt-") && !prompt.script.no_usage;
        Self { usage: said.usage.filter(|_| reports), ..said }
    }

    fn images(prompt: &Prompt, order: &Order<'_>) -> Self {
        let (made, given) = (u64::from(prompt.choices), u64::from(order.call.envelope.input.images));
        let (given_tokens, tokens) = (given * GIVEN_IMAGE_TOKENS, made * IMAGE_TOKENS);
        let data: Vec<Value> = (0..made).map(|_| json!({"b64_json": PNG})).collect();
        let usage = json!({
            "input_tokens": prompt.tokens + given_tokens, "output_tokens": tokens,
            "input_tokens_details": {"text_tokens": prompt.tokens, "image_tokens": given_tokens},
            "output_tokens_details": {"image_tokens": tokens, "text_tokens": 0},
            "total_tokens": prompt.tokens + given_tokens + tokens,
        });
        let answer = json!({
            "created": prompt.identity(order).1, "background": "opaque", "output_format": "png", "quality": "low",
            "size": "1024x1024", "data": data,
        });
        Self { tokens, usage: Some(usage), answer, sound: Bytes::new(), words: Vec::new() }
    }

    fn speech(prompt: &Prompt) -> Self {
        let tokens = prompt.tokens.clamp(1, SOUND_TOKENS_MAX);
        let total = prompt.tokens + tokens;
        let usage = json!({"input_tokens": prompt.tokens, "output_tokens": tokens, "total_tokens": total});
        let sound = tone(u32::try_from(tokens).unwrap_or(1) * SAMPLES_PER_TOKEN);
        Self { tokens, usage: Some(usage), answer: Value::Null, sound, words: Vec::new() }
    }

    fn transcript(prompt: &Prompt, order: &Order<'_>) -> Self {
        let seconds = match order.call.envelope.input.work {
            Work::Transcript(recording) => recording.seconds.saturating_sub(1).max(1),
            _ => 1,
        };
        let mut dice = Dice::new(prompt.seed);
        let words = words::tokens(&format!("This is {}, listening.", order.model), &mut dice, WORDS);
        let segments: Vec<Value> = words
            .chunks(SEGMENT_WORDS)
            .enumerate()
            .map(|(id, words)| json!({"id": id, "start": id, "end": id + 1, "text": words.concat()}))
            .collect();
        let (heard, said) = (seconds * 10, words.len() as u64);
        let usage = json!({
            "type": "tokens", "input_tokens": heard + prompt.tokens, "output_tokens": said,
            "input_token_details": {"audio_tokens": heard, "text_tokens": prompt.tokens},
            "total_tokens": heard + prompt.tokens + said,
        });
        let answer = json!({
            "task": "transcribe", "language": "english", "duration": seconds, "text": words.concat(), "segments": segments,
        });
        Self { tokens: said, usage: Some(usage), answer, sound: Bytes::new(), words }
    }

    /// The complete answer, in the format that the provider is asked for.
    fn whole(self, order: &Order<'_>) -> (&'static str, Bytes) {
        let Self { usage, mut answer, sound, .. } = self;
        if order.call.operation == Operation::Speech {
            let Some(usage) = usage else { return ("audio/wav", sound) };
            let events = [
                json!({"type": "speech.audio.delta", "audio": STANDARD.encode(sound)}),
                json!({"type": "speech.audio.done", "usage": usage}),
            ];
            let events = events.map(|event| format!("data: {event}\n\n")).concat();
            return ("text/event-stream", events.into());
        }
        if let Some(usage) = usage {
            answer["usage"] = usage;
            answer.as_object_mut().map(|answer| answer.remove("duration")); // such models do not say it
        }
        ("application/json", answer.to_string().into())
    }

    fn events(self, prompt: &Prompt, order: &Order<'_>) -> Vec<Value> {
        let Self { usage, answer, sound, words, .. } = self;
        match order.call.operation {
            Operation::Speech => {
                let pieces = sound.chunks(SAMPLES_PER_TOKEN as usize * 2);
                let pieces = pieces.map(|piece| json!({"type": "speech.audio.delta", "audio": STANDARD.encode(piece)}));
                pieces.chain([json!({"type": "speech.audio.done", "usage": usage})]).collect()
            }
            Operation::Transcriptions => {
                let deltas = words.iter().map(|word| json!({"type": "transcript.text.delta", "delta": word}));
                let end = json!({"type": "transcript.text.done", "text": answer["text"], "usage": usage});
                deltas.chain([end]).collect()
            }
            operation => {
                let kind = if operation == Operation::ImageEdits { "image_edit" } else { "image_generation" };
                image_events(kind, prompt, &answer, usage.as_ref())
            }
        }
    }
}

/// Unfinished images as asked for, and the images; what they used stands at the last one.
fn image_events(kind: &str, prompt: &Prompt, answer: &Value, usage: Option<&Value>) -> Vec<Value> {
    let event = |kind: String| {
        json!({
            "type": kind, "b64_json": PNG, "created_at": answer["created"], "background": "opaque",
            "output_format": "png", "quality": "low", "size": "1024x1024",
        })
    };
    let partial = (0..prompt.body["partial_images"].as_u64().unwrap_or(0)).map(|index| {
        let mut partial = event(format!("{kind}.partial_image"));
        partial["partial_image_index"] = index.into();
        partial
    });
    let mut completed: Vec<Value> = (0..prompt.choices).map(|_| event(format!("{kind}.completed"))).collect();
    let no_tokens = json!({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_tokens_details": {"text_tokens": 0, "image_tokens": 0}});
    for (left, event) in (0..completed.len()).rev().zip(&mut completed) {
        if let Some(usage) = usage {
            event["usage"] = if left == 0 { usage.clone() } else { no_tokens.clone() };
        }
    }
    partial.chain(completed).collect()
}

/// A tone as a WAV file.
fn tone(samples: u32) -> Bytes {
    let wave = (0..samples).flat_map(|sample| (if sample / 9 % 2 == 0 { 4_000_i16 } else { -4_000 }).to_le_bytes());
    wav::file(SAMPLES_PER_SECOND, &wave.collect::<Vec<_>>()).unwrap_or_default()
}
