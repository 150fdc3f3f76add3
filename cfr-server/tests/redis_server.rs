//! The server with Redis: answers and limits that outlive a process, and what a lost Redis costs.
#![cfg(feature = "redis")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::time::Duration;

use cfr_core::chat::UsageSource;
use http::StatusCode;
use serde_json::json;

use support::books::Books;
use support::client::{Client, Seen, expect_status};
use support::oracle::{Oracle, Script};
use support::server::Server;
use support::site::{Site, customer};

mod support;

/// 10 EUR: no case comes near it.
const LIMIT_NANOS: i64 = 10_000_000_000;
const CACHE: &str = "[cache]\ntenants = [\"*\"]\nmodels = [\"gpt-4o-*\"]\n";
/// How long anything that must happen may take.
const DEADLINE: Duration = Duration::from_secs(60);

fn script() -> Script {
    Script { id: "asked again".into(), input: 9, output: 12, ..Script::default() }
}

/// The configuration of a Redis that has more patience than usual: the machine may be busy with other tests.
fn sharing(redis: &cfr_testbed::Redis) -> String {
    format!("[redis]\nurl = \"{}\"\ntimeout_ms = 1000\n", redis.url())
}

#[track_caller]
fn check(answer: &Seen, cache: Option<&str>) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers.get("x-cfr-cache").map(|value| value.to_str().expect("a word")), cache);
}

async fn metric(server: &Server, line: &str) -> bool {
    server.client("").get("/metrics").await.text().lines().any(|found| found == line)
}

/// Waits for a line of the metrics, which no event announces.
async fn metric_comes(server: &Server, line: &str) {
    let waiting = async {
        while !metric(server, line).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("`{line}` never came"));
}

/// Asks until the cache has the answer: it is written after the first one has left.
async fn asked_until_hit(client: &Client) -> Seen {
    loop {
        let answer = client.chat(&script(), false).await;
        if answer.headers["x-cfr-cache"] == "hit" {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_question_is_answered_from_memory_free_of_charge_and_on_the_record() {
    let oracle = Oracle::start().await;
    let site = Site::new(&oracle, CACHE);
    let server = site.serve().await;
    let customer = customer(&server, "repeats", LIMIT_NANOS, json!({})).await;
    let client = server.client(&customer.key);
    let first = client.chat(&script(), false).await;
    check(&first, Some("miss"));
    let second = client.chat(&script(), false).await;
    check(&second, Some("hit"));
    assert_eq!(first.body, second.body);
    check(&client.chat(&script(), true).await, None);
    assert_eq!(oracle.served_to("asked again").calls, 2, "one answer and one stream");
    assert!(metric(&server, "cfr_cache_lookups_total{outcome=\"hit\"} 1").await);
    assert!(metric(&server, "cfr_cache_lookups_total{outcome=\"miss\"} 1").await);
    server.stop().await;
    let books = Books::read(&site, &customer.budget).await;
    books.check(LIMIT_NANOS);
    let hits: Vec<_> = books.records.iter().filter(|record| record.source == UsageSource::Cache).collect();
    assert_eq!((books.records.len(), hits.len()), (3, 1));
    assert_eq!((hits[0].charged_nanos, hits[0].cost_nanos, hits[0].usage.output_total()), (0, 0, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_redis_outlive_the_server_and_a_lost_redis_only_costs_the_call() {
    let (oracle, redis) = (Oracle::start().await, cfr_testbed::Redis::start().await);
    let site = Site::new(&oracle, &format!("{}{CACHE}", sharing(&redis)));
    let server = site.serve().await;
    assert!(metric(&server, "cfr_redis_up 1").await);
    let customer = customer(&server, "shares", LIMIT_NANOS, json!({})).await;
    asked_until_hit(&server.client(&customer.key)).await;
    server.stop().await;
    let server = site.serve().await;
    let client = server.client(&customer.key);
    check(&client.chat(&script(), false).await, Some("hit"));
    redis.stop().await;
    let before = oracle.served_to("asked again").calls;
    check(&client.chat(&script(), false).await, Some("miss"));
    assert_eq!(oracle.served_to("asked again").calls, before + 1);
    assert!(metric(&server, "cfr_redis_up 0").await);
    expect_status(&client.get("/health/ready").await, StatusCode::OK);
    redis.start_again().await;
    metric_comes(&server, "cfr_redis_up 1").await;
    asked_until_hit(&client).await;
    assert_eq!(server.log().matches("redis is away").count(), 1, "one warning");
    assert_eq!(server.log().matches("redis answers").count(), 1, "one word of its return");
    server.stop().await;
    Books::read(&site, &customer.budget).await.check(LIMIT_NANOS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_in_redis_outlives_the_server() {
    let (oracle, redis) = (Oracle::start().await, cfr_testbed::Redis::start().await);
    let site = Site::new(&oracle, &sharing(&redis));
    let server = site.serve().await;
    let customer = customer(&server, "limited", LIMIT_NANOS, json!({"requests_per_minute": 2})).await;
    let client = server.client(&customer.key);
    for remaining in ["1", "0"] {
        let answer = client.chat(&script(), false).await;
        check(&answer, None);
        assert_eq!(answer.headers["x-ratelimit-remaining-requests"], remaining);
    }
    server.stop().await;
    let server = site.serve().await;
    let refused = server.client(&customer.key).chat(&script(), false).await;
    expect_status(&refused, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers.contains_key("retry-after"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_without_its_redis_and_finds_it_later() {
    let (oracle, redis) = (Oracle::start().await, cfr_testbed::Redis::start().await);
    redis.stop().await;
    let site = Site::new(&oracle, &sharing(&redis));
    let server = site.serve().await;
    let customer = customer(&server, "early", LIMIT_NANOS, json!({"requests_per_minute": 2})).await;
    check(&server.client(&customer.key).chat(&script(), false).await, None);
    assert!(metric(&server, "cfr_redis_local_limits_total 1").await);
    assert_eq!(server.log().matches("redis is away").count(), 1);
    redis.start_again().await;
    metric_comes(&server, "cfr_redis_up 1").await;
    server.stop().await;
}
