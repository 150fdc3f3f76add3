//! Clients of the dialect: bytes that stay bytes, and what hosts of the models want changed.

use super::*;

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
    let vertex = Translated(Anthropic::on_vertex("p", "l", Some("https://host.example/v1")).unwrap());
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

#[test]
fn the_callers_version_of_the_dialect_goes_to_anthropic_and_to_no_other_host() {
    let body = json!({"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    let asked = call(Operation::Messages, &body);
    let newer = Call { dialect_version: Some("2026-10-21".into()), ..asked.clone() };
    let sent = |call: &Call| adapter().encode(&order(call, "x", None)).unwrap().headers["anthropic-version"].clone();
    assert_eq!((sent(&asked), sent(&newer)), ("2023-06-01".parse().unwrap(), "2026-10-21".parse().unwrap()));
    let vertex = Translated(Anthropic::on_vertex("p", "l", None).unwrap());
    let request = vertex.encode(&order(&newer, "x", None)).unwrap();
    assert_eq!(request.headers.get("anthropic-version"), None);
    assert!(request.body.starts_with(br#"{"anthropic_version":"vertex-2023-10-16""#));
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
