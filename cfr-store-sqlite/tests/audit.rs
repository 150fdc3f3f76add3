//! Books that somebody edited behind the store's back: each rule finds what only it can find.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use cfr_billing::audit_log::Act;
use cfr_billing::conformance::{CORRECTION_EDITS, TAMPERINGS, check_tampering, write_books};
use cfr_billing::store::{AuditRule, Finding, LedgerStore};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use support::*;

#[tokio::test]
async fn every_edit_is_found_by_its_rule_alone() {
    for tampering in TAMPERINGS {
        let home = Home::new();
        let store = home.open().await;
        write_books(&store, tampering).await;
        store.close().await.unwrap();
        edit(&home.path(), tampering.sql).await;
        check_tampering(&home.open().await, tampering).await;
    }
}

/// Runs SQL on the file without its triggers and constraints.
async fn edit(path: &Path, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).foreign_keys(false);
    let mut connection = options.connect().await.unwrap();
    let triggers = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'trigger'");
    let triggers: Vec<String> = triggers.fetch_all(&mut connection).await.unwrap();
    for trigger in triggers {
        let drop = sqlx::raw_sql(AssertSqlSafe(format!("DROP TRIGGER {trigger}")));
        drop.execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("PRAGMA ignore_check_constraints = ON").execute(&mut connection).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_corrected_sum_beyond_the_limit_admits_nothing_until_it_has_drained() {
    let (home, tampering) = (Home::new(), &TAMPERINGS[0]);
    let store = home.open().await;
    write_books(&store, tampering).await;
    store.close().await.unwrap();
    edit(&home.path(), "UPDATE accounts SET leased = leased - 390, overcommit = 0, granted = 60 WHERE settled > 0")
        .await;
    let store = home.open().await;
    let found = store.audit().await.unwrap();
    assert!(found.iter().any(|finding| finding.rule == AuditRule::Limit), "{found:#?}");
    for correction in found.iter().filter_map(|finding| finding.correction) {
        store.correct(&correction, "a lost page", &Act::of_system(at(9))).await.unwrap();
    }
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_correction_of_an_account_that_is_not_there_is_refused() {
    use cfr_billing::store::{Correction, StoreError, Sum};
    use cfr_core::id::{AccountId, BudgetId};
    let home = Home::new();
    let store = home.open().await;
    let correction =
        Correction { account: AccountId(7), budget: BudgetId::from_u128(1), sum: Sum::Settled, from: 0, to: 1 };
    let refused = store.correct(&correction, "why", &Act::of_system(at(1))).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_correction_says_what_it_changed_and_cannot_be_changed_afterwards() {
    for change in CORRECTION_EDITS {
        let (home, tampering) = (Home::new(), &TAMPERINGS[0]);
        let store = home.open().await;
        write_books(&store, tampering).await;
        store.close().await.unwrap();
        edit(&home.path(), tampering.sql).await;
        let store = home.open().await;
        check_tampering(&store, tampering).await;
        store.close().await.unwrap();
        edit(&home.path(), change).await;
        let found = home.open().await.audit().await.unwrap();
        let changed = |finding: &Finding| finding.what.contains("was changed after it was sealed");
        assert!(found.iter().any(changed), "{change}: {found:#?}");
    }
}

#[tokio::test]
async fn a_file_that_is_open_for_writing_can_be_audited_by_another_process() {
    let (home, tampering) = (Home::new(), &TAMPERINGS[0]);
    let store = home.open().await;
    write_books(&store, tampering).await;
    let reader = cfr_store_sqlite::SqliteStore::open_read_only(home.path()).await.unwrap();
    assert_clean(&reader.audit().await.unwrap());
    let piece = reader.audit_accounts(cfr_core::id::AccountId(0), 1).await.unwrap();
    assert_eq!((piece.checked, piece.findings), (1, Vec::new()));
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_put_before_the_first_batch_is_found() {
    let (home, tampering) = (Home::new(), &TAMPERINGS[0]);
    let store = home.open().await;
    write_books(&store, tampering).await;
    assert_clean(&store.audit().await.unwrap());
    store.close().await.unwrap();
    let forged = "INSERT INTO ledger_batches SELECT 0, node, epoch, at, 1, 0, hash FROM ledger_batches LIMIT 1";
    edit(&home.path(), forged).await;
    let found = home.open().await.audit().await.unwrap();
    assert!(found.iter().any(|finding| finding.what.contains("1 batches belong to no batch")), "{found:#?}");
}
