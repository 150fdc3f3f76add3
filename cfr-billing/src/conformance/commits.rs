//! Rules of batches.

use std::time::Duration;

use cfr_core::ledger::LimitPolicy;
use cfr_core::time::Period;

use super::fixture::{BOOT, Node, TTL, release};
use crate::store::{Op, OrphanPolicy, Store};
use crate::usage::UsageFilter;

/// The sum of what is settled and leased stays; the usage record is there.
pub async fn a_settlement_moves_its_charge_from_the_lease(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 50).await;
    let hold = node.hold();
    node.commit(&[node.open(hold, &[account], 30), node.settle(hold, &[account], 20)]).await;
    assert_eq!(node.sums(budget).await, (100, 20, 30));
    assert_eq!(records(&node).await, 1);
    node.assert_books_agree().await;
}

/// An answer that was lost makes the node send the batch again.
pub async fn a_batch_that_is_repeated_is_booked_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 100).await;
    let (settled, released, open) = (node.hold(), node.hold(), node.hold());
    let batch = [
        node.open(settled, &[account], 30),
        node.open(released, &[account], 30),
        node.open(open, &[account], 30),
        node.settle(settled, &[account], 20),
        release(released),
    ];
    for _ in 0..3 {
        node.commit(&batch).await;
        assert_eq!(node.sums(budget).await, (100, 20, 80));
    }
    assert_eq!(records(&node).await, 1);
    node.assert_books_agree().await;
}

/// Parts of a batch may come again in another batch, in another order, and twice in one.
pub async fn duplicates_in_any_order_are_booked_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 100).await;
    let (first, second) = (node.hold(), node.hold());
    let settle = |hold, charged| node.settle(hold, &[account], charged);
    node.commit(&[settle(first, 10), settle(second, 7), settle(first, 10)]).await;
    node.commit(&[settle(second, 7), node.open(first, &[account], 10), settle(first, 10)]).await;
    assert_eq!(node.sums(budget).await, (100, 17, 83));
    assert_eq!(records(&node).await, 2);
    node.assert_books_agree().await;
}

/// A hold that opened and ended inside one batch is never written as open.
pub async fn a_settlement_needs_no_opening(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 100).await;
    node.commit(&[node.settle(node.hold(), &[account], 10), release(node.hold())]).await;
    assert_eq!(node.sums(budget).await, (100, 10, 90));
    node.assert_books_agree().await;
}

/// A hold that ended does not become an orphan when its opening comes late.
pub async fn an_opening_after_its_end_changes_nothing(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 100).await;
    let hold = node.hold();
    node.commit(&[node.settle(hold, &[account], 10)]).await;
    node.commit(&[node.open(hold, &[account], 30)]).await;
    let again = node.restarted().await;
    let found = store.reclaim(again.now, OrphanPolicy::Release, again.now).await.expect("the store works");
    assert_eq!((found.released, found.charged, found.suspended), (0, 0, 0), "no orphan");
    assert_eq!(node.sums(budget).await, (100, 10, 0));
}

/// Whatever else one batch says of a hold, its end is what is left of it.
pub async fn an_end_is_the_last_word_of_its_batch(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 100).await;
    let [settled, released, both] = [node.hold(), node.hold(), node.hold()];
    let open = |hold| node.open(hold, &[account], 10);
    let changed = |hold| [Op::Extend { hold, amount: 12 }, node.checkpoint(hold, 5)];
    node.commit(&[open(settled), open(released), open(both)]).await;
    let [raise, note] = changed(settled);
    node.commit(&[raise, note, node.settle(settled, &[account], 10), open(settled)]).await;
    let [raise, note] = changed(released);
    node.commit(&[raise, note, release(released), release(both), node.settle(both, &[account], 4)]).await;
    let again = node.restarted().await;
    let found = store.reclaim(again.now, OrphanPolicy::Suspend, again.now).await.expect("the store works");
    assert_eq!((found.released, found.charged, found.suspended), (0, 0, 0), "no orphan");
    assert_eq!(node.sums(budget).await, (100, 14, 0));
    node.assert_books_agree().await;
}

/// Holding is arithmetic inside the lease.
pub async fn an_opening_alone_moves_no_money(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 50).await;
    let hold = node.hold();
    node.commit(&[node.open(hold, &[account], 30), Op::Extend { hold, amount: 40 }, node.checkpoint(hold, 5)]).await;
    assert_eq!(node.sums(budget).await, (100, 0, 50));
    assert_eq!(records(&node).await, 0);
}

/// A release leaves neither a charge nor a record.
pub async fn a_release_moves_no_money(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 50).await;
    let hold = node.hold();
    node.commit(&[node.open(hold, &[account], 30)]).await;
    node.commit(&[release(hold)]).await;
    assert_eq!(node.sums(budget).await, (100, 0, 50));
    assert_eq!(records(&node).await, 0);
    node.assert_books_agree().await;
}

/// The same charge everywhere.
pub async fn a_settlement_posts_on_every_account_of_its_path(store: &dyn Store) {
    let node = Node::start(store).await;
    let budgets = [node.hard(100).await, node.hard(50).await, node.hard(70).await];
    let mut accounts = Vec::new();
    for budget in budgets {
        accounts.push(node.lease(budget, 40).await);
    }
    node.commit(&[node.settle(node.hold(), &accounts, 11)]).await;
    for (budget, granted) in budgets.into_iter().zip([100, 50, 70]) {
        assert_eq!(node.sums(budget).await, (granted, 11, 29));
    }
    node.assert_books_agree().await;
}

/// The next life of a node posts what the last one held where it was held.
pub async fn a_settlement_is_posted_to_the_epoch_of_its_hold(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 40).await;
    let again = node.restarted().await;
    again.lease(budget, 60).await;
    again.commit(&[node.settle(node.hold(), &[account], 15)]).await;
    assert_eq!(node.sums(budget).await, (100, 15, 85));
    store.reclaim(again.now, OrphanPolicy::Release, again.now).await.expect("the store works");
    assert_eq!(node.sums(budget).await, (100, 15, 60), "the old lease had 25 left");
    node.assert_books_agree().await;
}

/// What a price exceeded its charge by is the operator's loss.
pub async fn an_overrun_is_counted_on_every_account(store: &dyn Store) {
    let node = Node::start(store).await;
    let (first, second) = (node.hard(100).await, node.hard(100).await);
    let accounts = [node.lease(first, 20).await, node.lease(second, 20).await];
    let Op::Settle(mut settled) = node.settle(node.hold(), &accounts, 20) else { panic!("it is a settlement") };
    settled.record.overrun_nanos = 4;
    node.commit(&[Op::Settle(settled)]).await;
    for budget in [first, second] {
        assert_eq!((node.state(budget).await.overrun, node.sums(budget).await), (4, (100, 20, 0)));
    }
}

/// Without a hard limit a charge needs no lease.
pub async fn a_charge_beyond_the_lease_of_an_unlimited_budget_is_booked(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.budget(10, LimitPolicy::Unlimited, Period::Never).await;
    let account = node.lease(budget, 20).await;
    node.commit(&[node.settle(node.hold(), &[account], 35)]).await;
    assert_eq!(node.sums(budget).await, (10, 35, 0));
    node.assert_books_agree().await;
}

/// What one settlement takes from the lease and from free room, the next one of the same batch has not.
pub async fn settlements_of_one_batch_share_what_is_left(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(110).await;
    let account = node.lease(budget, 100).await;
    let settle = |charged| node.settle(node.hold(), &[account], charged);
    node.commit(&[settle(70), settle(60), settle(5)]).await;
    let state = node.state(budget).await;
    assert_eq!((state.settled, state.leased, state.overrun), (70 + 40, 0, 20 + 5));
    node.assert_books_agree().await;
}

/// A node that comes back after its leases were taken charges what is left and no more. An exclusive store never gets
/// there: its one node is dead by then.
pub async fn a_late_charge_takes_no_more_than_what_is_left(store: &dyn Store) {
    if store.exclusive() {
        return;
    }
    let late = Node::start(store).await;
    let budget = late.hard(100).await;
    let account = late.lease(budget, 40).await;
    let other =
        Node { by: store.register("node-2", BOOT, late.now).await.expect("the store works"), ..late.later(TTL * 10) };
    store
        .reclaim(
            other.now.checked_sub(Duration::from_secs(1)).expect("inside the calendar"),
            OrphanPolicy::Release,
            other.now,
        )
        .await
        .expect("the store works");
    other.lease(budget, 75).await;
    other.commit(&[]).await;
    let again = late.restarted().await;
    again.commit(&[late.settle(late.hold(), &[account], 40)]).await;
    let state = late.state(budget).await;
    assert_eq!((state.settled, state.leased, state.overrun), (25, 75, 15));
    late.assert_books_agree().await;
}

/// Nothing to write is no reason to fail.
pub async fn an_empty_batch_changes_nothing(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    node.commit(&[]).await;
    assert_eq!(node.sums(budget).await, (100, 0, 0));
}

async fn records(node: &Node<'_>) -> usize {
    node.store.usage(&UsageFilter::default(), Default::default()).await.expect("the store works").items.len()
}
