//! A Postgres that cannot write, is away, or has no connection left: calls are refused, nothing is lost, and the server goes
//! on by itself when the database does.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::time::Duration;

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _, Row as _};
use tokio::process::Command;
use tokio::time::timeout;

use support::books::Books;
use support::cluster::Cluster;
use support::oracle::Oracle;
use support::outage::Witness;
use support::server::{Server, binary};
use support::site::{Customer, customer};

mod support;

const LIMIT_NANOS: i64 = 1_000_000_000;
/// Leases and holds short enough for a test.
const CONFIGURATION: &str = "
[ledger]
lease_seconds = 2
idle_seconds = 1
reclaim_grace_seconds = 1

[limits]
hold_seconds = 6
";
/// Leases that would cover calls for much longer than a test waits.
const LONG_LEASES: &str = "
[ledger]
lease_seconds = 60
idle_seconds = 1
";
/// What takes longer than that was waited for: a pause between attempts and what the machine needs is less.
const AT_ONCE: Duration = Duration::from_secs(8);
/// After that everything is back that was leased: a lease, the longest hold and the grace, and time to notice.
const RECLAIMED_AFTER: Duration = Duration::from_secs(60);
/// Longer than a lease.
const LONG: Duration = Duration::from_millis(2_500);
/// Connections that others get until the server has none.
const CROWD_TIMEOUT: Duration = Duration::from_secs(60);
/// What Postgres says when all connections are taken.
const TOO_MANY_CONNECTIONS: &str = "53300";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_became_read_only_refuses_calls_until_it_can_be_written() {
    let (site, mut witness) = start().await;
    witness.answered("before").await;
    witness.begin_stream("running").await;

    site.set_read_only("on").await;
    witness.refused_at_last("turning read-only").await;
    witness.refused("read-only").await;
    witness.stream_is_cut().await;
    site.set_read_only("off").await;

    witness.resumed("writable").await;
    witness.answered("after").await;
    site.end(witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_database_that_is_read_only() {
    let (site, mut witness) = start_with(LONG_LEASES).await;
    witness.answered("before").await;

    site.set_read_only("on").await;
    timeout(AT_ONCE, witness.refused_at_last("turning read-only")).await.expect("far within the lease");
    timeout(AT_ONCE, witness.refused("read-only")).await.expect("each of them at once");
    assert!(!site.server.log().contains("works again"), "{}", site.server.log());
    site.set_read_only("off").await;

    timeout(AT_ONCE, witness.resumed("writable")).await.expect("it goes on by itself");
    witness.answered("after").await;
    assert_eq!(site.server.log().matches("works again").count(), 1, "{}", site.server.log());
    site.end(witness).await;
}

/// As after a failover: the address leads to the primary again, and what is connected to the standby stays there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_led_to_a_standby_finds_the_primary() {
    let (site, mut witness) = start_with(LONG_LEASES).await;
    witness.answered("before").await;

    site.lead_new_sessions("SET default_transaction_read_only = on").await;
    witness.refused_at_last("turning to the standby").await;
    witness.refused("standby").await;
    site.lead_new_sessions("RESET default_transaction_read_only").await;

    timeout(AT_ONCE, witness.resumed("primary")).await.expect("it connects anew by itself");
    witness.answered("after").await;
    site.end(witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_postgres_and_loses_nothing() {
    let (site, mut witness) = start().await;
    witness.answered("before").await;
    witness.begin_stream("running").await;

    site.cluster.postgres.take_space().await;
    witness.refused_at_last("filling up").await;
    witness.refused("full").await;
    witness.stream_is_cut().await;
    // Postgres ends itself when it cannot write its log; what starts has space again.
    site.cluster.postgres.crash().await;
    site.cluster.postgres.start_again().await;

    witness.resumed("space").await;
    witness.answered("after").await;
    site.end(witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_for_longer_than_a_lease_loses_nothing() {
    let (site, mut witness) = start().await;
    witness.answered("before").await;
    witness.begin_stream("running").await;

    site.cluster.postgres.stop().await;
    tokio::time::sleep(LONG).await;
    witness.refused("away").await;
    witness.stream_is_cut().await;
    site.cluster.postgres.start_again().await;

    witness.resumed("back").await;
    witness.answered("after").await;
    site.end(witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_connections_others_took_loses_nothing() {
    let (site, mut witness) = start().await;
    witness.answered("before").await;
    witness.begin_stream("running").await;

    let crowd = timeout(CROWD_TIMEOUT, take_all_connections(site.cluster.url())).await.expect("others are faster");
    witness.refused_at_last("crowding").await;
    witness.refused("crowded").await;
    witness.stream_is_cut().await;
    drop(crowd);

    witness.resumed("room").await;
    witness.answered("after").await;
    site.end(witness).await;
}

/// A server on a database of its own, with a customer.
struct Site {
    cluster: Cluster,
    server: Server,
    customer: Customer,
}

async fn start() -> (Site, Witness) {
    start_with(CONFIGURATION).await
}

async fn start_with(configuration: &str) -> (Site, Witness) {
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, configuration).await;
    let server = cluster.serve("one").await;
    let customer = customer(&server, "ada", LIMIT_NANOS, json!({})).await;
    let witness = Witness::new(oracle, server.client(&customer.key));
    (Site { cluster, server, customer }, witness)
}

impl Site {
    /// As an operator does it, or a failover to a standby: for sessions that are open, too.
    async fn set_read_only(&self, value: &str) {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {value}; SELECT pg_reload_conf()");
        self.cluster.postgres.execute(self.cluster.url(), &sql).await;
    }

    /// Sessions that are open go on as before, those of the server end: it has to connect anew.
    async fn lead_new_sessions(&self, setting: &str) {
        let (server, database) = self.cluster.url().rsplit_once('/').expect("an address");
        let database = database.split('?').next().expect("a name");
        let others = format!("{server}/postgres");
        self.cluster.postgres.execute(&others, &format!("ALTER DATABASE \"{database}\" {setting}")).await;
        if setting.starts_with("SET") {
            self.cluster.postgres.execute(&others, SEND_AWAY).await;
        }
    }

    /// The books agree with what the customer saw and with themselves.
    async fn end(self, witness: Witness) {
        self.cluster.wait_until_nothing_is_leased(&self.customer.budget, RECLAIMED_AFTER).await;
        self.server.stop().await;
        let books = Books::read_shared(&self.cluster, &self.customer.budget).await;
        books.check(LIMIT_NANOS);
        witness.check(&books);
        let verified = Command::new(binary())
            .args(["ledger", "verify", "--config", &self.cluster.config(), "--data"])
            .arg(self.cluster.data("one"))
            .envs(self.cluster.environment())
            .output()
            .await
            .expect("the binary starts");
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    }
}

/// Sends the servers away and takes what they leave, until they have nothing and nobody gets anything any more.
async fn take_all_connections(url: &str) -> Vec<PgConnection> {
    let mut crowd = vec![PgConnection::connect(url).await.expect("a connection")];
    loop {
        let sent_away = crowd[0].fetch_one(SEND_AWAY).await.expect("a count").get::<i64, _>(0);
        match PgConnection::connect(url).await {
            Ok(connection) => crowd.push(connection),
            Err(error) => {
                let code = error.as_database_error().and_then(|error| error.code()).expect("a code");
                assert_eq!(code, TOO_MANY_CONNECTIONS, "{error}");
                if sent_away == 0 {
                    return crowd;
                }
            }
        }
    }
}

const SEND_AWAY: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'cfr%'";
