//! Rules of leases.

use cfr_core::id::BudgetId;
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::Period;

use super::fixture::{Node, ask};
use crate::store::{AcquireError, Store, StoreError};

/// One budget of two is short: nothing is leased on the other.
pub async fn rights_are_granted_on_every_budget_or_on_none(store: &dyn Store) {
    let node = Node::start(store).await;
    let (rich, poor) = (node.hard(100).await, node.hard(5).await);
    let refused = node.acquire(&[ask(rich, 10, 10), ask(poor, 10, 10)]).await;
    assert!(matches!(refused, Err(AcquireError::Denied { .. })), "{refused:?}");
    assert_eq!((node.sums(rich).await, node.sums(poor).await), ((100, 0, 0), (5, 0, 0)));
    let granted = node.acquire(&[ask(rich, 5, 7), ask(poor, 5, 7)]).await.expect("there is room");
    let granted: Vec<_> = granted.iter().map(|grant| (grant.budget, grant.granted)).collect();
    assert_eq!(granted, [(rich, 7), (poor, 5)], "in the order of the asks");
    assert_eq!((node.sums(rich).await, node.sums(poor).await), ((100, 0, 7), (5, 0, 5)));
    node.assert_books_agree().await;
}

/// Everything is as much as there is, and then there is nothing.
pub async fn rights_are_granted_as_far_as_there_is_room(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    node.lease(budget, 30).await;
    let rest = node.acquire(&[ask(budget, 0, i64::MAX)]).await.expect("asks for nothing at least");
    assert_eq!(rest.first().map(|grant| grant.granted), Some(70));
    let nothing = node.acquire(&[ask(budget, 0, i64::MAX)]).await.expect("asks for nothing at least");
    assert_eq!(nothing.first().map(|grant| grant.granted), Some(0));
    assert_eq!(node.sums(budget).await, (100, 0, 100));
    node.assert_books_agree().await;
}

/// The denial says which budget, and what it has.
pub async fn a_denial_names_the_budget_with_the_least_room(store: &dyn Store) {
    let node = Node::start(store).await;
    let (first, tightest, last) = (node.hard(9).await, node.hard(3).await, node.hard(6).await);
    let refused = node.acquire(&[ask(first, 10, 10), ask(tightest, 10, 10), ask(last, 10, 10)]).await;
    let Err(AcquireError::Denied { budget, room, .. }) = refused else { panic!("expected a denial, got {refused:?}") };
    assert_eq!((budget, room), (tightest, 3));
}

/// The account, its period and its terms are known before anything is leased.
pub async fn an_ask_for_nothing_opens_the_period(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.budget(100, LimitPolicy::Hard, Period::Day).await;
    let granted = node.acquire(&[ask(budget, 0, 0)]).await.expect("asks for nothing");
    let grant = granted.first().expect("one grant per ask");
    assert!(grant.period.contains(node.now) && grant.period.end.is_some(), "{:?}", grant.period);
    assert_eq!((grant.granted, grant.policy), (0, LimitPolicy::Hard));
    assert_eq!(node.state(budget).await.account, grant.account);
    assert_eq!(node.sums(budget).await, (100, 0, 0));
}

/// A budget that was never made has no rights to give.
pub async fn an_unknown_budget_is_not_leased(store: &dyn Store) {
    let node = Node::start(store).await;
    let unknown = BudgetId::generate(node.now);
    let refused = node.acquire(&[ask(unknown, 1, 1)]).await;
    assert!(matches!(refused, Err(AcquireError::UnknownBudget { budget }) if budget == unknown), "{refused:?}");
}

/// Soft limits count, they do not deny.
pub async fn a_soft_budget_is_granted_beyond_its_limit(store: &dyn Store) {
    let node = Node::start(store).await;
    for policy in [LimitPolicy::Soft, LimitPolicy::Unlimited] {
        let budget = node.budget(10, policy, Period::Never).await;
        let granted = node.acquire(&[ask(budget, 25, 25)]).await.expect("it never denies");
        assert_eq!(granted.first().map(|grant| grant.granted), Some(25));
        assert_eq!(node.sums(budget).await, (10, 0, 25));
    }
    node.assert_books_agree().await;
}

/// What comes back can be leased again.
pub async fn rights_given_back_are_room_again(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 100).await;
    store.give_back(&node.by, &[(account, 40)]).await.expect("the store works");
    assert_eq!(node.sums(budget).await, (100, 0, 60));
    node.lease(budget, 40).await;
    node.assert_books_agree().await;
}

/// A node cannot give back what it has spent, or what another one has.
pub async fn giving_back_is_clamped_to_what_the_lease_has(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 50).await;
    node.commit(&[node.settle(node.hold(), &[account], 20)]).await;
    store.give_back(&node.by, &[(account, 1_000)]).await.expect("the store works");
    assert_eq!(node.sums(budget).await, (100, 20, 0));
    node.lease(budget, 80).await;
    node.assert_books_agree().await;
}

/// A node that came back under a new epoch spends nothing under the old one (R9).
pub async fn a_dead_epoch_gets_no_rights(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    node.restarted().await;
    let refused = node.acquire(&[ask(budget, 1, 1)]).await;
    assert!(matches!(refused, Err(AcquireError::Store(StoreError::Fenced))), "{refused:?}");
    assert_eq!(node.sums(budget).await, (100, 0, 0));
}

/// Renewing covers every lease, and only this incarnation's.
pub async fn renewing_names_the_leases_that_are_alive(store: &dyn Store) {
    let node = Node::start(store).await;
    let (first, second) = (node.hard(100).await, node.hard(100).await);
    let mut leased = vec![node.lease(first, 10).await, node.lease(second, 10).await];
    let alive = store.renew(&node.by, super::fixture::TTL, node.now).await.expect("the store works");
    leased.sort_unstable();
    assert_eq!(alive.accounts, leased);
    assert_eq!((alive.nodes, alive.now), (1, node.now));
}
