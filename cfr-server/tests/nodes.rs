//! Several servers over one Postgres database: what one of them changes the others know, commands work beside them, and
//! what cannot work together is refused in one line with the next step.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::time::Duration;

use cfr_testbed::{NEEDS_PASSWORD, PgBouncer, PoolMode};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;

use support::client::Client;
use support::cluster::Cluster;
use support::oracle::{Oracle, Script};
use support::server::{Server, binary};
use support::site::{admin, customer};

mod support;

/// What one server changes the others know after this long at most.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// A price table as an operator imports it.
const PRICES: &str = include_str!("../../cfr-core/data/prices.json");
/// One euro.
const LIMIT_NANOS: i64 = 1_000_000_000;

#[tokio::test]
async fn a_key_that_one_server_revokes_the_others_refuse_within_a_second() {
    let (_oracle, _cluster, [one, two]) = two_servers().await;
    refuses_revoked_key(&one, &two).await;
}

#[tokio::test]
async fn behind_a_pooler_a_revoked_key_is_refused_within_a_second_too() {
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, "").await;
    let pooler = PgBouncer::start(&cluster.postgres, PoolMode::Transaction).await;
    let url = cluster.url_pooled(&pooler);
    let (one, two) = (cluster.serve_with("one", &url, &[]).await, cluster.serve_with("two", &url, &[]).await);
    refuses_revoked_key(&one, &two).await;
}

/// `one` revokes a key that `two` believes in.
async fn refuses_revoked_key(one: &Server, two: &Server) {
    let customer = customer(one, "acme", LIMIT_NANOS, json!({})).await;
    let client = two.client(&customer.key);
    assert_eq!(chat(&client, "before").await, 200, "a key that was made on one server works on the other");
    let keys = admin(one).get("/api/v1/keys?user=acme@example.org").await.json();
    let id = keys["items"][0]["id"].as_str().expect("an id").to_owned();
    let revoked = admin(one).post(&format!("/api/v1/keys/{id}/revoke"), &json!({})).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    let told = Instant::now();
    while chat(&client, "after").await != 401 {
        assert!(told.elapsed() < TOLD_WITHIN, "the key still works on the other server");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_known_key_outlives_a_database_that_cannot_be_read() {
    let (_oracle, cluster, [one, _two]) = two_servers().await;
    let client = one.client(&customer(&one, "acme", LIMIT_NANOS, json!({})).await.key);
    assert_eq!(client.get("/v1/models").await.status, 200);
    cluster.postgres.stop().await;
    let away = Instant::now();
    while away.elapsed() < TOLD_WITHIN * 2 {
        assert_eq!(client.get("/v1/models").await.status, 200, "nobody can revoke a key there meanwhile");
    }
    let unknown = one.client("cfr_live_unknown").get("/v1/models").await;
    assert_ne!(unknown.status, 200);
    cluster.postgres.start_again().await;
}

#[tokio::test]
async fn prices_that_one_server_imports_are_in_force_on_the_others() {
    let (_oracle, _cluster, [one, two]) = two_servers().await;
    let mut table: Value = serde_json::from_str(PRICES).expect("JSON");
    table["as_of"] = json!("2026-11-20");
    let imported = admin(&one).put("/api/v1/price-table", &table).await;
    assert_eq!(imported.status, 200, "{}", imported.text());
    let version = imported.json()["table"]["version"].clone();
    let told = Instant::now();
    while admin(&two).get("/api/v1/price-table").await.json()["version"] != version {
        assert!(told.elapsed() < 5 * TOLD_WITHIN, "the other server keeps the old prices");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn commands_work_beside_running_servers_and_tell_them_of_changes() {
    let (_oracle, cluster, [one, _two]) = two_servers().await;
    let customer = customer(&one, "acme", LIMIT_NANOS, json!({})).await;
    let client = one.client(&customer.key);
    assert_eq!(chat(&client, "before").await, 200);
    let suspended = run(&cluster, &["tenant", "set", "acme", "--status", "suspended"], &[]).await;
    assert!(suspended.succeeded, "{}", suspended.stderr);
    let told = Instant::now();
    while chat(&client, "after").await == 200 {
        assert!(told.elapsed() < TOLD_WITHIN, "the server still serves a suspended tenant");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nodes_are_listed_and_a_fenced_one_comes_back_with_a_new_epoch() {
    let (_oracle, cluster, [one, two]) = two_servers().await;
    let customer = customer(&one, "acme", LIMIT_NANOS, json!({})).await;
    assert_eq!(chat(&two.client(&customer.key), "before").await, 200);
    let listed = nodes(&cluster).await;
    assert_eq!(names(&listed), ["one", "two"], "{listed}");
    assert_eq!((&listed["items"][1]["alive"], &listed["items"][1]["epoch"]), (&json!(true), &json!(1)));
    let rows = cluster.postgres.execute(cluster.url(), "SELECT string_agg(name, ',' ORDER BY name) FROM nodes").await;
    assert_eq!(rows.trim(), "one,two", "commands leave nothing behind");
    let table = run(&cluster, &["node", "list"], &[]).await;
    assert!(table.stdout.starts_with("NODE") && table.stdout.lines().count() == 3, "{}", table.stdout);

    let unasked = run(&cluster, &["node", "fence", "two"], &[]).await;
    assert!(!unasked.succeeded && unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    let fenced = run(&cluster, &["node", "fence", "two", "--yes"], &[]).await;
    assert!(fenced.succeeded, "{}", fenced.stderr);
    assert_eq!(chat(&two.client(&customer.key), "fenced").await, 200, "it goes on by itself");
    let back = Instant::now();
    while nodes(&cluster).await["items"][1]["epoch"] != 2 {
        assert!(back.elapsed() < 30 * TOLD_WITHIN, "it has a new epoch: {}", nodes(&cluster).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let unknown = run(&cluster, &["node", "fence", "three", "--yes"], &[]).await;
    assert_eq!(unknown.stderr.trim(), "cfr-server: no such node; `cfr-server node list` shows them all");

    two.stop().await;
    assert_eq!(names(&nodes(&cluster).await), ["one"], "one that has ended in good order has nothing");
}

#[tokio::test]
async fn of_two_servers_with_one_name_the_second_is_refused() {
    let (_oracle, cluster, [_one, _two]) = two_servers().await;
    let second = run(&cluster, &["serve", "--listen", "127.0.0.1:0"], &[("CFR_NODE", "one")]).await;
    second.refuses("another process runs as node `one`");
}

#[tokio::test]
async fn a_server_with_another_pepper_is_refused() {
    let (_oracle, cluster, [_one, _two]) = two_servers().await;
    let other = [("CFR_NODE", "three"), ("CFR_KEY_PEPPER", "another-pepper-0123456789-0123456789")];
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    run(&cluster, &serve, &other).await.refuses("hashed with another pepper than that of CFR_KEY_PEPPER");
    let none = [("CFR_NODE", "three"), ("CFR_KEY_PEPPER", "")];
    run(&cluster, &serve, &none).await.refuses("a pepper that this machine does not have; set CFR_KEY_PEPPER");
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_told_in_one_line_without_its_password() {
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, "").await;
    let port = cluster.postgres.port();
    let role = format!("CREATE ROLE {NEEDS_PASSWORD}; CREATE ROLE ada LOGIN PASSWORD 'right' IN ROLE {NEEDS_PASSWORD}");
    cluster.postgres.execute(cluster.url(), &role).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    for (url, expected) in [
        (format!("postgres://postgres:secret@127.0.0.1:{free}/books"), "cannot reach Postgres at"),
        (format!("postgres://postgres:secret@127.0.0.1:{port}/nothing"), "has no such database"),
        (format!("postgres://ada:secret@127.0.0.1:{port}/postgres"), "refuses the login"),
        ("mysql://root:secret@127.0.0.1/books".to_owned(), "a database is postgres://"),
    ] {
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["node", "list"], &["ledger", "verify"]] {
            let refused = run(&cluster, command, &[("CFR_DATABASE_URL", &url)]).await;
            assert!(!refused.stderr.contains("secret"), "{}", refused.stderr);
            refused.refuses(expected);
            assert!(refused.stderr.contains("cfr-server: CFR_DATABASE_URL: "), "{}", refused.stderr);
        }
    }
}

#[tokio::test]
async fn an_older_schema_is_refused_when_somebody_else_brings_it_up_to_date() {
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, "[database]\nmigrate = \"check\"\n").await;
    let refused = run(&cluster, &["serve", "--listen", "127.0.0.1:0"], &[]).await;
    refused.refuses("run `cfr-server migrate`");
    assert!(!run(&cluster, &["migrate", "--check"], &[]).await.succeeded);
    assert!(run(&cluster, &["migrate"], &[]).await.succeeded);
    assert!(run(&cluster, &["migrate", "--check"], &[]).await.succeeded);
    cluster.serve("one").await.stop().await;
}

/// Servers of an older version may run on it: only a server that starts, and who says so, changes the schema.
#[tokio::test]
async fn commands_leave_the_schema_to_servers() {
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, "").await;
    for command in [&["node", "list"][..], &["ledger", "repair", "--apply", "--reason", "x"], &["ledger", "verify"]] {
        run(&cluster, command, &[]).await.refuses("run `cfr-server migrate`");
    }
    let tables = cluster.postgres.execute(cluster.url(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
    assert_eq!(tables.await, "0");
}

#[tokio::test]
async fn only_what_makes_a_key_needs_the_pepper() {
    let (_oracle, cluster, [one, _two]) = two_servers().await;
    customer(&one, "acme", LIMIT_NANOS, json!({})).await;
    let none = [("CFR_KEY_PEPPER", "")];
    for command in [&["node", "list"][..], &["user", "list"], &["key", "list"], &["ledger", "verify"]] {
        let said = run(&cluster, command, &none).await;
        assert!(said.succeeded, "{}", said.stderr);
    }
    let refused = run(&cluster, &["key", "create", "another", "--user", "acme@example.org"], &none).await;
    refused.refuses("a pepper that this machine does not have; set CFR_KEY_PEPPER");
}

/// What a command said.
struct Said {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

impl Said {
    /// It failed, and its last line says why.
    #[track_caller]
    fn refuses(&self, expected: &str) {
        let said = self.stderr.trim_end();
        let why = said.lines().last().unwrap_or_default();
        assert!(!self.succeeded && why.starts_with("cfr-server: ") && why.contains(expected), "{said}");
    }
}

/// Runs a command of the binary over the database of a cluster.
async fn run(cluster: &Cluster, arguments: &[&str], more: &[(&str, &str)]) -> Said {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--config", &cluster.config(), "--data"]).arg(cluster.data("command"));
    command.env("CFR_LOG_FORMAT", "text").envs(cluster.environment()).envs(more.iter().copied());
    let output = command.kill_on_drop(true).output().await.expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { succeeded: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

async fn two_servers() -> (Oracle, Cluster, [Server; 2]) {
    let oracle = Oracle::start().await;
    let cluster = Cluster::new(&oracle, "[ledger]\nlease_seconds = 3\n").await;
    let servers = [cluster.serve("one").await, cluster.serve("two").await];
    (oracle, cluster, servers)
}

async fn chat(client: &Client, id: &str) -> u16 {
    let script = Script { id: id.to_owned(), input: 9, output: 5, ..Script::default() };
    client.chat(&script, false).await.status
}

async fn nodes(cluster: &Cluster) -> Value {
    let listed = run(cluster, &["node", "list", "--json"], &[]).await;
    assert!(listed.succeeded, "{}", listed.stderr);
    serde_json::from_str(&listed.stdout).expect("JSON")
}

fn names(listing: &Value) -> Vec<&str> {
    listing["items"].as_array().expect("items").iter().filter_map(|node| node["node"].as_str()).collect()
}
