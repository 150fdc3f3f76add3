use cfr_core::ledger::LimitPolicy;
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone, Timestamp};

use super::*;
use crate::audit_log::Act;
use crate::identity::{KeyMac, KeyRules, NewTenant, NewUser, TenantKind, UserFilter, UserPatch};
use crate::store::MemoryStore;

/// Two tenants with a user each, and a view of the first one.
struct World {
    store: Arc<MemoryStore>,
    own: User,
    foreign: User,
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

impl World {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::exclusive());
        let mut users = Vec::new();
        for slug in ["acme", "rival"] {
            let tenant = store.create_tenant(&tenant(slug), &act()).await.expect("a tenant");
            users.push(store.create_user(&user(tenant.id, slug), &act()).await.expect("a user"));
        }
        let foreign = users.pop().expect("two users");
        Self { store, own: users.pop().expect("two users"), foreign }
    }

    fn view(&self, reach: Reach) -> View {
        View::new(Arc::clone(&self.store) as _, reach)
    }

    fn of_tenant(&self) -> View {
        self.view(Reach::Tenant(self.own.tenant))
    }

    fn of_user(&self) -> View {
        self.view(Reach::User { user: self.own.id, tenant: self.own.tenant })
    }

    async fn pool(&self, included_nanos: i64) {
        let new = budget(Scope::Tenant, self.own.tenant.as_u128(), self.own.tenant, included_nanos);
        self.store.create_budget(&new, &act()).await.expect("a pool");
    }
}

fn act() -> Act {
    Act::of_system(NOW)
}

fn tenant(slug: &str) -> NewTenant {
    NewTenant {
        slug: slug.into(),
        name: slug.into(),
        domain: None,
        kind: TenantKind::Customer,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::EUR,
        settings: Default::default(),
    }
}

fn user(tenant: TenantId, name: &str) -> NewUser {
    NewUser {
        tenant,
        email: format!("anna@{name}.example").into(),
        name: "Anna".into(),
        role: Role::User,
        product_version: None,
        locale: None,
    }
}

fn key(user: &User, kind: KeyKind) -> NewKey {
    NewKey {
        tenant: Some(user.tenant),
        user: (kind == KeyKind::Live).then_some(user.id),
        name: "laptop".into(),
        kind,
        mac: KeyMac([u8::from(kind == KeyKind::Live); 32]),
        prefix: "cfr_".into(),
        last4: "abcd".into(),
        models: Vec::new(),
        rules: KeyRules::default(),
        budget: None,
        expires_at: None,
    }
}

fn budget(scope: Scope, id: u128, tenant: TenantId, included_nanos: i64) -> NewBudget {
    let (policy, period, zone) = (LimitPolicy::Hard, Period::CalendarMonth, TimeZone::UTC);
    NewBudget {
        scope,
        scope_id: ScopeId(id),
        tenant: Some(tenant),
        currency: Currency::EUR,
        included_nanos,
        policy,
        period,
        zone,
    }
}

#[track_caller]
fn missing<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::NotFound { .. })), "{result:?}");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Invalid { .. })), "{result:?}");
}

#[tokio::test]
async fn what_belongs_to_others_is_not_there() {
    let world = World::new().await;
    let foreign = world.store.create_key(&key(&world.foreign, KeyKind::Live), &act()).await.expect("a key");
    let theirs = budget(Scope::User, world.foreign.id.as_u128(), world.foreign.tenant, 1);
    let theirs = world.store.create_budget(&theirs, &act()).await.expect("a budget").spec.id;
    for view in [world.of_tenant(), world.of_user()] {
        missing(view.tenant(world.foreign.tenant).await);
        missing(view.user(world.foreign.id).await);
        missing(view.key(foreign.id).await);
        missing(view.revoke_key(foreign.id, &act()).await);
        missing(view.budget(theirs).await);
        missing(view.set_budget_limit(theirs, 1, 5, &act()).await);
        missing(view.users(&UserFilter::of_tenant(world.foreign.tenant), PageRequest::default()).await);
        missing(view.keys(Some(world.foreign.tenant), None, PageRequest::default()).await);
        missing(view.update_user(world.foreign.id, 1, &UserPatch::default(), &act()).await);
        missing(view.create_key(&key(&world.foreign, KeyKind::Live), &act()).await);
        assert_eq!(view.user_by_email(&world.foreign.email).await.expect("an answer"), None);
        assert_eq!(view.tenant_by_slug("rival").await.expect("an answer"), None);
        let users = view.users(&UserFilter::default(), PageRequest::default()).await.expect("a list").items;
        assert_eq!(users, std::slice::from_ref(&world.own));
        assert!(view.budgets(&BudgetFilter::default(), PageRequest::default()).await.expect("a list").items.is_empty());
        assert!(view.keys(None, None, PageRequest::default()).await.expect("a list").items.is_empty());
    }
}

#[tokio::test]
async fn a_user_makes_nothing_for_the_tenant() {
    let world = World::new().await;
    let view = world.of_user();
    missing(view.create_user(&user(world.own.tenant, "new"), &act()).await);
    missing(view.create_key(&key(&world.own, KeyKind::Service), &act()).await);
    missing(view.update_tenant(world.own.tenant, 1, &TenantPatch::default(), &act()).await);
    let own = budget(Scope::User, world.own.id.as_u128(), world.own.tenant, 5);
    missing(view.create_budget(&own, &act()).await);
    view.create_key(&key(&world.own, KeyKind::Live), &act()).await.expect("a key of their own");
}

#[tokio::test]
async fn a_tenants_administrator_makes_nobody_an_administrator_of_the_platform() {
    let world = World::new().await;
    let view = world.of_tenant();
    refused(view.create_user(&NewUser { role: Role::Admin, ..user(world.own.tenant, "new") }, &act()).await);
    let raise = UserPatch { role: Some(Role::Admin), ..UserPatch::default() };
    refused(view.update_user(world.own.id, 1, &raise, &act()).await);
    world.view(Reach::All).update_user(world.own.id, 1, &raise, &act()).await.expect("the platform may");
    refused(view.update_user(world.own.id, 2, &UserPatch::default(), &act()).await);
}

#[tokio::test]
async fn shares_are_within_what_the_tenant_has() {
    let world = World::new().await;
    let view = world.of_tenant();
    let share = |included| budget(Scope::User, world.own.id.as_u128(), world.own.tenant, included);
    refused(view.create_budget(&share(5), &act()).await);
    world.pool(10).await;
    refused(view.create_budget(&share(11), &act()).await);
    refused(view.create_budget(&NewBudget { policy: LimitPolicy::Unlimited, ..share(5) }, &act()).await);
    let made = view.create_budget(&share(10), &act()).await.expect("a share");
    refused(view.set_budget_limit(made.spec.id, 1, 11, &act()).await);
    view.set_budget_limit(made.spec.id, 1, 7, &act()).await.expect("a smaller share");
    let filter = BudgetFilter { scope: Some(Scope::Tenant), ..Default::default() };
    let pool = view.budgets(&filter, PageRequest::default()).await.expect("a list").items.remove(0);
    refused(view.set_budget_limit(pool.spec.id, 1, 1_000, &act()).await);
    refused(view.check_grant(pool.spec.id, 1).await);
    refused(view.create_budget(&budget(Scope::Tenant, 1, world.own.tenant, 5), &act()).await);
}
