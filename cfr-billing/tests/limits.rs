//! Limits under races, changes and period edges.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::budget::GrantKind;
use cfr_billing::store::{CatalogStore, LedgerStore, NewGrant};
use cfr_core::ledger::{AuthorizeError, BudgetLedger, HoldRequest, LedgerError, LimitPolicy};
use cfr_core::money::{Currency, Money};
use cfr_core::time::Period;
use support::{Bench, RECHECK, eur, price, top_up};
use tokio::task::JoinSet;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_that_race_for_one_budget_spend_exactly_its_limit() {
    const TASKS: i64 = 64;
    const PRICE: i64 = 7;
    let bench = Arc::new(Bench::exclusive().await);
    let (tenant, platform) =
        (bench.budget(10_000, Period::Never), bench.budget_with(0, Period::Never, LimitPolicy::Unlimited));
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let bench = bench.clone();
        tasks.spawn(async move {
            let user = bench.budget(1_000_000, Period::Never);
            let mut charged = 0;
            loop {
                match bench.escrow.authorize(bench.ask(&[user, tenant, platform], 10)).await {
                    Ok(hold) => {
                        let settled =
                            bench.escrow.settle(hold.id, price(hold.id, bench.clock_now(), PRICE)).expect("it is open");
                        charged += settled.charged.nanos();
                        settled.committed.await.expect("the store works");
                    }
                    Err(AuthorizeError::Denied(denial)) => {
                        assert_eq!(denial.budget, tenant);
                        return (user, charged);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        let (user, charged) = done.expect("no task panics");
        assert_eq!(bench.booked(user).await.1, charged);
        total += charged;
    }
    let (_, settled, _) = bench.booked(tenant).await;
    assert_eq!((settled, bench.booked(platform).await.1), (total, total));
    assert!(settled <= 10_000 && 10_000 - settled < 10, "less than one hold is left: {settled}");
    bench.assert_books_agree().await;
}

#[tokio::test]
async fn running_holds_settle_in_their_period_and_new_ones_in_the_next() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Day);
    let yesterday = bench.escrow.authorize(bench.ask(&[budget], 80)).await.expect("there is room");
    bench.clock.advance(DAY);
    let today = bench.escrow.authorize(bench.ask(&[budget], 100)).await.expect("a new period has its own money");
    assert_eq!(today.available_after, eur(0));
    let settled = bench.escrow.settle(yesterday.id, price(yesterday.id, bench.clock_now(), 50)).expect("it is open");
    settled.committed.await.expect("it is written");
    bench.escrow.flush().await.expect("the store works");
    bench
        .escrow
        .settle(today.id, price(today.id, bench.clock_now(), 90))
        .expect("it is open")
        .committed
        .await
        .expect("it is written");
    let accounts = bench.store.accounts(budget).await.expect("the store works");
    assert_eq!(accounts.iter().map(|account| account.settled).collect::<Vec<_>>(), [90, 50]);
    bench.assert_books_agree().await;
}

#[tokio::test]
async fn the_first_instant_of_a_period_spends_its_own_money() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Day);
    bench.admits(&[budget], 10, "there is room").await;
    bench.clock.advance(DAY / 2); // from noon to midnight
    let first = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("a new period");
    assert_eq!(first.available_after, eur(90), "yesterday's 90 are over");
    bench.clock.advance(DAY + DAY / 2);
    let later = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("a new period");
    assert_eq!(later.available_after, eur(90), "and so is what was left of the next day");
    assert_eq!(bench.store.accounts(budget).await.expect("the store works").len(), 3);
}

#[tokio::test]
async fn bought_money_follows_into_the_next_period_after_the_last_hold() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Day);
    bench.escrow.grant(&top_up(budget, 50, "bought")).await.expect("the budget exists");
    let running = bench.escrow.authorize(bench.ask(&[budget], 20)).await.expect("there is room");
    bench.clock.advance(DAY);
    bench.admits(&[budget], 10, "there is room").await;
    bench
        .escrow
        .settle(running.id, price(running.id, bench.clock_now(), 20))
        .expect("it is open")
        .committed
        .await
        .expect("it is written");
    while bench.booked(budget).await.0 < 150 {
        bench.escrow.flush().await.expect("the store works"); // until the committer gave the old rights back
    }
    bench.clock.advance(RECHECK);
    bench.admits(&[budget], 140, "100 included and 50 bought, 10 held").await;
    bench.assert_books_agree().await;
}

#[tokio::test]
async fn what_is_held_without_a_limit_is_leased_too() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget_with(0, Period::Never, LimitPolicy::Unlimited);
    bench.admits(&[budget], 10, "there is no limit").await;
    let (_, _, leased) = bench.booked(budget).await;
    assert!(leased >= 10, "{leased}");
}

#[tokio::test]
async fn a_grant_makes_room_at_once() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(10, Period::Never);
    bench.escrow.authorize(bench.ask(&[budget], 11)).await.expect_err("it is too much");
    bench.escrow.grant(&top_up(budget, 1, "bought")).await.expect("the budget exists");
    bench.admits(&[budget], 11, "it was bought").await;
}

#[tokio::test]
async fn money_that_another_program_granted_is_found_a_moment_later() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(10, Period::Never);
    bench.escrow.authorize(bench.ask(&[budget], 11)).await.expect_err("it is too much");
    bench.store.grant(&top_up(budget, 1, "behind its back"), bench.clock_now()).await.expect("the budget exists");
    bench.clock.advance(RECHECK);
    bench.admits(&[budget], 11, "it is there").await;
}

#[tokio::test]
async fn idle_rights_do_not_stand_in_the_way_of_a_removal() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Never);
    let held = bench.escrow.authorize(bench.ask(&[budget], 30)).await.expect("there is room");
    let take = |amount: i64, key: &str| NewGrant { kind: GrantKind::Adjustment, ..top_up(budget, -amount, key) };
    bench.escrow.grant(&take(71, "too-much")).await.expect_err("30 are held");
    bench.escrow.grant(&take(70, "the-rest")).await.expect("70 are idle");
    bench.escrow.authorize(bench.ask(&[budget], 1)).await.expect_err("nothing is left");
    let settled = bench.escrow.settle(held.id, price(held.id, bench.clock_now(), 30)).expect("it is open");
    assert_eq!(settled.charged, eur(30));
}

#[tokio::test]
async fn a_lowered_limit_holds_at_once() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Never);
    bench.admits(&[budget], 30, "there is room").await;
    let act = Act::of_system(bench.clock_now());
    let change = bench.store.set_budget_limit(budget, 1, 40, &act);
    bench.escrow.recalled(budget, change).await.expect("the version is right");
    let denied = bench.escrow.authorize(bench.ask(&[budget], 11)).await;
    assert!(matches!(&denied, Err(AuthorizeError::Denied(denial)) if denial.available == eur(10)), "{denied:?}");
    bench.admits(&[budget], 10, "10 are left").await;
}

#[tokio::test]
async fn what_a_hold_leaves_free_after_its_limit_was_lowered_is_not_spent_beyond_the_limit() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Never);
    let held = bench.escrow.authorize(bench.ask(&[budget], 60)).await.expect("there is room");
    let act = Act::of_system(bench.clock_now());
    let change = bench.store.set_budget_limit(budget, 1, 50, &act);
    bench.escrow.recalled(budget, change).await.expect("the version is right");
    let settled = bench.escrow.settle(held.id, price(held.id, bench.clock_now(), 20)).expect("it is open");
    settled.committed.await.expect("it is written");
    let denied = bench.escrow.authorize(bench.ask(&[budget], 31)).await;
    assert!(matches!(&denied, Err(AuthorizeError::Denied(denial)) if denial.available == eur(30)), "{denied:?}");
    bench.admits(&[budget], 30, "30 are left").await;
}

#[tokio::test]
async fn a_new_limit_changes_the_running_period_and_no_past_one() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Day);
    bench.admits(&[budget], 30, "there is room").await;
    let act = Act::of_system(bench.clock_now());
    let lowered = bench.store.set_budget_limit(budget, 1, 40, &act);
    bench.escrow.recalled(budget, lowered).await.expect("the version is right");
    assert_eq!(bench.booked(budget).await.0, 40);
    bench.clock.advance(DAY / 2); // from noon to midnight, before anybody opened the next period
    let act = Act::of_system(bench.clock_now());
    let raised = bench.store.set_budget_limit(budget, 2, 70, &act);
    bench.escrow.recalled(budget, raised).await.expect("the version is right");
    bench.admits(&[budget], 70, "a new day").await;
    let accounts = bench.store.accounts(budget).await.expect("the store works");
    assert_eq!(accounts.iter().map(|account| account.granted).collect::<Vec<_>>(), [70, 40]);
}

#[tokio::test]
async fn a_clamped_hold_takes_what_there_is() {
    let bench = Bench::exclusive().await;
    let (rich, poor) = (bench.budget(100, Period::Never), bench.budget(25, Period::Never));
    let ask = HoldRequest { amount_min: eur(20), ..bench.ask(&[rich, poor], 60) };
    let hold = bench.escrow.authorize(ask).await.expect("the minimum is there");
    assert_eq!((hold.amount, hold.available_after), (eur(25), eur(0)));
}

#[tokio::test]
async fn a_price_below_zero_or_in_another_currency_closes_no_hold() {
    let bench = Bench::exclusive().await;
    let budget = bench.budget(100, Period::Never);
    let hold = bench.escrow.authorize(bench.ask(&[budget], 10)).await.expect("there is room");
    let mut foreign = price(hold.id, bench.clock_now(), 5);
    foreign.charge.price = Money::from_nanos(5, Currency::USD);
    for wrong in [price(hold.id, bench.clock_now(), -5), foreign] {
        let refused = bench.escrow.settle(hold.id, wrong.clone());
        assert!(matches!(refused, Err(LedgerError::Malformed { .. })), "{refused:?}");
        let refused = bench.escrow.checkpoint(hold.id, wrong);
        assert!(matches!(refused, Err(LedgerError::Malformed { .. })), "{refused:?}");
    }
    let settled = bench.escrow.settle(hold.id, price(hold.id, bench.clock_now(), 5)).expect("it is still open");
    settled.committed.await.expect("it is written");
    assert_eq!(bench.booked(budget).await.1, 5);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_no_rights_along() {
    let bench = Bench::exclusive().await;
    for _ in 0..20 {
        let budget = bench.budget(100, Period::Never);
        tokio::select! {
            biased;
            held = bench.escrow.authorize(bench.ask(&[budget], 10)) => drop(held.map(|hold| hold.id)),
            () = tokio::task::yield_now() => {}
        }
        bench.escrow.forget(budget).await;
        let balance = bench.escrow.balance(budget).await.expect("the budget exists");
        assert_eq!(balance.available.nanos() + balance.held.nanos(), 100, "nothing is stranded");
        bench.admits(&[budget], balance.available.nanos(), "it is available").await;
    }
}
