use super::*;

const RESPONSES: Operation = Operation::Responses;

fn with_extra(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"model":"gpt-5.1","input":"hi"{comma}{extra}}}"#)
}

#[track_caller]
fn read(extra: &str) -> Envelope {
    parse(RESPONSES, &with_extra(extra)).unwrap()
}

#[track_caller]
fn refuses(extra: &str, param: &str, reason: &str) {
    refuses_body(RESPONSES, &with_extra(extra), param, reason);
}

/// The bound of this input, without the bytes around it and the template.
#[track_caller]
fn input(input: &str) -> InputBound {
    let body = format!(r#"{{"model":"a","input":{input}}}"#);
    let mut bound = parse(RESPONSES, &body).unwrap().input;
    bound.text_tokens -= (body.len() - input.len()) as u64 + 256;
    bound
}

#[test]
fn everything_that_routing_needs_is_read_with_its_place() {
    let extra = r#""stream":true,"max_output_tokens": 17,"metadata":{"a":"b"},"service_tier":"flex","safety_identifier":"anna""#;
    let body = with_extra(extra);
    let envelope = parse(RESPONSES, &body).unwrap();
    assert_eq!(&body[envelope.model_span.unwrap()], r#""gpt-5.1""#);
    assert!(envelope.stream && envelope.include_usage && envelope.stream_options_span.is_none());
    let cap = envelope.output_cap.unwrap();
    assert_eq!((cap.tokens, cap.field, &body[cap.span]), (17, CapField::MaxOutputTokens, "17"));
    assert_eq!((envelope.user.as_deref(), envelope.metadata.as_deref()), (Some("anna"), Some(r#"{"a":"b"}"#)));
    assert_eq!((envelope.service_tier.as_deref(), envelope.choices), (Some("flex"), 1));
    assert_eq!(read(r#""user":"otto","safety_identifier":"anna""#).user.as_deref(), Some("otto"));
}

#[test]
fn what_is_missing_or_of_another_type_is_refused() {
    refuses_body(RESPONSES, r#"{"model":"a"}"#, "input", "missing");
    refuses_body(RESPONSES, r#"{"model":"a","input":{}}"#, "input", "array");
    refuses_body(RESPONSES, r#"{"model":"a","input":["x"]}"#, "input", "array");
    refuses_body(RESPONSES, r#"{"model":"a","input":[{"type":1}]}"#, "input", "array");
    refuses_body(RESPONSES, r#"{"model":"a","input":[{"content":[{"type":"text","type":"file"}]}]}"#, "input", "twice");
    refuses(r#""max_output_tokens":0"#, "max_output_tokens", "integer from 1");
    refuses(r#""Max_Output_Tokens":9"#, "max_output_tokens", "letter case");
    refuses(r#""tools":[{"name":"no type"}]"#, "tools", "well-formed");
    refuses(r#""max_tool_calls":-1"#, "max_tool_calls", "integer");
}

#[test]
fn an_answer_in_the_background_is_refused() {
    refuses(r#""background":true"#, "background", "after this request has ended");
    assert!(!read(r#""background":false"#).stream);
}

#[test]
fn a_cap_takes_the_place_of_a_null() {
    let changed = |extra: &str| {
        let body = Bytes::from(with_extra(extra));
        let edit = Envelope::parse(RESPONSES, &body).unwrap().cap_edit(CapField::MaxOutputTokens, b"40");
        splice(&body, &[edit])
    };
    assert_eq!(changed(r#""max_output_tokens":null"#), with_extra(r#""max_output_tokens":40"#));
    assert_eq!(changed(""), r#"{"max_output_tokens":40,"model":"gpt-5.1","input":"hi"}"#);
}

#[test]
fn items_that_hold_all_they_mean_count_by_their_bytes() {
    for items in [
        r#""plain""#,
        r#"[{"role":"user","content":"x"},{"type":"message","id":"msg_1","role":"assistant","content":[]}]"#,
        r#"[{"role":"assistant","content":[{"type":"output_text","text":"x"},{"type":"refusal","refusal":"no"}]}]"#,
        r#"[{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{\"file_id\":1}"}]"#,
        r#"[{"type":"function_call_output","call_id":"c","output":"x"}]"#,
        r#"[{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"x"}]}]"#,
        r#"[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"eA=="}]"#,
        r#"[{"type":"reasoning","summary":[{"type":"summary_text","text":"x"}]}]"#,
        r#"[{"type":"custom_tool_call","call_id":"c","name":"apply_patch","input":"*** Begin Patch"}]"#,
        r#"[{"type":"web_search_call","status":"completed","action":{"type":"search","query":"x"}}]"#,
        r#"[{"type":"new_kind_call","call_id":"c","status":"completed"}]"#,
    ] {
        let expected = InputBound { text_tokens: items.len() as u64, ..InputBound::default() };
        assert_eq!(input(items), expected, "{items}");
    }
}

#[test]
fn what_the_provider_may_keep_is_unbounded() {
    for item in [
        r#"{"type":"item_reference","id":"msg_1"}"#,
        r#"{"id":"msg_1"}"#,
        r#"{"type":"reasoning","id":"rs_1","summary":[]}"#,
        r#"{"type":"web_search_call","id":"ws_1"}"#,
        r#"{"type":"code_interpreter_call","container_id":"c"}"#,
        r#"{"type":"new_kind","file_id":"f"}"#,
        r#"{"type":"new_kind","f\u0069le_\u0069d":"f"}"#,
        r#"{"type":"tool_search_output","tools":[{"type":"function"}]}"#,
        r#"{"role":"user","content":[{"type":"input_file","file_data":"data:application/pdf;base64,AA"}]}"#,
        r#"{"role":"user","content":[{"type":"input_file","file_url":"https://example.com/a.pdf"}]}"#,
        r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA","format":"mp3"}}]}"#,
        r#"{"role":"user","content":[{"type":"input_image","image_url":"data:application/pdf;base64,AA"}]}"#,
    ] {
        assert!(input(&format!("[{item}]")).unbounded, "{item}");
    }
    for extra in [r#""previous_response_id":"resp_1""#, r#""conversation":"conv_1""#] {
        assert!(read(extra).input.unbounded, "{extra}");
        assert!(parse(RESPONSES, &format!(r#"{{"model":"a",{extra}}}"#)).unwrap().input.unbounded);
    }
    assert!(!read(r#""previous_response_id":null"#).input.unbounded);
}

#[test]
fn a_prompt_that_the_provider_keeps_is_refused() {
    refuses(r#""prompt":{"id":"pmpt_1"}"#, "prompt", "cannot be priced");
    assert!(!read(r#""prompt":null"#).input.unbounded);
}

#[test]
fn what_a_call_goes_on_from_is_found_with_its_place() {
    let find =
        |extra: &str| parse(RESPONSES, &with_extra(extra)).map(|envelope| envelope.refers_to.map(|found| *found));
    for (extra, field, id) in [
        (r#""previous_response_id": "resp_1""#, "previous_response_id", "resp_1"),
        (r#""conversation":"conv_1""#, "conversation", "conv_1"),
        (r#""previous\u005fresponse_id":"resp_1""#, "previous_response_id", "resp_1"),
    ] {
        let found = find(extra).unwrap().unwrap();
        assert_eq!((found.field, found.id.as_deref()), (field, Some(id)), "{extra}");
        assert_eq!(with_extra(extra)[found.span], format!("\"{id}\""));
    }
    for extra in ["", r#""previous_response_id":null"#, r#""metadata":{"previous_response_id":"x"}"#] {
        assert_eq!(find(extra), Ok(None), "{extra}");
    }
    for extra in [r#""previous_response_id":7"#, r#""conversation":{"id":"conv_1"}"#] {
        assert_eq!(find(extra).unwrap().unwrap().id, None, "{extra}: somebody's all the same");
    }
    for extra in
        [r#""previous_response_id":"a","conversation":"b""#, r#""previous_response_id":"a","previous_response_id":"b""#]
    {
        find(extra).unwrap_err();
    }
}

#[test]
fn images_are_counted_wherever_they_stand() {
    let url = format!(r#""data:image/png;base64,{}""#, "A".repeat(4_000));
    let items = format!(
        r#"[{{"role":"user","content":[{{"type":"input_image","image_url":{url}}},{{"type":"input_image","file_id":"f"}},
        {{"type":"input_image","image_url":"https://example.com/a.png"}}]}},
        {{"type":"computer_call_output","call_id":"c","output":{{"type":"computer_screenshot","image_url":{url}}}}},
        {{"type":"image_generation_call","id":"ig_1","result":{url}}},{{"type":"image_generation_call","id":"ig_2"}}]"#
    );
    let bound = input(&items);
    assert_eq!((bound.images, bound.unbounded), (6, false));
    assert_eq!(bound.text_tokens, (items.len() - 3 * url.len()) as u64);
}

#[test]
fn tools_and_schemas_count_twice_and_bring_their_own_overhead() {
    let tools = r#"[{"type":"function","name":"f","parameters":{}},{"type":"namespace","tools":[{"type":"custom"}]}]"#;
    let body = with_extra(&format!(r#""tools":{tools}"#));
    let expected = body.len() + 256 + tools.len() + 1_024 + 3 * 64;
    let bound = parse(RESPONSES, &body).unwrap().input;
    assert_eq!((bound.text_tokens, bound.unbounded), (expected as u64, false));
    let text = r#"{"format":{"type":"json_schema","name":"n","schema":{}}}"#;
    let body = with_extra(&format!(r#""text":{text}"#));
    let expected = body.len() + 256 + text.len() + 128;
    assert_eq!(parse(RESPONSES, &body).unwrap().input.text_tokens, expected as u64);
    let shell = r#"[{"type":"local_shell"}]"#;
    let body = with_extra(&format!(r#""tools":{shell}"#));
    let expected = body.len() + 256 + shell.len() + 1_024 + 64 + 1_024;
    assert_eq!(parse(RESPONSES, &body).unwrap().input.text_tokens, expected as u64);
}

#[test]
fn one_cap_holds_for_all_hosted_tools() {
    let hosted = |extra: &str| {
        let body = Bytes::from(with_extra(extra));
        let envelope = Envelope::parse(RESPONSES, &body).unwrap();
        assert!(envelope.input.unbounded);
        let edits: Vec<_> = envelope.hosted_edits().collect();
        let sent: Value = serde_json::from_slice(&splice(&body, &edits)).unwrap();
        let InputBound { hosted_calls, web_searches, file_searches, code_sessions, .. } = envelope.input;
        (hosted_calls, web_searches, file_searches, code_sessions, sent["max_tool_calls"].as_u64().unwrap())
    };
    assert_eq!(hosted(r#""tools":[{"type":"web_search"}]"#), (10, 10, 0, 0, 10));
    assert_eq!(hosted(r#""tools":[{"type":"web_search_preview"}],"max_tool_calls":3"#), (3, 3, 0, 0, 3));
    assert_eq!(hosted(r#""tools":[{"type":"file_search"},{"type":"mcp"}],"max_tool_calls":null"#), (10, 0, 10, 0, 10));
    assert_eq!(hosted(r#""tools":[{"type":"code_interpreter"},{"type":"unheard_of"}]"#), (10, 0, 0, 1, 10));
    refuses(r#""tools":[{"type":"image_generation"}]"#, "tools", "nothing bounds");
    assert_eq!(read(r#""tools":[{"type":"function"}]"#).hosted_edits().count(), 0);
}

#[test]
fn our_caps_stand_side_by_side() {
    let body = Bytes::from_static(br#"{"model":"a","input":"x","tools":[{"type":"mcp"}]}"#);
    let envelope = Envelope::parse(RESPONSES, &body).unwrap();
    let edits: Vec<_> = envelope.hosted_edits().chain([envelope.cap_edit(CapField::MaxOutputTokens, b"7")]).collect();
    let expected = r#"{"max_tool_calls":10,"max_output_tokens":7,"model":"a","input":"x","tools":[{"type":"mcp"}]}"#;
    assert_eq!(splice(&body, &edits), expected);
}

#[test]
fn cache_marks_and_summaries_are_seen() {
    assert!(read(r#""prompt_cache_options":{"mode":"explicit"}"#).input.cache_markers);
    let part =
        r#"[{"role":"user","content":[{"type":"input_text","text":"x","prompt_cache_breakpoint":{"ttl":"12h"}}]}]"#;
    assert!(input(part).cache_markers);
    let envelope = read(r#""context_management":[{"type":"compaction"}]"#);
    assert_eq!((envelope.choices, envelope.input.hosted_calls), (2, 1));
}
