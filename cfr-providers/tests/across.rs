//! Every recorded answer of every provider, as callers of every dialect understand it.
//!
//! See `recorded` for where the files are. What a file expects is in OpenAI's words; a caller of another dialect must
//! be told the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::{Call, Dialect, Envelope, Operation};
use cfr_core::id::RequestId;
use cfr_core::upstream::UpstreamError;
use cfr_providers::adapter::Adapter;
use cfr_providers::framing::Relay;
use cfr_providers::transport::replay::Exchange;
use serde_json::{Value, json};
use support::{Outcome, Spoken};

/// How callers ask for a conversation.
const CONVERSATIONS: [Operation; 4] =
    [Operation::ChatCompletions, Operation::Messages, Operation::Responses, Operation::GenerateContent];

/// Bytes between two cuts of a stream. A prime: it comes by every place of a repeated frame.
const OTHERS_CUT_EVERY: usize = 11;

/// A recorded answer.
struct Recorded {
    name: String,
    adapter: Arc<dyn Adapter>,
    exchange: Exchange,
    expect: Value,
}

impl Recorded {
    fn read(file: &Path) -> Self {
        let recording: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let provider = &*support::provider_of(file);
        let name = format!("{provider}/{}", file.file_stem().unwrap().to_str().unwrap());
        let adapter = support::adapter(provider).unwrap_or_else(|| panic!("{name}: no provider of that name"));
        Self { name, adapter, exchange: Exchange::read(file).unwrap(), expect: recording["expect"].clone() }
    }

    /// Whether a conversation is recorded: other work has no dialects.
    fn is_conversation(&self) -> bool {
        let other = ["vector", "input_tokens", "models", "flagged", "search_units", "results"];
        let path = &self.exchange.path;
        let text_completion = path.ends_with("/completions") && !path.contains("chat");
        let other_path = ["/embeddings", "/rerank", "/moderations", "/generations", "/transcriptions", "/translations"]
            .iter()
            .any(|end| path.ends_with(end));
        let other_work = other_path || other.iter().any(|field| !self.expect[*field].is_null());
        !other_work && !text_completion
    }

    fn is_stream(&self) -> bool {
        let content_type = self.exchange.headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        let whole = content_type.contains("json") && !content_type.contains("ndjson") || content_type.contains("html");
        self.exchange.status.is_success() && !whole
    }

    fn call(&self, operation: Operation) -> Call {
        let stream = self.is_stream();
        let body = match operation {
            Operation::Messages => {
                json!({"model": "m", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
            }
            Operation::Responses => json!({"model": "m", "stream": stream, "input": "Hi"}),
            Operation::GenerateContent => json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
            _ => json!({
                "model": "m", "stream": stream, "stream_options": {"include_usage": true},
                "messages": [{"role": "user", "content": "Hi"}],
            }),
        };
        let body = Bytes::from(body.to_string());
        let envelope = match operation {
            Operation::GenerateContent => Envelope::parse_named(operation, "m", stream, &body),
            _ => Envelope::parse(operation, &body),
        };
        let envelope = envelope.unwrap();
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

    /// What a caller is handed when the network brings the answer in pieces of this size.
    fn answer(&self, call: &Call, piece_bytes: usize) -> Outcome {
        let Exchange { status, headers, body, .. } = &self.exchange;
        if !status.is_success() {
            let error = self.adapter.decode_error(call, *status, headers, body);
            return Outcome { error: Some(error), ..Outcome::default() };
        }
        if self.is_stream() {
            return self.relayed(call, body.chunks(piece_bytes));
        }
        match self.adapter.decode(call, headers, body.clone()) {
            Ok(reply) => Outcome { bytes: reply.body, report: reply.report, error: None },
            Err(error) => Outcome { error: Some(error), ..Outcome::default() },
        }
    }

    fn relayed<'a>(&self, call: &Call, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
        let mut relay = Relay::new(self.adapter.framing(), self.adapter.stream_decoder(call));
        let (mut bytes, mut outcome) = (BytesMut::new(), Outcome::default());
        for piece in pieces.map(Some).chain([None]) {
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
        Outcome { bytes: bytes.freeze(), ..outcome }
    }

    #[track_caller]
    fn check(&self, dialect: Dialect, outcome: &Outcome) {
        let name = format!("{} for {dialect:?}", self.name);
        if !self.expect["error"].is_null() {
            let error = outcome.error.as_ref().unwrap_or_else(|| panic!("{name}: expected an error"));
            // An error before anything was said is as good as an error status: another target may still answer.
            if outcome.bytes.is_empty() && self.expect["error"]["in_stream"] == true {
                return;
            }
            support::check_error(&name, &self.expect["error"], error);
            return;
        }
        assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
        let spoken = Spoken::of(dialect, &outcome.bytes);
        assert!(spoken.done && spoken.has_ended(), "{name}: {spoken:?}");
        let said = |field: &str| self.expect[field].as_str();
        // Anthropic's and Gemini's dialects have no refusals: they are words.
        let expected = format!("{}{}", said("text").unwrap_or(""), said("refusal").unwrap_or(""));
        // A refusal that the provider has no words for gets words of ours.
        let is_wordless = expected.is_empty() && said("finish_reason") == Some("content_filter");
        if said("text").or(said("refusal")).is_some() && !is_wordless {
            assert_eq!(format!("{}{}", spoken.text, spoken.refusal), expected, "{name}: text");
        }
        if let Some(expected) = said("reasoning_text") {
            assert_eq!(spoken.reasoning, expected, "{name}: reasoning");
        }
        if let Some(expected) = said("finish_reason") {
            assert_eq!(outcome.report.finish.as_ref().map(|finish| finish.name()), Some(expected), "{name}: report");
            // Where a refusal is a reason to stop, it is not just a stop.
            let refused = said("refusal").is_some() && spoken.finish.as_deref() == Some("content_filter");
            assert!(refused || spoken.finish.as_deref() == Some(expected), "{name}: finish {:?}", spoken.finish);
        }
        if let Some(expected) = self.expect["tool_calls"].as_array() {
            assert_eq!(&spoken.calls(), expected, "{name}: calls");
        }
        support::check_usage(&name, &self.expect["usage"], &outcome.report);
    }
}

/// Runs a check on each; says all that failed.
fn check_all(check: impl Fn(&Recorded, Operation)) {
    let mut failed = Vec::new();
    for recorded in conversations() {
        for operation in CONVERSATIONS {
            // Only two dialects have several answers to one call.
            let several = matches!(operation.dialect(), Dialect::OpenAi | Dialect::Gemini);
            if !several && recorded.name.ends_with("n2_stream") {
                continue;
            }
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&recorded, operation)));
            if let Err(cause) = checked {
                let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
                failed.push(format!("{} for {operation:?}: {}", recorded.name, text.unwrap_or("?")));
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

fn conversations() -> Vec<Recorded> {
    let files = support::recordings(|provider| support::adapter(provider).is_some());
    files.iter().map(|file| Recorded::read(file)).filter(Recorded::is_conversation).collect()
}

#[test]
fn every_folder_of_recordings_is_a_providers() {
    let unknown = support::recordings(|provider| support::adapter(provider).is_none());
    assert!(unknown.is_empty(), "no provider of that name: {unknown:?}");
}

#[test]
fn every_caller_is_told_what_the_provider_said() {
    check_all(|recorded, operation| {
        let call = recorded.call(operation);
        for piece_bytes in [usize::MAX, 7, 1] {
            recorded.check(operation.dialect(), &recorded.answer(&call, piece_bytes));
        }
    });
}

#[test]
fn a_stream_cut_anywhere_is_truncated_or_complete_for_every_caller() {
    check_all(|recorded, operation| {
        if !recorded.is_stream() || !recorded.expect["error"].is_null() {
            return;
        }
        let call = recorded.call(operation);
        // Everywhere for one dialect; for the others often enough to meet every kind of place.
        let step = if operation == Operation::ChatCompletions { 1 } else { OTHERS_CUT_EVERY };
        for at in (1..recorded.exchange.body.len()).step_by(step) {
            let cut = recorded.relayed(&call, [&recorded.exchange.body[..at]].into_iter());
            match &cut.error {
                None => assert!(Spoken::of(operation.dialect(), &cut.bytes).done, "cut at {at}"),
                Some(error) => assert!(matches!(error, UpstreamError::Truncated { .. }), "cut at {at}: {error}"),
            }
        }
    });
}

#[test]
fn what_follows_the_end_of_a_stream_in_the_same_read_changes_nothing() {
    const MORE: &[u8] = b"\0\xff\n\ndata: {\"usage\":{\"input_tokens\":9}}\n\ndata: half";
    check_all(|recorded, operation| {
        let call = recorded.call(operation);
        let mut relay = Relay::new(recorded.adapter.framing(), recorded.adapter.stream_decoder(&call));
        let alone = relay.push(recorded.exchange.body.clone());
        if !recorded.is_stream() || !relay.is_done() {
            return; // more is waited for
        }
        let more = Bytes::from([&recorded.exchange.body[..], MORE].concat());
        let followed = Relay::new(recorded.adapter.framing(), recorded.adapter.stream_decoder(&call)).push(more);
        assert_eq!((&followed.event.bytes, &followed.event.report), (&alone.event.bytes, &alone.event.report));
        assert_eq!(followed.error.is_some(), alone.error.is_some(), "{:?}", followed.error);
    });
}
