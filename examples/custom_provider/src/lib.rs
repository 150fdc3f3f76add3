//! A provider of your own.
//!
//! *Parrot* is a made-up server with a dialect of its own: it takes one prompt and answers word by word.
//!
//! ```text
//! POST /v1/speak {"model": "grey", "prompt": "user: Hello", "words_max": 20, "live": true}
//! {"word": "Hello"}                                              one JSON value per line, when `live`
//! {"why": "done", "heard": 2, "spoken": 1}                       the end, with what it counted
//! {"words": "Hello", "why": "done", "heard": 2, "spoken": 1}     all at once, when not
//! {"squawk": "no such parrot"}                                   an error, with a status
//! ```
//!
//! All there is to write is a [`Wire`]: what a conversation is in the provider's words, and what its answer means. With
//! [`Translated`] around it, clients of every dialect are served; with [`HttpUpstream`] around that, it is an upstream of
//! the gateway. `tests/conformance.rs` runs the public suite over it.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::Usage;
use cfr_core::upstream::{Capabilities, FinishReason, Order, Rejection, UpstreamError};
use cfr_providers::HttpUpstream;
use cfr_providers::adapter::{Framing, WireEvent};
use cfr_providers::dialog::{
    Answer, Choice, Dialog, Drops, Format, Manners, Part, Piece, Role, StreamReader, Translated, Wire,
};
use cfr_providers::sign::Unsigned;
use cfr_providers::transport::{BadAddress, Endpoint, Transport, WireRequest};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

/// Parrot's dialect at one address.
#[derive(Debug, Clone)]
pub struct Parrot {
    speak: Arc<Endpoint>,
}

impl Parrot {
    /// The server at `base_url`.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(base_url: &str) -> Result<Self, BadAddress> {
        Ok(Self { speak: Arc::new(Endpoint::below(base_url, "/v1/speak")?) })
    }

    /// The server as an upstream of the gateway.
    #[must_use]
    pub fn upstream(self, transport: Arc<dyn Transport>) -> HttpUpstream {
        HttpUpstream::new(Arc::new(Translated(self)), Arc::new(Unsigned), transport)
    }
}

impl Wire for Parrot {
    fn name(&self) -> &'static str {
        "parrot"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::TEXT;
        (capabilities.completions, capabilities.embeddings) = (false, false);
        capabilities
    }

    fn framing(&self) -> Framing {
        Framing::JsonLines
    }

    /// It hears one prompt, so the order of turns does not matter.
    fn manners(&self, _model: &str) -> Manners {
        Manners::NONE
    }

    fn request(&self, dialog: &Dialog, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        // Without these the answer would mean something else, so the caller is asked before they are left out.
        if !dialog.tools.is_empty() {
            drops.essential("tools")?;
        }
        if dialog.format != Format::Text {
            drops.essential("response_format")?;
        }
        // Without this it means the same.
        if dialog.sampling.temperature.is_some() {
            drops.harmless("temperature");
        }
        let body = json!({
            "model": order.model,
            "prompt": prompt(dialog)?,
            "words_max": dialog.output_tokens_max,
            "live": dialog.stream,
        });
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let body = Bytes::from(body.to_string());
        Ok(WireRequest { endpoint: Arc::clone(&self.speak), headers, body, dropped: Vec::new() })
    }

    fn answer(&self, _headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
        let spoken: Spoken<'_> = read(body)?;
        let end = spoken.end().ok_or_else(|| malformed("an answer without an end"))?;
        let parts = vec![Part::text(spoken.words.unwrap_or_default())];
        let choice = Choice { parts, finish: end.finish, stop_sequence: None, logprobs: None };
        Ok(Answer { choices: vec![choice], usage: Some(end.usage), ..Answer::default() })
    }

    fn error(&self, status: StatusCode, _headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        let spoken: Spoken<'_> = serde_json::from_slice(body).unwrap_or_default();
        let message = spoken.squawk.unwrap_or("no words").into();
        match status.as_u16() {
            401 | 403 => UpstreamError::Account { status, message },
            429 => UpstreamError::RateLimited { retry_after: None, exhausted: false, message },
            500.. => UpstreamError::Failed { status, retry_after: None, message },
            404 => UpstreamError::Rejected { status, kind: Rejection::ModelNotFound, message, body: None },
            _ => UpstreamError::Rejected { status, kind: Rejection::Invalid, message, body: None },
        }
    }

    fn stream(&self) -> Box<dyn StreamReader> {
        Box::new(Words { begun: false, done: false })
    }
}

/// Everything that was said, a line for each turn.
fn prompt(dialog: &Dialog) -> Result<String, UpstreamError> {
    let mut lines: Vec<String> = dialog.system.iter().map(|text| format!("system: {}", text.text)).collect();
    for turn in &dialog.turns {
        let speaker = match turn.role {
            Role::User => "user",
            Role::Assistant => "parrot",
            Role::System => "system",
        };
        for part in &turn.parts {
            let Part::Text(text) = part else {
                return Err(UpstreamError::Unsupported { message: "messages: only words are heard".into() });
            };
            lines.push(format!("{speaker}: {}", text.text));
        }
    }
    Ok(lines.join("\n"))
}

/// A line of a stream, a complete answer, or an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spoken<'a> {
    word: Option<String>,
    words: Option<String>,
    why: Option<&'a str>,
    heard: u64,
    spoken: u64,
    squawk: Option<&'a str>,
}

struct End {
    finish: FinishReason,
    usage: Usage,
}

impl Spoken<'_> {
    fn end(&self) -> Option<End> {
        let finish = match self.why? {
            "done" => FinishReason::Stop,
            "tired" => FinishReason::Length,
            other => FinishReason::Other(other.into()),
        };
        Some(End { finish, usage: Usage::text(self.heard, self.spoken) })
    }
}

fn read(json: &[u8]) -> Result<Spoken<'_>, UpstreamError> {
    serde_json::from_slice(json).map_err(|cause| malformed(&cause.to_string()))
}

fn malformed(message: &str) -> UpstreamError {
    UpstreamError::Malformed { message: message.into() }
}

/// Reads one stream.
struct Words {
    begun: bool,
    done: bool,
}

impl StreamReader for Words {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        let spoken = read(&event.data)?;
        if let Some(squawk) = spoken.squawk {
            return Err(UpstreamError::InStream { message: squawk.into(), frame: None });
        }
        if !std::mem::replace(&mut self.begun, true) {
            pieces.push(Piece::Start { id: String::new(), model: String::new() });
        }
        pieces.extend(spoken.word.clone().map(|text| Piece::Text { choice: 0, text }));
        if let Some(End { finish, usage }) = spoken.end() {
            pieces.push(Piece::Finish { choice: 0, finish, stop_sequence: None });
            pieces.push(Piece::Usage(usage));
            self.done = true;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }

    /// An answer without its last line was cut off.
    fn finish(&mut self, _pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        Err(UpstreamError::Truncated { message: "the parrot fell silent".into() })
    }
}
