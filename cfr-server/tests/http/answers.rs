//! What works: whole answers, streams, embeddings, models, and the pages for operators.

use serde_json::json;

use super::support::{FAKE, MODEL, Site, chat, chat_with, client, frames, see, terms};

const EURO: i64 = 1_000_000_000;

#[tokio::test]
async fn a_chat_is_answered_and_charged() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let seen = site.chat(&key, &chat("Say hello.")).await;
    assert_eq!((seen.status, seen.header("content-type")), (200, "application/json"));
    assert!(seen.header("x-request-id").starts_with("req_"));
    assert_eq!(seen.header("x-cfr-cost"), "", "cost headers are opt-in");
    let answer = seen.json();
    assert_eq!(answer["object"], "chat.completion");
    assert!(answer["usage"]["completion_tokens"].as_u64() > Some(0));
    let usage = site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage");
    assert_eq!(usage.items.len(), 1);
    assert!(usage.items[0].charged_nanos > 0);
}

#[tokio::test]
async fn a_stream_ends_with_done_and_shows_usage_only_when_asked() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let plain = site.chat(&key, &chat_with("Say hello.", json!({ "stream": true }))).await;
    assert_eq!((plain.status, plain.header("content-type")), (200, "text/event-stream; charset=utf-8"));
    assert_eq!(plain.header("cache-control"), "no-cache");
    assert!(plain.body.ends_with("data: [DONE]\n\n"));
    assert!(frames(&plain.body).iter().all(|frame| frame["usage"].is_null()));
    let asked = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let shown = frames(&site.chat(&key, &chat_with("Say hello.", asked)).await.body);
    let last = shown.last().expect("a frame");
    assert_eq!(last["choices"], json!([]));
    assert!(last["usage"]["total_tokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn embeddings_and_completions_are_answered() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let body = json!({ "model": "text-embedding-3-small", "input": ["a", "b"] });
    let vectors = site.post("/v1/embeddings", &key, body.to_string()).await.json();
    assert_eq!(vectors["data"].as_array().map(Vec::len), Some(2));
    let body = json!({ "model": MODEL, "prompt": "Once", "max_tokens": 5 });
    let text = site.post("/v1/completions", &key, body.to_string()).await.json();
    assert_eq!(text["object"], "text_completion");
}

#[tokio::test]
async fn models_are_those_that_product_and_key_allow() {
    let site = Site::start(FAKE).await;
    let mut narrow = terms(EURO);
    narrow.models = vec!["gpt-4o*".into()];
    let product = site.key_for("product@example.org", narrow.clone(), &[]).await;
    let both = site.key_for("both@example.org", narrow, &["gpt-4o-mini", "gpt-5.4"]).await;
    let names = async |key: &str| {
        let list = site.get("/v1/models", key).await.json();
        let cards = list["data"].as_array().expect("cards").iter();
        cards.map(|card| card["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let allowed = names(&product).await;
    assert!(allowed.len() > 1 && allowed.iter().all(|name| name.starts_with("gpt-4o")), "{allowed:?}");
    assert_eq!(names(&both).await, ["gpt-4o-mini"]);
    let card = site.get("/v1/models/gpt-4o-mini", &both).await.json();
    assert_eq!((card["object"].as_str(), card["owned_by"].as_str()), (Some("model"), Some("openai")));
    site.get("/v1/models/gpt-4o", &both).await.is_error(404, "model_not_found");
    let forbidden = chat_with("hi", json!({ "model": "gpt-5.4" }));
    site.chat(&both, &forbidden).await.is_error(403, "model_not_allowed");
}

#[tokio::test]
async fn a_missing_cap_is_set_and_said() {
    let site = Site::start(&format!("{FAKE}\n[money]\ncost_headers = true")).await;
    let key = site.key(terms(EURO)).await;
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }] });
    let seen = site.chat(&key, &body).await;
    assert_eq!(seen.header("x-cfr-max-tokens-applied"), "16384", "the model's own maximum");
    assert!(seen.header("x-cfr-cost").ends_with(" EUR"));
    assert_eq!(seen.header("x-cfr-model"), "openai/gpt-4o-mini");
}

#[tokio::test]
async fn the_callers_own_names_for_a_request_are_on_its_record() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    let body = chat_with("hi", json!({ "user": "ada", "metadata": { "team": "a" } })).to_string();
    see(client()
        .post(site.url("/v1/chat/completions"))
        .header("x-api-key", &key)
        .header("x-request-id", "mine")
        .body(body))
    .await;
    let usage = site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage");
    let tags = &usage.items[0].tags;
    assert_eq!((tags.request_id.as_deref(), tags.user.as_deref()), (Some("mine"), Some("ada")));
    assert_eq!(tags.metadata.as_deref(), Some(r#"{"team":"a"}"#));
}

#[tokio::test]
async fn operators_have_health_metrics_and_a_document() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO)).await;
    site.chat(&key, &chat("hi")).await;
    site.chat(&key, &chat("fake:no-usage")).await;
    assert_eq!(site.chat(&key, &chat("fake:error:400")).await.status, 400);
    assert_eq!(site.get("/health/live", "").await.status, 200);
    assert_eq!(site.get("/health/ready", "").await.json()["ready"], true);
    assert_eq!(site.get("/health", "").await.json()["status"], "ok");
    let metrics = site.get("/metrics", "").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    for line in [
        r#"cfr_responses_total{operation="chat_completions",status="200"} 2"#,
        r#"cfr_calls_total{provider="openai",model="gpt-4o-mini"} 2"#,
        r#"cfr_answers_without_usage_total{provider="openai",model="gpt-4o-mini"} 1"#,
        "cfr_ledger_open_holds 0",
        "cfr_ledger_holds 3",
    ] {
        assert!(metrics.body.contains(line), "{line} is missing:\n{}", metrics.body);
    }
    assert!(site.get("/openapi.json", "").await.json()["paths"]["/v1/chat/completions"].is_object());
    let head = see(client().head(site.url("/"))).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn small_answers_on_a_busy_connection_do_not_wait_for_acknowledgements() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(1_000 * EURO)).await;
    let client = client();
    let clock = cfr_core::time::SystemClock::new();
    let calls = 20;
    for _ in 0..calls {
        let request =
            client.post(site.url("/v1/chat/completions")).header("x-api-key", &key).body(chat("hi").to_string());
        assert_eq!(see(request).await.status, 200);
    }
    // Nagle's algorithm against delayed acknowledgements costs 40 ms a call.
    let elapsed = cfr_core::time::Clock::uptime(&clock);
    assert!(elapsed < std::time::Duration::from_millis(40) * calls, "{elapsed:?} for {calls} calls");
}
