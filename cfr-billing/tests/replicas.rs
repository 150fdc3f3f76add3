//! Several nodes over one store.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::store::{LedgerStore, MemoryStore, OrphanPolicy};
use cfr_core::id::BudgetId;
use cfr_core::ledger::{AuthorizeError, BudgetLedger, LedgerError};
use cfr_core::time::Period;
use support::{Bench, price};
use tokio::task::JoinSet;

const TTL: Duration = Duration::from_secs(30);

fn config(node: &str) -> EscrowConfig {
    EscrowConfig { lease_ttl: TTL, idle_after: Some(TTL / 3), ..EscrowConfig::new(node) }
}

/// Lets the wall clock, the uptime and the tasks' timers pass together, as they do outside tests.
async fn pass(bench: &Bench, time: Duration) {
    const STEP: Duration = Duration::from_secs(1);
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(STEP);
        bench.clock.advance(step);
        tokio::time::sleep(step).await;
        left -= step;
    }
}

async fn spend_everything(node: Arc<Escrow>, bench: Arc<Bench>, budget: BudgetId) -> i64 {
    let mut charged = 0;
    while let Ok(hold) = node.authorize(bench.ask(&[budget], 10)).await {
        let settled = node.settle(hold.id, price(hold.id, bench.clock_now(), 9)).expect("it is open");
        charged += settled.charged.nanos();
        settled.committed.await.expect("the store works");
    }
    charged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_race_never_overspend_together() {
    let bench = Arc::new(Bench::over(MemoryStore::shared(), config("node-1")).await);
    let budget = bench.budget(5_000, Period::Never);
    let mut tasks = JoinSet::new();
    for number in 2..6 {
        let node = bench.start(config(&format!("node-{number}"))).await;
        for _ in 0..4 {
            tasks.spawn(spend_everything(node.clone(), bench.clone(), budget));
        }
    }
    let mut total = 0;
    while let Some(charged) = tasks.join_next().await {
        total += charged.expect("no task panics");
    }
    let (granted, settled, leased) = bench.booked(budget).await;
    assert_eq!(settled, total);
    assert!(settled + leased <= granted);
    bench.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn idle_rights_go_back_to_the_others() {
    let bench = Bench::over(MemoryStore::shared(), config("node-1")).await;
    let other = bench.start(config("node-2")).await;
    let budget = bench.budget(100, Period::Never);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    bench
        .escrow
        .settle(hold.id, price(hold.id, bench.clock_now(), 10))
        .expect("it is open")
        .committed
        .await
        .expect("it is written");
    assert_eq!(bench.booked(budget).await, (100, 10, 90), "the first node has it");
    pass(&bench, TTL).await;
    assert_eq!(bench.booked(budget).await, (100, 10, 0), "it came back");
    let hold = other.authorize(bench.ask(&[budget], 90)).await.expect("it is there");
    assert_eq!(hold.amount.nanos(), 90);
}

/// Nobody has to know that unused rights keep other nodes waiting, and that the owner of a store would only take them again.
#[tokio::test(start_paused = true)]
async fn unused_rights_go_back_within_seconds_only_where_others_may_need_them() {
    for (store, unused) in [(MemoryStore::shared(), 0), (MemoryStore::exclusive(), 90)] {
        let bench = Bench::over(store, EscrowConfig::new("node-1")).await;
        let budget = bench.budget(100, Period::Never);
        let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
        let settled = bench.escrow.settle(hold.id, price(hold.id, bench.clock_now(), 10)).expect("it is open");
        settled.committed.await.expect("it is written");
        pass(&bench, Duration::from_secs(5)).await;
        assert_eq!(bench.booked(budget).await, (100, 10, unused));
    }
}

#[tokio::test(start_paused = true)]
async fn leases_that_are_renewed_do_not_end() {
    let config = EscrowConfig { idle_after: Some(TTL * 100), ..config("node-1") };
    let bench = Bench::over(MemoryStore::shared(), config).await;
    let budget = bench.budget(100, Period::Never);
    let first = bench.escrow.authorize(bench.ask(&[budget], 60)).await.expect("there is room");
    bench
        .escrow
        .settle(first.id, price(first.id, bench.clock_now(), 10))
        .expect("it is open")
        .committed
        .await
        .expect("it is written");
    pass(&bench, TTL * 4).await;
    bench.store.faults.set_broken(true);
    bench.admits(&[budget], 50, "what was leased two minutes ago is still ours").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_its_store_stops_at_the_deadline() {
    let bench = Bench::over(MemoryStore::shared(), config("node-1")).await;
    let budget = bench.budget(100, Period::Never);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 50)).await.expect("there is room");
    hold.committed.await.expect("it is written");
    let freed = bench.escrow.release(hold.id, cfr_core::ledger::ReleaseReason::NotSent).expect("it is open");
    freed.await.expect("it is written");
    bench.store.faults.set_broken(true);
    let warm = bench.escrow.authorize(bench.ask(&[budget], 20)).await.expect("the lease covers it");
    bench.clock.advance(TTL); // the keeper's timer stands still: as in a process that was stopped
    let refused = bench.escrow.authorize(bench.ask(&[budget], 20)).await;
    assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{refused:?}");
    bench.escrow.settle(warm.id, price(warm.id, bench.clock_now(), 20)).expect("running calls go on");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lost_its_leases_begins_a_new_epoch() {
    let bench = Bench::over(MemoryStore::shared(), config("node-1")).await;
    let budget = bench.budget(100, Period::Never);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 60)).await.expect("there is room");
    bench.escrow.flush().await.expect("the store works");
    // A partition that outlives every grace: another node takes the lease over.
    bench.clock.advance(TTL * 100);
    let expired_before = bench.clock_now().checked_sub(TTL).expect("inside the calendar");
    let found =
        bench.store.reclaim(expired_before, OrphanPolicy::Release, bench.clock_now()).await.expect("the store works");
    assert_eq!((found.leases, found.released), (1, 1));
    let fresh = bench.escrow.authorize(bench.ask(&[budget], 70)).await.expect("under a new epoch");
    let late = bench.escrow.settle(hold.id, price(hold.id, bench.clock_now(), 40)).expect("it is still running here");
    late.committed.await.expect("it is written");
    let (granted, settled, leased) = bench.booked(budget).await;
    assert_eq!((granted, settled, leased), (100, 30, 70), "the late charge took what was left, and no more");
    fresh.committed.await.expect("it is written");
    bench.assert_books_agree().await;
}
