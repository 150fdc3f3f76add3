//! How nodes share a store: names, clocks, wishes, recalls, and what is left when they go. All of it in virtual time.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::escrow::EscrowConfig;
use cfr_billing::store::{Boot, Incarnation, LedgerStore, StoreError};
use cfr_core::ledger::{AuthorizeError, BudgetLedger, LedgerError, ReleaseReason};
use cfr_core::time::Period;
use jiff::SignedDuration;
use support::cluster::{Cluster, IDLE, RECALL, TTL, config};
use tokio::time::{Instant, sleep};

const MOMENT: Duration = Duration::from_millis(1);
/// Two looks for idle rights, and what they take.
const UNTIL_IDLE: Duration = Duration::from_millis(2 * 2_000 + 100);

// --- Names -----------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_process_waits_until_a_killed_one_of_its_name_must_be_over() {
    let cluster = Cluster::new();
    drop(cluster.start("a").await);
    let begun = Instant::now();
    let _second = cluster.start("a").await;
    let waited = begun.elapsed();
    assert!(waited >= TTL && waited < TTL * 3 / 2, "{waited:?}");
    assert_eq!(cluster.store.nodes(support::START.parse().expect("a timestamp")).await.expect("it works")[0].epoch, 2);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_name_is_in_use_is_told_so() {
    let cluster = Cluster::new();
    let first = cluster.start("a").await;
    let begun = Instant::now();
    let second = cluster.try_start("a").await;
    assert!(matches!(&second, Err(StoreError::NodeInUse { node, .. }) if **node == *"a"), "{second:?}");
    assert!(begun.elapsed() < TTL, "the first one showed that it lives");
    let budget = cluster.budget(100, Period::Never);
    assert!(cluster.hold(&first, budget, 100).await.is_ok(), "nothing happened to it");
}

#[tokio::test(start_paused = true)]
async fn the_next_process_of_a_name_begins_at_once_after_a_shutdown() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let first = cluster.start("a").await;
    assert_eq!(cluster.serve(&first, budget, 60, 10).await, Some(10));
    first.shutdown().await.expect("the store works");
    assert_eq!(cluster.booked(budget).await, (100, 10, 0), "everything was given back");
    let begun = Instant::now();
    cluster.start("a").await;
    assert!(begun.elapsed() < MOMENT, "it did not wait");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_an_operator_fenced_begins_a_new_epoch() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let node = cluster.start("a").await;
    let running = cluster.hold(&node, budget, 60).await.expect("there is room");
    node.flush().await.expect("the store works");
    cluster.store.fence("a", &Act::of_system(clock_now(&cluster))).await.expect("it is known");
    assert_eq!(cluster.serve(&node, budget, 40, 40).await, Some(40), "40 are left until the old lease is reclaimed");
    cluster.settle(&node, running.id, 50).committed.await.expect("it is written");
    sleep(TTL + UNTIL_IDLE).await;
    assert_eq!(cluster.booked(budget).await, (100, 90, 0));
    let nodes = cluster.store.nodes(clock_now(&cluster)).await.expect("the store works");
    assert_eq!((nodes.len(), &*nodes[0].node, nodes[0].epoch), (1, "a", 2));
    cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_name_was_taken_goes_on_under_one_of_its_own() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let config = EscrowConfig { boot: Boot(0x1234_5678 << 96), ..config("a") };
    let node = cluster.start_with(&cluster.clock, config).await.expect("the name is free");
    let running = cluster.hold(&node, budget, 60).await.expect("there is room");
    // While this one was stopped for too long, an operator fenced it and started another one.
    cluster.store.fence("a", &Act::of_system(clock_now(&cluster))).await.expect("it is known");
    let usurper = cluster.start("a").await;
    assert_eq!(cluster.serve(&usurper, budget, 90, 30).await, Some(30), "the old lease was reclaimed at its start");
    sleep(UNTIL_IDLE).await;
    let fresh = cluster.hold(&node, budget, 20).await.expect("under another name");
    let late = cluster.settle(&node, running.id, 55);
    late.committed.await.expect("it is written");
    assert_eq!(cluster.booked(budget).await, (100, 80, 20), "the late charge took the 50 that were left");
    cluster.settle(&node, fresh.id, 20).committed.await.expect("it is written");
    let nodes = cluster.store.nodes(clock_now(&cluster)).await.expect("the store works");
    let nodes: Vec<_> = nodes.iter().map(|node| (&*node.node, node.epoch, node.alive)).collect();
    assert_eq!(nodes, [("a", 2, true), ("a-12345678", 1, true)]);
    assert_eq!(cluster.booked(budget).await, (100, 100, 0));
    cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_under_a_lost_name_is_not_charged_to_the_lease_of_the_next() {
    let cluster = Cluster::new();
    let (budget, other) = (cluster.budget(100, Period::Never), cluster.budget(100, Period::Never));
    let flush_delay = Duration::from_secs(1);
    let config = EscrowConfig { boot: Boot(0x1234_5678 << 96), flush_delay, ..config("a") };
    let node = cluster.start_with(&cluster.clock, config).await.expect("the name is free");
    let running = cluster.hold(&node, budget, 30).await.expect("there is room");
    node.flush().await.expect("the store works");
    cluster.store.fence("a", &Act::of_system(clock_now(&cluster))).await.expect("it is known");
    let _usurper = cluster.start("a").await;
    let late = cluster.settle(&node, running.id, 20);
    let _of_the_new_life = cluster.hold(&node, other, 10).await.expect("under another name");
    let _fresh = cluster.hold(&node, budget, 40).await.expect("there is room");
    let (granted, settled, leased) = cluster.booked(budget).await;
    assert_eq!((granted, settled), (100, 0), "the charge waits to be written");
    late.committed.await.expect("it is written");
    assert_eq!(cluster.booked(budget).await, (100, 20, leased));
    cluster.assert_books_agree().await;
}

// --- The clock -------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn periods_follow_the_clock_of_the_store() {
    let cluster = Cluster::starting_at("2026-03-10T23:59:50Z");
    let budget = cluster.budget(100, Period::Day);
    let ahead = cluster.start_with(&cluster.clock.ahead(SignedDuration::from_secs(60)), config("ahead")).await;
    let behind = cluster.start_with(&cluster.clock.ahead(SignedDuration::from_secs(-60)), config("behind")).await;
    let (ahead, behind) = (ahead.expect("the name is free"), behind.expect("the name is free"));
    assert_eq!((ahead.stats().clock_offset_us, behind.stats().clock_offset_us), (-60_000_000, 60_000_000));
    for (node, offset) in [(&ahead, 60), (&behind, -60)] {
        let by_its_clock = cluster.clock.ahead(SignedDuration::from_secs(offset));
        let ask = |nanos| cfr_core::ledger::HoldRequest {
            at: cfr_core::time::Clock::now(&by_its_clock),
            ..cluster.ask(&[budget], nanos)
        };
        let today = node.authorize(ask(50)).await.expect("there is room");
        cluster.settle(node, today.id, 50).committed.await.expect("it is written");
    }
    let spent = cluster.hold(&ahead, budget, 1).await;
    assert!(matches!(spent, Err(AuthorizeError::Denied(_))), "the day is not over: {spent:?}");
    sleep(Duration::from_secs(11)).await;
    for node in [&ahead, &behind] {
        assert_eq!(cluster.serve(node, budget, 50, 50).await, Some(50), "a new day");
    }
    let settled: Vec<_> =
        cluster.store.accounts(budget).await.expect("it works").iter().map(|account| account.settled).collect();
    assert_eq!(settled, [100, 100]);
}

// --- Wishes ----------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_warm_account_far_from_its_limit_rarely_asks_the_store() {
    const REQUESTS: u64 = 10_000;
    let cluster = Cluster::new();
    let budget = cluster.budget(1_000_000_000, Period::Never);
    let (node, _other) = (cluster.start("a").await, cluster.start("b").await);
    for _ in 0..REQUESTS {
        assert_eq!(cluster.serve(&node, budget, 100, 60).await, Some(60));
        sleep(MOMENT).await;
    }
    let acquires = node.stats().acquires;
    assert!(acquires * 100 <= REQUESTS, "{acquires} conversations for {REQUESTS} requests");
    let (_, settled, leased) = cluster.booked(budget).await;
    assert!(leased < 1_000_000, "no more than a few seconds of the load is leased, not {leased}");
    assert_eq!(settled, 60 * 10_000);
}

#[tokio::test(start_paused = true)]
async fn nodes_spend_a_budget_to_the_last_request_that_fits() {
    const HELD: i64 = 70;
    let cluster = Cluster::new();
    let budget = cluster.budget(100_000, Period::Never);
    let nodes = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let (mut charged, mut denied, mut turn) = (0, 0, 0);
    while denied < nodes.len() {
        match cluster.serve(&nodes[turn % nodes.len()], budget, HELD, HELD - 1).await {
            Some(price) => (charged, denied) = (charged + price, 0),
            None => denied += 1,
        }
        turn += 1;
    }
    let (granted, settled, _) = cluster.booked(budget).await;
    assert_eq!(settled, charged);
    assert!(granted - settled < HELD, "{} are left, which is more than the next request needs", granted - settled);
    cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn near_the_limit_a_node_takes_no_more_than_it_needs() {
    let cluster = Cluster::new();
    let budget = cluster.budget(1_000, Period::Never);
    let nodes = [cluster.start("a").await, cluster.start("b").await];
    sleep(TTL).await; // until each has heard of the other
    let (mut leased, mut room_seen) = (0, [0; 2]);
    for turn in 0..25 {
        let (node, seen) = (&nodes[turn % 2], &mut room_seen[turn % 2]);
        let asked = node.stats().acquires;
        cluster.hold(node, budget, 40).await.expect("there is room").committed.await.expect("it is leased");
        let before = std::mem::replace(&mut leased, cluster.booked(budget).await.2);
        assert!(leased - before <= 40.max(*seen / 4), "{} of {seen} at once", leased - before);
        if node.stats().acquires > asked {
            *seen = 1_000 - leased;
        }
    }
    assert_eq!(leased, 1_000, "25 holds of 40: what was leased in advance was recalled");
}

// --- Recall ----------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn what_another_node_does_not_use_is_there_within_a_moment() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    let running = cluster.hold(&first, budget, 100).await.expect("there is room");
    cluster.settle(&first, running.id, 10).committed.await.expect("it is written");
    let _in_use = cluster.hold(&first, budget, 20).await.expect("it has 90");
    let begun = Instant::now();
    let hold = cluster.hold(&second, budget, 70).await.expect("70 of them are idle");
    assert!(begun.elapsed() < RECALL, "{:?}", begun.elapsed());
    assert_eq!((hold.amount.nanos(), hold.available_after.nanos()), (70, 0));
    assert_eq!((second.stats().recalls, first.stats().lent), (1, 1));
    assert_eq!(cluster.booked(budget).await, (100, 10, 90));
    cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_freed_in_a_moment_is_there_in_time() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    let running = cluster.hold(&first, budget, 100).await.expect("there is room");
    let settled = async {
        sleep(RECALL / 2).await;
        cluster.settle(&first, running.id, 10).committed.await.expect("it is written");
    };
    let (hold, ()) = tokio::join!(cluster.hold(&second, budget, 90), settled);
    assert_eq!(hold.expect("it came back").amount.nanos(), 90);
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_is_asked_for_once_in_a_moment() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    let _running = cluster.hold(&first, budget, 95).await.expect("there is room");
    let begun = Instant::now();
    for _ in 0..100 {
        let denied = cluster.hold(&second, budget, 10).await;
        assert!(matches!(&denied, Err(AuthorizeError::Denied(denial)) if denial.available.nanos() == 5), "{denied:?}");
    }
    assert!(begun.elapsed() <= RECALL + MOMENT * 10, "{:?}", begun.elapsed());
    let stats = second.stats();
    assert!(stats.acquires <= 5 && stats.recalls <= 3, "{stats:?}");
    cluster
        .hold(&second, budget, 5)
        .await
        .expect("what is there is given even so")
        .committed
        .await
        .expect("it is leased");
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_denied_together_ask_once() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    let _running = cluster.hold(&first, budget, 95).await.expect("there is room");
    let begun = Instant::now();
    let denied = async { cluster.hold(&second, budget, 10).await.expect_err("it is held") };
    tokio::join!(denied, async {
        for _ in 0..20 {
            cluster.hold(&second, budget, 10).await.expect_err("it is held");
        }
    });
    assert!(begun.elapsed() <= RECALL * 2, "{:?}", begun.elapsed());
    assert!(second.stats().recalls <= 3, "{:?}", second.stats());
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_want_the_same_both_go_on() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100_000, Period::Never);
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    let work = async |node| {
        let mut served = 0;
        while cluster.serve(node, budget, 60_000, 700).await.is_some() {
            served += 1;
            tokio::task::yield_now().await;
        }
        served
    };
    let (left, right) = tokio::join!(work(&first), work(&second));
    assert!(left > 5 && right > 5, "{left} and {right}: neither starves");
    let (granted, settled, _) = cluster.booked(budget).await;
    assert!(granted - settled < 60_000, "both stopped only when nothing fitted any more: {settled}");
    cluster.assert_books_agree().await;
}

// --- Prices above holds ----------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_price_above_its_hold_takes_what_the_store_has_and_nothing_of_other_holds() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    let dear = cluster.hold(&first, budget, 10).await.expect("there is room");
    let other = cluster.hold(&first, budget, 30).await.expect("there is room");
    let far = cluster.hold(&second, budget, 40).await.expect("there is room");
    let settled = cluster.settle(&first, dear.id, 50);
    assert_eq!(settled.charged.nanos(), 50, "the first node does not know of the third hold yet");
    settled.committed.await.expect("it is written");
    assert_eq!(cluster.booked(budget).await, (100, 30, 70), "the record says what was there");
    let account = cluster.store.account(budget, clock_now(&cluster)).await.expect("the store works");
    assert_eq!(account.overrun, 20);
    for (node, hold, price) in [(&first, other.id, 30), (&second, far.id, 40)] {
        let settled = cluster.settle(node, hold, price);
        assert_eq!(settled.charged.nanos(), price, "its money was left alone");
        settled.committed.await.expect("it is written");
    }
    assert_eq!(cluster.booked(budget).await, (100, 100, 0));
    cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_raise_asks_the_store_and_then_the_other_nodes() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    let hold = cluster.hold(&first, budget, 10).await.expect("there is room");
    assert_eq!(cluster.serve(&second, budget, 80, 10).await, Some(10));
    first.extend(hold.id, 1, support::eur(60)).await.expect("70 are idle").await.expect("it is leased");
    let refused = first.extend(hold.id, 2, support::eur(30)).await;
    assert!(matches!(&refused, Err(AuthorizeError::Denied(denial)) if denial.available.nanos() == 20), "{refused:?}");
    assert_eq!(cluster.settle(&first, hold.id, 70).charged.nanos(), 70);
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_a_lost_life_is_not_raised_from_its_lease() {
    let cluster = Cluster::new();
    let (budget, other) = (cluster.budget(100, Period::Never), cluster.budget(100, Period::Never));
    let node = cluster.start("a").await;
    let running = cluster.hold(&node, budget, 60).await.expect("there is room");
    let ended = cluster.hold(&node, budget, 40).await.expect("there is room");
    let released = node.release(ended.id, ReleaseReason::Abandoned).expect("it is open");
    released.await.expect("the store works");
    cluster.store.fence("a", &Act::of_system(clock_now(&cluster))).await.expect("it is known");
    assert_eq!(cluster.serve(&node, other, 10, 10).await, Some(10), "the next life has begun");
    let refused = node.extend(running.id, 1, support::eur(30)).await;
    assert!(matches!(refused, Err(AuthorizeError::Denied(_))), "its 40 may be somebody else's now: {refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_denied_raise_names_the_raise_and_all_that_is_left() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let (first, second) = (cluster.start("a").await, cluster.start("b").await);
    let running = cluster.hold(&first, budget, 20).await.expect("there is room");
    let ended = cluster.hold(&first, budget, 40).await.expect("there is room");
    let _elsewhere = cluster.hold(&second, budget, 40).await.expect("there is room");
    cluster.settle(&first, ended.id, 0).committed.await.expect("it is written");
    let Err(AuthorizeError::Denied(denial)) = first.extend(running.id, 1, support::eur(50)).await else {
        panic!("only 40 are left");
    };
    assert_eq!((denial.asked.nanos(), denial.available.nanos()), (50, 40));
}

#[tokio::test(start_paused = true)]
async fn a_price_above_its_hold_takes_nothing_from_the_lease_of_a_lost_life() {
    let cluster = Cluster::new();
    let budget = cluster.budget(1_000, Period::Never);
    let node = cluster.start("a").await;
    let ended = cluster.hold(&node, budget, 900).await.expect("there is room");
    let running = cluster.hold(&node, budget, 60).await.expect("there is room");
    cluster.settle(&node, ended.id, 0).committed.await.expect("it is written");
    cluster.store.fence("a", &Act::of_system(clock_now(&cluster))).await.expect("it is known");
    assert_eq!(cluster.serve(&node, budget, 40, 10).await, Some(10), "a new life has its own rights");
    let settled = cluster.settle(&node, running.id, 500);
    assert_eq!((settled.charged.nanos(), settled.overrun.nanos()), (60, 440), "the idle 900 are out of reach");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_nothing_back_for_a_lost_life() {
    let cluster = Cluster::new();
    let budget = cluster.budget(1_000, Period::Never);
    let node = cluster.start("a").await;
    let ended = cluster.hold(&node, budget, 900).await.expect("there is room");
    let _of_the_lost_life = cluster.hold(&node, budget, 60).await.expect("there is room");
    cluster.settle(&node, ended.id, 0).committed.await.expect("it is written");
    cluster.store.fence("a", &Act::of_system(clock_now(&cluster))).await.expect("it is known");
    assert_eq!(cluster.serve(&node, budget, 10, 10).await, Some(10), "its end begins a new life");
    let _running = cluster.hold(&node, budget, 30).await.expect("which has its own rights");
    let (granted, settled, leased) = cluster.booked(budget).await;
    node.shutdown().await.expect("the store works");
    assert_eq!(cluster.booked(budget).await, (granted, settled, leased), "both leases cover what still runs");
}

#[tokio::test(start_paused = true)]
async fn what_a_hold_of_a_lost_life_frees_is_not_passed_on_from_the_lease_of_the_next() {
    let cluster = Cluster::new();
    let budget = cluster.budget(100, Period::Never);
    let (node, other) = (cluster.start("a").await, cluster.start("b").await);
    let running = cluster.hold(&node, budget, 60).await.expect("there is room");
    node.flush().await.expect("the store works");
    let refused = cluster.hold(&other, budget, 50).await;
    assert!(matches!(refused, Err(AuthorizeError::Denied(_))), "it wants what becomes free: {refused:?}");
    cluster.store.fence("a", &Act::of_system(clock_now(&cluster))).await.expect("it is known");
    let _of_the_next_life = cluster.hold(&node, budget, 30).await.expect("there is room");
    cluster.settle(&node, running.id, 0).committed.await.expect("it is written");
    sleep(MOMENT).await;
    assert_eq!(cluster.booked(budget).await, (100, 0, 90), "both leases are what they were");
    let refused = cluster.hold(&other, budget, 20).await;
    assert!(matches!(refused, Err(AuthorizeError::Denied(_))), "only 10 are nobody's: {refused:?}");
}

// --- Nothing strands -------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn after_the_last_request_nothing_stays_leased() {
    let cluster = Cluster::new();
    let budgets: Vec<_> = (0..5).map(|_| cluster.budget(20_000, Period::Never)).collect();
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        nodes.push(cluster.start(name).await);
    }
    for turn in 0..2_000_usize {
        let held = 10 + i64::try_from(turn * 37 % 90).expect("small");
        let path = [budgets[turn % 5], budgets[(turn * 7 + 1) % 5]];
        let path = if path[0] == path[1] { &path[..1] } else { &path[..] };
        let node = &nodes[turn * 3 % 4];
        if let Ok(hold) = node.authorize(cluster.ask(path, held)).await {
            drop(cluster.settle(node, hold.id, held * 2 / 3));
        }
        sleep(MOMENT).await;
    }
    sleep(UNTIL_IDLE).await;
    for budget in budgets {
        let (granted, settled, leased) = cluster.booked(budget).await;
        assert_eq!(leased, 0);
        assert!(settled > 0 && settled <= granted);
    }
    cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn what_lost_answers_left_behind_comes_back_with_the_renewals() {
    let cluster = Cluster::new();
    let (budget, other) = (cluster.budget(100, Period::Never), cluster.budget(100, Period::Never));
    let node = cluster.start("a").await;
    cluster.store.faults.lose_answers(1);
    let unsure = cluster.hold(&node, budget, 40).await;
    assert!(matches!(unsure, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{unsure:?}");
    assert_eq!(cluster.booked(budget).await.2, 40, "granted, and nobody knows");
    assert_eq!(cluster.serve(&node, other, 50, 10).await, Some(10));
    cluster.store.faults.lose_answers(1);
    sleep(IDLE * 2).await; // its rest goes back, and nobody hears of it
    sleep(TTL).await;
    assert_eq!((cluster.booked(budget).await.2, cluster.booked(other).await), (0, (100, 10, 0)));
    assert_eq!(cluster.serve(&node, budget, 100, 100).await, Some(100));
    cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn rights_in_use_stay_while_stranded_ones_go_back() {
    let cluster = Cluster::new();
    let (stranded, used) = (cluster.budget(100, Period::Never), cluster.budget(100, Period::Never));
    let node = cluster.start("a").await;
    let running = cluster.hold(&node, used, 60).await.expect("there is room");
    cluster.store.faults.lose_answers(1);
    cluster.hold(&node, stranded, 40).await.expect_err("nobody knows");
    sleep(TTL * 2).await;
    assert_eq!((cluster.booked(stranded).await.2, cluster.booked(used).await.2), (0, 60));
    assert_eq!(cluster.settle(&node, running.id, 60).charged.nanos(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_use_is_prolonged_without_being_asked_for() {
    let cluster = Cluster::new();
    let budget = cluster.budget(1_000, Period::Never);
    let node = cluster.start("a").await;
    let warm = cluster.hold(&node, budget, 500).await.expect("there is room");
    let _running = cluster.hold(&node, budget, 10).await.expect("rights in use are not idle");
    cluster.settle(&node, warm.id, 0).committed.await.expect("it is written");
    let acquires = node.stats().acquires;
    sleep(TTL * 3).await;
    cluster.store.faults.set_hung(true);
    let _ = cluster.hold(&node, budget, 400).await.expect("the lease covers it");
    assert_eq!(node.stats().acquires, acquires);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_misses_a_lease_begins_a_new_life() {
    let cluster = Cluster::new();
    let (budget, other) = (cluster.budget(100, Period::Never), cluster.budget(100, Period::Never));
    let node = cluster.start("a").await;
    let running = cluster.hold(&node, budget, 60).await.expect("there is room");
    let _kept = cluster.hold(&node, other, 60).await.expect("there is room");
    let account = cluster.store.account(budget, clock_now(&cluster)).await.expect("the store works").account;
    let by = Incarnation { node: "a".into(), epoch: 1 };
    cluster.store.give_back(&by, &[(account, 60)]).await.expect("somebody repaired too much");
    sleep(TTL).await;
    let nodes = cluster.store.nodes(clock_now(&cluster)).await.expect("the store works");
    assert_eq!((nodes.len(), nodes[0].epoch), (1, 2));
    assert_eq!(cluster.serve(&node, budget, 40, 40).await, Some(40));
    cluster.settle(&node, running.id, 60).committed.await.expect("it is written");
    assert_eq!(cluster.booked(budget).await, (100, 100, 0));
    cluster.assert_books_agree().await;
}

// --- A store that is away --------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_warm_request_does_not_wait_for_the_store() {
    let cluster = Cluster::new();
    let budget = cluster.budget(1_000, Period::Never);
    let node = cluster.start("a").await;
    assert_eq!(cluster.serve(&node, budget, 500, 0).await, Some(0));
    let before = (node.stats().acquires, node.stats().recalls);
    cluster.store.faults.set_hung(true);
    cluster.store.faults.set_paused(true);
    let begun = Instant::now();
    let hold = cluster.hold(&node, budget, 400).await.expect("the lease covers it");
    hold.committed.await.expect("the lease is durable");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!((node.stats().acquires, node.stats().recalls), before);
    let mut settled = cluster.settle(&node, hold.id, 300).committed;
    tokio::select! {
        biased;
        answer = &mut settled => panic!("nothing was written: {answer:?}"),
        () = sleep(MOMENT) => {}
    }
    cluster.store.faults.set_paused(false);
    settled.await.expect("it is written");
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_ends_at_once_leaves_only_its_end() {
    let cluster = Cluster::new();
    let budget = cluster.budget(1_000, Period::Never);
    let node = cluster.start("a").await;
    assert_eq!(cluster.serve(&node, budget, 100, 60).await, Some(60));
    assert_eq!(cluster.store.faults.ops(), 1);
    let _running = cluster.hold(&node, budget, 100).await.expect("there is room");
    sleep(Duration::from_millis(25)).await;
    assert_eq!(cluster.store.faults.ops(), 2, "one that runs is journaled");
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_admits_nothing_until_it_is_written() {
    let cluster = Cluster::new();
    let budget = cluster.budget(10_000, Period::Never);
    let config = EscrowConfig { outbox_ops_max: 5, ..config("a") };
    let node = cluster.start_with(&cluster.clock, config).await.expect("the name is free");
    assert_eq!(cluster.serve(&node, budget, 5_000, 0).await, Some(0));
    cluster.store.faults.set_paused(true);
    let mut held = Vec::new();
    let refused = loop {
        match cluster.hold(&node, budget, 10).await {
            Ok(hold) => held.push(hold.id),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AuthorizeError::Ledger(LedgerError::Unavailable { .. })), "{refused:?}");
    assert_eq!(held.len(), 5);
    let settled: Vec<_> = held.into_iter().map(|hold| cluster.settle(&node, hold, 7).committed).collect();
    cluster.store.faults.set_paused(false);
    for commit in settled {
        commit.await.expect("settlements are always taken");
    }
    assert_eq!(cluster.serve(&node, budget, 10, 10).await, Some(10));
    assert_eq!(cluster.booked(budget).await.1, 45);
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_invisible_to_warm_accounts() {
    let cluster = Cluster::new();
    let budget = cluster.budget(10_000, Period::Never);
    let node = cluster.start("a").await;
    let warm = cluster.hold(&node, budget, 5_000).await.expect("there is room");
    node.release(warm.id, ReleaseReason::NotSent).expect("it is open").await.expect("it is written");
    cluster.store.faults.set_broken(true);
    let mut settled = Vec::new();
    for _ in 0..10 {
        sleep(Duration::from_secs(1)).await;
        let hold = cluster.hold(&node, budget, 100).await.expect("the lease covers it");
        settled.push(cluster.settle(&node, hold.id, 60).committed);
    }
    let cold = cluster.hold(&node, cluster.budget(100, Period::Never), 1).await;
    assert!(matches!(cold, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{cold:?}");
    cluster.store.faults.set_broken(false);
    for commit in settled {
        commit.await.expect("the settlements waited");
    }
    assert_eq!(cluster.booked(budget).await.1, 600);
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_lease_time_fails_closed_and_ends_by_itself() {
    let cluster = Cluster::new();
    let budget = cluster.budget(10_000, Period::Never);
    let node = cluster.start("a").await;
    let warm = cluster.hold(&node, budget, 5_000).await.expect("there is room");
    let running = cluster.hold(&node, budget, 100).await.expect("there is room");
    cluster.settle(&node, warm.id, 0).committed.await.expect("it is written");
    cluster.store.faults.set_broken(true);
    let waiting = cluster.settle(&node, running.id, 90);
    sleep(TTL + Duration::from_secs(1)).await;
    let refused = cluster.hold(&node, budget, 100).await;
    assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))), "{refused:?}");
    assert!(waiting.committed.await.is_err(), "nobody knows yet");
    cluster.store.faults.set_broken(false);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.serve(&node, budget, 100, 10).await, Some(10), "it is there again");
    assert_eq!(cluster.booked(budget).await.1, 100, "and what waited was written");
    cluster.assert_books_agree().await;
}

#[tokio::test(start_paused = true)]
async fn no_hold_is_made_under_a_lease_that_may_have_ended() {
    let cluster = Cluster::new();
    let budget = cluster.budget(10_000, Period::Never);
    let node = cluster.start("a").await;
    let warm = cluster.hold(&node, budget, 9_000).await.expect("there is room");
    let _running = cluster.hold(&node, budget, 100).await.expect("rights in use are not idle");
    cluster.settle(&node, warm.id, 0).committed.await.expect("it is written");
    cluster.store.faults.set_broken(true);
    let begun = Instant::now();
    let mut served_until = Duration::ZERO;
    while begun.elapsed() < TTL * 2 {
        if cluster.hold(&node, budget, 10).await.is_ok() {
            served_until = begun.elapsed();
        }
        sleep(Duration::from_millis(250)).await;
    }
    assert!(served_until > TTL / 2 && served_until < TTL, "{served_until:?}");
}

fn clock_now(cluster: &Cluster) -> cfr_core::time::Timestamp {
    cfr_core::time::Clock::now(&cluster.clock)
}
