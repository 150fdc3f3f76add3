//! Rules of what other programs were told.

use std::time::Duration;

use cfr_core::id::{BudgetId, HoldId, KeyId, TenantId, UserId};
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use serde_json::Map;

use super::fixture::{BOOT, DAY, Node, TTL, ask, caller, noon};
use crate::audit_log::{Act, AuditFilter};
use crate::outside::{Named, NamedKind, OutsideHold, OutsideName};
use crate::store::{OrphanPolicy, PageRequest, Store, StoreError};

const MOMENT: Duration = Duration::from_secs(1);

/// What is set aside for another program's call waits for it, whatever becomes of the nodes meanwhile.
pub async fn rights_of_an_outside_hold_outlast_the_nodes(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let hold = hold(node.now);
    let life = hold.life();
    assert_eq!(store.register(&life.node, BOOT, node.now).await.expect("the name is new"), life);
    store.acquire(&life, &[ask(budget, 60, 60)], TTL + DAY, node.now).await.expect("there is room");
    store.register(&node.by.node, BOOT, node.now).await.expect("the node comes back");
    store.reclaim(Timestamp::MIN, OrphanPolicy::Release, node.now).await.expect("the store works");
    assert_eq!(node.sums(budget).await, (100, 0, 60));
    let accounts = store.renew(&life, Duration::ZERO, node.now).await.expect("its life goes on").accounts;
    store.give_back(&life, &[(accounts[0], i64::MAX)]).await.expect("the store works");
    store.retire(&life, node.now).await.expect("the store works");
    assert_eq!(node.sums(budget).await, (100, 0, 0));
    let nodes = store.nodes(node.now).await.expect("the store works");
    assert!(nodes.iter().all(|known| known.node != life.node), "a life that is over is no node");
}

/// It is found by its id, and by its end.
pub async fn an_outside_hold_is_kept_until_it_is_forgotten(store: &dyn Store) {
    let (first, second) = (hold(noon()), hold(later(MOMENT)));
    for hold in [&second, &first] {
        store.add_outside_hold(hold).await.expect("the id is new");
    }
    assert!(matches!(store.add_outside_hold(&first).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.outside_hold(first.id).await.expect("readable"), Some(first.clone()));
    let ended = async |now, limit| store.ended_outside_holds(now, limit).await.expect("readable");
    assert_eq!(ended(noon(), 10).await, []);
    assert_eq!(ended(first.ends_at, 10).await, std::slice::from_ref(&first));
    assert_eq!(ended(second.ends_at, 1).await, std::slice::from_ref(&first));
    assert_eq!(ended(second.ends_at, 10).await, [first.clone(), second]);
    for _ in 0..2 {
        store.forget_outside_hold(first.id).await.expect("a second time is no error");
        assert_eq!(store.outside_hold(first.id).await.expect("readable"), None);
    }
}

/// A name stands for one thing of a kind. Its notes may change; each change is told once, and tells neither.
pub async fn an_outside_name_stands_for_one_thing(store: &dyn Store) {
    let (ada, grace) = (Named::User(UserId::from_u128(1)), Named::User(UserId::from_u128(2)));
    let kept = name(ada, "u-1");
    let act = Act::of_system(noon());
    for _ in 0..2 {
        store.keep_outside_name(&kept, &act).await.expect("the name is free, or hers");
    }
    let taken = store.keep_outside_name(&name(grace, "u-1"), &act).await;
    assert!(matches!(taken, Err(StoreError::Conflict { .. })), "{taken:?}");
    store.keep_outside_name(&name(Named::Key(KeyId::from_u128(1)), "u-1"), &act).await.expect("another kind");
    store.keep_outside_name(&name(ada, "a"), &act).await.expect("a second name");
    let noted = OutsideName { notes: Map::from_iter([("plan".to_owned(), "x".into())]), ..kept };
    store.keep_outside_name(&noted, &act).await.expect("other notes");
    assert_eq!(store.outside_name(NamedKind::User, "u-1").await.expect("readable"), Some(noted.clone()));
    assert_eq!(store.outside_name(NamedKind::User, "U-1").await.expect("readable"), None);
    assert_eq!(store.outside_names_of(ada).await.expect("readable"), [name(ada, "a"), noted]);
    assert_eq!(store.outside_names_of(grace).await.expect("readable"), []);
    let filter = AuditFilter { target: Some(ada.to_string().into()), ..AuditFilter::default() };
    let told = store.audit_events(&filter, PageRequest::default()).await.expect("readable").items;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|event| !event.changes.contains("u-1") && !event.changes.contains("plan")), "{told:?}");
}

pub(super) fn name(named: Named, name: &str) -> OutsideName {
    OutsideName { named, name: name.into(), tenant: Some(TenantId::from_u128(1)), notes: Map::new() }
}

fn hold(at: Timestamp) -> OutsideHold {
    OutsideHold {
        id: HoldId::generate(at),
        caller: caller(TenantId::from_u128(1)),
        path: vec![BudgetId::from_u128(5)],
        amount_nanos: 60,
        currency: Currency::EUR,
        fx_e6: 1_160_000,
        margin_bps: 2_000,
        model: "gpt-4o".into(),
        created_at: at,
        ends_at: at.checked_add(MOMENT * 60).expect("inside the calendar"),
    }
}

fn later(pause: Duration) -> Timestamp {
    noon().checked_add(pause).expect("inside the calendar")
}
