//! Rules of tenants, products, users, keys, budgets and prices.

use std::time::Duration;

use cfr_core::id::{BudgetId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::Scope;
use cfr_core::money::Currency;
use cfr_core::time::{Period, Timestamp};

use super::fixture::{DAY, Node, new_tenant, new_user, user_budget};
use crate::audit_log::Act;
use crate::budget::{BudgetFilter, NewBudget, ScopeId};
use crate::identity::{
    KeyKind, KeyMac, KeyRules, KeyStatus, NewKey, NewTenant, NewUser, TenantPatch, TenantStatus, User, UserFilter,
    UserPatch,
};
use crate::plan::{NewProduct, ProductVersion, Terms};
use crate::store::{PageRequest, Store, StoreError};

/// Also against tenants that are not active any more.
pub async fn slugs_and_domains_are_unique(store: &dyn Store) {
    let node = Node::start(store).await;
    let first = NewTenant { domain: Some("one.example".into()), ..new_tenant("one") };
    let made = store.create_tenant(&first, &Act::of_system(node.now)).await.expect("both are free");
    assert_eq!((made.version, made.status), (1, TenantStatus::Active));
    assert_conflict(store.create_tenant(&new_tenant("one"), &Act::of_system(node.now)).await);
    assert_conflict(store.create_tenant(&NewTenant { slug: "two".into(), ..first }, &Act::of_system(node.now)).await);
    store.create_tenant(&new_tenant("two"), &Act::of_system(node.now)).await.expect("no domain is not a taken one");
    assert_eq!(store.tenant_by_slug("one").await.expect("the store works"), Some(made));
    assert_eq!(store.tenant_by_slug("three").await.expect("the store works"), None);
}

/// `A@Example.org` is `a@example.org`, and is shown as it was written.
pub async fn addresses_are_unique_without_regard_to_case(store: &dyn Store) {
    let node = Node::start(store).await;
    let user = store
        .create_user(&new_user(node.tenant, "Ada@Example.org"), &Act::of_system(node.now))
        .await
        .expect("it is free");
    assert_eq!(&*user.email, "Ada@Example.org");
    assert_conflict(store.create_user(&new_user(node.tenant, "ada@example.ORG"), &Act::of_system(node.now)).await);
    assert_eq!(store.user(user.id).await.expect("it exists"), user);
}

/// Publishing a code again makes the next version; customers keep theirs.
pub async fn product_codes_lead_to_immutable_versions(store: &dyn Store) {
    let node = Node::start(store).await;
    let first = publish(&node, "starter", 100).await;
    let second = publish(&node.later(Duration::from_secs(1)), "starter", 200).await;
    assert_eq!((first.version, second.version, first.product), (1, 2, second.product));
    assert_eq!(store.product_version(first.id).await.expect("it exists"), first);
    assert_eq!(store.product_versions(first.product).await.expect("it exists"), [second.clone(), first]);
    let product = store.product_by_code("starter").await.expect("the store works").expect("it exists");
    assert_eq!((product.current, product.active), (second, true));
    let closed = store.set_product_active(product.id, false, &Act::of_system(node.now)).await.expect("it exists");
    assert!(!closed.active && !store.product(product.id).await.expect("it exists").active);
}

/// Two administrators do not overwrite each other.
pub async fn a_change_needs_the_current_version(store: &dyn Store) {
    let node = Node::start(store).await;
    let later = node.later(DAY);
    let patch = TenantPatch { name: Some("Acme Inc.".into()), ..Default::default() };
    let changed = store.update_tenant(node.tenant, 1, &patch, &Act::of_system(later.now)).await.expect("it is current");
    assert_eq!(
        (&*changed.name, changed.version, changed.updated_at, changed.created_at),
        ("Acme Inc.", 2, later.now, node.now)
    );
    assert_conflict(store.update_tenant(node.tenant, 1, &patch, &Act::of_system(later.now)).await);
    let patch = TenantPatch { status: Some(TenantStatus::Suspended), users_max: Some(Some(3)), ..Default::default() };
    let changed = store.update_tenant(node.tenant, 2, &patch, &Act::of_system(later.now)).await.expect("it is current");
    assert_eq!((&*changed.name, changed.status, changed.users_max), ("Acme Inc.", TenantStatus::Suspended, Some(3)));
    let user = node.user().await;
    let patch = UserPatch { name: Some("Ada".into()), ..Default::default() };
    let renamed = store.update_user(user.id, 1, &patch, &Act::of_system(later.now)).await.expect("it is current");
    assert_eq!((&*renamed.name, renamed.version, renamed.role), ("Ada", 2, user.role));
    assert_conflict(store.update_user(user.id, 1, &patch, &Act::of_system(later.now)).await);
}

/// The limit counts people, not tombstones.
pub async fn a_tenant_has_no_more_users_than_it_may(store: &dyn Store) {
    let node = Node::start(store).await;
    let small = NewTenant { users_max: Some(2), ..new_tenant("small") };
    let small = store.create_tenant(&small, &Act::of_system(node.now)).await.expect("the slug is free").id;
    let first =
        store.create_user(&new_user(small, "a@example.org"), &Act::of_system(node.now)).await.expect("there is room");
    store.create_user(&new_user(small, "b@example.org"), &Act::of_system(node.now)).await.expect("there is room");
    assert_conflict(store.create_user(&new_user(small, "c@example.org"), &Act::of_system(node.now)).await);
    let gone = UserPatch { status: Some(crate::identity::UserStatus::Deleted), ..Default::default() };
    store.update_user(first.id, 1, &gone, &Act::of_system(node.now)).await.expect("it is current");
    store.create_user(&new_user(small, "c@example.org"), &Act::of_system(node.now)).await.expect("there is room again");
}

/// In one transaction, by the product's terms.
pub async fn a_user_with_a_product_gets_its_budget(store: &dyn Store) {
    let node = Node::start(store).await;
    let version = publish(&node, "starter", 2_500).await;
    let user = subscribed(&node, version.id).await;
    let budgets = budgets_of(&node, &user).await;
    let [budget] = budgets.as_slice() else { panic!("expected one budget, got {budgets:?}") };
    assert_eq!((budget.spec.scope, budget.spec.included_nanos, budget.tenant), (Scope::User, 2_500, Some(node.tenant)));
    assert_eq!(budget.spec.period, version.terms.period);
    assert_eq!(node.sums(budget.spec.id).await, (2_500, 0, 0));
}

/// The open period keeps what it was granted.
pub async fn new_terms_change_the_next_period(store: &dyn Store) {
    let node = Node::start(store).await;
    let (small, large) = (publish(&node, "small", 100).await, publish(&node, "large", 900).await);
    let user = subscribed(&node, small.id).await;
    let budget = budgets_of(&node, &user).await.first().expect("it has one").spec.id;
    assert_eq!(node.sums(budget).await, (100, 0, 0));
    let patch = UserPatch { product_version: Some(large.id), ..Default::default() };
    let moved = store.update_user(user.id, 1, &patch, &Act::of_system(node.now)).await.expect("it is current");
    assert_eq!(moved.product_version, Some(large.id));
    assert_eq!(node.sums(budget).await, (100, 0, 0));
    assert_eq!(node.later(DAY * 40).sums(budget).await, (900, 0, 0));
}

/// The secret itself is nowhere in the store.
pub async fn a_key_is_found_by_its_mac_alone(store: &dyn Store) {
    let node = Node::start(store).await;
    let key = store.create_key(&new_key(node.tenant, None, 1), &Act::of_system(node.now)).await.expect("it is new");
    let found = store.key_context(&KeyMac([1; 32])).await.expect("the store works").expect("it exists");
    assert_eq!((&found.key, found.user, found.product), (&key, None, None));
    assert_eq!(found.tenant.map(|tenant| tenant.id), Some(node.tenant));
    assert_eq!(store.key_context(&KeyMac([2; 32])).await.expect("the store works"), None);
    assert_conflict(store.create_key(&new_key(node.tenant, None, 1), &Act::of_system(node.now)).await);
    assert_not_found(
        store.create_key(&new_key(TenantId::generate(node.now), None, 3), &Act::of_system(node.now)).await,
    );
    assert_not_found(
        store.create_key(&new_key(node.tenant, Some(UserId::generate(node.now)), 3), &Act::of_system(node.now)).await,
    );
}

/// It is still found, so that its owner can be told.
pub async fn a_revoked_key_stays_revoked(store: &dyn Store) {
    let node = Node::start(store).await;
    let key = store.create_key(&new_key(node.tenant, None, 1), &Act::of_system(node.now)).await.expect("it is new");
    for _ in 0..2 {
        assert_eq!(
            store.revoke_key(key.id, &Act::of_system(node.now)).await.expect("it exists").status,
            KeyStatus::Revoked
        );
    }
    let found = store.key_context(&KeyMac([1; 32])).await.expect("the store works").expect("it exists");
    assert_eq!(found.key.status, KeyStatus::Revoked);
    assert_eq!(store.key(key.id).await.expect("it exists").status, KeyStatus::Revoked);
}

/// Key, user, tenant, product, platform; nobody else's.
pub async fn a_key_context_lists_the_path_in_order(store: &dyn Store) {
    let node = Node::start(store).await;
    let version = publish(&node, "starter", 100).await;
    let user = subscribed(&node, version.id).await;
    let stranger = subscribed(&node, version.id).await;
    let key =
        store.create_key(&new_key(node.tenant, Some(user.id), 1), &Act::of_system(node.now)).await.expect("it is new");
    let scopes = [
        (Scope::Platform, 0, None),
        (Scope::Product, version.product.as_u128(), None),
        (Scope::Tenant, node.tenant.as_u128(), Some(node.tenant)),
        (Scope::Key, key.id.as_u128(), Some(node.tenant)),
    ];
    let mut path = vec![(Scope::User, budgets_of(&node, &user).await.first().expect("it has one").spec.id)];
    for (scope, id, tenant) in scopes {
        let new = NewBudget { scope, scope_id: ScopeId(id), tenant, ..user_budget(&user) };
        path.push((
            scope,
            store.create_budget(&new, &Act::of_system(node.now)).await.expect("it is the first").spec.id,
        ));
    }
    let context = store.key_context(&KeyMac([1; 32])).await.expect("the store works").expect("it exists");
    assert_eq!(context.product.as_ref(), Some(&version));
    assert_eq!(context.user.as_ref(), Some(&user));
    let found: Vec<_> = context.budgets.iter().map(|spec| (spec.scope, spec.id)).collect();
    let expected = [Scope::Key, Scope::User, Scope::Tenant, Scope::Product, Scope::Platform];
    let expected: Vec<_> =
        expected.iter().filter_map(|scope| path.iter().find(|(other, _)| other == scope).copied()).collect();
    assert_eq!(found, expected);
    assert!(budgets_of(&node, &stranger).await.iter().all(|budget| !found.contains(&(Scope::User, budget.spec.id))));
}

/// Another currency or another kind of period is another budget.
pub async fn a_scope_has_one_budget_of_a_kind(store: &dyn Store) {
    let node = Node::start(store).await;
    let user = node.user().await;
    let first = user_budget(&user);
    let made = store.create_budget(&first, &Act::of_system(node.now)).await.expect("it is the first");
    assert_eq!((made.active, made.version, made.scope_id), (true, 1, first.scope_id));
    assert_conflict(
        store.create_budget(&NewBudget { included_nanos: 5, ..first.clone() }, &Act::of_system(node.now)).await,
    );
    store
        .create_budget(&NewBudget { period: Period::Day, ..first.clone() }, &Act::of_system(node.now))
        .await
        .expect("another period");
    store
        .create_budget(&NewBudget { currency: Currency::USD, ..first }, &Act::of_system(node.now))
        .await
        .expect("another currency");
    assert_eq!(budgets_of(&node, &user).await.len(), 3);
    assert_eq!(store.budget(made.spec.id).await.expect("it exists"), made);
}

/// In one order, each row once, however small the pages.
pub async fn lists_are_paged_completely_and_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let mut made = vec![node.tenant];
    for number in 1..8_u64 {
        let later = node.later(Duration::from_secs(number));
        let slug = format!("tenant-{number}");
        made.push(
            store.create_tenant(&new_tenant(&slug), &Act::of_system(later.now)).await.expect("the slug is free").id,
        );
        store
            .create_user(&new_user(node.tenant, &format!("{number}@example.org")), &Act::of_system(later.now))
            .await
            .expect("it is free");
    }
    for limit in [1, 3, 8, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.tenants(PageRequest { after, limit }).await.expect("the store works");
            assert!(page.items.len() <= limit as usize);
            found.extend(page.items.into_iter().map(|tenant| tenant.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, made, "pages of {limit}, in the order of creation");
    }
    let users =
        store.users(&UserFilter::of_tenant(node.tenant), PageRequest::default()).await.expect("the store works").items;
    assert_eq!(users.iter().map(|user| &*user.email).collect::<Vec<_>>().len(), 7);
    let last = UserFilter::of_tenant(*made.last().expect("some were made"));
    let others = store.users(&last, PageRequest::default()).await.expect("the store works");
    assert_eq!((others.items, others.next), (vec![], None));
}

/// Of every kind.
pub async fn what_does_not_exist_is_not_found(store: &dyn Store) {
    let node = Node::start(store).await;
    let now: Timestamp = node.now;
    assert_not_found(store.tenant(TenantId::generate(now)).await);
    assert_not_found(
        store.update_tenant(TenantId::generate(now), 1, &TenantPatch::default(), &Act::of_system(now)).await,
    );
    assert_not_found(store.product(ProductId::generate(now)).await);
    assert_not_found(store.product_version(ProductVersionId::generate(now)).await);
    assert_not_found(store.set_product_active(ProductId::generate(now), true, &Act::of_system(now)).await);
    assert_not_found(store.user(UserId::generate(now)).await);
    assert_not_found(store.update_user(UserId::generate(now), 1, &UserPatch::default(), &Act::of_system(now)).await);
    assert_not_found(store.key(KeyId::generate(now)).await);
    assert_not_found(store.revoke_key(KeyId::generate(now), &Act::of_system(now)).await);
    assert_not_found(store.budget(BudgetId::generate(now)).await);
    assert_not_found(store.set_budget_limit(BudgetId::generate(now), 1, 5, &Act::of_system(now)).await);
    assert_eq!(store.product_by_code("none").await.expect("the store works"), None);
}

/// The last one that was new is the latest.
pub async fn price_tables_are_kept_by_hash(store: &dyn Store) {
    let node = Node::start(store).await;
    assert_eq!(store.latest_prices().await.expect("the store works"), None);
    for (hash, body) in [([1; 32], b"one"), ([2; 32], b"two"), ([1; 32], b"one")] {
        store.save_prices(&hash, "a rule", body, &Act::of_system(node.now)).await.expect("the store works");
    }
    assert_eq!(store.latest_prices().await.expect("the store works").as_deref(), Some(b"two".as_slice()));
}

pub(super) async fn publish(node: &Node<'_>, code: &str, included: i64) -> ProductVersion {
    let terms = Terms {
        name: code.into(),
        description: "".into(),
        price_minor: 999,
        currency: Currency::EUR,
        budget_included_nanos: included,
        period: Period::CalendarMonth,
        models: vec!["*".into()],
        features: vec!["portal".into()],
        requests_per_minute: Some(60),
        parallel_requests_max: None,
        output_tokens_default: Some(1_024),
        margin_bps: 2_000,
        seats: None,
    };
    node.store
        .publish_product(&NewProduct { code: code.into(), terms }, &Act::of_system(node.now))
        .await
        .expect("the store works")
}

async fn subscribed(node: &Node<'_>, version: ProductVersionId) -> User {
    let address = format!("{}@example.org", TenantId::generate(node.now));
    let new = NewUser { product_version: Some(version), ..new_user(node.tenant, &address) };
    node.store.create_user(&new, &Act::of_system(node.now)).await.expect("the address is free")
}

async fn budgets_of(node: &Node<'_>, user: &User) -> Vec<crate::budget::Budget> {
    let filter =
        BudgetFilter { scope: Some(Scope::User), scope_id: Some(ScopeId(user.id.as_u128())), ..Default::default() };
    node.store.budgets(&filter, PageRequest::default()).await.expect("the store works").items
}

pub(super) fn new_key(tenant: TenantId, user: Option<UserId>, mac: u8) -> NewKey {
    NewKey {
        tenant: Some(tenant),
        user,
        name: "laptop".into(),
        kind: KeyKind::Live,
        mac: KeyMac([mac; 32]),
        prefix: "cfr_live_ab".into(),
        last4: "wxyz".into(),
        models: vec!["gpt-*".into()],
        rules: KeyRules::default(),
        budget: None,
        expires_at: None,
    }
}

#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "expected a conflict, got {result:?}");
}

#[track_caller]
fn assert_not_found<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::NotFound { .. })), "expected that nothing is found, got {result:?}");
}
