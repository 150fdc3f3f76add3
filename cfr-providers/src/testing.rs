//! What tests of several wire formats share: calls, and what a client of OpenAI's dialect makes of the answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::{Call, Meter, Operation, Usage};
use cfr_core::id::RequestId;
use cfr_core::time::Timestamp;
use cfr_core::upstream::{Order, Report, UpstreamError};
use serde_json::{Value, json};

use crate::adapter::Adapter;
use crate::framing::Relay;

mod key_server;

pub(crate) use key_server::KeyServer;

/// A chat completion.
pub(crate) fn call(body: &Value) -> Call {
    let body = Bytes::from(body.to_string());
    let call = Call::parse(Operation::ChatCompletions, body, Timestamp::UNIX_EPOCH).expect("a call");
    Call { id: RequestId::from_u128(1), ..call }
}

/// One attempt at a call, by the provider's own name of the model.
pub(crate) fn order<'a>(call: &'a Call, model: &'a str) -> Order<'a> {
    let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
    Order { call, model, output_tokens_max: None, timeout, idle_timeout }
}

/// A short conversation with more members.
pub(crate) fn asking(more: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

pub(crate) fn fixtures(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder)
}

pub(crate) fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// What a client of OpenAI's dialect understands.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<(String, String, String)>,
    pub(crate) finish: Option<String>,
    pub(crate) blocks: Vec<Value>,
    pub(crate) done: bool,
}

impl Heard {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut heard = Self::default();
        let text = str::from_utf8(bytes).expect("text");
        if text.starts_with('{') {
            heard.add(&serde_json::from_str(text).expect("JSON"), "message");
        }
        for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            match data {
                "[DONE]" => heard.done = true,
                data => heard.add(&serde_json::from_str(data).expect("JSON"), "delta"),
            }
        }
        heard
    }

    fn add(&mut self, chunk: &Value, part: &str) {
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let said = &choice[part];
            self.text += said["content"].as_str().unwrap_or("");
            self.reasoning += said["reasoning_content"].as_str().unwrap_or("");
            self.blocks.extend(said["thinking_blocks"].as_array().into_iter().flatten().cloned());
            for (at, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
                let at = call["index"].as_u64().map_or(at, |index| usize::try_from(index).expect("an index"));
                self.calls.resize_with(self.calls.len().max(at + 1), Default::default);
                self.calls[at].0 += call["id"].as_str().unwrap_or("");
                self.calls[at].1 += call["function"]["name"].as_str().unwrap_or("");
                self.calls[at].2 += call["function"]["arguments"].as_str().unwrap_or("");
            }
            self.finish = choice["finish_reason"].as_str().map(str::to_owned).or(self.finish.take());
        }
    }
}

/// How a call went.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) bytes: Bytes,
    pub(crate) report: Report,
    pub(crate) error: Option<UpstreamError>,
}

impl Outcome {
    /// A stream as the network brings it in these pieces.
    pub(crate) fn of<'a>(adapter: &dyn Adapter, pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let call = call(&asking(json!({"stream": true, "stream_options": {"include_usage": true}})));
        let mut relay = Relay::new(adapter.framing(), adapter.stream_decoder(&call));
        let (mut bytes, mut outcome) = (BytesMut::new(), Self::default());
        for piece in pieces.into_iter().map(Some).chain([None]) {
            if outcome.error.is_some() || relay.is_done() {
                break;
            }
            let relayed = match piece {
                Some(piece) => relay.push(Bytes::copy_from_slice(piece)),
                None => relay.finish(),
            };
            bytes.extend_from_slice(&relayed.event.bytes);
            outcome.report.absorb(relayed.event.report);
            outcome.error = relayed.error;
        }
        Self { bytes: bytes.freeze(), ..outcome }
    }

    /// Whether it is what a recording expects.
    #[track_caller]
    pub(crate) fn check(&self, expected: &Value) {
        let heard = Heard::of(&self.bytes);
        assert!(self.error.is_none(), "{:?}", self.error);
        assert_eq!(heard.finish.as_deref(), expected["finish_reason"].as_str());
        assert_eq!(self.report.finish.as_ref().map(|finish| finish.name()), expected["finish_reason"].as_str());
        if let Some(text) = expected["text"].as_str() {
            assert_eq!(heard.text, text);
        }
        if let Some(reasoning) = expected["reasoning_text"].as_str() {
            assert_eq!(heard.reasoning, reasoning);
        }
        let calls = heard.calls.iter().map(|(id, name, arguments)| {
            json!({"id": id, "name": name, "arguments": serde_json::from_str::<Value>(arguments).expect("JSON")})
        });
        let none = Vec::new();
        assert_eq!(&calls.collect::<Vec<_>>(), expected["tool_calls"].as_array().unwrap_or(&none));
        assert_eq!(self.report.usage, Some(usage_of(&expected["usage"])));
    }
}

fn usage_of(expected: &Value) -> Usage {
    let count = |name: &str| expected[name].as_u64().unwrap_or(0);
    Usage::text(count("input_uncached"), count("output_total"))
        .with(Meter::CacheReadTokens, count("cache_read"))
        .with(Meter::CacheWriteTokens, count("cache_write"))
        .with(Meter::CacheWrite1hTokens, count("cache_write_1h"))
}
