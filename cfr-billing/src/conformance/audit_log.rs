//! Rules of the audit log.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{RequestId, TenantId, UserId};
use cfr_core::time::Timestamp;

use super::catalog::{new_key, publish};
use super::fixture::{Node, new_tenant, new_user, top_up, user_budget};
use crate::audit_log::{Act, Action, Actor, ActorKind, AuditEvent, AuditFilter, Chain, Event};
use crate::identity::{UserPatch, UserStatus};
use crate::store::{Cursor, NewGrant, PageRequest, Store};

/// A program at a known address.
fn somebody(at: Timestamp) -> Act {
    let by = Actor {
        kind: ActorKind::Key,
        id: Some("key_1".into()),
        address: Some("2001:db8::1".parse().expect("an address")),
        agent: Some("curl/8".into()),
        request: Some(RequestId::from_u128(7)),
    };
    Act { by: Arc::new(by), at }
}

const NONE: [i64; 0] = [];

async fn log(store: &dyn Store) -> Vec<AuditEvent> {
    store.audit_chain(0, u32::MAX).await.expect("the store works")
}

fn followed(log: &[AuditEvent]) -> Chain {
    let mut chain = Chain::default();
    log.iter().for_each(|event| chain.follow(event).expect("the log is as it was sealed"));
    chain
}

/// Who, what, when and from where, in the order of the changes.
pub async fn every_change_is_told(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = somebody(node.now);
    let version = publish(&node, "starter", 100).await;
    store.set_product_active(version.product, false, &act).await.expect("it exists");
    let user = store.create_user(&new_user(node.tenant, "ada@example.org"), &act).await.expect("it is free");
    let patch = UserPatch { status: Some(UserStatus::Suspended), ..Default::default() };
    store.update_user(user.id, 1, &patch, &act).await.expect("it is current");
    let key = store.create_key(&new_key(node.tenant, Some(user.id), 1), &act).await.expect("it is new");
    store.revoke_key(key.id, &act).await.expect("it exists");
    let budget = store.create_budget(&user_budget(&user), &act).await.expect("the user has none").spec.id;
    store.set_budget_limit(budget, 1, 50, &act).await.expect("it is current");
    let grant = NewGrant { actor: Arc::clone(&act.by), ..top_up(budget, 5, "invoice-1") };
    let grant = store.grant(&grant, node.now).await.expect("the budget exists");
    store.save_prices(&[7; 32], "a file", b"{}", &act).await.expect("the store works");

    let log = log(store).await;
    let told: Vec<(&str, &str)> = log.iter().map(|event| (&*event.action, &*event.target)).collect();
    let (tenant, product, user) = (node.tenant.to_string(), version.product.to_string(), user.id.to_string());
    let (key, budget, grant) = (key.id.to_string(), budget.to_string(), grant.id.to_string());
    let prices = "07".repeat(32);
    let expected = [
        ("tenant.created", &*tenant),
        ("product.published", &product),
        ("product.changed", &product),
        ("user.created", &user),
        ("user.changed", &user),
        ("key.created", &key),
        ("key.revoked", &key),
        ("budget.created", &budget),
        ("budget.changed", &budget),
        ("grant.booked", &grant),
        ("prices.imported", &prices),
    ];
    assert_eq!(told, expected);
    for event in &log[3..] {
        assert_eq!((&event.actor, event.at), (&*act.by, node.now), "{}", event.action);
    }
    let changed = log.iter().find(|event| &*event.action == "user.changed").expect("it was told");
    assert!(changed.changes.contains(r#""status":["active","suspended"]"#), "{}", changed.changes);
    let created = log.iter().find(|event| &*event.action == "user.created").expect("it was told");
    assert!(!created.changes.contains("ada"), "{}", created.changes);
    assert_eq!(followed(&log).seq, 11);
}

/// Neither a change that was refused nor one that had been made already.
pub async fn what_did_not_happen_is_not_told(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = somebody(node.now);
    let budget = node.hard(10).await;
    store.grant(&top_up(budget, 5, "invoice-1"), node.now).await.expect("the budget exists");
    store.save_prices(&[7; 32], "a file", b"{}", &act).await.expect("the store works");
    let before = log(store).await;

    store.grant(&top_up(budget, 5, "invoice-1"), node.now).await.expect("it is the same one");
    store.save_prices(&[7; 32], "a file", b"{}", &act).await.expect("it is the same one");
    store.create_tenant(&new_tenant("acme"), &act).await.expect_err("the slug is taken");
    store.set_budget_limit(budget, 9, 50, &act).await.expect_err("it is not current");
    let unknown = store.update_user(UserId::generate(node.now), 1, &UserPatch::default(), &act).await;
    unknown.expect_err("nobody has this id");
    assert_eq!(log(store).await, before);
}

/// Also from many sides at once.
pub async fn the_log_is_one_chain(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = somebody(node.now);
    let make = async |slug: &str| {
        store.create_tenant(&new_tenant(slug), &act).await.expect("the slug is free");
        store.create_tenant(&new_tenant(&format!("{slug}-again")), &act).await.expect("the slug is free");
    };
    tokio::join!(make("one"), make("two"), make("three"), make("four"));
    let log = log(store).await;
    assert_eq!(followed(&log).seq, 9);
    let some = store.audit_chain(4, 3).await.expect("the store works");
    assert_eq!(some, log[4..7]);
}

/// The newest first; by tenant, actor, action, target and time.
pub async fn events_are_filtered_and_listed_newest_first(store: &dyn Store) {
    let node = Node::start(store).await;
    let other = store.create_tenant(&new_tenant("other"), &somebody(node.now)).await.expect("the slug is free");
    let later = node.later(Duration::from_secs(60));
    let user = store.create_user(&new_user(other.id, "ada@example.org"), &somebody(later.now)).await.expect("free");
    let event = Event::created(Action::UserCreated, &user);
    store.record(&event, &Act::of_system(later.now)).await.expect("the store works");
    let all = AuditFilter::default;
    let list = async |filter: AuditFilter| {
        let page = store.audit_events(&filter, PageRequest::default()).await.expect("the store works");
        page.items.iter().map(|event| event.seq).collect::<Vec<_>>()
    };
    assert_eq!(list(all()).await, [4, 3, 2, 1]);
    assert_eq!(list(AuditFilter { tenant: Some(other.id), ..all() }).await, [4, 3, 2]);
    assert_eq!(list(AuditFilter { tenant: Some(TenantId::generate(node.now)), ..all() }).await, NONE);
    assert_eq!(list(AuditFilter { actor: Some("key_1".into()), ..all() }).await, [3, 2]);
    assert_eq!(list(AuditFilter { action: Some("tenant.".into()), ..all() }).await, [2, 1]);
    assert_eq!(list(AuditFilter { action: Some("%".into()), ..all() }).await, NONE);
    assert_eq!(list(AuditFilter { target: Some(user.id.to_string().into()), ..all() }).await, [4, 3]);
    assert_eq!(list(AuditFilter { from: Some(later.now), ..all() }).await, [4, 3]);
    assert_eq!(list(AuditFilter { until: Some(later.now), ..all() }).await, [2, 1]);
    let first = PageRequest { after: None, limit: 3 };
    let page = store.audit_events(&all(), first).await.expect("the store works");
    assert_eq!((page.items.len(), page.next), (3, Some(Cursor(2))));
    let rest = store.audit_events(&all(), PageRequest { after: page.next, limit: 3 }).await.expect("the store works");
    assert_eq!((rest.items.len(), rest.next), (1, None));
}
