//! Behind PgBouncer in transaction mode a store keeps the same rules: no session lasts from one transaction to the next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_store_postgres::PostgresStore;
use cfr_testbed::{PgBouncer, PoolMode, Postgres};
use support::*;
use tokio::sync::OnceCell;

cfr_billing::store_conformance!(Box::new(store_behind_a_pooler().await));

/// The URL says that there is a pooler, as an operator would.
async fn store_behind_a_pooler() -> PostgresStore {
    let url = format!("{}?pgbouncer=true", url_behind_a_pooler().await);
    PostgresStore::open(&url, callers_clock()).await.expect("the store opens")
}

/// A fresh database, by way of the pooler.
async fn url_behind_a_pooler() -> String {
    static POOL: OnceCell<PgBouncer> = OnceCell::const_new();
    let server = Postgres::shared().await;
    let pool = POOL.get_or_init(|| PgBouncer::start(server, PoolMode::Transaction)).await;
    let database = server.database().await;
    pool.url(database.rsplit('/').next().unwrap())
}

#[tokio::test]
async fn who_does_not_say_that_there_is_a_pooler_is_told_to() {
    let url = url_behind_a_pooler().await;
    let refused = PostgresStore::open(&url, callers_clock()).await.expect_err("a pooler that nobody named");
    assert!(refused.to_string().contains("add `pgbouncer=true`"), "{refused}");
}
