//! Moving the books between databases: Postgres and Postgres, SQLite and Postgres, and back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_billing::conformance;
use cfr_billing::store::archive::{copy, count};
use cfr_billing::store::{Boot, LedgerStore};
use cfr_store_postgres::{OpenError, PostgresOptions, PostgresStore};
use cfr_store_sqlite::{SqliteOptions, SqliteStore};
use support::*;
use tempfile::TempDir;

/// An SQLite file that lives as long as its folder.
async fn fresh_file() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (SqliteStore::open(folder.path().join("cfr.db"), SqliteOptions::default()).await.unwrap(), folder)
}

#[tokio::test]
async fn everything_arrives_from_postgres_and_spending_goes_on() {
    conformance::archive_round_trip(&fresh().await, &fresh().await).await;
}

#[tokio::test]
async fn everything_arrives_from_sqlite_and_spending_goes_on() {
    let (source, _folder) = fresh_file().await;
    conformance::archive_round_trip(&source, &fresh().await).await;
}

#[tokio::test]
async fn everything_arrives_in_sqlite_and_spending_goes_on() {
    let (target, _folder) = fresh_file().await;
    conformance::archive_round_trip(&fresh().await, &target).await;
}

#[tokio::test]
async fn books_that_came_from_sqlite_go_back_unchanged() {
    let ((source, _folder), between, (back, _other)) = (fresh_file().await, fresh().await, fresh_file().await);
    let books = conformance::filled_books(&source).await;
    let there = copy(&source, &between, "sqlite", books, &mut |_| {}).await.unwrap();
    let back_again = copy(&between, &back, "postgres", books, &mut |_| {}).await.unwrap();
    assert_eq!(there.sections, back_again.sections);
    assert_eq!(count(&source, books, &mut |_| {}).await.unwrap(), count(&back, books, &mut |_| {}).await.unwrap());
}

#[tokio::test]
async fn a_copy_needs_an_empty_target() {
    conformance::a_copy_needs_an_empty_target(&fresh().await, &fresh().await).await;
}

#[tokio::test]
async fn a_source_with_a_living_node_is_not_copied() {
    conformance::a_source_at_work_is_not_copied(&fresh().await).await;
}

#[tokio::test]
async fn a_copy_that_was_cut_off_is_opened_by_nobody() {
    let home = Home::new().await;
    let target = home.open().await;
    conformance::a_copy_that_is_cut_off_is_not_complete(&fresh().await, &target).await;
    target.close().await.unwrap();
    for refused in [
        PostgresStore::open(&home.url, PostgresOptions::default()).await,
        PostgresStore::open_read_only(&home.url, PostgresOptions::default()).await,
    ] {
        let refused = refused.expect_err("half of the books");
        assert!(matches!(&refused, OpenError::UnfinishedCopy { origin, .. } if origin == "the rules"), "{refused}");
    }
}

/// A server that had opened the empty target before the copy began is found out at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_uses_the_target_meanwhile_is_found_out() {
    let ((source, _folder), home) = (fresh_file().await, Home::new().await);
    let now = conformance::filled_books(&source).await;
    let (server, target) = (home.open().await, home.open().await);
    let mut registered = false;
    let mut progress = |step| {
        if !registered && format!("{step:?}").starts_with("Copying") {
            registered = true;
            let life = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(server.register("server", Boot(7), now))
            });
            life.expect("nobody had the name");
        }
    };
    let refused = copy(&source, &target, "sqlite", now, &mut progress).await.expect_err("there is another node");
    assert!(refused.to_string().starts_with("the nodes of the target differ"), "{refused}");
    target.close().await.unwrap();
    let refused = PostgresStore::open(&home.url, PostgresOptions::default()).await.expect_err("not complete");
    assert!(matches!(refused, OpenError::UnfinishedCopy { .. }), "{refused}");
}
