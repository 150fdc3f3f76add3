use super::*;

const MESSAGES: Operation = Operation::Messages;

fn with_extra(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"model":"claude-haiku-4-5","messages":[{{"role":"user","content":"hi"}}]{comma}{extra}}}"#)
}

#[track_caller]
fn read(extra: &str) -> Envelope {
    parse(MESSAGES, &with_extra(extra)).unwrap()
}

#[track_caller]
fn refuses(extra: &str, param: &str, reason: &str) {
    refuses_body(MESSAGES, &with_extra(extra), param, reason);
}

/// The bound of a message with this content, without the bytes around it and the template.
#[track_caller]
fn content(content: &str) -> InputBound {
    let body = format!(r#"{{"model":"a","messages":[{{"role":"user","content":{content}}}]}}"#);
    let mut input = parse(MESSAGES, &body).unwrap().input;
    input.text_tokens -= (body.len() - content.len()) as u64 + 256;
    input
}

#[test]
fn everything_that_routing_needs_is_read_with_its_place() {
    let extra = r#""stream":true,"max_tokens": 17,"metadata":{"user_id":"anna"},"service_tier":"standard_only""#;
    let body = with_extra(extra);
    let envelope = parse(MESSAGES, &body).unwrap();
    assert_eq!(&*envelope.model, "claude-haiku-4-5");
    assert_eq!(&body[envelope.model_span.unwrap()], r#""claude-haiku-4-5""#);
    assert!(envelope.stream && envelope.include_usage);
    let cap = envelope.output_cap.unwrap();
    assert_eq!((cap.tokens, cap.field, &body[cap.span]), (17, CapField::MaxTokens, "17"));
    assert_eq!(envelope.user.as_deref(), Some("anna"));
    assert_eq!(envelope.metadata.as_deref(), Some(r#"{"user_id":"anna"}"#));
    assert_eq!((envelope.service_tier.as_deref(), envelope.choices), (Some("standard"), 1));
}

#[test]
fn what_is_missing_or_of_another_type_is_refused() {
    refuses_body(MESSAGES, r#"{"model":"a"}"#, "messages", "missing");
    refuses_body(MESSAGES, r#"{"messages":[]}"#, "model", "missing");
    refuses_body(MESSAGES, r#"{"model":"a","messages":"x"}"#, "messages", "array");
    refuses_body(MESSAGES, r#"{"model":"a","messages":["x"]}"#, "messages", "array");
    refuses_body(MESSAGES, r#"{"model":"a","messages":[{"content":[1]}]}"#, "messages", "array");
    refuses_body(MESSAGES, r#"{"model":"a","messages":[{"content":[{"type":1}]}]}"#, "messages", "array");
    refuses(r#""system":[1]"#, "system", "array");
    refuses(r#""tools":{}"#, "tools", "array");
    refuses(r#""metadata":{"user_id":1}"#, "metadata", "user_id");
    refuses(r#""max_tokens":1.5"#, "max_tokens", "integer from 0");
    assert_eq!(read(r#""max_tokens":0"#).output_cap.unwrap().tokens, 0);
}

#[test]
fn a_field_that_is_given_twice_is_refused_however_deep_it_stands() {
    refuses(r#""max_tokens":1,"max_tokens":2"#, "max_tokens", "twice");
    refuses(r#""Speed":"fast""#, "speed", "letter case");
    let twice = |block: &str| format!(r#"{{"model":"a","messages":[{{"role":"user","content":[{block}]}}]}}"#);
    let source = r#"{"type":"image","source":{"type":"base64","type":"url"}}"#;
    refuses_body(MESSAGES, &twice(source), "messages", "twice");
    let result = r#"{"type":"tool_result","content":[{"type":"text","type":"image"}]}"#;
    refuses_body(MESSAGES, &twice(result), "messages", "twice");
    refuses(r#""tools":[{"type":"custom","type":"web_search_20250305"}]"#, "tools", "twice");
}

#[test]
fn thinking_stays_below_the_cap() {
    let thinking =
        |budget: u64| format!(r#""max_tokens":2000,"thinking":{{"type":"enabled","budget_tokens":{budget}}}"#);
    assert_eq!(read(&thinking(1_999)).output_cap.unwrap().tokens, 2_000);
    refuses(&thinking(2_000), "thinking", "lower than max_tokens");
    refuses(r#""thinking":{"type":"enabled","budget_tokens":1024}"#, "max_tokens", "missing");
    assert_eq!(read(r#""thinking":{"type":"adaptive"}"#).output_cap, None);
}

#[test]
fn text_thoughts_and_tool_calls_count_by_their_bytes() {
    for block in [
        r#""plain""#,
        r#"[{"type":"text","text":"x","citations":null}]"#,
        r#"[{"type":"thinking","thinking":"x","signature":"c2ln"},{"type":"redacted_thinking","data":"eA=="}]"#,
        r#"[{"type":"tool_use","id":"t","name":"f","input":{"type":"image","source":{"file":1}}}]"#,
        r#"[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x"}],"is_error":true}]"#,
        r#"[{"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"x"}]}]"#,
        r#"[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"x"}}]"#,
    ] {
        let expected = InputBound { text_tokens: block.len() as u64, ..InputBound::default() };
        assert_eq!(content(block), expected, "{block}");
    }
}

#[test]
fn images_are_counted_wherever_they_stand() {
    let data = format!(r#""{}""#, "A".repeat(4_000));
    let image = format!(r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":{data}}}}}"#);
    let blocks = format!(
        r#"[{image},{{"type":"tool_result","tool_use_id":"t","content":[{image}]}},
        {{"type":"document","source":{{"type":"content","content":[{image}]}}}},
        {{"type":"image","source":{{"type":"url","url":"https://example.com/a.png"}}}},
        {{"type":"image","source":{{"type":"file","file_id":"f"}}}}]"#
    );
    let input = content(&blocks);
    assert_eq!((input.images, input.unbounded), (5, false));
    assert_eq!(input.text_tokens, (blocks.len() - 3 * data.len()) as u64);
    let pdf = image.replace("image/png", "application/pdf");
    assert!(content(&format!("[{pdf}]")).unbounded);
    assert!(content(&format!("[{pdf}]")).text_tokens > data.len() as u64);
}

#[test]
fn blocks_without_a_bound_in_the_body_are_unbounded() {
    for block in [
        r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="}}"#,
        r#"{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}"#,
        r#"{"type":"document","source":{"type":"file","file_id":"f"}}"#,
        r#"{"type":"document","source":{"type":"text","data":"a. b."},"citations":{"enabled":true}}"#,
        r#"{"type":"document"}"#,
        r#"{"type":"container_upload","file_id":"f"}"#,
        r#"{"type":"web_search_tool_result","tool_use_id":"t","content":[{"type":"web_search_result"}]}"#,
        r#"{"type":"tool_result","content":[{"type":"tool_reference","tool_name":"t"}]}"#,
        r#"{"text":"no type"}"#,
    ] {
        assert!(content(&format!("[{block}]")).unbounded, "{block}");
    }
    assert!(read(r#""container":"c""#).input.unbounded);
    assert!(!read(r#""container":null,"mcp_servers":[ ]"#).input.unbounded);
}

#[test]
fn tools_and_schemas_count_twice_and_bring_their_own_overhead() {
    let tools = r#"[{"name":"f","input_schema":{"type":"object"}},{"type":"custom","name":"g"}]"#;
    let body = with_extra(&format!(r#""tools":{tools}"#));
    let expected = body.len() + 256 + tools.len() + 1_024 + 2 * 64;
    let input = parse(MESSAGES, &body).unwrap().input;
    assert_eq!((input.text_tokens, input.unbounded), (expected as u64, false));
    let format = r#"{"format":{"type":"json_schema","schema":{}}}"#;
    let body = with_extra(&format!(r#""output_config":{format}"#));
    let expected = body.len() + 256 + format.len() + 128;
    assert_eq!(parse(MESSAGES, &body).unwrap().input.text_tokens, expected as u64);
    let shell = r#"[{"type":"bash_20250124","name":"bash"}]"#;
    let body = with_extra(&format!(r#""tools":{shell}"#));
    let expected = body.len() + 256 + shell.len() + 1_024 + 64 + 1_024;
    let input = parse(MESSAGES, &body).unwrap().input;
    assert_eq!((input.text_tokens, input.unbounded), (expected as u64, false));
}

#[test]
fn hosted_tools_are_unbounded_and_capped() {
    let hosted = |tools: &str| {
        let body = Bytes::from(with_extra(&format!(r#""tools":{tools}"#)));
        let envelope = Envelope::parse(MESSAGES, &body).unwrap();
        assert!(envelope.input.unbounded);
        let edits: Vec<_> = envelope.hosted_edits().collect();
        let sent: Value = serde_json::from_slice(&splice(&body, &edits)).unwrap();
        (envelope.input.web_searches, envelope.input.hosted_calls, sent["tools"].clone())
    };
    let search = r#"{"type":"web_search_20250305","name":"web_search""#;
    let capped = |uses: u64| json!({"type": "web_search_20250305", "name": "web_search", "max_uses": uses});
    assert_eq!(hosted(&format!(r#"[{search},"max_uses":3}}]"#)), (3, 3, json!([capped(3)])));
    assert_eq!(hosted(&format!("[ {search}}}]")), (10, 10, json!([capped(10)])));
    assert_eq!(hosted(&format!(r#"[{search},"max_uses": null}}]"#)), (10, 10, json!([capped(10)])));
    let two = format!(r#"[{search}}},{{"type":"web_fetch_20250910","max_uses":2}}]"#);
    assert_eq!(hosted(&two), (10, 12, json!([capped(10), {"type": "web_fetch_20250910", "max_uses": 2}])));
    let code = r#"[{"type":"code_execution_20250825","name":"code_execution"}]"#;
    assert_eq!(hosted(code), (0, 10, serde_json::from_str(code).unwrap()));
    refuses(r#""tools":[{"type":"web_search_20250305","max_uses":"3"}]"#, "tools", "well-formed");
    refuses(r#""tools":[{"type":"advisor_20260301","model":"dearer"}]"#, "tools", "nothing bounds");
    assert_eq!(read(r#""mcp_servers":[{"url":"https://example.com"}]"#).input.hosted_calls, 10);
}

#[test]
fn a_summary_of_the_conversation_is_one_more_answer() {
    let envelope = read(r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#);
    assert_eq!((envelope.choices, envelope.input.hosted_calls, envelope.input.unbounded), (2, 1, true));
    let envelope = read(r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#);
    assert_eq!((envelope.choices, envelope.input.unbounded), (1, false));
}

#[test]
fn cache_marks_are_seen_wherever_they_stand() {
    let mark = r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#;
    assert!(!read("").input.cache_markers);
    assert!(read(mark).input.cache_markers);
    assert!(read(&format!(r#""system":[{{"type":"text","text":"x",{mark}}}]"#)).input.cache_markers);
    assert!(read(&format!(r#""tools":[{{"name":"f",{mark}}}]"#)).input.cache_markers);
    assert!(content(&format!(r#"[{{"type":"tool_result","content":[{{"type":"text",{mark}}}]}}]"#)).cache_markers);
    assert!(!content(r#"[{"type":"text","text":"cache_control"}]"#).cache_markers);
}

#[test]
fn a_speed_is_priced_like_a_tier_and_a_geography_apart() {
    let terms = |extra: &str| {
        let Envelope { service_tier, geo, .. } = read(extra);
        (service_tier.as_deref().map(str::to_owned), geo.as_deref().map(str::to_owned))
    };
    assert_eq!(terms(r#""speed":"fast","service_tier":"auto""#), (Some("fast".into()), None));
    assert_eq!(terms(r#""speed":"standard","service_tier":"auto""#), (Some("auto".into()), None));
    assert_eq!(terms(r#""inference_geo":"us""#), (None, Some("us".into())));
    refuses(&format!(r#""inference_geo":"{}""#, "x".repeat(33)), "inference_geo", "32");
}
