//! Recordings and mapping vectors of this dialect, and what both sides of it say.

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
    Call { id: RequestId::from_u128(1), operation, envelope, body, files: Vec::new(), tags, cache, drop_params: false, betas: None }
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

#[test]
fn every_mapping_vector_becomes_the_expected_body() {
    let mut compared = 0;
    for name in [
        "basic",
        "cache_control",
        "empty_content",
        "file_pdf",
        "json_schema",
        "reasoning_effort",
        "starts_with_assistant",
        "system_in_middle",
        "tool_roundtrip",
    ] {
        let vector = vector(name);
        let expected = &vector["expect"]["anthropic"];
        let call = call(Operation::ChatCompletions, &vector["request"]);
        let (body, _) = encoded(&call, expected["model"].as_str().unwrap(), None).unwrap();
        assert_eq!(&body, expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn what_there_are_no_words_for_is_reported_or_refused() {
    let chat = json!({
        "model": "x", "messages": [{"role": "user", "content": "Hi"}], "seed": 7, "temperature": 1.7, "top_p": 0.9,
        "frequency_penalty": 1, "verbosity": "low", "store": true, "service_tier": "flex", "response_format": {"type": "text"},
    });
    let (body, dropped) = encoded(&call(Operation::ChatCompletions, &chat), MODEL, None).unwrap();
    assert_eq!(body["temperature"], json!(1));
    assert_eq!(body.get("top_p"), None, "one of the two");
    let mut dropped: Vec<&str> = dropped.iter().map(|name| &**name).collect();
    dropped.sort_unstable();
    assert_eq!(dropped, ["frequency_penalty", "seed", "service_tier", "store", "top_p", "verbosity"]);
    assert_eq!(refused(MODEL, json!({"n": 2})), "n");
    assert_eq!(refused(MODEL, json!({"logprobs": true})), "logprobs");
    assert_eq!(refused(MODEL, json!({"logit_bias": {"1": 2}})), "logit_bias");
    assert_eq!(refused(MODEL, json!({"modalities": ["text", "audio"]})), "modalities");
    let audio = json!({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}});
    assert!(refused(MODEL, json!({"messages": [{"role": "user", "content": [audio]}]})).contains("input_audio"));
}

#[test]
fn a_caller_may_allow_to_lose_what_the_answer_depends_on() {
    let chat = json!({"model": "x", "messages": [{"role": "user", "content": "Hi"}], "n": 2, "logprobs": true});
    let call = Call { drop_params: true, ..call(Operation::ChatCompletions, &chat) };
    let (_, dropped) = encoded(&call, MODEL, None).unwrap();
    assert_eq!(dropped, ["n".into(), "logprobs".into()]);
}

#[test]
fn newer_models_are_not_told_how_to_sample() {
    let sampled = body("claude-opus-4-7", json!({"temperature": 0.2, "top_k": 3}));
    assert_eq!((sampled.get("temperature"), sampled.get("top_k")), (None, None));
    let thinking = body(MODEL, json!({"temperature": 0.2, "reasoning_effort": "low"}));
    assert_eq!(thinking.get("temperature"), None);
    let free = body("claude-3-5-sonnet-20241022", json!({"temperature": 0.2, "top_p": 0.5}));
    assert_eq!((free["temperature"].clone(), free["top_p"].clone()), (json!(0.2), json!(0.5)));
}

#[test]
fn where_nobody_caps_the_answer_its_model_does_and_the_lower_of_two_caps_counts() {
    assert_eq!(body("claude-opus-5-5", json!({}))["max_tokens"], 128_000);
    assert_eq!(body("claude-haiku-4-5", json!({}))["max_tokens"], 64_000);
    assert_eq!(body("claude-opus-4-1", json!({}))["max_tokens"], 32_000);
    assert_eq!(body("some-model", json!({}))["max_tokens"], 4_096);
    let chat = json!({"model": "x", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9});
    let call = call(Operation::ChatCompletions, &chat);
    assert_eq!(encoded(&call, MODEL, Some(7)).unwrap().0["max_tokens"], 7);
    assert_eq!(encoded(&call, MODEL, Some(11)).unwrap().0["max_tokens"], 9);
}

#[test]
fn thinking_is_said_as_each_model_wants_it() {
    let effort = |model: &str, effort: &str| {
        let body = body(model, json!({"reasoning_effort": effort, "max_tokens": 8_000}));
        (body["thinking"].clone(), body["output_config"]["effort"].clone())
    };
    let adaptive = json!({"type": "adaptive", "display": "summarized"});
    assert_eq!(effort(MODEL, "minimal"), (adaptive.clone(), "low".into()));
    assert_eq!(effort(MODEL, "none"), (json!({"type": "disabled"}), Value::Null));
    assert_eq!(effort("claude-opus-5-5", "none"), (Value::Null, "low".into()));
    assert_eq!(effort("claude-opus-5-5", "high"), (adaptive, "high".into()));
    assert_eq!(effort("claude-haiku-4-5", "medium").0, json!({"type": "enabled", "budget_tokens": 4096}));
    assert_eq!(effort("claude-haiku-4-5", "high").0, json!({"type": "enabled", "budget_tokens": 6976}));
    let small = body("claude-haiku-4-5", json!({"reasoning_effort": "high", "max_tokens": 2_000}));
    assert_eq!(small.get("thinking"), None, "no room to think");
}

#[test]
fn tools_are_chosen_in_anthropics_words() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let choice = |choice: Value, parallel: Option<bool>| {
        let tools = [tool("f"), tool("g")];
        let body = body(MODEL, json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel}));
        (body["tool_choice"].clone(), body["tools"].as_array().unwrap().len())
    };
    assert_eq!(choice(Value::Null, None), (Value::Null, 2));
    assert_eq!(choice(Value::Null, Some(false)), (json!({"type": "auto", "disable_parallel_tool_use": true}), 2));
    assert_eq!(choice(json!("none"), Some(false)), (json!({"type": "none"}), 2));
    assert_eq!(choice(json!("required"), None), (json!({"type": "any"}), 2));
    let named = json!({"type": "function", "function": {"name": "f"}});
    assert_eq!(choice(named.clone(), None), (json!({"type": "tool", "name": "f"}), 2));
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}});
    assert_eq!(choice(allowed, None), (json!({"type": "any"}), 1));
}

#[test]
fn a_forced_call_and_thoughts_exclude_each_other() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let forced = body(MODEL, json!({"tools": tools, "tool_choice": "required", "reasoning_effort": "high"}));
    assert_eq!((forced.get("thinking"), &forced["output_config"]["effort"]), (None, &json!("high")));
    assert_eq!(refused("claude-opus-5-5", json!({"tools": tools, "tool_choice": "required"})), "tool_choice");
}

#[test]
fn a_search_of_the_web_is_capped_as_its_price_was_bound() {
    let place = json!({"type": "approximate", "approximate": {"city": "Oslo"}});
    let body = body(MODEL, json!({"web_search_options": {"user_location": place}}));
    let expected = json!([{
        "type": "web_search_20250305", "name": "web_search", "max_uses": 10,
        "user_location": {"type": "approximate", "city": "Oslo"},
    }]);
    assert_eq!(body["tools"], expected);
}

#[test]
fn at_most_four_places_are_cached_up_to_and_none_for_an_hour_behind_a_shorter_one() {
    let part = |text: &str, ttl: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}});
    let parts: Vec<Value> =
        [("a", "5m"), ("b", "1h"), ("c", "5m"), ("d", "1h"), ("e", "5m")].map(|(text, ttl)| part(text, ttl)).into();
    let body = body(MODEL, json!({"messages": [{"role": "user", "content": parts}]}));
    let marks: Vec<Value> =
        body["messages"][0]["content"].as_array().unwrap().iter().map(|block| block["cache_control"].clone()).collect();
    let (short, hour) = (json!({"type": "ephemeral"}), json!({"type": "ephemeral", "ttl": "1h"}));
    assert_eq!(marks, [Value::Null, hour, short.clone(), short.clone(), short]);
}

#[test]
fn pictures_stand_where_they_are_and_files_elsewhere_are_refused() {
    let image = |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    let body = body(MODEL, json!({"messages": image("https://example.org/a.png")}));
    let block = &body["messages"][0]["content"][0];
    assert_eq!(block["source"], json!({"type": "url", "url": "https://example.org/a.png"}));
    assert!(refused(MODEL, json!({"messages": image("data:image/tiff;base64,AA==")})).contains("image/tiff"));
    let file = json!([{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]);
    assert_eq!(refused(MODEL, json!({"messages": file})), "file_id");
}

#[test]
fn own_thoughts_go_back_and_those_of_others_stay() {
    let blocks = json!([
        {"type": "thinking", "thinking": "t", "signature": "sig"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "gemini_signature", "data": "g"},
    ]);
    let messages = json!([
        {"role": "user", "content": "1"}, {"role": "assistant", "content": "2", "thinking_blocks": blocks},
        {"role": "user", "content": "3"},
    ]);
    let expected = json!([
        {"type": "thinking", "thinking": "t", "signature": "sig"}, {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "2"},
    ]);
    assert_eq!(body(MODEL, json!({"messages": messages}))["messages"][1]["content"], expected);
}

#[test]
fn a_hosted_body_names_a_version_and_no_model() {
    let dialog = Dialog { choices: 1, stream: true, ..Dialog::default() };
    let hosted = |hosting| request::body(&dialog, MODEL, hosting, &mut Drops::default()).unwrap();
    let (vertex, bedrock) = (hosted(Hosting::Vertex), hosted(Hosting::Bedrock));
    assert_eq!((vertex.get("model"), &vertex["anthropic_version"]), (None, &json!("vertex-2023-10-16")));
    assert_eq!((bedrock.get("stream"), &bedrock["anthropic_version"]), (None, &json!("bedrock-2023-05-31")));
}

#[test]
fn on_vertex_the_path_names_the_model_as_one_segment() {
    let vertex = Translated(
        Anthropic::on_vertex("p", "l", Some("https://host.example/v1")).unwrap(),
    );
    let messages =
        json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "stream": true});
    let call = call(Operation::Messages, &messages);
    let request = vertex.encode(&order(&call, "claude-opus-4-5@20251101", None)).unwrap();
    let path = request.endpoint.uri().path().to_owned();
    assert!(path.ends_with("/publishers/anthropic/models/claude-opus-4-5%4020251101:streamRawPredict"), "{path}");
    let sent = r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":5,"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
    assert_eq!(request.body, sent);
    let escaped = vertex.encode(&order(&call, "../x?y", None)).unwrap();
    assert!(escaped.endpoint.uri().path().contains("/models/..%2Fx%3Fy:"), "{}", escaped.endpoint.uri());
}

#[test]
fn bytes_of_messages_stay_bytes() {
    let messages = r#"{ "model" : "x", "max_tokens":5, "messages":[{"role":"user","content":"Hi"}], "new":1.50 }"#;
    let parsed: Value = serde_json::from_str(messages).unwrap();
    let mut call = call(Operation::Messages, &parsed);
    call.rewrite(Bytes::from_static(messages.as_bytes())).unwrap();
    let sent = |model: &str, cap| adapter().encode(&order(&call, model, cap)).unwrap();
    assert_eq!(sent("x", None).body, messages);
    assert_eq!(sent("x", Some(7)).body, messages);
    assert_eq!(sent("y", Some(3)).body, messages.replace("\"x\"", "\"y\"").replace(":5", ":3"));
    let request = sent("x", None);
    assert_eq!(request.endpoint.uri().to_string(), "https://api.anthropic.com/v1/messages");
    assert_eq!(request.headers["anthropic-version"], "2023-06-01");
}

#[test]
fn a_budget_to_think_is_lowered_with_our_cap() {
    let messages = |thinking: Value| {
        let turns = json!([{"role": "user", "content": "Hi"}]);
        call(Operation::Messages, &json!({"model": "x", "max_tokens": 9000, "messages": turns, "thinking": thinking}))
    };
    let call = messages(json!({"type": "enabled", "budget_tokens": 8000}));
    let thinking = |cap| encoded(&call, "x", Some(cap)).unwrap().0["thinking"].clone();
    assert_eq!(thinking(8001), json!({"type": "enabled", "budget_tokens": 8000}));
    assert_eq!(thinking(8000), json!({"type": "enabled", "budget_tokens": 6976}));
    assert_eq!(thinking(1500), json!({"type": "disabled"}));
}

#[test]
fn a_search_that_the_caller_does_not_cap_is_capped_in_the_callers_bytes() {
    let tools = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let (body, _) = encoded(&messages(json!({"tools": tools})), "x", None).unwrap();
    assert_eq!(body["tools"][0]["max_uses"], 10);
}

#[test]
fn thoughts_of_others_are_taken_out_of_the_callers_bytes() {
    let foreign: Value = serde_json::from_slice(&MESSAGES_SURFACE.whole(&messages(json!({})), proven())).unwrap();
    let turns = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": foreign["content"]}]);
    let (body, _) = encoded(&messages(json!({"messages": turns})), "y", Some(3)).unwrap();
    let kinds: Vec<&str> = body["messages"][1]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"]);
    assert_eq!((&body["model"], &body["max_tokens"]), (&json!("y"), &json!(3)));
}

#[test]
fn a_turn_of_calls_without_own_thoughts_is_gone_on_with_without_a_budget_to_think() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let thinking = |blocks: Value| {
        let turns = json!([
            {"role": "user", "content": "1"}, {"role": "assistant", "tool_calls": [call], "thinking_blocks": blocks},
            {"role": "tool", "tool_call_id": "c", "content": "2"},
        ]);
        body("claude-haiku-4-5", json!({"messages": turns, "reasoning_effort": "low"}))["thinking"].clone()
    };
    assert_eq!(thinking(json!([])), Value::Null);
    let own = json!([{"type": "thinking", "thinking": "t", "signature": "s"}]);
    assert_eq!(thinking(own), json!({"type": "enabled", "budget_tokens": 1024}));
}

/// One recorded answer through an adapter, as the network brings it in these pieces.
fn relayed<'a>(
    operation: Operation,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Bytes, Report, Option<UpstreamError>) {
    let body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "stream": true});
    let mut relay = Relay::new(Framing::Sse, adapter().stream_decoder(&call(operation, &body)));
    let (mut bytes, mut report) = (BytesMut::new(), Report::default());
    for piece in pieces.into_iter().map(Some).chain([None]) {
        let relayed = match piece {
            Some(piece) => relay.push(Bytes::copy_from_slice(piece)),
            None => relay.finish(),
        };
        bytes.extend_from_slice(&relayed.event.bytes);
        report.absorb(relayed.event.report);
        if relayed.error.is_some() || relay.is_done() {
            return (bytes.freeze(), report, relayed.error);
        }
    }
    (bytes.freeze(), report, None)
}

const STREAMS: [&str; 3] = ["stream", "tool_stream", "reasoning_stream"];
const BOTH: [Operation; 2] = [Operation::Messages, Operation::ChatCompletions];

#[test]
fn a_stream_torn_anywhere_says_the_same() {
    for (name, operation) in STREAMS.iter().flat_map(|name| BOTH.map(|operation| (name, operation))) {
        let stream = fixture(&format!("anthropic/{name}.sse"));
        let whole = relayed(operation, [&stream[..]]);
        assert!(whole.2.is_none(), "{name}: {:?}", whole.2);
        if operation == Operation::Messages {
            assert_eq!(whole.0.trim_ascii_end(), stream.trim_ascii_end(), "{name}");
        }
        for at in (1..stream.len()).filter(|at| *name == "tool_stream" || at % 50 == 0) {
            let torn = relayed(operation, [&stream[..at], &stream[at..]]);
            assert_eq!(torn.0.trim_ascii_end(), whole.0.trim_ascii_end(), "{name} torn at {at}");
            assert_eq!(torn.1, whole.1, "{name} torn at {at}");
        }
        let bytewise = relayed(operation, stream.chunks(1));
        assert_eq!(bytewise.1, whole.1, "{name} byte by byte");
    }
}

#[test]
fn a_stream_cut_before_its_stop_reason_is_truncated_with_what_it_reported() {
    for (name, operation) in STREAMS.iter().flat_map(|name| BOTH.map(|operation| (name, operation))) {
        let stream = fixture(&format!("anthropic/{name}.sse"));
        let ends = memchr::memmem::find_iter(&stream, b"\n\n").map(|at| at + 2).collect::<Vec<_>>();
        for at in ends {
            let stopped = memchr::memmem::find(&stream[..at], b"message_delta").is_some();
            let (bytes, report, error) = relayed(operation, [&stream[..at]]);
            match error {
                None => assert!(stopped && report.finish.is_some(), "{name} cut at {at}: {bytes:?}"),
                Some(error) => {
                    assert!(!stopped && matches!(error, UpstreamError::Truncated { .. }), "{name} at {at}: {error}");
                    assert!(report.usage.is_some(), "{name} cut at {at}");
                }
            }
        }
    }
}

#[test]
fn a_stream_reports_its_usage_once_and_its_thoughts_apart() {
    let usage = |name: &str, operation| {
        let (_, report, _) = relayed(operation, [&fixture(&format!("anthropic/{name}.sse"))[..]]);
        report.usage.unwrap().used().collect::<Vec<_>>()
    };
    for operation in BOTH {
        assert_eq!(usage("stream", operation), [(Meter::InputTokens, 10), (Meter::OutputTokens, 9)]);
        assert_eq!(usage("tool_stream", operation), [(Meter::InputTokens, 512), (Meter::OutputTokens, 88)]);
        let thought = [(Meter::InputTokens, 20), (Meter::OutputTokens, 20), (Meter::ReasoningTokens, 120)];
        assert_eq!(usage("reasoning_stream", operation), thought);
    }
}

#[test]
fn an_error_in_a_stream_is_a_status_before_the_answer_and_a_frame_within() {
    let error = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let stream = fixture("anthropic/stream.sse");
    let begun = &stream[..memchr::memmem::find(&stream, b"event: content_block_stop").unwrap()];
    for operation in BOTH {
        assert_eq!(relayed(operation, [&error[..]]).2.unwrap().name(), "failed");
        let (_, report, within) = relayed(operation, [begun, error]);
        assert_eq!(report.usage.unwrap().get(Meter::InputTokens), 10);
        match within {
            Some(UpstreamError::InStream { frame, message }) => {
                assert_eq!(&*message, "Overloaded");
                assert_eq!(frame.as_deref(), (operation == Operation::Messages).then_some(&error[..]));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn unknown_events_blocks_and_words_fail_nothing() {
    let stream = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"new\":{},\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"new_event\",\"index\":7}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"new_block\",\"text\":\"x\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"new_delta\",\"news\":[]}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"new_reason\"},\"usage\":{\"output_tokens\":\"many\"}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
    );
    for operation in BOTH {
        let (_, report, error) = relayed(operation, [stream.as_bytes()]);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(report.finish.unwrap().name(), "new_reason");
        assert_eq!(report.usage.unwrap().output_total(), 1);
    }
}

fn recorded(name: &str) -> (StatusCode, Bytes) {
    let recording: Value = serde_json::from_slice(&fixture(&format!("anthropic/{name}.json"))).unwrap();
    let response = &recording["response"];
    let status = StatusCode::from_u16(u16::try_from(response["status"].as_u64().unwrap()).unwrap()).unwrap();
    (status, response["body"].to_string().into())
}

#[test]
fn whole_answers_are_read_alike_from_both_sides() {
    for name in ["plain", "cached", "refusal"] {
        let (_, answer) = recorded(name);
        let body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
        let decode = |operation| adapter().decode(&call(operation, &body), &HeaderMap::new(), answer.clone()).unwrap();
        let (own, foreign) = (decode(Operation::Messages), decode(Operation::ChatCompletions));
        assert_eq!(own.body, answer, "{name}");
        assert_eq!((own.report.usage, own.report.finish), (foreign.report.usage, foreign.report.finish), "{name}");
        assert!(own.report.usage.is_some());
    }
}

#[test]
fn only_callers_of_the_dialect_see_anthropics_error_body() {
    let (status, answer) = recorded("error");
    let body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    let read = |operation| match adapter().decode_error(&call(operation, &body), status, &HeaderMap::new(), &answer) {
        UpstreamError::Rejected { body, .. } => body,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(Operation::Messages), Some(answer.clone()));
    assert_eq!(read(Operation::ChatCompletions), None);
}

#[test]
fn tokens_are_counted_for_the_prompt_alone() {
    let recording: Value = serde_json::from_slice(&fixture("anthropic/count_tokens.json")).unwrap();
    let provider = Translated(Anthropic::new(Some("https://api.anthropic.com/v1")).unwrap());
    let counting = |call: &Call| provider.encode_count(&order(call, "claude-sonnet-5-5", None)).unwrap().unwrap();
    let mut asked = recording["request"]["body"].clone();
    asked["max_tokens"] = 5.into();
    asked["stream"] = true.into();
    let messages = call(Operation::Messages, &asked);
    let request = counting(&messages);
    assert_eq!(request.endpoint.uri().path(), recording["request"]["path"].as_str().unwrap());
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), recording["request"]["body"]);
    let (_, answer) = recorded("count_tokens");
    let counted = provider.decode_count(&messages, &HeaderMap::new(), answer.clone()).unwrap();
    assert_eq!((counted.tokens, counted.body), (8, Some(answer.clone())));
    let error = Bytes::from_static(br#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#);
    assert_eq!(provider.decode_count(&messages, &HeaderMap::new(), error).unwrap_err().name(), "rate_limited");

    let chat = json!({"model": "x", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    let chat = call(Operation::ChatCompletions, &chat);
    let expected = json!({"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(serde_json::from_slice::<Value>(&counting(&chat).body).unwrap(), expected);
    assert_eq!(provider.decode_count(&chat, &HeaderMap::new(), answer).unwrap().body, None);
}

#[test]
fn names_of_features_in_trial_are_sent() {
    let provider = Anthropic::new(None).unwrap().with_betas(HeaderValue::from_static("a,b"));
    let body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    let call = call(Operation::Messages, &body);
    let provider = Translated(provider);
    let sent = |call: &Call| provider.encode(&order(call, "x", None)).unwrap().headers["anthropic-beta"].clone();
    assert_eq!(sent(&call), "a,b");
    assert_eq!(sent(&Call { betas: Some("c".into()), ..call.clone() }), "a,b,c");
    let split = Call { betas: Some("c\r\nx-api-key: d".into()), ..call };
    assert!(provider.encode(&order(&split, "x", None)).is_err(), "a header in a header");
}

// The client side.

fn messages(more: Value) -> Call {
    let mut body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call(Operation::Messages, &body)
}

#[test]
fn the_vector_of_messages_is_read_into_a_dialog() {
    let dialog = MESSAGES_SURFACE.read(&call(Operation::Messages, &vector("anthropic_in_tools")["request"])).unwrap();
    assert_eq!(dialog.system[0].text, "S");
    assert_eq!(dialog.system[0].cache, Some(crate::dialog::CacheMark::Usual));
    assert_eq!(
        (dialog.output_tokens_max, dialog.stop, dialog.end_user),
        (Some(500), vec!["END".into()], Some("u-1".into()))
    );
    assert_eq!(dialog.reasoning, Some(crate::dialog::Reasoning::Effort(crate::dialog::Effort::Medium)));
    assert_eq!((dialog.tool_choice, dialog.parallel_tools), (Some(crate::dialog::ToolChoice::Required), Some(false)));
    assert_eq!(dialog.tools[0].name(), "get_weather");
    let [Part::Thought(thought), Part::Text(said), Part::ToolCall(call)] = &dialog.turns[1].parts[..] else {
        panic!("{:?}", dialog.turns[1])
    };
    assert_eq!(thought.seal, Some(Seal::Anthropic("sig".into())));
    assert_eq!((said.text.as_str(), call.arguments.as_str()), ("Looking.", r#"{"city":"Oslo"}"#));
    let [Part::ToolResult(result), Part::Text(_)] = &dialog.turns[2].parts[..] else { panic!("{:?}", dialog.turns[2]) };
    assert!(result.is_error && matches!(result.content[..], [Part::Text(_), Part::Image(_)]));
    assert_eq!(dialog.unread, Vec::<Box<str>>::new());
}

#[test]
fn a_dialog_of_messages_goes_back_as_it_came() {
    let vector = vector("anthropic_in_tools");
    let mut dialog = MESSAGES_SURFACE.read(&call(Operation::Messages, &vector["request"])).unwrap();
    MANNERS.apply(&mut dialog, &mut Drops::default()).unwrap();
    let body = request::body(&dialog, "x", Hosting::Anthropic, &mut Drops::default()).unwrap();
    let mut expected = vector["request"].clone();
    // What is unknown of the model `x`: it is given a number of tokens to think, for which there is no room.
    expected.as_object_mut().unwrap().remove("thinking");
    expected.as_object_mut().unwrap().remove("output_config");
    assert_eq!(Value::Object(body), expected);
}

#[test]
fn what_only_anthropic_can_do_is_refused_by_name_or_left_out_where_that_is_allowed() {
    for (more, name) in [
        (json!({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}), "mcp_servers"),
        (json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}), "tools[0].type `bash_20250124`"),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search", "blocked_domains": ["x"]}]}),
            "tools[0].blocked_domains",
        ),
        (json!({"inference_geo": "us"}), "inference_geo"),
        (json!({"system": [{"type": "new", "x": 1}]}), "system[0].type `new`"),
    ] {
        let call = messages(more);
        match MESSAGES_SURFACE.read(&call) {
            Err(UpstreamError::Unsupported { message }) => assert_eq!(&*message, name),
            other => panic!("{other:?}"),
        }
        let allowed = MESSAGES_SURFACE.read(&Call { drop_params: true, ..call }).unwrap();
        assert_eq!(allowed.unread, [Box::from(name)]);
    }
    let harmless =
        MESSAGES_SURFACE.read(&messages(json!({"context_management": {"edits": []}, "inference_geo": "global"})));
    assert_eq!(harmless.unwrap().unread, ["context_management".into()]);
}

#[test]
fn documents_and_search_results_are_words_where_they_are_words() {
    let content = json!([
        {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
        {"type": "search_result", "title": "S", "source": "https://s", "content": [{"type": "text", "text": "found"}]},
        {"type": "image", "source": {"type": "url", "url": "https://i"}},
    ]);
    let dialog = MESSAGES_SURFACE.read(&messages(json!({"messages": [{"role": "user", "content": content}]}))).unwrap();
    let [Part::Text(title), Part::Text(words), Part::File(file), Part::Text(found), Part::Image(_)] =
        &dialog.turns[0].parts[..]
    else {
        panic!("{:?}", dialog.turns)
    };
    assert_eq!((title.text.as_str(), words.text.as_str(), file.name.as_deref()), ("T", "words", Some("a.pdf")));
    assert_eq!(found.text, "S\nhttps://s\nfound");
}

fn written(pieces: Vec<Piece>) -> Vec<Value> {
    let (mut writer, mut out) = (MESSAGES_SURFACE.stream(&messages(json!({}))), BytesMut::new());
    pieces.into_iter().for_each(|piece| writer.write(piece, &mut out));
    writer.end(&mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let events = text.split_terminator("\n\n").map(|frame| {
        let (name, data) = frame.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(event["type"], name);
        event
    });
    events.collect()
}

/// What a client makes of events: its blocks, which must follow each other.
fn blocks(events: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut open = false;
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(!open && event["index"] == blocks.len(), "{event}");
                open = true;
                blocks.push(event["content_block"].clone());
                blocks.last_mut().unwrap()["partial_json"] = "".into();
            }
            "content_block_delta" => {
                assert!(open && event["index"] == blocks.len() - 1, "{event}");
                for field in ["text", "thinking", "signature", "partial_json"] {
                    if let Some(more) = event["delta"][field].as_str() {
                        let block = blocks.last_mut().unwrap();
                        block[field] = format!("{}{more}", block[field].as_str().unwrap_or("")).into();
                    }
                }
            }
            "content_block_stop" => open = false,
            _ => assert!(!open, "{event}"),
        }
    }
    blocks
}

fn text(text: &str) -> Piece {
    Piece::Text { choice: 0, text: text.into() }
}

fn begin(call: u32) -> Piece {
    Piece::ToolCall { choice: 0, call, id: format!("toolu_{call}"), name: "f".into(), custom: false }
}

fn more(call: u32, fragment: &str) -> Piece {
    Piece::Arguments { choice: 0, call, fragment: fragment.into() }
}

fn finish(finish: cfr_core::upstream::FinishReason) -> Piece {
    Piece::Finish { choice: 0, finish, stop_sequence: None }
}

#[test]
fn calls_that_grow_at_the_same_time_become_blocks_that_follow_each_other() {
    let pieces = vec![
        text("Look"),
        begin(0),
        begin(1),
        more(1, "{\"b\""),
        more(0, "{\"a\":"),
        more(1, ":2}"),
        more(0, "1}"),
        begin(2),
        finish(cfr_core::upstream::FinishReason::ToolCalls),
    ];
    let events = written(pieces);
    let said: Vec<(Value, Value)> =
        blocks(&events).iter().map(|block| (block["type"].clone(), block["partial_json"].clone())).collect();
    let tool = |json: &str| (json!("tool_use"), json!(json));
    assert_eq!(said, [(json!("text"), json!("")), tool("{\"a\":1}"), tool("{\"b\":2}"), tool("")]);
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn a_call_streams_as_soon_as_the_one_before_it_is_complete() {
    let (mut writer, mut out) = (MESSAGES_SURFACE.stream(&messages(json!({}))), BytesMut::new());
    for piece in [begin(0), more(0, "{}"), begin(1), more(1, "{\"now")] {
        writer.write(piece, &mut out);
    }
    assert!(memchr::memmem::find(&out, br#""partial_json":"{\"now""#).is_some(), "{out:?}");
}

#[test]
fn usage_that_comes_after_the_end_stands_in_the_last_delta() {
    let usage = cfr_core::chat::Usage::text(10, 4).with(Meter::CacheReadTokens, 5).with(Meter::CacheWrite1hTokens, 2);
    let events = written(vec![text("a"), finish(cfr_core::upstream::FinishReason::Stop), Piece::Usage(usage)]);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 0);
    let expected = json!({
        "input_tokens": 10, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 2},
    });
    assert_eq!(events[events.len() - 2]["usage"], expected);
    assert_eq!(events.last().unwrap()["type"], "message_stop");
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

#[track_caller]
fn check_comes_back(content: Value) {
    let turns = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]);
    let dialog = MESSAGES_SURFACE.read(&messages(json!({"messages": turns}))).unwrap();
    assert_eq!(dialog.turns[1].parts, proven().choices[0].parts);
}

#[test]
fn proofs_of_any_provider_come_back_from_a_whole_answer() {
    let message: Value = serde_json::from_slice(&MESSAGES_SURFACE.whole(&messages(json!({})), proven())).unwrap();
    check_comes_back(message["content"].clone());
}

#[test]
fn proofs_of_any_provider_come_back_from_a_stream() {
    let mut blocks = blocks(&written(proven().into_pieces()));
    for block in &mut blocks {
        let json = block.as_object_mut().unwrap().remove("partial_json").unwrap();
        if block["type"] == "tool_use" {
            block["input"] = serde_json::from_str(json.as_str().unwrap()).unwrap();
        }
    }
    check_comes_back(blocks.into());
}

#[test]
fn a_whole_answer_is_a_message() {
    let call = ToolCall {
        id: "t".into(),
        name: "f".into(),
        arguments: "not json".into(),
        custom: false,
        seal: None,
        cache: None,
    };
    let parts = vec![Part::text("a"), Part::Refusal("no".into()), Part::ToolCall(call)];
    let choice = Choice { parts, finish: cfr_core::upstream::FinishReason::Stop, stop_sequence: None, logprobs: None };
    let answer = Answer {
        id: "m1".into(),
        model: "gpt".into(),
        choices: vec![choice],
        usage: Some(cfr_core::chat::Usage::text(3, 2)),
        ..Answer::default()
    };
    let message: Value = serde_json::from_slice(&MESSAGES_SURFACE.whole(&messages(json!({})), answer)).unwrap();
    let expected = json!({
        "id": "m1", "type": "message", "role": "assistant", "model": "gpt",
        "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "no"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"_raw": "not json"}},
        ],
        "stop_reason": "refusal", "stop_sequence": null,
        "usage": {
            "input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 2,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        },
    });
    assert_eq!(message, expected);
}

#[test]
fn where_any_json_is_wanted_the_model_is_told_so() {
    let messages = json!([{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]);
    let body = body(MODEL, json!({"messages": messages, "response_format": {"type": "json_object"}}));
    let said = json!([{"type": "text", "text": "S"}, {"type": "text", "text": JSON_ONLY}]);
    assert_eq!((&body["system"], body.get("output_config")), (&said, None));
}

/// Pieces in any order that a provider may send them in: several calls that grow, between words and thoughts.
fn any_pieces() -> impl proptest::strategy::Strategy<Value = Vec<Piece>> {
    use proptest::prelude::*;
    let call = 0_u32..3;
    let piece = prop_oneof![
        "[a-z]{0,3}".prop_map(|words| text(&words)),
        "[a-z]{0,3}".prop_map(|text| Piece::Thought { choice: 0, text }),
        Just(Piece::Seal { choice: 0, seal: Seal::Anthropic("s".into()) }),
        Just(Piece::Seal { choice: 0, seal: Seal::AnthropicRedacted("d".into()) }),
        Just(Piece::Seal { choice: 0, seal: Seal::Gemini("g".into()) }),
        call.clone().prop_map(begin),
        (call, "[{}\"\\\\a]{0,4}").prop_map(|(call, fragment)| more(call, &fragment)),
        Just(Piece::Usage(cfr_core::chat::Usage::text(1, 1))),
        Just(Piece::Text { choice: 1, text: "not ours".into() }),
    ];
    prop::collection::vec(piece, 0..40)
}

proptest::proptest! {
    #[test]
    fn blocks_follow_each_other_and_no_word_is_lost_whatever_the_pieces(pieces in any_pieces()) {
        let said = |pieces: &[Piece]| pieces.iter().fold(String::new(), |said, piece| match piece {
            Piece::Text { choice: 0, text } => said + text,
            _ => said,
        });
        let expected = said(&pieces);
        let blocks = blocks(&written(pieces));
        let words: String = blocks.iter().filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect();
        proptest::prop_assert_eq!(words, expected);
        for block in blocks.iter().filter(|block| block["type"] == "thinking") {
            proptest::prop_assert!(block["signature"].as_str().is_some_and(|proof| !proof.is_empty()), "{}", block);
        }
    }

    #[test]
    fn calls_that_grow_at_the_same_time_lose_nothing(order in proptest::collection::vec(0_u32..4, 0..60)) {
        let whole = |call: u32| format!("{{\"call\":\"{}\"}}", "x".repeat(usize::try_from(call).unwrap() * 3));
        let mut rest: Vec<String> = (0..4).map(|call| whole(call).chars().rev().collect()).collect();
        let mut pieces: Vec<Piece> = (0..4).map(begin).collect();
        let last = (0..4).flat_map(|call| vec![call; 60]);
        for call in order.into_iter().chain(last) {
            let next = rest[usize::try_from(call).unwrap()].pop();
            pieces.extend(next.map(|letter| more(call, &letter.to_string())));
        }
        let blocks = blocks(&written(pieces));
        let inputs: Vec<&str> = blocks.iter().filter_map(|block| block["partial_json"].as_str()).collect();
        proptest::prop_assert_eq!(inputs, (0..4).map(whole).collect::<Vec<_>>());
    }
}

#[test]
fn the_reason_of_an_end_is_told_in_anthropics_words() {
    use cfr_core::upstream::FinishReason;
    let reason = |pieces: Vec<Piece>| written(pieces).iter().rev().nth(1).unwrap()["delta"]["stop_reason"].clone();
    assert_eq!(reason(vec![text("a"), finish(FinishReason::Stop)]), "end_turn");
    assert_eq!(reason(vec![text("a"), finish(FinishReason::Length)]), "max_tokens");
    assert_eq!(reason(vec![text("a"), finish(FinishReason::ContentFilter)]), "refusal");
    assert_eq!(reason(vec![begin(0), finish(FinishReason::Stop)]), "tool_use");
    let stopped = Piece::Finish { choice: 0, finish: FinishReason::Stop, stop_sequence: Some("END".into()) };
    assert_eq!(reason(vec![text("a"), stopped]), "stop_sequence");
}

#[test]
fn an_answer_that_its_provider_broke_off_ends_with_an_error() {
    let events = written(vec![text("a"), finish(cfr_core::upstream::FinishReason::Error)]);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds[3..], ["content_block_stop", "error"]);
}
