//! Four servers share a Postgres database under load while processes, the database and the network between them fail: no
//! answer is lost, none is charged twice, no limit is exceeded, and afterwards nothing is stranded. Nobody who has plenty is
//! ever told that it is used up; and a lease after the last failure those who race another budget to its end on the same
//! servers are not told so for long while there is room.
//!
//! `CFR_CHAOS_ROUNDS` says how often each thing fails, `CFR_SEED` repeats the choices of a run.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use cfr_testbed::{Proxy, Redis};
use http::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use support::books::Books;
use support::client::{Seen, expect_status};
use support::cluster::{Cluster, Fleet};
use support::oracle::{Oracle, Script, Served};
use support::price::price_nanos;
use support::race::Race;
use support::server::Server;
use support::setting;
use support::site::{customer, limit};

mod support;

const NODES: [&str; 4] = ["one", "two", "three", "four"];
const CLIENTS: u32 = 24;
/// How often something fails, when nobody says.
const ROUNDS: u64 = 2;
/// Ten euro: the load does not reach it, so that every request is let in.
const LIMIT_NANOS: i64 = 10_000_000_000;
/// A quarter of the clients share a budget that is used up on the way: some tens of answers.
const SMALL_LIMIT_NANOS: i64 = 600_000;
/// Limits that nobody reaches, not even a quarter of them: every call asks Redis.
const REQUESTS_PER_MINUTE: u32 = 1_000_000;
const PARALLEL: u32 = 1_000;
/// Complete answers between two failures: the load goes on by itself.
const CALM_ANSWERS: u64 = 60;
/// A cluster that has not given so many answers after this long does not go on by itself.
const CALM_WITHIN: Duration = Duration::from_secs(20);
/// How long a process is stopped, and the network away: longer than a lease, and shorter than it takes to be given up.
const LONG_PAUSE: Duration = Duration::from_millis(2_500);
/// A call that a client had to give up.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// After that everything that was leased is back: a lease, the longest hold and the grace, and time to notice.
const RECLAIMED_AFTER: Duration = Duration::from_secs(30);
/// A node that was disturbed and does not accept calls after this is broken.
const READY_AFTER: Duration = Duration::from_secs(20);
/// What the batch of every charge carries: the model of the usage record.
const CHARGED: &[u8] = b"gpt-4o-mini";
/// After that what a failure did to the rights of a node is over.
const LEASE: Duration = Duration::from_secs(2);
/// What is raced for after the failures, beside the load: enough that every server has its share, and then asks the others.
const RACE_ANSWERS: u64 = 150;
const RACE_CLIENTS: usize = 12;
/// Leases and holds short enough for a test. A lease is as long as [`LEASE`].
const CONFIGURATION: &str = "
[ledger]
lease_seconds = 2
idle_seconds = 1
reclaim_grace_seconds = 1

[limits]
hold_seconds = 6
";

/// A few at a time: each is a dozen processes, which mostly wait.
static TURNS: Semaphore = Semaphore::const_new(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_killed_and_start_again_lose_and_double_nothing() {
    endure(Failure::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_stand_still_for_longer_than_a_lease_spend_nothing_twice() {
    endure(Failure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_and_comes_back_loses_and_doubles_nothing() {
    endure(Failure::Crash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_cut_loses_and_doubles_nothing() {
    endure(Failure::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_database_that_are_lost_double_nothing() {
    endure(Failure::LostAnswer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_slow_or_silent_loses_and_doubles_nothing() {
    endure(Failure::Slow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_disagree_lose_and_double_nothing() {
    endure(Failure::Clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgets_and_dies_costs_no_money() {
    endure(Failure::Redis).await;
}

/// What happens to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// A server is killed, and started again under its name.
    Kill,
    /// A server stands still for longer than a lease.
    Pause,
    /// The database crashes and recovers.
    Crash,
    /// The network between a server and the database is cut, shortly or for longer than a lease.
    Cut,
    /// The database does what it is told, and the answer is lost.
    LostAnswer,
    /// What a server and the database say to each other arrives late, or not for a while.
    Slow,
    /// The clock of a server is wrong by seconds or by days, in either direction.
    Clock,
    /// Redis forgets everything, and is away for a while.
    Redis,
}

/// What the clock of a restarted server may be wrong by.
const OFFSETS: [&str; 4] = ["+3s", "-3s", "+2d", "-2d"];
/// Where Debian puts the library that makes a clock wrong.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// What a client saw of one request.
struct Transcript {
    id: String,
    /// Which client it was.
    client: u32,
    asked: Instant,
    streamed: bool,
    seen: Seen,
}

/// Servers, each behind a network of its own, and somebody who disturbs them.
struct Site {
    cluster: Cluster,
    redis: Redis,
    proxies: Vec<Proxy>,
    servers: Vec<Server>,
    fleet: Vec<Fleet>,
    random: StdRng,
}

async fn endure(failure: Failure) {
    let _turn = TURNS.acquire().await.expect("never closed");
    let seed = setting("CFR_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("CFR_SEED={seed} repeats the choices");
    let oracle = Oracle::start().await;
    let mut site = Site::new(&oracle, seed).await;
    let limited = json!({"requests_per_minute": REQUESTS_PER_MINUTE, "parallel_requests_max": PARALLEL});
    let rich = customer(&site.servers[0], "rich", LIMIT_NANOS, limited.clone()).await;
    let poor = customer(&site.servers[0], "poor", LIMIT_NANOS, limited).await;
    let small = limit(&site.servers[0], "tenant", "poor", SMALL_LIMIT_NANOS).await;
    let race = Race::new(&site.servers[0], RACE_ANSWERS).await;
    site.fleet = [&rich, &poor].map(|customer| Fleet::new(&customer.key, &site.servers)).into();

    let (stop, stopped) = watch::channel(());
    let answers = watch::Sender::new(0);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let fleet = site.fleet[usize::from(is_poor(number))].clone();
        clients.spawn(load(fleet, number, stopped.clone(), answers.clone()));
    }
    for _ in 0..setting("CFR_CHAOS_ROUNDS").unwrap_or(ROUNDS) {
        calm(&answers).await;
        site.disturb(failure).await;
    }
    tokio::time::sleep(LEASE).await;
    calm(&answers).await;
    let recovered = Instant::now();
    race.run(&site.servers, RACE_CLIENTS).await;
    drop((stop, stopped));
    let transcripts: Vec<_> = clients.join_all().await.into_iter().flatten().collect();

    site.serves_again().await;
    for budget in [&rich.budget, &poor.budget, &small] {
        site.cluster.wait_until_nothing_is_leased(budget, RECLAIMED_AFTER).await;
    }
    for server in std::mem::take(&mut site.servers) {
        server.stop().await;
    }
    Books::read_shared(&site.cluster, &rich.budget).await.of_owner().check(LIMIT_NANOS);
    Books::read_shared(&site.cluster, &poor.budget).await.of_owner().check(LIMIT_NANOS);
    let books = Books::read_shared(&site.cluster, &small).await;
    assert!(books.account.settled <= SMALL_LIMIT_NANOS && books.account.leased == 0, "{:?}", books.account);
    check(&oracle.served(), &books, &transcripts);
    check_denials(&transcripts, recovered);
    race.check(&site.cluster, &oracle).await;
}

/// Who shares the budget that is used up on the way.
const fn is_poor(client: u32) -> bool {
    client % 4 == 3
}

impl Site {
    async fn new(oracle: &Oracle, seed: u64) -> Self {
        let redis = Redis::start().await;
        let cluster = Cluster::new(oracle, &format!("{CONFIGURATION}[redis]\nurl = \"{}\"\n", redis.url())).await;
        let mut site = Self {
            redis,
            proxies: Vec::new(),
            servers: Vec::new(),
            fleet: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            cluster,
        };
        for node in 0..NODES.len() {
            let database = (std::net::Ipv4Addr::LOCALHOST, site.cluster.postgres.port()).into();
            site.proxies.push(Proxy::start(database).await);
            let server = site.start(node, &[]).await;
            site.servers.push(server);
        }
        site
    }

    async fn start(&self, node: usize, environment: &[(&str, &str)]) -> Server {
        let url = self.cluster.url_through(self.proxies[node].port());
        self.cluster.serve_with(NODES[node], &url, environment).await
    }

    async fn disturb(&mut self, failure: Failure) {
        let node = self.random.random_range(0..NODES.len());
        let short = Duration::from_millis(self.random.random_range(50..400));
        let pause = if self.random.random_bool(0.5) { short } else { LONG_PAUSE };
        match failure {
            Failure::Kill => self.kill(node, &[]).await,
            Failure::Clock => {
                let offset = OFFSETS[self.random.random_range(0..OFFSETS.len())];
                let library = faketime();
                let wrong =
                    [("LD_PRELOAD", library.as_str()), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
                self.kill(node, &wrong).await;
            }
            Failure::Redis => {
                self.redis.command(&["FLUSHALL"]).await;
                tokio::time::sleep(short).await;
                self.redis.stop().await;
                tokio::time::sleep(short).await;
                self.redis.start_again().await;
            }
            Failure::Pause => {
                self.servers[node].signal("STOP").await;
                tokio::time::sleep(LONG_PAUSE).await;
                self.servers[node].signal("CONT").await;
            }
            Failure::Crash => self.cluster.postgres.restart_immediate().await,
            Failure::Cut => {
                self.proxies[node].cut();
                tokio::time::sleep(pause).await;
                self.proxies[node].heal();
            }
            Failure::LostAnswer => {
                self.proxies.iter().for_each(|proxy| proxy.lose_answer_to(CHARGED));
                self.until_an_answer_is_lost().await;
            }
            Failure::Slow if pause == LONG_PAUSE => {
                self.proxies[node].stall();
                tokio::time::sleep(pause).await;
                self.proxies[node].heal();
            }
            Failure::Slow => {
                self.proxies.iter().for_each(|proxy| proxy.delay(short / 4));
                tokio::time::sleep(4 * short).await;
                self.proxies.iter().for_each(Proxy::heal);
            }
        }
    }

    async fn until_an_answer_is_lost(&self) {
        let end = Instant::now() + READY_AFTER;
        while self.proxies.iter().all(Proxy::is_armed) {
            assert!(Instant::now() < end, "no batch passed that carries a charge");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn kill(&mut self, node: usize, environment: &[(&str, &str)]) {
        let server = self.servers.remove(node);
        self.fleet.iter().for_each(|fleet| fleet.leaves(node));
        server.kill().await;
        let server = self.start(node, environment).await;
        self.fleet.iter().for_each(|fleet| fleet.comes_back(node, &server));
        self.servers.insert(node, server);
    }

    /// Whatever was disturbed, every node accepts calls again by itself.
    async fn serves_again(&self) {
        let end = Instant::now() + READY_AFTER;
        for (server, node) in self.servers.iter().zip(NODES) {
            while server.client("").get("/health/ready").await.status != 200 {
                assert!(Instant::now() < end, "node {node} does not come back");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let client = self.fleet[0].client(NODES.iter().position(|name| *name == node).expect("known"));
            let script = Script { id: format!("after-{node}"), input: 9, output: 5, ..Script::default() };
            expect_status(&client.expect("back").chat(&script, false).await, StatusCode::OK);
        }
    }
}

/// The library under whose hands a process sees another time.
fn faketime() -> String {
    let folders = ["/usr/lib", "/usr/local/lib", "/usr/lib64"].map(std::fs::read_dir).into_iter().flatten();
    let places = folders.flatten().flatten().map(|folder| folder.path().join(FAKETIME));
    let found = places.chain(["/usr/lib/".to_owned() + FAKETIME].map(Into::into)).find(|path| path.exists());
    let found = found.expect("libfaketime: install it with `apt-get install libfaketime`");
    found.to_str().expect("UTF-8").to_owned()
}

/// Lets the load go on for a while.
async fn calm(answers: &watch::Sender<u64>) {
    let wanted = *answers.borrow() + CALM_ANSWERS;
    let mut seen = answers.subscribe();
    let came = tokio::time::timeout(CALM_WITHIN, seen.wait_for(|answers| *answers >= wanted)).await;
    assert!(came.is_ok(), "only {} of {wanted} answers came in {CALM_WITHIN:?}", *answers.borrow());
}

/// One client, one request after the other, each under a name of its own. It leaves a server that does not serve.
async fn load(fleet: Fleet, number: u32, stopped: watch::Receiver<()>, answers: watch::Sender<u64>) -> Vec<Transcript> {
    let mut transcripts = Vec::new();
    let mut node = usize::try_from(number).expect("a small number");
    while stopped.has_changed().is_ok() {
        let Some(client) = fleet.client(node) else {
            node += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let id = format!("{number}-{}", transcripts.len());
        let streamed = number.is_multiple_of(2);
        let gap_ms = if streamed { 2 } else { 10 };
        let script = Script { id: id.clone(), input: 9, output: 5 + u64::from(number), gap_ms, ..Script::default() };
        let asked = Instant::now();
        let seen =
            tokio::time::timeout(CALL_TIMEOUT, client.chat(&script, streamed)).await.expect("an end of the call");
        let status = seen.status;
        let complete = seen.complete(streamed);
        transcripts.push(Transcript { id, client: number, asked, streamed, seen });
        if complete {
            answers.send_modify(|answers| *answers += 1);
        } else {
            node += usize::from(status != 402);
            tokio::time::sleep(Duration::from_millis(20)).await;
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
    let mut statuses = BTreeMap::<u16, u64>::new();
    let mut complete = 0;
    for Transcript { id, streamed, seen, .. } in transcripts {
        *statuses.entry(seen.status).or_default() += 1;
        assert!(matches!(seen.status, 0 | 200 | 402 | 503), "{}: {}", seen.status, seen.text());
        if seen.complete(*streamed) {
            complete += 1;
            let record = by_tag.get(id.as_str()).unwrap_or_else(|| panic!("{id} was answered and not charged"))[0];
            let full = price_nanos(served[id].input, served[id].output);
            assert_eq!(record.charged_nanos, full, "{id}");
        }
    }
    eprintln!("{} calls served, {complete} complete answers, statuses {statuses:?}", served.len());
}

/// Who has plenty is never told that it is used up, and from a moment on finds a server that takes calls.
fn check_denials(transcripts: &[Transcript], recovered: Instant) {
    let mut refused_since = BTreeMap::<u32, Instant>::new();
    let mut longest = Duration::ZERO;
    for Transcript { id, client, asked, streamed, seen } in transcripts.iter().filter(|call| !is_poor(call.client)) {
        assert_ne!(seen.status, 402, "{id}: {}", seen.text());
        if seen.complete(*streamed) {
            longest = longest.max(refused_since.remove(client).map_or(Duration::ZERO, |since| *asked - since));
        } else if *asked >= recovered {
            refused_since.entry(*client).or_insert(*asked);
        }
    }
    eprintln!("a lease after the last failure nobody was refused for longer than {longest:?}");
    assert!(longest <= READY_AFTER, "refused for {longest:?} although there was room");
}
