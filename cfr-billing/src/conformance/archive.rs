//! Moving everything to another store: what arrives is what left, and spending goes on with the same money.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId, HoldId};
use cfr_core::ledger::{Attempt, LimitPolicy, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone, Timestamp};
use tokio::sync::Notify;

use super::fixture::{Node, ask, new_user, noon, release, user_budget};
use super::history::play;
use crate::audit_log::Act;
use crate::budget::{NewBudget, ScopeId};
use crate::identity::{KeyKind, KeyMac, KeyRules, NewKey, TenantPatch, User};
use crate::oidc::SigningKey;
use crate::outside::Named;
use crate::people::OutsideIdentity;
use crate::plan::{NewProduct, Terms};
use crate::store::archive::{Archive, CopyError, CopyProgress, Rows, Section, copy, count};
use crate::store::{
    AccountState, AcquireError, Correction, Incarnation, Op, OrphanPolicy, SettledHold, Store, StoreError, Sum,
};

/// Random histories in the books that are moved.
const HISTORIES: u64 = 2;
/// Long after these histories: a store's time never goes back.
const AFTERWARDS: Duration = Duration::from_secs(HISTORIES * 100 * 86_400);
/// What the budget of the moved holds includes, in nano-units.
const INCLUDED: i64 = 10_000;
/// What each of the moved holds holds.
const HELD: i64 = 500;

/// Why an operator corrects the moved books: once by mistake, and once to take that back.
const CORRECTIONS: [&str; 2] = ["a wrong guess", "the guess was wrong"];

/// Fills the source with everything that a store can keep, moves it, and lets both sides go on in the same way.
pub async fn archive_round_trip<S: Store + Archive, T: Store + Archive>(source: &S, target: &T) {
    let books = MovedBooks::fill(source).await;
    let before = count(source, books.now, &mut |_| {}).await.expect("nobody is at work on the source");
    for (section, counted) in Section::ALL.iter().zip(&before) {
        assert!(counted.rows > 0, "the source has {}", section.name());
    }
    let report = copy(source, target, "the rules", books.now, &mut |_| {}).await.expect("a copy");
    assert_eq!(report.sections, before, "what arrived is what there was");
    assert_eq!(count(source, books.now, &mut |_| {}).await.expect("the source"), before, "the source is unchanged");
    assert_eq!(
        corrections(target, books.now).await,
        CORRECTIONS.map(Arc::from),
        "what was corrected, and why, is told there too"
    );
    for &budget in &books.budgets {
        let accounts =
            (source.accounts(budget).await.expect("accounts"), target.accounts(budget).await.expect("accounts"));
        assert_eq!(accounts.0, accounts.1);
    }
    let went_on = (books.go_on(source).await, books.go_on(target).await);
    assert_eq!(went_on.0, went_on.1, "spending goes on with the same money");
}

/// Fills a store with everything that it can keep, as nobody at work on it leaves it. Returns a moment after that.
pub async fn filled_books(store: &dyn Store) -> Timestamp {
    MovedBooks::fill(store).await.now
}

/// A target that has rows is refused, and stays as it is.
pub async fn a_copy_needs_an_empty_target<S: Store + Archive, T: Store + Archive>(source: &S, target: &T) {
    Node::start(source).await;
    Node::start(target).await;
    let before = count(target, noon(), &mut |_| {}).await.expect("the target");
    let refused = copy(source, target, "the rules", noon(), &mut |_| {}).await.expect_err("it has a tenant");
    assert!(
        matches!(&refused, CopyError::Target(StoreError::Conflict { what }) if what.contains("not empty")),
        "{refused}"
    );
    assert_eq!(count(target, noon(), &mut |_| {}).await.expect("the target"), before);
}

/// A copy that is dropped between two sections leaves a target that takes no second one. Whoever opens it must refuse it;
/// how, depends on the store.
pub async fn a_copy_that_is_cut_off_is_not_complete<S: Store + Archive, T: Store + Archive>(source: &S, target: &T) {
    let books = MovedBooks::fill(source).await;
    let reached = Notify::new();
    let mut progress = |step| {
        if let CopyProgress::Copying(counts) = step
            && counts.section == Section::Batches
        {
            reached.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = reached.notified() => {}
        done = copy(source, target, "the rules", books.now, &mut progress) => panic!("it was not cut off: {done:?}"),
    }
    let again = copy(source, target, "the rules", books.now, &mut |_| {}).await.expect_err("half of it is there");
    assert!(matches!(&again, CopyError::Target(StoreError::Conflict { .. })), "{again}");
}

/// On a shared store, whoever is alive is named; on an exclusive one, nobody else can be.
pub async fn a_source_at_work_is_not_copied<S: Store + Archive>(source: &S) {
    let node = Node::start(source).await;
    node.store.renew(&node.by, super::fixture::TTL, node.now).await.expect("it is alive");
    let snapshot = source.snapshot(node.now).await;
    if source.exclusive() {
        snapshot.expect("its owner copies it");
        return;
    }
    let refused = snapshot.expect_err("a node is alive").to_string();
    assert!(refused.contains("node-1"), "{refused}");
    node.store.retire(&node.by, node.now).await.expect("the store works");
    source.snapshot(node.now).await.expect("nobody is alive");
}

/// Books with something in every section.
struct MovedBooks {
    now: Timestamp,
    by: Incarnation,
    budgets: Vec<BudgetId>,
    account: AccountId,
    /// Open, with what was delivered of it.
    open: HoldId,
    suspended: HoldId,
    settled: Op,
    tenant: cfr_core::id::TenantId,
}

impl MovedBooks {
    async fn fill(store: &dyn Store) -> Self {
        for seed in 0..HISTORIES {
            play(store, seed).await;
        }
        let node = Node::start(store).await.later(AFTERWARDS);
        let user = catalog(&node).await;
        let budget = NewBudget { included_nanos: INCLUDED, period: Period::Day, ..user_budget(&user) };
        let budget =
            store.create_budget(&budget, &Act::of_system(node.now)).await.expect("no other of the kind").spec.id;
        let suspended = suspend_a_hold(&node, budget).await;
        let node = node.restarted().await;
        let account = node.lease(budget, 4 * HELD).await;
        correct(&node, budget).await;
        let (open, ended, released) = (node.hold(), node.hold(), node.hold());
        let settled = settled(&node, ended, account);
        let opened = [open, ended, released].map(|hold| node.open(hold, &[account], HELD));
        node.commit(&opened).await;
        node.commit(&[node.checkpoint(open, HELD / 5), settled.clone(), release(released)]).await;
        node.store.retire(&node.by, node.now).await.expect("the store works");
        let name = super::outside::name(Named::User(user.id), "u-1");
        store.keep_outside_name(&name, &Act::of_system(node.now)).await.expect("the name is free");
        let act = Act::of_system(node.now);
        store.add_data_key(&super::secrets::key(&node, Some(node.tenant)), None, &act).await.expect("it is the first");
        let provider = super::provider_account::account(&node, None, "main");
        store.add_provider_account(&provider, &act).await.expect("the name is free");
        sales(&node, budget).await;
        people(&node, &user).await;
        let (tenant, by, now) = (node.tenant, node.by.clone(), node.now);
        Self { now, by, budgets: vec![budget], account, open, suspended, settled, tenant }
    }

    /// The next start of the node, late settlements, and all the money that is left. Returns what was left.
    async fn go_on(&self, store: &dyn Store) -> AccountState {
        let past = Node { store, by: self.by.clone(), tenant: self.tenant, now: self.now };
        let node = past.restarted().await;
        assert_eq!(node.by.epoch, self.by.epoch + 1, "dead lives stay dead");
        let refused = past.acquire(&[ask(self.budgets[0], 1, 1)]).await;
        assert!(matches!(refused, Err(AcquireError::Store(StoreError::Fenced))), "{refused:?}");
        store.reclaim(noon(), OrphanPolicy::Evidence, node.now).await.expect("the store works");
        node.commit(std::slice::from_ref(&self.settled)).await;
        let late = past.settle(self.open, &[self.account], HELD);
        node.commit(&[late.clone(), late]).await;
        node.commit(&[release(self.suspended)]).await;
        let state = node.state(self.budgets[0]).await;
        let beyond = node.acquire(&[ask(self.budgets[0], state.room() + 1, i64::MAX)]).await;
        assert!(matches!(beyond, Err(AcquireError::Denied { .. })), "{beyond:?}");
        node.lease(self.budgets[0], state.room()).await;
        node.assert_books_agree().await;
        state
    }
}

/// Two corrections after which every sum is what it was.
async fn correct(node: &Node<'_>, budget: BudgetId) {
    let AccountState { account, overrun: right, .. } = node.state(budget).await;
    let wrong = right + 1;
    for (reason, from, to) in [(CORRECTIONS[0], right, wrong), (CORRECTIONS[1], wrong, right)] {
        let correction = Correction { account, budget, sum: Sum::Overrun, from, to };
        node.store.correct(&correction, reason, &Act::of_system(node.now)).await.expect("the sum is what it says");
    }
}

/// The reasons of all corrections, in the order of booking.
async fn corrections(store: &impl Archive, now: Timestamp) -> Vec<Arc<str>> {
    let mut snapshot = store.snapshot(now).await.expect("nobody is at work");
    let mut reasons = Vec::new();
    loop {
        match snapshot.read(Section::Batches).await.expect("the store works") {
            Rows::Batches(batches) if !batches.is_empty() => {
                reasons.extend(batches.into_iter().filter_map(|batch| Some(batch.correction?.reason)));
            }
            _ => return reasons,
        }
    }
}

/// A hold of a life that is over, kept counted.
async fn suspend_a_hold(node: &Node<'_>, budget: BudgetId) -> HoldId {
    let (hold, account) = (node.hold(), node.lease(budget, HELD).await);
    node.commit(&[node.open(hold, &[account], HELD)]).await;
    let next = node.restarted().await;
    next.store.reclaim(noon(), OrphanPolicy::Suspend, next.now).await.expect("the store works");
    hold
}

/// With everything that a record can say.
fn settled(node: &Node<'_>, hold: HoldId, account: AccountId) -> Op {
    let failed = Attempt { upstream: "first \"choice\"".into(), model: "größer".into(), outcome: "timeout".into() };
    let record = UsageRecord {
        charged_nanos: HELD / 2,
        overrun_nanos: 0,
        price_version: u64::MAX - 7,
        attempts: vec![failed],
        upstream_id: Some("chatcmpl-1".into()),
        output_tokens_max_applied: Some(u64::from(u32::MAX)),
        ..node.record(hold, HELD / 2)
    };
    Op::Settle(Box::new(SettledHold {
        id: hold,
        epoch: node.by.epoch,
        accounts: [account].as_slice().into(),
        charged: HELD / 2,
        record: Box::new(record),
    }))
}

/// A product in two versions, a user on it, keys of every kind of life, a platform budget and two price tables.
async fn catalog(node: &Node<'_>) -> User {
    let (store, now) = (node.store, node.now);
    let patch = TenantPatch { name: Some("Grün & Söhne".into()), ..TenantPatch::default() };
    store.update_tenant(node.tenant, 1, &patch, &Act::of_system(now)).await.expect("the first change");
    let mut product = NewProduct { code: "pro".into(), terms: terms() };
    store.publish_product(&product, &Act::of_system(now)).await.expect("a product");
    product.terms.budget_included_nanos += 1;
    let version = store.publish_product(&product, &Act::of_system(now)).await.expect("its next version");
    let new =
        crate::identity::NewUser { product_version: Some(version.id), ..new_user(node.tenant, "Ada@Example.org") };
    let user = store.create_user(&new, &Act::of_system(now)).await.expect("the address is free");
    for (number, kind) in [(1, KeyKind::Live), (2, KeyKind::Admin)] {
        store.create_key(&key(number, kind, &user), &Act::of_system(now)).await.expect("a key");
    }
    let revoked = store.create_key(&key(3, KeyKind::Test, &user), &Act::of_system(now)).await.expect("a key");
    store.revoke_key(revoked.id, &Act::of_system(now)).await.expect("it exists");
    let everybody = NewBudget {
        scope: Scope::Platform,
        scope_id: ScopeId(0),
        tenant: None,
        currency: Currency::EUR,
        included_nanos: 1,
        policy: LimitPolicy::Soft,
        period: Period::EveryNDays { days: 30, anchor: noon() },
        zone: "Europe/Berlin".parse::<TimeZone>().expect("a zone"),
    };
    store.create_budget(&everybody, &Act::of_system(now)).await.expect("a budget");
    for table in 1..=2_u8 {
        store.save_prices(&[table; 32], "a rule", &[table; 100], &Act::of_system(now)).await.expect("a table");
    }
    user
}

/// A subscription, an amount that waits for a second person, and somebody who asked to be told more.
async fn sales(node: &Node<'_>, budget: BudgetId) {
    let (store, act) = (node.store, Act::of_system(node.now));
    let version = super::subscription::product(node, "sold", 100).await;
    let new = super::subscription::subscription(node, None, version);
    store.add_subscription(&new, &act).await.expect("the tenant has none");
    super::approval::propose(node, budget, &act.by, 9_000, "waits").await;
    store.add_lead(&super::lead::lead(node, "größer@example.org"), None, &act).await.expect("the store works");
}

/// How a user signs in, here and with another provider, and a program that they signed in to.
async fn people(node: &Node<'_>, user: &User) {
    let (store, act) = (node.store, Act::of_system(node.now));
    let none = store.credentials(user.id).await.expect("the user exists");
    let known = super::people::with_password(&none, "größer");
    store.set_credentials(&known, None, &act).await.expect("they are the first");
    let identity = OutsideIdentity { issuer: "https://login.example".into(), subject: "größer".into() };
    store.link_identity(user.id, &identity, &act).await.expect("it is nobody's");
    let key = SigningKey {
        seq: 1,
        kid: "kid-1".into(),
        public: serde_json::json!({ "kty": "RSA" }),
        private: "sealed".into(),
        created_at: node.now,
    };
    store.add_signing_key(&key, &act).await.expect("it is the first");
    super::oidc::opened(node).await;
}

fn key(number: u8, kind: KeyKind, user: &User) -> NewKey {
    let admin = kind == KeyKind::Admin;
    NewKey {
        tenant: (!admin).then_some(user.tenant),
        user: (!admin).then_some(user.id),
        name: format!("key {number}").into(),
        kind,
        mac: KeyMac([number; 32]),
        prefix: "sk-".into(),
        last4: "abcd".into(),
        models: vec!["gpt-*".into(), Arc::from("claude")],
        rules: KeyRules { scopes: vec!["usage:read".into()], on_behalf_of: number == 2, ..KeyRules::default() },
        budget: None,
        expires_at: (number == 1).then(noon),
    }
}

fn terms() -> Terms {
    Terms {
        name: "Professional".into(),
        description: "für alle".into(),
        price_minor: 2_999,
        currency: Currency::EUR,
        budget_included_nanos: 100,
        period: Period::CalendarMonth,
        models: vec!["*".into()],
        features: Vec::new(),
        requests_per_minute: Some(60),
        parallel_requests_max: None,
        output_tokens_default: Some(1_000),
        margin_bps: 2_000,
        seats: Some(5),
    }
}
