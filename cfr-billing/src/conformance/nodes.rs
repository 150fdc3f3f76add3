//! Rules of the processes that share a store.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::BudgetId;
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::{Period, Timestamp};

use super::fixture::{BOOT, DAY, Node, TTL, ask, release};
use crate::audit_log::Act;
use crate::store::{AcquireError, Boot, NodeState, ONE_LIFE_PREFIX, Op, OrphanPolicy, Store, StoreError};

const OTHER_PROCESS: Boot = Boot(2);
const MOMENT: Duration = Duration::from_secs(1);
const RECALL_PATIENCE: Duration = Duration::from_millis(500);
/// Times that a recall is repeated before it counts as not heard.
const RECALLS_MAX: u32 = 20;

/// Two processes of one name would spend from one lease. The owner of an exclusive store has locked it: an earlier process
/// is dead.
pub async fn a_name_belongs_to_one_process_while_it_lives(store: &dyn Store) {
    let node = Node::start(store).await;
    renew(&node).await;
    let later = node.later(TTL.saturating_sub(MOMENT));
    let taken = store.register(&node.by.node, OTHER_PROCESS, later.now).await;
    if store.exclusive() {
        assert_eq!(taken.expect("its owner is dead").epoch, 2);
        return;
    }
    let Err(StoreError::NodeInUse { node: name, seen_at }) = taken else { panic!("expected a refusal, got {taken:?}") };
    assert_eq!((&*name, seen_at), ("node-1", node.now));
    store.commit(&node.by, &[step(&node)], later.now).await.expect("nothing happened to the first process");
    let after = node.later(TTL.saturating_add(MOMENT));
    assert_eq!(store.register(&node.by.node, OTHER_PROCESS, after.now).await.expect("its time is over").epoch, 2);
}

/// Under a new epoch, as after a fence.
pub async fn the_same_process_may_begin_again_at_any_time(store: &dyn Store) {
    let node = Node::start(store).await;
    renew(&node).await;
    let again = node.restarted().await;
    assert_eq!(again.by.epoch, 2);
    let refused = store.renew(&node.by, TTL, node.now).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    renew(&again).await;
}

/// A good end leaves nothing to wait for.
pub async fn the_name_of_a_retired_node_is_free(store: &dyn Store) {
    let node = Node::start(store).await;
    renew(&node).await;
    store.retire(&node.by, node.now).await.expect("the store works");
    let next = store.register(&node.by.node, OTHER_PROCESS, node.now).await.expect("the name is free");
    assert_eq!(next.epoch, 2);
    store.renew(&next, TTL, node.now).await.expect("it lives");
    store.retire(&node.by, node.now).await.expect("a second end is none");
    store.commit(&next, &[step(&node)], node.now).await.expect("and does not end the next life");
    let taken = store.register(&node.by.node, BOOT, node.now).await;
    assert!(store.exclusive() || matches!(taken, Err(StoreError::NodeInUse { .. })), "{taken:?}");
}

/// A life that an operator declared dead gets nothing, changes nothing, and leaves what it had.
pub async fn a_fenced_life_is_refused_and_its_leases_are_free(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    renew(&node).await;
    let account = node.lease(budget, 60).await;
    store.fence(&node.by.node, &Act::of_system(node.now)).await.expect("the node is known");
    refuses_everything(&node, budget).await;
    let found = store.reclaim(before(&node), OrphanPolicy::Release, node.now).await.expect("the store works");
    assert_eq!((found.leases, node.sums(budget).await), (1, (100, 0, 0)), "{found:?}");
    let again = node.restarted().await;
    assert_eq!(again.by.epoch, 2);
    again.lease(budget, 90).await;
    again.commit(&[node.settle(node.hold(), &[account], 30)]).await;
    assert_eq!(node.sums(budget).await, (100, 10, 90), "a late charge of the old life takes what is left");
    node.assert_books_agree().await;
}

/// The operator knows that it is dead.
pub async fn the_name_of_a_fenced_node_is_free(store: &dyn Store) {
    let node = Node::start(store).await;
    renew(&node).await;
    store.fence(&node.by.node, &Act::of_system(node.now)).await.expect("the node is known");
    let next = store.register(&node.by.node, OTHER_PROCESS, node.now).await.expect("the name is free");
    assert_eq!(next.epoch, 2);
    let node = Node { by: next, ..node };
    renew(&node).await;
    let unknown = store.fence("nobody", &Act::of_system(node.now)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}

/// With what each of them still has.
pub async fn nodes_are_listed_by_name_with_what_they_have(store: &dyn Store) {
    let node = Node::start(store).await;
    let budgets = [node.hard(100).await, node.hard(100).await];
    renew(&node).await;
    let account = node.lease(budgets[0], 60).await;
    node.commit(&[node.open(node.hold(), &[account], 25), node.settle(node.hold(), &[account], 20)]).await;
    let again = node.restarted().await;
    again.lease(budgets[1], 7).await;
    let retired = store.register("a-node", OTHER_PROCESS, node.now).await.expect("the name is new");
    store.retire(&retired, node.now).await.expect("the store works");
    renew(&again.later(MOMENT)).await;
    let listed = store.nodes(node.later(MOMENT).now).await.expect("the store works");
    let first = NodeState {
        node: Arc::from("a-node"),
        epoch: 1,
        alive: false,
        seen_at: node.now,
        leases: 0,
        leased: 0,
        open_holds: 0,
    };
    let second = NodeState {
        node: Arc::from("node-1"),
        epoch: 2,
        alive: true,
        seen_at: node.later(MOMENT).now,
        leases: 2,
        leased: 47,
        open_holds: 1,
    };
    assert_eq!(listed, [first, second]);
    store.fence("node-1", &Act::of_system(node.later(MOMENT).now)).await.expect("the node is known");
    let listed = store.nodes(node.later(MOMENT).now).await.expect("the store works");
    assert!(listed.iter().all(|node| !node.alive), "{listed:?}");
}

/// A command that ended is no node any longer; one that was killed is none after a while. Whatever it has is remembered.
pub async fn a_node_that_lives_once_is_forgotten_when_it_has_nothing(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let [retired, holder, killed] = ["retired", "holder", "killed"].map(|name| format!("{ONE_LIFE_PREFIX}{name}"));
    let retired = once(&node, &retired).await;
    store.retire(&retired.by, node.now).await.expect("the store works");
    let holder = once(&node, &holder).await;
    holder.lease(budget, 60).await;
    store.retire(&holder.by, node.now).await.expect("the store works");
    let killed = once(&node, &killed).await;
    assert_eq!(names(&node).await, [holder.by.node.clone(), killed.by.node.clone(), "node-1".into()]);

    store.fence(&holder.by.node, &Act::of_system(node.now)).await.expect("the node is known");
    reclaim(&node).await;
    assert_eq!(node.sums(budget).await, (100, 0, 0), "what it had is free");
    assert_eq!(names(&node).await.len(), 3, "both were heard of a moment ago");
    reclaim(&node.later(DAY)).await;
    assert_eq!(names(&node).await.len(), 3, "not yet");
    reclaim(&node.later(DAY + TTL + MOMENT)).await;
    assert_eq!(names(&node).await, ["node-1".into()], "the epochs of a server are never forgotten");
    node.assert_books_agree().await;
}

/// A node of this name, which is alive.
async fn once<'a>(node: &Node<'a>, name: &str) -> Node<'a> {
    let by = node.store.register(name, OTHER_PROCESS, node.now).await.expect("the name is new");
    let once = Node { by, ..node.clone() };
    renew(&once).await;
    once
}

async fn reclaim(node: &Node<'_>) {
    node.store.reclaim(before(node), OrphanPolicy::Release, node.now).await.expect("the store works");
}

async fn names(node: &Node<'_>) -> Vec<Arc<str>> {
    node.store.nodes(node.now).await.expect("the store works").into_iter().map(|state| state.node).collect()
}

/// Near its limit a budget is shared among so many.
pub async fn a_renewal_counts_the_nodes_that_are_alive(store: &dyn Store) {
    let node = Node::start(store).await;
    let by = store.register("node-2", OTHER_PROCESS, node.now).await.expect("the name is new");
    let other = Node { by, ..node.clone() };
    assert_eq!(renew(&node).await, 1, "the other one did not renew yet");
    assert_eq!(renew(&other).await, 2);
    assert_eq!(renew(&node.later(MOMENT)).await, 2);
    store.retire(&other.by, node.later(MOMENT).now).await.expect("the store works");
    assert_eq!(renew(&node.later(MOMENT * 2)).await, 1);
    renew(&Node { by: store.register("node-2", OTHER_PROCESS, node.now).await.expect("it is free"), ..node.clone() })
        .await;
    assert_eq!(renew(&node.later(TTL + MOMENT * 2)).await, 1, "the other one was not heard of for too long");
}

/// So that a node near the limit asks for no more than it needs.
pub async fn a_grant_says_what_is_left_for_others(store: &dyn Store) {
    let node = Node::start(store).await;
    let (hard, soft) = (node.hard(100).await, node.budget(10, LimitPolicy::Soft, Period::Never).await);
    let rooms = async |want| -> Vec<i64> {
        let granted = node.acquire(&[ask(hard, 0, want), ask(soft, 0, want)]).await.expect("asks for nothing at least");
        granted.iter().map(|grant| grant.room).collect()
    };
    assert_eq!(rooms(30).await, [70, 0]);
    assert_eq!(rooms(0).await, [70, 0]);
    node.acquire(&[ask(soft, 5, 5)]).await.expect("it never denies");
    assert_eq!(rooms(1_000).await, [0, -5]);
}

/// Whoever asks for idle rights is heard, and waits no longer than needed. A call may be lost, so it is repeated.
pub async fn a_recall_reaches_the_other_nodes(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 100).await;
    let by = store.register("node-2", OTHER_PROCESS, node.now).await.expect("the name is new");
    let other = Node { by, ..node.clone() };
    if store.exclusive() {
        store.recall(&other.by, &[budget], RECALL_PATIENCE).await.expect("there is nobody to wait for");
        return;
    }
    renew(&node).await;
    renew(&other).await;
    let answer = async {
        while !store.recalled(&node.by).await.contains(&budget) {}
        store.give_back(&node.by, &[(account, 60)]).await.expect("the store works");
    };
    let ask_until_granted = async {
        for _ in 0..RECALLS_MAX {
            store.recall(&other.by, &[budget], RECALL_PATIENCE).await.expect("the store works");
            if other.acquire(&[ask(budget, 60, 60)]).await.is_ok() {
                return true;
            }
        }
        false
    };
    let ((), granted) = tokio::join!(answer, ask_until_granted);
    assert!(granted, "the rights that came back are there");
    assert_eq!(node.sums(budget).await, (100, 0, 100));
    node.assert_books_agree().await;
}

async fn renew(node: &Node<'_>) -> u32 {
    node.store.renew(&node.by, TTL, node.now).await.expect("it is alive").nodes
}

async fn refuses_everything(node: &Node<'_>, budget: BudgetId) {
    let acquired = node.acquire(&[ask(budget, 1, 1)]).await;
    assert!(matches!(acquired, Err(AcquireError::Store(StoreError::Fenced))), "{acquired:?}");
    let committed = node.store.commit(&node.by, &[step(node)], node.now).await;
    assert!(matches!(committed, Err(StoreError::Fenced)), "{committed:?}");
    let renewed = node.store.renew(&node.by, TTL, node.now).await;
    assert!(matches!(renewed, Err(StoreError::Fenced)), "{renewed:?}");
}

/// Something to write that changes nothing.
fn step(node: &Node<'_>) -> Op {
    release(node.hold())
}

/// No lease of now has ended by then.
fn before(node: &Node<'_>) -> Timestamp {
    node.now.checked_sub(TTL).expect("inside the calendar")
}
