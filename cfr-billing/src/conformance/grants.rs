//! Rules of grants and limits.

use std::time::Duration;

use cfr_core::ledger::LimitPolicy;
use cfr_core::time::Period;

use super::fixture::{DAY, Node, ask, top_up};
use crate::audit_log::Act;
use crate::budget::GrantKind;
use crate::store::{AcquireError, NewGrant, PageRequest, Store, StoreError};

/// A payment that is reported twice is money once.
pub async fn a_grant_is_booked_once_per_key(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let first = store.grant(&top_up(budget, 50, "invoice-1"), node.now).await.expect("the budget exists");
    let later = node.later(Duration::from_secs(60));
    let second = store.grant(&top_up(budget, 50, "invoice-1"), later.now).await.expect("the budget exists");
    assert_eq!(first, second);
    node.grant(budget, 7, "invoice-2").await;
    assert_eq!(node.sums(budget).await, (157, 0, 0));
    node.assert_books_agree().await;
}

/// One key, one grant.
pub async fn a_key_with_other_terms_is_a_conflict(store: &dyn Store) {
    let node = Node::start(store).await;
    let (budget, other) = (node.hard(100).await, node.hard(100).await);
    node.grant(budget, 50, "invoice-1").await;
    let given = NewGrant { kind: GrantKind::Promo, ..top_up(budget, 50, "invoice-1") };
    for grant in [top_up(budget, 51, "invoice-1"), top_up(other, 50, "invoice-1"), given] {
        let refused = store.grant(&grant, node.now).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }
    assert_eq!((node.sums(budget).await, node.sums(other).await), ((150, 0, 0), (100, 0, 0)));
}

/// Unless somebody insists; then nothing more is admitted.
pub async fn money_that_is_used_cannot_be_taken(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 60).await;
    node.commit(&[node.settle(node.hold(), &[account], 30)]).await;
    let take = |amount: i64, key: &str| NewGrant { kind: GrantKind::Adjustment, ..top_up(budget, -amount, key) };
    let refused = store.grant(&take(41, "too-much"), node.now).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    store.grant(&take(40, "the-rest"), node.now).await.expect("it is free");
    assert_eq!(node.sums(budget).await, (60, 30, 30));
    store.grant(&NewGrant { overcommit: true, ..take(20, "more") }, node.now).await.expect("it is insisted on");
    assert_eq!((node.sums(budget).await, node.state(budget).await.room()), ((40, 30, 30), -20));
    node.assert_books_agree().await;
}

/// And periods to come are granted the new one.
pub async fn a_limit_changes_the_open_period_by_the_difference(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    node.grant(budget, 5, "bought").await;
    let raised = store.set_budget_limit(budget, 1, 130, &Act::of_system(node.now)).await.expect("the version is right");
    assert_eq!((raised.spec.included_nanos, raised.version), (130, 2));
    assert_eq!(node.sums(budget).await, (135, 0, 0));
    let stale = store.set_budget_limit(budget, 1, 10, &Act::of_system(node.now)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    assert_eq!(node.sums(budget).await, (135, 0, 0));
    node.assert_books_agree().await;
}

/// The next period begins with the new limit, and the same limit again is no change.
pub async fn a_limit_changes_no_period_that_is_over(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.budget(100, LimitPolicy::Hard, Period::Day).await;
    node.state(budget).await;
    let later = node.later(Duration::from_secs(60));
    store.set_budget_limit(budget, 1, 130, &Act::of_system(later.now)).await.expect("the version is right");
    assert_eq!(node.sums(budget).await, (130, 0, 0), "the period runs");
    // From noon on: in this very moment the day is over.
    let midnight = node.later(DAY / 2);
    store.set_budget_limit(budget, 2, 170, &Act::of_system(midnight.now)).await.expect("the version is right");
    assert_eq!(midnight.sums(budget).await, (170, 0, 0));
    store.set_budget_limit(budget, 3, 170, &Act::of_system(midnight.now)).await.expect("the version is right");
    let accounts = store.accounts(budget).await.expect("the store works");
    assert_eq!(accounts.iter().map(|account| account.granted).collect::<Vec<_>>(), [170, 130]);
    let grants = store.grants(budget, PageRequest::default()).await.expect("the store works");
    assert_eq!(grants.items.iter().map(|grant| grant.amount_nanos).collect::<Vec<_>>(), [170, 30, 100]);
    node.assert_books_agree().await;
}

/// Over-committed is a state that books can be in, not room to spend.
pub async fn a_limit_lowered_below_use_admits_nothing_until_it_has_drained(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 80).await;
    store.set_budget_limit(budget, 1, 50, &Act::of_system(node.now)).await.expect("the version is right");
    assert_eq!((node.sums(budget).await, node.state(budget).await.room()), ((50, 0, 80), -30));
    let refused = node.acquire(&[ask(budget, 1, 1)]).await;
    assert!(matches!(refused, Err(AcquireError::Denied { room: -30, .. })), "{refused:?}");
    let terms = node.acquire(&[ask(budget, 0, 20)]).await.expect("nothing is needed");
    assert_eq!(terms.first().map(|grant| (grant.granted, grant.room)), Some((0, -30)), "and nothing is taken");
    node.commit(&[node.settle(node.hold(), &[account], 10)]).await;
    assert_eq!((node.sums(budget).await, node.state(budget).await.room()), ((50, 10, 70), -30));
    store.give_back(&node.by, &[(account, 40)]).await.expect("the store works");
    let granted = node.acquire(&[ask(budget, 10, i64::MAX)]).await.expect("it has drained");
    assert_eq!(granted.first().map(|grant| grant.granted), Some(10), "not what was over-committed before");
    node.assert_books_agree().await;
}

/// With what every period includes as the oldest.
pub async fn grants_are_listed_newest_first(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    node.state(budget).await;
    for (minute, amount) in [(1, 10), (2, 20), (3, 30)] {
        node.later(Duration::from_secs(60 * minute)).grant(budget, amount, &format!("key-{amount}")).await;
    }
    let listed = store.grants(budget, PageRequest { after: None, limit: 3 }).await.expect("the store works");
    assert_eq!(listed.items.iter().map(|grant| grant.amount_nanos).collect::<Vec<_>>(), [30, 20, 10]);
    let rest = store.grants(budget, PageRequest { after: listed.next, limit: 3 }).await.expect("the store works");
    let rest: Vec<_> = rest.items.iter().map(|grant| (grant.amount_nanos, grant.kind)).collect();
    assert_eq!(rest, [(100, GrantKind::Included)]);
}
