//! How each kind of answer is settled (money.md §2.6): what the customer sees, what is charged, and that the rest of the
//! hold is free again.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use cfr_core::chat::UsageSource;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use support::books::Books;
use support::client::Client;
use support::oracle::{Oracle, Plan, Script, WORD};
use support::price::price_nanos;
use support::server::Server;
use support::site::{Customer, Site, admin, customer};

mod support;

/// 10 EUR: no case comes near it.
const LIMIT_NANOS: i64 = 10_000_000_000;
/// Prompt tokens that the provider claims.
const INPUT: u64 = 9;
/// Answer tokens that the provider claims, and words that it sends.
const OUTPUT: u64 = 12;
/// A stream may be silent for a second, and a call may take three.
const TIMEOUTS: &str = "[limits]\nidle_seconds = 1\nhold_seconds = 3\nheader_seconds = 2\n";

/// What the books must say about a request.
#[derive(Debug, Clone, Copy)]
enum Charge {
    /// A record with exactly the provider's usage.
    Usage(u64, u64),
    /// A record with a usage that was counted from the text of so many words.
    Counted(UsageSource, u64),
    /// Nothing was charged.
    Nothing,
}

/// One row of the table.
struct Case {
    name: &'static str,
    plan: Plan,
    streamed: bool,
    /// The status that the primary upstream answers with, for [`Plan::Refuse`].
    upstream_status: u16,
    model: &'static str,
    /// What the client gets.
    status: u16,
    /// What the answer, or the last event of the stream, contains.
    tells: &'static str,
    charge: Charge,
}

const fn case(
    name: &'static str,
    plan: Plan,
    streamed: bool,
    status: u16,
    tells: &'static str,
    charge: Charge,
) -> Case {
    Case { name, plan, streamed, upstream_status: 0, model: "gpt-4o-mini", status, tells, charge }
}

const fn refusal(
    name: &'static str,
    upstream_status: u16,
    model: &'static str,
    status: u16,
    tells: &'static str,
    charge: Charge,
) -> Case {
    Case { name, plan: Plan::Refuse, streamed: false, upstream_status, model, status, tells, charge }
}

const WHOLE: Charge = Charge::Usage(INPUT, OUTPUT);
const ESTIMATED: Charge = Charge::Counted(UsageSource::Estimated, OUTPUT);
const PARTIAL: Charge = Charge::Counted(UsageSource::Partial, OUTPUT);

#[rustfmt::skip]
const TABLE: &[Case] = &[
    case("an answer with usage", Plan::Complete, false, 200, "chat.completion", WHOLE),
    case("a stream with usage", Plan::Complete, true, 200, "[DONE]", WHOLE),
    case("an answer without usage", Plan::NoUsage, false, 200, "chat.completion", ESTIMATED),
    case("a stream without usage", Plan::NoUsage, true, 200, "[DONE]", ESTIMATED),
    case("an answer with a usage of zero", Plan::ZeroUsage, false, 200, "chat.completion", Charge::Usage(0, 0)),
    case("a stream with a usage of zero", Plan::ZeroUsage, true, 200, "[DONE]", Charge::Usage(0, 0)),
    case("plain JSON in place of a stream", Plan::PlainJson, true, 200, "[DONE]", WHOLE),
    case("a stream that is cut", Plan::Cut, true, 200, "upstream_truncated", PARTIAL),
    case("a stream that falls silent", Plan::Stall, true, 200, "upstream_timeout", PARTIAL),
    case("a stream with an error in it", Plan::ErrorInStream, true, 200, "the model crashed", PARTIAL),
    case("a stream with a line of ten megabytes", Plan::HugeLine, true, 200, "upstream_malformed", PARTIAL),
    case("garbage", Plan::Garbage, false, 502, "upstream_malformed", Charge::Nothing),
    case("garbage in place of a stream", Plan::Garbage, true, 502, "upstream_malformed", Charge::Nothing),
    case("a web page", Plan::WebPage, false, 502, "upstream_malformed", Charge::Nothing),
    case("a web page in place of a stream", Plan::WebPage, true, 502, "upstream_malformed", Charge::Nothing),
    refusal("the provider fails", 500, "gpt-4o-mini", 502, "upstream_error", Charge::Nothing),
    refusal("the provider refuses our key", 401, "gpt-4o-mini", 502, "upstream_auth", Charge::Nothing),
    refusal("the provider is rate limited", 429, "gpt-4o-mini", 429, "rate_limit_exceeded", Charge::Nothing),
    refusal("the caller's mistake, by the provider", 400, "gpt-4o-mini", 400, "refused by the oracle", Charge::Nothing),
    refusal("a backup answers for one that fails", 500, "with-backup", 200, "chat.completion", WHOLE),
    refusal("a backup answers for one that refuses our key", 401, "with-backup", 200, "chat.completion", WHOLE),
    refusal("a backup answers for one that is rate limited", 429, "with-backup", 200, "chat.completion", WHOLE),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_answer_is_settled_by_the_table() {
    let (_oracle, site, server, customer) = open().await;
    let client = server.client(&customer.key);
    for case in TABLE {
        play(&client, case).await;
        nothing_is_held(&server, &customer).await;
    }
    server.stop().await;
    let books = Books::read(&site, &customer.budget).await;
    books.check(LIMIT_NANOS);
    for case in TABLE {
        check_charge(&books, case.name, case.charge);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_pays_for_what_it_got_and_the_provider_is_stopped() {
    let (oracle, site, server, customer) = open().await;
    let script = Script { id: "gone".into(), input: INPUT, output: 500, gap_ms: 5, ..Script::default() };
    let mut answer = server.client(&customer.key).open_chat(&script, true).await.into_body();
    let mut received = String::new();
    while received.matches(WORD).count() < 4 {
        let frame = answer.frame().await.expect("more").expect("a frame");
        received.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    drop(answer);
    let served = oracle.served_until("gone", |served| served.abandoned).await;
    nothing_is_held(&server, &customer).await;
    server.stop().await;
    let books = Books::read(&site, &customer.budget).await;
    books.check(LIMIT_NANOS);
    let record = books.record("gone");
    let (at_least, at_most) = (counted(4), counted(served.output));
    assert_eq!(record.source, UsageSource::Partial);
    assert!((at_least..=at_most).contains(&record.usage.output_total()), "{at_least} to {at_most}: {record:?}");
    assert!(served.output < 500, "the provider was stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_end_is_cut_and_charged() {
    let (oracle, site, server, customer) = open().await;
    let script = Script {
        id: "endless".into(),
        plan: Plan::Endless,
        input: INPUT,
        output: 10_000,
        gap_ms: 5,
        ..Script::default()
    };
    let seen = server.client(&customer.key).chat(&script, true).await;
    assert!(seen.status == 200 && seen.text().contains("upstream_timeout"), "{}: {}", seen.status, seen.text());
    let served = oracle.served_until("endless", |served| served.abandoned).await;
    nothing_is_held(&server, &customer).await;
    server.stop().await;
    let books = Books::read(&site, &customer.budget).await;
    books.check(LIMIT_NANOS);
    let output = books.record("endless").usage.output_total();
    assert!(output > 0 && output <= counted(served.output), "{output} of {served:?}");
}

async fn open() -> (Oracle, Site, Server, Customer) {
    let oracle = Oracle::start().await;
    let site = Site::new(&oracle, TIMEOUTS);
    let server = site.serve().await;
    let customer = customer(&server, "table", LIMIT_NANOS, json!({})).await;
    (oracle, site, server, customer)
}

async fn play(client: &Client, case: &Case) {
    let script = Script {
        id: case.name.into(),
        plan: case.plan,
        input: INPUT,
        output: OUTPUT,
        status: case.upstream_status,
        ..Script::default()
    };
    let seen = client.chat_with(&script, case.streamed, json!({"model": case.model})).await;
    assert_eq!(seen.status, case.status, "{}: {}", case.name, seen.text());
    assert!(seen.text().contains(case.tells), "{}: no `{}` in {}", case.name, case.tells, seen.text());
    if case.status == 429 {
        assert_eq!(seen.headers["retry-after"], "7", "{}", case.name);
    }
}

/// Waits until no hold is open; then what is available is what was not charged.
async fn nothing_is_held(server: &Server, customer: &Customer) {
    let admin = admin(server);
    while admin.get("/health").await.json()["open_holds"] != 0 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let budget = admin.get(&format!("/api/v1/budgets/{}", customer.budget)).await.json();
    let amount = |name: &str| nanos(&budget["balance"][name]);
    assert_eq!(amount("available"), amount("granted") - amount("settled"), "{budget}");
}

fn nanos(money: &Value) -> i64 {
    let text = money["amount"].as_str().unwrap_or_else(|| panic!("no amount: {money}"));
    let (units, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{units}{fraction:0<9}").parse().expect("digits")
}

#[track_caller]
fn check_charge(books: &Books, name: &str, charge: Charge) {
    if let Charge::Nothing = charge {
        let charged = books.records.iter().filter(|record| record.tags.user.as_deref() == Some(name));
        assert_eq!(charged.map(|record| record.charged_nanos).sum::<i64>(), 0, "{name}");
        return;
    }
    let record = books.record(name);
    let (input, output) = (record.usage.input_total(), record.usage.output_total());
    match charge {
        Charge::Usage(wanted_input, wanted_output) => {
            assert_eq!((record.source, input, output), (UsageSource::Provider, wanted_input, wanted_output), "{name}");
        }
        Charge::Counted(source, words) => {
            assert_eq!((record.source, output), (source, counted(words)), "{name}");
            assert!(input > 0, "{name}");
        }
        Charge::Nothing => {}
    }
    assert_eq!(record.price_nanos, price_nanos(input, output), "{name}");
    assert_eq!(record.charged_nanos, record.price_nanos, "{name}");
}

/// Tokens that the text of so many words is taken for.
fn counted(words: u64) -> u64 {
    cfr_core::chat::usage::tokens_estimated(words * WORD.len() as u64)
}
