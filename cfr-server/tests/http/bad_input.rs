//! What clients get wrong. Each mistake has a clear answer, and the server goes on.

use serde_json::json;

use super::support::{FAKE, MODEL, Site, chat, chat_with, client, see, terms};

const EURO: i64 = 1_000_000_000;

async fn site() -> (Site, String) {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(1_000 * EURO)).await;
    (site, key)
}

async fn nothing_is_held(site: &Site) {
    assert_eq!(site.app.books.escrow.stats().open_holds, 0);
}

#[tokio::test]
async fn a_body_that_is_not_json_is_a_400() {
    let (site, key) = site().await;
    for body in ["", "{", "[]", "null", "{\"model\": \"gpt-4o-mini\"", "{\"model\":\"a\"} x"] {
        site.post("/v1/chat/completions", &key, body).await.is_error(400, "invalid_json");
    }
    nothing_is_held(&site).await;
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_a_400() {
    let (site, key) = site().await;
    let mut body = chat("x").to_string().into_bytes();
    let place = body.iter().position(|byte| *byte == b'x').expect("the message");
    body[place] = 0xff;
    site.post("/v1/chat/completions", &key, body).await.is_error(400, "invalid_json");
}

#[tokio::test]
async fn deep_nesting_is_a_400_and_no_crash() {
    let (site, key) = site().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!("{{\"model\":\"{MODEL}\",\"max_tokens\":5,\"messages\":{deep}}}");
    let seen = site.post("/v1/chat/completions", &key, body).await;
    assert_eq!(seen.status, 400, "{}", seen.body);
    assert_eq!(site.chat(&key, &chat("still there?")).await.status, 200);
}

#[tokio::test]
async fn a_body_of_twenty_megabytes_is_a_413_that_arrives() {
    let (site, key) = site().await;
    let body = chat(&"x".repeat(20 * 1024 * 1024)).to_string();
    site.post("/v1/chat/completions", &key, body.clone()).await.is_error(413, "request_too_large");
    let pieces =
        body.into_bytes().chunks(1 << 16).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>();
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    site.post("/v1/chat/completions", &key, chunked).await.is_error(413, "request_too_large");
}

#[tokio::test]
async fn a_model_that_nobody_has_is_a_404() {
    let (site, key) = site().await;
    let error = site.chat(&key, &chat_with("hi", json!({ "model": "gpt-17" }))).await.is_error(404, "model_not_found");
    assert_eq!((error["param"].as_str(), error["type"].as_str()), (Some("model"), Some("invalid_request_error")));
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_and_never_free() {
    let unpriced = "[[model]]\nname = \"mystery\"\ntargets = [{ upstream = \"fake\", model = \"mystery-1\" }]";
    let site = Site::start(&format!("{FAKE}\n{unpriced}")).await;
    let key = site.key(terms(EURO)).await;
    site.chat(&key, &chat_with("hi", json!({ "model": "mystery" }))).await.is_error(400, "model_not_priced");
    nothing_is_held(&site).await;
}

#[tokio::test]
async fn numbers_out_of_range_are_named() {
    let (site, key) = site().await;
    for (field, value) in [
        ("max_tokens", json!(-1)),
        ("max_tokens", json!("many")),
        ("n", json!(0)),
        ("n", json!(-3)),
        ("n", json!(1_000)),
    ] {
        let error = site.chat(&key, &chat_with("hi", json!({ field: value }))).await.is_error(400, "invalid_value");
        assert_eq!(error["param"], field);
    }
    nothing_is_held(&site).await;
}

#[tokio::test]
async fn a_huge_max_tokens_meets_the_budget_and_not_an_overflow() {
    let (site, key) = site().await;
    for tokens in [json!(10_000_000_000_u64), json!(u64::MAX)] {
        let seen = site.chat(&key, &chat_with("hi", json!({ "max_tokens": tokens }))).await;
        assert!(matches!(seen.status, 400 | 402), "{} {}", seen.status, seen.body);
    }
    nothing_is_held(&site).await;
}

#[tokio::test]
async fn a_wrong_content_type_does_not_matter() {
    let (site, key) = site().await;
    let request = client().post(site.url("/v1/chat/completions")).header("x-api-key", &key);
    assert_eq!(see(request.header("content-type", "text/plain").body(chat("hi").to_string())).await.status, 200);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_have_openais_envelope() {
    let (site, key) = site().await;
    site.get("/v1/nothing", &key).await.is_error(404, "unknown_url");
    let no_base = site.get("/chat/completions", &key).await;
    no_base.is_error(404, "unknown_url");
    assert!(no_base.body.contains("is `/v1` missing"), "{}", no_base.body);
    assert_eq!((no_base.header("cache-control"), no_base.header("x-content-type-options")), ("no-store", "nosniff"));
    let wrong = site.get("/v1/chat/completions", &key).await;
    wrong.is_error(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), "POST");
}
