//! The server is killed again and again under load: no answer is lost, none is charged twice, no limit is exceeded.
//!
//! `CFR_KILL_CYCLES` says how often, `CFR_SEED` repeats a run.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use support::books::Books;
use support::client::{Client, Seen};
use support::oracle::{Oracle, Script, Served};
use support::price::price_nanos;
use support::site::{Site, customer};

mod support;

const CYCLES: u32 = 20;
const CLIENTS: u32 = 24;
/// One euro: the load does not reach it, so that every request is let in.
const LIMIT_NANOS: i64 = 1_000_000_000;
/// A quarter of the clients share a budget that is used up on the way: some tens of answers.
const SMALL_LIMIT_NANOS: i64 = 400_000;
/// From the first request of a cycle to its kill.
const LIFE_MS: std::ops::Range<u64> = 50..300;

/// What a client saw of one request.
struct Transcript {
    id: String,
    streamed: bool,
    seen: Seen,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_no_hold_and_charges_each_answer_once() {
    survive("overlap").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_strict_durability_not_even_an_unanswered_call_is_without_a_trace() {
    let (oracle, books, _) = survive("strict").await;
    let by_tag = books.by_tag();
    let holds = books.released_holds;
    let without_record = oracle.keys().filter(|id| !by_tag.contains_key(id.as_str())).count();
    assert!(without_record <= holds, "{without_record} calls without a record, but only {holds} released holds");
}

/// Kills a server again and again, then compares provider, clients and books.
async fn survive(durability: &str) -> (BTreeMap<String, Served>, Books, Vec<Transcript>) {
    let seed = setting("CFR_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("CFR_SEED={seed} repeats the moments of the kills");
    let mut random = StdRng::seed_from_u64(seed);
    let oracle = Oracle::start().await;
    let site = Site::new(&oracle, &format!("[ledger]\ndurability = \"{durability}\"\n"));
    let server = site.serve().await;
    let rich = customer(&server, "rich", LIMIT_NANOS, json!({})).await;
    let poor = customer(&server, "poor", SMALL_LIMIT_NANOS, json!({})).await;
    server.stop().await;

    let mut transcripts = Vec::new();
    let cycles = setting("CFR_KILL_CYCLES").unwrap_or(CYCLES.into());
    for cycle in 0..cycles {
        let server = site.serve().await;
        let (stop, stopped) = watch::channel(());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let key = if number % 4 < 3 { &rich.key } else { &poor.key };
            clients.spawn(load(server.client(key), format!("{cycle}-{number}"), number, stopped.clone()));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(LIFE_MS))).await;
        server.kill().await;
        drop(stop);
        transcripts.extend(clients.join_all().await.into_iter().flatten());
    }
    site.serve().await.stop().await; // the last orphans are ended by the next start

    Books::read(&site, &poor.budget).await.check(SMALL_LIMIT_NANOS);
    Books::read(&site, &rich.budget).await.check(LIMIT_NANOS);
    let books = Books::read_all(&site, &rich.budget).await;
    let served = oracle.served();
    check(&served, &books, &transcripts);
    (served, books, transcripts)
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// One client, one request after the other, until its server or its budget is gone. It never asks twice under the same name.
async fn load(client: Client, name: String, number: u32, stopped: watch::Receiver<()>) -> Vec<Transcript> {
    let mut transcripts = Vec::new();
    while stopped.has_changed().is_ok() {
        let id = format!("{name}-{}", transcripts.len());
        let streamed = number.is_multiple_of(2);
        let gap_ms = if streamed { 2 } else { 10 };
        let output = 5 + u64::from(number);
        let script = Script { id: id.clone(), input: 9, output, gap_ms, ..Script::default() };
        let seen = client.chat(&script, streamed).await;
        let status = seen.status;
        transcripts.push(Transcript { id, streamed, seen });
        if matches!(status, 0 | 402) {
            break;
        }
    }
    transcripts
}

/// Provider, clients and books tell the same story.
fn check(served: &BTreeMap<String, Served>, books: &Books, transcripts: &[Transcript]) {
    let by_tag = books.by_tag();
    for (tag, records) in &by_tag {
        assert_eq!(records.len(), 1, "{tag} is charged once");
        let full = price_nanos(served[*tag].input, served[*tag].output);
        assert!(records[0].charged_nanos <= full, "{tag} is charged for no more than was served");
    }
    let mut complete = 0;
    let mut begun = 0;
    for Transcript { id, streamed, seen } in transcripts {
        assert!(matches!(seen.status, 0 | 200 | 402), "{}: {}", seen.status, seen.text());
        if seen.complete(*streamed) {
            complete += 1;
            let record = by_tag.get(id.as_str()).unwrap_or_else(|| panic!("{id} was answered and not charged"))[0];
            let full = price_nanos(served[id].input, served[id].output);
            assert_eq!(record.charged_nanos, full, "{id}");
        } else if seen.status == 200 {
            begun += 1;
            let hold = seen.request_id().expect("every answer has an id");
            assert!(books.knows(hold), "bytes of {hold} left before its hold was durable");
        }
    }
    eprintln!("{} calls served, {complete} complete answers, {begun} cut by a kill", served.len());
    assert!(complete > 0 && begun > 0, "the load must be cut in its middle: {complete} complete, {begun} begun");
}
