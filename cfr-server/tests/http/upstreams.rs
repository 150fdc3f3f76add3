//! What providers do wrong, and what clients hear of it.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::support::{FAKE, Site, chat_with, frames, terms};

const EURO: i64 = 1_000_000_000;
/// Behaviours of the provider below, each a model of its own.
const MODELS: [&str; 16] = [
    "status-400",
    "status-401",
    "status-402",
    "status-403",
    "status-404",
    "status-422",
    "status-429",
    "status-500",
    "status-503",
    "garbage",
    "no-finish",
    "plain",
    "in-stream-error",
    "wrong-type",
    "big-line",
    "good",
];

/// A provider that does what the model's name says.
async fn behave(Json(call): Json<Value>) -> Response {
    let model = call["model"].as_str().unwrap_or_default();
    if let Some(status) = model.strip_prefix("status-") {
        let status = StatusCode::from_u16(status.parse().expect("a number")).expect("a status");
        let error = json!({ "error": { "message": "secret-account says no", "type": "their_type", "param": null, "code": "their_code", "extra": 1 } });
        return (status, [("retry-after", "7")], Json(error)).into_response();
    }
    let chunk = |choice: Value| {
        format!("data: {}\n\n", json!({ "id": "1", "object": "chat.completion.chunk", "choices": [choice] }))
    };
    let word = chunk(json!({ "index": 0, "delta": { "content": "hello" }, "finish_reason": null }));
    let end = chunk(json!({ "index": 0, "delta": {}, "finish_reason": "stop" }));
    let whole = json!({ "id": "1", "object": "chat.completion", "unknown_field": { "kept": true }, "choices": [
        { "index": 0, "message": { "role": "assistant", "content": "hello" }, "finish_reason": "stop" }] });
    let stream = |text: String| ([("content-type", "text/event-stream")], Body::from(text)).into_response();
    match model {
        "garbage" => "this is not JSON".into_response(),
        "no-finish" => stream(word),
        "plain" | "good" if call["stream"] != true || model == "plain" => Json(whole).into_response(),
        "in-stream-error" => stream(format!(
            "{word}data: {}\n\n",
            json!({ "error": { "message": "overloaded", "type": "server_error" } })
        )),
        "wrong-type" => ([("content-type", "text/html")], "<html>").into_response(),
        "big-line" => stream(format!("{word}data: {}\n\n", "x".repeat(10 * 1024 * 1024))),
        _ => stream(format!("{word}{end}data: [DONE]\n\n")),
    }
}

/// A site in front of that provider. The provider lives as long as the set.
async fn site() -> (Site, String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut provider = JoinSet::new();
    provider.spawn(async move {
        axum::serve(listener, Router::new().fallback(behave)).await.expect("served");
    });
    let prices: String = MODELS
        .map(|model| {
            format!("[[upstream.price]]\nmodel = \"{model}\"\ninput_per_million = \"1\"\noutput_per_million = \"2\"\n")
        })
        .concat();
    let config = format!(
        "[[upstream]]\nname = \"theirs\"\nkind = \"openai-compatible\"\nbase_url = \"http://{address}/v1\"\n{prices}"
    );
    let site = Site::start(&config).await;
    let key = site.key(terms(EURO)).await;
    (site, key, provider)
}

#[tokio::test]
async fn refusals_of_the_request_keep_their_status_and_their_words() {
    let (site, key, _provider) = site().await;
    for status in [400, 404, 422] {
        let model = format!("status-{status}");
        let error = site.chat(&key, &chat_with("hi", json!({ "model": model }))).await.is_error(status, "their_code");
        assert_eq!((error["type"].as_str(), error["extra"].as_i64()), (Some("their_type"), Some(1)), "untouched");
    }
}

#[tokio::test]
async fn refusals_of_the_operators_account_are_a_502_without_their_words() {
    let (site, key, _provider) = site().await;
    for status in [401, 402, 403] {
        let model = format!("status-{status}");
        let seen = site.chat(&key, &chat_with("hi", json!({ "model": model }))).await;
        seen.is_error(502, "upstream_auth");
        assert!(!seen.body.contains("secret-account"));
    }
}

#[tokio::test]
async fn a_providers_patience_arrives() {
    let (site, key, _provider) = site().await;
    for (model, status, code) in [("status-429", 429, "rate_limit_exceeded"), ("status-503", 503, "upstream_error")] {
        let seen = site.chat(&key, &chat_with("hi", json!({ "model": model }))).await;
        seen.is_error(status, code);
        assert_eq!(seen.header("retry-after"), "7");
    }
    site.chat(&key, &chat_with("hi", json!({ "model": "status-500" }))).await.is_error(502, "upstream_error");
}

#[tokio::test]
async fn answers_that_cannot_be_read_are_a_502() {
    let (site, key, _provider) = site().await;
    for model in ["garbage", "wrong-type"] {
        let seen = site.chat(&key, &chat_with("hi", json!({ "model": model }))).await;
        seen.is_error(502, "upstream_malformed");
    }
    assert_eq!(site.app.books.escrow.stats().open_holds, 0);
}

#[tokio::test]
async fn unknown_fields_of_an_answer_pass() {
    let (site, key, _provider) = site().await;
    let answer = site.chat(&key, &chat_with("hi", json!({ "model": "good" }))).await.json();
    assert_eq!(answer["unknown_field"]["kept"], true);
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error_and_without_done() {
    let (site, key, _provider) = site().await;
    for model in ["no-finish", "in-stream-error", "big-line"] {
        let seen = site.chat(&key, &chat_with("hi", json!({ "model": model, "stream": true }))).await;
        assert_eq!(seen.status, 200, "it had begun");
        let frames = frames(&seen.body);
        assert_eq!(frames[0]["choices"][0]["delta"]["content"], "hello", "{model}");
        assert!(frames.last().expect("a frame")["error"]["message"].is_string(), "{model}: {}", seen.body);
        assert!(!seen.body.contains("[DONE]"), "{model}");
    }
    assert_eq!(site.app.books.escrow.stats().open_holds, 0);
}

#[tokio::test]
async fn plain_json_in_place_of_a_stream_does_not_surprise() {
    let (site, key, _provider) = site().await;
    let seen = site.chat(&key, &chat_with("hi", json!({ "model": "plain", "stream": true }))).await;
    assert_eq!(seen.header("content-type"), "text/event-stream; charset=utf-8");
    let text: String =
        frames(&seen.body).iter().filter_map(|frame| frame["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "hello");
    assert!(seen.body.ends_with("data: [DONE]\n\n"));
    let usage = site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage");
    assert!(usage.items[0].charged_nanos > 0, "counted although the provider reported nothing");
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_a_502() {
    let config = "[[upstream]]\nname = \"gone\"\nkind = \"openai-compatible\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
        [[upstream.price]]\nmodel = \"good\"\nfree = true\n";
    let site = Site::start(config).await;
    let key = site.key(terms(EURO)).await;
    site.chat(&key, &chat_with("hi", json!({ "model": "good" }))).await.is_error(502, "upstream_unreachable");
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_pays_for_what_it_saw() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let body = chat_with("fake:hang hi", json!({ "stream": true })).to_string();
    let request = super::support::client().post(site.url("/v1/chat/completions")).header("x-api-key", &key).body(body);
    let mut response = request.send().await.expect("a head");
    assert!(response.chunk().await.expect("read").is_some());
    drop(response);
    while site.app.books.escrow.stats().open_holds > 0 {
        tokio::task::yield_now().await;
    }
    site.app.books.escrow.flush().await.expect("written");
    let usage = site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage");
    assert_eq!(usage.items[0].status, 499);
    assert!(usage.items[0].charged_nanos > 0);
}
