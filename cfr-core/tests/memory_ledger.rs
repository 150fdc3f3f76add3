//! What the reference ledger does beyond the contract: top-ups, changed limits, records, and what it forgets.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::chat::{Operation, Usage, UsageSource};
use cfr_core::id::{BudgetId, HoldId, TenantId};
use cfr_core::ledger::{
    AuthorizeError, Balance, BudgetLedger, BudgetSpec, CallerIds, Hold, HoldRequest, LedgerError, LimitPolicy,
    MemoryLedger, ReleaseReason, Scope, Settlement, UsageRecord,
};
use cfr_core::money::{Charge, Currency, Money};
use cfr_core::time::{ManualClock, Period, TimeZone, Timestamp};

const BUDGET: BudgetId = BudgetId::from_u128(1);
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn bought_money_is_spent_last_and_rolls_over() {
    let (clock, ledger) = ledger_with(100, Period::Day);
    assert_eq!(ledger.grant(BUDGET, nanos(50), "invoice-1"), Ok(()));
    spend(&ledger, 1, 120).await;
    clock.advance(DAY);
    check_balance(&ledger, 130, 0, 0).await;
    spend(&ledger, 2, 40).await;
    clock.advance(DAY);
    check_balance(&ledger, 130, 0, 0).await;
    spend(&ledger, 3, 130).await;
    clock.advance(DAY);
    check_balance(&ledger, 100, 0, 0).await;
}

#[tokio::test]
async fn bought_money_that_is_held_stays_in_its_period() {
    let (clock, ledger) = ledger_with(100, Period::Day);
    assert_eq!(ledger.grant(BUDGET, nanos(50), "invoice-1"), Ok(()));
    let late = hold(&ledger, 1, 120).await.expect("there is room").id;
    clock.advance(DAY);
    check_balance(&ledger, 130, 0, 0).await;
    assert_eq!(ledger.settle(late, settlement(late, 200)).expect("it is open").charged, nanos(120));
    check_balance(&ledger, 130, 0, 0).await;
}

#[tokio::test]
async fn a_free_hold_keeps_its_past_period_open() {
    let (clock, ledger) = ledger_with(100, Period::Day);
    let late = hold(&ledger, 1, 0).await.expect("it is free").id;
    for _ in 0..2 {
        clock.advance(DAY);
        check_balance(&ledger, 100, 0, 0).await;
    }
    let settled = ledger.settle(late, settlement(late, 130)).expect("it is open");
    assert_eq!((settled.charged, settled.overrun), (nanos(100), nanos(30)));
    check_balance(&ledger, 100, 0, 0).await;
}

#[tokio::test]
async fn a_key_grants_once_even_in_a_later_period() {
    let (clock, ledger) = ledger_with(100, Period::Day);
    assert_eq!(ledger.grant(BUDGET, nanos(50), "invoice-1"), Ok(()));
    clock.advance(DAY);
    assert_eq!(ledger.grant(BUDGET, nanos(50), "invoice-1"), Ok(()));
    check_balance(&ledger, 150, 0, 0).await;
    assert!(matches!(ledger.grant(BUDGET, nanos(60), "invoice-1"), Err(LedgerError::Malformed { .. })));
    for amount in [nanos(0), nanos(-1), Money::from_nanos(1, Currency::USD)] {
        assert!(matches!(ledger.grant(BUDGET, amount, "invoice-2"), Err(LedgerError::Malformed { .. })));
    }
    let unknown = BudgetId::from_u128(2);
    let error = LedgerError::UnknownBudget { budget: unknown };
    assert_eq!(ledger.grant(unknown, nanos(1), "invoice-3"), Err(error));
}

#[tokio::test]
async fn a_limit_below_use_holds_nothing_more_until_it_drained() {
    let (clock, ledger) = ledger_with(100, Period::Day);
    spend(&ledger, 1, 30).await;
    let open = hold(&ledger, 2, 50).await.expect("there is room").id;
    assert_eq!(ledger.set_limit(BUDGET, nanos(60)), Ok(()));
    let balance = ledger.balance(BUDGET).await.expect("it exists");
    assert_eq!((balance.granted, balance.available), (nanos(60), nanos(0)));
    assert!(matches!(hold(&ledger, 3, 1).await, Err(AuthorizeError::Denied(denial)) if denial.available == nanos(0)));
    let settled = ledger.settle(open, settlement(open, 55)).expect("it is open");
    assert_eq!((settled.charged, settled.overrun), (nanos(50), nanos(5)), "what was held is charged, and no more");
    clock.advance(DAY);
    check_balance(&ledger, 60, 0, 0).await;
    assert_eq!(ledger.set_limit(BUDGET, nanos(80)), Ok(()));
    check_balance(&ledger, 80, 0, 0).await;
    assert!(matches!(ledger.set_limit(BUDGET, nanos(-1)), Err(LedgerError::Malformed { .. })));
    assert_eq!(ledger.set_limit(BUDGET, nanos(0)), Ok(()));
    check_balance(&ledger, 0, 0, 0).await;
}

#[tokio::test]
async fn a_budget_larger_than_any_amount_can_be_held_on() {
    let (_, ledger) = ledger_with(i64::MAX, Period::Never);
    assert_eq!(ledger.grant(BUDGET, nanos(i64::MAX), "invoice-1"), Ok(()));
    for id in 1..=2 {
        assert_eq!(hold(&ledger, id, i64::MAX).await.expect("there is room").amount, nanos(i64::MAX));
    }
    assert!(matches!(hold(&ledger, 3, 1).await, Err(AuthorizeError::Denied(_))));
}

#[tokio::test]
async fn a_record_says_what_was_charged_and_what_was_not() {
    let (_, ledger) = ledger_with(100, Period::Never);
    let id = hold(&ledger, 1, 70).await.expect("there is room").id;
    let settled = ledger.settle(id, settlement(id, 120)).expect("it is open");
    assert_eq!((settled.charged, settled.overrun), (nanos(100), nanos(20)));
    let records = ledger.records();
    let figures: Vec<_> =
        records.iter().map(|record| (record.id, record.charged_nanos, record.overrun_nanos)).collect();
    assert_eq!(figures, [(id, 100, 20)]);
}

#[tokio::test]
async fn the_last_checkpoint_is_kept_while_the_hold_is_open() {
    let (_, ledger) = ledger_with(100, Period::Never);
    let id = hold(&ledger, 1, 70).await.expect("there is room").id;
    assert!(ledger.evidence(id).is_none());
    for price in [10, 20] {
        assert_eq!(ledger.checkpoint(id, settlement(id, price)), Ok(()));
        assert_eq!(ledger.evidence(id).map(|so_far| so_far.charge.price), Some(nanos(price)));
    }
    ledger.release(id, ReleaseReason::Abandoned).expect("it is open");
    assert!(ledger.evidence(id).is_none());
    assert_eq!(ledger.records(), [], "a released hold leaves no record");
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let (_, ledger) = ledger_with(i64::MAX, Period::Never);
    let rounds = MemoryLedger::ENDED_HOLDS_REMEMBERED as u128 + 1;
    for id in 1..=rounds {
        spend(&ledger, id, 1).await;
    }
    let records = ledger.records();
    assert_eq!(records.len(), MemoryLedger::RECORDS_KEPT);
    assert_eq!(records.last().map(|record| record.id), Some(HoldId::from_u128(rounds)));
    let (forgotten, remembered) = (HoldId::from_u128(1), HoldId::from_u128(2));
    let release = |id| ledger.release(id, ReleaseReason::NotSent).map(|_| ());
    assert_eq!(release(forgotten), Err(LedgerError::UnknownHold { hold: forgotten }));
    assert_eq!(release(remembered), Err(LedgerError::AlreadyClosed { hold: remembered }));
}

#[tokio::test]
async fn a_clock_that_is_set_back_reopens_no_period() {
    let (clock, ledger) = ledger_with(100, Period::Day);
    spend(&ledger, 1, 100).await;
    clock.advance(DAY);
    spend(&ledger, 2, 60).await;
    clock.set(Timestamp::UNIX_EPOCH);
    check_balance(&ledger, 100, 60, 0).await;
}

#[tokio::test]
async fn a_subscription_that_ended_holds_nothing() {
    let end = Timestamp::from_second(86_400).expect("a timestamp");
    let (clock, ledger) = ledger_with(100, Period::Subscription { start: Timestamp::UNIX_EPOCH, end });
    let open = hold(&ledger, 1, 40).await.expect("it runs").id;
    clock.advance(DAY);
    match hold(&ledger, 2, 0).await {
        Err(AuthorizeError::Denied(denial)) => assert_eq!((denial.available, denial.period_end), (nanos(0), Some(end))),
        other => panic!("{other:?}"),
    }
    assert_eq!(ledger.settle(open, settlement(open, 30)).expect("it is open").charged, nanos(30));
    check_balance(&ledger, 100, 30, 0).await;
}

#[tokio::test]
async fn a_second_budget_with_the_same_id_changes_nothing() {
    let (_, ledger) = ledger_with(100, Period::Never);
    ledger.add_budget(spec(1_000, Period::Day));
    check_balance(&ledger, 100, 0, 0).await;
}

fn ledger_with(included_nanos: i64, period: Period) -> (Arc<ManualClock>, MemoryLedger) {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let ledger = MemoryLedger::new(clock.clone()).with_budget(spec(included_nanos, period));
    (clock, ledger)
}

fn spec(included_nanos: i64, period: Period) -> BudgetSpec {
    let (scope, currency, policy, zone) = (Scope::Tenant, Currency::EUR, LimitPolicy::Hard, TimeZone::UTC);
    BudgetSpec { id: BUDGET, scope, currency, included_nanos, policy, period, zone }
}

async fn hold(ledger: &MemoryLedger, id: u128, amount: i64) -> Result<Hold, AuthorizeError> {
    let (amount, amount_min) = (nanos(amount), nanos(amount));
    let (id, path, at) = (HoldId::from_u128(id), Arc::from([BUDGET]), Timestamp::UNIX_EPOCH);
    ledger.authorize(HoldRequest { id, path, amount, amount_min, caller: caller(), model: "gpt-4o".into(), at }).await
}

async fn spend(ledger: &MemoryLedger, id: u128, price: i64) {
    let hold = hold(ledger, id, price).await.map(|hold| hold.id);
    let settled = hold.map(|id| ledger.settle(id, settlement(id, price)).map(|settled| settled.charged));
    assert_eq!(settled, Ok(Ok(nanos(price))));
}

#[track_caller]
fn check_balance(ledger: &MemoryLedger, granted: i64, settled: i64, held: i64) -> impl Future<Output = ()> + use<'_> {
    let caller = std::panic::Location::caller();
    async move {
        let balance = ledger.balance(BUDGET).await;
        let figures = balance.map(|Balance { granted, settled, held, .. }| (granted, settled, held));
        assert_eq!(figures, Ok((nanos(granted), nanos(settled), nanos(held))), "at {caller}");
    }
}

const fn nanos(amount: i64) -> Money {
    Money::from_nanos(amount, Currency::EUR)
}

const fn caller() -> CallerIds {
    CallerIds { tenant: TenantId::from_u128(1), user: None, key: None, product_version: None }
}

fn settlement(id: HoldId, price: i64) -> Settlement {
    let record = UsageRecord {
        id,
        at: Timestamp::UNIX_EPOCH,
        caller: caller(),
        operation: Operation::ChatCompletions,
        model_requested: "gpt-4o".into(),
        provider: "openai".into(),
        model_served: "gpt-4o".into(),
        usage: Usage::text(10, 20),
        source: UsageSource::Provider,
        cost_nanos: price,
        price_nanos: price,
        charged_nanos: 0,
        overrun_nanos: 0,
        price_version: 0,
        fx_e6: 1_000_000,
        margin_bps: 0,
        status: 200,
        finish: "stop".into(),
        streamed: false,
        latency_ms: 1,
        first_byte_ms: None,
        attempts: Vec::new(),
        upstream_id: None,
        tags: cfr_core::chat::Tags::default(),
        output_tokens_max_applied: None,
    };
    Settlement {
        charge: Charge { cost: nanos(price), margin: nanos(0), price: nanos(price) },
        record: Box::new(record),
    }
}
