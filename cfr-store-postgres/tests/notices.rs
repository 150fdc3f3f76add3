//! Word between processes: directly, through a pooler, and across a broken connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use cfr_billing::store::{Boot, LedgerStore};
use cfr_core::broadcast::{Broadcast, Notice};
use cfr_store_postgres::{PostgresOptions, PostgresStore};
use cfr_testbed::{PgBouncer, PoolMode, Postgres, Proxy};
use support::*;
use tokio::sync::broadcast::Receiver;

/// Longer than a notice takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The next notice that is not one of those after a gap.
async fn next(notices: &mut Receiver<Notice>) -> Notice {
    tokio::time::timeout(PATIENCE, notices.recv()).await.expect("a notice comes").unwrap()
}

/// Waits until the store hears the others, and takes the notices that stand for what it may have missed.
async fn connected(store: &PostgresStore) -> Receiver<Notice> {
    let mut notices = store.subscribe();
    for &notice in Notice::ALL {
        assert_eq!(next(&mut notices).await, notice);
    }
    assert!(store.is_connected());
    notices
}

fn pooled() -> PostgresOptions {
    let mut options = callers_clock();
    options.pooled = true;
    options
}

#[tokio::test]
async fn everybody_hears_a_notice_once() {
    let home = Home::new().await;
    let (here, there) = (home.open().await, home.open().await);
    let (mut own, mut others) = (connected(&here).await, connected(&there).await);
    here.publish(Notice::Access).await.unwrap();
    here.publish(Notice::Prices).await.unwrap();
    for notices in [&mut own, &mut others] {
        assert_eq!((next(notices).await, next(notices).await), (Notice::Access, Notice::Prices));
    }
    there.publish(Notice::Prices).await.unwrap();
    assert_eq!((next(&mut own).await, next(&mut others).await), (Notice::Prices, Notice::Prices));
}

#[tokio::test]
async fn other_databases_and_schemas_are_not_disturbed() {
    let home = Home::new().await;
    raw(&home.url, "CREATE SCHEMA other").await.unwrap();
    let other =
        PostgresStore::open(&format!("{}?options[search_path]=other", home.url), callers_clock()).await.unwrap();
    let here = home.open().await;
    let (mut heard, _heard) = (connected(&other).await, connected(&here).await);
    here.publish(Notice::Access).await.unwrap();
    other.publish(Notice::Prices).await.unwrap();
    assert_eq!(next(&mut heard).await, Notice::Prices);
    assert!(heard.is_empty());
}

#[tokio::test]
async fn behind_a_pooler_the_table_is_read() {
    let home = Home::new().await;
    let pool = PgBouncer::start(Postgres::shared().await, PoolMode::Transaction).await;
    let direct = home.open().await;
    let url = pool.url(home.url.rsplit('/').next().unwrap());
    let behind = PostgresStore::open(&url, pooled()).await.unwrap();
    let (mut heard, mut read) = (connected(&direct).await, connected(&behind).await);
    direct.publish(Notice::Access).await.unwrap();
    assert_eq!((next(&mut heard).await, next(&mut read).await), (Notice::Access, Notice::Access));
    behind.publish(Notice::Prices).await.unwrap();
    assert_eq!((next(&mut heard).await, next(&mut read).await), (Notice::Prices, Notice::Prices));
}

#[tokio::test]
async fn after_a_gap_every_kind_of_notice_is_given_once() {
    let home = Home::new().await;
    home.open().await.close().await.unwrap();
    let port = Postgres::shared().await.port();
    let proxy = Proxy::start(([127, 0, 0, 1], port).into()).await;
    let url = home.url.replace(&port.to_string(), &proxy.port().to_string());
    for mut options in [callers_clock(), pooled()] {
        options.connections_max = 2;
        let store = PostgresStore::open(&url, options).await.unwrap();
        let mut notices = connected(&store).await;
        proxy.cut();
        while store.is_connected() {
            tokio::task::yield_now().await;
        }
        proxy.heal();
        for &notice in Notice::ALL {
            assert_eq!(next(&mut notices).await, notice);
        }
        assert!(store.is_connected());
        store.publish(Notice::Access).await.unwrap();
        assert_eq!(next(&mut notices).await, Notice::Access);
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_given_up() {
    let home = Home::new().await;
    let port = Postgres::shared().await.port();
    let proxy = Proxy::start(([127, 0, 0, 1], port).into()).await;
    let url = home.url.replace(&port.to_string(), &proxy.port().to_string());
    let store = PostgresStore::open(&url, callers_clock()).await.unwrap();
    let mut notices = connected(&store).await;
    proxy.stall();
    while store.is_connected() {
        tokio::time::sleep(Duration::from_millis(10)).await; // the state is only asked for
    }
    store.publish(Notice::Access).await.expect_err("nobody hears it");
    assert_eq!(next(&mut notices).await, Notice::Access, "but this process does");
    proxy.reset();
    proxy.heal();
    for &notice in Notice::ALL {
        assert_eq!(next(&mut notices).await, notice);
    }
}

/// One node has all rights on a budget, another one wants some.
async fn rights_come_back(home: &Home, owner: &PostgresStore, asker: &PostgresStore) {
    let acme = tenant(owner).await;
    let budget = budget(owner, &acme, 1_000).await;
    let (id, here) = ([budget.spec.id], owner.register("owner", Boot(1), at(0)).await.unwrap());
    let there = asker.register("asker", Boot(2), at(0)).await.unwrap();
    let all = acquire(owner, &here, &budget, 1_000).await;

    let long = Duration::from_secs(3_600);
    let give = async {
        assert_eq!(owner.recalled(&here).await, id);
        owner.give_back(&here, &[(all.account, 400)]).await.unwrap();
    };
    let both = async { tokio::join!(asker.recall(&there, &id, long), give) };
    let (asked, ()) = tokio::time::timeout(PATIENCE, both).await.expect("the rights come back");
    asked.unwrap();
    assert_eq!(acquire(asker, &there, &budget, 400).await.granted, 400);

    owner.give_back(&here, &[(all.account, 600)]).await.unwrap();
    let alone = tokio::time::timeout(PATIENCE, asker.recall(&there, &id, long)).await;
    alone.expect("nobody else has rights: there is nothing to wait for").unwrap();
    assert_eq!(raw(&home.url, "SELECT count(*) FROM notices WHERE word LIKE '%wanted%'").await.unwrap(), "1");
}

#[tokio::test]
async fn idle_rights_come_back_when_another_node_asks() {
    let home = Home::new().await;
    rights_come_back(&home, &home.open().await, &home.open().await).await;
}

#[tokio::test]
async fn idle_rights_come_back_through_a_pooler() {
    let home = Home::new().await;
    let pool = PgBouncer::start(Postgres::shared().await, PoolMode::Transaction).await;
    let url = pool.url(home.url.rsplit('/').next().unwrap());
    let owner = PostgresStore::open(&url, pooled()).await.unwrap();
    let asker = PostgresStore::open(&url, pooled()).await.unwrap();
    rights_come_back(&home, &owner, &asker).await;
}

#[tokio::test]
async fn who_is_not_answered_waits_no_longer_than_its_patience() {
    let home = Home::new().await;
    let (owner, asker) = (home.open().await, home.open().await);
    let acme = tenant(&owner).await;
    let budget = budget(&owner, &acme, 1_000).await;
    let here = owner.register("owner", Boot(1), at(0)).await.unwrap();
    let there = asker.register("asker", Boot(2), at(0)).await.unwrap();
    acquire(&owner, &here, &budget, 1_000).await;
    let patience = Duration::from_millis(100);
    let asked = tokio::time::timeout(PATIENCE, asker.recall(&there, &[budget.spec.id], patience)).await;
    asked.expect("patience ends").expect("nobody answering is no error");
}
