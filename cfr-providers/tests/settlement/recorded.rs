//! Recorded conversations, and the ways in which their exchange can go.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, Operation};
use cfr_providers::transport::replay::Exchange;
use http::StatusCode;
use serde_json::{Value, json};

use crate::books::MODEL;
use crate::frames::{Framing, Rewrite, exception};
use crate::heard::{Heard, Tongue};
use crate::support;
use crate::wire::{End, Script};

/// A prompt of this text is estimated where nobody counted it.
const PROMPT: &str = "Hi";
/// What a confused server sends after the end.
const MORE: &[u8] =
    b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"more\"}}],\"usage\":{\"prompt_tokens\":7}}\n\n";
/// Providers that answer in the words of others, whose recordings they play, too.
const SPEAKS_LIKE: [(&str, &str); 3] = [("azure_anthropic", "anthropic"), ("custom", "openai"), ("vertex", "gemini")];

/// A recorded conversation that succeeds.
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) expect: Value,
    exchange: Exchange,
    framing: Framing,
    tongue: Tongue,
}

impl Recorded {
    fn read(file: &Path) -> Option<Self> {
        let recording: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let exchange = Exchange::read(file).unwrap();
        let path = &exchange.path;
        let talks =
            ["chat", "/messages", "/responses", "enerateContent", "/converse"].iter().any(|end| path.contains(end));
        let expect = recording["expect"].clone();
        let provider = support::provider_of(file);
        let name = format!("{provider}/{}", file.file_stem().unwrap().to_str().unwrap());
        let content_type = exchange.headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        let (framing, tongue) = (Framing::of(content_type), Tongue::of(path));
        let counts = !expect["input_tokens"].is_null();
        let good = talks && !counts && exchange.status.is_success() && expect["error"].is_null();
        good.then_some(Self { name, exchange, framing, tongue, expect })
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.framing != Framing::Whole
    }

    /// Whether the provider counted.
    pub(crate) fn is_counted(&self) -> bool {
        !self.expect["usage"].is_null()
    }

    /// What these bytes of the answer say.
    pub(crate) fn heard(&self, bytes: &[u8]) -> Heard {
        self.tongue.heard(self.framing, bytes)
    }

    pub(crate) fn script(&self) -> Script {
        let body = &self.exchange.body;
        let ends = self.framing.ends(body);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let pieces = starts.zip(ends.iter().copied()).map(|(start, end)| body.slice(start..end)).collect();
        Script { status: StatusCode::OK, headers: self.exchange.headers.clone(), pieces, end: End::Clean }
    }

    /// With another usage.
    pub(crate) fn rewritten(&self, rewrite: Rewrite) -> Script {
        Script { pieces: vec![self.framing.rewritten(&self.exchange.body, rewrite)], ..self.script() }
    }

    /// Only so many frames, and then this.
    pub(crate) fn cut(&self, frames: usize, end: End) -> Script {
        let script = self.script();
        Script { pieces: script.pieces.into_iter().take(frames).collect(), end, ..script }
    }

    /// So many frames and half of the next one, and then this.
    pub(crate) fn torn(&self, frames: usize, end: End) -> Script {
        let mut script = self.cut(frames + 1, end);
        let half = script.pieces[frames].len() / 2;
        script.pieces[frames].truncate(half);
        script
    }

    pub(crate) fn status(&self, status: u16) -> Script {
        let mut script = Script { status: StatusCode::from_u16(status).unwrap(), ..self.script() };
        script.headers.insert("content-type", "application/json".parse().unwrap());
        script.headers.insert("retry-after", "0".parse().unwrap());
        script.pieces = vec![Bytes::from_static(b"{\"error\":{\"message\":\"no\"}}")];
        script
    }

    pub(crate) fn followed_by_more(&self) -> Script {
        let mut script = self.script();
        script.pieces.push(Bytes::from_static(MORE));
        script
    }

    /// So many frames, and then one by which this provider says that it failed.
    pub(crate) fn failing(&self, frames: usize) -> Script {
        let mut script = self.cut(frames, End::Clean);
        script.pieces.push(self.failure().into());
        script
    }

    fn failure(&self) -> Vec<u8> {
        let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n").into_bytes();
        match self.tongue {
            Tongue::Chat => b"data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n".to_vec(),
            Tongue::Messages => {
                event("error", json!({"type": "error", "error": {"type": "api_error", "message": "no"}}))
            }
            Tongue::Responses => event(
                "response.failed",
                json!({
                    "type": "response.failed", "sequence_number": 99,
                    "response": {"id": "r", "status": "failed", "output": [], "error": {"code": "server_error", "message": "no"}},
                }),
            ),
            Tongue::Generate => {
                b"data: {\"error\":{\"code\":500,\"message\":\"no\",\"status\":\"INTERNAL\"}}\n\n".to_vec()
            }
            Tongue::Converse => exception("internalServerException", br#"{"message":"no"}"#),
            Tongue::Cohere => {
                event("message-end", json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "no"}}))
            }
            Tongue::Ollama => b"{\"error\":\"no\"}\n".to_vec(),
        }
    }

    /// The prompt, in the words of a caller.
    pub(crate) fn call(&self, operation: Operation) -> Call {
        let stream = self.is_stream();
        let messages = json!([{"role": "user", "content": PROMPT}]);
        let body = match operation {
            Operation::Responses => {
                json!({"model": MODEL, "max_output_tokens": 900, "stream": stream, "store": false, "input": PROMPT})
            }
            Operation::GenerateContent => json!({
                "contents": [{"role": "user", "parts": [{"text": PROMPT}]}], "generationConfig": {"maxOutputTokens": 900},
            }),
            _ => json!({"model": MODEL, "max_tokens": 900, "stream": stream, "messages": messages}),
        };
        let body = Bytes::from(body.to_string());
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        if operation != Operation::GenerateContent {
            return Call::parse(operation, body, now).unwrap();
        }
        let envelope = Envelope::parse_named(operation, MODEL, stream, &body).unwrap();
        let any = Call::parse(Operation::Embeddings, r#"{"model":"m","input":"x"}"#.into(), now).unwrap();
        Call { operation, envelope, body, ..any }
    }
}

/// The recordings of a folder, by provider.
pub(crate) fn recordings(folder: &Path) -> BTreeMap<String, Vec<Recorded>> {
    let mut providers = BTreeMap::<String, Vec<Recorded>>::new();
    for file in support::recordings_in(folder, |provider| support::adapter(provider).is_some()) {
        let whose = support::provider_of(&file);
        let like = SPEAKS_LIKE.into_iter().filter(|(_, model)| whose == *model).map(|(like, _)| like);
        for provider in like.chain([&*whose]) {
            providers.entry(provider.to_owned()).or_default().extend(Recorded::read(&file));
        }
    }
    assert!(!providers.is_empty(), "no recordings");
    providers
}
