use super::*;

const MODEL: &str = "gemini-2.5-flash";

fn parse(body: &str) -> Result<Envelope, EnvelopeError> {
    Envelope::parse_named(Operation::GenerateContent, MODEL, false, &Bytes::copy_from_slice(body.as_bytes()))
}

fn with_extra(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"contents":[{{"parts":[{{"text":"hi"}}]}}]{comma}{extra}}}"#)
}

#[track_caller]
fn read(extra: &str) -> Envelope {
    parse(&with_extra(extra)).unwrap()
}

#[track_caller]
fn refuses(body: &str, expected: &str, expected_reason: &str) {
    match parse(body) {
        Err(EnvelopeError::Field { param, reason }) => {
            assert_eq!(param, expected, "{reason}");
            assert!(reason.contains(expected_reason), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// The bound of a content with these parts, without the bytes around it and the template.
#[track_caller]
fn parts(parts: &str) -> InputBound {
    let body = format!(r#"{{"contents":[{{"role":"user","parts":{parts}}}]}}"#);
    let mut input = parse(&body).unwrap().input;
    input.text_tokens -= (body.len() - parts.len()) as u64 + 256;
    input
}

#[test]
fn the_path_names_the_model_and_whether_it_streams() {
    let body = Bytes::from(with_extra(""));
    for stream in [true, false] {
        let envelope = Envelope::parse_named(Operation::GenerateContent, MODEL, stream, &body).unwrap();
        assert_eq!((&*envelope.model, envelope.stream, envelope.model_span), (MODEL, stream, None));
    }
    let named = with_extra(r#""model":"models/gemini-2.5-flash""#);
    assert_eq!(&named[parse(&named).unwrap().model_span.unwrap()], r#""models/gemini-2.5-flash""#);
    refuses(&with_extra(r#""model":"models/gemini-2.5-pro""#), "model", "another one");
    assert!(Envelope::parse_named(Operation::GenerateContent, "", true, &body).is_err());
    refuses_body(Operation::GenerateContent, &with_extra(""), "model", "path");
    let chat = Bytes::from(super::with_extra(""));
    assert_eq!(&*Envelope::parse_named(CHAT, "other", true, &chat).unwrap().model, "gpt-4o");
}

#[test]
fn both_spellings_are_read_and_not_side_by_side() {
    for extra in [
        r#""serviceTier":"flex","generationConfig":{"maxOutputTokens":17,"candidateCount":3}"#,
        r#""service_tier":"flex","generation_config":{"max_output_tokens":17,"candidate_count":3}"#,
    ] {
        let body = with_extra(extra);
        let envelope = parse(&body).unwrap();
        let cap = envelope.output_cap.unwrap();
        assert_eq!((cap.tokens, cap.field, &body[cap.span]), (17, CapField::GenerationConfig, "17"));
        assert_eq!((envelope.service_tier.as_deref(), envelope.choices), (Some("flex"), 3));
    }
    let twice = r#""generationConfig":{},"generation_config":{"maxOutputTokens":9}"#;
    refuses(&with_extra(twice), "generationConfig", "twice");
    let twice = r#""generationConfig":{"maxOutputTokens":1,"max_output_tokens":9}"#;
    refuses(&with_extra(twice), "generationConfig.maxOutputTokens", "twice");
    let twice = r#"{"contents":[{"parts":[{"inlineData":{},"inline_data":{}}]}]}"#;
    refuses(twice, "contents", "twice");
    refuses(&with_extra(r#""generationconfig":{}"#), "generationConfig", "letter case");
    let lookalike = r#""generationConfig":{"MAX_OUTPUT_TOKENS":9}"#;
    refuses(&with_extra(lookalike), "generationConfig.maxOutputTokens", "letter case");
}

#[test]
fn what_is_missing_or_of_another_type_is_refused() {
    refuses("{}", "contents", "missing");
    refuses(r#"{"contents":"x"}"#, "contents", "array");
    refuses(r#"{"contents":["x"]}"#, "contents", "array");
    refuses(r#"{"contents":[{"parts":["x"]}]}"#, "contents", "array");
    refuses(&with_extra(r#""systemInstruction":"x""#), "systemInstruction", "well-formed");
    refuses(&with_extra(r#""tools":{}"#), "tools", "array");
    refuses(&with_extra(r#""generationConfig":[]"#), "generationConfig", "object");
    let refuses_config = |config: &str, param: &str| {
        refuses(&with_extra(&format!(r#""generationConfig":{{{config}}}"#)), param, "integer from 1");
    };
    refuses_config(r#""maxOutputTokens":"9""#, "generationConfig.maxOutputTokens");
    refuses_config(r#""maxOutputTokens":0"#, "generationConfig.maxOutputTokens");
    refuses_config(r#""candidateCount":129"#, "generationConfig.candidateCount");
}

#[test]
fn a_cap_goes_into_the_configuration() {
    let changed = |extra: &str| {
        let body = Bytes::from(with_extra(extra));
        let envelope = parse(&with_extra(extra)).unwrap();
        String::from_utf8(splice(&body, &[envelope.cap_edit(CapField::GenerationConfig, b"40")]).to_vec()).unwrap()
    };
    let config = |config: &str| with_extra(&format!(r#""generationConfig":{config}"#));
    assert_eq!(changed(r#""generationConfig": null"#), with_extra(r#""generationConfig": {"maxOutputTokens":40}"#));
    assert_eq!(changed(r#""generationConfig":{ }"#), config(r#"{"maxOutputTokens":40 }"#));
    assert_eq!(changed(r#""generationConfig":{"seed":1}"#), config(r#"{"maxOutputTokens":40,"seed":1}"#));
    assert_eq!(changed(r#""generationConfig":{"maxOutputTokens":null}"#), config(r#"{"maxOutputTokens":40}"#));
    let inserted = r#"{"generationConfig":{"maxOutputTokens":40},"contents":[{"parts":[{"text":"hi"}]}]}"#;
    assert_eq!(changed(""), inserted);
}

#[test]
fn text_thoughts_and_functions_count_by_their_bytes() {
    for content in [
        r#"[{"text":"x","thought":true,"thoughtSignature":"eA=="},{"text":"y","thought_signature":"eA=="}]"#,
        r#"[{"functionCall":{"id":"1","name":"f","args":{"inlineData":{"mimeType":"audio/mp3"}}}}]"#,
        r#"[{"functionResponse":{"id":"1","name":"f","response":{"fileData":1}}}]"#,
        r#"[{"executableCode":{"code":"x"}},{"codeExecutionResult":{"output":"x"}}]"#,
        "[]",
    ] {
        let expected = InputBound { text_tokens: content.len() as u64, ..InputBound::default() };
        assert_eq!(parts(content), expected, "{content}");
    }
    let body = with_extra(r#""system_instruction":{"parts":[{"text":"x"}]}"#);
    assert_eq!(parse(&body).unwrap().input.text_tokens, body.len() as u64 + 256);
}

#[test]
fn a_function_without_an_id_may_get_one() {
    for part in [r#"[{"functionCall":{"name":"find"}}]"#, r#"[{"function_response":{"name":"find"}}]"#] {
        assert_eq!(parts(part).text_tokens, (part.len() + 32 + r#""find""#.len()) as u64);
    }
}

#[test]
fn images_are_counted_wherever_they_stand() {
    let data = format!(r#""{}""#, "A".repeat(4_000));
    let content = format!(
        r#"[{{"inlineData":{{"mimeType":"image/png","data":{data}}}}},{{"inline_data":{{"mime_type":"image/webp","data":{data}}}}},
        {{"functionResponse":{{"name":"f","parts":[{{"inlineData":{{"mimeType":"image/png","data":{data}}}}}]}}}}]"#
    );
    let input = parts(&content);
    assert_eq!((input.images, input.unbounded), (3, false));
    assert_eq!(input.text_tokens, (content.len() - 3 * data.len() + 32 + r#""f""#.len()) as u64);
}

#[test]
fn parts_without_a_bound_in_the_body_are_unbounded() {
    for part in [
        r#"{"fileData":{"mimeType":"image/png","fileUri":"gs://b/o"}}"#,
        r#"{"inlineData":{"mimeType":"application/pdf","data":"AA"}}"#,
        r#"{"inlineData":{"mimeType":"audio/wav","data":"AA"}}"#,
        r#"{"inlineData":{"mimeType":"text/plain","data":"77e6"}}"#,
        r#"{"inlineData":{"data":"AA"}}"#,
        r#"{"toolResponse":{}}"#,
        r#"{"functionResponse":{"name":"f","parts":[{"fileData":{}}]}}"#,
        r#"{"newPart":{}}"#,
    ] {
        assert!(parts(&format!("[{part}]")).unbounded, "{part}");
    }
    assert!(read(r#""cachedContent":"cachedContents/x""#).input.unbounded);
    assert!(read(r#""cached_content":"cachedContents/x""#).input.unbounded);
}

#[test]
fn functions_and_schemas_count_twice_and_bring_their_own_overhead() {
    let tools = r#"[{"functionDeclarations":[{"name":"f"},{"name":"g"}]},{"function_declarations":[{"name":"h"}]}]"#;
    let body = with_extra(&format!(r#""tools":{tools}"#));
    let expected = body.len() + 256 + tools.len() + 1_024 + 3 * 64;
    let input = parse(&body).unwrap().input;
    assert_eq!((input.text_tokens, input.unbounded), (expected as u64, false));
    let config = r#"{"responseSchema":{"type":"OBJECT"}}"#;
    let body = with_extra(&format!(r#""generationConfig":{config}"#));
    let expected = body.len() + 256 + config.len() + 128;
    assert_eq!(parse(&body).unwrap().input.text_tokens, expected as u64);
}

#[test]
fn hosted_tools_are_unbounded_and_their_calls_are_counted() {
    let hosted = |tool: &str| {
        let InputBound { unbounded, hosted_calls, web_searches, maps_queries, .. } =
            read(&format!(r#""tools":[{tool}]"#)).input;
        assert!(unbounded);
        (hosted_calls, web_searches, maps_queries)
    };
    assert_eq!(hosted(r#"{"googleSearch":{}}"#), (10, 10, 0));
    assert_eq!(hosted(r#"{"google_search_retrieval":{}}"#), (10, 10, 0));
    assert_eq!(hosted(r#"{"googleMaps":{}}"#), (10, 0, 10));
    assert_eq!(hosted(r#"{"urlContext":{}},{"codeExecution":{}}"#), (20, 0, 0));
    assert_eq!(hosted(r#"{"functionDeclarations":[],"googleSearch":{},"newTool":{}}"#), (20, 10, 0));
}

#[test]
fn a_picture_in_the_answer_does_not_follow_the_cap() {
    assert_eq!(read(r#""generationConfig":{"responseModalities":["TEXT","IMAGE"]}"#).input.predicted_tokens, 4_096);
    assert_eq!(read(r#""generationConfig":{}"#).input.predicted_tokens, 0);
}
