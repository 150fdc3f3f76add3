//! Many clients race one small budget to its end, and the books agree with the provider to the nano.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use support::books::Books;
use support::client::Client;
use support::oracle::{Oracle, Script};
use support::price::price_nanos;
use support::site::{Site, customer, limit};

mod support;

/// 0.02 EUR: enough for some hundred answers.
const LIMIT_NANOS: i64 = 20_000_000;
const CLIENTS: usize = 200;

/// What one client did until its budget did not hold another request.
struct Run {
    /// Complete answers by name, with what they were priced at.
    complete: Vec<(String, i64)>,
    /// What the budget said that it had left, in nano-euro.
    available_nanos: i64,
    /// What the request needed.
    estimate_nanos: i64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_use_a_budget_up_and_never_exceed_it() {
    let oracle = Oracle::start().await;
    let site = Site::new(&oracle, "");
    let server = site.serve().await;
    // The user may spend more than everybody on the product together: the product's budget is the one that ends.
    let customer = customer(&server, "race", 2 * LIMIT_NANOS, json!({})).await;
    let budget = limit(&server, "product", "race", LIMIT_NANOS).await;
    limit(&server, "tenant", "race", 3 * LIMIT_NANOS).await;
    let client = Arc::new(server.client(&customer.key));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = client.clone();
        clients.spawn(async move { spend(&client, number).await });
    }
    let mut runs = clients.join_all().await;
    // What others held when they gave up has come back: one client alone uses up what is left.
    let last = spend(&client, CLIENTS).await;
    let (available, estimate) = (last.available_nanos, last.estimate_nanos);
    runs.push(last);
    server.stop().await;
    Books::read(&site, &customer.budget).await.check(2 * LIMIT_NANOS);
    let books = Books::read_all(&site, &budget).await;
    books.check(LIMIT_NANOS);
    let complete: Vec<_> = runs.iter().flat_map(|run| &run.complete).collect();
    assert!(complete.len() > CLIENTS / 2, "{} answers", complete.len());
    for (name, price_nanos) in &complete {
        let record = books.record(name);
        assert_eq!((record.price_nanos, record.charged_nanos), (*price_nanos, *price_nanos), "{name}");
    }
    let charged_records = books.records.iter().filter(|record| record.charged_nanos > 0).count();
    assert_eq!(charged_records, complete.len(), "nobody paid for anything but a complete answer");
    assert_eq!(available, LIMIT_NANOS - books.account.settled, "all that was not charged is there to be held");
    assert!(available < estimate, "{available} left, while the last request needed only {estimate}");
}

/// Sends requests of one size, every other one streamed, until the budget does not hold one.
async fn spend(client: &Client, number: usize) -> Run {
    let mut complete = Vec::new();
    loop {
        let id = format!("race-{number}-{}", complete.len());
        let output = 20 + (number as u64 % 7) * 10;
        let script = Script { id: id.clone(), input: 11, output, gap_ms: number as u64 % 3, ..Script::default() };
        let streamed = (number + complete.len()).is_multiple_of(2);
        let seen = client.chat(&script, streamed).await;
        if seen.status == 402 {
            let body = seen.json();
            let amount = |name: &str| nanos(body["error"][name].as_str().expect("an amount"));
            assert_eq!(body["error"]["code"], "budget_exceeded");
            assert_eq!(body["error"]["scope"], "product", "the tightest one is named");
            return Run { complete, available_nanos: amount("available"), estimate_nanos: amount("estimate") };
        }
        assert!(seen.complete(streamed), "{}: {}", seen.status, seen.text());
        complete.push((id, price_nanos(script.input, script.output)));
    }
}

/// An amount as the API writes it, in nano-units.
fn nanos(amount: &str) -> i64 {
    let (units, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{units}{fraction:0<9}").parse().expect("digits")
}
