//! Whole calls over the recordings and the mapping vectors, and what those do not say.

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use cfr_core::cache::CacheUse;
use cfr_core::chat::{Envelope, Meter, Tags, Usage};
use cfr_core::id::RequestId;
use cfr_core::upstream::{FinishReason, Report};
use serde_json::{Value, json};

use super::*;
use crate::dialog::{Choice, Part, Piece, Seal, Surface, Thought, ToolCall, Translated};
use crate::framing::Relay;

/// A call of a client who speaks Google's dialect.
pub(super) fn call(model: &str, stream: bool, body: &str) -> Call {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let envelope = Envelope::parse_named(Operation::GenerateContent, model, stream, &body).expect("a body");
    with_envelope(Operation::GenerateContent, envelope, body)
}

fn chat(body: &Value) -> Call {
    let body = Bytes::from(body.to_string());
    let envelope = Envelope::parse(Operation::ChatCompletions, &body).expect("a body");
    with_envelope(Operation::ChatCompletions, envelope, body)
}

fn with_envelope(operation: Operation, envelope: Envelope, body: Bytes) -> Call {
    let (tags, cache) = (Tags::default(), CacheUse::default());
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

pub(super) fn order(call: &Call) -> Order<'_> {
    let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
    Order { call, model: &call.envelope.model, output_tokens_max: None, timeout, idle_timeout }
}

fn studio() -> Translated<Gemini> {
    Translated(Gemini::studio(None).expect("an address"))
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn fixtures(folder: &str) -> Vec<(PathBuf, Value)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let files = std::fs::read_dir(path).expect("fixtures").map(|entry| entry.expect("an entry").path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.map(|file| (file.clone(), json_of(&std::fs::read(file).expect("a file")))).collect()
}

pub(super) fn fixture(file: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    json_of(&std::fs::read(path).expect("a file"))
}

/// A recording as a call of a client who speaks Google's dialect, at the host where it was recorded.
struct Recorded {
    name: String,
    path: String,
    wire: Gemini,
    call: Call,
    answer: Bytes,
    expect: Value,
}

fn recorded() -> Vec<Recorded> {
    let studio = Gemini::studio(None).expect("an address");
    let vertex = Gemini::vertex("fx-proj", "europe-west4", None).expect("an address");
    let read = |folder: &str, wire: Gemini| {
        fixtures(folder).into_iter().map(move |(file, case)| recording(file, case, wire.clone()))
    };
    read("gemini", studio).chain(read("vertex", vertex)).collect()
}

fn recording(file: PathBuf, case: Value, wire: Gemini) -> Recorded {
    let path = case["request"]["path"].as_str().expect("a path").to_owned();
    let answer = match case["response"]["body_file"].as_str() {
        Some(name) => std::fs::read(file.with_file_name(name)).expect("a file"),
        None => case["response"]["body"].to_string().into_bytes(),
    };
    // What no client may ask us for is asked for all the same: the provider's answer is what is recorded.
    let body = match case["request"]["body"]["generationConfig"]["maxOutputTokens"].as_i64() {
        Some(..0) => json!({"contents": case["request"]["body"]["contents"]}),
        _ if case["request"]["body"]["contents"].is_null() => json!({"contents": [{"parts": [{"text": "a"}]}]}),
        _ => case["request"]["body"].clone(),
    };
    let call = call("gemini-3.8-flash", path.contains("stream"), &body.to_string());
    let name = file.display().to_string();
    Recorded { name, path, wire, call, answer: answer.into(), expect: case["expect"].clone() }
}

#[test]
fn a_client_of_googles_dialect_is_asked_for_byte_for_byte() {
    let mut compared = 0;
    for recorded in
        recorded().into_iter().filter(|recorded| recorded.path.to_ascii_lowercase().contains("generatecontent"))
    {
        let request = Translated(recorded.wire).encode(&order(&recorded.call)).expect("a request");
        assert_eq!(request.body, recorded.call.body, "{}", recorded.name);
        let path = request.endpoint.uri().path_and_query().expect("a path").as_str();
        assert_eq!(path, recorded.path, "{}", recorded.name);
        compared += 1;
    }
    assert!(compared >= 8, "only {compared} recordings");
}

fn relayed(adapter: &dyn Adapter, call: &Call, pieces: &[&[u8]]) -> (Bytes, Report, Option<UpstreamError>) {
    let mut relay = Relay::new(adapter.framing(), adapter.stream_decoder(call));
    let (mut bytes, mut report) = (BytesMut::new(), Report::default());
    for piece in pieces.iter().map(Some).chain([None]) {
        let relayed = match piece {
            Some(piece) => relay.push(Bytes::copy_from_slice(piece)),
            None => relay.finish(),
        };
        bytes.extend_from_slice(&relayed.event.bytes);
        report.absorb(relayed.event.report);
        if relayed.error.is_some() {
            return (bytes.freeze(), report, relayed.error);
        }
    }
    (bytes.freeze(), report, None)
}

#[test]
fn a_stream_to_a_client_of_googles_dialect_is_the_same_bytes_however_it_is_torn() {
    for recorded in recorded()
        .into_iter()
        .filter(|recorded| recorded.expect["usage"].is_object() && recorded.path.contains("stream"))
    {
        let adapter = Translated(recorded.wire.clone());
        for size in 1..=recorded.answer.len() {
            let pieces: Vec<&[u8]> = recorded.answer.chunks(size).collect();
            let (bytes, report, error) = relayed(&adapter, &recorded.call, &pieces);
            assert!(error.is_none(), "{}: {error:?}", recorded.name);
            assert_eq!(bytes, recorded.answer, "{} in pieces of {size}", recorded.name);
            let usage = report.usage.expect("usage");
            assert_eq!(
                Some(usage.output_total()),
                recorded.expect["usage"]["output_total"].as_u64(),
                "{}",
                recorded.name
            );
            assert_eq!(
                report.finish.as_ref().map(|finish| finish.name()),
                recorded.expect["finish_reason"].as_str(),
                "{}",
                recorded.name
            );
        }
    }
}

#[test]
fn a_stream_cut_between_events_is_truncated_with_the_usage_so_far() {
    let stream =
        recorded().into_iter().find(|recorded| recorded.name.ends_with("gemini/stream.json")).expect("a stream");
    let text = str::from_utf8(&stream.answer).expect("text");
    let ends: Vec<usize> = text.match_indices("\r\n\r\n").map(|(at, end)| at + end.len()).collect();
    let calls = [
        stream.call.clone(),
        chat(&json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "a"}]})),
    ];
    for call in &calls {
        let thoughts = ends.iter().map(|end| {
            let (_, report, error) = relayed(&studio(), call, &[&stream.answer[..*end]]);
            let is_last = *end == *ends.last().expect("an end");
            assert_eq!(error.map(|error| error.name()), (!is_last).then_some("truncated"), "cut at {end}");
            report.usage.expect("usage").get(Meter::ReasoningTokens)
        });
        assert_eq!(thoughts.collect::<Vec<_>>(), [30, 48, 48, 48]);
    }
}

#[test]
fn every_vector_is_what_google_expects_to_the_member() {
    let mut compared = 0;
    for (file, vector) in fixtures("mapping") {
        if vector["surface"] != "openai.chat" || vector["expect"]["gemini"].is_null() {
            continue;
        }
        let call = chat(&vector["request"]);
        let request = studio().encode(&Order { model: "gemini-3.8-flash", ..order(&call) }).expect("a request");
        assert_eq!(json_of(&request.body), vector["expect"]["gemini"], "{}", file.display());
        compared += 1;
    }
    assert!(compared >= 9, "only {compared} vectors");
}

/// What a chat client sends on to Google.
fn sent(adapter: &dyn Adapter, model: &str, body: &Value) -> (Value, WireRequest) {
    let call = chat(body);
    let request = adapter.encode(&Order { model, ..order(&call) }).expect("a request");
    (json_of(&request.body), request)
}

fn with(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

#[test]
fn every_field_of_a_chat_has_googles_name_or_is_reported() {
    let body = with(json!({
        "n": 2, "stop": ["a", "b"], "seed": 1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "top_k": 7,
        "logprobs": true, "top_logprobs": 3, "service_tier": "flex", "user": "u", "logit_bias": {"1": 2},
        "response_format": {"type": "json_object"}, "web_search_options": {}, "metadata": {"a": "b"}, "verbosity": "low",
        "prompt_cache_key": "k", "modalities": ["text", "image"], "new_field": 1,
    }));
    let (body, request) = sent(&studio(), "gemini-3.8-flash", &body);
    let config = json!({
        "topK": 7, "candidateCount": 2, "stopSequences": ["a", "b"], "seed": 1, "presencePenalty": 0.5,
        "frequencyPenalty": -0.5, "responseLogprobs": true, "logprobs": 3, "responseMimeType": "application/json",
        "responseModalities": ["TEXT", "IMAGE"],
    });
    assert_eq!(body["generationConfig"], config);
    assert_eq!((&body["serviceTier"], &body["tools"]), (&json!("flex"), &json!([{"googleSearch": {}}])));
    let mut dropped: Vec<&str> = request.dropped.iter().map(|name| &**name).collect();
    dropped.sort_unstable();
    assert_eq!(dropped, ["logit_bias", "metadata", "new_field", "prompt_cache_key", "user", "verbosity"]);
}

#[test]
fn choices_of_tools_have_their_modes() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let mode = |choice: Value| {
        let (body, _) = sent(&studio(), "m", &with(json!({"tools": [tool("a"), tool("b")], "tool_choice": choice})));
        let declared = body["tools"][0]["functionDeclarations"].as_array().map_or(0, Vec::len);
        (body["toolConfig"]["functionCallingConfig"].clone(), declared)
    };
    assert_eq!(mode(json!("none")), (json!({"mode": "NONE"}), 2));
    assert_eq!(mode(json!("required")), (json!({"mode": "ANY"}), 2));
    let named = json!({"type": "function", "function": {"name": "b"}});
    assert_eq!(mode(named), (json!({"mode": "ANY", "allowedFunctionNames": ["b"]}), 2));
    let allowed = |mode: &str| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [tool("a")]}});
    assert_eq!(mode(allowed("required")), (json!({"mode": "ANY", "allowedFunctionNames": ["a"]}), 2));
    assert_eq!(mode(allowed("auto")), (json!({"mode": "AUTO"}), 1));
}

#[test]
fn tiers_are_a_field_at_ai_studio_and_a_header_at_vertex() {
    let vertex = Translated(Gemini::vertex("p", "global", None).expect("an address"));
    let (body, request) = sent(&vertex, "m", &with(json!({"service_tier": "priority"})));
    assert!(body["serviceTier"].is_null());
    assert_eq!(request.headers["x-vertex-ai-llm-shared-request-type"], "priority");
    let (_, request) = sent(&vertex, "m", &with(json!({"service_tier": "default"})));
    assert!(!request.headers.contains_key("x-vertex-ai-llm-shared-request-type"));
    let (body, _) = sent(&studio(), "m", &with(json!({"service_tier": "default"})));
    assert_eq!(body["serviceTier"], "standard");
}

#[test]
fn what_google_cannot_do_is_refused_by_name_or_left_out_when_that_is_allowed() {
    let address = json!([{"type": "image_url", "image_url": {"url": "https://host.example/a.png"}}]);
    let cases = [
        (with(json!({"n": 9})), "n"),
        (with(json!({"stop": ["1", "2", "3", "4", "5", "6"]})), "stop"),
        (with(json!({"modalities": ["text", "audio"]})), "modalities"),
        (with(json!({"tools": [{"type": "custom", "custom": {"name": "c"}}]})), "tools"),
        (json!({"model": "m", "messages": [{"role": "user", "content": address}]}), "image_url"),
    ];
    for (body, field) in &cases {
        let mut call = chat(body);
        let error = studio().encode(&order(&call)).expect_err("refused");
        assert!(matches!(&error, UpstreamError::Unsupported { message } if message.starts_with(field)), "{error}");
        call.drop_params = true;
        let request = studio().encode(&order(&call)).expect("allowed");
        assert!(request.dropped.iter().any(|name| name.starts_with(field)), "{:?}", request.dropped);
    }
    let vertex = Translated(Gemini::vertex("p", "global", None).expect("an address"));
    let (body, _) = sent(&vertex, "m", &cases[4].0);
    let file = json!({"mimeType": "image/png", "fileUri": "https://host.example/a.png"});
    assert_eq!(body["contents"][0]["parts"][0]["fileData"], file);
}

#[test]
fn a_signature_returns_to_the_call_that_it_belongs_to() {
    let answered = |thinking: Value, signature: Value| {
        let mut call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"n\": 12345678901234567890123}"}});
        if !signature.is_null() {
            call["thought_signature"] = signature;
        }
        let assistant =
            json!({"role": "assistant", "content": "Looking.", "tool_calls": [call], "thinking_blocks": thinking});
        let result = json!({"role": "tool", "tool_call_id": "1", "content": "[1]"});
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}, assistant, result]});
        let (body, request) = sent(&studio(), "gemini-3.8-flash", &body);
        assert!(str::from_utf8(&request.body).expect("text").contains("12345678901234567890123"), "a number changed");
        assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["response"], json!({"output": [1]}));
        let parts = &body["contents"][1]["parts"];
        (parts[0]["thoughtSignature"].clone(), parts[1]["thoughtSignature"].clone())
    };
    let block = |data: &str| json!({"type": "gemini_signature", "thinking": "", "data": data});
    let foreign = json!([{"type": "thinking", "thinking": "t", "signature": "s"}]);
    assert_eq!(answered(json!([]), json!("c2ln")), (Value::Null, json!("c2ln")));
    assert_eq!(answered(json!([block("YQ==")]), Value::Null), (Value::Null, json!("YQ==")));
    assert_eq!(answered(json!([block("YQ=="), block("Yg==")]), Value::Null), (json!("YQ=="), json!("Yg==")));
    assert_eq!(answered(foreign, Value::Null), (Value::Null, json!(request::NOT_GOOGLES)));
}

/// A call in the dialect of an operation whose body names its model.
fn call_of(operation: Operation, body: &Value) -> Call {
    let body = Bytes::from(body.to_string());
    let envelope = Envelope::parse(operation, &body).expect("a body");
    with_envelope(operation, envelope, body)
}

/// The recorded answer with signed calls in the dialect of an operation.
fn signed_answer(operation: Operation, asked: &Value) -> Value {
    let recorded = fixture("gemini/tool_call.json")["response"]["body"].to_string();
    let reply = studio().decode(&call_of(operation, asked), &HeaderMap::new(), recorded.into()).expect("an answer");
    json_of(&reply.body)
}

/// The signature of the first call in the conversation that Google is sent.
fn signature_sent(operation: Operation, body: &Value) -> Value {
    let call = call_of(operation, body);
    let request = studio().encode(&Order { model: "gemini-3.8-flash", ..order(&call) }).expect("a request");
    let body = json_of(&request.body);
    let parts = body["contents"]
        .as_array()
        .expect("contents")
        .iter()
        .flat_map(|content| content["parts"].as_array().expect("parts"));
    let first = parts.into_iter().find(|part| part["functionCall"].is_object());
    first.expect("a call")["thoughtSignature"].clone()
}

#[test]
fn a_signature_survives_clients_of_every_dialect() {
    let user = json!({"role": "user", "content": "Weather?"});
    let chat = json!({"model": "m", "messages": [user]});
    let answer = signed_answer(Operation::ChatCompletions, &chat);
    let results = ["fc_1", "fc_2"].map(|id| json!({"role": "tool", "tool_call_id": id, "content": "3C"}));
    let history = json!({"model": "m", "messages": [user, answer["choices"][0]["message"], results[0], results[1]]});
    assert_eq!(signature_sent(Operation::ChatCompletions, &history), "c2lnLWZpeHR1cmU=");

    let messages = json!({"model": "m", "max_tokens": 9, "messages": [user]});
    let answer = signed_answer(Operation::Messages, &messages);
    let results = ["fc_1", "fc_2"].map(|id| json!({"type": "tool_result", "tool_use_id": id, "content": "3C"}));
    let history = json!({"model": "m", "max_tokens": 9, "messages": [
        user, {"role": "assistant", "content": answer["content"]}, {"role": "user", "content": results}]});
    assert_eq!(signature_sent(Operation::Messages, &history), "c2lnLWZpeHR1cmU=");

    let responses = json!({"model": "m", "input": [user]});
    let answer = signed_answer(Operation::Responses, &responses);
    let mut items = vec![user];
    items.extend(answer["output"].as_array().expect("items").iter().cloned());
    items.extend(["fc_1", "fc_2"].map(|id| json!({"type": "function_call_output", "call_id": id, "output": "3C"})));
    assert_eq!(signature_sent(Operation::Responses, &json!({"model": "m", "input": items})), "c2lnLWZpeHR1cmU=");
}

/// A request that says everything that a dialog has words for.
fn full_request() -> Value {
    json!({
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}}, {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}}]},
            {"role": "model", "parts": [{"text": "Looking.", "thoughtSignature": "YQ=="},
                {"functionCall": {"id": "1", "name": "f", "args": {"a_b": 1}}, "thoughtSignature": "Yg=="}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "1", "name": "f", "response": {"output": {"c_d": [1]}},
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}}, {"text": "And?"}]},
        ],
        "systemInstruction": {"parts": [{"text": "S"}]},
        "tools": [{"functionDeclarations": [{"name": "f", "description": "F",
            "parametersJsonSchema": {"type": "object", "properties": {"a_b": {"type": "integer"}}}}]}, {"googleSearch": {}}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5, "topP": 0.9, "topK": 3, "candidateCount": 2,
            "stopSequences": ["x"], "seed": 1, "presencePenalty": 0.1, "frequencyPenalty": 0.2, "responseLogprobs": true,
            "logprobs": 2, "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
            "responseModalities": ["TEXT", "IMAGE"], "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": true}},
        "serviceTier": "flex",
    })
}

/// The same request in the other form of names.
fn snake_cased(value: Value) -> Value {
    let snake = |name: &str| {
        name.chars().fold(String::new(), |mut out, letter| {
            if letter.is_ascii_uppercase() {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
            out
        })
    };
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (snake(&name), snake_cased(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => list.into_iter().map(snake_cased).collect(),
        value => value,
    }
}

#[test]
fn a_request_of_googles_means_the_same_after_it_was_read_and_written() {
    let expected = full_request();
    for body in [expected.clone(), snake_cased(expected.clone())] {
        let call = call("gemini-3.8-flash", false, &body.to_string());
        let dialog = GENERATE_SURFACE.read(&call).expect("a dialog");
        assert_eq!(dialog.unread, [], "{body}");
        let mut drops = Drops::default();
        let written = request::body(Site::Studio, &dialog, "gemini-3.8-flash", &mut drops).expect("a body");
        assert_eq!(json_of(&written), expected);
    }
}

#[test]
fn a_request_without_roles_and_ids_is_understood() {
    let body = json!({"contents": [{"parts": [{"text": "Hi"}]}, {"role": "model", "parts": [
            {"text": "a", "thought": true}, {"text": "b", "thought": true}, {"text": "", "thought": true, "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "f"}}, {"functionCall": {"name": "f", "args": {"x": 1}}}]},
        {"role": "function", "parts": [{"functionResponse": {"name": "f", "response": {"result": "1"}}},
            {"functionResponse": {"name": "f", "response": {"error": "broken"}}}]}],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"x": {"type": "INTEGER"}}}}]}],
        "systemInstruction": {"parts": [{"text": "S"}]}});
    let dialog = GENERATE_SURFACE.read(&call("m", true, &body.to_string())).expect("a dialog");
    assert!(dialog.stream);
    let thought = Thought { text: "ab".into(), seal: Some(Seal::Gemini("c2ln".into())) };
    assert_eq!(dialog.turns[1].parts[0], Part::Thought(thought));
    let ids = |turn: usize| {
        let ids = dialog.turns[turn].parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some((call.id.clone(), call.arguments.clone(), false)),
            Part::ToolResult(result) => Some((result.id.clone(), result.text(), result.is_error)),
            _ => None,
        });
        ids.collect::<Vec<_>>()
    };
    let (calls, results) = (ids(1), ids(2));
    assert_eq!(
        calls.iter().map(|call| &call.0).collect::<Vec<_>>(),
        results.iter().map(|result| &result.0).collect::<Vec<_>>()
    );
    assert_eq!((calls[0].1.as_str(), calls[1].1.as_str()), ("{}", "{\"x\":1}"));
    assert_eq!(
        (results[0].1.as_str(), results[0].2, results[1].1.as_str(), results[1].2),
        ("1", false, "broken", true)
    );
    assert!(
        matches!(&dialog.tools[0], crate::dialog::Tool::Function { parameters, .. } if parameters["properties"]["x"]["type"] == "integer")
    );
}

#[test]
fn an_answer_that_a_client_kept_chunk_by_chunk_is_one_turn() {
    let model = |part: Value| json!({"role": "model", "parts": [part]});
    let seal = Seal::Anthropic("EqQ?>\u{e4}".into());
    let kept = surface::seal::opaque(&seal).replace('+', "-").replace('/', "_");
    let body = json!({"contents": [
        {"role": "user", "parts": [{"text": "Hi"}]},
        model(json!({"text": "th", "thought": true})), model(json!({"text": "ink", "thought": true})),
        model(json!({"text": "", "thought": true, "thoughtSignature": kept})),
        model(json!({"text": "Look"})), model(json!({"text": "ing."})),
        model(json!({"functionCall": {"id": "1", "name": "f", "args": {"y": 2}}})), model(json!({"text": ""})),
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "3"}}}]},
    ]});
    let dialog = GENERATE_SURFACE.read(&call("m", false, &body.to_string())).expect("a dialog");
    assert_eq!(dialog.turns.len(), 3);
    let parts = &dialog.turns[1].parts;
    assert_eq!(parts[0], Part::Thought(Thought { text: "think".into(), seal: Some(seal) }));
    assert_eq!(parts[1], Part::text("Looking."));
    assert!(matches!(&parts[2..], [Part::ToolCall(call)] if call.id == "1"), "{parts:?}");
    assert!(
        matches!(&dialog.turns[2].parts[..], [Part::ToolResult(result)] if result.id == "1" && result.text() == "3")
    );
}

#[test]
fn what_only_google_can_do_is_refused_by_name() {
    for (more, field) in [
        (json!({"cachedContent": "cachedContents/x"}), "cachedContent"),
        (json!({"tools": [{"codeExecution": {}}]}), "tools[0].codeExecution"),
        (json!({"contents": [{"parts": [{"executableCode": {"code": "x"}}]}]}), "contents[0].parts[0].executableCode"),
        (
            json!({"contents": [{"parts": [{"fileData": {"fileUri": "gs://b/x"}}]}]}),
            "contents[0].parts[0].fileData.fileUri",
        ),
    ] {
        let mut body = json!({"contents": [{"parts": [{"text": "a"}]}]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let error = GENERATE_SURFACE.read(&call("m", false, &body.to_string())).expect_err("refused");
        assert!(matches!(&error, UpstreamError::Unsupported { message } if message.starts_with(field)), "{error}");
    }
}

#[test]
fn counting_takes_the_prompt_alone_or_a_whole_request() {
    let gemini = Gemini::studio(None).expect("an address");
    let count = |body: Value| {
        let dialog = GENERATE_SURFACE.read(&call("m", false, &body.to_string())).expect("a dialog");
        let drops = &mut Drops::default();
        let request = count::of_dialog(&gemini.place, &dialog, "gemini-3.8-flash", drops).expect("a request");
        (request.endpoint.uri().path().to_owned(), json_of(&request.body))
    };
    let path = "/v1beta/models/gemini-3.8-flash:countTokens".to_owned();
    let contents = json!([{"role": "user", "parts": [{"text": "hi"}]}]);
    assert_eq!(count(json!({"contents": contents})), (path.clone(), json!({"contents": contents})));
    let system = json!({"parts": [{"text": "S"}]});
    let whole = json!({"model": "models/gemini-3.8-flash", "contents": contents, "systemInstruction": system});
    let asked = count(json!({"contents": contents, "systemInstruction": system}));
    assert_eq!(asked, (path, json!({"generateContentRequest": whole})));
    let case = fixture("gemini/count_tokens.json");
    let counted = count::counted(case["response"]["body"].to_string().as_bytes()).expect("a count");
    assert_eq!(Some(counted), case["expect"]["input_tokens"].as_u64());
}

#[test]
fn a_client_of_googles_has_its_own_body_counted_as_each_host_takes_it() {
    let body = json!({"contents": [{"parts": [{"text": "hi"}]}], "safetySettings": [], "tools": []});
    let counted = |gemini: Gemini| {
        let call = call("m", false, &body.to_string());
        let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
        let order = Order { call: &call, model: "gemini-3.8-flash", output_tokens_max: None, timeout, idle_timeout };
        let request = Translated(gemini).encode_count(&order).expect("a request").expect("a counter");
        json_of(&request.body)
    };
    let mut whole = body.clone();
    whole["model"] = "models/gemini-3.8-flash".into();
    assert_eq!(counted(Gemini::studio(None).expect("an address")), json!({"generateContentRequest": whole}));
    let vertex = Gemini::vertex("p", "global", None).expect("an address");
    assert_eq!(counted(vertex), json!({"contents": body["contents"], "tools": []}));
}

#[test]
fn a_complete_answer_becomes_a_stream_of_one_chunk_for_a_client_of_googles() {
    let stream = call("m", true, r#"{"contents":[{"parts":[{"text":"a"}]}]}"#);
    let body = Bytes::from_static(
        b"{\n \"candidates\": [{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"}]\n}",
    );
    let reply = studio().stream_of_whole(&stream, &HeaderMap::new(), body).expect("a stream");
    let expected =
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"}]}\r\n\r\n";
    assert_eq!(reply.body, expected);
}

/// What a client of Google's dialect is told, chunk by chunk.
fn told(pieces: Vec<Piece>) -> Vec<Value> {
    let mut writer = GENERATE_SURFACE.stream(&call("m", true, r#"{"contents":[{"parts":[{"text":"a"}]}]}"#));
    let mut out = BytesMut::new();
    pieces.into_iter().for_each(|piece| writer.write(piece, &mut out));
    writer.end(&mut out);
    let text = str::from_utf8(&out).expect("text");
    text.split_terminator("\r\n\r\n")
        .map(|frame| json_of(frame.strip_prefix("data: ").expect("data").as_bytes()))
        .collect()
}

#[test]
fn calls_that_grow_at_the_same_time_reach_a_client_of_googles_whole_and_with_their_signatures() {
    let begun = |call, id: &str| {
        let (id, name) = (id.to_owned(), "f".to_owned());
        Piece::ToolCall { choice: 0, call, id, name, custom: false }
    };
    let grown = |call, fragment: &str| Piece::Arguments { choice: 0, call, fragment: fragment.to_owned() };
    let chunks = told(vec![
        Piece::Start { id: "r".into(), model: "n".into() },
        Piece::Thought { choice: 0, text: "t".into() },
        Piece::Seal { choice: 0, seal: Seal::Anthropic("s".into()) },
        Piece::Text { choice: 0, text: "a".into() },
        begun(0, "1"),
        begun(1, "2"),
        grown(1, "{\"y\":"),
        grown(0, "{}"),
        grown(1, "2}"),
        Piece::Finish { choice: 0, finish: FinishReason::ToolCalls, stop_sequence: None },
        Piece::Usage(Usage::text(3, 5)),
    ]);
    let parts: Vec<&Value> = chunks.iter().map(|chunk| &chunk["candidates"][0]["content"]["parts"]).collect();
    let seal = surface::seal::opaque(&Seal::Anthropic("s".into()));
    assert_eq!(*parts[0], json!([{"text": "t", "thought": true}]));
    assert_eq!(*parts[1], json!([{"text": "", "thought": true, "thoughtSignature": seal}]));
    assert_eq!(*parts[2], json!([{"text": "a"}]));
    let call = |id: &str, args: Value| json!({"functionCall": {"id": id, "name": "f", "args": args}});
    assert_eq!(*parts[3], json!([call("1", json!({})), call("2", json!({"y": 2}))]));
    let last = chunks.last().expect("a chunk");
    assert_eq!((&last["responseId"], &last["modelVersion"]), (&json!("r"), &json!("n")));
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(last["usageMetadata"], json!({"promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8}));
    assert!(chunks[..4].iter().all(|chunk| chunk["candidates"][0]["finishReason"].is_null()));
}

#[test]
fn a_complete_answer_of_another_provider_is_one_of_googles() {
    let usage = Usage::text(3, 5).with(Meter::ReasoningTokens, 2).with(Meter::CacheReadTokens, 4);
    let call_part = ToolCall {
        id: "1".into(),
        name: "f".into(),
        arguments: "not JSON".into(),
        custom: false,
        seal: Some(Seal::Gemini("c2ln".into())),
        cache: None,
    };
    let parts = vec![Part::Refusal("No.".into()), Part::ToolCall(call_part)];
    let choice = Choice { parts, finish: FinishReason::Length, stop_sequence: None, logprobs: None };
    let answer = Answer { choices: vec![choice], usage: Some(usage), ..Answer::default() };
    let call = call("m", false, r#"{"contents":[{"parts":[{"text":"a"}]}]}"#);
    let whole = json_of(&GENERATE_SURFACE.whole(&call, answer));
    let function_call = json!({"id": "1", "name": "f", "args": {"_raw": "not JSON"}});
    let parts = json!([{"text": "No."}, {"functionCall": function_call, "thoughtSignature": "c2ln"}]);
    let candidate = json!({"content": {"parts": parts, "role": "model"}, "finishReason": "MAX_TOKENS", "index": 0});
    let usage = json!({"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 14, "thoughtsTokenCount": 2, "cachedContentTokenCount": 4});
    let expected = json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": call.id.to_string()});
    assert_eq!(whole, expected);
}

#[test]
fn an_error_is_handed_on_to_a_client_of_googles_dialect_only() {
    let body = Bytes::from_static(br#"{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}"#);
    let handed_on = |call: &Call| match studio().decode_error(call, StatusCode::BAD_REQUEST, &HeaderMap::new(), &body) {
        UpstreamError::Rejected { body, .. } => body,
        other => panic!("{other:?}"),
    };
    assert_eq!(handed_on(&call("m", false, r#"{"contents":[{"parts":[{"text":"a"}]}]}"#)), Some(body.clone()));
    assert_eq!(handed_on(&chat(&with(json!({})))), None);
}

/// A recorded stream with some bytes changed.
fn spoilt(changes: &[(usize, u8)]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemini/stream.sse");
    let mut bytes = std::fs::read(path).expect("a file");
    for (at, byte) in changes {
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    bytes
}

proptest::proptest! {
    #[test]
    fn a_spoilt_stream_ends_somehow_and_the_same_however_it_is_torn(
        changes in proptest::collection::vec((proptest::num::usize::ANY, proptest::num::u8::ANY), 0..6),
        size in 1_usize..400,
    ) {
        let stream = spoilt(&changes);
        let own = call("m", true, r#"{"contents":[{"parts":[{"text":"a"}]}]}"#);
        let foreign = chat(&json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "a"}]}));
        for call in [&own, &foreign] {
            let whole = relayed(&studio(), call, &[&stream]);
            let torn = relayed(&studio(), call, &stream.chunks(size).collect::<Vec<_>>());
            proptest::prop_assert_eq!(&whole.0, &torn.0);
            proptest::prop_assert_eq!(&whole.1, &torn.1);
            let name = |error: &Option<UpstreamError>| error.as_ref().map(|error| error.to_string());
            proptest::prop_assert_eq!(name(&whole.2), name(&torn.2));
        }
    }

    #[test]
    fn a_spoilt_request_is_read_or_refused(changes in proptest::collection::vec((proptest::num::usize::ANY, proptest::num::u8::ANY), 0..4)) {
        let mut body = full_request().to_string().into_bytes();
        for (at, byte) in changes {
            let at = at % body.len();
            body[at] = byte;
        }
        let body = Bytes::from(body);
        if let Ok(envelope) = Envelope::parse_named(Operation::GenerateContent, "m", false, &body) {
            let call = with_envelope(Operation::GenerateContent, envelope, body);
            if let Ok(dialog) = GENERATE_SURFACE.read(&call) {
                let _ = request::body(Site::Studio, &dialog, "m", &mut Drops::new(true));
            }
        }
    }
}
