//! The file: one owner, no way back for what was booked, and clear words when something is wrong with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use cfr_billing::store::{Boot, CatalogStore, LedgerStore, PageRequest, StoreError};
use cfr_billing::usage::UsageFilter;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use cfr_store_sqlite::{OpenError, SqliteOptions, SqliteStore};
use support::*;

/// With this variable, a test binary is the other process.
const OTHER_PROCESS: &str = "CFR_TEST_OPEN";

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_has_the_file() {
    if let Some(path) = std::env::var_os(OTHER_PROCESS) {
        let refused = SqliteStore::open(path, SqliteOptions::default()).await.expect_err("the file is taken");
        eprintln!("refused: {refused}");
        return;
    }
    let home = Home::new();
    let store = home.open().await;
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_process_is_refused_and_told_who_has_the_file", "--nocapture"])
        .env(OTHER_PROCESS, home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stderr);
    let expected = format!("refused: {} is in use by process {};", home.path().display(), std::process::id());
    assert!(other.status.success() && said.contains(&expected), "{said}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_booked_cannot_be_changed() {
    let home = Home::new();
    let store = booked(&home).await;
    store.close().await.unwrap();
    for sql in [
        "UPDATE usage_records SET charged = 0",
        "DELETE FROM usage_records",
        "UPDATE ledger_entries SET amount = 0",
        "DELETE FROM ledger_entries",
        "UPDATE ledger_batches SET at = 0",
        "DELETE FROM ledger_batches",
        "UPDATE grants SET amount = amount + 1",
        "DELETE FROM grants",
    ] {
        let refused = raw(&home.path(), sql).await.expect_err(sql).to_string();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
}

/// A store with one settled hold.
async fn booked(home: &Home) -> SqliteStore {
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    for number in 1..=3 {
        store.commit(&node, &[settle(&node, hold_id(number), account, 70, tenant.id)], at(3)).await.unwrap();
    }
    store
}

#[tokio::test]
async fn the_audit_finds_what_was_changed_behind_its_back() {
    for (sql, finding) in [
        ("DROP TRIGGER usage_records_stay; UPDATE usage_records SET charged = 69 WHERE row = 2", "batch 3 was changed"),
        (
            "DROP TRIGGER usage_records_stay; UPDATE usage_records SET model_served = 'x' WHERE row = 2",
            "batch 3 was changed",
        ),
        (
            "DROP TRIGGER ledger_entries_stay; UPDATE ledger_entries SET amount = 71 WHERE batch = 4",
            "batch 4 was changed",
        ),
        ("DROP TRIGGER ledger_batches_keep; DELETE FROM ledger_batches WHERE id = 2", "batch 3 does not follow"),
        (
            "DROP TRIGGER usage_records_keep; DELETE FROM usage_records WHERE row = 1",
            "usage records add up to 140 and its entries to 210",
        ),
        ("UPDATE accounts SET settled = settled - 1", "settled is 209 but its parts add up to 210"),
        ("UPDATE leases SET granted = granted + 1", "leased is 390 but its parts add up to 391"),
        ("UPDATE usage_daily SET requests = 9", "the rollup counts 9 requests"),
        ("UPDATE usage_totals SET charged = charged + 1", "the sums of tenants are not"),
    ] {
        let home = Home::new();
        booked(&home).await.close().await.unwrap();
        raw(&home.path(), sql).await.unwrap();
        let found = home.open().await.audit().await.unwrap();
        assert!(found.iter().any(|line| line.what.contains(finding)), "{sql}: {found:#?}");
    }
}

#[tokio::test]
async fn a_reopened_file_continues_with_the_same_money() {
    let home = Home::new();
    let store = booked(&home).await;
    let budget = store.budgets(&Default::default(), PageRequest::default()).await.unwrap().items.remove(0);
    let before = store.account(budget.spec.id, at(4)).await.unwrap();
    store.close().await.unwrap();
    let store = home.open().await;
    assert_eq!(store.account(budget.spec.id, at(4)).await.unwrap(), before);
    let again = store.register("node", Boot(1), at(5)).await.unwrap();
    assert_eq!(again.epoch, 2);
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_file_is_checked_only_when_it_was_not_closed() {
    let home = Home::new();
    booked(&home).await.close().await.unwrap();
    let lock = home.path().with_extension("db.lock");
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "", "closed in good order");
    damage(&home.path()).await;
    drop(SqliteStore::open(home.path(), SqliteOptions::default()).await.expect("nobody looks"));
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), std::process::id().to_string(), "not closed");
    let refused = SqliteStore::open(home.path(), SqliteOptions::default()).await.expect_err("it is damaged");
    assert!(refused.to_string().contains("damaged"), "{refused}");
}

/// Overwrites the page of an index that nothing reads at the start.
async fn damage(path: &std::path::Path) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'usage_daily_of_tenant'";
    let page: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let begin = (usize::try_from(page).unwrap() - 1) * 4_096;
    bytes[begin..begin + 4_096].fill(0x5a);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_file_of_another_program_is_refused() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().parent().unwrap()).unwrap();
    std::fs::write(home.path(), b"").unwrap();
    raw(&home.path(), "CREATE TABLE notes (text)").await.unwrap();
    let refused = SqliteStore::open(home.path(), SqliteOptions::default()).await;
    assert!(matches!(refused, Err(OpenError::NotOurs)), "{refused:?}");
}

#[tokio::test]
async fn a_text_file_is_refused() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().parent().unwrap()).unwrap();
    std::fs::write(home.path(), "no database ".repeat(1_000)).unwrap();
    let refused = SqliteStore::open(home.path(), SqliteOptions::default()).await.expect_err("not a database");
    assert_eq!(refused.to_string(), "the store is unavailable: the file is not an SQLite database; name another one");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let home = Home::new();
    home.open().await.close().await.unwrap();
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
               VALUES (9999, 'from the future', 1, x'00', 0)";
    raw(&home.path(), sql).await.unwrap();
    let refused = SqliteStore::open(home.path(), SqliteOptions::default()).await;
    assert!(matches!(refused, Err(OpenError::NewerSchema { found: 9_999, .. })), "{refused:?}");
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let home = Home::new();
    home.open().await.close().await.unwrap();
    raw(&home.path(), "UPDATE _sqlx_migrations SET checksum = x'00'").await.unwrap();
    let refused = SqliteStore::open(home.path(), SqliteOptions::default()).await;
    assert!(matches!(refused, Err(OpenError::EditedMigration { version: 1 })), "{refused:?}");
}

#[tokio::test]
async fn an_older_schema_is_pending_and_refused_only_to_readers() {
    let home = Home::new();
    let pending = SqliteStore::pending_migrations(home.path()).await.unwrap();
    assert_eq!(pending[..2], ["0001_books", "0002_nodes"]);
    std::fs::create_dir_all(home.path().parent().unwrap()).unwrap();
    std::fs::write(home.path(), b"").unwrap();
    let refused = SqliteStore::open_read_only(home.path()).await;
    assert!(matches!(refused, Err(OpenError::OlderSchema { .. })), "{refused:?}");
    home.open().await.close().await.unwrap();
    assert!(SqliteStore::pending_migrations(home.path()).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_may_not_upgrade_makes_no_file_and_leaves_an_older_one_as_it_is() {
    let home = Home::new();
    let mut options = SqliteOptions::default();
    options.upgrade = false;
    let refused = SqliteStore::open(home.path(), options.clone()).await;
    assert!(matches!(refused, Err(OpenError::OlderSchema { .. })), "{refused:?}");
    assert!(!home.path().exists());
    std::fs::create_dir_all(home.path().parent().unwrap()).unwrap();
    std::fs::write(home.path(), b"").unwrap();
    let refused = SqliteStore::open(home.path(), options.clone()).await;
    assert!(matches!(refused, Err(OpenError::OlderSchema { .. })), "{refused:?}");
    assert!(!SqliteStore::pending_migrations(home.path()).await.unwrap().is_empty());
    home.open().await.close().await.unwrap();
    SqliteStore::open(home.path(), options).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_reader_sees_the_books_of_a_running_owner_and_cannot_write() {
    let home = Home::new();
    let owner = booked(&home).await;
    let reader = SqliteStore::open_read_only(home.path()).await.unwrap();
    assert_eq!(reader.usage(&UsageFilter::default(), PageRequest::default()).await.unwrap().items.len(), 3);
    assert!(matches!(reader.register("node", Boot(1), at(9)).await, Err(StoreError::Unavailable { .. })));
    reader.close().await.unwrap();
    owner.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_the_batch_and_the_store_recovers() {
    let home = Home::new();
    booked(&home).await.close().await.unwrap();
    let pages = u32::try_from(std::fs::metadata(home.path()).unwrap().len() / 4_096).unwrap();
    let mut options = SqliteOptions::default();
    options.pages_max = Some(pages + 2);
    let store = SqliteStore::open(home.path(), options).await.unwrap();
    let budget = store.budgets(&Default::default(), PageRequest::default()).await.unwrap().items.remove(0);
    let node = store.register("node", Boot(1), at(9)).await.unwrap();
    store.reclaim(at(9), Default::default(), at(9)).await.unwrap();
    let account = acquire(&store, &node, &budget, 790).await.account;
    let before = store.account(budget.spec.id, at(9)).await.unwrap();
    let ops: Vec<_> =
        (100..400).map(|number| settle(&node, hold_id(number), account, 1, budget.tenant.unwrap())).collect();
    for _ in 0..2 {
        let refused = store.commit(&node, &ops, at(10)).await;
        assert!(matches!(&refused, Err(StoreError::Unwritable { reason }) if reason.contains("full")), "{refused:?}");
        assert_eq!(store.account(budget.spec.id, at(10)).await.unwrap(), before);
    }
    store.commit(&node, &ops[..1], at(11)).await.unwrap();
    store.close().await.unwrap();

    let store = home.open().await;
    store.commit(&node, &ops, at(12)).await.unwrap();
    assert_eq!(store.account(budget.spec.id, at(12)).await.unwrap().settled, before.settled + 300);
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_backup_is_a_complete_copy() {
    let home = Home::new();
    let store = booked(&home).await;
    let copy = home.folder.path().join("copy.db");
    store.backup_to(&copy).await.unwrap();
    assert!(matches!(store.backup_to(&copy).await, Err(StoreError::Conflict { .. })));
    let restored = SqliteStore::open(&copy, SqliteOptions::default()).await.unwrap();
    assert_clean(&restored.audit().await.unwrap());
    assert_eq!(restored.usage(&UsageFilter::default(), PageRequest::default()).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_leaves_the_books_whole() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 1_000_000).await.account;
    for round in 0..40_u128 {
        let ops: Vec<_> = (1..=20).map(|n| settle(&node, hold_id(round * 100 + n), account, 1, tenant.id)).collect();
        let commit = store.commit(&node, &ops, at(3));
        tokio::select! {
            biased;
            _ = commit => {}
            () = yields(u32::try_from(round).unwrap()) => {}
        }
        store.commit(&node, &ops, at(4)).await.unwrap();
    }
    assert_eq!(store.account(budget.spec.id, at(5)).await.unwrap().settled, 800);
    assert_clean(&store.audit().await.unwrap());
}

async fn yields(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}
