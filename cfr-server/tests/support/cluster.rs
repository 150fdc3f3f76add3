//! Several servers over one Postgres database, and a client for each of them that lives through restarts.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cfr_billing::store::AccountState;
use cfr_billing::store::LedgerStore as _;
use cfr_core::id::HoldId;
use cfr_store_postgres::{PostgresOptions, PostgresStore};
use cfr_testbed::{PgBouncer, Postgres};
use tempfile::TempDir;
use tokio::time::Instant;

use super::client::Client;
use super::oracle::Oracle;
use super::server::Server;
use super::site::{ADMIN_KEY, configuration};

/// The pepper of every server of a test.
const PEPPER: &str = "pepper-of-the-tests-0123456789abcdef";
/// How often something is looked at that is awaited from outside.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A database, and a configuration for servers on it.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    /// The database server, to be disturbed.
    pub postgres: Postgres,
    url: String,
}

impl Cluster {
    /// A database server of one's own with an empty database. `more` is added to the configuration.
    pub async fn new(oracle: &Oracle, more: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::write(folder.path().join("cfr.toml"), configuration(oracle, more)).expect("a file");
        let postgres = Postgres::start().await;
        let url = postgres.database().await;
        Self { folder, postgres, url }
    }

    /// The address of the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of the database through another port, as of a proxy.
    pub fn url_through(&self, port: u16) -> String {
        self.url.replacen(&format!(":{}/", self.postgres.port()), &format!(":{port}/"), 1)
    }

    /// The address of the database through a pooler that lends a connection for a transaction only.
    pub fn url_pooled(&self, pooler: &PgBouncer) -> String {
        self.url_through(pooler.port()) + "?pgbouncer=true"
    }

    /// Where a node keeps what is its own.
    pub fn data(&self, node: &str) -> PathBuf {
        self.folder.path().join(node)
    }

    /// Starts a node.
    pub async fn serve(&self, node: &str) -> Server {
        self.serve_with(node, &self.url, &[]).await
    }

    /// Starts a node whose database has this address, with more variables in its environment.
    pub async fn serve_with(&self, node: &str, url: &str, more: &[(&str, &str)]) -> Server {
        let (config, data) = (self.config(), self.data(node));
        let data = data.to_str().expect("UTF-8");
        let arguments = ["serve", "--config", &config, "--data", data, "--listen", "127.0.0.1:0"];
        let own = [("CFR_DATABASE_URL", url), ("CFR_NODE", node)];
        Server::start(&arguments, &[&self.environment()[..], &own, more].concat()).await
    }

    /// The configuration of every node.
    pub fn config(&self) -> String {
        self.folder.path().join("cfr.toml").to_str().expect("UTF-8").to_owned()
    }

    /// What every node finds in its environment.
    pub fn environment(&self) -> [(&str, &str); 3] {
        [("CFR_ADMIN_KEY", ADMIN_KEY), ("CFR_KEY_PEPPER", PEPPER), ("CFR_DATABASE_URL", &self.url)]
    }

    /// The books, for reading.
    pub async fn store(&self) -> PostgresStore {
        PostgresStore::open_read_only(&self.url, PostgresOptions::default()).await.expect("the books")
    }

    /// The account of a budget that has one period.
    pub async fn account(&self, budget: &str) -> AccountState {
        let store = self.store().await;
        let accounts = store.accounts(budget.parse().expect("an id")).await.expect("accounts");
        store.close().await.expect("closed");
        let [account] = accounts.try_into().expect("one period");
        account
    }

    /// Waits until nothing of a budget is leased.
    pub async fn wait_until_nothing_is_leased(&self, budget: &str, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            let leased = self.account(budget).await.leased;
            if leased == 0 {
                return;
            }
            assert!(Instant::now() < end, "{leased} still leased after {patience:?}: {}", self.nodes().await);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// What a node may still spend by its leases, those of earlier lives included.
    pub async fn leased_by(&self, node: &str) -> i64 {
        let sql = format!("SELECT coalesce(sum(granted - consumed), 0) FROM leases WHERE node = '{node}'");
        self.postgres.execute(&self.url, &sql).await.parse().expect("a number")
    }

    /// The journal of holds: how many have not ended, and those that were released.
    pub async fn journal(&self) -> (i64, Vec<HoldId>) {
        let open = self.postgres.execute(&self.url, "SELECT count(*) FROM holds WHERE state <> 2").await;
        let released = self.postgres.execute(&self.url, "SELECT id FROM holds WHERE state = 2").await;
        let id = |line: &str| u128::from_str_radix(&line.replace('-', ""), 16).expect("a UUID");
        let released = released.lines().map(|line| HoldId::from_u128(id(line))).collect();
        (open.parse().expect("a number"), released)
    }

    async fn nodes(&self) -> String {
        self.postgres.execute(&self.url, "SELECT * FROM nodes; SELECT * FROM leases").await
    }
}

/// The nodes of a cluster by number, each of which may be away for a while.
#[derive(Debug, Clone)]
pub struct Fleet {
    key: String,
    clients: Arc<Vec<Mutex<Option<Client>>>>,
}

impl Fleet {
    /// Clients with a key for servers.
    pub fn new<'a>(key: &str, servers: impl IntoIterator<Item = &'a Server>) -> Self {
        let clients = servers.into_iter().map(|server| Mutex::new(Some(server.client(key))));
        Self { key: key.to_owned(), clients: Arc::new(clients.collect()) }
    }

    /// A client of a node, unless it is away.
    pub fn client(&self, node: usize) -> Option<Client> {
        self.clients[node % self.clients.len()].lock().expect("no panic").clone()
    }

    /// A node is away.
    pub fn leaves(&self, node: usize) {
        *self.clients[node].lock().expect("no panic") = None;
    }

    /// A node is back, at a new address.
    pub fn comes_back(&self, node: usize, server: &Server) {
        *self.clients[node].lock().expect("no panic") = Some(server.client(&self.key));
    }
}
