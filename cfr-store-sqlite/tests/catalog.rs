//! Tenants, products, users, keys and budgets: what is unique, what is limited, and what a key finds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use cfr_billing::approval::Consent;
use cfr_billing::audit_log::Act;
use cfr_billing::budget::{BudgetFilter, GrantKind, NewBudget, ScopeId};
use cfr_billing::identity::{
    KeyKind, KeyMac, KeyRules, KeyStatus, NewKey, NewUser, Role, TenantPatch, TenantStatus, User, UserFilter,
    UserPatch, UserStatus,
};
use cfr_billing::plan::{NewProduct, ProductVersion, Terms};
use cfr_billing::store::{Boot, CatalogStore, Cursor, LedgerStore, NewGrant, PageRequest, StoreError};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::{ProductVersionId, TenantId};
use cfr_core::ledger::{LimitPolicy, Scope};
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone};
use cfr_store_sqlite::SqliteStore;
use support::*;

fn terms() -> Terms {
    Terms {
        name: "Starter".into(),
        description: "".into(),
        price_minor: 999,
        currency: Currency::EUR,
        budget_included_nanos: 25_000,
        period: Period::CalendarMonth,
        models: vec!["*".into()],
        features: Vec::new(),
        requests_per_minute: Some(120),
        parallel_requests_max: None,
        output_tokens_default: None,
        margin_bps: 2_000,
        seats: None,
    }
}

async fn product(store: &SqliteStore, terms: Terms) -> ProductVersion {
    store.publish_product(&NewProduct { code: "starter".into(), terms }, &Act::of_system(at(0))).await.unwrap()
}

fn user(tenant: TenantId, email: &str, product_version: Option<ProductVersionId>) -> NewUser {
    NewUser { tenant, email: email.into(), name: "Ada".into(), role: Role::User, product_version, locale: None }
}

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Arc<str> {
    match result {
        Err(StoreError::Conflict { what }) => what,
        other => panic!("a conflict was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_slug_is_taken_once_and_a_version_is_changed_once() {
    let home = Home::new();
    let store = home.open().await;
    let acme = tenant(&store).await;
    let twin = cfr_billing::identity::NewTenant {
        slug: "acme".into(),
        name: "Other".into(),
        domain: None,
        kind: acme.kind,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::EUR,
        settings: Default::default(),
    };
    assert_eq!(
        &*conflict(store.create_tenant(&twin, &Act::of_system(at(1))).await),
        "the slug is taken by another tenant"
    );
    let patch = TenantPatch { status: Some(TenantStatus::Suspended), ..TenantPatch::default() };
    let changed = store.update_tenant(acme.id, 1, &patch, &Act::of_system(at(2))).await.unwrap();
    assert_eq!((changed.status, changed.version, changed.updated_at), (TenantStatus::Suspended, 2, at(2)));
    conflict(store.update_tenant(acme.id, 1, &patch, &Act::of_system(at(3))).await);
    assert_eq!(store.tenant_by_slug("acme").await.unwrap(), Some(changed));
}

#[tokio::test]
async fn an_address_is_taken_without_regard_to_case() {
    let home = Home::new();
    let store = home.open().await;
    let acme = tenant(&store).await;
    let ada = store.create_user(&user(acme.id, "Ada@Example.org", None), &Act::of_system(at(1))).await.unwrap();
    let refused = store.create_user(&user(acme.id, " ada@example.ORG", None), &Act::of_system(at(2))).await;
    assert_eq!(&*conflict(refused), "the address is taken by another user");
    assert_eq!(store.user_by_email("ADA@example.org").await.unwrap(), Some(ada));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_not_sold_twice() {
    let home = Home::new();
    let store = Arc::new(home.open().await);
    let acme = tenant(&store).await;
    let patch = TenantPatch { users_max: Some(Some(4)), ..TenantPatch::default() };
    store.update_tenant(acme.id, 1, &patch, &Act::of_system(at(0))).await.unwrap();
    let starter = product(&store, Terms { seats: Some(2), ..terms() }).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (store, version) = (Arc::clone(&store), (number % 2 == 0).then_some(starter.id));
        let new = user(acme.id, &format!("u{number}@example.org"), version);
        tasks.spawn(async move { store.create_user(&new, &Act::of_system(at(1))).await });
    }
    let made: Vec<User> = tasks.join_all().await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(made.len(), 4);
    assert!(made.iter().filter(|user| user.product_version.is_some()).count() <= 2);
    let gone = UserPatch { status: Some(UserStatus::Deleted), ..UserPatch::default() };
    store.update_user(made[0].id, 1, &gone, &Act::of_system(at(2))).await.unwrap();
    store
        .create_user(&user(acme.id, "next@example.org", None), &Act::of_system(at(3)))
        .await
        .expect("a place is free again");
    let back = UserPatch { status: Some(UserStatus::Active), ..UserPatch::default() };
    conflict(store.update_user(made[0].id, 2, &back, &Act::of_system(at(4))).await);
}

#[tokio::test]
async fn a_user_gets_a_budget_by_the_terms_and_new_terms_hold_from_the_next_period() {
    let home = Home::new();
    let store = home.open().await;
    let acme = tenant(&store).await;
    let starter = product(&store, terms()).await;
    let ada =
        store.create_user(&user(acme.id, "ada@example.org", Some(starter.id)), &Act::of_system(at(1))).await.unwrap();
    let filter = BudgetFilter { scope: Some(Scope::User), ..BudgetFilter::default() };
    let budget = store.budgets(&filter, PageRequest::default()).await.unwrap().items.remove(0);
    assert_eq!((budget.spec.included_nanos, budget.scope_id), (25_000, ScopeId(ada.id.as_u128())));
    assert_eq!(store.account(budget.spec.id, at(2)).await.unwrap().granted, 25_000);

    let better = product(&store, Terms { budget_included_nanos: 40_000, ..terms() }).await;
    assert_eq!(better.version, 2);
    let patch = UserPatch { product_version: Some(better.id), ..UserPatch::default() };
    store.update_user(ada.id, 1, &patch, &Act::of_system(at(3))).await.unwrap();
    assert_eq!(store.account(budget.spec.id, at(4)).await.unwrap().granted, 25_000, "this period keeps its grant");
    assert_eq!(store.account(budget.spec.id, at(32 * 86_400)).await.unwrap().granted, 40_000);
    assert_eq!(store.product_versions(starter.product).await.unwrap(), [better, starter]);
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_published_version_cannot_be_changed() {
    let home = Home::new();
    let store = home.open().await;
    product(&store, terms()).await;
    store.close().await.unwrap();
    for sql in ["UPDATE product_versions SET terms = '{}'", "DELETE FROM product_versions"] {
        let refused = raw(&home.path(), sql).await.expect_err(sql).to_string();
        assert!(refused.contains("immutable"), "{refused}");
    }
}

#[tokio::test]
async fn a_key_finds_its_whole_path_in_order() {
    let home = Home::new();
    let store = home.open().await;
    let acme = tenant(&store).await;
    let starter = product(&store, terms()).await;
    let platform = limit(&store, Scope::Platform, 0).await;
    let product_pool = limit(&store, Scope::Product, starter.product.as_u128()).await;
    let tenant_pool = limit(&store, Scope::Tenant, acme.id.as_u128()).await;
    let ada =
        store.create_user(&user(acme.id, "ada@example.org", Some(starter.id)), &Act::of_system(at(1))).await.unwrap();
    let new = NewKey {
        tenant: Some(acme.id),
        user: Some(ada.id),
        name: "laptop".into(),
        kind: KeyKind::Live,
        mac: KeyMac([7; 32]),
        prefix: "cfr_live_ab".into(),
        last4: "wxyz".into(),
        models: vec!["gpt-*".into()],
        rules: KeyRules::default(),
        budget: None,
        expires_at: Some(at(1_000)),
    };
    let key = store.create_key(&new, &Act::of_system(at(2))).await.unwrap();
    assert_eq!(&*conflict(store.create_key(&new, &Act::of_system(at(2))).await), "the key exists already");
    let own = limit(&store, Scope::Key, key.id.as_u128()).await;
    limit(&store, Scope::Key, 99).await;
    let context = store.key_context(&KeyMac([7; 32])).await.unwrap().expect("the key is known");
    let path: Vec<_> = context.budgets.iter().map(|spec| spec.scope).collect();
    assert_eq!(path, [Scope::Key, Scope::User, Scope::Tenant, Scope::Product, Scope::Platform]);
    let ids: Vec<_> = context.budgets.iter().map(|spec| spec.id).collect();
    assert_eq!((ids[0], ids[2], ids[3], ids[4]), (own, tenant_pool, product_pool, platform));
    assert_eq!((context.user, context.tenant, context.product), (Some(ada.clone()), Some(acme), Some(starter)));
    assert_eq!(store.revoke_key(key.id, &Act::of_system(at(3))).await.unwrap().status, KeyStatus::Revoked);
    assert_eq!(store.keys(None, Some(ada.id), PageRequest::default()).await.unwrap().items.len(), 1);
    assert_eq!(store.key_context(&KeyMac([8; 32])).await.unwrap(), None);
}

async fn limit(store: &SqliteStore, scope: Scope, id: u128) -> cfr_core::id::BudgetId {
    store.create_budget(&new_budget(scope, id, Period::Never), &Act::of_system(at(0))).await.unwrap().spec.id
}

fn new_budget(scope: Scope, id: u128, period: Period) -> NewBudget {
    NewBudget {
        scope,
        scope_id: ScopeId(id),
        tenant: None,
        currency: Currency::EUR,
        included_nanos: 500,
        policy: LimitPolicy::Hard,
        period,
        zone: TimeZone::UTC,
    }
}

#[tokio::test]
async fn a_scope_has_one_budget_per_period_kind_and_currency() {
    let home = Home::new();
    let store = home.open().await;
    limit(&store, Scope::Tenant, 1).await;
    conflict(store.create_budget(&new_budget(Scope::Tenant, 1, Period::Never), &Act::of_system(at(1))).await);
    store.create_budget(&new_budget(Scope::Tenant, 1, Period::Day), &Act::of_system(at(1))).await.unwrap();
}

#[tokio::test]
async fn bought_money_rolls_over_and_included_money_does_not() {
    let home = Home::new();
    let store = home.open().await;
    let budget =
        store.create_budget(&new_budget(Scope::Tenant, 1, Period::Day), &Act::of_system(at(0))).await.unwrap().spec.id;
    let bought = NewGrant {
        budget,
        kind: GrantKind::TopUp,
        amount: 300,
        idempotency_key: "stripe:1".into(),
        reason: "".into(),
        actor: Act::of_system(at(0)).by,
        overcommit: false,
        consent: Consent::NotNeeded,
    };
    store.grant(&bought, at(1)).await.unwrap();
    assert_eq!(store.account(budget, at(2)).await.unwrap().granted, 800);
    let next = store.account(budget, at(86_400)).await.unwrap();
    assert_eq!((next.seq, next.granted, next.period.start), (2, 800, at(86_400)));
    let accounts = store.accounts(budget).await.unwrap();
    assert_eq!(accounts.iter().map(|account| account.granted).collect::<Vec<_>>(), [800, 500]);
    assert_eq!(store.account(budget, at(10)).await.unwrap().seq, 2, "a clock that goes back reopens nothing");
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn lists_come_in_pages_without_gaps() {
    let home = Home::new();
    let store = home.open().await;
    let acme = tenant(&store).await;
    for number in 0..7 {
        store
            .create_user(&user(acme.id, &format!("u{number}@example.org"), None), &Act::of_system(at(number)))
            .await
            .unwrap();
    }
    let mut page = PageRequest { after: None, limit: 3 };
    let mut found = Vec::new();
    loop {
        let users = store.users(&UserFilter::of_tenant(acme.id), page).await.unwrap();
        found.extend(users.items.iter().map(|user| user.email.to_string()));
        match users.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, (0..7).map(|number| format!("u{number}@example.org")).collect::<Vec<_>>());
}

#[tokio::test]
async fn usage_is_filtered_and_paged_newest_first() {
    let home = Home::new();
    let store = home.open().await;
    let acme = tenant(&store).await;
    let budget = budget(&store, &acme, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    let ops: Vec<_> = (1..=5).map(|number| settle(&node, hold_id(number), account, 7, acme.id)).collect();
    store.commit(&node, &ops, at(3)).await.unwrap();
    let ids = |items: &[cfr_core::ledger::UsageRecord]| items.iter().map(|item| item.id.as_u128()).collect::<Vec<_>>();
    let filter = UsageFilter { tenant: Some(acme.id), ..UsageFilter::default() };
    let first = store.usage(&filter, PageRequest { after: None, limit: 2 }).await.unwrap();
    assert_eq!((ids(&first.items), first.next), (vec![5, 4], Some(Cursor(4))));
    let rest = store.usage(&filter, PageRequest { after: first.next, limit: 9 }).await.unwrap();
    assert_eq!((ids(&rest.items), rest.next), (vec![3, 2, 1], None));
    let later = UsageFilter { from: Some(at(3)), ..filter.clone() };
    assert!(store.usage(&later, PageRequest::default()).await.unwrap().items.is_empty());
    let other = UsageFilter { model: Some("other".into()), ..filter };
    assert!(store.usage_daily(&other).await.unwrap().is_empty());
}

#[tokio::test]
async fn price_tables_are_kept_under_their_hash() {
    let home = Home::new();
    let store = home.open().await;
    assert_eq!(store.latest_prices().await.unwrap(), None);
    for (hash, body) in [([1; 32], "one"), ([2; 32], "two"), ([1; 32], "one again")] {
        store.save_prices(&hash, "test", body.as_bytes(), &Act::of_system(at(0))).await.unwrap();
    }
    assert_eq!(store.latest_prices().await.unwrap().as_deref(), Some(&b"two"[..]));
}
