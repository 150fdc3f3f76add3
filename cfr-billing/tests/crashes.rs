//! What a node leaves behind when it dies, and what the next one makes of it.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use cfr_billing::escrow::EscrowConfig;
use cfr_billing::store::{LedgerStore, OrphanPolicy, Reclaimed};
use cfr_core::id::{BudgetId, HoldId};
use cfr_core::ledger::{BudgetLedger, LedgerError};
use cfr_core::time::Period;
use support::{Bench, price};

/// A node that was killed over three holds: one settled, one with evidence of 12, one silent.
async fn killed() -> (Bench, BudgetId, [HoldId; 3]) {
    let mut bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    let mut holds = Vec::new();
    for _ in 0..3 {
        let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
        hold.committed.await.expect("it is written");
        holds.push(hold.id);
    }
    let now = bench.clock_now();
    bench
        .escrow
        .settle(holds[0], price(holds[0], now, 60))
        .expect("it is open")
        .committed
        .await
        .expect("it is written");
    bench.escrow.checkpoint(holds[1], price(holds[1], now, 12)).expect("it is open");
    bench.escrow.flush().await.expect("the store works");
    let config = EscrowConfig { orphan_policy: OrphanPolicy::Evidence, ..EscrowConfig::new("node-1") };
    bench.escrow = bench.start(config).await; // drops the first one
    (bench, budget, [holds[0], holds[1], holds[2]])
}

#[tokio::test]
async fn the_next_start_resolves_what_was_left_open() {
    let (bench, budget, holds) = killed().await;
    assert_eq!(*bench.escrow.reclaimed(), Reclaimed { leases: 1, released: 1, charged: 1, suspended: 0 });
    assert_eq!(bench.booked(budget).await, (1_000, 72, 0));
    let late = bench.escrow.settle(holds[2], price(holds[2], bench.clock_now(), 5)).map(|_| ());
    assert_eq!(late, Err(LedgerError::UnknownHold { hold: holds[2] }));
    bench.admits(&[budget], 928, "everything else is free").await;
    bench.assert_books_agree().await;
}

#[tokio::test]
async fn a_killed_node_writes_nothing_more() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.set_paused(true);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    let Bench { escrow, store, .. } = bench;
    drop(escrow);
    assert!(hold.committed.await.is_err(), "nobody will write it");
    store.faults.set_paused(false);
    tokio::task::yield_now().await;
    assert_eq!(store.faults.commits(), 0);
    assert_eq!(store.audit().await.expect("the store works"), []);
}

#[tokio::test]
async fn suspended_orphans_keep_their_amount_counted() {
    let mut bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench
        .escrow
        .authorize(bench.ask(&[budget], 300))
        .await
        .expect("there is room")
        .committed
        .await
        .expect("it is written");
    let config = EscrowConfig { orphan_policy: OrphanPolicy::Suspend, ..EscrowConfig::new("node-1") };
    bench.escrow = bench.start(config).await;
    assert!(bench.escrow.authorize(bench.ask(&[budget], 701)).await.is_err());
    bench.admits(&[budget], 700, "the rest is free").await;
}
