//! Responses, recorded: for callers of the same dialect, whose bytes stay bytes, and for callers of chat completions whose
//! model answers there only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::{Call, Dialect, Operation};
use cfr_core::upstream::{FinishReason, Order, Rejection, UpstreamError};
use cfr_providers::Quirks;
use cfr_providers::adapter::Adapter;
use cfr_providers::framing::Relay;
use cfr_providers::openai::{OpenAi, quirks};
use cfr_providers::transport::WireRequest;
use cfr_providers::transport::replay::Exchange;
use serde_json::{Value, json};
use support::{Outcome, Spoken};

fn recorded(name: &str) -> (Exchange, Value) {
    let file = support::own_folder().join("openai_responses").join(name).with_extension("json");
    let recording: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    (Exchange::read(&file).unwrap(), recording["expect"].clone())
}

fn openai() -> OpenAi {
    OpenAi::new(&quirks::OPENAI, None).unwrap()
}

fn encode(quirks: &'static Quirks, call: &Call, model: &str, cap: Option<u64>) -> Result<WireRequest, UpstreamError> {
    let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
    let order = Order { call, model, output_tokens_max: cap, timeout, idle_timeout };
    OpenAi::new(quirks, None).unwrap().encode(&order)
}

fn sent(operation: Operation, body: &Value, model: &str) -> (String, Value) {
    let request = encode(&quirks::OPENAI, &support::call(operation, body), model, None).unwrap();
    (request.endpoint.uri().path().to_owned(), serde_json::from_slice(&request.body).unwrap())
}

fn relayed<'a>(call: &Call, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let adapter: Arc<dyn Adapter> = Arc::new(openai());
    let mut relay = Relay::new(adapter.framing(), adapter.stream_decoder(call));
    let (mut bytes, mut outcome) = (BytesMut::new(), Outcome::default());
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
    Outcome { bytes: bytes.freeze(), ..outcome }
}

fn streamed_call(operation: Operation) -> Call {
    let body = match operation {
        Operation::Responses => json!({"model": "gpt-6.1-sol", "input": "hi", "stream": true}),
        _ => json!({"model": "gpt-6.1-sol", "messages": [{"role": "user", "content": "hi"}], "stream": true}),
    };
    support::call(operation, &body)
}

#[test]
fn a_caller_of_the_same_dialect_sends_and_gets_the_very_bytes() {
    for name in ["plain", "stream", "tool_stream"] {
        let (exchange, _) = recorded(name);
        let call = support::call(Operation::Responses, &exchange.request_body);
        let request = encode(&quirks::OPENAI, &call, &call.envelope.model, None).unwrap();
        assert_eq!(request.endpoint.uri().path(), exchange.path, "{name}");
        assert_eq!(request.body, call.body, "{name}");
        if call.envelope.stream {
            assert_eq!(relayed(&call, [&exchange.body[..]]).bytes, exchange.body, "{name}");
        } else {
            let reply = openai().decode(&call, &exchange.headers, exchange.body.clone()).unwrap();
            assert_eq!(reply.body, exchange.body, "{name}");
        }
    }
}

/// A tool of a type that we do not know goes on as it is; the server may be the one that calls it, so that its calls are
/// capped.
#[test]
fn our_caps_and_the_models_name_are_spliced_and_nothing_else_is_touched() {
    let function = json!({"type": "function", "name": "f"});
    let unknown = json!({"type": "something_new", "x": 1});
    for (tool, caps) in [(function, ""), (unknown, "\"max_tool_calls\":10,")] {
        let body = json!({"model": "m", "input": "hi", "tools": [tool], "stream": true});
        let call = support::call(Operation::Responses, &body);
        let request = encode(&quirks::OPENAI, &call, "gpt-6-sol", Some(70)).unwrap();
        let expected = call.body.strip_prefix(b"{\"model\":\"m\",").unwrap();
        let head = format!("{{\"max_output_tokens\":70,{caps}\"model\":\"gpt-6-sol\",");
        assert_eq!(request.body.strip_prefix(head.as_bytes()), Some(expected));
    }
}

#[test]
fn a_stream_torn_anywhere_says_the_same_to_callers_of_both_dialects() {
    for name in ["stream", "tool_stream"] {
        let (exchange, _) = recorded(name);
        for operation in [Operation::Responses, Operation::ChatCompletions] {
            let call = streamed_call(operation);
            let whole = relayed(&call, [&exchange.body[..]]);
            assert!(whole.error.is_none(), "{name}: {:?}", whole.error);
            // Everywhere for one dialect; for the other often enough to meet every kind of place.
            let step = if operation == Operation::Responses { 1 } else { 7 };
            for at in (1..exchange.body.len()).step_by(step) {
                let torn = relayed(&call, [&exchange.body[..at], &exchange.body[at..]]);
                assert_eq!(torn.bytes.trim_ascii_end(), whole.bytes.trim_ascii_end(), "{name} torn at {at}");
                assert_eq!(torn.report, whole.report, "{name} torn at {at}");
            }
        }
    }
}

#[test]
fn a_failure_before_the_answer_began_is_as_good_as_an_error_status_and_later_it_is_not() {
    let (exchange, _) = recorded("stream_failed");
    let chat = relayed(&streamed_call(Operation::ChatCompletions), [&exchange.body[..]]);
    assert!(matches!(chat.error, Some(UpstreamError::RateLimited { exhausted: false, .. })), "{:?}", chat.error);
    assert_eq!(chat.bytes, "");
    let own = relayed(&streamed_call(Operation::Responses), [&exchange.body[..]]);
    let Some(UpstreamError::InStream { frame: Some(frame), message }) = own.error else { panic!("{:?}", own.error) };
    assert_eq!(&*message, "Rate limit reached.");
    assert!(exchange.body.ends_with(&frame), "{frame:?}");
    let first = exchange.body.windows(2).position(|end| end == b"\n\n").unwrap() + 2;
    let own = relayed(&streamed_call(Operation::Responses), [&exchange.body[first..]]);
    assert!(matches!(own.error, Some(UpstreamError::RateLimited { .. })), "{:?}", own.error);
}

#[test]
fn what_a_failed_response_used_is_reported() {
    let stream = concat!(
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hel\"}\n\n",
        "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",",
        "\"error\":{\"code\":\"server_error\",\"message\":\"sorry\"},\"output\":[],",
        "\"usage\":{\"input_tokens\":7,\"output_tokens\":2}}}\n\n",
    );
    for operation in [Operation::Responses, Operation::ChatCompletions] {
        let outcome = relayed(&streamed_call(operation), [stream.as_bytes()]);
        assert!(matches!(outcome.error, Some(UpstreamError::InStream { .. })), "{:?}", outcome.error);
        assert_eq!(outcome.report.usage.unwrap().input_total(), 7);
        assert_eq!(outcome.report.output_bytes, 3);
    }
}

#[test]
fn a_whole_response_that_failed_is_an_error_unless_it_used_something() {
    let call = support::call(Operation::Responses, &json!({"model": "m", "input": "hi"}));
    let decode = |usage: Value| {
        let error = json!({"code": "server_error", "message": "sorry"});
        let body = json!({"object": "response", "status": "failed", "error": error, "output": [], "usage": usage});
        openai().decode(&call, &http::HeaderMap::new(), body.to_string().into())
    };
    assert!(matches!(decode(Value::Null), Err(UpstreamError::Failed { .. })));
    let reply = decode(json!({"input_tokens": 7, "output_tokens": 2})).unwrap();
    assert_eq!(reply.report.finish, Some(FinishReason::Error));
    assert_eq!(reply.report.usage.unwrap().output_total(), 2);
}

#[test]
fn hosted_tools_are_counted_by_the_use() {
    use cfr_core::chat::Meter;
    let call = support::call(Operation::Responses, &json!({"model": "m", "input": "hi"}));
    let body = json!({
        "object": "response", "status": "completed", "usage": {"input_tokens": 7, "output_tokens": 2},
        "output": [{"type": "web_search_call"}, {"type": "web_search_call"}, {"type": "file_search_call"}],
    });
    let report = openai().decode(&call, &http::HeaderMap::new(), body.to_string().into()).unwrap().report;
    let usage = report.usage.unwrap();
    assert_eq!((usage.get(Meter::WebSearchCalls), usage.get(Meter::FileSearchCalls)), (2, 1));
}

#[test]
fn calls_that_chat_completions_refuse_go_to_responses_and_no_others() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (model, effort, with_tools, path) in [
        ("gpt-5.6-sol", None, true, "/v1/responses"),
        ("gpt-5.6-sol", Some("none"), true, "/v1/chat/completions"),
        ("gpt-5.6-sol", None, false, "/v1/chat/completions"),
        ("gpt-5.4", None, true, "/v1/chat/completions"),
        ("gpt-5.4", Some("medium"), true, "/v1/responses"),
        ("gpt-6.1-sol", Some("none"), true, "/v1/responses"),
        ("gpt-5.4-pro", None, false, "/v1/responses"),
        ("gpt-4.1", Some("high"), true, "/v1/chat/completions"),
    ] {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        if with_tools {
            body["tools"] = tools.clone();
        }
        if let Some(effort) = effort {
            body["reasoning_effort"] = effort.into();
        }
        assert_eq!(sent(Operation::ChatCompletions, &body, model).0, path, "{model} {effort:?} {with_tools}");
    }
}

#[test]
fn a_server_of_other_models_is_not_bridged_to() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "f"}}]});
    let call = support::call(Operation::ChatCompletions, &body);
    let request = encode(&quirks::VLLM, &call, "gpt-6-sol", None).unwrap();
    assert_eq!(request.endpoint.uri().path(), "/v1/chat/completions");
}

#[test]
fn a_cap_that_responses_refuse_is_not_raised() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5});
    let call = support::call(Operation::ChatCompletions, &body);
    let error = encode(&quirks::OPENAI, &call, "gpt-5.4-pro", None).unwrap_err();
    assert!(matches!(error, UpstreamError::Unsupported { .. }), "{error}");
}

#[test]
fn a_thought_comes_back_to_the_provider_that_had_it() {
    let (exchange, _) = recorded("plain");
    let question = json!({"role": "user", "content": "2+2?"});
    let call = support::call(Operation::ChatCompletions, &json!({"model": "m", "messages": [question]}));
    let reply = openai().decode(&call, &exchange.headers, exchange.body.clone()).unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "4");
    let next = json!({"model": "m", "messages": [
        question, answer["choices"][0]["message"], {"role": "user", "content": "Sure?"},
    ]});
    let (_, sent) = sent(Operation::ChatCompletions, &next, "gpt-5.5-pro");
    let reasoning = json!({"type": "reasoning", "id": "rs_fx1", "summary": [], "encrypted_content": "gAAAA-fixture"});
    assert_eq!(sent["input"][1], reasoning);
    assert_eq!(sent["input"][2], json!({"role": "assistant", "content": [{"type": "output_text", "text": "4"}]}));
}

#[test]
fn an_error_body_is_handed_on_to_those_who_can_read_it_only() {
    let body =
        Bytes::from_static(br#"{"error":{"message":"m","type":"invalid_request_error","param":"input","code":null}}"#);
    for operation in [Operation::Responses, Operation::ChatCompletions, Operation::Messages] {
        let call = match operation {
            Operation::Messages => support::call(operation, &json!({"model": "m", "max_tokens": 9, "messages": []})),
            operation => streamed_call(operation),
        };
        let error = openai().decode_error(&call, http::StatusCode::BAD_REQUEST, &http::HeaderMap::new(), &body);
        let UpstreamError::Rejected { kind: Rejection::Invalid, body: handed_on, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(handed_on.is_some(), operation != Operation::Messages, "{operation:?}");
    }
}

#[test]
fn a_stream_in_place_of_a_whole_response_has_every_event() {
    let (exchange, _) = recorded("plain");
    let call = streamed_call(Operation::Responses);
    let reply = openai().stream_of_whole(&call, &exchange.headers, exchange.body).unwrap();
    let spoken = Spoken::of(Dialect::Responses, &reply.body);
    assert!(spoken.done && spoken.text == "4", "{spoken:?}");
}

/// A stream with one of its events spoiled in every way that providers might think of.
fn spoiled(body: &[u8]) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(body).unwrap();
    let frames: Vec<&str> = text.split_inclusive("\n\n").collect();
    let mut streams = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let (name, data) = frame.split_once("data: ").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        let mut with = |event: Value| {
            let made = format!("{name}data: {event}\n\n");
            let stream = frames[..at].iter().copied().chain([made.as_str()]).chain(frames[at + 1..].iter().copied());
            streams.push(stream.collect::<String>().into_bytes());
        };
        for field in event.as_object().unwrap().keys().filter(|field| *field != "type") {
            for value in [Value::Null, json!(7), json!("odd"), json!([]), json!({"type": "odd"})] {
                let mut event = event.clone();
                event[field] = value;
                with(event);
            }
        }
        with(json!({"type": "response.something_new", "delta": {"x": 1}}));
    }
    streams
}

#[test]
fn an_event_that_is_not_what_it_was_never_fails_a_stream_that_ends() {
    for name in ["stream", "tool_stream"] {
        let (exchange, _) = recorded(name);
        for operation in [Operation::Responses, Operation::ChatCompletions] {
            let call = streamed_call(operation);
            for stream in spoiled(&exchange.body) {
                let outcome = relayed(&call, [&stream[..]]);
                let fine = matches!(outcome.error, None | Some(UpstreamError::Truncated { .. }));
                assert!(fine, "{name}: {:?} {}", outcome.error, String::from_utf8_lossy(&stream));
            }
        }
    }
}
