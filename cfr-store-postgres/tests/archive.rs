//! Moving the books between databases: Postgres and Postgres, SQLite and Postgres, and back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use cfr_billing::conformance;
use cfr_billing::store::archive::{copy, count};
use cfr_billing::store::{Boot, CatalogStore, LeaseAsk, LedgerStore, Op, OpenedHold};
use cfr_billing::usage::UsageFilter;
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

/// SQLite keeps any text. The money arrives, and different names stay different.
#[tokio::test]
async fn a_model_whose_name_postgres_cannot_keep_is_renamed_on_the_way() {
    let ((source, _folder), target) = (fresh_file().await, fresh().await);
    let acme = tenant_of(&source).await;
    let budget = budget_of(&source, &acme, 1_000).await;
    let node = source.register("node", Boot(1), at(0)).await.unwrap();
    let ask = LeaseAsk { budget: budget.spec.id, min: 600, want: 600 };
    let account = source.acquire(&node, &[ask], TTL, at(1)).await.unwrap()[0].account;
    let long = "x".repeat(20_000);
    let names = ["nul\0", "nul\u{fffd}", &format!("{long}a"), &format!("{long}b"), "plain"].map(Arc::<str>::from);
    let named = |number: usize, name: &Arc<str>| {
        let hold = hold_id(u128::try_from(number).unwrap());
        let Op::Settle(mut settled) = settle(&node, hold, account, 7, acme.id) else { panic!("it is a settlement") };
        settled.record.model_served = Arc::clone(name);
        Op::Settle(settled)
    };
    let booked: Vec<Op> = names.iter().enumerate().map(|(number, name)| named(number, name)).collect();
    source.commit(&node, &booked, at(1)).await.unwrap();
    let Op::Settle(delivered) = named(10, &names[0]) else { panic!("it is a settlement") };
    let open = OpenedHold {
        id: hold_id(10),
        epoch: node.epoch,
        accounts: [account].as_slice().into(),
        amount: 9,
        caller: delivered.record.caller,
        model: Arc::clone(&names[2]),
        at: at(1),
    };
    let checkpoint = Op::Checkpoint { hold: open.id, charged: 3, record: delivered.record };
    source.commit(&node, &[Op::Open(Box::new(open)), checkpoint], at(2)).await.unwrap();

    let report = copy(&source, &target, "sqlite", at(3), &mut |_| {}).await.unwrap();
    assert_eq!(report.renamed, 3 + 3 + 1, "records, daily sums, and a hold");
    let days = target.usage_daily(&UsageFilter::default()).await.unwrap();
    assert_eq!(days.iter().map(|day| (day.sums.requests, day.sums.charged_nanos)).collect::<Vec<_>>(), [(1, 7); 5]);
    let kept = |name: &str| days.iter().any(|day| &*day.model == name);
    assert!(kept("plain") && kept("nul\u{fffd}") && !kept("nul\0"));
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
