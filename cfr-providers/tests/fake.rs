//! The fake provider answers like a provider.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cfr_core::chat::{Dialect, Operation};
use cfr_core::secret::Secret;
use cfr_core::upstream::{Order, Reply, Retry, Upstream, UpstreamError};
use cfr_providers::openai::quirks::OPENAI;
use cfr_providers::{Fake, HttpUpstream};
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::loopback::Loopback;
use support::{Outcome, Spoken, call, collect, order};

const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(upstream: &dyn Upstream, operation: Operation, body: &Value) -> Outcome {
    let call = call(operation, body);
    match upstream.send(order(&call, PATIENCE)).await {
        Ok(reply) => collect(reply).await,
        Err(error) => Outcome { error: Some(error), ..Outcome::default() },
    }
}

async fn chat(more: Value) -> (Outcome, Spoken) {
    let outcome = ask(&Fake::instant(), Operation::ChatCompletions, &chat_body("Tell me about rivers.", more)).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let spoken = Spoken::of(Dialect::OpenAi, &outcome.bytes);
    (outcome, spoken)
}

fn chat_body(content: &str, more: Value) -> Value {
    let mut body = json!({"model": "gpt-6-sol", "messages": [{"role": "user", "content": content}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn weather_tool() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]
    }}}])
}

#[tokio::test]
async fn the_same_prompt_is_answered_the_same_way_whole_and_streamed() {
    let (_, whole) = chat(json!({})).await;
    let (_, again) = chat(json!({})).await;
    let (_, streamed) = chat(json!({"stream": true})).await;
    assert!(whole.text.starts_with("This is gpt-6-sol, at your service."), "{}", whole.text);
    assert_eq!(whole.text, again.text);
    assert_eq!(whole.text, streamed.text);
    assert!(streamed.done);
}

#[tokio::test]
async fn a_cap_ends_the_answer_with_length() {
    for more in [json!({"max_tokens": 3}), json!({"max_completion_tokens": 3, "stream": true})] {
        let (outcome, spoken) = chat(more).await;
        assert_eq!(spoken.finish.as_deref(), Some("length"));
        assert_eq!(spoken.text, "This is gpt-6-sol, ");
        assert_eq!(outcome.report.usage.unwrap().output_total(), 3);
    }
}

#[tokio::test]
async fn a_stop_text_ends_the_answer_before_itself() {
    let (_, spoken) = chat(json!({"stop": ["service", "never"]})).await;
    assert_eq!(spoken.text, "This is gpt-6-sol, at your ");
    assert_eq!(spoken.finish.as_deref(), Some("stop"));
}

#[tokio::test]
async fn n_answers_are_n_choices_that_differ_and_are_all_counted() {
    let (outcome, _) = chat(json!({"n": 3})).await;
    let body: Value = serde_json::from_slice(&outcome.bytes).unwrap();
    let texts: std::collections::BTreeSet<_> =
        body["choices"].as_array().unwrap().iter().map(|choice| choice["message"]["content"].to_string()).collect();
    assert_eq!(texts.len(), 3);
    assert_eq!(body["usage"]["completion_tokens"], outcome.report.usage.unwrap().output_total());
}

#[tokio::test]
async fn a_required_tool_is_called_with_arguments_that_fit() {
    for stream in [false, true] {
        let (outcome, spoken) =
            chat(json!({"tools": weather_tool(), "tool_choice": "required", "stream": stream})).await;
        let calls = spoken.calls();
        assert_eq!(calls[0]["name"], "get_weather");
        assert!(calls[0]["arguments"]["city"].is_string() && calls[0]["arguments"]["days"].is_i64());
        assert_eq!(outcome.report.finish.unwrap().name(), "tool_calls");
    }
}

#[tokio::test]
async fn a_call_is_made_as_it_is_ordered_when_its_tool_is_offered() {
    let fake = Fake::instant();
    let order = r#"get_weather fake:call:get_weather:{"city":"Oslo"}"#;
    for (tools, expected) in [(weather_tool(), json!({"city": "Oslo"})), (json!([]), Value::Null)] {
        let body = chat_body(order, json!({"tools": tools}));
        let spoken = Spoken::of(Dialect::OpenAi, &ask(&fake, Operation::ChatCompletions, &body).await.bytes);
        assert_eq!(spoken.calls().first().map_or(Value::Null, |call| call["arguments"].clone()), expected);
    }
}

#[tokio::test]
async fn a_tool_is_called_when_the_prompt_names_it_and_not_again_after_its_answer() {
    let fake = Fake::instant();
    let named = chat_body("Use get_weather for Oslo", json!({"tools": weather_tool()}));
    assert_eq!(
        Spoken::of(Dialect::OpenAi, &ask(&fake, Operation::ChatCompletions, &named).await.bytes).calls().len(),
        1
    );
    let (_, unnamed) = chat(json!({"tools": weather_tool()})).await;
    assert!(unnamed.calls().is_empty() && !unnamed.text.is_empty());
    let mut reminded = named.clone();
    reminded["messages"].as_array_mut().unwrap().push(json!({"role": "system", "content": "Be polite."}));
    assert_eq!(
        Spoken::of(Dialect::OpenAi, &ask(&fake, Operation::ChatCompletions, &reminded).await.bytes).calls().len(),
        1
    );
    let mut answered = named.clone();
    answered["messages"]
        .as_array_mut()
        .unwrap()
        .push(json!({"role": "tool", "tool_call_id": "x", "content": "get_weather: sun"}));
    assert!(
        Spoken::of(Dialect::OpenAi, &ask(&fake, Operation::ChatCompletions, &answered).await.bytes).calls().is_empty()
    );
}

#[tokio::test]
async fn a_schema_is_answered_with_json_that_fits_it() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": [1, 2]}}, "required": ["a", "b"]});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let (_, spoken) = chat(format).await;
    let answer: Value = serde_json::from_str(&spoken.text).unwrap();
    assert!(answer["a"].is_string());
    assert_eq!(answer["b"], 1);
    let (_, spoken) = chat(json!({"response_format": {"type": "json_object"}, "stream": true})).await;
    assert!(serde_json::from_str::<Value>(&spoken.text).unwrap().is_object());
}

#[tokio::test]
async fn log_probabilities_have_one_entry_per_token() {
    let (outcome, _) = chat(json!({"logprobs": true, "max_tokens": 5})).await;
    let body: Value = serde_json::from_slice(&outcome.bytes).unwrap();
    assert_eq!(body["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn legacy_completions_have_texts() {
    for stream in [false, true] {
        let body = json!({"model": "davinci", "prompt": "Once upon", "stream": stream});
        let spoken = Spoken::of(Dialect::OpenAi, &ask(&Fake::instant(), Operation::Completions, &body).await.bytes);
        assert!(spoken.text.starts_with("This is davinci,"), "{}", spoken.text);
        assert_eq!(spoken.finish.as_deref(), Some("stop"));
    }
}

#[tokio::test]
async fn embeddings_are_unit_vectors_that_repeat_in_both_encodings() {
    let fake = Fake::instant();
    let body = json!({"model": "text-embedding-3-large", "input": ["a", "b", "a"], "dimensions": 8});
    let floats = ask(&fake, Operation::Embeddings, &body).await;
    let answer: Value = serde_json::from_slice(&floats.bytes).unwrap();
    let vector = |index: usize| -> Vec<f64> {
        answer["data"][index]["embedding"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    assert_eq!(vector(0), vector(2));
    assert_ne!(vector(0), vector(1));
    let squares: Vec<f64> = vector(0).iter().map(|number| number.powi(2)).collect();
    assert!((squares.iter().sum::<f64>().sqrt() * 1e6).round() == 1e6);
    assert_eq!(floats.report.usage.unwrap().output_total(), 0);

    let body = json!({"model": "text-embedding-3-large", "input": "a", "encoding_format": "base64"});
    let answer: Value = serde_json::from_slice(&ask(&fake, Operation::Embeddings, &body).await.bytes).unwrap();
    assert_eq!(answer["data"][0]["embedding"].as_str().unwrap().len(), 3_072 * 4 / 3 * 4);
}

#[tokio::test]
async fn images_are_accepted() {
    let content = json!([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": content}]});
    let outcome = ask(&Fake::instant(), Operation::ChatCompletions, &body).await;
    assert_eq!(outcome.report.usage.unwrap().input_total(), 4);
}

#[tokio::test]
async fn a_prompt_never_costs_more_than_its_bound() {
    for content in ["", "x", "Tell me about rivers.", "\u{1F44B}\u{1F44B}"] {
        let body = chat_body(content, json!({"tools": weather_tool()}));
        let bound = call(Operation::ChatCompletions, &body).envelope.input.text_tokens;
        let usage = ask(&Fake::instant(), Operation::ChatCompletions, &body).await.report.usage.unwrap();
        assert!(usage.input_total() <= bound, "{content}: {} > {bound}", usage.input_total());
    }
}

#[tokio::test]
async fn orders_in_the_prompt_are_obeyed() {
    let error = |order: &'static str| async move {
        ask(&Fake::instant(), Operation::ChatCompletions, &chat_body(order, json!({"stream": true})))
            .await
            .error
            .unwrap()
    };
    assert!(matches!(error("fake:error:429").await.retry(), Retry::SameTarget { .. }));
    assert_eq!(error("fake:error:quota").await.retry(), Retry::NextTarget);
    assert_eq!(error("fake:error:401").await.name(), "account");
    assert_eq!(error("fake:error:500").await.name(), "failed");
    assert_eq!(error("fake:error:timeout").await.name(), "timeout");
    assert_eq!(error("fake:error:unreachable").await.name(), "unreachable");
    assert_eq!(error("fake:cut").await.name(), "truncated");
    assert_eq!(error("fake:stream-error").await.name(), "in_stream");
    let kind = |error| match error {
        UpstreamError::Rejected { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(error("fake:error:context").await), cfr_core::upstream::Rejection::ContextWindow);
    assert_eq!(kind(error("fake:error:policy").await), cfr_core::upstream::Rejection::ContentPolicy);
    assert_eq!(kind(error("fake:error:404").await), cfr_core::upstream::Rejection::ModelNotFound);
}

#[tokio::test]
async fn ordered_lengths_and_missing_usage() {
    let body = chat_body("fake:tokens:250 fake:no-usage", json!({"stream": true}));
    let fake = Fake::instant();
    let outcome = ask(&fake, Operation::ChatCompletions, &body).await;
    assert_eq!(outcome.report.usage, None);
    assert_eq!(fake.log().output_tokens(), 250);
}

#[tokio::test]
async fn the_log_has_what_was_handed_out_and_no_more() {
    let fake = Fake::instant();
    let call = call(Operation::ChatCompletions, &chat_body("fake:tokens:100", json!({"stream": true})));
    let Reply::Stream(mut reply) = fake.send(order(&call, PATIENCE)).await.unwrap() else { panic!("not a stream") };
    for _ in 0..11 {
        reply.events.next().await.unwrap().unwrap(); // the first frame has the role and no token
    }
    drop(reply);
    let served = fake.log().calls();
    assert_eq!((served[0].output_tokens, served[0].finished), (10, false));

    collect(fake.send(Order { output_tokens_max: Some(7), ..order(&call, PATIENCE) }).await.unwrap()).await;
    let served = fake.log().calls();
    assert_eq!((served[1].output_tokens, served[1].finished, served[1].output_tokens_max), (7, true, Some(7)));
    assert_eq!(fake.log().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_paced_stream_takes_its_time_and_a_hanging_one_ends_at_the_idle_timeout() {
    let fake = Fake::default().with_pace(Duration::from_millis(10));
    let start = tokio::time::Instant::now();
    ask(&fake, Operation::ChatCompletions, &chat_body("fake:tokens:98", json!({"stream": true}))).await;
    assert_eq!(start.elapsed().as_millis(), 1_000, "98 tokens, a first and a last frame");

    let start = tokio::time::Instant::now();
    let outcome =
        ask(&Fake::instant(), Operation::ChatCompletions, &chat_body("fake:hang", json!({"stream": true}))).await;
    assert_eq!(start.elapsed().as_secs(), PATIENCE.as_secs());
    assert_eq!(outcome.error.unwrap().name(), "timeout");
}

#[tokio::test]
async fn our_client_reads_from_its_bytes_what_it_says_of_itself() {
    let upstream =
        HttpUpstream::openai_family_over(Arc::new(Loopback(Fake::instant())), &OPENAI, None, &Secret::new("k"))
            .unwrap();
    for more in [
        json!({}),
        json!({"n": 2}),
        json!({"tools": weather_tool(), "tool_choice": "required"}),
        json!({"max_tokens": 2}),
    ] {
        for stream in [false, true] {
            let mut body = chat_body("Tell me about rivers.", more.clone());
            body["stream"] = stream.into();
            body["model"] = "gpt-4o".into(); // answers in this dialect whatever the call asks for
            let read = ask(&upstream, Operation::ChatCompletions, &body).await;
            let said = ask(&Fake::instant(), Operation::ChatCompletions, &body).await;
            assert_eq!(read.report, said.report, "{body}");
            assert_eq!(read.bytes, said.bytes, "{body}");
        }
    }
}

#[tokio::test]
async fn every_dialect_is_answered_with_the_same_words() {
    let messages = json!([{"role": "user", "content": "Say something."}]);
    let asked = |operation: Operation, stream: bool| match operation {
        Operation::Messages => json!({"model": "m", "max_tokens": 64, "stream": stream, "messages": messages}),
        Operation::Responses => {
            json!({"model": "m", "max_output_tokens": 64, "stream": stream, "input": "Say something."})
        }
        _ => json!({"model": "m", "max_tokens": 64, "stream": stream, "messages": messages}),
    };
    let words = |operation: Operation, outcome: &Outcome| Spoken::of(operation.dialect(), &outcome.bytes).text;
    let chat = Operation::ChatCompletions;
    let expected = words(chat, &ask(&Fake::instant(), chat, &asked(chat, false)).await);
    assert!(!expected.is_empty());
    for operation in [chat, Operation::Messages, Operation::Responses] {
        for stream in [false, true] {
            let outcome = ask(&Fake::instant(), operation, &asked(operation, stream)).await;
            assert_eq!(outcome.error.as_ref().map(ToString::to_string), None, "{operation:?}");
            assert_eq!(words(operation, &outcome), expected, "{operation:?}, streamed: {stream}");
            assert!(outcome.report.usage.is_some() && outcome.report.finish.is_some(), "{operation:?}");
        }
    }
}
