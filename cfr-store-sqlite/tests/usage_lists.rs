//! Records enter the lists of tenants and users many at a time, and entries those of accounts: a reader must not notice
//! which ones have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cfr_billing::store::{AuditRule, Boot, CatalogStore, LedgerStore, Op, PageRequest, SettledHold};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::{AccountId, RequestId, TenantId, UserId};
use cfr_core::ledger::UsageRecord;
use cfr_store_sqlite::SqliteStore;
use support::*;

/// Crosses the number of records that are listed together several times, and ends between two.
const RECORDS: u128 = 3_500;
/// Not a divisor of anything.
const BATCH: usize = 130;
const TENANTS: u128 = 3;
const USERS: u128 = 7;

#[tokio::test]
async fn a_list_has_every_record_once_and_in_order_whether_it_was_entered_or_not() {
    let home = Home::new();
    let store = home.open().await;
    let written = write(&store).await;
    let user = UserId::from_u128(103);
    let tenant = TenantId::from_u128(2);
    for filter in [
        UsageFilter::default(),
        UsageFilter { tenant: Some(tenant), ..UsageFilter::default() },
        UsageFilter { user: Some(user), ..UsageFilter::default() },
        UsageFilter { user: Some(user), tenant: Some(tenant), ..UsageFilter::default() },
        UsageFilter { user: Some(user), from: Some(at(100)), to: Some(at(700)), ..UsageFilter::default() },
        UsageFilter { from: Some(at(999)), ..UsageFilter::default() },
    ] {
        let wanted: Vec<_> = written.iter().filter(|record| matches(&filter, record)).map(|record| record.id).collect();
        assert!(!wanted.is_empty(), "{filter:?}");
        assert_eq!(listed(&store, &filter).await, wanted, "{filter:?}");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_look_at_an_account_adds_up_every_entry_as_it_is_now_whether_it_was_entered_or_not() {
    for edit in [
        "UPDATE ledger_entries SET amount = amount + 1 WHERE batch = (SELECT max(batch) FROM entry_lists)",
        "UPDATE ledger_entries SET amount = amount + 1 WHERE batch = (SELECT max(batch) FROM ledger_entries)",
    ] {
        let home = Home::new();
        let store = home.open().await;
        write(&store).await;
        assert_clean(&store.audit_accounts(AccountId(0), 10).await.unwrap().findings);
        store.close().await.unwrap();
        raw(&home.path(), "DROP TRIGGER ledger_entries_stay").await.unwrap();
        raw(&home.path(), edit).await.unwrap();
        let store = home.open().await;
        let found = store.audit_accounts(AccountId(0), 10).await.unwrap().findings;
        assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [AuditRule::Sums], "{edit}");
        store.close().await.unwrap();
    }
}

/// Requests that did not end in the order in which they began, the newest first.
async fn write(store: &SqliteStore) -> Vec<UsageRecord> {
    let owner = tenant(store).await;
    let budget = budget(store, &owner, 1_000_000).await;
    let node = store.register("node", Boot(1), at(0)).await.unwrap();
    let account = acquire(store, &node, &budget, 1_000_000).await.account;
    let records: Vec<UsageRecord> = (1..=RECORDS)
        .map(|number| {
            let began = at(i64::try_from(number * 7_919 % 1_000).unwrap());
            let mut record = *record(RequestId::from_u128(number), owner.id, 2);
            record.at = began;
            // Records of several tenants on one account are no business of the store's.
            record.caller.tenant = TenantId::from_u128(number % TENANTS);
            record.caller.user = (number % USERS != 0).then(|| UserId::from_u128(100 + number % USERS));
            record
        })
        .collect();
    for batch in records.chunks(BATCH) {
        let settle = |record: &UsageRecord| {
            let (epoch, accounts) = (node.epoch, [account].into_iter().collect());
            Op::Settle(Box::new(SettledHold {
                id: record.id,
                epoch,
                accounts,
                charged: 2,
                record: Box::new(record.clone()),
            }))
        };
        store.commit(&node, &batch.iter().map(settle).collect::<Vec<_>>(), at(2_000)).await.unwrap();
    }
    let mut newest_first = records;
    newest_first.sort_by_key(|record| std::cmp::Reverse((record.at, record.id)));
    newest_first
}

fn matches(filter: &UsageFilter, record: &UsageRecord) -> bool {
    filter.tenant.is_none_or(|tenant| record.caller.tenant == tenant)
        && filter.user.is_none_or(|user| record.caller.user == Some(user))
        && filter.from.is_none_or(|from| record.at >= from)
        && filter.to.is_none_or(|to| record.at < to)
}

async fn listed(store: &SqliteStore, filter: &UsageFilter) -> Vec<RequestId> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = store.usage(filter, PageRequest { after, limit: 97 }).await.unwrap();
        ids.extend(page.items.iter().map(|record| record.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}
