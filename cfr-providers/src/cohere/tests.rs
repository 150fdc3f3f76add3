//! Requests and answers as a client of OpenAI's dialect meets them, against recordings and vectors.

use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Operation, Usage};
use cfr_core::time::Timestamp;
use cfr_core::upstream::{Rejection, Retry, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Cohere;
use crate::adapter::Adapter;
use crate::dialog::Translated;
use crate::testing::{Heard, Outcome, asking, call, fixtures, json_file, order};
use crate::transport::WireRequest;

const MODEL: &str = "command-a-plus-05-2026";

fn cohere() -> Translated<Cohere> {
    Translated(Cohere::new(None).expect("an address"))
}

fn encoded(call: &Call, model: &str) -> Result<WireRequest, UpstreamError> {
    cohere().encode(&order(call, model))
}

fn body_of(request: &WireRequest) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

#[track_caller]
fn body_for(more: Value) -> Value {
    body_of(&encoded(&call(&asking(more)), MODEL).expect("a request"))
}

fn recording(name: &str) -> Value {
    json_file(&fixtures("cohere").join(name))
}

fn recorded_stream(name: &str) -> Vec<u8> {
    std::fs::read(fixtures("cohere").join(name).with_extension("sse")).expect("a stream")
}

/// Events as Cohere sends them.
fn stream(events: &[Value]) -> Vec<u8> {
    let frame = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("?"));
    let frames: String = events.iter().map(frame).collect();
    format!("{frames}data: [DONE]\n\n").into_bytes()
}

fn delta(kind: &str, index: u64, message: Value) -> Value {
    json!({"type": kind, "index": index, "delta": {"message": message}})
}

fn end(reason: &str) -> Value {
    let usage = json!({"billed_units": {"input_tokens": 12.0, "output_tokens": 3.0}});
    json!({"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}})
}

fn answer(body: &Value) -> Result<(Heard, Option<Usage>, Value), UpstreamError> {
    let reply = cohere().decode(&call(&asking(json!({}))), &HeaderMap::new(), body.to_string().into())?;
    let written = serde_json::from_slice(&reply.body).expect("JSON");
    Ok((Heard::of(&reply.body), reply.report.usage, written))
}

fn error(status: u16, message: &str) -> UpstreamError {
    let status = StatusCode::from_u16(status).expect("a status");
    let body = json!({"id": "x", "message": message}).to_string().into();
    cohere().decode_error(&call(&asking(json!({}))), status, &HeaderMap::new(), &body)
}

#[test]
fn every_mapping_vector_is_met_to_the_member() {
    let mut compared = 0;
    for entry in std::fs::read_dir(fixtures("mapping")).expect("a folder") {
        let path = entry.expect("a file").path();
        let vector = json_file(&path);
        let Some(expected) = vector["expect"].get("cohere") else { continue };
        let request = encoded(&call(&vector["request"]), MODEL).expect("a request");
        assert_eq!(&body_of(&request), expected, "{}", path.display());
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn every_recorded_stream_is_the_same_however_the_network_tears_it() {
    for name in ["stream", "tool_stream", "length_stream", "stream_error"] {
        let (case, wire) = (recording(&format!("{name}.json")), recorded_stream(name));
        let whole = Outcome::of(&cohere(), [&*wire]);
        for at in 0..wire.len() {
            let torn = Outcome::of(&cohere(), [&wire[..at], &wire[at..]]);
            assert_eq!((torn.bytes, torn.report), (whole.bytes.clone(), whole.report.clone()), "{name} torn at {at}");
        }
        if case["expect"]["error"].is_null() {
            whole.check(&case["expect"]);
            Outcome::of(&cohere(), wire.chunks(1)).check(&case["expect"]);
            continue;
        }
        assert_eq!(Some(&*Heard::of(&whole.bytes).text), case["expect"]["partial_text"].as_str());
        assert!(matches!(whole.error, Some(UpstreamError::InStream { frame: None, .. })), "{:?}", whole.error);
    }
}

#[test]
fn a_stream_that_is_cut_before_its_last_event_says_so_wherever_it_is_cut() {
    let wire = recorded_stream("stream");
    let complete = memchr::memmem::find(&wire, b"\n\ndata: [DONE]").expect("an end");
    for at in 0..complete {
        let cut = Outcome::of(&cohere(), [&wire[..at]]);
        assert_eq!(cut.error.as_ref().map(UpstreamError::name), Some("truncated"), "cut at {at}");
        assert!(!Heard::of(&cut.bytes).done, "cut at {at}");
    }
    assert!(Outcome::of(&cohere(), [&wire[..complete]]).error.is_none());
}

#[test]
fn a_plan_for_tools_is_a_thought_and_calls_grow_apart() {
    let function = |name: &str| json!({"name": name, "arguments": ""});
    let started =
        |id: &str, name: &str| json!({"tool_calls": {"id": id, "type": "function", "function": function(name)}});
    let more = |fragment: &str| json!({"tool_calls": {"function": {"arguments": fragment}}});
    let wire = stream(&[
        json!({"type": "message-start", "id": "x", "delta": {"message": {"content": [], "tool_calls": []}}}),
        delta("tool-plan-delta", 0, json!({"tool_plan": "I will "})),
        delta("tool-plan-delta", 0, json!({"tool_plan": "look."})),
        delta("tool-call-start", 0, started("a", "f")),
        delta("tool-call-delta", 0, more("{\"x\":")),
        delta("tool-call-start", 1, started("b", "g")),
        delta("tool-call-delta", 0, more("1}")),
        delta("tool-call-delta", 1, more("{}")),
        json!({"type": "tool-call-end", "index": 0}),
        json!({"type": "of-tomorrow", "delta": 7}),
        end("TOOL_CALL"),
    ]);
    let outcome = Outcome::of(&cohere(), [&*wire]);
    let heard = Heard::of(&outcome.bytes);
    assert_eq!((heard.reasoning.as_str(), heard.finish.as_deref()), ("I will look.", Some("tool_calls")));
    let call = |id: &str, name: &str, arguments: &str| (id.to_owned(), name.to_owned(), arguments.to_owned());
    assert_eq!(heard.calls, [call("a", "f", "{\"x\":1}"), call("b", "g", "{}")]);
    assert_eq!(outcome.report.usage, Some(Usage::text(12, 3)));
}

#[test]
fn a_whole_answer_has_its_plan_its_calls_and_what_is_charged() {
    let body = json!({"id": "x", "finish_reason": "TOOL_CALL", "message": {"role": "assistant", "tool_plan": "Look.",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "new", "new": 1}],
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g"}}]},
        "usage": {"billed_units": {"input_tokens": 12.0, "output_tokens": 3.0}, "tokens": {"input_tokens": 507.0}}});
    let (heard, usage, _) = answer(&body).expect("an answer");
    assert!(heard.reasoning.contains("Look.") && heard.reasoning.contains("Hm."), "{heard:?}");
    assert_eq!((heard.calls[0].2.as_str(), heard.calls[1].2.as_str()), ("{\"x\":1}", "{}"));
    assert_eq!(usage, Some(Usage::text(12, 3)));
    assert_eq!(answer(&json!({"id": "x"})).expect_err("no message").name(), "malformed");
}

#[test]
fn every_reason_to_end_has_its_word() {
    let finish = |reason: Value| {
        let usage = json!({"billed_units": {"input_tokens": 12, "output_tokens": 3}});
        let message = json!({"content": [{"type": "text", "text": "a"}]});
        let body = json!({"finish_reason": reason, "message": message, "usage": usage});
        answer(&body).expect("an answer").0.finish
    };
    let reasons = ["COMPLETE", "STOP_SEQUENCE", "MAX_TOKENS", "TOOL_CALL", "ERROR", "TIMEOUT", "NEW"];
    let words = reasons.map(|reason| finish(json!(reason)).expect("a word"));
    assert_eq!(words, ["stop", "stop", "length", "tool_calls", "error", "error", "NEW"]);
    assert_eq!(finish(Value::Null).as_deref(), Some("stop"));
}

#[test]
fn an_answer_that_failed_and_costs_nothing_is_an_error() {
    let failed = answer(&json!({"finish_reason": "ERROR", "message": {"role": "assistant"}}));
    assert_eq!(failed.expect_err("a failure").name(), "failed");
}

#[test]
fn an_error_at_the_end_is_a_status_before_the_first_word_and_in_the_stream_after_it() {
    let start = json!({"type": "message-start", "id": "x"});
    let text = delta("content-delta", 0, json!({"content": {"text": "a"}}));
    let early = Outcome::of(&cohere(), [&*stream(&[start.clone(), end("TIMEOUT")])]);
    assert!(early.bytes.is_empty());
    let is_timeout = |error| matches!(error, Some(UpstreamError::Failed { status: StatusCode::GATEWAY_TIMEOUT, .. }));
    assert!(is_timeout(early.error), "it may be tried again");
    let late = Outcome::of(&cohere(), [&*stream(&[start, text, end("ERROR")])]);
    assert!(matches!(late.error, Some(UpstreamError::InStream { frame: None, .. })), "{:?}", late.error);
    assert_eq!(late.report.usage, Some(Usage::text(12, 3)), "what failed is charged all the same");
}

#[test]
fn sources_with_an_address_are_cited_by_their_place_in_all_words() {
    let source = json!({"type": "document", "id": "d", "document": {"url": "https://a.example", "title": "A"}});
    let bare = json!({"type": "tool", "id": "t", "tool_output": {"content": "7"}});
    let sources = [&source, &bare];
    let cited = json!({"start": 1, "end": 3, "content_index": 1, "type": "TEXT_CONTENT", "sources": sources});
    let plan = json!({"start": 0, "end": 1, "type": "PLAN", "sources": [source]});
    let text = |text: &str| json!({"type": "text", "text": text});
    let message = json!({"content": [text("\u{e4}."), text("abc")], "citations": [cited, plan]});
    let body = json!({"finish_reason": "COMPLETE", "message": message});
    let expected = json!([{"type": "url_citation",
        "url_citation": {"url": "https://a.example", "title": "A", "start_index": 3, "end_index": 5}}]);
    let (_, _, written) = answer(&body).expect("an answer");
    assert_eq!(written["choices"][0]["message"]["annotations"], expected);

    let wire = stream(&[
        delta("content-delta", 0, json!({"content": {"text": "\u{e4}."}})),
        delta("content-delta", 1, json!({"content": {"text": "abc"}})),
        delta("citation-start", 0, json!({"citations": cited})),
        delta("citation-start", 1, json!({"citations": plan})),
        end("COMPLETE"),
    ]);
    let outcome = Outcome::of(&cohere(), [&*wire]);
    let streamed = str::from_utf8(&outcome.bytes).expect("text").lines().filter(|line| line.contains("annotations"));
    let streamed: Vec<Value> =
        streamed.map(|line| serde_json::from_str(line.trim_start_matches("data: ")).expect("JSON")).collect();
    assert_eq!(streamed.len(), 1);
    assert_eq!(streamed[0]["choices"][0]["delta"]["annotations"], expected);
}

#[test]
fn probabilities_are_asked_for_and_told_token_by_token() {
    assert_eq!(body_for(json!({"logprobs": true}))["logprobs"], true);
    let pieces = json!([{"text": "Hi", "token_ids": [1], "logprobs": [-0.5]},
        {"text": "there", "token_ids": [2, 3], "logprobs": [-1.5, -2.5]}]);
    let body = json!({"message": {"content": [{"type": "text", "text": "Hithere"}]}, "logprobs": pieces});
    let (_, _, written) = answer(&body).expect("an answer");
    let tokens = written["choices"][0]["logprobs"]["content"].as_array().expect("tokens");
    let told: Vec<_> = tokens.iter().map(|token| (token["token"].as_str(), token["logprob"].as_f64())).collect();
    assert_eq!(told, [(Some("Hi"), Some(-0.5)), (Some("there"), Some(-1.5)), (Some(""), Some(-2.5))]);
    assert_eq!(tokens[0]["bytes"], json!(b"Hi"));
}

#[test]
fn errors_say_what_can_be_done_and_trouble_with_our_key_is_ours() {
    for status in [401, 402, 403, 498] {
        assert_eq!(error(status, "invalid api token").name(), "account", "{status}");
    }
    let trial =
        |period: &str| error(429, &format!("You are using a Trial key, which is limited to 20 API calls / {period}."));
    assert!(matches!(trial("minute").retry(), Retry::SameTarget { .. }));
    assert!(matches!(trial("month"), UpstreamError::RateLimited { exhausted: true, .. }));
    for status in [500, 501, 503, 504] {
        assert_eq!(error(status, "busy").name(), "failed", "{status}");
    }
    let kind = |status, message| match error(status, message) {
        UpstreamError::Rejected { kind, body: None, .. } => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(400, "too many tokens: size limit exceeded by 9 tokens"), Rejection::ContextWindow);
    assert_eq!(kind(404, "model 'nope' not found"), Rejection::ModelNotFound);
    assert_eq!(kind(422, "invalid type"), Rejection::Invalid);
}

#[test]
fn thoughts_go_back_as_a_plan_before_calls_and_as_thoughts_before_words_unless_they_are_anothers() {
    let tool_calls = json!([{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let theirs = json!({"type": "thinking", "thinking": "secret", "signature": "sig"});
    let body = body_for(json!({"messages": [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": null, "reasoning_content": "Look.", "tool_calls": tool_calls},
        {"role": "tool", "tool_call_id": "a", "content": "7"},
        {"role": "assistant", "content": "2", "reasoning_content": "Hm."},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "4", "thinking_blocks": [theirs]},
        {"role": "user", "content": "5"},
    ]}));
    let expected = json!([
        {"role": "user", "content": "1"},
        {"role": "assistant", "tool_plan": "Look.", "tool_calls": tool_calls},
        {"role": "tool", "tool_call_id": "a", "content": "7"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "2"}]},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "5"},
    ]);
    assert_eq!(body["messages"], expected);
}

#[test]
fn pictures_are_shown_by_address_or_as_bytes() {
    let picture = |url: &str| json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}});
    let pictures = ["data:image/png;base64,AAAA", "https://h.example/x.png"].map(picture);
    let parts = json!([{"type": "text", "text": "a"}, pictures[0], pictures[1]]);
    let body = body_for(json!({"messages": [{"role": "user", "content": parts}]}));
    assert_eq!(body["messages"][0]["content"], parts);
}

#[test]
fn a_choice_of_tools_is_a_word_or_fewer_tools() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "strict": true}});
    let chosen = |choice: Value| {
        let body = body_for(json!({"tools": [tool("f"), tool("g")], "tool_choice": choice}));
        assert_eq!(body["strict_tools"], true);
        let tools = body["tools"].as_array().into_iter().flatten();
        let names = tools.map(|tool| tool["function"]["name"].as_str().expect("a name").to_owned());
        (names.collect::<Vec<_>>().join(" "), body["tool_choice"].as_str().map(str::to_owned))
    };
    let word = |names: &str, word: &str| (names.to_owned(), Some(word.to_owned()));
    assert_eq!(chosen(json!("auto")), ("f g".to_owned(), None));
    assert_eq!(chosen(json!("none")), word("f g", "NONE"));
    assert_eq!(chosen(json!("required")), word("f g", "REQUIRED"));
    assert_eq!(chosen(json!({"type": "function", "function": {"name": "g"}})), word("g", "REQUIRED"));
}

#[test]
fn numbers_stay_within_what_cohere_takes() {
    let body = body_for(json!({"temperature": 1.7, "top_p": 1, "frequency_penalty": -2, "presence_penalty": 0.5}));
    let numbers = ["temperature", "p", "frequency_penalty", "presence_penalty"].map(|name| body[name].as_f64());
    assert_eq!(numbers, [Some(1.0), Some(0.99), Some(0.0), Some(0.5)]);
}

#[test]
fn how_much_to_think_is_a_budget_where_the_cap_has_room_for_it() {
    let think =
        |effort: &str, cap: u64| body_for(json!({"reasoning_effort": effort, "max_tokens": cap}))["thinking"].clone();
    let budget = |tokens: u64| json!({"type": "enabled", "token_budget": tokens});
    assert_eq!(think("none", 8_000), json!({"type": "disabled"}));
    assert_eq!([think("minimal", 8_000), think("medium", 8_000)], [budget(1_024), budget(4_096)]);
    assert_eq!(think("medium", 3_000), budget(1_976));
    assert_eq!(think("max", 8_000), json!({"type": "enabled"}));
    assert_eq!(think("high", 2_000), json!({"type": "disabled"}));
    assert_eq!(body_for(json!({})).get("thinking"), None);
}

#[test]
fn what_there_are_no_words_for_is_refused_by_name_or_reported() {
    let schema = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let file = json!([{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}]);
    for (name, more) in [
        ("n", json!({"n": 2})),
        ("top_logprobs", json!({"logprobs": true, "top_logprobs": 2})),
        ("stop: more than 5 texts", json!({"stop": ["1", "2", "3", "4", "5", "6"]})),
        ("response_format beside tools", json!({"response_format": schema, "tools": tools})),
        ("file", json!({"messages": [{"role": "user", "content": file}]})),
    ] {
        let asked = call(&asking(more));
        let error = encoded(&asked, MODEL).expect_err(name);
        assert!(error.name() == "unsupported" && error.to_string().ends_with(name), "{error}");
        let allowed = encoded(&Call { drop_params: true, ..asked }, MODEL).expect("allowed");
        assert_eq!(allowed.dropped, [name.into()]);
    }
    let harmless = json!({"user": "u", "logit_bias": {"1": 2}, "parallel_tool_calls": false});
    let dropped = encoded(&call(&asking(harmless)), MODEL).expect("a request").dropped;
    assert_eq!(dropped, ["logit_bias".into(), "user".into(), "parallel_tool_calls".into()]);
}

#[test]
fn reranks_say_where_documents_are_cut_and_are_charged_by_searches() {
    let case = recording("rerank.json");
    let rerank =
        |asked: Value| Call::parse(Operation::Rerank, asked.to_string().into(), Timestamp::UNIX_EPOCH).expect("a call");
    let asked = rerank(case["request"]["body"].clone());
    let request = encoded(&asked, "rerank-v4.0-pro").expect("a request");
    assert_eq!(request.endpoint.uri().path(), case["request"]["path"].as_str().expect("a path"));
    let mut expected = case["request"]["body"].clone();
    expected["max_tokens_per_doc"] = 4_096.into();
    assert_eq!(body_of(&request), expected);
    let more = json!({"model": "m", "query": "q", "documents": [{"text": "a"}], "max_tokens_per_doc": 9, "user": "u"});
    let request = encoded(&rerank(more), "rerank-v3.5").expect("a request");
    let body = json!({"model": "rerank-v3.5", "query": "q", "documents": ["a"], "max_tokens_per_doc": 9});
    assert_eq!((body_of(&request), request.dropped), (body, vec!["user".into()]));

    let body = Bytes::from(case["response"]["body"].to_string());
    let reply = cohere().decode(&asked, &HeaderMap::new(), body).expect("places");
    let answer: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(answer["results"], case["response"]["body"]["results"]);
    assert_eq!(answer["meta"]["billed_units"], json!({"search_units": 1}));
    assert_eq!(reply.report.usage, Some(Usage::default().with(Meter::RerankQueries, 1)));
    let spans = json!({"model": "m", "query": "q", "documents": ["a b"], "relevant_spans": {"mode": "enabled"}});
    let body = body_of(&encoded(&rerank(spans.clone()), "rerank-v5.0-pro").expect("a request"));
    assert_eq!(body["relevant_spans"], spans["relevant_spans"]);
    let place = json!({"index": 0, "relevance_score": 0.5, "relevant_spans": [{"start": 0, "end": 1}]});
    let told = json!({"results": [place], "meta": {"billed_units": {"input_tokens": 9}}}).to_string();
    let reply = cohere().decode(&rerank(spans), &HeaderMap::new(), told.into()).expect("places");
    assert_eq!(serde_json::from_slice::<Value>(&reply.body).expect("JSON")["results"], json!([place]));
    let none = Bytes::from_static(br#"{"id":"fx"}"#);
    assert_eq!(cohere().decode(&asked, &HeaderMap::new(), none).expect_err("no places").name(), "malformed");
}

#[test]
fn embeddings_are_asked_for_and_answered_in_openais_words() {
    let case = recording("embed.json");
    let embeddings = |asked: Value| {
        Call::parse(Operation::Embeddings, asked.to_string().into(), Timestamp::UNIX_EPOCH).expect("a call")
    };
    let asked = embeddings(json!({"model": "m", "input": case["request"]["body"]["texts"]}));
    let request = encoded(&asked, "embed-v4.0").expect("a request");
    assert_eq!(request.endpoint.uri().path(), case["request"]["path"].as_str().expect("a path"));
    assert_eq!(body_of(&request), case["request"]["body"]);
    let more = embeddings(json!({"model": "m", "input": "a", "input_type": "search_query", "dimensions": 256}));
    let body = body_of(&encoded(&more, "embed-v4.0").expect("a request"));
    assert_eq!((&body["input_type"], &body["output_dimension"]), (&json!("search_query"), &json!(256)));

    let body = Bytes::from(case["response"]["body"].to_string());
    let reply = cohere().decode(&asked, &HeaderMap::new(), body).expect("vectors");
    let list: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(list["data"][0]["embedding"], case["expect"]["vector"]);
    assert_eq!(reply.report.usage, Some(Usage::default().with(Meter::InputTokens, 2)));
    let fewer = Bytes::from_static(br#"{"embeddings":{"float":[]}}"#);
    assert_eq!(cohere().decode(&asked, &HeaderMap::new(), fewer).expect_err("no vector").name(), "malformed");
}
