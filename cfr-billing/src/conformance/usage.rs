//! Rules of usage records.

use std::collections::BTreeMap;
use std::time::Duration;

use cfr_core::chat::Usage;
use cfr_core::id::{AccountId, TenantId};
use cfr_core::ledger::{Attempt, LimitPolicy, UsageRecord};
use cfr_core::time::Period;

use super::fixture::{DAY, Node, ask, new_tenant};
use crate::audit_log::Act;
use crate::store::{AcquireError, Op, PageRequest, Store, StoreError};
use crate::usage::UsageFilter;

/// Every filter, alone and together.
pub async fn usage_is_filtered_and_listed_newest_first(store: &dyn Store) {
    let node = Node::start(store).await;
    let written = write_history(&node).await;
    let every = |filter: UsageFilter, wanted: &dyn Fn(&UsageRecord) -> bool| {
        let wanted: Vec<_> = written.iter().rev().filter(|record| wanted(record)).map(|record| record.id).collect();
        async move {
            assert!(!wanted.is_empty(), "the filter must find something: {filter:?}");
            assert_eq!(
                all(store, &filter, 2).await.iter().map(|record| record.id).collect::<Vec<_>>(),
                wanted,
                "{filter:?}"
            );
        }
    };
    let sample = &written[3];
    every(UsageFilter::default(), &|_| true).await;
    every(UsageFilter { id: Some(sample.id), ..Default::default() }, &|record| record.id == sample.id).await;
    every(UsageFilter { tenant: Some(sample.caller.tenant), ..Default::default() }, &|record| {
        record.caller.tenant == sample.caller.tenant
    })
    .await;
    every(UsageFilter { model: Some(sample.model_served.clone()), ..Default::default() }, &|record| {
        record.model_served == sample.model_served
    })
    .await;
    every(UsageFilter { from: Some(sample.at), ..Default::default() }, &|record| record.at >= sample.at).await;
    every(UsageFilter { to: Some(sample.at), ..Default::default() }, &|record| record.at < sample.at).await;
    let both = UsageFilter { tenant: Some(sample.caller.tenant), from: Some(sample.at), ..Default::default() };
    every(both, &|record| record.caller.tenant == sample.caller.tenant && record.at >= sample.at).await;
}

/// Down to the last field.
pub async fn usage_survives_unchanged(store: &dyn Store) {
    let node = Node::start(store).await;
    let account = node.lease(node.hard(100).await, 100).await;
    let id = node.hold();
    let Op::Settle(mut settled) = node.settle(id, &[account], 9) else { panic!("it is a settlement") };
    settled.record.attempts =
        vec![Attempt { upstream: "azure".into(), model: "gpt-4o".into(), outcome: "rate_limited".into() }];
    settled.record.upstream_id = Some("chatcmpl-1".into());
    settled.record.tags.user = Some("ada".into());
    settled.record.tags.metadata = Some(r#"{"team":"a"}"#.into());
    settled.record.output_tokens_max_applied = Some(512);
    settled.record.price_version = u64::MAX - 5;
    let written = (*settled.record).clone();
    node.commit(&[Op::Settle(settled)]).await;
    let filter = UsageFilter { id: Some(id), ..Default::default() };
    assert_eq!(all(store, &filter, 10).await, [written]);
}

/// The rollup is the sum of the records, by day, tenant, user, key and model.
pub async fn days_add_up_to_the_records(store: &dyn Store) {
    let node = Node::start(store).await;
    let mut expected = BTreeMap::new();
    for record in write_history(&node).await {
        let day = record.at.to_string().split('T').next().map(str::to_owned);
        let sums: &mut [i64; 5] = expected.entry((day, record.caller.tenant, record.model_served)).or_default();
        let [tokens_in, tokens_out] =
            [record.usage.input_total(), record.usage.output_total()].map(|sum| i64::try_from(sum).expect("small"));
        for (sum, part) in sums.iter_mut().zip([1, tokens_in, tokens_out, record.cost_nanos, record.charged_nanos]) {
            *sum += part;
        }
    }
    let days = store.usage_daily(&UsageFilter::default()).await.expect("the store works");
    let found: BTreeMap<_, _> = days
        .into_iter()
        .map(|day| {
            let sums = [day.requests, day.tokens_in, day.tokens_out, day.cost_nanos, day.charged_nanos];
            ((Some(day.day.to_string()), day.tenant, day.model), sums)
        })
        .collect();
    assert_eq!(found, expected);
}

/// What an upstream reports may be nonsense. Sums stop at the largest number; the batch, and all after it, are written.
pub async fn absurd_amounts_stop_no_batch(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let account = node.lease(budget, 100).await;
    let absurd = || {
        let Op::Settle(mut settled) = node.settle(node.hold(), &[account], 10) else { panic!("it is a settlement") };
        settled.record.usage = Usage::text(u64::MAX, u64::MAX);
        (settled.record.cost_nanos, settled.record.overrun_nanos) = (i64::MAX, i64::MAX);
        Op::Settle(settled)
    };
    node.commit(&[absurd(), absurd()]).await;
    node.commit(&[absurd()]).await;
    node.commit(&[node.settle(node.hold(), &[account], 10)]).await;
    assert_eq!((node.state(budget).await.settled, node.state(budget).await.overrun), (40, i64::MAX));
    let days = store.usage_daily(&UsageFilter::default()).await.expect("the store works");
    let sums: Vec<_> = days.iter().map(|day| (day.requests, day.tokens_in, day.cost_nanos)).collect();
    assert_eq!(sums, [(4, i64::MAX, i64::MAX)]);
}

/// No hard limit stops what is charged there, and the sums have an end: what is beyond it is refused or becomes overrun, and
/// later batches are written.
pub async fn the_sums_of_a_budget_without_a_hard_limit_end_at_the_largest_number(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.budget(100, LimitPolicy::Soft, Period::Never).await;
    let account = node.lease(budget, 10).await;
    node.commit(&[node.settle(node.hold(), &[account], i64::MAX - 50)]).await;
    node.commit(&[node.settle(node.hold(), &[account], 80), node.settle(node.hold(), &[account], 7)]).await;
    let state = node.state(budget).await;
    assert_eq!((state.settled, state.leased, state.overrun), (i64::MAX, 0, 37));
    let refused = node.acquire(&[ask(budget, 1, 1)]).await;
    assert!(matches!(refused, Err(AcquireError::Store(StoreError::Invalid { .. }))), "{refused:?}");
    node.commit(&[node.settle(node.hold(), &[account], 5)]).await;
    assert_eq!(node.state(budget).await.overrun, 42);
    let days = store.usage_daily(&UsageFilter::default()).await.expect("the store works");
    assert_eq!(days.iter().map(|day| (day.requests, day.charged_nanos)).collect::<Vec<_>>(), [(4, i64::MAX)]);
    node.assert_books_agree().await;
}

/// Twelve requests of two tenants and three models over three days, the oldest first.
async fn write_history(node: &Node<'_>) -> Vec<UsageRecord> {
    let other =
        node.store.create_tenant(&new_tenant("other"), &Act::of_system(node.now)).await.expect("the slug is free").id;
    let account = node.lease(node.hard(100_000).await, 100_000).await;
    let mut written = Vec::new();
    for number in 0..12_u32 {
        let later = node.later(DAY / 4 * number + Duration::from_secs(1));
        written.push(write(&later, account, if number % 3 == 0 { other } else { node.tenant }, number).await);
    }
    written
}

async fn write(node: &Node<'_>, account: AccountId, tenant: TenantId, number: u32) -> UsageRecord {
    let Op::Settle(mut settled) = node.settle(node.hold(), &[account], 100 + i64::from(number)) else {
        panic!("it is a settlement")
    };
    settled.record.caller.tenant = tenant;
    settled.record.model_served = ["gpt-4o", "claude", "gemini"][number as usize % 3].into();
    settled.record.usage = Usage::text(u64::from(number) + 1, u64::from(number) * 2);
    let record = (*settled.record).clone();
    node.commit(&[Op::Settle(settled)]).await;
    record
}

async fn all(store: &dyn Store, filter: &UsageFilter, limit: u32) -> Vec<UsageRecord> {
    let mut records = Vec::new();
    let mut after = None;
    loop {
        let page = store.usage(filter, PageRequest { after, limit }).await.expect("the store works");
        records.extend(page.items);
        after = page.next;
        if after.is_none() {
            return records;
        }
    }
}
