//! Rules of ending a hold.

use super::LedgerUnderTest;
use super::fixture::{add, add_hard, ask, expect, hard, held, hold, nanos, refused, settle, settlement};
use crate::id::HoldId;
use crate::ledger::{BudgetSpec, LedgerError, LimitPolicy, ReleaseReason, Scope};
use crate::money::{Currency, Money};
use crate::time::Clock;

/// The price is charged on every budget, and what it did not need can be held again.
pub async fn settling_frees_the_rest(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 100).await;
    let tenant = add_hard(subject, Scope::Tenant, 150).await;
    let id = hold(subject, &[user, tenant], 80).await;
    let settled = settle(subject, id, 30).expect("the hold is open");
    assert_eq!((settled.charged, settled.overrun, settled.available), (nanos(30), nanos(0), nanos(70)));
    assert_eq!(settled.committed.await, Ok(()));
    expect(subject, user, 100, 30, 0).await;
    expect(subject, tenant, 150, 30, 0).await;
    hold(subject, &[user, tenant], 70).await;
}

/// A customer never pays beyond a limit; the operator does.
pub async fn a_price_above_the_hold_takes_free_money_and_the_rest_is_overrun(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let other = hold(subject, &[budget], 30).await;
    let id = hold(subject, &[budget], 50).await;
    let settled = settle(subject, id, 90).expect("the hold is open");
    assert_eq!((settled.charged, settled.overrun, settled.available), (nanos(70), nanos(20), nanos(0)));
    expect(subject, budget, 100, 70, 30).await;
    assert_eq!(settle(subject, other, 30).expect("its money was left alone").charged, nanos(30));
    expect(subject, budget, 100, 100, 0).await;
}

/// The charge is equal on every budget, so the tightest decides.
pub async fn an_overrun_takes_only_what_every_budget_has(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 1_000).await;
    let tenant = add_hard(subject, Scope::Tenant, 60).await;
    let id = hold(subject, &[user, tenant], 50).await;
    let settled = settle(subject, id, 90).expect("the hold is open");
    assert_eq!((settled.charged, settled.overrun), (nanos(60), nanos(30)));
    expect(subject, user, 1_000, 60, 0).await;
    expect(subject, tenant, 60, 60, 0).await;
}

/// Whoever has no limit pays every price in full.
pub async fn an_unlimited_budget_has_no_overrun(subject: &dyn LedgerUnderTest) {
    let spec = BudgetSpec { policy: LimitPolicy::Unlimited, ..hard(subject, Scope::Platform, 0) };
    let budget = add(subject, spec).await;
    let id = hold(subject, &[budget], 10).await;
    let settled = settle(subject, id, 1_000_000).expect("the hold is open");
    assert_eq!((settled.charged, settled.overrun), (nanos(1_000_000), nanos(0)));
    expect(subject, budget, 0, 1_000_000, 0).await;
}

/// A call that failed for the caller leaves a record and costs nothing.
pub async fn a_charge_of_zero_ends_a_hold(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let id = hold(subject, &[budget], 100).await;
    let settled = settle(subject, id, 0).expect("the hold is open");
    assert_eq!((settled.charged, settled.overrun, settled.available), (nanos(0), nanos(0), nanos(100)));
    expect(subject, budget, 100, 0, 0).await;
}

/// What is no price neither ends a hold nor is evidence of one: it could only take money out of the books.
pub async fn a_price_below_zero_or_in_another_currency_is_refused(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let id = hold(subject, &[budget], 60).await;
    let dollars = {
        let mut settlement = settlement(id, 30);
        settlement.charge.price = Money::from_nanos(30, Currency::USD);
        settlement
    };
    for wrong in [settlement(id, -1), dollars] {
        let refused = subject.ledger().settle(id, wrong.clone()).map(|_| ());
        assert!(matches!(refused, Err(LedgerError::Malformed { .. })), "{refused:?}");
        let refused = subject.ledger().checkpoint(id, wrong);
        assert!(matches!(refused, Err(LedgerError::Malformed { .. })), "{refused:?}");
    }
    expect(subject, budget, 100, 0, 60).await;
    assert_eq!(settle(subject, id, 30).expect("the hold is still open").charged, nanos(30));
    expect(subject, budget, 100, 30, 0).await;
}

/// A second end, of whatever kind, changes nothing.
pub async fn a_hold_ends_once(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let settled = hold(subject, &[budget], 40).await;
    let released = hold(subject, &[budget], 40).await;
    settle(subject, settled, 30).expect("the hold is open");
    subject.ledger().release(released, ReleaseReason::Refused).expect("the hold is open");
    for id in [settled, released] {
        let closed = LedgerError::AlreadyClosed { hold: id };
        assert_eq!(settle(subject, id, 10).map(|_| ()), Err(closed.clone()));
        assert_eq!(subject.ledger().release(id, ReleaseReason::Refused).map(|_| ()), Err(closed.clone()));
        assert_eq!(subject.ledger().checkpoint(id, settlement(id, 10)), Err(closed.clone()));
        assert_eq!(refused(subject.ledger().extend(id, 1, nanos(1)).await), closed);
    }
    expect(subject, budget, 100, 30, 0).await;
}

/// A retry after the end is told so: nothing is held for it, and nothing is charged again.
pub async fn a_closed_id_holds_nothing_again(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let request = ask(subject, &[budget], 40);
    let id = held(subject.ledger().authorize(request.clone()).await).id;
    settle(subject, id, 30).expect("the hold is open");
    let error = refused(subject.ledger().authorize(request).await);
    assert_eq!(error, LedgerError::AlreadyClosed { hold: id });
    expect(subject, budget, 100, 30, 0).await;
}

/// As if the hold had never been.
pub async fn releasing_gives_everything_back(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 100).await;
    let tenant = add_hard(subject, Scope::Tenant, 150).await;
    let id = hold(subject, &[user, tenant], 60).await;
    subject.ledger().extend(id, 1, nanos(40)).await.expect("there is room");
    let committed = subject.ledger().release(id, ReleaseReason::Abandoned).expect("the hold is open");
    assert_eq!(committed.await, Ok(()));
    expect(subject, user, 100, 0, 0).await;
    expect(subject, tenant, 150, 0, 0).await;
    hold(subject, &[user, tenant], 100).await;
}

/// A checkpoint is evidence and no charge.
pub async fn noting_progress_moves_no_money(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let id = hold(subject, &[budget], 60).await;
    for so_far in [10, 20, 200] {
        assert_eq!(subject.ledger().checkpoint(id, settlement(id, so_far)), Ok(()));
    }
    expect(subject, budget, 100, 0, 60).await;
    assert_eq!(settle(subject, id, 30).expect("the hold is open").charged, nanos(30));
    expect(subject, budget, 100, 30, 0).await;
}

/// An id that was never held, and one that was denied.
pub async fn an_unknown_hold_cannot_end(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 100).await;
    let id = HoldId::generate(subject.clock().now());
    let unknown = LedgerError::UnknownHold { hold: id };
    assert_eq!(settle(subject, id, 10).map(|_| ()), Err(unknown.clone()));
    assert_eq!(subject.ledger().release(id, ReleaseReason::NotSent).map(|_| ()), Err(unknown.clone()));
    assert_eq!(subject.ledger().checkpoint(id, settlement(id, 10)), Err(unknown.clone()));
    assert_eq!(refused(subject.ledger().extend(id, 1, nanos(1)).await), unknown);
    let no = ask(subject, &[budget], 101);
    assert!(subject.ledger().authorize(no.clone()).await.is_err());
    assert!(settle(subject, no.id, 10).is_err(), "a denied id holds nothing that could be settled");
    expect(subject, budget, 100, 0, 0).await;
}

/// After many requests the budget has what it was granted less what was charged, to the nano-unit.
pub async fn balances_add_up(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 1_000).await;
    let tenant = add_hard(subject, Scope::Tenant, 5_000).await;
    let mut charged = 0;
    for price in 0..20 {
        let id = hold(subject, &[user, tenant], 25).await;
        charged += settle(subject, id, price * 2).expect("the hold is open").charged.nanos();
    }
    assert_eq!(charged, (0..20).sum::<i64>() * 2, "there was always enough to charge the whole price");
    expect(subject, user, 1_000, charged, 0).await;
    expect(subject, tenant, 5_000, charged, 0).await;
}
