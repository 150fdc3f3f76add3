//! Moving the books from one file into another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_billing::conformance;
use cfr_billing::store::archive::{Archive, CopyError, copy};
use cfr_billing::store::{Boot, LedgerStore, StoreError};
use cfr_store_sqlite::{OpenError, SqliteOptions, SqliteStore};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use support::*;

#[tokio::test]
async fn everything_arrives_and_spending_goes_on() {
    conformance::archive_round_trip(&*fresh().await, &*fresh().await).await;
}

#[tokio::test]
async fn a_copy_needs_an_empty_target() {
    conformance::a_copy_needs_an_empty_target(&*fresh().await, &*fresh().await).await;
}

#[tokio::test]
async fn the_owner_of_a_file_may_copy_it() {
    conformance::a_source_at_work_is_not_copied(&*fresh().await).await;
}

#[tokio::test]
async fn a_copy_that_was_cut_off_is_opened_by_nobody() {
    let home = Home::new();
    let target = home.open().await;
    conformance::a_copy_that_is_cut_off_is_not_complete(&*fresh().await, &target).await;
    target.close().await.unwrap();
    for refused in [
        SqliteStore::open(home.path(), SqliteOptions::default()).await,
        SqliteStore::open_read_only(home.path()).await,
        SqliteStore::open_stopped(home.path()).await,
    ] {
        let refused = refused.expect_err("half of the books");
        assert!(matches!(&refused, OpenError::UnfinishedCopy { origin, .. } if origin == "the rules"), "{refused}");
    }
}

#[tokio::test]
async fn a_copy_leaves_its_source_to_the_byte() {
    let (home, target) = (Home::new(), fresh().await);
    let owner = home.open().await;
    tenant(&owner).await;
    owner.close().await.unwrap();
    let lock = home.path().with_extension("db.lock");
    for word in ["", "4711"] {
        std::fs::write(&lock, word).unwrap();
        let before = std::fs::read(home.path()).unwrap();
        let source = SqliteStore::open_stopped(home.path()).await.unwrap();
        source.snapshot(at(9)).await.unwrap();
        source.close().await.unwrap();
        assert_eq!(std::fs::read(home.path()).unwrap(), before);
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), word, "whether the owner crashed is still known");
    }
    let source = SqliteStore::open_stopped(home.path()).await.unwrap();
    copy(&source, &*target, "here", at(9), &mut |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_source_that_a_process_writes_is_refused() {
    let home = Home::new();
    let owner = home.open().await;
    let refused = SqliteStore::open_stopped(home.path()).await.expect_err("it is in use");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    let reader = SqliteStore::open_read_only(home.path()).await.unwrap();
    let refused = reader.snapshot(at(9)).await.expect_err("a mere reader cannot know");
    assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
    owner.close().await.unwrap();
}

#[tokio::test]
async fn a_source_that_is_not_there_or_too_old_is_refused_and_not_made() {
    let home = Home::new();
    let refused = SqliteStore::open_stopped(home.path()).await.expect_err("no file");
    assert_eq!(refused.to_string(), "no such database file");
    assert!(!home.path().exists());
    std::fs::create_dir_all(home.path().parent().unwrap()).unwrap();
    std::fs::write(home.path(), b"").unwrap();
    let refused = SqliteStore::open_stopped(home.path()).await.expect_err("an older schema");
    assert!(refused.to_string().contains("`migrate`"), "{refused}");
}

/// What a copy would seal anew must be right before.
#[tokio::test]
async fn books_that_were_changed_behind_the_back_are_not_copied() {
    let (home, target) = (Home::new(), fresh().await);
    let owner = home.open().await;
    let budget = budget(&owner, &tenant(&owner).await, 1_000).await;
    let node = owner.register("node", Boot(1), at(0)).await.unwrap();
    acquire(&owner, &node, &budget, 600).await;
    owner.close().await.unwrap();
    raw(&home, "UPDATE accounts SET granted = granted + 1").await;
    let source = SqliteStore::open_stopped(home.path()).await.unwrap();
    let refused = copy(&source, &*target, "here", at(9), &mut |_| {}).await.expect_err("the books do not agree");
    assert!(matches!(refused, CopyError::SourceFindings(_)), "{refused}");
    target.check_empty().await.expect("the target is untouched");
}

/// The head of the source's chain stays as evidence, with what was compared.
#[tokio::test]
async fn a_complete_copy_remembers_where_it_came_from() {
    let (home, source) = (Home::new(), fresh().await);
    budget(&source, &tenant(&source).await, 1_000).await;
    source.account(cfr_core::id::BudgetId::from_u128(1), at(1)).await.expect_err("no such budget");
    let target = home.open().await;
    let report = copy(&*source, &target, "sqlite:there", at(9), &mut |_| {}).await.unwrap();
    target.close().await.unwrap();
    let mut connection = SqliteConnectOptions::new().filename(home.path()).connect().await.unwrap();
    let sql = "SELECT source, json_array_length(sections), started_at <= ended_at FROM copies";
    let row: (String, i64, bool) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
    assert_eq!(row, ("sqlite:there".into(), i64::try_from(report.sections.len()).unwrap(), true));
}

async fn raw(home: &Home, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(home.path()).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
