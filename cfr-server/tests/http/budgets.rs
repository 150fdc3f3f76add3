//! Limits of money and of rate, as clients see them.

use serde_json::json;

use super::support::{FAKE, MODEL, Site, chat, chat_with, terms};

const EURO: i64 = 1_000_000_000;

#[tokio::test]
async fn an_exhausted_budget_is_a_402_that_says_what_would_fit() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO / 1_000)).await; // a tenth of a cent
    let seen = site.chat(&key, &chat_with("hi", json!({ "max_tokens": 16_000 }))).await;
    let error = seen.is_error(402, "budget_exceeded");
    assert_eq!(error["type"], "insufficient_quota");
    assert_eq!((error["scope"].as_str(), error["currency"].as_str()), (Some("user"), Some("EUR")));
    assert_eq!(error["available"], "0.001");
    assert!(error["budget_id"].as_str().is_some_and(|id| id.starts_with("bud_")));
    assert!(error["period_end"].as_str().is_some_and(|end| end.ends_with('Z')));
    assert_eq!(seen.header("x-should-retry"), "false");
    assert_eq!(seen.header("retry-after"), "");

    let fits = error["affordable_max_tokens"].as_u64().expect("a number");
    assert!(fits > 0 && fits < 16_000);
    assert_eq!(
        site.chat(&key, &chat_with("hi", json!({ "max_tokens": fits }))).await.status,
        200,
        "what fits is answered"
    );
}

#[tokio::test]
async fn the_status_of_an_exhausted_budget_follows_the_configuration() {
    for status in [403, 422, 429] {
        let site = Site::start(&format!("{FAKE}\n[money]\nbudget_status_code = {status}")).await;
        let key = site.key(terms(1)).await;
        let seen = site.chat(&key, &chat("hi")).await;
        seen.is_error(status, "budget_exceeded");
        assert_eq!(seen.header("x-should-retry"), "false");
    }
}

#[tokio::test]
async fn without_a_cap_the_answer_is_shortened_to_what_the_budget_affords() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO / 1_000)).await;
    let seen = site.chat(&key, &json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }] })).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    let applied: u64 = seen.header("x-cfr-max-tokens-applied").parse().expect("a number");
    assert!(applied < 16_384, "less than the model's own maximum: {applied}");
}

#[tokio::test]
async fn too_many_requests_are_a_429_that_says_when_to_come_back() {
    let site = Site::start(FAKE).await;
    let mut limited = terms(EURO);
    limited.requests_per_minute = Some(2);
    let key = site.key(limited).await;
    let first = site.chat(&key, &chat("hi")).await;
    assert_eq!(first.header("x-ratelimit-limit-requests"), "2");
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "1");
    assert_eq!(site.chat(&key, &chat("hi")).await.status, 200);
    let refused = site.chat(&key, &chat("hi")).await;
    let error = refused.is_error(429, "rate_limit_exceeded");
    assert_eq!(error["type"], "rate_limit_error");
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
    assert!(refused.header("x-ratelimit-reset-requests").ends_with("ms"));
}

#[tokio::test]
async fn a_parallel_request_too_many_is_a_429() {
    let site = Site::start(FAKE).await;
    let mut limited = terms(EURO);
    limited.parallel_requests_max = Some(1);
    let key = site.key(limited).await;
    let long = chat_with("fake:hang hi", json!({ "stream": true }));
    let request = super::support::client().post(site.url("/v1/chat/completions")).header("x-api-key", &key);
    let running = request.body(long.to_string()).send().await.expect("a head");
    assert_eq!(running.status(), 200);
    site.chat(&key, &chat("hi")).await.is_error(429, "rate_limit_exceeded");
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_money() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(EURO / 1_000)).await;
    let mut answered = 0;
    while site.chat(&key, &chat_with("fake:tokens:50 hi", json!({ "max_tokens": 1_000 }))).await.status == 200 {
        answered += 1;
    }
    assert!(answered > 0, "the first calls fit");
    let folder = site.stop().await;
    let site = Site::start_in(folder, FAKE).await;
    let refused = site.chat(&key, &chat_with("hi", json!({ "max_tokens": 1_000 }))).await;
    refused.is_error(402, "budget_exceeded");
}
