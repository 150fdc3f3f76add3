//! Rules of keys: changes, new secrets, secrets that were found, and budgets of their own.

use std::time::Duration;

use cfr_core::ledger::Scope;
use cfr_core::time::Period;

use super::catalog::new_key;
use super::fixture::{Node, noon};
use crate::audit_log::Act;
use crate::identity::{ApiKey, KeyBudget, KeyContext, KeyMac, KeyPatch, KeyRules, KeyStatus, NewKey, NewSecret};
use crate::store::{Store, StoreError};

/// A change needs the key as its editor saw it, and one that was revoked stays so.
pub async fn a_key_changes_by_its_version(store: &dyn Store) {
    let node = Node::start(store).await;
    let key = made(&node, None).await;
    let rules = KeyRules { scopes: vec!["usage:read".into()], on_behalf_of: true, ..KeyRules::default() };
    let patch = KeyPatch { enabled: Some(false), rules: Some(rules.clone()), ..KeyPatch::default() };
    let act = act(&node);
    let changed = store.update_key(key.id, key.version, &patch, &act).await.expect("a change");
    assert_eq!((changed.status, &changed.rules, changed.version), (KeyStatus::Disabled, &rules, 2));
    assert_eq!(store.key(key.id).await.expect("the key"), changed);
    let stale = store.update_key(key.id, key.version, &patch, &act).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    let revoked = store.revoke_key(key.id, &act).await.expect("a revocation");
    let patch = KeyPatch { enabled: Some(true), ..KeyPatch::default() };
    let raised = store.update_key(key.id, revoked.version, &patch, &act).await;
    assert!(matches!(raised, Err(StoreError::Conflict { .. })), "{raised:?}");
}

/// A key has at most two secrets: the present one, and the one before it.
pub async fn a_new_secret_leads_to_the_same_key_as_the_one_before(store: &dyn Store) {
    let node = Node::start(store).await;
    let key = made(&node, None).await;
    let end = node.later(Duration::from_secs(60)).now;
    let rotated = store.rotate_key(key.id, &secret(8), end, &act(&node)).await.expect("a new secret");
    assert_eq!((rotated.id, rotated.grace_until, &*rotated.last4), (key.id, Some(end), "0008"));
    assert_eq!(found(&node, 7).await.map(|found| (found.key.id, found.superseded)), Some((key.id, true)));
    assert_eq!(found(&node, 8).await.map(|found| (found.key.id, found.superseded)), Some((key.id, false)));
    store.rotate_key(key.id, &secret(9), end, &act(&node)).await.expect("another one");
    assert_eq!(found(&node, 7).await, None);
    assert!(found(&node, 8).await.is_some_and(|found| found.superseded));
    store.revoke_key(key.id, &act(&node)).await.expect("a revocation");
    let late = store.rotate_key(key.id, &secret(10), end, &act(&node)).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
}

/// The present secret takes its key with it, the one before goes alone, and an unknown one changes nothing.
pub async fn a_secret_that_was_found_stops_working(store: &dyn Store) {
    let node = Node::start(store).await;
    let key = made(&node, None).await;
    let act = act(&node);
    assert_eq!(store.revoke_secret(&KeyMac([99; 32]), &act).await.expect("an answer"), None);
    store.rotate_key(key.id, &secret(8), node.later(Duration::from_secs(60)).now, &act).await.expect("a new secret");
    let kept = store.revoke_secret(&KeyMac([7; 32]), &act).await.expect("an answer").expect("a key");
    assert_eq!((kept.status, kept.grace_until), (KeyStatus::Active, None));
    assert_eq!(found(&node, 7).await, None);
    assert_eq!(store.revoke_secret(&KeyMac([7; 32]), &act).await.expect("an answer"), None);
    let gone = store.revoke_secret(&KeyMac([8; 32]), &act).await.expect("an answer").expect("a key");
    assert_eq!(gone.status, KeyStatus::Revoked);
    assert_eq!(store.key(key.id).await.expect("the key"), gone);
    assert_eq!(store.revoke_secret(&KeyMac([8; 32]), &act).await.expect("an answer"), None);
}

/// The budget is there when the key is.
pub async fn a_key_gets_a_budget_of_its_own_with_it(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = KeyBudget { included_nanos: 5, period: Period::CalendarMonth };
    made(&node, Some(budget)).await;
    let path = found(&node, 7).await.expect("the key").budgets;
    let own: Vec<_> = path.iter().filter(|budget| budget.scope == Scope::Key).map(|own| own.included_nanos).collect();
    assert_eq!(own, [5]);
}

/// The last use only moves forward.
pub async fn keys_remember_their_last_use(store: &dyn Store) {
    let node = Node::start(store).await;
    let key = made(&node, None).await;
    let later = node.later(Duration::from_secs(60)).now;
    let nobody = cfr_core::id::KeyId::generate(noon());
    for used in [[(key.id, later), (nobody, later)], [(key.id, noon()), (nobody, noon())]] {
        store.touch_keys(&used).await.expect("a note");
    }
    assert_eq!(store.key(key.id).await.expect("the key").used_at, Some(later));
}

async fn made(node: &Node<'_>, budget: Option<KeyBudget>) -> ApiKey {
    let user = node.user().await;
    let new = NewKey { budget, ..new_key(user.tenant, Some(user.id), 7) };
    node.store.create_key(&new, &act(node)).await.expect("a key")
}

async fn found(node: &Node<'_>, mac: u8) -> Option<KeyContext> {
    node.store.key_context(&KeyMac([mac; 32])).await.expect("the store works")
}

fn secret(number: u8) -> NewSecret {
    NewSecret { mac: KeyMac([number; 32]), prefix: "cfr_live_cd".into(), last4: format!("{number:04}").into() }
}

fn act(node: &Node<'_>) -> Act {
    Act::of_system(node.now)
}
