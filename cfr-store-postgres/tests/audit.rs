//! Books that somebody edited behind the store's back: each rule finds what only it can find.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_billing::audit_log::Act;
use cfr_billing::conformance::{CORRECTION_EDITS, TAMPERINGS, check_tampering, write_books};
use cfr_billing::store::{Correction, Finding, LedgerStore, StoreError, Sum};
use cfr_core::id::{AccountId, BudgetId};
use sqlx::{Connection, PgConnection};
use support::*;

#[tokio::test]
async fn every_edit_is_found_by_its_rule_alone() {
    for tampering in TAMPERINGS {
        let home = Home::new().await;
        let store = home.open().await;
        write_books(&store, tampering).await;
        edit(&home.url, tampering.sql).await;
        check_tampering(&store, tampering).await;
        store.close().await.unwrap();
    }
}

/// Runs SQL on the database without its triggers, and without the constraints that would refuse it.
async fn edit(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let without_rules = "SET session_replication_role = replica; \
         DO $$ DECLARE rule text; BEGIN \
           FOR rule IN SELECT conname FROM pg_constraint WHERE conrelid = 'accounts'::regclass AND contype = 'c' LOOP \
             EXECUTE format('ALTER TABLE accounts DROP CONSTRAINT %I', rule); \
           END LOOP; END $$";
    sqlx::raw_sql(without_rules).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_correction_of_an_account_that_is_not_there_is_refused() {
    let store = fresh().await;
    let correction =
        Correction { account: AccountId(7), budget: BudgetId::from_u128(1), sum: Sum::Settled, from: 0, to: 1 };
    let refused = store.correct(&correction, "why", &Act::of_system(at(1))).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_correction_says_what_it_changed_and_cannot_be_changed_afterwards() {
    for change in CORRECTION_EDITS {
        let (home, tampering) = (Home::new().await, &TAMPERINGS[0]);
        let store = home.open().await;
        write_books(&store, tampering).await;
        edit(&home.url, tampering.sql).await;
        check_tampering(&store, tampering).await;
        let refused = raw(&home.url, change).await;
        assert!(refused.as_ref().is_err_and(|error| error.contains("append-only")), "{change}: {refused:?}");
        edit(&home.url, change).await;
        let found = store.audit().await.unwrap();
        let changed = |finding: &Finding| finding.what.contains("was changed after it was sealed");
        assert!(found.iter().any(changed), "{change}: {found:#?}");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_put_before_the_first_batch_is_found() {
    let (home, tampering) = (Home::new().await, &TAMPERINGS[0]);
    let store = home.open().await;
    write_books(&store, tampering).await;
    assert_clean(&store.audit().await.unwrap());
    let forged = "INSERT INTO ledger_batches SELECT chain, 0, node, epoch, at, 1, 0, hash FROM ledger_batches LIMIT 1";
    edit(&home.url, forged).await;
    let found = store.audit().await.unwrap();
    assert!(found.iter().any(|finding| finding.what.contains("1 batches belong to no batch")), "{found:#?}");
    store.close().await.unwrap();
}
