//! Rules of usage records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cfr_core::chat::Usage;
use cfr_core::id::{AccountId, KeyId, TenantId, UserId};
use cfr_core::ledger::{Attempt, LimitPolicy, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::time::{Period, Timestamp};
use jiff::tz::TimeZone;

use super::fixture::{DAY, Node, ask, new_tenant};
use crate::audit_log::Act;
use crate::store::{AcquireError, AuditRule, Op, PageRequest, Store, StoreError};
use crate::usage::{Dimension, ReportRow, UsageFilter, UsageSums};

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
    let mut found = BTreeMap::new();
    for day in days {
        let UsageSums { requests, tokens_in, tokens_out, cost_nanos, charged_nanos, .. } = day.sums;
        let sums: &mut [i64; 5] = found.entry((Some(day.day.to_string()), day.tenant, day.model)).or_default();
        for (sum, part) in sums.iter_mut().zip([requests, tokens_in, tokens_out, cost_nanos, charged_nanos]) {
            *sum += part;
        }
    }
    assert_eq!(found, expected);
}

/// Every grouping with every filter, against the records themselves.
pub async fn a_report_adds_up_what_its_filter_finds(store: &dyn Store) {
    use Dimension::{Currency, Day, Key, Model, Tenant, User};
    let node = Node::start(store).await;
    let written = write_history(&node).await;
    let sample = &written[5];
    let filters = [
        UsageFilter::default(),
        UsageFilter { tenant: Some(sample.caller.tenant), ..Default::default() },
        UsageFilter { user: sample.caller.user, ..Default::default() },
        UsageFilter { key: sample.caller.key, model: Some(sample.model_served.clone()), ..Default::default() },
        UsageFilter { from: Some(sample.at), to: Some(sample.at), ..Default::default() },
        UsageFilter { from: Some(sample.at), to: Some(written[9].at), ..Default::default() },
    ];
    for filter in filters {
        for by in [
            &[][..],
            &[Day],
            &[Model],
            &[Tenant, Model],
            &[User],
            &[Currency],
            &[User, Currency],
            &[Day, Tenant, User, Key, Model],
        ] {
            let rows = store.usage_report(&filter, by).await.expect("the store works");
            assert_eq!(rows, expected_report(&written, &filter, by), "{filter:?} by {by:?}");
        }
        let users: BTreeSet<_> = found_by(&written, &filter).filter_map(|record| record.caller.user).collect();
        let active = store.active_users(&filter).await.expect("the store works");
        assert_eq!(active, i64::try_from(users.len()).expect("few"), "{filter:?}");
    }
    let findings = store.audit().await.expect("the store works");
    assert!(findings.iter().all(|finding| finding.rule != AuditRule::Days), "{findings:?}");
}

/// The records of every day that the filter touches.
fn found_by<'a>(written: &'a [UsageRecord], filter: &'a UsageFilter) -> impl Iterator<Item = &'a UsageRecord> {
    let day = |at: Timestamp| at.as_second().div_euclid(86_400);
    written.iter().filter(move |record| {
        filter.tenant.is_none_or(|tenant| record.caller.tenant == tenant)
            && filter.user.is_none_or(|user| record.caller.user == Some(user))
            && filter.key.is_none_or(|key| record.caller.key == Some(key))
            && filter.model.as_ref().is_none_or(|model| record.model_served == *model)
            && filter.from.is_none_or(|from| day(record.at) >= day(from))
            && filter.to.is_none_or(|to| day(record.at) * 86_400 < to.as_second() || day(record.at) < day(to))
    })
}

fn expected_report(written: &[UsageRecord], filter: &UsageFilter, by: &[Dimension]) -> Vec<ReportRow> {
    let mut rows = BTreeMap::new();
    let has = |dimension| by.contains(&dimension);
    for record in found_by(written, filter) {
        let row = ReportRow {
            day: has(Dimension::Day).then(|| TimeZone::UTC.to_datetime(record.at).date()),
            tenant: has(Dimension::Tenant).then_some(record.caller.tenant),
            user: record.caller.user.filter(|_| has(Dimension::User)),
            key: record.caller.key.filter(|_| has(Dimension::Key)),
            model: has(Dimension::Model).then(|| record.model_served.clone()),
            currency: has(Dimension::Currency).then_some(Currency::EUR),
            sums: UsageSums::default(),
        };
        let place = (row.day, row.tenant, row.user, row.key, row.model.clone());
        rows.entry(place).or_insert(row).sums.count(record, record.charged_nanos);
    }
    rows.into_values().collect()
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
    let sums: Vec<_> = days.iter().map(|day| (day.sums.requests, day.sums.tokens_in, day.sums.cost_nanos)).collect();
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
    assert_eq!(days.iter().map(|day| (day.sums.requests, day.sums.charged_nanos)).collect::<Vec<_>>(), [(4, i64::MAX)]);
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
    (settled.record.caller.user, settled.record.caller.key) = (
        (!number.is_multiple_of(4)).then(|| UserId::from_u128((number % 4).into())),
        Some(KeyId::from_u128((number % 5 + 1).into())),
    );
    (settled.record.latency_ms, settled.record.first_byte_ms) =
        (number * 10, number.is_multiple_of(2).then_some(number));
    settled.record.status = if number % 6 == 5 { 502 } else { 200 };
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
