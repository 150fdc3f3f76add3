//! Prompts that are counted: in every dialect, by providers and by ourselves.

use axum::Router;
use axum::extract::Request;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::support::{FAKE, MODEL, Site, terms};

/// Counts every prompt as 41 in the words of the path that it is asked by, as Anthropic and Google do.
async fn counter(request: Request) -> axum::Json<Value> {
    axum::Json(match request.uri().path() {
        "/v1/messages/count_tokens" => json!({ "input_tokens": 41, "new_member": 1 }),
        path if path.ends_with(":countTokens") => json!({ "totalTokens": 41, "promptTokensDetails": [] }),
        path => panic!("{path}"),
    })
}

/// A site in front of that provider under three names. The provider lives as long as the set.
async fn site() -> (Site, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut provider = JoinSet::new();
    provider.spawn(async move { axum::serve(listener, Router::new().fallback(counter)).await.expect("served") });
    let upstreams =
        [("anthropic", "claude"), ("gemini", "gemini"), ("openai-compatible", "local")].map(|(kind, model)| {
            format!(
                "[[upstream]]\nname = \"{model}\"\nkind = \"{kind}\"\nbase_url = \"http://{address}/v1\"\napi_key = \"k\"\n\
             [[upstream.price]]\nmodel = \"{model}\"\ninput_per_million = \"1\"\noutput_per_million = \"2\"\n"
            )
        });
    (Site::start(&upstreams.concat()).await, provider)
}

const PATHS: [(&str, &str); 3] = [
    ("/v1/messages/count_tokens", "input_tokens"),
    ("/v1/responses/input_tokens", "input_tokens"),
    ("", "totalTokens"),
];

/// Asks on every surface; the answers, with the number and whether it is an estimate.
async fn ask(site: &Site, key: &str, model: &str) -> Vec<(Value, u64, bool)> {
    let mut answers = Vec::new();
    for (path, member) in PATHS {
        let (path, body) = match (path, member) {
            ("", _) => {
                let contents = json!([{"parts": [{"text": "Hi"}]}]);
                (
                    format!("/v1beta/models/{model}:countTokens"),
                    json!({ "generateContentRequest": { "contents": contents } }),
                )
            }
            ("/v1/responses/input_tokens", _) => (path.to_owned(), json!({ "model": model, "input": "Hi" })),
            _ => (path.to_owned(), json!({ "model": model, "messages": [{"role": "user", "content": "Hi"}] })),
        };
        let seen = site.post(&path, key, body.to_string()).await;
        assert_eq!(seen.status, 200, "{path}: {}", seen.body);
        let tokens = seen.json()[member].as_u64().expect("a number");
        answers.push((seen.json(), tokens, seen.header("x-cfr-estimate") == "1"));
    }
    answers
}

#[tokio::test]
async fn the_models_provider_counts_whatever_the_callers_dialect() {
    let (site, _provider) = site().await;
    let key = site.key(terms(0)).await;
    for model in ["claude", "gemini"] {
        for (answer, tokens, estimated) in ask(&site, &key, model).await {
            assert_eq!((tokens, estimated), (41, false), "{model}: {answer}");
        }
    }
    let own = &ask(&site, &key, "claude").await[0].0;
    assert_eq!(own["new_member"], 1, "what we do not understand is passed on");
    assert!(ask(&site, &key, "gemini").await[2].0.get("promptTokensDetails").is_some());
}

#[tokio::test]
async fn a_provider_without_a_counter_is_estimated_for() {
    let (site, _provider) = site().await;
    let key = site.key(terms(0)).await;
    for (answer, tokens, estimated) in ask(&site, &key, "local").await {
        assert!(estimated && tokens > 0, "{answer}");
    }
}

#[tokio::test]
async fn the_demonstration_counts_exactly_and_charges_nothing() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(0)).await;
    for (answer, tokens, estimated) in ask(&site, &key, MODEL).await {
        assert_eq!((tokens, estimated), (1, false), "{answer}");
    }
    let usage = site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage");
    assert!(usage.items.is_empty());
}

#[tokio::test]
async fn who_may_not_call_may_not_count() {
    let site = Site::start(FAKE).await;
    let seen = site.post("/v1/messages/count_tokens", "sk-wrong", r#"{"model":"m","messages":[]}"#).await;
    assert_eq!((seen.status, seen.json()["error"]["type"].as_str()), (401, Some("authentication_error")));
    let key = site.key_for("eve@example.org", terms(0), &["other"]).await;
    let seen = site.post(&format!("/v1beta/models/{MODEL}:countTokens"), &key, r#"{"contents":[]}"#).await;
    assert_eq!((seen.status, seen.json()["error"]["status"].as_str()), (403, Some("PERMISSION_DENIED")));
}
