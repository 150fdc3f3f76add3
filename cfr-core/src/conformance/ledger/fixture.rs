//! The words in which the rules are written.

use std::sync::Arc;
use std::time::Duration;

use super::LedgerUnderTest;
use crate::chat::{Operation, Tags, Usage, UsageSource};
use crate::id::{BudgetId, HoldId, TenantId};
use crate::ledger::{
    AuthorizeError, BudgetSpec, CallerIds, Denial, Hold, HoldRequest, LedgerError, LimitPolicy, Scope, Settled,
    Settlement, UsageRecord,
};
use crate::money::{Charge, Currency, Money};
use crate::time::{Clock, Period, TimeZone};

pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) const fn nanos(amount: i64) -> Money {
    Money::from_nanos(amount, Currency::EUR)
}

/// A hard budget without periods.
pub(super) fn hard(subject: &dyn LedgerUnderTest, scope: Scope, included_nanos: i64) -> BudgetSpec {
    BudgetSpec {
        id: BudgetId::generate(subject.clock().now()),
        scope,
        currency: Currency::EUR,
        included_nanos,
        policy: LimitPolicy::Hard,
        period: Period::Never,
        zone: TimeZone::UTC,
    }
}

pub(super) async fn add(subject: &dyn LedgerUnderTest, spec: BudgetSpec) -> BudgetId {
    let budget = spec.id;
    subject.add_budget(spec).await;
    budget
}

pub(super) async fn add_hard(subject: &dyn LedgerUnderTest, scope: Scope, included_nanos: i64) -> BudgetId {
    add(subject, hard(subject, scope, included_nanos)).await
}

pub(super) fn ask(subject: &dyn LedgerUnderTest, path: &[BudgetId], amount: i64) -> HoldRequest {
    let now = subject.clock().now();
    HoldRequest {
        id: HoldId::generate(now),
        path: path.into(),
        amount: nanos(amount),
        amount_min: nanos(amount),
        caller: CallerIds { tenant: TenantId::from_u128(1), user: None, key: None, product_version: None },
        model: "conformance".into(),
        at: now,
    }
}

/// Holds an amount that must be there.
#[track_caller]
pub(super) fn held(result: Result<Hold, AuthorizeError>) -> Hold {
    result.unwrap_or_else(|error| panic!("expected a hold, got: {error}"))
}

pub(super) async fn hold(subject: &dyn LedgerUnderTest, path: &[BudgetId], amount: i64) -> HoldId {
    held(subject.ledger().authorize(ask(subject, path, amount)).await).id
}

#[track_caller]
pub(super) fn denied<T>(result: Result<T, AuthorizeError>) -> Denial {
    match result {
        Err(AuthorizeError::Denied(denial)) => denial,
        Err(AuthorizeError::Ledger(error)) => panic!("expected a denial, got: {error}"),
        Ok(_) => panic!("expected a denial, got the money"),
    }
}

#[track_caller]
pub(super) fn refused<T>(result: Result<T, AuthorizeError>) -> LedgerError {
    match result {
        Err(AuthorizeError::Ledger(error)) => error,
        Err(AuthorizeError::Denied(denial)) => panic!("expected a refusal, got {denial:?}"),
        Ok(_) => panic!("expected a refusal, got the money"),
    }
}

pub(super) fn settle(subject: &dyn LedgerUnderTest, hold: HoldId, price: i64) -> Result<Settled, LedgerError> {
    subject.ledger().settle(hold, settlement(hold, price))
}

/// A fifth of the price is margin.
pub(super) fn charge(price: i64) -> Charge {
    let margin = price / 5; // down: the rest is cost
    Charge { cost: nanos(price - margin), margin: nanos(margin), price: nanos(price) }
}

pub(super) fn settlement(hold: HoldId, price: i64) -> Settlement {
    let charge = charge(price);
    let record = UsageRecord {
        id: hold,
        at: jiff::Timestamp::UNIX_EPOCH,
        caller: CallerIds { tenant: TenantId::from_u128(1), user: None, key: None, product_version: None },
        operation: Operation::ChatCompletions,
        model_requested: "conformance".into(),
        provider: "conformance".into(),
        model_served: "conformance".into(),
        usage: Usage::text(1, 1),
        source: UsageSource::Provider,
        cost_nanos: charge.cost.nanos(),
        price_nanos: charge.price.nanos(),
        charged_nanos: 0,
        overrun_nanos: 0,
        price_version: 0,
        fx_e6: 1_000_000,
        margin_bps: 2_000,
        status: 200,
        finish: Arc::from("stop"),
        streamed: false,
        latency_ms: 1,
        first_byte_ms: None,
        attempts: Vec::new(),
        upstream_id: None,
        tags: Tags::default(),
        output_tokens_max_applied: None,
    };
    Settlement { charge, record: Box::new(record) }
}

/// The figures of a balance that every rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) granted: i64,
    pub(super) settled: i64,
    pub(super) held: i64,
}

/// Settles down and reads a balance, whose available amount must be what the figures say.
pub(super) async fn figures(subject: &dyn LedgerUnderTest, budget: BudgetId) -> Figures {
    subject.settle_down().await;
    let balance = subject.ledger().balance(budget).await.expect("the budget exists");
    let figures =
        Figures { granted: balance.granted.nanos(), settled: balance.settled.nanos(), held: balance.held.nanos() };
    assert_eq!(balance.budget, budget);
    if balance.policy == LimitPolicy::Hard {
        let free = figures.granted - figures.settled - figures.held;
        assert_eq!(balance.available, nanos(free.max(0)), "available is what is neither settled nor held: {balance:?}");
    }
    figures
}

pub(super) async fn expect(subject: &dyn LedgerUnderTest, budget: BudgetId, granted: i64, settled: i64, held: i64) {
    assert_eq!(figures(subject, budget).await, Figures { granted, settled, held });
}
