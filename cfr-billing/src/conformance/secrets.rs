//! Rules of the keys that seal secrets.

use cfr_core::id::{DataKeyId, TenantId};

use super::fixture::{Node, new_tenant};
use crate::audit_log::{Act, AuditFilter};
use crate::secrets::DataKey;
use crate::store::{PageRequest, Store, StoreError};

/// Whoever comes second gets the key of the first; replacing one needs to know which.
pub async fn an_owner_has_one_current_data_key(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let other = store.create_tenant(&new_tenant("other"), &act).await.expect("the slug is free").id;
    for owner in [None, Some(node.tenant), Some(other)] {
        assert_eq!(store.current_data_key(owner).await.expect("readable"), None);
        let (first, late) = (key(&node, owner), key(&node, owner));
        assert_eq!(store.add_data_key(&first, None, &act).await.expect("writable"), first);
        assert_eq!(store.add_data_key(&late, None, &act).await.expect("writable"), first);
        assert_eq!(store.add_data_key(&late, Some(late.id), &act).await.expect("writable"), first);
        let second = key(&node, owner);
        assert_eq!(store.add_data_key(&second, Some(first.id), &act).await.expect("writable"), second);
        assert_eq!(store.current_data_key(owner).await.expect("readable"), Some(second));
        let first = DataKey { current: false, ..first };
        assert_eq!(store.data_key(first.id).await.expect("it still opens"), first);
        assert!(matches!(store.data_key(late.id).await, Err(StoreError::NotFound { .. })));
    }
    let all = store.data_keys(PageRequest::default()).await.expect("readable").items;
    assert!(all.len() == 6 && all.is_sorted_by_key(|key| key.id), "{all:?}");
    assert_eq!(told(store, "data_key.created").await, 6);
}

/// Many servers that need a first key at once end up with the same one.
pub async fn data_keys_that_are_made_at_once_become_one(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let make = async || {
        let new = key(&node, None);
        store.add_data_key(&new, None, &act).await.expect("writable")
    };
    let (one, two, three, four) = tokio::join!(make(), make(), make(), make());
    assert!([&two, &three, &four].iter().all(|other| **other == one));
    assert_eq!(store.data_keys(PageRequest::default()).await.expect("readable").items, [one]);
    assert_eq!(told(store, "data_key.created").await, 1);
}

/// Once: whoever had the same in mind hears that it was done.
pub async fn a_data_key_is_wrapped_anew_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let old = store.add_data_key(&key(&node, Some(node.tenant)), None, &act).await.expect("writable");
    let new = DataKey { master: "new".into(), wrapped: "otherwise".into(), ..old.clone() };
    store.rewrap_data_key(&new, &old.master, &act).await.expect("nobody did so yet");
    assert_eq!(store.data_key(old.id).await.expect("it is there"), new);
    let again = store.rewrap_data_key(&new, &old.master, &act).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    assert_eq!(told(store, "data_key.rewrapped").await, 1);
}

/// All of them, those that only open too, and nobody else's.
pub async fn shredding_forgets_the_data_keys_of_one_tenant(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let platform = store.add_data_key(&key(&node, None), None, &act).await.expect("writable");
    let first = store.add_data_key(&key(&node, Some(node.tenant)), None, &act).await.expect("writable");
    let second = key(&node, Some(node.tenant));
    store.add_data_key(&second, Some(first.id), &act).await.expect("writable");
    assert_eq!(store.shred_data_keys(node.tenant, &act).await.expect("writable"), 2);
    assert_eq!(store.shred_data_keys(node.tenant, &act).await.expect("writable"), 0);
    assert_eq!(store.data_keys(PageRequest::default()).await.expect("readable").items, [platform]);
    assert_eq!(store.current_data_key(Some(node.tenant)).await.expect("readable"), None);
    assert_eq!(told(store, "data_key.shredded").await, 2);
}

pub(super) fn key(node: &Node<'_>, tenant: Option<TenantId>) -> DataKey {
    DataKey {
        id: DataKeyId::generate(node.now),
        tenant,
        master: "old".into(),
        wrapped: "sealed".into(),
        current: true,
        made_at: node.now,
    }
}

/// Events of this action in the log; none of them says what was sealed.
pub(super) async fn told(store: &dyn Store, action: &str) -> usize {
    let filter = AuditFilter { action: Some(action.into()), ..AuditFilter::default() };
    let events = store.audit_events(&filter, PageRequest::default()).await.expect("readable").items;
    assert!(events.iter().all(|event| !event.changes.contains("sealed")), "{events:?}");
    events.len()
}
