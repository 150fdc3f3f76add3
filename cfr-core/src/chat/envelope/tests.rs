use std::borrow::Cow;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod bound;
mod gemini;
mod messages;
mod moderations;
mod realtime;
mod rerank;
mod responses;
mod work;

const CHAT: Operation = Operation::ChatCompletions;

fn parse(operation: Operation, body: &str) -> Result<Envelope, EnvelopeError> {
    Envelope::parse(operation, &Bytes::copy_from_slice(body.as_bytes()))
}

#[track_caller]
fn chat(extra: &str) -> Envelope {
    parse(CHAT, &with_extra(extra)).unwrap()
}

fn with_extra(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"hi"}}]{comma}{extra}}}"#)
}

#[track_caller]
fn refuses(extra: &str, param: &str, reason: &str) {
    refuses_body(CHAT, &with_extra(extra), param, reason);
}

#[track_caller]
fn refuses_body(operation: Operation, body: &str, expected: &str, expected_reason: &str) {
    match parse(operation, body) {
        Err(EnvelopeError::Field { param, reason }) => {
            assert_eq!(param, expected, "{reason}");
            assert!(reason.contains(expected_reason), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_not_json(body: &[u8]) {
    let result = Envelope::parse(CHAT, &Bytes::copy_from_slice(body));
    assert!(matches!(result, Err(EnvelopeError::NotJson { .. })), "{result:?}");
}

#[test]
fn everything_that_routing_needs_is_read_with_its_place() {
    let body = r#" {"model" : "gpt-4o", "stream":true,"stream_options": {"include_usage":true} ,"max_tokens":  17 ,
        "n":3,"service_tier":"flex","user":"anna","messages":[],"temperature":0.5}"#;
    let envelope = parse(CHAT, body).unwrap();
    assert_eq!(&*envelope.model, "gpt-4o");
    assert_eq!(&body[envelope.model_span.clone().unwrap()], r#""gpt-4o""#);
    assert!(envelope.stream && envelope.include_usage);
    assert_eq!(&body[envelope.stream_options_span.clone().unwrap()], r#"{"include_usage":true}"#);
    let cap = envelope.output_cap.clone().unwrap();
    assert_eq!((cap.tokens, cap.field, &body[cap.span]), (17, CapField::MaxTokens, "17"));
    assert_eq!(envelope.choices, 3);
    assert_eq!(envelope.service_tier.as_deref(), Some("flex"));
    assert_eq!(envelope.user.as_deref(), Some("anna"));
}

#[test]
fn what_is_no_json_object_is_refused() {
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{} {}",
        "{}x",
        r#"{"model":"a","messages":[]},"#,
        r#"{"model":"a",}"#,
        r#"{"model":"a" "messages":[]}"#,
        r#"{model:"a"}"#,
        "\u{feff}{}",
    ] {
        is_not_json(body.as_bytes());
    }
    is_not_json(b"{\"model\":\"\xff\",\"messages\":[]}");
}

#[test]
fn deep_nesting_is_refused_and_deep_strings_are_not() {
    let nested = |levels: usize| with_extra(&format!(r#""x":{}{}"#, "[".repeat(levels), "]".repeat(levels)));
    assert!(parse(CHAT, &nested(DEPTH_MAX - 1)).is_ok());
    is_not_json(nested(DEPTH_MAX).as_bytes());
    is_not_json(nested(200_000).as_bytes());
    assert!(parse(CHAT, &with_extra(&format!(r#""x":"\"{}\\""#, "[{".repeat(500)))).is_ok());
    assert!(parse(CHAT, &with_extra(&format!(r#""x":[{}0]"#, "[],{},".repeat(500)))).is_ok());
}

#[test]
fn the_deepest_blocks_of_every_dialect_are_walked() {
    let nested = |open: &str, close: &str, levels: usize| format!("{}{}", open.repeat(levels), close.repeat(levels));
    let blocks = nested(r#"[{"type":"tool_result","content":"#, "}]", 60).replace(":}", ":[]}");
    assert!(parse(Operation::Messages, &format!(r#"{{"model":"m","messages":[{{"content":{blocks}}}]}}"#)).is_ok());
    let items = nested(r#"[{"type":"message","content":"#, "}]", 60).replace(":}", ":[]}");
    assert!(parse(Operation::Responses, &format!(r#"{{"model":"m","input":{items}}}"#)).is_ok());
    let parts = nested(r#"[{"functionResponse":{"parts":"#, "}}]", 40).replace(":}", ":[]}");
    let body = Bytes::from(format!(r#"{{"contents":[{{"parts":{parts}}}]}}"#));
    assert!(Envelope::parse_named(Operation::GenerateContent, "m", false, &body).is_ok());
}

#[test]
fn a_model_must_be_named() {
    refuses_body(CHAT, r#"{"messages":[]}"#, "model", "missing");
    refuses_body(CHAT, r#"{"messages":[],"model":null}"#, "model", "missing");
    refuses_body(CHAT, r#"{"messages":[],"model":""}"#, "model", "empty");
    refuses_body(CHAT, r#"{"messages":[],"model":7}"#, "model", "string");
    refuses_body(CHAT, r#"{"messages":[],"model":"a\nb"}"#, "model", "control");
    refuses_body(CHAT, &format!(r#"{{"messages":[],"model":"{}"}}"#, "m".repeat(MODEL_BYTES_MAX + 1)), "model", "256");
}

#[test]
fn each_operation_needs_its_own_input() {
    refuses_body(CHAT, r#"{"model":"a","prompt":"x"}"#, "messages", "missing");
    refuses_body(Operation::Completions, r#"{"model":"a","messages":[]}"#, "prompt", "missing");
    refuses_body(Operation::Embeddings, r#"{"model":"a","prompt":"x"}"#, "input", "missing");
    refuses_body(Operation::Embeddings, r#"{"model":"a","input":{"text":"x"}}"#, "input", "array");
    refuses_body(CHAT, r#"{"model":"a","messages":"x"}"#, "messages", "array");
    refuses_body(CHAT, r#"{"model":"a","messages":["secret"]}"#, "messages", "array");
}

#[test]
fn caps_are_positive_integers_within_the_limit() {
    for value in ["0", "-1", "1.5", "1e3", "10.0", "\"5\"", "true", "[]", "100000001", "99999999999999999999999"] {
        refuses(&format!(r#""max_tokens":{value}"#), "max_tokens", "integer from 1");
        refuses(&format!(r#""max_completion_tokens":{value}"#), "max_completion_tokens", "integer from 1");
    }
    assert_eq!(chat(r#""max_tokens":100000000"#).output_cap.unwrap().tokens, OUTPUT_TOKENS_MAX);
}

#[test]
fn the_completion_cap_wins_and_the_other_may_not_exceed_it() {
    let cap = chat(r#""max_tokens":5,"max_completion_tokens":9"#).output_cap.unwrap();
    assert_eq!((cap.tokens, cap.field), (9, CapField::MaxCompletionTokens));
    refuses(r#""max_tokens":10,"max_completion_tokens":9"#, "max_tokens", "larger");
    refuses(r#""max_tokens":-10,"max_completion_tokens":9"#, "max_tokens", "integer");
}

#[test]
fn a_null_cap_is_no_cap_and_is_replaced_rather_than_repeated() {
    let body = with_extra(r#""max_tokens":null,"stream_options":null"#);
    let envelope = parse(CHAT, &body).unwrap();
    assert_eq!(envelope.output_cap, None);
    assert!(!envelope.include_usage);
    let edits = [
        envelope.cap_edit(CapField::MaxTokens, b"40"),
        Edit::Replace {
            span: envelope.stream_options_span.clone().unwrap(),
            json: br#"{"include_usage":true}"#.into(),
        },
    ];
    let changed = splice(&Bytes::from(body), &edits);
    let value: Value = serde_json::from_slice(&changed).unwrap();
    assert_eq!((&value["max_tokens"], &value["stream_options"]["include_usage"]), (&json!(40), &json!(true)));
    assert_eq!(memchr::memmem::find_iter(&changed, "max_tokens").count(), 1);
    assert!(matches!(
        envelope.cap_edit(CapField::MaxCompletionTokens, b"40"),
        Edit::Insert { field: "max_completion_tokens", .. }
    ));
}

#[test]
fn choices_are_limited_and_count_what_is_made() {
    for value in ["0", "129", "-1", "1.0", "\"2\""] {
        refuses(&format!(r#""n":{value}"#), "n", "integer from 1 to 128");
        refuses(&format!(r#""best_of":{value}"#), "best_of", "integer from 1 to 128");
    }
    assert_eq!(chat("").choices, 1);
    assert_eq!(chat(r#""n":2,"best_of":5"#).choices, 5);
    assert_eq!(chat(r#""n":null"#).choices, 1);
}

#[test]
fn each_prompt_of_a_completion_has_its_own_answers() {
    let choices = |prompt: &str| {
        parse(Operation::Completions, &format!(r#"{{"model":"a","n":2,"prompt":{prompt}}}"#))
            .map(|envelope| envelope.choices)
    };
    assert_eq!(choices(r#""one""#).unwrap(), 2);
    assert_eq!(choices(r#"["one","two","three"]"#).unwrap(), 6);
    assert_eq!(choices("[ 1, 2, 3]").unwrap(), 2);
    assert_eq!(choices("[[1,2],[3]]").unwrap(), 4);
    assert_eq!(choices("[]").unwrap(), 2);
    assert!(choices(&format!("[{}\"\"]", "\"\",".repeat(2_048))).is_err());
}

#[test]
fn a_field_that_is_given_twice_is_refused_however_it_is_spelled() {
    refuses(r#""model":"gpt-6""#, "model", "twice");
    refuses(r#""max_tokens":1,"max_tokens":9999"#, "max_tokens", "twice");
    refuses(r#""max_tokens":1,"max_token\u0073":9999"#, "max_tokens", "twice");
    refuses(r#""messages":[]"#, "messages", "twice");
    refuses(r#""MAX_TOKENS":9999"#, "max_tokens", "letter case");
    refuses(r#""max_toKenſ":9999"#, "max_tokens", "letter case");
    refuses(r#""stream_options":{"include_usage":true,"include_usage":false}"#, "stream_options", "must be");
    refuses_body(
        CHAT,
        r#"{"model":"a","messages":[{"content":"","content":[{"type":"image_url"}]}]}"#,
        "messages",
        "twice",
    );
    chat(r#""x":1,"x":2"#);
}

#[test]
fn names_written_with_escapes_are_recognised() {
    let envelope = parse(CHAT, r#"{"mod\u0065l":"gp\u0074","messages":[],"\u006dax_tokens":4}"#).unwrap();
    assert_eq!(&*envelope.model, "gpt");
    assert_eq!(envelope.output_cap.unwrap().tokens, 4);
}

#[test]
fn flags_and_strings_have_their_types() {
    refuses(r#""stream":"true""#, "stream", "true or false");
    refuses(r#""stream":1"#, "stream", "true or false");
    refuses(r#""stream_options":[]"#, "stream_options", "object");
    refuses(r#""stream_options":{"include_usage":1}"#, "stream_options", "object");
    refuses(r#""user":{}"#, "user", "string");
    refuses(r#""service_tier":1"#, "service_tier", "string");
    refuses(&format!(r#""service_tier":"{}""#, "x".repeat(33)), "service_tier", "32");
    refuses(r#""tools":{}"#, "tools", "array");
}

#[test]
fn embeddings_do_not_stream() {
    assert!(!parse(Operation::Embeddings, r#"{"model":"m","input":"p","stream":true}"#).unwrap().stream);
}

#[test]
fn a_long_tag_is_cut_between_characters() {
    let tag = chat(&format!(r#""user":"{}""#, "ü".repeat(200))).user.unwrap();
    assert_eq!(&*tag, "ü".repeat(128));
    let tag = chat(&format!(r#""user":"a{}""#, "ü".repeat(200))).user.unwrap();
    assert_eq!(tag.len(), TAG_BYTES_MAX - 1);
}

#[test]
fn text_is_bounded_by_the_bytes_of_the_whole_body() {
    let body = with_extra("");
    let template = 256;
    assert_eq!(chat("").input, InputBound { text_tokens: body.len() as u64 + template, ..InputBound::default() });
}

#[test]
fn tools_and_schemas_count_twice_and_bring_their_own_overhead() {
    let tools = r#"[{"type":"function","function":{"name":"f"}},{"type":"custom"}]"#;
    let body = with_extra(&format!(r#""tools":{tools}"#));
    let expected = body.len() + 256 + tools.len() + 1_024 + 2 * 64;
    assert_eq!(parse(CHAT, &body).unwrap().input.text_tokens, expected as u64);
    let format = r#"{"type":"json_schema"}"#;
    let body = with_extra(&format!(r#""response_format":{format}"#));
    assert_eq!(parse(CHAT, &body).unwrap().input.text_tokens, (body.len() + 256 + format.len() + 128) as u64);
    let functions = r#"[{"name":"f"}]"#;
    let body = with_extra(&format!(r#""functions":{functions}"#));
    let input = parse(CHAT, &body).unwrap().input;
    assert_eq!(input.text_tokens, (body.len() + 256 + functions.len() + 1_024 + 64) as u64);
    assert!(!input.unbounded);
}

#[track_caller]
fn parts(parts: &str) -> InputBound {
    let body = format!(r#"{{"model":"a","messages":[{{"role":"user","content":{parts}}}]}}"#);
    let mut input = parse(CHAT, &body).unwrap().input;
    input.text_tokens -= (body.len() - parts.len()) as u64 + 256;
    input
}

#[test]
fn images_are_counted_and_their_bytes_are_no_text() {
    let url = format!(r#""data:image/png;base64,{}""#, "A".repeat(5_000));
    let content = format!(
        r#"[{{"type":"text","text":"see"}},{{"type":"image_url","image_url":{{"url":{url}}}}},
        {{"type":"image_url","image_url":{{"url":"https://example.com/a.png"}}}}]"#
    );
    let input = parts(&content);
    assert_eq!((input.images, input.unbounded), (2, false));
    assert_eq!(input.text_tokens, (content.len() - url.len()) as u64);
    assert_eq!(parts(&content.replace("image_url\",", "image\\u005furl\",")).images, 2);
    assert_eq!(parts(&content.replace("data:image/", r"data:image\/")).images, 2);
}

#[test]
fn parts_without_a_bound_in_the_body_are_unbounded() {
    for part in [
        r#"{"type":"input_audio","input_audio":{}}"#,
        r#"{"type":"file","file":{"file_id":"f"}}"#,
        r#"{"type":"video_url"}"#,
        r#"{"text":"no type"}"#,
        r#"{"type":"new_kind"}"#,
        r#"{"type":"image_url","image_url":"data:application/pdf;base64,AA"}"#,
        r#"{"type":"image_url"}"#,
    ] {
        assert!(parts(&format!("[{part}]")).unbounded, "{part}");
    }
    assert!(!parts(r#"[{"type":"text","text":"image_url \"file\""}]"#).unbounded);
    assert!(
        parse(CHAT, r#"{"model":"a","messages":[{"role":"assistant","audio":{"id":"x"}}]}"#).unwrap().input.unbounded
    );
    assert!(chat(r#""modalities":["text","audio"]"#).input.unbounded);
    assert!(!chat(r#""modalities":["text"]"#).input.unbounded);
}

#[test]
fn hosted_tools_are_unbounded_and_their_searches_are_counted() {
    let hosted = |tool: &str| {
        let input = chat(&format!(r#""tools":[{tool}]"#)).input;
        assert!(input.unbounded);
        input.web_searches
    };
    assert_eq!(hosted(r#"{"type":"web_search"}"#), TOOL_SEARCHES_MAX);
    assert_eq!(hosted(r#"{"type":"web_search_20250305","max_uses":3}"#), 3);
    assert_eq!(hosted(r#"{"type":"code_interpreter"}"#), 0);
    assert_eq!(hosted(r#"{"name":"no type"}"#), TOOL_SEARCHES_MAX);
    let input = chat(r#""web_search_options":{}"#).input;
    assert_eq!((input.unbounded, input.web_searches), (true, 1));
}

#[test]
fn cache_marks_and_predictions_are_seen() {
    assert!(!chat("").input.cache_markers);
    assert!(parts(r#"[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#).cache_markers);
    assert!(chat(r#""prompt_cache_options":{"mode":"explicit"}"#).input.cache_markers);
    assert!(chat(r#""tools":[{"type":"function","cache_control":{}}]"#).input.cache_markers);
    assert_eq!(chat(r#""prediction":{"a":1}"#).input.predicted_tokens, 7);
}

#[test]
fn inputs_of_embeddings_may_be_texts_or_tokens() {
    for input in [r#""text""#, r#"["a","b"]"#, "[1,2,3]", "[[1,2],[3]]"] {
        let body = format!(r#"{{"model":"e","input":{input}}}"#);
        assert_eq!(parse(Operation::Embeddings, &body).unwrap().input.text_tokens, body.len() as u64 + 256);
    }
}

#[test]
fn a_field_can_be_added_to_an_empty_object() {
    let insert = |field, json: &'static [u8]| Edit::Insert { field, json: Cow::Borrowed(json) };
    let changed = |body: &'static str, edits: &[Edit<'_>]| splice(&Bytes::from_static(body.as_bytes()), edits);
    assert_eq!(changed("{}", &[insert("a", b"1")]), r#"{"a":1}"#);
    assert_eq!(changed(" { } ", &[insert("a", b"1"), insert("b", b"2")]), r#" {"a":1,"b":2 } "#);
    assert_eq!(changed(r#"{ "x":0}"#, &[insert("a", b"1")]), r#"{"a":1, "x":0}"#);
}

#[test]
fn fields_are_added_before_a_first_field_that_is_renamed() {
    let rename = Edit::Replace { span: 1..4, json: br#""b""#.into() };
    let outer = Edit::Insert { field: "x", json: b"0".into() };
    let body = Bytes::from_static(br#"{"a":{"c":1}}"#);
    assert_eq!(splice(&body, &[rename.clone(), outer.clone()]), r#"{"x":0,"b":{"c":1}}"#);
    let inner = Edit::InsertInto { opening: 5, field: "y", json: b"2".into() };
    let rename_inner = Edit::Replace { span: 6..9, json: br#""d""#.into() };
    let changed = splice(&body, &[rename_inner, rename, inner, outer]);
    assert_eq!(changed, r#"{"x":0,"b":{"y":2,"d":1}}"#);
}

#[test]
fn a_body_without_edits_is_not_copied() {
    let body = Bytes::from(with_extra(""));
    assert_eq!(splice(&body, &[]).as_ptr(), body.as_ptr());
}

proptest! {
    #[test]
    fn splicing_equals_editing_the_value(
        model in "\\PC{1,20}", cap in 1..1_000_000_u64, space in "[ \n\t]{0,3}", text in "\\PC{0,40}",
        renamed in "\\PC{1,20}", insert in any::<bool>(), recap in any::<bool>(),
    ) {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let body = format!(r#"{space}{{{space}"messages":{space}[{{"role":"user","content":{}}}],"model"{space}:{space}{}{space},
            "max_tokens":{cap}{space}}}"#, quoted(&text), quoted(&model));
        let body = Bytes::from(body);
        let envelope = Envelope::parse(CHAT, &body).unwrap();
        let renamed_json = quoted(&renamed);
        let mut expected: Value = serde_json::from_slice(&body).unwrap();
        let mut edits = vec![Edit::Replace { span: envelope.model_span.clone().unwrap(), json: renamed_json.as_bytes().into() }];
        expected["model"] = json!(renamed);
        if recap {
            edits.push(Edit::Replace { span: envelope.output_cap.clone().unwrap().span, json: b"77".into() });
            expected["max_tokens"] = json!(77);
        }
        if insert {
            edits.push(Edit::Insert { field: "stream_options", json: br#"{"include_usage":true}"#.into() });
            expected["stream_options"] = json!({"include_usage": true});
        }
        let changed = splice(&body, &edits);
        prop_assert_eq!(serde_json::from_slice::<Value>(&changed).unwrap(), expected);
        let start = body.iter().position(|byte| *byte == b'{').unwrap() + 1;
        let tail = &body[envelope.output_cap.unwrap().span.end..];
        prop_assert!(changed.starts_with(&body[..start]) && changed.ends_with(tail));
        prop_assert!(memchr::memmem::find(&changed, &body[start..envelope.model_span.unwrap().start]).is_some());
    }

    #[test]
    fn no_body_makes_the_reader_fail_otherwise_than_by_an_error(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(body);
        let read = Envelope::parse(CHAT, &body).is_ok();
        prop_assert!(!read || serde_json::from_slice::<Value>(&body).is_ok());
    }

    #[test]
    fn what_is_read_is_what_another_parser_reads(
        model in "[a-z\\\\\"/ü]{1,12}", n in 1..129_u32, cap in 1..5_000_u64, stream in any::<bool>(),
    ) {
        let value = json!({"model": model, "n": n, "max_completion_tokens": cap, "stream": stream, "messages": []});
        let envelope = parse(CHAT, &value.to_string()).unwrap();
        prop_assert_eq!(&*envelope.model, model.as_str());
        prop_assert_eq!((envelope.choices, envelope.output_cap.unwrap().tokens, envelope.stream), (n, cap, stream));
    }
}
