//! Sessions that break off, at every stage.

use std::time::Duration;

use cfr_core::chat::UsageSource;
use serde_json::json;

use crate::client::{Talk, records, settled};
use crate::support::{FAKE, Site, terms};

const EURO: i64 = 1_000_000_000;

#[tokio::test]
async fn a_client_that_leaves_before_it_wants_anything_pays_nothing() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    talk.text("hello").await;
    talk.vanish();
    assert!(records(&site).await.is_empty());
    site.stop().await;
}

#[tokio::test]
async fn a_client_that_vanishes_pays_what_the_provider_says_of_the_part_that_was_made() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(20 * EURO)).await;
    for stage in ["response.created", "response.output_audio_transcript.delta", "response.output_audio.delta"] {
        let before = records(&site).await.len();
        let mut talk = Talk::with(&site, &key).await;
        talk.ask("fake:tokens:2000").await;
        talk.until(stage).await;
        talk.vanish();
        let record = settled(&site, before + 1).await.swap_remove(0);
        assert_eq!((record.status, record.source), (499, UsageSource::Provider), "{stage}");
        assert_eq!(&*record.finish, "cancelled");
        assert!(record.usage.output_total() < 4_000 && record.charged_nanos > 0, "{stage}: {:?}", record.usage);
    }
}

#[tokio::test]
async fn a_client_that_cancels_pays_for_what_was_made_and_goes_on() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(20 * EURO)).await;
    let mut talk = Talk::in_text(&site, &key).await;
    talk.ask("fake:tokens:2000").await;
    talk.until("response.output_text.delta").await;
    talk.say(json!({ "type": "response.cancel" })).await;
    let end = talk.until("response.done").await.pop().expect("the end");
    assert_eq!(end["response"]["status"], "cancelled");
    assert_eq!(talk.answer("fake:tokens:2").await["status"], "completed");
    let records = records(&site).await;
    assert_eq!(records.iter().map(|record| &*record.finish).collect::<Vec<_>>(), ["stop", "cancelled"]);
    assert!(records[1].usage.output_total() < 2_000);
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_paid_for_what_it_delivered_and_the_client_hears_of_it() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    talk.ask("fake:cut fake:tokens:40").await;
    let error = talk.error().await;
    assert_eq!(error["code"], "upstream_truncated", "{error}");
    assert_eq!(talk.hear().await, None);
    let record = settled(&site, 1).await.swap_remove(0);
    assert_eq!((record.status, record.source), (502, UsageSource::Partial));
    assert!(record.usage.output_total() >= 20 && record.charged_nanos > 0, "{:?}", record.usage);
}

#[tokio::test]
async fn a_response_that_the_provider_refuses_costs_nothing_and_the_session_lives_on() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::in_text(&site, &key).await;
    talk.text("fake:error:teapot").await;
    talk.say(json!({ "type": "response.create", "event_id": "mine" })).await;
    let error = talk.error().await;
    assert_eq!((&error["code"], &error["event_id"]), (&json!("teapot"), &json!("mine")));
    assert_eq!(talk.answer("fake:tokens:2").await["status"], "completed");
    let records = records(&site).await;
    assert_eq!((records[1].charged_nanos, records[1].status, records[1].source), (0, 400, UsageSource::None));
}

#[tokio::test]
async fn a_response_that_fails_at_the_provider_is_told_and_booked() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::in_text(&site, &key).await;
    assert_eq!(talk.answer("fake:stream-error fake:tokens:9").await["status"], "failed");
    let record = settled(&site, 1).await.swap_remove(0);
    assert_eq!((&*record.finish, record.status, record.source), ("error", 502, UsageSource::Provider));
}

#[tokio::test]
async fn a_server_that_stops_settles_what_runs_and_says_goodbye() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::in_text(&site, &key).await;
    talk.ask("fake:tokens:2000").await;
    talk.until("response.output_text.delta").await;
    let heard = async { while talk.hear().await.is_some() {} };
    let (folder, ()) = tokio::join!(site.stop(), heard);
    let again = Site::start_in(folder, FAKE).await;
    let record = settled(&again, 1).await.swap_remove(0);
    assert_eq!((record.status, record.source), (499, UsageSource::Provider));
}

#[tokio::test]
async fn a_session_lasts_no_longer_than_one_may() {
    let config = format!("{FAKE}\n[limits]\nrealtime_session_seconds = 1\n");
    let site = Site::start(&config).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), talk.hear()).await.expect("it ends"), None);
    site.stop().await;
}
