//! A role that runs the service keeps every rule of a store, and cannot rewrite what it booked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_billing::store::{Boot, LedgerStore};
use cfr_core::time::Timestamp;
use cfr_store_postgres::{OpenError, PostgresStore};
use support::*;

cfr_billing::store_conformance!(Box::new(application_store().await));

/// A fresh database that its owner brought up to date, and the address for a role that may only run the service.
async fn application_url(home: &Home) -> String {
    home.open().await.close().await.unwrap();
    let role = format!("app_{}", home.url.rsplit('/').next().unwrap());
    raw(&home.url, &format!("CREATE ROLE {role} LOGIN; SELECT grant_application_role('{role}')")).await.unwrap();
    home.url.replace("postgres@", &format!("{role}@"))
}

async fn application_store() -> PostgresStore {
    let url = application_url(&Home::new().await).await;
    PostgresStore::open(&url, callers_clock()).await.expect("the role may open an up-to-date database")
}

#[tokio::test]
async fn the_role_cannot_change_what_was_booked_nor_what_keeps_it() {
    let home = Home::new().await;
    let url = application_url(&home).await;
    let store = PostgresStore::open(&url, callers_clock()).await.unwrap();
    let acme = tenant(&store).await;
    let budget = budget(&store, &acme, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    store.commit(&node, &[settle(&node, hold_id(1), account, 7, acme.id)], at(3)).await.unwrap();
    let forbidden = [
        "UPDATE usage_records SET charged = 0",
        "DELETE FROM usage_records",
        "TRUNCATE usage_records",
        "DELETE FROM usage_records_default",
        "UPDATE ledger_entries SET amount = 0",
        "DELETE FROM ledger_batches",
        "UPDATE grants SET amount = 0",
        "DELETE FROM charge_keys",
        "UPDATE product_versions SET terms = '{}'",
        "DELETE FROM accounts",
        "DELETE FROM users",
        "ALTER TABLE usage_records DISABLE TRIGGER ALL",
        "DROP TABLE usage_records",
        "INSERT INTO cfr_migrations VALUES (99, 'mine', now(), true, '', 0)",
        "SELECT make_month('accounts', '2026-05-01')",
    ];
    for sql in forbidden {
        let refused = raw(&url, sql).await.expect_err(sql);
        assert!(refused.contains("permission denied") || refused.contains("must be owner"), "{sql}: {refused}");
    }
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn the_role_makes_the_months_that_it_needs() {
    let home = Home::new().await;
    let store = PostgresStore::open(&application_url(&home).await, callers_clock()).await.unwrap();
    store.reclaim(at(0), Default::default(), at(0)).await.unwrap();
    assert_eq!(raw(&home.url, "SELECT to_regclass('usage_records_2026_05') IS NOT NULL").await.unwrap(), "t");
}

#[tokio::test]
async fn a_role_that_ran_the_service_before_may_forget_nodes_after_the_upgrade() {
    let home = Home::new().await;
    application_url(&home).await;
    let role = format!("app_{}", home.url.rsplit('/').next().unwrap());
    raw(&home.url, &format!("REVOKE DELETE ON nodes FROM {role}")).await.unwrap();
    raw(&home.url, include_str!("../migrations/0008_forgotten_nodes.sql")).await.unwrap();
    let may = format!("SELECT has_table_privilege('{role}', 'nodes', 'DELETE')");
    assert_eq!(raw(&home.url, &may).await.unwrap(), "t");
}

#[tokio::test]
async fn a_role_that_may_do_nothing_is_told_so() {
    let home = Home::new().await;
    let role = format!("guest_{}", home.url.rsplit('/').next().unwrap());
    raw(&home.url, &format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let url = home.url.replace("postgres@", &format!("{role}@"));
    let refused = PostgresStore::open(&url, callers_clock()).await.expect_err("an empty schema of somebody else");
    assert!(matches!(&refused, OpenError::MissingRights { .. }), "{refused}");
    let rehearsed = PostgresStore::rehearse_migrations(&url, callers_clock()).await.expect_err("the same beforehand");
    assert!(matches!(&rehearsed, OpenError::MissingRights { .. }), "{rehearsed}");
    assert!(!PostgresStore::rehearse_migrations(&home.url, callers_clock()).await.unwrap().is_empty());
    home.open().await.close().await.unwrap();
    let refused = PostgresStore::open(&url, callers_clock()).await.expect_err("the books of somebody else");
    assert!(matches!(&refused, OpenError::MissingRights { .. }), "{refused}");
    assert!(refused.to_string().contains("grant_application_role"), "{refused}");
}

#[tokio::test]
async fn a_right_that_is_lost_later_refuses_the_operation_only() {
    let home = Home::new().await;
    let url = application_url(&home).await;
    let store = PostgresStore::open(&url, callers_clock()).await.unwrap();
    let role = format!("app_{}", home.url.rsplit('/').next().unwrap());
    raw(&home.url, &format!("REVOKE UPDATE ON nodes FROM {role}")).await.unwrap();
    let refused = store.register("node", Boot(1), Timestamp::UNIX_EPOCH).await.unwrap_err().to_string();
    assert!(refused.contains("lacks a right"), "{refused}");
    raw(&home.url, &format!("SELECT grant_application_role('{role}')")).await.unwrap();
    store.register("node", Boot(1), at(0)).await.expect("no restart is needed");
}
