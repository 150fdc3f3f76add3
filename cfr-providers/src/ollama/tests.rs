//! Requests and answers as a client of OpenAI's dialect meets them, against recordings and vectors.

use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Operation, Usage};
use cfr_core::time::Timestamp;
use cfr_core::upstream::{Retry, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Ollama;
use crate::adapter::Adapter;
use crate::dialog::Translated;
use crate::testing::{Heard, Outcome, asking, call, fixtures, json_file, order};
use crate::transport::WireRequest;

const MODEL: &str = "gpt-oss:20b";
const FIXTURES: &str = "ollama_native";

fn ollama() -> Translated<Ollama> {
    Translated(Ollama::new(None).expect("an address"))
}

fn encoded(call: &Call, model: &str) -> Result<WireRequest, UpstreamError> {
    ollama().encode(&order(call, model))
}

fn body_of(request: &WireRequest) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

#[track_caller]
fn body_for(more: Value) -> Value {
    body_of(&encoded(&call(&asking(more)), MODEL).expect("a request"))
}

fn recordings() -> Vec<Value> {
    let files = std::fs::read_dir(fixtures(FIXTURES)).expect("a folder").map(|entry| entry.expect("a file").path());
    let cases = files.filter(|path| path.extension().is_some_and(|end| end == "json")).map(|path| json_file(&path));
    cases.collect()
}

fn stream_of(case: &Value) -> Option<Vec<u8>> {
    let name = case["response"]["body_file"].as_str()?;
    Some(std::fs::read(fixtures(FIXTURES).join(name)).expect("a stream"))
}

#[test]
fn every_mapping_vector_is_met_to_the_member() {
    let mut compared = 0;
    for entry in std::fs::read_dir(fixtures("mapping")).expect("a folder") {
        let path = entry.expect("a file").path();
        let vector = json_file(&path);
        let Some(expected) = vector["expect"].get("ollama") else { continue };
        let request = encoded(&call(&vector["request"]), MODEL).expect("a request");
        assert_eq!(&body_of(&request), expected, "{}", path.display());
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn every_recorded_answer_is_understood() {
    for case in recordings() {
        let response = &case["response"];
        let (Some(body), false) = (response.get("body"), case["case"] == "embed") else { continue };
        let status = u16::try_from(response["status"].as_u64().expect("a status")).expect("a status");
        let (status, body) = (StatusCode::from_u16(status).expect("a status"), Bytes::from(body.to_string()));
        let whole = call(&asking(json!({})));
        if status.is_success() {
            let reply = ollama().decode(&whole, &HeaderMap::new(), body).expect("an answer");
            Outcome { bytes: reply.body, report: reply.report, error: None }.check(&case["expect"]);
        } else {
            let retry = ollama().decode_error(&whole, status, &HeaderMap::new(), &body).retry();
            let retryable = case["expect"]["error"]["retryable"].as_bool().expect("a verdict");
            assert_eq!(matches!(retry, Retry::SameTarget { .. }), retryable, "{}", case["case"]);
        }
    }
}

#[test]
fn every_recorded_stream_is_the_same_however_the_network_tears_it() {
    for (case, wire) in recordings().into_iter().filter_map(|case| stream_of(&case).map(|wire| (case, wire))) {
        let whole = Outcome::of(&ollama(), [&*wire]);
        for at in 0..wire.len() {
            let torn = Outcome::of(&ollama(), [&wire[..at], &wire[at..]]);
            assert_eq!((torn.bytes, torn.report), (whole.bytes.clone(), whole.report.clone()), "torn at {at}");
        }
        if case["expect"]["error"].is_null() {
            whole.check(&case["expect"]);
            Outcome::of(&ollama(), wire.chunks(1)).check(&case["expect"]);
            continue;
        }
        assert_eq!(Some(&*Heard::of(&whole.bytes).text), case["expect"]["partial_text"].as_str());
        assert!(matches!(whole.error, Some(UpstreamError::InStream { frame: None, .. })), "{:?}", whole.error);
    }
}

#[test]
fn a_stream_that_is_cut_says_so_wherever_it_is_cut() {
    let cases = recordings();
    let case = cases.iter().find(|case| case["case"] == "stream").expect("the recording");
    let wire = stream_of(case).expect("a stream");
    let complete = wire.trim_ascii_end().len(); // the last line may lack its end
    for at in 0..complete {
        let cut = Outcome::of(&ollama(), [&wire[..at]]);
        assert_eq!(cut.error.as_ref().map(UpstreamError::name), Some("truncated"), "cut at {at}");
        assert!(!Heard::of(&cut.bytes).done, "cut at {at}");
    }
    assert!(Outcome::of(&ollama(), [&wire[..complete]]).error.is_none());
}

#[test]
fn an_error_in_place_of_the_first_line_is_as_good_as_a_status() {
    let outcome = Outcome::of(&ollama(), [&b"{\"error\":\"model 'x' not found\",\"status\":404}\n"[..]]);
    assert!(outcome.bytes.is_empty());
    assert!(matches!(outcome.error, Some(UpstreamError::Rejected { body: None, .. })), "{outcome:?}");
    let outcome = Outcome::of(&ollama(), [&b"{\"error\":\"out of memory\"}\n"[..]]);
    assert_eq!(outcome.error.as_ref().map(UpstreamError::name), Some("failed"));
}

#[test]
fn calls_come_whole_get_ids_where_they_have_none_and_end_an_answer_as_calls() {
    let call = |arguments: Value| json!({"function": {"name": "f", "arguments": arguments}});
    let first = json!({"created_at": "t", "message": {"content": "", "tool_calls": [call(json!({"a": 1}))]}});
    let named = json!({"id": "call_x", "function": {"name": "g", "arguments": {}}});
    let second = json!({"created_at": "t", "message": {"content": "", "tool_calls": [call(json!({"a": 1})), named]}});
    let last = json!({"message": {"content": ""}, "done": true, "done_reason": "stop", "new": [1]});
    let wire = format!("{first}\n{second}\n{last}\n");
    let outcome = Outcome::of(&ollama(), [wire.as_bytes()]);
    let heard = Heard::of(&outcome.bytes);
    assert_eq!(heard.finish.as_deref(), Some("tool_calls"));
    assert_eq!(outcome.report.usage, None, "counts that are missing are not zero");
    let said: Vec<_> = heard.calls.iter().map(|(_, name, arguments)| (name.as_str(), arguments.as_str())).collect();
    assert_eq!(said, [("f", r#"{"a":1}"#), ("f", r#"{"a":1}"#), ("g", "{}")]);
    assert!(heard.calls[0].0.starts_with("call_") && heard.calls[0].0 != heard.calls[1].0);
    assert_eq!(heard.calls[2].0, "call_x");
}

#[test]
fn pictures_stand_beside_the_words_and_thoughts_go_back_unless_they_are_anothers() {
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    let words = |text: &str| json!({"type": "text", "text": text});
    let theirs = json!({"type": "thinking", "thinking": "secret", "signature": "sig"});
    let body = body_for(json!({"messages": [
        {"role": "user", "content": [words("a"), picture, words("b")]},
        {"role": "assistant", "content": "c", "reasoning_content": "Hm."},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e", "thinking_blocks": [theirs]},
        {"role": "user", "content": "f"},
    ]}));
    let expected = json!([
        {"role": "user", "content": "a\n\nb", "images": ["AAAA"]},
        {"role": "assistant", "content": "c", "thinking": "Hm."},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e"},
        {"role": "user", "content": "f"},
    ]);
    assert_eq!(body["messages"], expected);
}

#[test]
fn a_choice_of_tools_is_made_by_naming_fewer() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let asked = |choice: Value| asking(json!({"tools": [tool("f"), tool("g")], "tool_choice": choice}));
    let named = |choice: Value| {
        let body = body_of(&encoded(&call(&asked(choice)), MODEL).expect("a request"));
        let tools = body["tools"].as_array().into_iter().flatten();
        tools.map(|tool| tool["function"]["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(named(json!("auto")), ["f", "g"]);
    assert_eq!(named(json!({"type": "function", "function": {"name": "g"}})), ["g"]);
    assert!(named(json!("none")).is_empty());
    let forced = call(&asked(json!("required")));
    assert_eq!(encoded(&forced, MODEL).expect_err("no word for it").name(), "unsupported");
    let allowed = Call { drop_params: true, ..forced };
    assert_eq!(encoded(&allowed, MODEL).expect("allowed").dropped, ["tool_choice".into()]);
}

#[test]
fn how_much_to_think_is_a_word_or_no() {
    let think = |effort: &str| body_for(json!({"reasoning_effort": effort}))["think"].clone();
    let words = ["none", "minimal", "low", "medium", "high", "xhigh", "max"].map(think);
    assert_eq!(
        words,
        [json!(false), json!("low"), json!("low"), json!("medium"), json!("high"), json!("high"), json!("max")]
    );
    assert_eq!(body_for(json!({})).get("think"), None);
}

#[test]
fn what_there_are_no_words_for_is_refused_by_name_or_reported() {
    for (name, more) in [
        ("n", json!({"n": 2})),
        (
            "image_url with an address",
            json!({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://h.example/x.png"}}]}]}),
        ),
        (
            "file",
            json!({"messages": [{"role": "user", "content": [
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}]}]}),
        ),
    ] {
        let error = encoded(&call(&asking(more)), MODEL).expect_err(name);
        assert!(error.name() == "unsupported" && error.to_string().ends_with(name), "{error}");
    }
    let harmless = json!({"user": "u", "logit_bias": {"1": 2}, "parallel_tool_calls": false});
    let dropped = encoded(&call(&asking(harmless)), MODEL).expect("a request").dropped;
    assert_eq!(dropped, ["logit_bias".into(), "user".into(), "parallel_tool_calls".into()]);
}

#[test]
fn embeddings_are_asked_for_and_answered_in_openais_words() {
    let cases = recordings();
    let case = cases.iter().find(|case| case["case"] == "embed").expect("the recording");
    let asked = json!({"model": "m", "input": case["request"]["body"]["input"], "dimensions": 3});
    let call = Call::parse(Operation::Embeddings, asked.to_string().into(), Timestamp::UNIX_EPOCH).expect("a call");
    let request = encoded(&call, "nomic-embed-text").expect("a request");
    assert_eq!(request.endpoint.uri().path(), case["request"]["path"].as_str().expect("a path"));
    let expected = json!({"model": "nomic-embed-text", "input": ["a"], "dimensions": 3});
    assert_eq!(body_of(&request), expected);

    let body = Bytes::from(case["response"]["body"].to_string());
    let reply = ollama().decode(&call, &HeaderMap::new(), body).expect("vectors");
    let list: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(list["data"][0]["embedding"], case["expect"]["vector"]);
    assert_eq!(reply.report.usage, Some(Usage::default().with(Meter::InputTokens, 2)));
    let fewer = Bytes::from_static(br#"{"embeddings":[]}"#);
    assert_eq!(ollama().decode(&call, &HeaderMap::new(), fewer).expect_err("no vector").name(), "malformed");
}

#[test]
fn a_line_without_a_message_says_nothing_and_an_answer_without_one_is_none() {
    let lines = concat!(
        "{\"status\":\"loading model\"}\n",
        "{\"message\":{\"content\":\"Hi\",\"new\":1}}\n",
        "{\"done\":true,\"done_reason\":\"new\",\"prompt_eval_count\":1,\"eval_count\":2}\n",
    );
    let outcome = Outcome::of(&ollama(), [lines.as_bytes()]);
    assert_eq!(outcome.report.usage, Some(Usage::text(1, 2)));
    let heard = Heard::of(&outcome.bytes);
    assert_eq!((heard.text.as_str(), heard.finish.as_deref()), ("Hi", Some("new")));
    let whole = call(&asking(json!({})));
    let error = ollama().decode(&whole, &HeaderMap::new(), Bytes::from_static(b"{\"done\":true}"));
    assert_eq!(error.expect_err("no message").name(), "malformed");
}
