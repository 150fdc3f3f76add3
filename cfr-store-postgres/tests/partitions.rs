//! Months of usage and entries: made ahead, and filled with what came before them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_billing::store::{Boot, CatalogStore, LedgerStore, OrphanPolicy, PageRequest};
use cfr_billing::usage::UsageFilter;
use cfr_store_postgres::{PostgresOptions, PostgresStore};
use support::*;

async fn count(home: &Home, table: &str) -> String {
    raw(&home.url, &format!("SELECT count(*) FROM {table}")).await.unwrap()
}

async fn months(home: &Home) -> String {
    let sql = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' \
         AND (relname LIKE 'usage\\_records\\_2%' OR relname LIKE 'ledger\\_entries\\_2%')";
    raw(&home.url, sql).await.unwrap()
}

async fn keep_ahead(store: &PostgresStore, second: i64) {
    store.reclaim(at(0), OrphanPolicy::Evidence, at(second)).await.unwrap();
}

#[tokio::test]
async fn months_are_made_ahead_once() {
    let home = Home::new().await;
    let store = home.open().await;
    keep_ahead(&store, 0).await;
    let expected = "ledger_entries_2026_05 ledger_entries_2026_06 ledger_entries_2026_07 \
         usage_records_2026_05 usage_records_2026_06 usage_records_2026_07";
    assert_eq!(months(&home).await, expected);
    keep_ahead(&store, 1).await;
    keep_ahead(&home.open().await, 2).await;
    assert_eq!(months(&home).await, expected);
    keep_ahead(&store, 31 * 86_400).await;
    assert!(months(&home).await.ends_with("usage_records_2026_08"));
}

#[tokio::test]
async fn a_store_on_the_clock_of_the_database_has_its_months_from_the_start() {
    let home = Home::new().await;
    let store = home.open_with(PostgresOptions::default()).await;
    let sql = "SELECT to_regclass('usage_records_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')) IS NOT NULL";
    assert_eq!(raw(&home.url, sql).await.unwrap(), "t");
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_fell_into_the_default_partition_is_moved_when_its_month_is_made() {
    let home = Home::new().await;
    let store = home.open().await;
    let acme = tenant(&store).await;
    let budget = budget(&store, &acme, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    let book = |number| settle(&node, hold_id(number), account, 7, acme.id);
    store.commit(&node, &[book(1), book(2)], at(3)).await.unwrap();
    assert_eq!(count(&home, "usage_records_default").await, "2");

    keep_ahead(&store, 4).await;
    store.commit(&node, &[book(2), book(3)], at(5)).await.unwrap();
    assert_eq!(count(&home, "usage_records_default").await, "0");
    assert_eq!(count(&home, "usage_records_2026_05").await, "3");
    assert_eq!(count(&home, "ledger_entries_default").await, "0");
    assert_clean(&store.audit().await.unwrap());
    let usage = store.usage(&UsageFilter::default(), PageRequest::default()).await.unwrap();
    assert_eq!(usage.items.iter().map(|record| record.id.as_u128()).collect::<Vec<_>>(), [3, 2, 1]);
}

#[tokio::test]
async fn a_month_is_as_append_only_as_the_whole() {
    let home = Home::new().await;
    let store = home.open().await;
    let acme = tenant(&store).await;
    let budget = budget(&store, &acme, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    store.commit(&node, &[settle(&node, hold_id(1), account, 7, acme.id)], at(3)).await.unwrap();
    keep_ahead(&store, 4).await;
    for table in ["usage_records_2026_05", "usage_records_default", "usage_records"] {
        let refused = raw(&home.url, &format!("TRUNCATE {table}")).await.expect_err(table);
        assert!(refused.contains("append-only"), "{table}: {refused}");
    }
    for sql in ["UPDATE usage_records_2026_05 SET charged = 0", "DELETE FROM usage_records_2026_05"] {
        let refused = raw(&home.url, sql).await.expect_err(sql);
        assert!(refused.contains("append-only"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_replicas_make_a_month_while_others_book() {
    let home = Home::new().await;
    let store = home.open().await;
    let acme = tenant(&store).await;
    let budget = budget(&store, &acme, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 900).await.account;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let other = home.open().await;
        tasks.spawn(async move { keep_ahead(&other, 4).await });
    }
    for number in 1..=60 {
        store.commit(&node, &[settle(&node, hold_id(number), account, 7, acme.id)], at(3)).await.unwrap();
    }
    tasks.join_all().await;
    assert_eq!(count(&home, "usage_records").await, "60");
    assert_eq!(count(&home, "usage_records_2026_05").await, "60");
    assert_clean(&store.audit().await.unwrap());
}
