//! Rules of periods.

use std::time::Duration;

use cfr_core::id::BudgetId;
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::{Period, Timestamp};

use super::fixture::{DAY, Node, ask, top_up};
use crate::budget::GrantKind;
use crate::store::{NewGrant, Store, StoreError};

/// Opened by whoever needs it first, once.
pub async fn a_new_period_has_its_own_account(store: &dyn Store) {
    let today = Node::start(store).await;
    let budget = today.budget(100, LimitPolicy::Hard, Period::Day).await;
    let account = today.lease(budget, 40).await;
    let tomorrow = today.later(DAY);
    let opened = tomorrow.state(budget).await;
    assert_ne!(opened.account, account);
    assert_eq!((opened.seq, opened.granted, opened.settled, opened.leased), (2, 100, 0, 0));
    let midnight: Timestamp = "2026-03-11T00:00:00Z".parse().expect("a timestamp");
    assert_eq!((opened.period.start, opened.period.end), (midnight, midnight.checked_add(DAY).ok()));
    let leased = tomorrow.acquire(&[ask(budget, 1, 1)]).await.expect("there is room");
    assert_eq!(leased.first().map(|grant| grant.account), Some(opened.account));
    let seqs: Vec<_> =
        store.accounts(budget).await.expect("the store works").iter().map(|account| account.seq).collect();
    assert_eq!(seqs, [2, 1], "the newest first");
    today.assert_books_agree().await;
}

/// Included money is spent first.
pub async fn included_money_does_not_roll_over_but_bought_money_does(store: &dyn Store) {
    let today = Node::start(store).await;
    let budget = today.budget(100, LimitPolicy::Hard, Period::Day).await;
    today.grant(budget, 50, "bought").await;
    let account = today.lease(budget, 120).await;
    today.commit(&[today.settle(today.hold(), &[account], 120)]).await;
    let tomorrow = today.later(DAY);
    assert_eq!(tomorrow.sums(budget).await, (130, 0, 0), "100 included and 30 bought");
    let past = store.accounts(budget).await.expect("the store works").into_iter().next_back().expect("it has two");
    assert_eq!((past.granted, past.settled), (120, 120));
    assert_eq!(tomorrow.later(DAY).sums(budget).await, (130, 0, 0), "and again");
    today.assert_books_agree().await;
}

/// What was bought, given away or taken over from another system, period after period; not what an administrator corrected.
pub async fn every_kind_of_bought_money_rolls_over(store: &dyn Store) {
    let today = Node::start(store).await;
    let kinds = [(GrantKind::TopUp, 50), (GrantKind::Promo, 50), (GrantKind::Import, 50), (GrantKind::Adjustment, 0)];
    let mut budgets = Vec::new();
    for (kind, carried) in kinds {
        let budget = today.budget(100, LimitPolicy::Hard, Period::Day).await;
        let grant = NewGrant { kind, ..top_up(budget, 50, &format!("{kind:?}")) };
        store.grant(&grant, today.now).await.expect("the budget exists");
        budgets.push((budget, kind, 100 + carried));
    }
    for days in 1..=2 {
        for (budget, kind, expected) in &budgets {
            assert_eq!(today.later(DAY * days).sums(*budget).await, (*expected, 0, 0), "{kind:?}, day {days}");
        }
    }
    today.assert_books_agree().await;
}

/// What was leased at the edge follows when the lease comes back.
pub async fn bought_money_that_comes_back_late_rolls_over(store: &dyn Store) {
    let today = Node::start(store).await;
    let budget = today.budget(10, LimitPolicy::Hard, Period::Day).await;
    today.grant(budget, 50, "bought").await;
    let account = today.lease(budget, 60).await;
    let tomorrow = today.later(DAY);
    assert_eq!(tomorrow.sums(budget).await, (10, 0, 0));
    tomorrow.commit(&[today.settle(today.hold(), &[account], 25)]).await;
    store.give_back(&today.by, &[(account, 35)]).await.expect("the store works");
    assert_eq!(tomorrow.sums(budget).await, (45, 0, 0));
    today.assert_books_agree().await;
}

/// Whoever sets the machine's clock back does not get a second period.
pub async fn a_clock_that_goes_back_reopens_nothing(store: &dyn Store) {
    let today = Node::start(store).await;
    let budget = today.budget(100, LimitPolicy::Hard, Period::Day).await;
    let opened = today.later(DAY).state(budget).await;
    assert_eq!(today.state(budget).await.account, opened.account);
}

/// Also when it ends in the next one.
pub async fn a_hold_is_charged_in_its_own_period(store: &dyn Store) {
    let today = Node::start(store).await;
    let budget = today.budget(100, LimitPolicy::Hard, Period::Day).await;
    let (account, hold) = (today.lease(budget, 40).await, today.hold());
    today.commit(&[today.open(hold, &[account], 40)]).await;
    let tomorrow = today.later(DAY);
    tomorrow.lease(budget, 100).await;
    tomorrow.commit(&[today.settle(hold, &[account], 30)]).await;
    assert_eq!(tomorrow.sums(budget).await, (100, 0, 100));
    let past = store.accounts(budget).await.expect("the store works").into_iter().next_back().expect("it has two");
    assert_eq!((past.account, past.settled, past.leased), (account, 30, 10));
    today.assert_books_agree().await;
}

/// Asking is enough; asking for what does not exist is not.
pub async fn a_budget_without_an_account_opens_one(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    assert_eq!(store.accounts(budget).await.expect("the store works"), []);
    assert_eq!(node.state(budget).await.seq, 1);
    assert_eq!(node.later(Duration::from_secs(1)).state(budget).await.seq, 1);
    let unknown = store.account(BudgetId::generate(node.now), node.now).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}
