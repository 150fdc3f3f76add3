//! Rules of periods.

use super::LedgerUnderTest;
use super::fixture::{DAY, add, add_hard, ask, denied, expect, hard, hold, nanos, settle};
use crate::id::BudgetId;
use crate::ledger::{BudgetSpec, Scope};
use crate::time::{Clock, Period};

async fn add_daily(subject: &dyn LedgerUnderTest, included_nanos: i64) -> BudgetId {
    add(subject, BudgetSpec { period: Period::Day, ..hard(subject, Scope::User, included_nanos) }).await
}

/// Without anybody resetting anything, and without what was left over.
pub async fn a_new_period_starts_with_its_grant(subject: &dyn LedgerUnderTest) {
    let budget = add_daily(subject, 100).await;
    let id = hold(subject, &[budget], 80).await;
    settle(subject, id, 80).expect("the hold is open");
    let denial = denied(subject.ledger().authorize(ask(subject, &[budget], 50)).await);
    let today = subject.ledger().balance(budget).await.expect("the budget exists");
    assert!(today.period.contains(subject.clock().now()));
    assert_eq!(denial.period_end, today.period.end);
    subject.clock().advance(DAY);
    expect(subject, budget, 100, 0, 0).await;
    let tomorrow = subject.ledger().balance(budget).await.expect("the budget exists");
    assert_eq!(Some(tomorrow.period.start), today.period.end);
    assert_ne!(tomorrow.account, today.account);
    hold(subject, &[budget], 100).await;
}

/// A request that runs over midnight is yesterday's: it costs the new period nothing.
pub async fn a_hold_settles_in_its_own_period(subject: &dyn LedgerUnderTest) {
    let daily = add_daily(subject, 100).await;
    let always = add_hard(subject, Scope::Tenant, 1_000).await;
    let path = [daily, always];
    let settled_late = hold(subject, &path, 60).await;
    let released_late = hold(subject, &path, 40).await;
    subject.clock().advance(DAY);
    expect(subject, daily, 100, 0, 0).await;
    expect(subject, always, 1_000, 0, 100).await;
    let today = hold(subject, &path, 100).await;
    assert_eq!(settle(subject, settled_late, 50).expect("the hold is open").charged, nanos(50));
    subject.ledger().release(released_late, crate::ledger::ReleaseReason::NotSent).expect("the hold is open");
    expect(subject, daily, 100, 0, 100).await;
    expect(subject, always, 1_000, 50, 100).await;
    settle(subject, today, 100).expect("the hold is open");
    expect(subject, daily, 100, 100, 0).await;
    expect(subject, always, 1_000, 150, 0).await;
}

/// What is spent stays spent.
pub async fn a_budget_without_periods_never_begins_anew(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let id = hold(subject, &[budget], 70).await;
    settle(subject, id, 70).expect("the hold is open");
    subject.clock().advance(400 * DAY);
    expect(subject, budget, 100, 70, 0).await;
    denied(subject.ledger().authorize(ask(subject, &[budget], 31)).await);
}
