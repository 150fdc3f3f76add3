//! Rules of subscriptions.

use std::time::Duration;

use cfr_core::id::{ProductVersionId, SubscriptionId};
use cfr_core::ledger::Scope;
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone};

use super::fixture::{DAY, Node, new_tenant, new_user};
use super::secrets::told;
use crate::audit_log::Act;
use crate::budget::{Budget, BudgetFilter, ScopeId};
use crate::identity::{KeyKind, KeyMac, KeyRules, NewKey, User, UserPatch};
use crate::plan::{NewProduct, Terms};
use crate::store::{PageRequest, Store, StoreError};
use crate::subscription::{GRACE, PaymentMode, Subscription, SubscriptionFilter, SubscriptionStatus};

/// A tenant gets a budget for all of its seats, and who has no product of their own is on its terms.
pub async fn a_tenants_subscription_gives_terms_and_a_budget(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let pro = product(&node, "pro", 100).await;
    let user = node.user().await;
    let new = Subscription { seats: Some(3), ..subscription(&node, None, pro) };
    store.add_subscription(&new, &act).await.expect("the tenant has none");
    let budget = budget_of(store, Scope::Tenant, node.tenant.as_u128()).await;
    assert_eq!(budget.map(|budget| budget.spec.included_nanos), Some(300));
    let context = store.user_context(user.id, None).await.expect("the user exists");
    assert_eq!(context.product.map(|product| product.id), Some(pro));
    assert_eq!(context.subscription.as_ref(), Some(&new));
    let key = service_key(&node, 1).await;
    let context = store.key_context(&key).await.expect("readable").expect("the key exists");
    assert_eq!(context.product.map(|product| product.id), Some(pro));
    assert_eq!(context.subscription, Some(new));
    assert_eq!(told(store, "subscription.created").await, 1);
}

/// A user is put on the product with its budget, and the subscription is what says so from then on.
pub async fn a_users_subscription_owns_their_terms(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let (basic, pro) = (product(&node, "basic", 100).await, product(&node, "pro", 500).await);
    let user = node.user().await;
    let new = subscription(&node, Some(&user), basic);
    store.add_subscription(&new, &act).await.expect("the user has none");
    assert_eq!(store.user(user.id).await.expect("the user").product_version, Some(basic));
    let included =
        async || budget_of(store, Scope::User, user.id.as_u128()).await.map(|budget| budget.spec.included_nanos);
    assert_eq!(included().await, Some(100));
    let by_hand = UserPatch { product_version: Some(pro), ..UserPatch::default() };
    refused(store.update_user(user.id, 2, &by_hand, &act).await);
    let migrated = Subscription { product_version: pro, ..new };
    let migrated = store.update_subscription(&migrated, &act).await.expect("it is current");
    assert_eq!((migrated.version, store.user(user.id).await.expect("the user").product_version), (2, Some(pro)));
    assert_eq!(included().await, Some(500));
    let gone = migrated.with_status(SubscriptionStatus::Canceled, node.now);
    store.update_subscription(&gone, &act).await.expect("it ends");
    refused(store.update_user(user.id, 3, &by_hand, &act).await);
    let context = store.user_context(user.id, None).await.expect("the user exists");
    assert_eq!(context.subscription.and_then(|last| last.refuses(node.now)), Some(SubscriptionStatus::Canceled));
}

/// What has not begun gives nothing, and stands in nobody's way when it never does.
pub async fn an_incomplete_subscription_gives_nothing(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let pro = product(&node, "pro", 100).await;
    let user = node.user().await;
    let new =
        Subscription { status: SubscriptionStatus::Incomplete, started_at: None, ..subscription(&node, None, pro) };
    store.add_subscription(&new, &act).await.expect("the tenant has none");
    assert_eq!(budget_of(store, Scope::Tenant, node.tenant.as_u128()).await, None);
    let governs = async || store.user_context(user.id, None).await.expect("the user exists").subscription;
    assert_eq!(governs().await, None);
    let dropped = new.with_status(SubscriptionStatus::Canceled, node.now);
    store.update_subscription(&dropped, &act).await.expect("nobody paid");
    assert_eq!(governs().await, None);
    let again = Subscription { id: SubscriptionId::generate(node.now), ..new };
    store.add_subscription(&again, &act).await.expect("the other one is over");
    let begun = again.with_status(SubscriptionStatus::Active, node.now);
    let begun = store.update_subscription(&begun, &act).await.expect("it is paid");
    assert_eq!(governs().await, Some(begun));
    assert!(budget_of(store, Scope::Tenant, node.tenant.as_u128()).await.is_some());
}

/// Only states that follow on each other, and nobody overwrites what they have not seen.
pub async fn a_subscription_goes_where_its_state_leads(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let pro = product(&node, "pro", 100).await;
    let user = node.user().await;
    for from in SubscriptionStatus::ALL {
        for to in SubscriptionStatus::ALL {
            let new = subscription(&node, Some(&user), pro).with_status(from, node.now);
            store.add_subscription(&new, &act).await.expect("the one before is over");
            let done = store.update_subscription(&new.with_status(to, node.now), &act).await;
            let legal = from.may_become(to) || (from == to && from.is_live());
            assert_eq!(done.is_ok(), legal, "{from:?} to {to:?}: {done:?}");
            let now = store.subscription(new.id).await.expect("it is there");
            if now.status.is_live() {
                refused(store.add_subscription(&subscription(&node, Some(&user), pro), &act).await);
                let end = now.with_status(SubscriptionStatus::Canceled, node.now);
                store.update_subscription(&end, &act).await.expect("every state ends");
                refused(store.update_subscription(&end, &act).await.map(drop));
            }
        }
    }
}

/// Nobody has a seat less than people, and a tenant gets no more people than seats.
pub async fn seats_are_counted_against_people(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let pro = product(&node, "pro", 100).await;
    node.user().await;
    node.user().await;
    let new = subscription(&node, None, pro);
    refused(store.add_subscription(&Subscription { seats: Some(1), ..new.clone() }, &act).await);
    let new = Subscription { seats: Some(2), ..new };
    store.add_subscription(&new, &act).await.expect("a seat for everybody");
    refused(store.create_user(&new_user(node.tenant, "third@example.org"), &act).await);
    let more = store.update_subscription(&Subscription { seats: Some(3), ..new }, &act).await.expect("one more");
    store.create_user(&new_user(node.tenant, "third@example.org"), &act).await.expect("a free seat");
    refused(store.update_subscription(&Subscription { seats: Some(2), ..more }, &act).await);
    let budget = budget_of(store, Scope::Tenant, node.tenant.as_u128()).await;
    assert_eq!(budget.map(|budget| budget.spec.included_nanos), Some(300));
}

/// Of two that are made at once there is one, and of two changes of one version.
pub async fn an_owner_has_one_subscription(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let pro = product(&node, "pro", 100).await;
    let (one, other) = (subscription(&node, None, pro), subscription(&node, None, pro));
    let both = tokio::join!(store.add_subscription(&one, &act), store.add_subscription(&other, &act));
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    let made = if both.0.is_ok() { one } else { other };
    let late = made.with_status(SubscriptionStatus::PastDue, node.now);
    let gone = made.with_status(SubscriptionStatus::Canceled, node.now);
    let both = tokio::join!(store.update_subscription(&late, &act), store.update_subscription(&gone, &act));
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    assert_eq!(told(store, "subscription.changed").await, 1);
}

/// What time alone changes is found when it is due, and by nobody before.
pub async fn subscriptions_that_are_due_are_found(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let pro = product(&node, "pro", 100).await;
    let late = subscription(&node, None, pro).with_status(SubscriptionStatus::PastDue, node.now);
    store.add_subscription(&late, &act).await.expect("the tenant has none");
    let found = async |after: Duration| store.due_subscriptions(node.now + after).await.expect("readable");
    assert_eq!(found(GRACE - DAY).await, []);
    assert_eq!(found(GRACE).await, std::slice::from_ref(&late));
    let unpaid = store.update_subscription(&late.moved(node.now + GRACE), &act).await.expect("it is due");
    assert_eq!((unpaid.status, found(GRACE).await.len()), (SubscriptionStatus::Unpaid, 0));
}

/// By tenant, by user, by state, in pages.
pub async fn subscriptions_are_listed_by_owner(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let pro = product(&node, "pro", 100).await;
    let other = store.create_tenant(&new_tenant("other"), &act).await.expect("the slug is free").id;
    let user = node.user().await;
    let own = [subscription(&node, None, pro), subscription(&node, Some(&user), pro)];
    let foreign = Subscription { tenant: other, ..subscription(&node, None, pro) };
    for new in own.iter().chain([&foreign]) {
        store.add_subscription(new, &act).await.expect("their first one");
    }
    let list = async |filter: SubscriptionFilter, limit| {
        let page = PageRequest { after: None, limit };
        store.subscriptions(&filter, page).await.expect("readable")
    };
    let of_tenant = SubscriptionFilter { tenant: Some(node.tenant), ..SubscriptionFilter::default() };
    let mut sorted = own.clone();
    sorted.sort_by_key(|row| row.id);
    assert_eq!(list(of_tenant, 9).await.items, sorted);
    assert!(list(of_tenant, 1).await.next.is_some());
    let of_user = SubscriptionFilter { user: Some(user.id), ..of_tenant };
    assert_eq!(list(of_user, 9).await.items, own[1..]);
    let ended = SubscriptionFilter { status: Some(SubscriptionStatus::Canceled), ..SubscriptionFilter::default() };
    assert_eq!(list(ended, 9).await.items, []);
    let missing = store.subscription(SubscriptionId::generate(node.now)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Conflict { .. })), "{outcome:?}");
}

async fn budget_of(store: &dyn Store, scope: Scope, id: u128) -> Option<Budget> {
    let filter = BudgetFilter { tenant: None, scope: Some(scope), scope_id: Some(ScopeId(id)) };
    store.budgets(&filter, PageRequest::default()).await.expect("readable").items.into_iter().next()
}

async fn service_key(node: &Node<'_>, number: u8) -> KeyMac {
    let mac = KeyMac([number; 32]);
    let new = NewKey {
        tenant: Some(node.tenant),
        user: None,
        name: "a service".into(),
        kind: KeyKind::Service,
        mac,
        prefix: "cfr_svc_".into(),
        last4: "9fQa".into(),
        models: Vec::new(),
        rules: KeyRules::default(),
        budget: None,
        expires_at: None,
    };
    node.store.create_key(&new, &Act::of_system(node.now)).await.expect("the key is new");
    mac
}

pub(super) async fn product(node: &Node<'_>, code: &str, included: i64) -> ProductVersionId {
    let terms = Terms {
        name: code.into(),
        description: "".into(),
        price_minor: 999,
        currency: Currency::EUR,
        budget_included_nanos: included,
        period: Period::CalendarMonth,
        models: vec!["*".into()],
        features: Vec::new(),
        requests_per_minute: None,
        parallel_requests_max: None,
        output_tokens_default: None,
        margin_bps: 2_000,
        seats: None,
    };
    let new = NewProduct { code: code.into(), terms };
    node.store.publish_product(&new, &Act::of_system(node.now)).await.expect("a product").id
}

/// One that is active.
pub(super) fn subscription(node: &Node<'_>, user: Option<&User>, version: ProductVersionId) -> Subscription {
    let new = Subscription {
        id: SubscriptionId::generate(node.now),
        tenant: node.tenant,
        user: user.map(|user| user.id),
        product_version: version,
        status: SubscriptionStatus::Incomplete,
        payment_mode: PaymentMode::Invoice,
        seats: None,
        period: Period::AnniversaryMonth { anchor: node.now },
        zone: TimeZone::UTC,
        started_at: None,
        trial_ends_at: None,
        grace_ends_at: None,
        cancel_at: None,
        ended_at: None,
        version: 1,
        created_at: node.now,
        updated_at: node.now,
    };
    new.with_status(SubscriptionStatus::Active, node.now)
}
