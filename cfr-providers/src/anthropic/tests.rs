//! Recordings and mapping vectors of this dialect, and what both sides of it say. Here is what these tests share.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::{Call, Envelope, Meter, Operation};
use cfr_core::id::RequestId;
use cfr_core::upstream::{Order, Report, UpstreamError};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::adapter::Framing;
use crate::dialog::{Choice, Part, Piece, Seal, Surface, Text, Thought, ToolCall, Translated};
use crate::framing::Relay;

mod answered;
mod asked;
mod read;
mod untranslated;
mod written;

const MODEL: &str = "claude-sonnet-4-6";

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

fn vector(name: &str) -> Value {
    serde_json::from_slice(&fixture(&format!("mapping/{name}.json"))).unwrap()
}

fn adapter() -> Translated<Anthropic> {
    Translated(Anthropic::new(None).unwrap())
}

fn call(operation: Operation, body: &Value) -> Call {
    let body = Bytes::from(body.to_string());
    let envelope = Envelope::parse(operation, &body).unwrap();
    let (tags, cache) = (cfr_core::chat::Tags::default(), cfr_core::cache::CacheUse::default());
    Call {
        id: RequestId::from_u128(1),
        operation,
        envelope,
        body,
        files: Vec::new(),
        tags,
        cache,
        drop_params: false,
        betas: None,
        dialect_version: None,
    }
}

fn order<'a>(call: &'a Call, model: &'a str, cap: Option<u64>) -> Order<'a> {
    Order { call, model, output_tokens_max: cap, timeout: Duration::ZERO, idle_timeout: Duration::ZERO }
}

fn encoded(call: &Call, model: &str, cap: Option<u64>) -> Result<(Value, Vec<Box<str>>), UpstreamError> {
    let request = adapter().encode(&order(call, model, cap))?;
    Ok((serde_json::from_slice(&request.body).unwrap(), request.dropped))
}

/// The body for a chat request.
#[track_caller]
fn body(model: &str, more: Value) -> Value {
    let mut chat = json!({"model": "x", "messages": [{"role": "user", "content": "Hi"}]});
    chat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    encoded(&call(Operation::ChatCompletions, &chat), model, None).unwrap().0
}

fn refused(model: &str, more: Value) -> String {
    let mut chat = json!({"model": "x", "messages": [{"role": "user", "content": "Hi"}]});
    chat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match encoded(&call(Operation::ChatCompletions, &chat), model, None).unwrap_err() {
        UpstreamError::Unsupported { message } => message.into(),
        other => panic!("{other:?}"),
    }
}

/// A request of a client of the dialect.
fn messages(more: Value) -> Call {
    let mut body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call(Operation::Messages, &body)
}

/// An answer with proofs of all kinds.
fn proven() -> Answer {
    let call = |id: &str, seal| ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: r#"{"a":1}"#.into(),
        custom: false,
        seal,
        cache: None,
    };
    let openai = Seal::OpenAi { id: "rs_1".into(), encrypted: Some("e".into()) };
    let parts = vec![
        Part::Thought(Thought { text: "so".into(), seal: Some(openai) }),
        Part::Thought(Thought { text: "ok".into(), seal: Some(Seal::Anthropic("EqQB".into())) }),
        Part::Thought(Thought { text: String::new(), seal: Some(Seal::AnthropicRedacted("d".into())) }),
        Part::Text(Text { seal: Some(Seal::Gemini("g0".into())), ..Text::new("words") }),
        Part::ToolCall(call("toolu_1", Some(Seal::Gemini("g1".into())))),
        Part::ToolCall(call("toolu_2", None)),
        Part::Thought(Thought { text: "hm".into(), seal: None }),
    ];
    let choice =
        Choice { parts, finish: cfr_core::upstream::FinishReason::ToolCalls, stop_sequence: None, logprobs: None };
    Answer { choices: vec![choice], ..Answer::default() }
}
