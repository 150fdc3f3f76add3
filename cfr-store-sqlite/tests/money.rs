//! What the books must say after every step, and that they refuse what must not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_billing::approval::Consent;
use cfr_billing::audit_log::Act;
use cfr_billing::budget::GrantKind;
use cfr_billing::store::Op;
use cfr_billing::store::{
    AcquireError, Boot, CatalogStore, LeaseAsk, LedgerStore, NewGrant, OrphanPolicy, PageRequest, Reclaimed, StoreError,
};
use cfr_billing::usage::UsageFilter;
use cfr_core::ledger::ReleaseReason;
use support::*;

#[tokio::test]
async fn a_settlement_moves_its_charge_from_the_lease_to_settled() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let lease = acquire(&store, &node, &budget, 600).await;
    let ops = [
        open(&node, hold_id(1), lease.account, 100, tenant.id),
        settle(&node, hold_id(1), lease.account, 70, tenant.id),
    ];
    store.commit(&node, &ops, at(3)).await.unwrap();
    let account = store.account(budget.spec.id, at(3)).await.unwrap();
    assert_eq!((account.granted, account.settled, account.leased), (1_000, 70, 530));
    assert_eq!(account.room(), 400);
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_usage_record_is_read_as_it_was_written() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    store.commit(&node, &[settle(&node, hold_id(1), account, 70, tenant.id)], at(3)).await.unwrap();
    let page = store.usage(&UsageFilter::default(), PageRequest::default()).await.unwrap();
    assert_eq!(page.items, [*record(hold_id(1), tenant.id, 70)]);
    let days = store.usage_daily(&UsageFilter::default()).await.unwrap();
    assert_eq!((days.len(), days[0].sums.requests, days[0].sums.tokens_in, days[0].sums.charged_nanos), (1, 1, 12, 70));
    assert_eq!(days[0].day.to_string(), "2026-05-01");
}

#[tokio::test]
async fn a_repeated_batch_books_nothing_twice() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    let first = [settle(&node, hold_id(1), account, 70, tenant.id)];
    store.commit(&node, &first, at(3)).await.unwrap();
    let again = [first[0].clone(), settle(&node, hold_id(2), account, 30, tenant.id), first[0].clone()];
    store.commit(&node, &again, at(4)).await.unwrap();
    let state = store.account(budget.spec.id, at(4)).await.unwrap();
    assert_eq!((state.settled, state.leased), (100, 500));
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_late_settlement_is_charged_only_as_far_as_there_is_room() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let old = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &old, &budget, 1_000).await.account;
    let new = store.register("node", Boot(1), at(5)).await.unwrap();
    store.reclaim(at(5), OrphanPolicy::Release, at(5)).await.unwrap();
    acquire(&store, &new, &budget, 960).await;
    store.commit(&new, &[settle(&old, hold_id(1), account, 70, tenant.id)], at(6)).await.unwrap();
    let state = store.account(budget.spec.id, at(6)).await.unwrap();
    assert_eq!((state.settled, state.leased, state.overrun), (40, 960, 30));
    let page = store.usage(&UsageFilter::default(), PageRequest::default()).await.unwrap();
    assert_eq!((page.items[0].charged_nanos, page.items[0].overrun_nanos), (40, 30));
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn an_earlier_life_of_a_node_is_fenced() {
    let home = Home::new();
    let store = home.open().await;
    let old = store.register("node", Boot(1), at(0)).await.unwrap();
    store.register("node", Boot(1), at(1)).await.unwrap();
    assert!(matches!(store.commit(&old, &[], at(2)).await, Err(StoreError::Fenced)));
    assert!(matches!(store.renew(&old, TTL, at(2)).await, Err(StoreError::Fenced)));
    let refused = store.acquire(&old, &[], TTL, at(2)).await;
    assert!(matches!(refused, Err(AcquireError::Store(StoreError::Fenced))));
}

#[tokio::test]
async fn a_denial_names_the_tightest_budget_and_takes_nothing() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let wide = budget(&store, &tenant, 1_000).await;
    let tight = {
        let mut new = new_budget_of(&wide);
        new.scope = cfr_core::ledger::Scope::Platform;
        new.scope_id = cfr_billing::budget::ScopeId(0);
        new.included_nanos = 10;
        store.create_budget(&new, &Act::of_system(at(0))).await.unwrap()
    };
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let asks = [wide.spec.id, tight.spec.id].map(|budget| LeaseAsk { budget, min: 50, want: 50 });
    let denied = store.acquire(&node, &asks, TTL, at(1)).await;
    assert!(matches!(denied, Err(AcquireError::Denied { budget, room: 10, .. }) if budget == tight.spec.id));
    assert_eq!(store.account(wide.spec.id, at(1)).await.unwrap().leased, 0);
}

fn new_budget_of(budget: &cfr_billing::budget::Budget) -> cfr_billing::budget::NewBudget {
    cfr_billing::budget::NewBudget {
        scope: budget.spec.scope,
        scope_id: budget.scope_id,
        tenant: budget.tenant,
        currency: budget.spec.currency,
        included_nanos: budget.spec.included_nanos,
        policy: budget.spec.policy,
        period: budget.spec.period.clone(),
        zone: budget.spec.zone.clone(),
    }
}

#[tokio::test]
async fn a_limit_below_use_admits_nothing_until_it_drains() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 800).await.account;
    store.set_budget_limit(budget.spec.id, 1, 500, &Act::of_system(at(2))).await.unwrap();
    let state = store.account(budget.spec.id, at(2)).await.unwrap();
    assert_eq!((state.granted, state.overcommit, state.room()), (500, 300, -300));
    store.give_back(&node, &[(account, 800)]).await.unwrap();
    let state = store.account(budget.spec.id, at(2)).await.unwrap();
    assert_eq!((state.overcommit, state.room()), (0, 500), "the over-commitment is gone with the use behind it");
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_grant_happens_once_per_key() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 0).await;
    let grant = NewGrant {
        budget: budget.spec.id,
        kind: GrantKind::TopUp,
        amount: 500,
        idempotency_key: "stripe:1".into(),
        reason: "bought".into(),
        actor: Act::of_system(at(0)).by,
        overcommit: false,
        consent: Consent::NotNeeded,
    };
    let first = store.grant(&grant, at(1)).await.unwrap();
    assert_eq!(store.grant(&grant, at(2)).await.unwrap(), first);
    let other = NewGrant { amount: 501, ..grant.clone() };
    assert!(matches!(store.grant(&other, at(3)).await, Err(StoreError::Conflict { .. })));
    let taken = NewGrant { amount: -501, idempotency_key: "oops".into(), ..grant };
    assert!(matches!(store.grant(&taken, at(4)).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.account(budget.spec.id, at(5)).await.unwrap().granted, 500);
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn time_never_goes_back_behind_what_was_booked() {
    let home = Home::new();
    let store = home.open().await;
    let late = tenant(&store).await;
    let budget = budget(&store, &late, 100).await;
    store.register("node", Boot(1), at(1_000)).await.unwrap();
    let grant = NewGrant {
        budget: budget.spec.id,
        kind: GrantKind::Promo,
        amount: 1,
        idempotency_key: "p".into(),
        reason: "".into(),
        actor: Act::of_system(at(0)).by,
        overcommit: false,
        consent: Consent::NotNeeded,
    };
    assert_eq!(store.grant(&grant, at(500)).await.unwrap().at, at(1_000));
}

#[tokio::test]
async fn orphans_end_by_the_policy() {
    for (policy, expected, settled, leased) in [
        (OrphanPolicy::Evidence, Reclaimed { leases: 1, released: 1, charged: 1, suspended: 0 }, 30, 0),
        (OrphanPolicy::Release, Reclaimed { leases: 1, released: 2, charged: 0, suspended: 0 }, 0, 0),
        (OrphanPolicy::Suspend, Reclaimed { leases: 1, released: 0, charged: 0, suspended: 2 }, 0, 150),
    ] {
        let home = Home::new();
        let store = home.open().await;
        let tenant = tenant(&store).await;
        let budget = budget(&store, &tenant, 1_000).await;
        let node = store.register("node", Boot(1), at(0)).await.unwrap();
        let account = acquire(&store, &node, &budget, 600).await.account;
        let evidence = record(hold_id(1), tenant.id, 30);
        let ops = [
            open(&node, hold_id(1), account, 100, tenant.id),
            open(&node, hold_id(2), account, 50, tenant.id),
            Op::Checkpoint { hold: hold_id(1), charged: 30, record: evidence },
        ];
        store.commit(&node, &ops, at(3)).await.unwrap();
        drop(store); // as a crash would: nobody says goodbye

        let store = home.open().await;
        let node = store.register("node", Boot(1), at(10)).await.unwrap();
        assert_eq!(store.reclaim(at(10), policy, at(10)).await.unwrap(), expected, "{policy:?}");
        assert_eq!(store.reclaim(at(11), policy, at(11)).await.unwrap(), Reclaimed::default(), "{policy:?} again");
        let state = store.account(budget.spec.id, at(11)).await.unwrap();
        assert_eq!((state.settled, state.leased), (settled, leased), "{policy:?}");
        assert_clean(&store.audit().await.unwrap());
        acquire(&store, &node, &budget, 1_000 - settled - leased).await;
    }
}

#[tokio::test]
async fn a_suspended_hold_stays_counted_until_it_ends() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let old = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &old, &budget, 600).await.account;
    let ops = [open(&old, hold_id(1), account, 100, tenant.id), open(&old, hold_id(2), account, 50, tenant.id)];
    store.commit(&old, &ops, at(3)).await.unwrap();
    let new = store.register("node", Boot(1), at(10)).await.unwrap();
    store.reclaim(at(10), OrphanPolicy::Suspend, at(10)).await.unwrap();
    let release = Op::Release { hold: hold_id(2), reason: ReleaseReason::NotSent };
    store.commit(&new, &[settle(&old, hold_id(1), account, 70, tenant.id), release], at(11)).await.unwrap();
    let state = store.account(budget.spec.id, at(11)).await.unwrap();
    assert_eq!((state.settled, state.leased), (70, 0));
    assert_clean(&store.audit().await.unwrap());
}

#[tokio::test]
async fn a_late_open_does_not_bring_a_hold_back() {
    let home = Home::new();
    let store = home.open().await;
    let tenant = tenant(&store).await;
    let budget = budget(&store, &tenant, 1_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(&store, &node, &budget, 600).await.account;
    let opens = [1, 2, 3].map(|number| open(&node, hold_id(number), account, 100, tenant.id));
    let release = |number| Op::Release { hold: hold_id(number), reason: ReleaseReason::NotSent };
    let ended = settle(&node, hold_id(2), account, 10, tenant.id);
    let ends = [opens[0].clone(), release(1), ended, release(3), opens[2].clone()];
    store.commit(&node, &ends, at(3)).await.unwrap();
    store.commit(&node, &opens[..2], at(4)).await.unwrap();
    store.register("node", Boot(1), at(5)).await.unwrap();
    let found = store.reclaim(at(5), OrphanPolicy::Evidence, at(5)).await.unwrap();
    assert_eq!(found, Reclaimed { leases: 1, ..Reclaimed::default() });
}
