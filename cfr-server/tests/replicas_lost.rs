//! A server that is declared dead while it lives, with calls under way: what it had leased is spent by another one, and
//! still nobody is charged beyond the limit. What the provider served for nothing is at most what was leased to it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::time::Duration;

use cfr_testbed::{Proxy, Redis};
use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use support::books::Books;
use support::client::{Seen, expect_status};
use support::cluster::Cluster;
use support::oracle::{Oracle, Script, Served};
use support::price::price_nanos;
use support::server::Server;
use support::site::{Customer, admin, customer};

mod support;

const INPUT: u64 = 9;
/// Streams that are under way.
const STREAMS: u64 = 3;
/// Tokens of each: much more than the requests are long, so that what is held is what they cost.
const STREAM_OUTPUT: u64 = 200;
/// Tokens of a short answer.
const OUTPUT: u64 = 20;
/// The budget holds so many streams.
const STREAMS_PAID: i64 = 13;
/// What has not come after this long does not come by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions whether it has.
const POLL: Duration = Duration::from_millis(25);
/// Longer than a server remembers that there was nothing left.
const REFUSED_FOR: Duration = Duration::from_millis(700);
/// How long leases last.
const LEASE: Duration = Duration::from_secs(1);
/// A server counts as dead eight seconds after it was heard of.
const SHORT_LIVES: &str = "
[ledger]
lease_seconds = 1
reclaim_grace_seconds = 1

[limits]
hold_seconds = 6
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_cut_off_until_it_counted_as_dead_costs_what_it_had_leased_at_most() {
    let redis = Redis::start().await; // through which a server without the database still hears of revoked keys
    let site = Site::new(&format!("{SHORT_LIVES}[redis]\nurl = \"{}\"\n", redis.url())).await;
    let streams = site.start_streams(Duration::from_millis(5)).await;
    let leased = site.cluster.leased_by("lost").await;
    site.network.cut();
    let mut inside = JoinSet::new();
    inside.spawn(site.ask_lost("inside-its-lease"));
    site.served("inside-its-lease", |served| served.calls == 1).await;
    tokio::time::sleep(LEASE).await;
    let outside = site.ask_lost("outside-its-lease").await;
    assert_eq!((outside.status, outside.error_code().as_str()), (503, "ledger_unavailable"));
    assert_eq!(site.oracle.served_to("outside-its-lease").calls, 0, "nothing is spent when the lease is over");

    site.wait_until_taken_back().await;
    site.use_up().await;
    site.network.heal();
    site.wait_until_ready().await;
    assert_ends(streams.join_all().await);
    inside.join_all().await;
    site.check(leased, &["inside-its-lease"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_fenced_while_it_lives_costs_what_it_had_leased_at_most() {
    let site = Site::new("[ledger]\nlease_seconds = 1\n").await;
    let streams = site.start_streams(Duration::from_millis(40)).await;
    let leased = site.cluster.leased_by("lost").await;
    expect_status(&admin(&site.other).post("/api/v1/nodes/lost/fence", &json!({})).await, StatusCode::OK);
    site.wait_until_taken_back().await;
    site.use_up().await;
    assert_eq!(site.under_way(), STREAMS, "all of it was spent while the calls were under way");
    assert_ends(streams.join_all().await);
    site.wait_until_ready().await;
    assert_eq!(site.ask_lost("afterwards").await.status, 402, "it goes on under a new epoch");
    site.check(leased, &[]).await;
}

/// Two servers, of which one reaches the database through a network of its own.
struct Site {
    oracle: Oracle,
    cluster: Cluster,
    network: Proxy,
    lost: Server,
    other: Server,
    customer: Customer,
    limit_nanos: i64,
}

impl Site {
    async fn new(configuration: &str) -> Self {
        let oracle = Oracle::start().await;
        let cluster = Cluster::new(&oracle, configuration).await;
        let network = Proxy::start((std::net::Ipv4Addr::LOCALHOST, cluster.postgres.port()).into()).await;
        let lost = cluster.serve_with("lost", &cluster.url_through(network.port()), &[]).await;
        let other = cluster.serve("other").await;
        let limit_nanos = STREAMS_PAID * price_nanos(INPUT, STREAM_OUTPUT);
        let customer = customer(&other, "acme", limit_nanos, json!({})).await;
        Self { oracle, cluster, network, lost, other, customer, limit_nanos }
    }

    /// Streams through the server that will be lost, each with its first words served.
    async fn start_streams(&self, gap: Duration) -> JoinSet<Seen> {
        let gap_ms = u64::try_from(gap.as_millis()).expect("a small number");
        let mut streams = JoinSet::new();
        for number in 0..STREAMS {
            let client = self.lost.client(&self.customer.key);
            let script = Script { gap_ms, ..script(&stream(number), STREAM_OUTPUT) };
            streams.spawn(async move { client.chat(&script, true).await });
            self.served(&stream(number), |served| served.output > 0).await;
        }
        streams
    }

    async fn served(&self, id: &str, wanted: impl Fn(&Served) -> bool) {
        let served = tokio::time::timeout(PATIENCE, self.oracle.served_until(id, wanted)).await;
        assert!(served.is_ok(), "{id} does not arrive at the provider");
    }

    /// Streams that the provider has not ended.
    fn under_way(&self) -> u64 {
        (0..STREAMS).map(|number| u64::from(!self.oracle.served_to(&stream(number)).complete)).sum()
    }

    /// One call to the server that is lost.
    fn ask_lost(&self, id: &str) -> impl Future<Output = Seen> + 'static {
        let (client, script) = (self.lost.client(&self.customer.key), script(id, OUTPUT));
        async move { client.chat(&script, false).await }
    }

    /// Until the other server has taken the leases of the lost one.
    async fn wait_until_taken_back(&self) {
        let end = Instant::now() + PATIENCE;
        while self.cluster.leased_by("lost").await > 0 {
            assert!(Instant::now() < end, "the leases of the lost server stay with it");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Spends all that is left through the other server: at first with long answers, so that it takes no time.
    async fn use_up(&self) {
        self.use_up_with(STREAM_OUTPUT, Duration::ZERO).await;
        self.use_up_with(OUTPUT, REFUSED_FOR).await;
    }

    /// Asks until it was refused for this long.
    async fn use_up_with(&self, output: u64, refused_for: Duration) {
        let client = self.other.client(&self.customer.key);
        let mut refused_since = None;
        for number in 0.. {
            let seen = client.chat(&script(&format!("other-{output}-{number}"), output), false).await;
            if seen.status == 402 {
                let since = *refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= refused_for {
                    return;
                }
                tokio::time::sleep(POLL).await;
            } else {
                expect_status(&seen, StatusCode::OK);
                refused_since = None;
            }
        }
    }

    async fn wait_until_ready(&self) {
        let end = Instant::now() + PATIENCE;
        while self.lost.client("").get("/health/ready").await.status != 200 {
            assert!(Instant::now() < end, "the lost server does not come back");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Nobody was charged beyond the limit, and what was served beyond it was `leased` to the lost server.
    async fn check(self, leased: i64, others: &[&str]) {
        self.lost.stop().await;
        self.other.stop().await;
        let books = Books::read_shared(&self.cluster, &self.customer.budget).await;
        books.check(self.limit_nanos);
        let streams: Vec<String> = (0..STREAMS).map(stream).collect();
        for id in streams.iter().map(String::as_str).chain(others.iter().copied()) {
            let served = self.oracle.served_to(id);
            assert_eq!(books.record(id).price_nanos, price_nanos(served.input, served.output), "{id}");
        }
        let served = self.oracle.served();
        let cost: i64 = served.values().map(|served| price_nanos(served.input, served.output)).sum();
        let overrun: i64 = books.records.iter().map(|record| record.overrun_nanos).sum();
        let (limit, charged) = (self.limit_nanos, books.account.settled);
        eprintln!("limit {limit}, charged {charged}, served for {cost}, leased to the lost server {leased}");
        assert_eq!(cost, charged + overrun, "what was served is charged, or booked as overrun");
        assert!(overrun > 0, "what was leased was spent twice");
        assert!(cost <= limit + leased, "{cost} served of {limit}, with only {leased} leased to the lost server");
    }
}

fn stream(number: u64) -> String {
    format!("stream-{number}")
}

fn script(id: &str, output: u64) -> Script {
    Script { id: id.to_owned(), input: INPUT, output, gap_ms: 2, ..Script::default() }
}

/// Every call came to an end; some of them as one whose charge was not written in time.
fn assert_ends(streams: Vec<Seen>) {
    for seen in streams {
        assert_eq!(seen.status, 200, "its head came before anything failed: {}", seen.text());
    }
}
