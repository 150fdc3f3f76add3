//! Budgets, and who may go on.

use cfr_billing::audit_log::Act;
use cfr_core::chat::UsageSource;
use serde_json::json;

use crate::client::{MODEL, Talk, records, settled};
use crate::support::{FAKE, Site, terms};

const EURO: i64 = 1_000_000_000;
/// The shortest answer that a call is cut to (`output_tokens_min`).
const TOKENS_MIN: u64 = 256;
/// Less than that answer costs, spoken.
const LITTLE: i64 = 3_000_000;

/// What is held for a response of the shortest length, in nano-euro.
async fn shortest_hold(site: &Site) -> i64 {
    let key = site.key_for("broke@example.org", terms(1), &[]).await;
    let mut talk = Talk::with(site, &key).await;
    talk.say(json!({ "type": "response.create", "response": { "max_output_tokens": TOKENS_MIN } })).await;
    let error = talk.error().await;
    let estimate = error["estimate"].as_str().expect("an estimate").to_owned();
    let (whole, fraction) = estimate.split_once('.').unwrap_or((&estimate, ""));
    format!("{whole}{fraction:0<9}").parse().expect("nano-euro")
}

#[tokio::test]
async fn a_budget_that_is_used_up_refuses_the_next_response_and_the_session_lives_on() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(shortest_hold(&site).await + LITTLE)).await;
    let mut talk = Talk::with(&site, &key).await;
    let response = talk.answer("fake:tokens:4000").await;
    assert_eq!(response["status"], "incomplete", "what the budget affords is shorter: {response}");
    talk.text("and now?").await;
    talk.say(json!({ "type": "response.create", "event_id": "again" })).await;
    let error = talk.error().await;
    assert_eq!((&error["code"], &error["type"]), (&json!("budget_exceeded"), &json!("insufficient_quota")), "{error}");
    assert_eq!(error["event_id"], "again");
    assert!(error["available"].is_string() && error["estimate"].is_string());
    talk.text("still there").await;
    let records = records(&site).await;
    assert_eq!((records.len(), records[0].overrun_nanos), (1, 0));
    assert!(records[0].charged_nanos > 0 && records[0].output_tokens_max_applied.is_some());
}

#[tokio::test]
async fn a_spoken_turn_without_a_budget_is_told_why_it_is_not_answered() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(1)).await;
    let mut talk = Talk::with(&site, &key).await;
    for sample in ["AQAB", "AAAA"] {
        talk.say(json!({ "type": "input_audio_buffer.append", "audio": sample.repeat(6_400) })).await;
    }
    assert_eq!(talk.error().await["code"], "budget_exceeded");
    assert!(records(&site).await.is_empty(), "nothing ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_race_for_one_budget_never_spend_more() {
    let budget = 3 * EURO;
    let site = Site::start(FAKE).await;
    let key = site.key(terms(budget)).await;
    let race = async || {
        let mut talk = Talk::with(&site, &key).await;
        let mut answered = 0;
        for _ in 0..6 {
            talk.ask("fake:tokens:60").await;
            loop {
                let event = talk.next().await;
                match event["type"].as_str().unwrap_or_default() {
                    "response.done" => break answered += 1,
                    "error" => {
                        assert_eq!(event["error"]["code"], "budget_exceeded", "{event}");
                        break;
                    }
                    _ => {}
                }
            }
        }
        answered
    };
    let (one, two, three, four) = tokio::join!(race(), race(), race(), race());
    let records = settled(&site, one + two + three + four).await;
    assert_eq!(records.len(), one + two + three + four, "a record for each response");
    assert!(one + two + three + four < 24, "the budget was not enough for all");
    let charged: i64 = records.iter().map(|record| record.charged_nanos).sum();
    assert!(charged > 0 && charged <= budget, "{charged}");
    assert!(records.iter().all(|record| record.overrun_nanos == 0));
}

#[tokio::test]
async fn a_revoked_key_ends_the_session_with_the_next_response() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    talk.answer("fake:tokens:3").await;
    let text = cfr_server::auth::KeyText::parse(&key).expect("a key");
    site.app.keys.revoke_found(&text, &Act::of_system(site.app.clock.now())).await.expect("revoked");
    talk.ask("hello?").await;
    assert_eq!(talk.error().await["code"], "invalid_api_key");
    assert_eq!(talk.hear().await, None, "the session has ended");
    assert_eq!(records(&site).await.len(), 1);
}

#[tokio::test]
async fn a_session_counts_as_a_running_request_and_its_responses_by_the_minute() {
    let site = Site::start(FAKE).await;
    let limited =
        cfr_billing::plan::Terms { parallel_requests_max: Some(1), requests_per_minute: Some(2), ..terms(20 * EURO) };
    let key = site.key(limited).await;
    let mut talk = Talk::in_text(&site, &key).await;
    let second = crate::client::open(crate::client::request(&site, &format!("/v1/realtime?model={MODEL}"), &key)).await;
    assert_eq!(second.err().map(|(status, _)| status), Some(429), "one at a time");
    talk.answer("fake:tokens:2").await;
    talk.ask("fake:tokens:2").await;
    let error = talk.error().await;
    assert_eq!((&error["code"], &error["limit"]), (&json!("rate_limit_exceeded"), &json!("requests_per_minute")));
}

#[tokio::test]
async fn a_session_whose_budget_is_used_up_still_counts_as_a_running_request() {
    let site = Site::start(FAKE).await;
    let poor = cfr_billing::plan::Terms { parallel_requests_max: Some(1), ..terms(1_000) };
    let key = site.key(poor).await;
    let mut talk = Talk::in_text(&site, &key).await;
    talk.ask("fake:tokens:2").await;
    assert_eq!(talk.error().await["code"], "budget_exceeded");
    let second = crate::client::open(crate::client::request(&site, &format!("/v1/realtime?model={MODEL}"), &key)).await;
    assert_eq!(second.err().map(|(status, _)| status), Some(429), "one at a time");
}

#[tokio::test]
async fn an_answer_without_usage_is_charged_by_what_was_delivered() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    talk.answer("fake:no-usage fake:tokens:30").await;
    let records = records(&site).await;
    assert_eq!((records[0].source, records[0].status), (UsageSource::Estimated, 200));
    assert!(records[0].usage.output_total() >= 30 && records[0].usage.input_total() > 0, "{:?}", records[0].usage);
    assert!(records[0].charged_nanos > 0);
}
