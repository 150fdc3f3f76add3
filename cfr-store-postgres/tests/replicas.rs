//! Many processes at the same books at once: nothing beyond a limit, nothing twice, nothing lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_billing::approval::Consent;
use cfr_billing::audit_log::Act;
use cfr_billing::budget::{Budget, GrantKind, NewBudget};
use cfr_billing::store::{
    AcquireError, Boot, CatalogStore, Incarnation, LeaseAsk, LedgerStore, NewGrant, Op, OrphanPolicy, PageRequest,
    Reclaimed, StoreError,
};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::TenantId;
use cfr_core::time::Period;
use cfr_store_postgres::PostgresStore;
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection};
use support::*;

/// Processes that share a database.
const NODES: usize = 4;

/// One process: its own handle, and its life.
struct Replica {
    store: PostgresStore,
    by: Incarnation,
}

async fn replicas(home: &Home) -> Vec<Replica> {
    let mut replicas = Vec::new();
    for number in 0..NODES {
        let store = home.open().await;
        let by = store.register(&format!("node-{number}"), Boot(number as u128), at(0)).await.unwrap();
        replicas.push(Replica { store, by });
    }
    replicas
}

/// A tenant's budget, and another one of the same tenant that ends every day.
async fn budgets(store: &PostgresStore, included: i64) -> (Budget, Budget, TenantId) {
    let tenant = tenant(store).await;
    let wide = budget(store, &tenant, included).await;
    let daily = NewBudget {
        scope: wide.spec.scope,
        scope_id: wide.scope_id,
        tenant: wide.tenant,
        currency: wide.spec.currency,
        included_nanos: included,
        policy: wide.spec.policy,
        period: Period::Day,
        zone: wide.spec.zone.clone(),
    };
    (wide, store.create_budget(&daily, &Act::of_system(at(0))).await.unwrap(), tenant.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_passes_an_acquisition_on_the_way_and_an_end_of_life_waits_for_it() {
    let home = Home::new().await;
    let nodes = replicas(&home).await;
    let [node, other, ..] = &nodes[..] else { panic!("two nodes") };
    // As an acquisition does, before it knows whether it gets anything.
    let mut acquiring = PgConnection::connect(&home.url).await.unwrap();
    let mut way = acquiring.begin().await.unwrap();
    sqlx::query("SELECT FROM nodes WHERE name = $1 FOR KEY SHARE")
        .bind(&*node.by.node)
        .execute(&mut *way)
        .await
        .unwrap();

    node.store.renew(&node.by, TTL, at(1)).await.unwrap();

    let act = Act::of_system(at(1));
    let fence = other.store.fence(&node.by.node, &act);
    tokio::pin!(fence);
    let fenced = || async {
        let seen = other.store.nodes(at(1)).await.unwrap();
        seen.iter().find(|state| state.node == node.by.node).is_some_and(|state| !state.alive)
    };
    tokio::select! {
        ended = &mut fence => panic!("a life was ended while it acquired: {ended:?}"),
        () = wait_for_a_lock(&home.url) => assert!(!fenced().await),
    }
    way.commit().await.unwrap();
    fence.await.unwrap();
    assert!(fenced().await);
}

/// Until some statement waits for a lock of another.
async fn wait_for_a_lock(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connection).await.unwrap() == 0 {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_nodes_lease_exactly_what_there_is() {
    const LIMIT: i64 = 1_000;
    const ASK: i64 = 7;
    let home = Home::new().await;
    let nodes = replicas(&home).await;
    let (first, second, _) = budgets(&nodes[0].store, LIMIT).await;
    let race = nodes.iter().flat_map(|node| (0..3).map(move |task| (node, task))).map(|(node, task)| {
        // Half of them name the budgets in the other order: locks must not depend on it.
        let mut asks = [&first, &second].map(|budget| LeaseAsk { budget: budget.spec.id, min: ASK, want: ASK });
        if task % 2 == 1 {
            asks.reverse();
        }
        async move {
            let mut granted = 0;
            loop {
                match node.store.acquire(&node.by, &asks, TTL, at(1)).await {
                    Ok(grants) => granted += grants[0].granted,
                    Err(AcquireError::Denied { .. }) => return granted,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    let granted: i64 = join_all(race).await.into_iter().sum();
    assert_eq!(granted, LIMIT / ASK * ASK, "not one more, and none stranded");
    for budget in [first, second] {
        assert_eq!(nodes[0].store.account(budget.spec.id, at(1)).await.unwrap().leased, granted);
    }
    assert_clean(&nodes[0].store.audit().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_nodes_open_a_period_once_and_roll_over_once() {
    let home = Home::new().await;
    let nodes = replicas(&home).await;
    let (_, daily, _) = budgets(&nodes[0].store, 100).await;
    let bought = NewGrant {
        budget: daily.spec.id,
        kind: GrantKind::TopUp,
        amount: 50,
        idempotency_key: "bought".into(),
        reason: "".into(),
        actor: Act::of_system(at(0)).by,
        overcommit: false,
        consent: Consent::NotNeeded,
    };
    let first_day = nodes.iter().map(|node| node.store.grant(&bought, at(1)));
    let grants: Vec<_> = join_all(first_day).await.into_iter().map(Result::unwrap).collect();
    assert!(grants.iter().all(|grant| grant.id == grants[0].id), "one grant for one key");
    let next_day = at(86_400);
    let ask = LeaseAsk { budget: daily.spec.id, min: 0, want: 0 };
    let opened =
        join_all(nodes.iter().map(|node| node.store.acquire(&node.by, std::slice::from_ref(&ask), TTL, next_day)));
    let accounts: Vec<_> = opened.await.into_iter().map(|grants| grants.unwrap()[0].account).collect();
    assert!(accounts.iter().all(|account| *account == accounts[0]), "{accounts:?}");
    let periods = nodes[0].store.accounts(daily.spec.id).await.unwrap();
    assert_eq!(periods.iter().map(|period| period.granted).collect::<Vec<_>>(), [150, 100]);
    assert_clean(&nodes[0].store.audit().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_batch_from_many_connections_is_booked_once() {
    const HOLDS: u128 = 50;
    let home = Home::new().await;
    let nodes = replicas(&home).await;
    let (wide, daily, tenant) = budgets(&nodes[0].store, 10_000).await;
    let by = &nodes[0].by;
    let accounts = [
        acquire(&nodes[0].store, by, &wide, 5_000).await.account,
        acquire(&nodes[0].store, by, &daily, 5_000).await.account,
    ];
    // The answer was lost, and the node came back on another connection while the first one was still at work.
    let batch: Vec<_> = (1..=HOLDS).map(|number| settle(by, hold_id(number), accounts[0], 10, tenant)).collect();
    let commits = join_all(nodes.iter().map(|node| node.store.commit(by, &batch, at(3)))).await;
    assert!(commits.iter().all(Result::is_ok), "{commits:?}");
    let state = nodes[0].store.account(wide.spec.id, at(3)).await.unwrap();
    assert_eq!((state.settled, state.leased), (500, 4_500));
    let usage = nodes[0].store.usage(&UsageFilter::default(), PageRequest::default()).await.unwrap();
    assert_eq!(usage.items.len(), HOLDS as usize);
    assert_clean(&nodes[0].store.audit().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_charge_the_same_accounts_side_by_side() {
    const BATCHES: u128 = 10;
    const SIZE: u128 = 20;
    let home = Home::new().await;
    let nodes = replicas(&home).await;
    let (wide, daily, tenant) = budgets(&nodes[0].store, 1_000_000).await;
    let work = nodes.iter().enumerate().map(|(number, node)| {
        let (wide, daily) = (&wide, &daily);
        async move {
            let first = acquire(&node.store, &node.by, wide, 10_000).await.account;
            let second = acquire(&node.store, &node.by, daily, 10_000).await.account;
            for batch in 0..BATCHES {
                let base = (number as u128 + 1) * 1_000_000 + batch * SIZE;
                let order = [first, second][(number + batch as usize) % 2];
                let ops: Vec<_> =
                    (base..base + SIZE).map(|number| settle(&node.by, hold_id(number), order, 3, tenant)).collect();
                node.store.commit(&node.by, &ops, at(3)).await.unwrap();
                node.store.give_back(&node.by, &[(first, 5), (second, 5)]).await.unwrap();
            }
        }
    });
    join_all(work).await;
    let settled: i64 = {
        let (first, second) = (
            nodes[0].store.account(wide.spec.id, at(3)).await.unwrap(),
            nodes[0].store.account(daily.spec.id, at(3)).await.unwrap(),
        );
        first.settled + second.settled
    };
    assert_eq!(u128::try_from(settled), Ok(NODES as u128 * BATCHES * SIZE * 3));
    assert_clean(&nodes[0].store.audit().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_nodes_reclaim_each_lease_and_each_hold_once() {
    let home = Home::new().await;
    let nodes = replicas(&home).await;
    let (wide, daily, tenant) = budgets(&nodes[0].store, 10_000).await;
    let dead = &nodes[0];
    let account = acquire(&dead.store, &dead.by, &wide, 1_000).await.account;
    acquire(&dead.store, &dead.by, &daily, 1_000).await;
    let mut ops: Vec<_> = (1..=20).map(|number| open(&dead.by, hold_id(number), account, 10, tenant)).collect();
    let note =
        |number| Op::Checkpoint { hold: hold_id(number), charged: 4, record: record(hold_id(number), tenant, 4) };
    ops.extend((1..=10).map(note));
    dead.store.commit(&dead.by, &ops, at(2)).await.unwrap();
    dead.store.fence(&dead.by.node, &Act::of_system(at(3))).await.unwrap();
    let found = join_all(nodes.iter().map(|node| node.store.reclaim(at(-1_000), OrphanPolicy::Evidence, at(4)))).await;
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    let sum = |count: fn(&Reclaimed) -> u64| found.iter().map(count).sum::<u64>();
    assert_eq!((sum(|one| one.leases), sum(|one| one.charged), sum(|one| one.released)), (2, 10, 10), "{found:?}");
    let state = nodes[1].store.account(wide.spec.id, at(4)).await.unwrap();
    assert_eq!((state.settled, state.leased), (40, 0));
    assert!(matches!(
        dead.store.acquire(&dead.by, &[], TTL, at(5)).await,
        Err(AcquireError::Store(StoreError::Fenced))
    ));
    assert_clean(&nodes[1].store.audit().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_that_races_with_the_reclaim_of_its_hold_is_charged_once() {
    let home = Home::new().await;
    let nodes = replicas(&home).await;
    let (wide, _, tenant) = budgets(&nodes[0].store, 100_000).await;
    for round in 0..10_u128 {
        let node = &nodes[0];
        let by = node.store.register("late", Boot(9), at(10)).await.unwrap();
        let account = acquire(&node.store, &by, &wide, 1_000).await.account;
        let holds: Vec<u128> = (0..20).map(|number| round * 100 + number + 1).collect();
        let mut ops: Vec<_> = holds.iter().map(|&id| open(&by, hold_id(id), account, 10, tenant)).collect();
        ops.extend(holds.iter().map(|&id| Op::Checkpoint {
            hold: hold_id(id),
            charged: 10,
            record: record(hold_id(id), tenant, 10),
        }));
        node.store.commit(&by, &ops, at(11)).await.unwrap();
        let next = node.store.register("late", Boot(9), at(12)).await.unwrap();
        let late: Vec<_> = holds.iter().map(|&id| settle(&by, hold_id(id), account, 10, tenant)).collect();
        let (committed, reclaimed) = tokio::join!(
            node.store.commit(&next, &late, at(13)),
            nodes[1].store.reclaim(at(-1_000), OrphanPolicy::Evidence, at(13)),
        );
        committed.unwrap();
        reclaimed.unwrap();
    }
    nodes[1].store.reclaim(at(-1_000), OrphanPolicy::Evidence, at(14)).await.unwrap();
    let state = nodes[1].store.account(wide.spec.id, at(14)).await.unwrap();
    assert_eq!((state.settled, state.leased), (2_000, 0));
    assert_clean(&nodes[1].store.audit().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_open_an_empty_database_at_once_all_succeed() {
    let home = Home::new().await;
    let opened = join_all((0..NODES).map(|_| home.open())).await;
    let made = tenant(&opened[0]).await;
    for store in &opened {
        assert_eq!(store.tenant(made.id).await.unwrap(), made);
    }
}
