//! Rules of making and raising a hold.

use std::sync::Arc;

use super::LedgerUnderTest;
use super::fixture::{add, add_hard, ask, denied, expect, hard, held, hold, nanos, refused, settle};
use crate::id::BudgetId;
use crate::ledger::{BudgetSpec, HoldRequest, LedgerError, LimitPolicy, PATH_BUDGETS_MAX, ReleaseReason, Scope};
use crate::money::{Currency, Money};
use crate::time::Clock;

/// A budget without room keeps every other one untouched.
pub async fn a_hold_is_made_on_every_budget_or_on_none(subject: &dyn LedgerUnderTest) {
    let key = add_hard(subject, Scope::Key, 1_000).await;
    let user = add_hard(subject, Scope::User, 100).await;
    let tenant = add_hard(subject, Scope::Tenant, 1_000).await;
    let path = [key, user, tenant];
    hold(subject, &path, 60).await;
    denied(subject.ledger().authorize(ask(subject, &path, 60)).await);
    expect(subject, key, 1_000, 0, 60).await;
    expect(subject, user, 100, 0, 60).await;
    expect(subject, tenant, 1_000, 0, 60).await;
}

/// The last nano-unit can be held, and none after it.
pub async fn holding_stops_at_the_limit(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let first = held(subject.ledger().authorize(ask(subject, &[budget], 99)).await);
    assert_eq!(first.available_after, nanos(1));
    let second = held(subject.ledger().authorize(ask(subject, &[budget], 1)).await);
    assert_eq!(second.available_after, nanos(0));
    assert_eq!(second.committed.await, Ok(()));
    denied(subject.ledger().authorize(ask(subject, &[budget], 1)).await);
    expect(subject, budget, 100, 0, 100).await;
}

/// Not the first without room, the one with the least.
pub async fn a_denial_names_the_tightest_budget(subject: &dyn LedgerUnderTest) {
    let key = add_hard(subject, Scope::Key, 50).await;
    let user = add_hard(subject, Scope::User, 30).await;
    let tenant = add_hard(subject, Scope::Tenant, 40).await;
    let denial = denied(subject.ledger().authorize(ask(subject, &[key, user, tenant], 60)).await);
    assert_eq!((denial.budget, denial.scope), (user, Scope::User));
    assert_eq!((denial.available, denial.asked), (nanos(30), nanos(60)));
    assert_eq!(denial.period_end, None, "the budget has no periods");
}

/// A retry must not flip from no to yes, whatever happened meanwhile.
pub async fn a_denial_is_final_for_its_id(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let blocker = hold(subject, &[budget], 100).await;
    let late = ask(subject, &[budget], 10);
    let first = denied(subject.ledger().authorize(late.clone()).await);
    subject.ledger().release(blocker, ReleaseReason::NotSent).expect("the hold is open");
    subject.settle_down().await;
    assert_eq!(denied(subject.ledger().authorize(late.clone()).await), first);
    hold(subject, &[budget], 10).await;
}

/// A retry holds nothing twice.
pub async fn the_same_request_gives_the_same_hold(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let request = HoldRequest { amount: nanos(150), amount_min: nanos(10), ..ask(subject, &[budget], 0) };
    for _ in 0..3 {
        let hold = held(subject.ledger().authorize(request.clone()).await);
        assert_eq!((hold.id, hold.amount), (request.id, nanos(100)));
    }
    expect(subject, budget, 100, 0, 100).await;
}

/// An id stands for its arguments, for a hold and for a denial.
pub async fn other_arguments_are_refused(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let other = add_hard(subject, Scope::Tenant, 100).await;
    let open = ask(subject, &[budget], 60);
    assert_eq!(held(subject.ledger().authorize(open.clone()).await).amount, nanos(60));
    let no = ask(subject, &[budget], 70);
    denied(subject.ledger().authorize(no.clone()).await);
    for request in [open, no] {
        let reused = LedgerError::IdReused { hold: request.id };
        let dearer = HoldRequest { amount: nanos(71), ..request.clone() };
        assert_eq!(refused(subject.ledger().authorize(dearer).await), reused);
        let shrinkable = HoldRequest { amount_min: nanos(1), ..request.clone() };
        assert_eq!(refused(subject.ledger().authorize(shrinkable).await), reused);
        let dollars = |amount: Money| Money::from_nanos(amount.nanos(), Currency::USD);
        let (amount, amount_min) = (dollars(request.amount), dollars(request.amount_min));
        let foreign = HoldRequest { amount, amount_min, ..request.clone() };
        assert_eq!(refused(subject.ledger().authorize(foreign).await), reused);
        let elsewhere = HoldRequest { path: Arc::from([budget, other]), ..request };
        assert_eq!(refused(subject.ledger().authorize(elsewhere).await), reused);
    }
    expect(subject, budget, 100, 0, 60).await;
    expect(subject, other, 100, 0, 0).await;
}

/// A request that can shrink gets as much as the tightest budget has.
pub async fn a_hold_takes_what_there_is_down_to_its_minimum(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 100).await;
    let tenant = add_hard(subject, Scope::Tenant, 70).await;
    let path = [user, tenant];
    let shrinkable = |most, least| HoldRequest { amount_min: nanos(least), ..ask(subject, &path, most) };
    assert_eq!(denied(subject.ledger().authorize(shrinkable(500, 71)).await).budget, tenant);
    let all = held(subject.ledger().authorize(shrinkable(500, 70)).await);
    assert_eq!((all.amount, all.available_after), (nanos(70), nanos(0)));
    expect(subject, user, 100, 0, 70).await;
    expect(subject, tenant, 70, 0, 70).await;
    let nothing = held(subject.ledger().authorize(shrinkable(500, 0)).await);
    assert_eq!(nothing.amount, nanos(0));
}

/// It counts what is held and spent, far beyond what it was granted.
pub async fn an_unlimited_budget_never_denies(subject: &dyn LedgerUnderTest) {
    let spec = BudgetSpec { policy: LimitPolicy::Unlimited, ..hard(subject, Scope::Platform, 0) };
    let budget = add(subject, spec).await;
    let first = held(subject.ledger().authorize(ask(subject, &[budget], 5_000_000)).await);
    assert_eq!(first.amount, nanos(5_000_000));
    let second = hold(subject, &[budget], 1_000_000).await;
    settle(subject, second, 400_000).expect("the hold is open");
    expect(subject, budget, 0, 400_000, 5_000_000).await;
}

/// It has a limit, for reports and alarms, and lets everything pass.
pub async fn a_soft_budget_counts_and_never_denies(subject: &dyn LedgerUnderTest) {
    let spec = BudgetSpec { policy: LimitPolicy::Soft, ..hard(subject, Scope::Tenant, 100) };
    let soft = add(subject, spec).await;
    let user = add_hard(subject, Scope::User, 1_000).await;
    hold(subject, &[user, soft], 300).await;
    let second = hold(subject, &[user, soft], 300).await;
    settle(subject, second, 250).expect("the hold is open");
    expect(subject, soft, 100, 250, 300).await;
    let denial = denied(subject.ledger().authorize(ask(subject, &[user, soft], 700)).await);
    assert_eq!(denial.budget, user, "only the hard budget denies");
}

/// What costs nothing needs no budget.
pub async fn a_free_request_passes_an_exhausted_budget(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    hold(subject, &[budget], 100).await;
    let free = held(subject.ledger().authorize(ask(subject, &[budget], 0)).await);
    assert_eq!((free.amount, free.available_after), (nanos(0), nanos(0)));
    settle(subject, free.id, 0).expect("the hold is open");
    expect(subject, budget, 100, 0, 100).await;
}

/// New money can be held at once, and the same grant counts once.
pub async fn a_grant_makes_room_once(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    hold(subject, &[budget], 100).await;
    denied(subject.ledger().authorize(ask(subject, &[budget], 50)).await);
    for _ in 0..2 {
        subject.grant(budget, nanos(50), "top-up-1").await;
    }
    hold(subject, &[budget], 50).await;
    denied(subject.ledger().authorize(ask(subject, &[budget], 1)).await);
    expect(subject, budget, 150, 0, 150).await;
}

/// A repeated step changes nothing, the next one raises again.
pub async fn raising_a_hold_is_idempotent_by_step(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 100).await;
    let tenant = add_hard(subject, Scope::Tenant, 200).await;
    let id = hold(subject, &[user, tenant], 10).await;
    for step in [1, 1, 2, 1, 2] {
        let committed = subject.ledger().extend(id, step, nanos(20)).await.expect("there is room");
        assert_eq!(committed.await, Ok(()));
    }
    expect(subject, user, 100, 0, 50).await;
    expect(subject, tenant, 200, 0, 50).await;
    assert_eq!(settle(subject, id, 50).expect("the hold is open").charged, nanos(50));
    let late = refused(subject.ledger().extend(id, 3, nanos(1)).await);
    assert_eq!(late, LedgerError::AlreadyClosed { hold: id });
}

/// All or nothing: a raise never takes a part.
pub async fn a_raise_that_does_not_fit_leaves_the_hold_as_it_was(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 100).await;
    let tenant = add_hard(subject, Scope::Tenant, 60).await;
    let id = hold(subject, &[user, tenant], 40).await;
    let denial = denied(subject.ledger().extend(id, 1, nanos(21)).await);
    assert_eq!((denial.budget, denial.available, denial.asked), (tenant, nanos(20), nanos(21)));
    expect(subject, user, 100, 0, 40).await;
    expect(subject, tenant, 60, 0, 40).await;
    settle(subject, id, 40).expect("the hold is still open");
}

/// Empty, repeated, too long.
pub async fn a_malformed_path_is_refused(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let mut long = Vec::new();
    for _ in 0..=PATH_BUDGETS_MAX {
        long.push(add_hard(subject, Scope::Team, 100).await);
    }
    for path in [&[][..], &[budget, budget], &long] {
        let error = refused(subject.ledger().authorize(ask(subject, path, 1)).await);
        assert!(matches!(error, LedgerError::Malformed { .. }), "{error}");
    }
    hold(subject, &long[1..], 1).await;
    expect(subject, budget, 100, 0, 0).await;
}

/// Negative amounts, a minimum above the amount, another currency.
pub async fn malformed_amounts_are_refused(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let dollar = Money::from_nanos(1, Currency::USD);
    let id = hold(subject, &[budget], 10).await;
    let request = ask(subject, &[budget], 1);
    for (amount, amount_min) in
        [(nanos(-1), nanos(-1)), (nanos(1), nanos(2)), (nanos(1), Money::zero(Currency::USD)), (dollar, dollar)]
    {
        let error = refused(subject.ledger().authorize(HoldRequest { amount, amount_min, ..request.clone() }).await);
        assert!(matches!(error, LedgerError::Malformed { .. }), "{error}");
    }
    for amount in [nanos(-1), dollar] {
        let error = refused(subject.ledger().extend(id, 1, amount).await);
        assert!(matches!(error, LedgerError::Malformed { .. }), "{error}");
    }
    assert_eq!(held(subject.ledger().authorize(request).await).amount, nanos(1), "a malformed request uses no id up");
    expect(subject, budget, 100, 0, 11).await;
}

/// A path is only as good as each of its budgets.
pub async fn an_unknown_budget_is_refused(subject: &dyn LedgerUnderTest) {
    let known = add_hard(subject, Scope::User, 100).await;
    let unknown = BudgetId::generate(subject.clock().now());
    let error = LedgerError::UnknownBudget { budget: unknown };
    assert_eq!(refused(subject.ledger().authorize(ask(subject, &[known, unknown], 1)).await), error);
    assert_eq!(subject.ledger().balance(unknown).await, Err(error));
    expect(subject, known, 100, 0, 0).await;
}
