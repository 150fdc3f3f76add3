//! Rules of what dead nodes leave behind.

use std::time::Duration;

use cfr_core::chat::UsageSource;
use cfr_core::id::BudgetId;

use super::fixture::{BOOT, Node, TTL, ask, release};
use crate::store::{Op, OrphanPolicy, Reclaimed, Store};
use crate::usage::UsageFilter;

/// Each life has the next number, of each node its own.
pub async fn epochs_count_the_lives_of_a_node(store: &dyn Store) {
    let node = Node::start(store).await;
    let other = store.register("node-2", BOOT, node.now).await.expect("the store works");
    let again = store.register("node-1", BOOT, node.now).await.expect("the store works");
    assert_eq!((node.by.epoch, other.epoch, again.epoch), (1, 1, 2));
    assert_eq!((&*again.node, &*other.node), ("node-1", "node-2"));
}

/// An earlier epoch is dead when the node registers again; the new one and other nodes are not.
pub async fn only_dead_leases_are_taken_back(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    node.lease(budget, 40).await;
    assert_eq!(reclaim(&node, OrphanPolicy::Release).await, Reclaimed::default(), "it lives");
    let again = node.restarted().await;
    again.lease(budget, 60).await;
    assert_eq!(reclaim(&again, OrphanPolicy::Release).await.leases, 1);
    assert_eq!(node.sums(budget).await, (100, 0, 60));
    node.assert_books_agree().await;
}

/// On a shared store a lease that ended long ago is dead. Exclusive leases do not end.
pub async fn expired_leases_are_taken_back(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    node.lease(budget, 30).await;
    let more = store.acquire(&node.by, &[ask(budget, 10, 10)], TTL / 2, node.now).await;
    assert!(more.is_ok(), "and shortens nothing: {more:?}");
    let much_later = node.later(TTL * 100);
    let second = Duration::from_secs(1);
    let before_the_end = node.later(TTL).now.checked_sub(second).expect("inside the calendar");
    let found = store.reclaim(before_the_end, OrphanPolicy::Release, much_later.now).await.expect("the store works");
    assert_eq!(found.leases, 0);
    let after_the_end = node.later(TTL).now.checked_add(second).expect("inside the calendar");
    let found = store.reclaim(after_the_end, OrphanPolicy::Release, much_later.now).await.expect("the store works");
    let (leases, leased) = if store.exclusive() { (0, 40) } else { (1, 0) };
    assert_eq!((found.leases, node.sums(budget).await), (leases, (100, 0, leased)));
}

/// Nothing is charged, everything is free.
pub async fn orphans_are_released(store: &dyn Store) {
    let node = Node::start(store).await;
    let (budget, again) = with_orphans(&node).await;
    let found = reclaim(&again, OrphanPolicy::Release).await;
    assert_eq!(found, Reclaimed { leases: 1, released: 2, charged: 0, suspended: 0 });
    assert_eq!(again.sums(budget).await, (100, 0, 0));
    node.assert_books_agree().await;
}

/// What was noted is charged, with its record; without a note nothing is.
pub async fn orphans_are_charged_by_their_evidence(store: &dyn Store) {
    let node = Node::start(store).await;
    let (budget, again) = with_orphans(&node).await;
    let found = reclaim(&again, OrphanPolicy::Evidence).await;
    assert_eq!(found, Reclaimed { leases: 1, released: 1, charged: 1, suspended: 0 });
    assert_eq!(again.sums(budget).await, (100, 12, 0));
    let usage = store.usage(&UsageFilter::default(), Default::default()).await.expect("the store works");
    let usage: Vec<_> = usage.items.iter().map(|record| (record.charged_nanos, record.source)).collect();
    assert_eq!(usage, [(12, UsageSource::Partial)], "how the request ended is not known");
    node.assert_books_agree().await;
}

/// Nobody is paid for an orphan, whatever was noted.
pub async fn a_note_below_nothing_charges_nothing(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 90).await;
    let hold = node.hold();
    node.commit(&[node.settle(node.hold(), &[account], 20)]).await;
    let note = Op::Checkpoint { hold, charged: -5, record: Box::new(node.record(hold, 0)) };
    node.commit(&[node.open(hold, &[account], 30), note]).await;
    let again = node.restarted().await;
    reclaim(&again, OrphanPolicy::Evidence).await;
    assert_eq!(again.sums(budget).await, (100, 20, 0));
    node.assert_books_agree().await;
}

/// The amount stays counted; with the end of the hold the rest is free.
pub async fn suspended_orphans_stay_counted_until_they_end(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 90).await;
    let (settled, released) = (node.hold(), node.hold());
    node.commit(&[node.open(settled, &[account], 30), node.open(released, &[account], 20)]).await;
    let again = node.restarted().await;
    let found = reclaim(&again, OrphanPolicy::Suspend).await;
    assert_eq!(found, Reclaimed { leases: 1, released: 0, charged: 0, suspended: 2 });
    assert_eq!(again.sums(budget).await, (100, 0, 50));
    again.commit(&[node.settle(settled, &[account], 10)]).await;
    assert_eq!(again.sums(budget).await, (100, 10, 20));
    again.commit(&[release(released)]).await;
    assert_eq!(again.sums(budget).await, (100, 10, 0));
    node.assert_books_agree().await;
}

/// Several that end in one batch free each its own rest, and one that is charged more than it held takes the difference
/// from what is left.
pub async fn suspended_orphans_that_end_together_free_what_none_was_charged(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 90).await;
    let [first, second, last] = [node.hold(), node.hold(), node.hold()];
    let open = |hold, amount| node.open(hold, &[account], amount);
    node.commit(&[open(first, 30), open(second, 20), open(last, 10)]).await;
    let again = node.restarted().await;
    reclaim(&again, OrphanPolicy::Suspend).await;
    assert_eq!(again.sums(budget).await, (100, 0, 60));
    again.commit(&[node.settle(first, &[account], 10), node.settle(second, &[account], 5)]).await;
    assert_eq!(again.sums(budget).await, (100, 15, 10));
    again.assert_books_agree().await;
    again.commit(&[node.settle(last, &[account], 14)]).await;
    assert_eq!(again.sums(budget).await, (100, 29, 0));
    again.assert_books_agree().await;
}

/// Neither a raise that comes late nor a living hold that ends beside it changes what is freed.
pub async fn the_end_of_a_suspended_orphan_frees_its_own_amount_alone(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 60).await;
    let [suspended, other, living] = [node.hold(), node.hold(), node.hold()];
    node.commit(&[node.open(suspended, &[account], 30), node.open(other, &[account], 20)]).await;
    let again = node.restarted().await;
    reclaim(&again, OrphanPolicy::Suspend).await;
    again.lease(budget, 40).await;
    again.commit(&[again.open(living, &[account], 10), Op::Extend { hold: suspended, amount: 45 }]).await;
    again.commit(&[release(suspended), release(living)]).await;
    assert_eq!(again.sums(budget).await, (100, 0, 20 + 40));
    node.assert_books_agree().await;
}

/// Whoever comes second finds nothing.
pub async fn a_resolved_orphan_is_resolved_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let (budget, again) = with_orphans(&node).await;
    reclaim(&again, OrphanPolicy::Evidence).await;
    assert_eq!(reclaim(&again, OrphanPolicy::Evidence).await, Reclaimed::default());
    assert_eq!(again.sums(budget).await, (100, 12, 0));
}

/// A raise keeps what was noted, and a note keeps the raise, whichever came first.
pub async fn a_note_and_a_raise_of_a_hold_keep_each_other(store: &dyn Store) {
    let node = Node::start(store).await;
    let charged = noted_and_raised(&node).await;
    let again = node.restarted().await;
    let found = reclaim(&again, OrphanPolicy::Evidence).await;
    assert_eq!((found.charged, again.sums(charged).await), (3, (100, 7 + 12 + 11, 0)));
    let counted = noted_and_raised(&again).await;
    let last = again.restarted().await;
    let found = reclaim(&last, OrphanPolicy::Suspend).await;
    assert_eq!((found.suspended, last.sums(counted).await), (3, (100, 0, 30 + 20 + 15)));
    node.assert_books_agree().await;
}

/// Three holds of which each was noted and raised: in steps, in steps the other way round, and together.
async fn noted_and_raised(node: &Node<'_>) -> BudgetId {
    let budget = node.hard(100).await;
    let account = node.lease(budget, 90).await;
    let [first, second, third] = [node.hold(), node.hold(), node.hold()];
    let raise = |hold, amount| Op::Extend { hold, amount };
    node.commit(&[node.open(first, &[account], 10), node.open(second, &[account], 10)]).await;
    node.commit(&[node.checkpoint(first, 7), raise(second, 20)]).await;
    node.commit(&[raise(first, 30), node.checkpoint(second, 12)]).await;
    node.commit(&[node.open(third, &[account], 10), raise(third, 15), node.checkpoint(third, 11)]).await;
    budget
}

/// A copy of the opening that was long on its way makes no orphan of it.
pub async fn a_released_hold_is_remembered_when_its_opening_comes_late(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 50).await;
    let hold = node.hold();
    let begin = [node.open(hold, &[account], 30), node.checkpoint(hold, 12)];
    node.commit(&begin).await;
    node.commit(&[release(hold)]).await;
    assert_eq!(reclaim(&node, OrphanPolicy::Evidence).await, Reclaimed::default());
    node.commit(&begin).await;
    let again = node.restarted().await;
    let found = reclaim(&again, OrphanPolicy::Evidence).await;
    assert_eq!(found, Reclaimed { leases: 1, ..Reclaimed::default() });
    assert_eq!(again.sums(budget).await, (100, 0, 0));
    node.assert_books_agree().await;
}

/// Two holds of a dead epoch, one with a note of 12; and the next epoch.
async fn with_orphans<'a>(node: &Node<'a>) -> (BudgetId, Node<'a>) {
    let budget = node.hard(100).await;
    let account = node.lease(budget, 90).await;
    let (noted, silent) = (node.hold(), node.hold());
    node.commit(&[node.open(noted, &[account], 30), node.open(silent, &[account], 30)]).await;
    node.commit(&[node.checkpoint(noted, 5), node.checkpoint(noted, 12)]).await;
    (budget, node.restarted().await)
}

async fn reclaim(node: &Node<'_>, policy: OrphanPolicy) -> Reclaimed {
    node.store.reclaim(noon_before(node), policy, node.now).await.expect("the store works")
}

fn noon_before(node: &Node<'_>) -> cfr_core::time::Timestamp {
    node.now.checked_sub(TTL).expect("inside the calendar")
}
