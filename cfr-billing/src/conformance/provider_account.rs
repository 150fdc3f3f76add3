//! Rules of accounts at providers.

use std::sync::Arc;

use cfr_core::id::{ProviderAccountId, TenantId};

use super::fixture::{Node, new_tenant};
use super::secrets::told;
use crate::audit_log::Act;
use crate::provider_account::{ProviderAccount, ProviderAccountStatus, SealedAccount};
use crate::store::{PageRequest, Store, StoreError};

/// With their secrets, each owner's under names of their own.
pub async fn provider_accounts_are_kept_by_their_owners_name(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let other = store.create_tenant(&new_tenant("other"), &act).await.expect("the slug is free").id;
    let mut all = Vec::new();
    for owner in [None, Some(node.tenant), Some(other)] {
        let new = account(&node, owner, "main");
        store.add_provider_account(&new, &act).await.expect("the name is free");
        assert_eq!(store.provider_account(new.account.id).await.expect("it is there"), new);
        let again = store.add_provider_account(&account(&node, owner, "main"), &act).await;
        assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
        all.push(new);
    }
    assert_eq!(list(store, Some(other)).await, all[2..]);
    all.sort_by_key(|sealed| sealed.account.id);
    assert_eq!(list(store, None).await, all);
    assert_eq!(told(store, "provider_account.created").await, 3);
}

/// The secret stays until there is another one, and the owner for ever.
pub async fn a_provider_account_is_changed_by_who_saw_it(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let first = account(&node, Some(node.tenant), "main");
    let second = account(&node, Some(node.tenant), "spare");
    for new in [&first, &second] {
        store.add_provider_account(new, &act).await.expect("the name is free");
    }
    let mut wish = SealedAccount { secret: None, ..first.clone() };
    wish.account.status = ProviderAccountStatus::Disabled;
    store.update_provider_account(1, &wish, &act).await.expect("it is current");
    let late = store.update_provider_account(1, &wish, &act).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    let found = store.provider_account(first.account.id).await.expect("it is there");
    assert_eq!((found.account.status, found.account.version), (ProviderAccountStatus::Disabled, 2));
    assert_eq!(found.secret, first.secret);
    wish.secret = Some("sealed-anew".into());
    store.update_provider_account(2, &wish, &act).await.expect("it is current");
    let found = store.provider_account(first.account.id).await.expect("it is there");
    assert_eq!((found.secret, found.account.version), (wish.secret.clone(), 3));
    wish.account.name = Arc::clone(&second.account.name);
    let taken = store.update_provider_account(3, &wish, &act).await;
    assert!(matches!(taken, Err(StoreError::Conflict { .. })), "{taken:?}");
    assert_eq!(told(store, "provider_account.changed").await, 2);
}

/// With its secret; the name is free again.
pub async fn a_removed_provider_account_is_gone(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let new = account(&node, None, "main");
    store.add_provider_account(&new, &act).await.expect("the name is free");
    assert_eq!(store.remove_provider_account(new.account.id, &act).await.expect("it is there"), new.account);
    for gone in [
        store.provider_account(new.account.id).await.map(drop),
        store.remove_provider_account(new.account.id, &act).await.map(drop),
        store.update_provider_account(1, &new, &act).await,
    ] {
        assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
    }
    assert_eq!(list(store, None).await, []);
    store.add_provider_account(&account(&node, None, "main"), &act).await.expect("the name is free");
    assert_eq!(told(store, "provider_account.removed").await, 1);
}

async fn list(store: &dyn Store, tenant: Option<TenantId>) -> Vec<SealedAccount> {
    store.provider_accounts(tenant, PageRequest::default()).await.expect("readable").items
}

pub(super) fn account(node: &Node<'_>, tenant: Option<TenantId>, name: &str) -> SealedAccount {
    let account = ProviderAccount {
        id: ProviderAccountId::generate(node.now),
        tenant,
        name: name.into(),
        provider: "openai".into(),
        base_url: None,
        region: Some("eu".into()),
        status: ProviderAccountStatus::Active,
        secret_last4: Some("9fQa".into()),
        secret_set_at: Some(node.now),
        version: 1,
        created_at: node.now,
    };
    SealedAccount { account, secret: Some("sealed".into()) }
}
