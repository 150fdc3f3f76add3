//! Servers over one Postgres database race one small budget to its end: together they never exceed it, nothing of it
//! is stranded, and nobody is refused for long while there is room.
//!
//! `CFR_RACE_ANSWERS` says how many answers the budget holds.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use cfr_testbed::{PgBouncer, PoolMode};
use tokio::sync::Mutex;

use support::cluster::Cluster;
use support::oracle::Oracle;
use support::race::Race;
use support::server::Server;
use support::setting;

mod support;

const CLIENTS: usize = 64;
/// Clients of two servers behind a pooler.
const CLIENTS_POOLED: usize = 16;
/// Answers that the budget holds, when nobody says.
const ANSWERS: u64 = 1_000;
/// The same behind a pooler.
const ANSWERS_POOLED: u64 = 250;
/// Leases come back by themselves only after a minute: what one node needs of another's, it must ask for.
const CONFIGURATION: &str = "[ledger]\nidle_seconds = 60\n";

/// One race at a time: each takes all that the machine has.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_use_a_budget_up_together_and_never_exceed_it() {
    let _turn = TURN.lock().await;
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, CONFIGURATION).await;
    let servers = vec![
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
    let servers = vec![cluster.serve_with("one", &url, &[]).await, cluster.serve_with("two", &url, &[]).await];
    race(&oracle, &cluster, servers, CLIENTS_POOLED, ANSWERS_POOLED).await;
}

/// Clients spend a budget of about so many answers through these servers, until nothing is left.
async fn race(oracle: &Oracle, cluster: &Cluster, servers: Vec<Server>, clients_count: usize, answers: u64) {
    let race = Race::new(&servers[0], answers).await;
    race.run(&servers, clients_count).await;
    race.check_calm();
    for server in servers {
        server.stop().await;
    }
    race.check(cluster, oracle).await;
}
