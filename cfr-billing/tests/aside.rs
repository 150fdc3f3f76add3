//! Rights that are set aside for work that outlasts processes.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::batch::life;
use cfr_billing::escrow::{AsideAsk, Escrow, EscrowConfig};
use cfr_billing::store::{Incarnation, LedgerStore, SettledHold};
use cfr_core::id::{AccountId, BatchId, BudgetId, HoldId};
use cfr_core::ledger::{AuthorizeError, BudgetLedger};
use cfr_core::time::Period;
use support::{Bench, eur, record};

const DAYS: Duration = Duration::from_secs(30 * 24 * 3_600);

fn a_life(bench: &Bench) -> Incarnation {
    life(BatchId::from_u128(bench.fresh()))
}

async fn aside(
    escrow: &Escrow,
    life: &Incarnation,
    path: &[BudgetId],
    nanos: i64,
) -> Result<Vec<AccountId>, AuthorizeError> {
    escrow.set_aside(AsideAsk { life, path, amount: eur(nanos), keep: DAYS }).await
}

fn charge(bench: &Bench, life: &Incarnation, accounts: &[AccountId], id: u128, nanos: i64) -> SettledHold {
    let id = HoldId::from_u128(id);
    let mut record = record(id, bench.clock_now(), nanos);
    record.charged_nanos = nanos;
    let record = Box::new(record);
    SettledHold { id, epoch: life.epoch, accounts: accounts.into(), charged: nanos, record }
}

async fn available(escrow: &Escrow, budget: BudgetId) -> i64 {
    escrow.balance(budget).await.expect("the store works").available.nanos()
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_held_on_the_whole_path_and_charged_once() {
    for bench in [Bench::exclusive().await, Bench::shared().await] {
        let path = [bench.budget(100, Period::Never), bench.budget(200, Period::Never)];
        bench.admits(&path, 10, "the node has rights of its own before").await;
        let life = a_life(&bench);
        let accounts = aside(&bench.escrow, &life, &path, 60).await.expect("there is room");
        assert_eq!((available(&bench.escrow, path[0]).await, available(&bench.escrow, path[1]).await), (30, 130));
        bench.admits(&path, 30, "what is left is there for calls").await;
        let too_much = bench.escrow.authorize(bench.ask(&path, 1)).await;
        assert!(matches!(too_much, Err(AuthorizeError::Denied(_))), "{too_much:?}");

        let charges = || vec![charge(&bench, &life, &accounts, 901, 15), charge(&bench, &life, &accounts, 902, 5)];
        bench.escrow.settle_aside(&life, charges()).await.expect("the store works");
        bench.escrow.settle_aside(&life, charges()).await.expect("a second time changes nothing");
        bench.escrow.end_aside(&life, &path).await.expect("the store works");
        bench.escrow.settle_aside(&life, charges()).await.expect("nor does a time after its end");
        bench.escrow.end_aside(&life, &path).await.expect("it is over");
        let (_, settled, _) = bench.booked(path[0]).await;
        assert_eq!(settled, 20);
        bench.admits(&path, 40, "the rest is free again at once").await;
        bench.assert_books_agree().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_and_leaves_nothing() {
    for bench in [Bench::exclusive().await, Bench::shared().await] {
        let path = [bench.budget(100, Period::Never), bench.budget(50, Period::Never)];
        let refused = aside(&bench.escrow, &a_life(&bench), &path, 60).await;
        let Err(AuthorizeError::Denied(denial)) = refused else { panic!("expected a denial, got {refused:?}") };
        assert_eq!((denial.budget, denial.available, denial.asked), (path[1], eur(50), eur(60)));
        bench.admits(&path, 50, "nothing was taken").await;
        let nodes = bench.store.nodes(bench.clock_now()).await.expect("the store works");
        assert_eq!(nodes.len(), 1, "a life without rights is not kept: {nodes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_takes_nothing_along_and_the_next_one_charges() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Never);
    let life = a_life(&bench);
    let accounts = aside(&bench.escrow, &life, &[budget], 60).await.expect("there is room");
    bench.clock.advance(Duration::from_secs(24 * 3_600));
    let next = bench.start(EscrowConfig::new("node-1")).await;
    assert_eq!(available(&next, budget).await, 40, "the start found nothing to resolve");
    next.settle_aside(&life, vec![charge(&bench, &life, &accounts, 901, 50)]).await.expect("the store works");
    next.end_aside(&life, &[budget]).await.expect("the store works");
    assert_eq!(available(&next, budget).await, 50);
    bench.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn rights_that_another_node_does_not_use_are_asked_for() {
    let bench = Bench::shared().await;
    let budget = bench.budget(100, Period::Never);
    let other = bench.start(EscrowConfig::new("node-2")).await;
    let hold = other.authorize(bench.ask(&[budget], 1)).await.expect("there is room");
    other
        .release(hold.id, cfr_core::ledger::ReleaseReason::NotSent)
        .expect("it is open")
        .await
        .expect("the store works");
    aside(&bench.escrow, &a_life(&bench), &[budget], 100).await.expect("the other one gives back");
}

#[tokio::test(start_paused = true)]
async fn work_that_is_charged_after_its_rights_were_taken_away_is_charged_to_what_is_left() {
    let bench = Bench::shared().await;
    let budget = bench.budget(100, Period::Never);
    let life = a_life(&bench);
    let accounts = aside(&bench.escrow, &life, &[budget], 60).await.expect("there is room");
    bench.store.fence(&life.node, &Act::of_system(bench.clock_now())).await.expect("the life is known");
    bench.start(EscrowConfig::new("node-2")).await;
    assert_eq!(available(&bench.escrow, budget).await, 100, "an operator took them away");
    bench.escrow.settle_aside(&life, vec![charge(&bench, &life, &accounts, 901, 50)]).await.expect("the store works");
    assert_eq!(bench.booked(budget).await.1, 50);
    bench.assert_books_agree().await;
}
