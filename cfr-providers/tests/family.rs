//! OpenAI's family for callers of other dialects: what each server is asked, and what callers of Responses are told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Order, UpstreamError};
use cfr_providers::Quirks;
use cfr_providers::adapter::Adapter;
use cfr_providers::framing::Relay;
use cfr_providers::openai::{OpenAi, quirks};
use cfr_providers::transport::WireRequest;
use serde_json::{Value, json};

fn encode(quirks: &'static Quirks, call: &Call, model: &str) -> Result<WireRequest, UpstreamError> {
    let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
    let base_url = quirks.base_url.is_empty().then_some("http://127.0.0.1:9/v1");
    let order = Order { call, model, output_tokens_max: None, timeout, idle_timeout };
    OpenAi::new(quirks, base_url).unwrap().encode(&order)
}

/// What is sent, and what is left out.
#[track_caller]
fn sent(quirks: &'static Quirks, operation: Operation, body: &Value, model: &str) -> (Value, Vec<String>) {
    let request = encode(quirks, &support::call(operation, body), model).unwrap();
    let dropped = request.dropped.iter().map(ToString::to_string).collect();
    (serde_json::from_slice(&request.body).unwrap(), dropped)
}

fn vector(name: &str, provider: &str) -> (Value, Value) {
    let file = support::own_folder().join("mapping").join(name).with_extension("json");
    let vector: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    (vector["request"].clone(), vector["expect"][provider].clone())
}

fn question(model: &str) -> Value {
    json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]})
}

#[test]
fn a_caller_of_messages_is_brought_to_chat_completions_and_one_of_chat_to_responses() {
    let (request, expected) = vector("anthropic_in_tools", "openai_chat");
    let model = expected["model"].as_str().unwrap();
    let (body, dropped) = sent(&support::CHAT_ALONE, Operation::Messages, &request, model);
    assert_eq!(body, expected);
    assert_eq!(dropped, ["cache_control"]);
    let (request, expected) = vector("bridge_responses_tools", "openai_responses");
    let model = expected["model"].as_str().unwrap();
    assert_eq!(sent(&quirks::OPENAI, Operation::ChatCompletions, &request, model).0, expected);
}

#[test]
fn a_caller_of_messages_reaches_models_that_answer_tools_on_responses_only() {
    let (request, _) = vector("anthropic_in_tools", "openai_chat");
    let (body, _) = sent(&quirks::OPENAI, Operation::Messages, &request, "gpt-6-sol");
    assert_eq!(body["tool_choice"], "required");
    assert_eq!(body["input"][2]["call_id"], "toolu_1");
    let picture = &body["input"][3]["output"][2];
    assert_eq!(
        (body["input"][3]["output"][0]["text"].as_str(), picture["type"].as_str()),
        (Some("[error]"), Some("input_image"))
    );
}

#[test]
fn a_compatible_server_is_told_in_the_words_that_all_of_them_know() {
    let mut request = question("m");
    request["system"] = "S".into();
    request["metadata"] = json!({"user_id": "u"});
    request["top_k"] = 5.into();
    request["stream"] = true.into();
    let (body, dropped) = sent(&quirks::TOGETHER, Operation::Messages, &request, "meta/llama");
    let expected = json!({
        "model": "meta/llama",
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}],
        "max_tokens": 50,
        "user": "u",
        "top_k": 5,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!((body, dropped), (expected, Vec::new()));
}

#[test]
fn mistral_gets_no_field_and_no_id_that_it_refuses() {
    let request = json!({
        "model": "m", "max_tokens": 50, "stream": true, "metadata": {"user_id": "u"}, "top_k": 4,
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "3"}]},
            {"role": "assistant", "content": "Three"},
        ],
    });
    let (body, dropped) = sent(&quirks::MISTRAL, Operation::Messages, &request, "mistral-large-latest");
    let fields: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["model", "messages", "max_tokens", "tools", "stream"]);
    assert_eq!(dropped, ["top_k", "user"]);
    let id = body["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!(body["messages"][2]["tool_call_id"], id);
    assert_eq!(body["messages"][3], json!({"role": "assistant", "content": "Three", "prefix": true}));
}

#[test]
fn deepseek_gets_its_thoughts_back_while_it_calls_tools_and_not_later() {
    let thought = |text: &str| json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]});
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let result = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "3"});
    let request = json!({"model": "m", "input": [
        {"role": "user", "content": "1?"}, thought("old"), call("a"), result("a"),
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "2?"}, thought("new"), call("b"), result("b"),
    ]});
    let (body, _) = sent(&quirks::DEEPSEEK, Operation::Responses, &request, "deepseek-reasoner");
    let thoughts: Vec<&Value> =
        body["messages"].as_array().unwrap().iter().map(|said| &said["reasoning_content"]).collect();
    let none = &Value::Null;
    assert_eq!(thoughts, [none, none, none, none, none, &json!("new"), none]);
}

#[test]
fn how_much_to_think_is_said_in_each_servers_words() {
    let mut request = json!({"model": "m", "input": "Hi", "reasoning": {"effort": "xhigh"}});
    for (quirks, model, field, expected) in [
        (&quirks::GROQ, "openai/gpt-oss-120b", "reasoning_effort", json!("high")),
        (&quirks::GROQ, "llama-3.3-70b", "reasoning_effort", Value::Null),
        (&quirks::MISTRAL, "m", "reasoning_effort", json!("high")),
        (&quirks::DEEPSEEK, "m", "thinking", json!({"type": "enabled"})),
        (&quirks::OPENROUTER, "m", "reasoning", json!({"effort": "xhigh"})),
    ] {
        assert_eq!(sent(quirks, Operation::Responses, &request, model).0[field], expected, "{}", quirks.name);
    }
    request["reasoning"]["effort"] = "none".into();
    let (body, _) = sent(&quirks::DEEPSEEK, Operation::Responses, &request, "m");
    assert_eq!((&body["thinking"], &body["reasoning_effort"]), (&json!({"type": "disabled"}), &Value::Null));
}

#[test]
fn a_model_that_thinks_gets_no_temperature_and_the_caller_is_told() {
    let mut request = question("m");
    request["temperature"] = 0.into();
    let (body, dropped) = sent(&quirks::OPENAI, Operation::Messages, &request, "gpt-5");
    assert_eq!((&body["temperature"], dropped), (&Value::Null, vec!["temperature".to_owned()]));
    let (body, dropped) = sent(&quirks::OPENAI, Operation::Messages, &request, "gpt-4.1");
    assert_eq!((&body["temperature"], dropped), (&json!(0), Vec::new()));
}

#[test]
fn what_no_server_takes_is_refused_by_name_unless_the_caller_allows_to_leave_it_out() {
    let mut request = question("m");
    request["stop_sequences"] = json!(["a", "b", "c", "d", "e"]);
    let mut call = support::call(Operation::Messages, &request);
    let error = encode(&quirks::GROQ, &call, "m").unwrap_err();
    assert!(error.to_string().contains("stop"), "{error}");
    call.drop_params = true;
    let body: Value = serde_json::from_slice(&encode(&quirks::GROQ, &call, "m").unwrap().body).unwrap();
    assert_eq!(body["stop"].as_array().unwrap().len(), 4);
}

#[test]
fn what_only_a_host_of_responses_knows_is_handed_on_to_it_and_refused_by_name_elsewhere() {
    for (field, value, word) in [
        ("tools", json!([{"type": "local_shell"}]), "tools[0].type `local_shell`"),
        ("previous_response_id", json!("resp_1"), "previous_response_id"),
        ("input", json!([{"type": "item_reference", "id": "rs_1"}]), "input[0].type `item_reference`"),
    ] {
        let mut body = json!({"model": "m", "input": "Hi"});
        body[field] = value;
        let call = support::call(Operation::Responses, &body);
        let error = encode(&quirks::GROQ, &call, "m").unwrap_err();
        assert!(matches!(error, UpstreamError::Unsupported { .. }) && error.to_string().contains(word), "{error}");
        assert_eq!(encode(&quirks::OPENAI, &call, "m").unwrap().body, call.body, "{field}");
    }
}

#[test]
fn a_request_for_a_response_becomes_one_for_a_completion() {
    let request = json!({
        "model": "m", "instructions": "S", "max_output_tokens": 50, "store": false, "parallel_tool_calls": false,
        "include": ["reasoning.encrypted_content"], "text": {"format": {"type": "json_schema", "name": "a",
            "strict": true, "schema": {"type": "object"}}},
        "tools": [{"type": "function", "name": "f", "strict": false, "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "f"},
        "input": [
            {"role": "developer", "content": "D"},
            {"role": "user", "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "One moment."}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "3"}]},
        ],
    });
    let (body, dropped) = sent(&quirks::GROQ, Operation::Responses, &request, "llama");
    let expected = json!({
        "model": "llama",
        "messages": [
            {"role": "system", "content": "S\n\nD"},
            {"role": "user", "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            ]},
            {"role": "assistant", "content": "One moment.", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
        ],
        "max_completion_tokens": 50,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": {"type": "object"}}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": false}}],
        "parallel_tool_calls": false,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    });
    assert_eq!(body, expected);
    assert_eq!(dropped, [""; 0]);
}

/// What a caller of Responses is told when Groq says this.
fn told(chunks: &[Value]) -> Vec<Value> {
    let call = support::call(Operation::Responses, &json!({"model": "m", "input": "Hi", "stream": true}));
    let decoder = OpenAi::new(&quirks::GROQ, None).unwrap().stream_decoder(&call);
    let mut relay = Relay::new(cfr_providers::adapter::Framing::Sse, decoder);
    let mut bytes = BytesMut::new();
    for chunk in chunks.iter().map(ToString::to_string).chain(["[DONE]".to_owned()]) {
        let relayed = relay.push(Bytes::from(format!("data: {chunk}\n\n")));
        assert!(relayed.error.is_none(), "{:?}", relayed.error);
        bytes.extend_from_slice(&relayed.event.bytes);
    }
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let frames = text.split_terminator("\n\n").map(|frame| {
        let (name, data) = frame.split_once("\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
        event
    });
    frames.collect()
}

fn delta(delta: &Value) -> Value {
    json!({"id": "x", "model": "llama", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4}})
}

#[test]
fn events_come_in_openais_order_and_are_numbered() {
    let events = told(&[
        delta(&json!({"role": "assistant", "content": ""})),
        delta(&json!({"reasoning": "Hm."})),
        delta(&json!({"content": "Hel"})),
        delta(&json!({"content": "lo"})),
        delta(&json!({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]})),
        delta(&json!({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{"}}]})),
        delta(
            &json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":1}"}}, {"index": 1, "function": {"arguments": "}"}}]}),
        ),
        finish("tool_calls"),
    ]);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["id"], events[0]["response"]["id"]);
    assert_eq!(response["usage"]["input_tokens"], 9);
    let done: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .map(|event| &event["item"])
        .collect();
    assert_eq!(response["output"].as_array().unwrap().iter().collect::<Vec<_>>(), done);
    assert_eq!(done[2]["arguments"], "{\"a\":1}");
    assert_eq!((&done[3]["call_id"], &done[3]["arguments"]), (&json!("c2"), &json!("{}")));
}

#[test]
fn calls_are_told_apart_however_a_server_numbers_them() {
    let call = |said: Value| delta(&json!({"tool_calls": [said]}));
    let events = told(&[
        // Without an id; with the index of another; whole in one chunk, with its arguments as an object.
        call(json!({"function": {"name": "f", "arguments": "{}"}})),
        call(json!({"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{\"a\""}})),
        call(json!({"index": 1, "id": "c2", "function": {"name": "g", "arguments": ":1}"}})),
        call(json!({"index": 1, "id": "c3", "function": {"name": "h", "arguments": {"b": 2}}})),
        call(json!({"index": 7, "function": {"arguments": "of nothing"}})),
        finish("stop"),
    ]);
    let output = events.last().unwrap()["response"]["output"].as_array().unwrap();
    let calls: Vec<(&str, &str, &str)> = output
        .iter()
        .map(|item| ["call_id", "name", "arguments"].map(|field| item[field].as_str().unwrap()))
        .map(|[id, name, arguments]| (id, name, arguments))
        .collect();
    assert_eq!(calls, [("call_x_0_0", "f", "{}"), ("c2", "g", "{\"a\":1}"), ("c3", "h", "{\"b\":2}")]);
}

#[test]
fn what_a_server_says_it_charges_reaches_the_books_through_a_translation() {
    let body = json!({
        "id": "x", "model": "m", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "cost": 0.5},
    });
    let call = support::call(Operation::Responses, &json!({"model": "m", "input": "Hi"}));
    let adapter = OpenAi::new(&quirks::OPENROUTER, None).unwrap();
    let reply = adapter.decode(&call, &http::HeaderMap::new(), body.to_string().into()).unwrap();
    assert_eq!(reply.report.provider_cost, Some(cfr_core::price::PicoUsd(500_000_000_000)));
}

#[test]
fn what_a_search_model_read_is_cited() {
    let body = json!({
        "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
        "search_results": [{"title": "T", "url": "https://example.com/"}],
    });
    let call = support::call(Operation::Responses, &json!({"model": "m", "input": "Hi"}));
    let adapter = OpenAi::new(&quirks::PERPLEXITY, None).unwrap();
    let reply = adapter.decode(&call, &http::HeaderMap::new(), body.to_string().into()).unwrap();
    let response: Value = serde_json::from_slice(&reply.body).unwrap();
    let cited = &response["output"][0]["content"][0]["annotations"][0];
    assert_eq!((&cited["url"], &cited["title"]), (&json!("https://example.com/"), &json!("T")));
}

#[test]
fn every_end_has_its_status() {
    for (reason, kind, incomplete) in [
        ("stop", "response.completed", Value::Null),
        ("length", "response.incomplete", json!({"reason": "max_output_tokens"})),
        ("content_filter", "response.incomplete", json!({"reason": "content_filter"})),
        ("error", "response.failed", Value::Null),
    ] {
        let events = told(&[delta(&json!({"content": "x"})), finish(reason)]);
        let last = events.last().unwrap();
        assert_eq!(last["type"], kind);
        assert_eq!(last["response"]["incomplete_details"], incomplete);
        assert_eq!(last["response"]["error"].is_null(), reason != "error");
    }
}

#[test]
fn a_refusal_is_a_part_of_its_own() {
    let events = told(&[delta(&json!({"refusal": "No."})), finish("stop")]);
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!(output[0]["content"], json!([{"type": "refusal", "refusal": "No."}]));
}

#[test]
fn marks_of_the_prompt_cache_reach_the_server_that_hands_them_on() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let mut request = question("m");
    request["system"] = json!([{"type": "text", "text": "S", "cache_control": mark}]);
    request["messages"][0]["content"] = json!([{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]);
    let (body, dropped) = sent(&quirks::OPENROUTER, Operation::Messages, &request, "anthropic/claude");
    assert_eq!(body["messages"][0]["content"], json!([{"type": "text", "text": "S", "cache_control": mark}]));
    assert_eq!(body["messages"][1]["content"][0]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(dropped, [""; 0]);
    let (body, dropped) = sent(&quirks::GROQ, Operation::Messages, &request, "m");
    assert_eq!((&body["messages"][0]["content"], dropped), (&json!("S"), vec!["cache_control".to_owned()]));
}

#[test]
fn proofs_of_other_providers_survive_a_round_trip_through_a_client_of_responses() {
    for (provider, name, model, proof) in [
        ("anthropic", "reasoning_stream", "claude-sonnet-4-6", "\"signature\":"),
        ("gemini", "stream", "gemini-3.8-flash", "\"thoughtSignature\":"),
        ("bedrock", "tool_stream", "eu.anthropic.claude-sonnet-4-6", "\"signature\":"),
    ] {
        let file = support::own_folder().join(provider).join(name).with_extension("json");
        let exchange = cfr_providers::transport::replay::Exchange::read(&file).unwrap();
        let adapter = support::adapter(provider).unwrap();
        let question = json!({"role": "user", "content": "Hi"});
        let call = support::call(Operation::Responses, &json!({"model": "m", "input": [question], "stream": true}));
        let mut relay = Relay::new(adapter.framing(), adapter.stream_decoder(&call));
        let relayed = relay.push(exchange.body.clone());
        let mut bytes = relayed.event.bytes.to_vec();
        bytes.extend_from_slice(&relay.finish().event.bytes);
        let last = String::from_utf8(bytes).unwrap();
        let last: Value = serde_json::from_str(last.trim().rsplit_once("data: ").unwrap().1).unwrap();
        let mut input = vec![question.clone()];
        input.extend(last["response"]["output"].as_array().unwrap().iter().cloned());
        input.push(question);
        let call = support::call(
            Operation::Responses,
            &json!({"model": "m", "input": input, "max_output_tokens": 4000,
            "reasoning": {"effort": "low"}}),
        );
        let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
        let order = Order { call: &call, model, output_tokens_max: None, timeout, idle_timeout };
        let body = String::from_utf8(adapter.encode(&order).unwrap().body.to_vec()).unwrap();
        assert!(body.contains(proof) && !body.contains("cfr."), "{provider}: {body}");
    }
}
