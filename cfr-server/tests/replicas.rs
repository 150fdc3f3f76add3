//! Servers over one Postgres database race one small budget to its end: together they never exceed it, nothing of it
//! is stranded, and nobody is refused for long while there is room.
//!
//! `CFR_RACE_ANSWERS` says how many answers the budget holds.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cfr_testbed::{PgBouncer, PoolMode};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use support::books::Books;
use support::client::Client;
use support::cluster::Cluster;
use support::oracle::{Oracle, Script};
use support::price::price_nanos;
use support::server::Server;
use support::setting;
use support::site::{customer, limit};

mod support;

const CLIENTS: usize = 64;
/// Clients of two servers behind a pooler.
const CLIENTS_POOLED: usize = 16;
/// Answers that the budget holds, when nobody says.
const ANSWERS: u64 = 1_000;
/// The same behind a pooler.
const ANSWERS_POOLED: u64 = 250;
/// Tokens of the answers: each client asks for one size.
const OUTPUTS: [u64; 7] = [20, 30, 40, 50, 60, 70, 80];
const INPUT: u64 = 11;
/// A client gives up when it was refused for this long without a pause.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// Its pause after a refusal.
const PAUSE: Duration = Duration::from_millis(25);
/// How long other nodes may sit on rights that one of them needs (money.md §3.3 R6).
const FALSE_DENIAL_MAX: Duration = Duration::from_millis(250);
/// What a busy machine may add before the client sees the answer.
const SLACK: Duration = Duration::from_millis(500);
/// Leases come back by themselves only after a minute: what one node needs of another's, it must ask for.
const CONFIGURATION: &str = "[ledger]\nidle_seconds = 60\n";

/// One race at a time: each takes all that the machine has.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_use_a_budget_up_together_and_never_exceed_it() {
    let _turn = TURN.lock().await;
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, CONFIGURATION).await;
    let servers = [
        cluster.serve("one").await,
        cluster.serve("two").await,
        cluster.serve("three").await,
        cluster.serve("four").await,
    ];
    race(&oracle, &cluster, servers, CLIENTS, setting("CFR_RACE_ANSWERS").unwrap_or(ANSWERS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_behind_a_pooler_use_a_budget_up_together_and_never_exceed_it() {
    let _turn = TURN.lock().await;
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, CONFIGURATION).await;
    let pooler = PgBouncer::start(&cluster.postgres, PoolMode::Transaction).await;
    let url = cluster.url_pooled(&pooler);
    let servers = [cluster.serve_with("one", &url, &[]).await, cluster.serve_with("two", &url, &[]).await];
    race(&oracle, &cluster, servers, CLIENTS_POOLED, ANSWERS_POOLED).await;
}

/// Clients spend a budget of about so many answers through these servers, until nothing is left.
async fn race<const SERVERS: usize>(
    oracle: &Oracle,
    cluster: &Cluster,
    servers: [Server; SERVERS],
    clients_count: usize,
    answers: u64,
) {
    let mean: i64 = OUTPUTS.iter().map(|output| price_nanos(INPUT, *output)).sum::<i64>() / 7;
    let limit_nanos = mean * i64::try_from(answers).expect("a small number");
    let customer_of_all = customer(&servers[0], "race", 2 * limit_nanos, json!({})).await;
    let budget = limit(&servers[0], "tenant", "race", limit_nanos).await;
    let race = Arc::new(Race::new(limit_nanos, estimates(&servers[0]).await));

    let mut clients = JoinSet::new();
    for number in 0..clients_count {
        let client = servers[number % SERVERS].client(&customer_of_all.key);
        clients.spawn(spend(client, race.clone(), number, OUTPUTS[number % OUTPUTS.len()]));
    }
    clients.join_all().await;
    // Nobody asks any longer: on any node one client alone gets what is left, wherever it was leased to.
    for (node, server) in servers.iter().enumerate() {
        spend(server.client(&customer_of_all.key), race.clone(), clients_count + node, OUTPUTS[0]).await;
    }
    for server in servers {
        server.stop().await;
    }

    Books::read_shared(cluster, &customer_of_all.budget).await.check(2 * limit_nanos);
    let books = Books::read_shared(cluster, &budget).await;
    books.check(limit_nanos);
    race.check(&books, oracle);
}

/// What a request of each size must be able to spend: what a budget of nothing is refused with.
async fn estimates(server: &Server) -> BTreeMap<u64, i64> {
    let nobody = customer(server, "nobody", 1, json!({})).await;
    let client = server.client(&nobody.key);
    let mut estimates = BTreeMap::new();
    for output in OUTPUTS {
        let seen = client.chat(&script(0, 0, output), false).await;
        assert_eq!(seen.status, 402, "{}", seen.text());
        estimates.insert(output, amount(&seen.json(), "estimate"));
    }
    estimates
}

/// Requests of one size have bodies of one length, and so one estimate.
fn script(number: usize, count: usize, output: u64) -> Script {
    Script { id: format!("race-{number:03}-{count:05}"), input: INPUT, output, gap_ms: 2, ..Script::default() }
}

/// Sends requests of one size until the budget refuses it for a while.
async fn spend(client: Client, race: Arc<Race>, number: usize, output: u64) {
    let mut count = 0;
    let mut refused_since = None;
    while refused_since.is_none_or(|since: Instant| since.elapsed() < REFUSED_FOR) {
        let script = script(number, count, output);
        count += 1;
        let asked = race.ask(output);
        let seen = client.chat(&script, false).await;
        if seen.status == 402 {
            let body = seen.json();
            assert_eq!(body["error"]["scope"], "tenant", "the tightest one is named: {body}");
            race.refused(asked, output);
            refused_since = refused_since.or(Some(asked));
            tokio::time::sleep(PAUSE).await;
        } else {
            assert!(seen.complete(false), "{}: {}", seen.status, seen.text());
            race.answered(script.id, output);
            refused_since = None;
        }
    }
}

/// What clients know of the budget. Whatever a server holds is asked for before and answered after, so this never says
/// that there is more room than there is.
struct Race {
    limit_nanos: i64,
    estimates: BTreeMap<u64, i64>,
    seen: std::sync::Mutex<SeenByAll>,
}

#[derive(Default)]
struct SeenByAll {
    /// What may be spent or held, after every change.
    used: Vec<(Instant, i64)>,
    /// Complete answers with their price.
    complete: BTreeMap<String, i64>,
    refusals: u64,
    /// For how long there was room for a request that was refused, at most.
    false_denial: Duration,
}

impl Race {
    fn new(limit_nanos: i64, estimates: BTreeMap<u64, i64>) -> Self {
        let seen = SeenByAll { used: vec![(Instant::now(), 0)], ..SeenByAll::default() };
        Self { limit_nanos, estimates, seen: std::sync::Mutex::new(seen) }
    }

    fn ask(&self, output: u64) -> Instant {
        self.seen.lock().expect("no panic").change(self.estimates[&output])
    }

    fn answered(&self, id: String, output: u64) {
        let price = price_nanos(INPUT, output);
        let mut seen = self.seen.lock().expect("no panic");
        seen.change(price - self.estimates[&output]);
        assert_eq!(seen.complete.insert(id, price), None, "a name is used once");
    }

    fn refused(&self, asked: Instant, output: u64) {
        let estimate = self.estimates[&output];
        let mut seen = self.seen.lock().expect("no panic");
        let now = seen.change(-estimate);
        let since = seen.room_since(asked, estimate, self.limit_nanos);
        seen.refusals += 1;
        seen.false_denial = seen.false_denial.max(since.map_or(Duration::ZERO, |since| now - since));
    }

    /// Books, provider and clients tell the same story.
    fn check(&self, books: &Books, oracle: &Oracle) {
        let seen = self.seen.lock().expect("no panic");
        for (id, price) in &seen.complete {
            let record = books.record(id);
            assert_eq!((record.price_nanos, record.charged_nanos), (*price, *price), "{id}");
        }
        let charged = books.records.iter().filter(|record| record.charged_nanos > 0).count();
        assert_eq!(charged, seen.complete.len(), "nobody paid for anything but a complete answer");
        let served = oracle.served().into_iter().filter(|(_, served)| served.complete).count();
        assert_eq!(served, charged, "what was served was charged once");
        let unused = self.limit_nanos - books.account.settled;
        let smallest = self.estimates[&OUTPUTS[0]];
        let (answers, refusals, late) = (seen.complete.len(), seen.refusals, seen.false_denial);
        eprintln!(
            "{answers} answers, {refusals} refusals, the longest with room {late:?}; {unused} of {smallest} unused"
        );
        assert!(unused < smallest, "{unused} was left, and a request needed only {smallest}");
        assert!(late <= FALSE_DENIAL_MAX + SLACK, "refused for {late:?} although there was room");
    }
}

impl SeenByAll {
    fn change(&mut self, by: i64) -> Instant {
        let now = Instant::now();
        let used = self.used.last().map_or(0, |(_, used)| *used);
        self.used.push((now, used + by));
        now
    }

    /// Since when there was room for one more request of this size, given that it was asked for at that moment; none when
    /// there was not before its refusal.
    fn room_since(&self, asked: Instant, estimate: i64, limit: i64) -> Option<Instant> {
        let own = |at: Instant| if at >= asked { 0 } else { estimate };
        let (_, before) = self.used.split_last()?;
        let crowded = before.iter().rposition(|(at, used)| used + own(*at) > limit);
        let first = crowded.map_or(0, |position| position + 1);
        before.get(first).map(|(at, _)| *at)
    }
}

/// An amount of an error, in nano-units.
fn amount(body: &Value, name: &str) -> i64 {
    let amount = body["error"][name].as_str().expect("an amount");
    let (units, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{units}{fraction:0<9}").parse().expect("digits")
}
