//! When a decision counts as durable, and what happens when the store does not write.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use std::time::Duration;

use cfr_billing::escrow::EscrowConfig;
use cfr_billing::store::MemoryStore;
use cfr_core::ledger::{AuthorizeError, BudgetLedger, LedgerError, ReleaseReason};
use cfr_core::time::Period;
use support::{Bench, price};

/// Polls once: whether it is ready now.
async fn is_ready(future: &mut (impl Future + Unpin)) -> bool {
    tokio::select! {
        biased;
        _ = future => true,
        () = std::future::ready(()) => false,
    }
}

/// Lets the committer do what it can.
async fn let_tasks_run() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_decision_is_acknowledged_only_after_its_commit() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Never);
    bench.store.faults.set_paused(true);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room");
    let mut committed = hold.committed;
    let_tasks_run().await;
    assert!(!is_ready(&mut committed).await, "nothing is written yet");
    bench.store.faults.set_paused(false);
    committed.await.expect("it is written");
    assert_eq!(bench.store.faults.ops(), 1);
}

#[tokio::test]
async fn what_arrives_during_a_commit_is_the_next_batch() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.set_paused(true);
    let first = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room");
    let_tasks_run().await;
    let mut later = Vec::new();
    for _ in 0..20 {
        later.push(bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room").committed);
    }
    bench.store.faults.set_paused(false);
    first.committed.await.expect("it is written");
    for commit in later {
        commit.await.expect("it is written");
    }
    assert_eq!((bench.store.faults.commits(), bench.escrow.stats().last_batch_ops), (2, 20));
}

#[tokio::test]
async fn a_hold_that_ends_before_it_is_written_is_one_step() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.set_paused(true);
    let blocker = bench.escrow.authorize(bench.ask(&[budget], 1)).await.expect("there is room");
    let_tasks_run().await;
    let settled = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room");
    let released = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room");
    let charge = bench.escrow.settle(settled.id, price(settled.id, bench.clock_now(), 7)).expect("it is open");
    let freed = bench.escrow.release(released.id, ReleaseReason::NotSent).expect("it is open");
    bench.store.faults.set_paused(false);
    for commit in [blocker.committed, settled.committed, charge.committed, released.committed, freed] {
        commit.await.expect("it is written");
    }
    assert_eq!(bench.store.faults.ops(), 2, "the blocker, and one settlement");
    assert_eq!(bench.booked(budget).await, (1_000, 7, 993));
}

#[tokio::test]
async fn the_opening_of_an_ended_hold_is_durable_only_with_its_end() {
    let config = EscrowConfig { batch_ops_max: 1, ..EscrowConfig::new("node-1") };
    let bench = Bench::over(MemoryStore::exclusive(), config).await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.set_paused(true);
    let blocker = bench.escrow.authorize(bench.ask(&[budget], 1)).await.expect("there is room");
    let_tasks_run().await;
    let hold = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room");
    let settled = bench.escrow.settle(hold.id, price(hold.id, bench.clock_now(), 7)).expect("it is open");
    bench.store.faults.set_paused(false);
    blocker.committed.await.expect("it is written");
    hold.committed.await.expect("it is written");
    assert_eq!(bench.booked(budget).await.1, 7, "the charge is in the books when the opening is acknowledged");
    settled.committed.await.expect("it is written");
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_admits_nothing_and_loses_nothing() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    hold.committed.await.expect("it is written");
    bench.store.faults.fail_commits(3);
    let settled = bench.escrow.settle(hold.id, price(hold.id, bench.clock_now(), 60)).expect("settling never fails");
    let_tasks_run().await;
    let refused = bench.escrow.authorize(bench.ask(&[budget], 1)).await;
    assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{refused:?}");
    settled.committed.await.expect("the fourth attempt succeeds");
    assert_eq!(bench.escrow.stats().commit_errors, 3);
    assert_eq!(bench.booked(budget).await, (1_000, 60, 940));
    bench.admits(&[budget], 1, "the store works again").await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_is_lost_is_booked_once() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    bench.store.faults.lose_acks(2);
    let settled = bench.escrow.settle(hold.id, price(hold.id, bench.clock_now(), 60)).expect("it is open");
    settled.committed.await.expect("the third attempt is answered");
    assert_eq!(bench.booked(budget).await, (1_000, 60, 940));
    bench.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_and_the_charge_is_written_even_so() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    let served = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    served.committed.await.expect("it is written");
    bench.store.faults.set_broken(true);
    let unsure = bench.escrow.settle(served.id, price(served.id, bench.clock_now(), 60)).expect("it is open");
    assert!(matches!(unsure.committed.await, Err(LedgerError::Unavailable { .. })), "the patience is over");
    let queued = bench.escrow.stats().queued_ops;
    for _ in 0..10 {
        assert!(bench.escrow.flush().await.is_err(), "nobody waits for a store that does not answer");
    }
    assert_eq!(bench.escrow.stats().queued_ops, queued, "and who does not wait leaves nothing behind");
    bench.store.faults.set_broken(false);
    tokio::time::sleep(Duration::from_secs(2)).await; // more than the longest pause between attempts
    bench.escrow.flush().await.expect("the store answers again");
    assert_eq!(bench.booked(budget).await, (1_000, 60, 940));
}

/// For the owner of a store, and for a node whose lease would cover more calls for a while.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_store_that_takes_no_writes() {
    for bench in [Bench::exclusive().await, Bench::shared().await] {
        let budget = bench.budget(1_000, Period::Never);
        let served = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
        served.committed.await.expect("it is written");
        bench.store.faults.set_read_only(true);
        let told_at = tokio::time::Instant::now();
        let unsure = bench.escrow.settle(served.id, price(served.id, bench.clock_now(), 60)).expect("it is open");
        assert!(matches!(unsure.committed.await, Err(LedgerError::Unavailable { .. })));
        let refused = bench.escrow.authorize(bench.ask(&[budget], 1)).await;
        assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{refused:?}");
        assert!(bench.escrow.flush().await.is_err(), "nor for anything else");
        assert!(told_at.elapsed() < Duration::from_millis(100), "they were told at once");
        bench.store.faults.set_read_only(false);
        tokio::time::sleep(Duration::from_secs(2)).await; // more than the longest pause between attempts
        bench.escrow.flush().await.expect("the store takes writes again");
        assert_eq!(bench.booked(budget).await.1, 60);
        bench.admits(&[budget], 1, "it goes on by itself").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_a_store_that_does_not_answer() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.set_paused(true);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    assert!(matches!(hold.committed.await, Err(LedgerError::Unavailable { .. })), "the patience is over");
    let refused = bench.escrow.authorize(bench.ask(&[budget], 1)).await;
    assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{refused:?}");
    let freed = bench.escrow.release(hold.id, ReleaseReason::Abandoned).expect("it is open");
    assert!(freed.await.is_err(), "nobody knows");
    bench.store.faults.set_paused(false);
    let_tasks_run().await;
    bench.escrow.flush().await.expect("the store answers again");
    bench.admits(&[budget], 1_000, "everything is free").await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_a_store_that_fails() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.panic_at_commit();
    let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    hold.committed.await.expect("the second attempt succeeds");
    let settled = bench.escrow.settle(hold.id, price(hold.id, bench.clock_now(), 60)).expect("it is open");
    settled.committed.await.expect("the committer lives");
    assert_eq!((bench.escrow.stats().commit_errors, bench.booked(budget).await), (1, (1_000, 60, 940)));
}

#[tokio::test(start_paused = true)]
async fn who_needs_rights_or_a_balance_of_a_store_that_hangs_is_told() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.set_hung(true);
    let refused = bench.escrow.authorize(bench.ask(&[budget], 1)).await;
    assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{refused:?}");
    assert!(matches!(bench.escrow.balance(budget).await, Err(LedgerError::Unavailable { .. })));
    bench.store.faults.set_hung(false);
    let_tasks_run().await;
    bench.admits(&[budget], 1_000, "nothing was lost on the way").await;
}

#[tokio::test(start_paused = true)]
async fn rights_that_cannot_be_given_back_keep_nobody_waiting() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::CalendarMonth);
    let march = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    bench.clock.advance(Duration::from_secs(31 * 24 * 3_600));
    let april = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("a new period");
    bench.store.faults.set_hung(true);
    let settled = bench.escrow.settle(march.id, price(march.id, bench.clock_now(), 60)).expect("it is open");
    settled.committed.await.expect("commits work");
    let_tasks_run().await;
    let settled = bench.escrow.settle(april.id, price(april.id, bench.clock_now(), 60)).expect("it is open");
    assert!(matches!(settled.committed.await, Err(LedgerError::Unavailable { .. })), "the patience is over");
    bench.store.faults.set_hung(false);
    let_tasks_run().await;
    bench.escrow.flush().await.expect("the store answers again");
    bench.admits(&[budget], 940, "everything is free").await;
    bench.assert_books_agree().await;
}

#[tokio::test]
async fn a_full_outbox_admits_nothing_but_takes_settlements() {
    let config = EscrowConfig { outbox_ops_max: 2, ..EscrowConfig::new("node-1") };
    let bench = Bench::over(MemoryStore::exclusive(), config).await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.set_paused(true);
    let first = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room");
    let_tasks_run().await;
    let mut commits = Vec::new();
    for _ in 0..2 {
        commits.push(bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room").committed);
    }
    let refused = bench.escrow.authorize(bench.ask(&[budget], 10)).await;
    assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{refused:?}");
    commits.push(bench.escrow.settle(first.id, price(first.id, bench.clock_now(), 10)).expect("it is open").committed);
    bench.store.faults.set_paused(false);
    for commit in commits {
        commit.await.expect("it is written");
    }
    bench.admits(&[budget], 10, "the outbox is empty").await;
}

#[tokio::test]
async fn a_repeated_request_waits_for_the_same_commit() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench.store.faults.set_paused(true);
    let ask = bench.ask(&[budget], 10);
    let first = bench.escrow.authorize(ask.clone()).await.expect("there is room");
    let mut again = bench.escrow.authorize(ask).await.expect("it is the same").committed;
    let_tasks_run().await;
    assert!(!is_ready(&mut again).await, "nothing is written yet");
    bench.store.faults.set_paused(false);
    again.await.expect("it is written");
    first.committed.await.expect("it is written");
    assert_eq!(bench.store.faults.ops(), 1);
}

#[tokio::test]
async fn a_shutdown_writes_everything_and_gives_everything_back() {
    let bench = Bench::exclusive().await;
    let (budget, other) = (bench.budget(1_000, Period::Never), bench.budget(500, Period::Never));
    let settled = bench.escrow.authorize(bench.ask(&[budget, other], 100)).await.expect("there is room");
    let open = bench.escrow.authorize(bench.ask(&[budget], 50)).await.expect("there is room");
    let charge = bench.escrow.settle(settled.id, price(settled.id, bench.clock_now(), 60)).expect("it is open");
    bench.escrow.shutdown().await.expect("the store works");
    charge.committed.await.expect("it is written");
    open.committed.await.expect("it is written");
    assert_eq!(bench.booked(budget).await, (1_000, 60, 50), "what an open hold claims stays leased");
    assert_eq!(bench.booked(other).await, (500, 60, 0));
    let refused = bench.escrow.authorize(bench.ask(&[budget], 1)).await;
    assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{refused:?}");
    bench.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_forever_for_a_store_that_hangs() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("there is room");
    hold.committed.await.expect("it is written");
    bench.store.faults.set_hung(true);
    assert!(bench.escrow.shutdown().await.is_err(), "the rights are still leased");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_forever_for_a_broken_store() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(1_000, Period::Never);
    bench
        .escrow
        .authorize(bench.ask(&[budget], 100))
        .await
        .expect("there is room")
        .committed
        .await
        .expect("it is written");
    bench.store.faults.set_broken(true);
    let hold = bench.escrow.stats();
    assert_eq!(hold.open_holds, 1);
    let waiting = bench.escrow.flush();
    let (flushed, stopped) = tokio::join!(waiting, bench.escrow.shutdown());
    assert_eq!(flushed, Ok(()), "nothing was waiting to be written");
    assert_eq!(stopped, Ok(()), "nothing was lost; the lease stays until the next start");
}
