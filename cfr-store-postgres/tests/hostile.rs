//! What nobody should send, and what should never happen at once: the books go on all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use cfr_billing::approval::Consent;
use cfr_billing::audit_log::Act;
use cfr_billing::budget::{GrantKind, NewBudget, ScopeId};
use cfr_billing::store::{
    AcquireError, Boot, CatalogStore, LeaseAsk, LedgerStore, NewGrant, Op, OrphanPolicy, PageRequest, Reclaimed,
    StoreError,
};
use cfr_billing::usage::UsageFilter;
use cfr_core::time::Period;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use support::*;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// Letters that no compression makes shorter.
fn noise(length: usize) -> String {
    let mut state = 7_u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    (0..length).map(letter).collect()
}

#[tokio::test]
async fn no_name_of_a_model_keeps_a_batch_from_being_written() {
    let home = Home::new().await;
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    let names = ["a\0b".to_owned(), noise(20_000), "\u{fffe}".to_owned(), "é".repeat(5_000)];
    for (number, name) in (1..).zip(names) {
        let Op::Open(mut opened) = open(&node, hold_id(number), account, 10, tenant.id) else { unreachable!() };
        opened.model = Arc::from(&*name);
        store.commit(&node, &[Op::Open(opened)], at(3)).await.expect("the hold is journaled");
        let Op::Settle(mut settled) = settle(&node, hold_id(number), account, 10, tenant.id) else { unreachable!() };
        for text in [&mut settled.record.model_served, &mut settled.record.model_requested, &mut settled.record.finish]
        {
            *text = Arc::from(&*name);
        }
        settled.record.upstream_id = Some(name.into());
        store.commit(&node, &[Op::Settle(settled)], at(3)).await.expect("the charge is booked");
    }
    assert_eq!(store.account(budget.spec.id, at(3)).await.unwrap().settled, 40);
    let page = store.usage(&UsageFilter::default(), PageRequest::default()).await.unwrap();
    assert_eq!(page.items.len(), 4);
    assert!(
        page.items.iter().any(|record| &*record.model_requested == "a\0b"),
        "what is not searched is kept as it was"
    );
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_filter_that_no_text_can_match_is_the_mistake_of_the_caller() {
    let store = fresh().await;
    let filter = UsageFilter { model: Some("a\0b".into()), ..UsageFilter::default() };
    let answer = store.usage(&filter, PageRequest::default()).await;
    assert!(matches!(answer, Err(StoreError::Invalid { .. })), "{answer:?}");
}

/// Whoever opens the next period takes what was bought before; what is granted in the same moment must not be left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_is_bought_while_the_next_period_opens_follows_into_it() {
    const NEXT_DAY: i64 = 86_400;
    let home = Home::new().await;
    let (opener, seller) = (home.open().await, home.open().await);
    let tenant = tenant(&opener).await;
    let hard = budget(&opener, &tenant, 100).await;
    let daily = NewBudget {
        scope: hard.spec.scope,
        scope_id: hard.scope_id,
        tenant: hard.tenant,
        currency: hard.spec.currency,
        included_nanos: 100,
        policy: hard.spec.policy,
        period: Period::Day,
        zone: hard.spec.zone.clone(),
    };
    let daily = opener.create_budget(&daily, &Act::of_system(at(0))).await.unwrap().spec.id;
    let node = opener.register("node", Boot(1), at(0)).await.unwrap();
    let look = [LeaseAsk { budget: daily, min: 0, want: 0 }];
    let old = opener.acquire(&node, &look, TTL, at(1)).await.unwrap()[0].account;
    let bought = |key: &str, amount| NewGrant {
        budget: daily,
        kind: GrantKind::TopUp,
        amount,
        idempotency_key: key.into(),
        reason: "".into(),
        actor: Act::of_system(at(0)).by,
        overcommit: false,
        consent: Consent::NotNeeded,
    };
    opener.grant(&bought("before", 30), at(1)).await.unwrap();

    let gate = Gate::close(&home.url, format!("SELECT FROM accounts WHERE id = {} FOR NO KEY UPDATE", old.0)).await;
    let (mut opening, mut selling) = (JoinSet::new(), JoinSet::new());
    opening.spawn(async move { opener.account(daily, at(NEXT_DAY)).await.map(|_| opener) });
    gate.waiting(1).await;
    let late = bought("meanwhile", 50);
    selling.spawn(async move { seller.grant(&late, at(NEXT_DAY - 1)).await });
    gate.waiting(2).await;
    gate.open().await;

    selling.join_all().await.remove(0).unwrap();
    let store = opening.join_all().await.remove(0).unwrap();
    let granted: Vec<i64> = store.accounts(daily).await.unwrap().iter().map(|account| account.granted).collect();
    assert_eq!(granted, [180, 100], "both top-ups are on the new period");
    assert_clean(&store.audit().await.unwrap());
}

/// While a transaction takes rights back nobody else books on their accounts, so that a large node is taken over in pieces.
#[tokio::test]
async fn whatever_a_large_node_leaves_behind_is_taken_over() {
    const USERS: u64 = 1_100;
    const HOLDS: u64 = 700;
    let home = Home::new().await;
    let store = home.open().await;
    let tenant = tenant(&store).await;
    budget(&store, &tenant, 1_000_000).await;
    let large = store.register("large", Boot(1), at(0)).await.unwrap();
    raw(&home.url, &left_behind(USERS, HOLDS)).await.unwrap();
    assert_clean(&store.audit().await.unwrap());
    store.fence(&large.node, &Act::of_system(at(5))).await.unwrap();
    let found = store.reclaim(at(5), OrphanPolicy::Release, at(5)).await.unwrap();
    assert_eq!(found, Reclaimed { leases: USERS, released: HOLDS, charged: 0, suspended: 0 });
    let left = "SELECT count(*), (SELECT sum(leased) FROM accounts) FROM leases";
    assert_eq!(raw(&home.url, left).await.unwrap(), "0|0");
    assert_clean(&store.audit().await.unwrap());
    assert_eq!(store.reclaim(at(6), OrphanPolicy::Release, at(6)).await.unwrap(), Reclaimed::default());
}

/// Users with a lease of 100 each, and open holds of the first one.
fn left_behind(users: u64, holds: u64) -> String {
    format!(
        "CREATE TEMP TABLE template AS SELECT * FROM budgets;
         INSERT INTO budgets SELECT gen_random_uuid(), 'user', gen_random_uuid(), tenant_id, currency, 0, policy,
           period_kind, period, zone, active, version, created_at FROM template, generate_series(1, {users});
         INSERT INTO accounts (budget_id, seq, starts_at, leased, overcommit)
           SELECT id, 1, 0, 100, 100 FROM budgets WHERE scope = 'user';
         INSERT INTO leases SELECT id, 'large', 1, 100, 0, 0 FROM accounts WHERE leased > 0;
         INSERT INTO holds (id, node, epoch, accounts, amount, tenant_id, model, at)
           SELECT gen_random_uuid(), 'large', 1, (SELECT array[min(account_id)] FROM leases), 0, tenant_id, 'fast', 0
           FROM template, generate_series(1, {holds});"
    )
}

/// Released holds stay for days: what a running server does all the time must not read them.
#[tokio::test]
async fn looking_for_open_holds_does_not_read_the_ended_ones() {
    const RELEASED: u64 = 20_000;
    let home = Home::new().await;
    let store = home.open().await;
    store.register("node", Boot(1), at(0)).await.unwrap();
    store.close().await.unwrap();
    let fill = format!(
        "INSERT INTO holds (id, node, epoch, accounts, amount, state, tenant_id, model, at) SELECT gen_random_uuid(), 'node',
         1, '{{1}}', 10, 2, gen_random_uuid(), 'fast', {} FROM generate_series(1, {RELEASED})",
        at(0).as_microsecond()
    );
    raw(&home.url, &format!("{fill}; ANALYZE holds")).await.unwrap();
    let before = rows_read_one_by_one(&home).await;
    let store = home.open().await;
    store.reclaim(at(1), OrphanPolicy::Release, at(1)).await.unwrap();
    store.nodes(at(1)).await.unwrap();
    store.close().await.unwrap(); // a process of the server tells what it read when it ends
    assert_eq!(rows_read_one_by_one(&home).await, before);
}

/// What the server read of the journal without an index.
async fn rows_read_one_by_one(home: &Home) -> u64 {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while raw(&home.url, others).await.unwrap() != "0" {}
    let sql = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'holds'";
    raw(&home.url, sql).await.unwrap().parse().unwrap()
}

/// Who acquires looks at the life of its node; who prolongs or ends that life must come to its turn all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_node_renews_its_leases_and_can_be_fenced() {
    const TASKS: usize = 6;
    let home = Home::new().await;
    let store = Arc::new(home.open().await);
    let tenant = tenant(&store).await;
    let wide = budget(&store, &tenant, 1_000_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let started = Arc::new(Barrier::new(TASKS + 1));
    let mut busy = JoinSet::new();
    for number in 0..TASKS {
        let own = NewBudget {
            scope: wide.spec.scope,
            scope_id: ScopeId(number as u128),
            tenant: wide.tenant,
            currency: wide.spec.currency,
            included_nanos: i64::MAX,
            policy: wide.spec.policy,
            period: Period::Never,
            zone: wide.spec.zone.clone(),
        };
        let budget = store.create_budget(&own, &Act::of_system(at(0))).await.unwrap().spec.id;
        let (store, node, started) = (Arc::clone(&store), node.clone(), Arc::clone(&started));
        busy.spawn(async move {
            let asks = [LeaseAsk { budget, min: 1, want: 1 }];
            store.acquire(&node, &asks, TTL, at(1)).await.unwrap();
            started.wait().await;
            loop {
                if let Err(error) = store.acquire(&node, &asks, TTL, at(1)).await {
                    return error;
                }
            }
        });
    }
    started.wait().await;
    for _ in 0..5 {
        store.renew(&node, TTL, at(1)).await.unwrap();
    }
    store.fence(&node.node, &Act::of_system(at(2))).await.unwrap();
    while let Some(ended) = busy.join_next().await {
        let error = ended.unwrap();
        assert!(matches!(error, AcquireError::Store(StoreError::Fenced)), "{error}");
    }
}

/// Rows that are locked until the gate is opened.
struct Gate {
    url: String,
    connection: PgConnection,
}

impl Gate {
    async fn close(url: &str, lock: String) -> Self {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {lock}"))).execute(&mut connection).await.unwrap();
        Self { url: url.to_owned(), connection }
    }

    /// Until so many transactions wait for a lock.
    async fn waiting(&self, transactions: u32) {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while raw(&self.url, sql).await.unwrap() != transactions.to_string() {}
    }

    async fn open(mut self) {
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.unwrap();
    }
}
