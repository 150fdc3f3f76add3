//! Rules of erasing people.

use std::sync::Arc;

use super::catalog::new_key;
use super::fixture::Node;
use super::people::{mail, token, with_password};
use crate::audit_log::{Act, Actor, ActorKind, Chain};
use crate::identity::{KeyStatus, UserPatch, UserStatus};
use crate::outside::{Named, OutsideName};
use crate::people::{Credentials, OutsideIdentity, TokenKind};
use crate::store::{PageRequest, Store, StoreError};

/// Who it was is gone from everything that is kept, the id and the books stay, and the audit log is as it was sealed.
pub async fn an_erased_user_leaves_an_id(store: &dyn Store) {
    let node = Node::start(store).await;
    let (user, other) = (node.user().await, node.user().await);
    let own = Act { by: Arc::new(at_home(&user.id.to_string())), at: node.now };
    let others = Act { by: Arc::new(at_home(&other.id.to_string())), at: node.now };
    let none = store.credentials(user.id).await.expect("the user exists");
    let known = store.set_credentials(&with_password(&none, "a password"), None, &own).await.expect("it is current");
    let identity = OutsideIdentity { issuer: "https://login.example".into(), subject: "ada".into() };
    store.link_identity(user.id, &identity, &own).await.expect("it is nobody's");
    let key = store.create_key(&new_key(node.tenant, Some(user.id), 1), &own).await.expect("it is new");
    let reset = token(&node, TokenKind::ResetPassword, Some(&user), 1);
    let letter = crate::people::Mail { to: user.email.to_uppercase().into(), ..mail(node.now, 1) };
    store.issue_token(&reset, Some(&letter), &own).await.expect("the store works");
    store.create_key(&new_key(node.tenant, Some(other.id), 2), &others).await.expect("it is new");
    let name = OutsideName {
        named: Named::User(user.id),
        name: "ada".into(),
        tenant: Some(node.tenant),
        notes: Default::default(),
    };
    store.keep_outside_name(&name, &own).await.expect("it is free");

    let by_state = UserPatch { status: Some(UserStatus::Erased), ..UserPatch::default() };
    let refused = store.update_user(user.id, user.version, &by_state, &own).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    let stale = store.erase_user(user.id, user.version + 1, &own).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    let erased = store.erase_user(user.id, user.version, &own).await.expect("it is current");
    assert_eq!(store.user(user.id).await.expect("the id stays"), erased);
    assert_eq!((erased.status, &*erased.name, erased.version), (UserStatus::Erased, "", user.version + 1));
    assert_eq!(&*erased.email, format!("{}@erased.invalid", user.id));
    assert_eq!(store.user_by_email(&user.email).await.expect("the store works"), None);
    let left = store.credentials(user.id).await.expect("the id stays");
    assert_eq!(left, Credentials { epoch: known.epoch + 1, version: known.version + 1, ..Credentials::none(user.id) });
    assert_eq!(store.user_of_identity(&identity).await.expect("the store works"), None);
    assert_eq!(store.token(reset.kind, &reset.hash, node.now).await.expect("the store works"), None);
    assert!(store.claim_mails(node.now, node.now, 10).await.expect("the store works").is_empty());
    assert!(store.outside_names_of(Named::User(user.id)).await.expect("the store works").is_empty());
    let key = store.key(key.id).await.expect("the id stays");
    assert_eq!((key.status, &*key.name), (KeyStatus::Revoked, ""));

    let log = store.audit_chain(0, u32::MAX).await.expect("the store works");
    let mut chain = Chain::default();
    log.iter().for_each(|event| chain.follow(event).expect("the log is as it was sealed"));
    let places = |id: String| log.iter().filter(move |event| event.actor.id.as_deref() == Some(&*id));
    assert!(places(user.id.to_string()).all(|event| event.actor.address.is_none() && event.actor.agent.is_none()));
    assert!(places(other.id.to_string()).all(|event| event.actor.address.is_some()));
    assert!(log.iter().all(|event| !event.changes.contains(&*user.email)), "the log names nobody");
    assert!(log.iter().any(|event| &*event.action == "user.erased"));

    for refused in [
        store.erase_user(user.id, erased.version, &own).await,
        store.update_user(user.id, erased.version, &back(), &own).await,
    ] {
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }
    let usage = store.usage(&Default::default(), PageRequest::default()).await.expect("the store works");
    assert!(usage.items.is_empty(), "nothing was used");
}

fn back() -> UserPatch {
    UserPatch { status: Some(UserStatus::Active), ..UserPatch::default() }
}

fn at_home(id: &str) -> Actor {
    Actor {
        id: Some(id.into()),
        address: Some("192.0.2.7".parse().expect("an address")),
        agent: Some("a browser".into()),
        ..Actor::of_kind(ActorKind::User)
    }
}
