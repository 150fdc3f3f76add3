//! One period of one budget: what was granted, settled and held.

use jiff::Timestamp;

use crate::id::{AccountId, BudgetId};
use crate::ledger::invariants::AccountView;
use crate::ledger::{AuthorizeError, Balance, BudgetSpec, Denial, HoldRequest, LedgerError, LimitPolicy, Scope};
use crate::money::{Currency, Money};
use crate::time::PeriodWindow;

#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: AccountId,
    pub(super) budget: BudgetId,
    pub(super) scope: Scope,
    pub(super) currency: Currency,
    pub(super) policy: LimitPolicy,
    pub(super) period: PeriodWindow,
    pub(super) granted: i128,
    pub(super) settled: i128,
    pub(super) held: i128,
    /// What was used beyond `granted` when the limit was lowered.
    pub(super) overcommit: i128,
    /// What of `granted` was bought, now or in an earlier period. It is spent last and rolls over.
    pub(super) bought: i128,
}

impl Account {
    pub(super) fn open(id: AccountId, spec: &BudgetSpec, period: PeriodWindow, rolled_over: i128) -> Self {
        Self {
            id,
            budget: spec.id,
            scope: spec.scope,
            currency: spec.currency,
            policy: spec.policy,
            period,
            granted: i128::from(spec.included_nanos) + rolled_over,
            settled: 0,
            held: 0,
            overcommit: 0,
            bought: rolled_over,
        }
    }

    /// Takes out what was bought and is neither spent nor held.
    pub(super) fn roll_over(&mut self) -> i128 {
        let unspent = self.free().clamp(0, self.bought);
        self.granted -= unspent;
        self.bought -= unspent;
        unspent
    }

    /// Negative when over-committed.
    pub(super) const fn free(&self) -> i128 {
        self.granted - self.settled - self.held
    }

    pub(super) fn usable_for(&self, ask: &HoldRequest, now: Timestamp) -> Result<AccountId, AuthorizeError> {
        if self.currency != ask.amount.currency() {
            return Err(malformed("the amount is not in the currency of every budget").into());
        }
        if !self.lasts_at(now) {
            let nothing = Money::zero(self.currency);
            return Err(AuthorizeError::Denied(Denial { available: nothing, ..self.denial(ask.amount_min) }));
        }
        Ok(self.id)
    }

    pub(super) fn lasts_at(&self, now: Timestamp) -> bool {
        self.period.end.is_none_or(|end| now < end)
    }

    pub(super) fn denial(&self, asked: Money) -> Denial {
        Denial {
            budget: self.budget,
            scope: self.scope,
            available: self.money(self.free().max(0)),
            asked,
            period_end: self.period.end,
        }
    }

    pub(super) fn balance(&self) -> Balance {
        Balance {
            budget: self.budget,
            account: self.id,
            scope: self.scope,
            policy: self.policy,
            period: self.period,
            granted: self.money(self.granted),
            settled: self.money(self.settled),
            held: self.money(self.held),
            available: self.money(self.free().max(0)),
        }
    }

    pub(super) fn view(&self) -> AccountView {
        AccountView {
            account: self.id,
            budget: self.budget,
            tenant: None,
            policy: self.policy,
            period: self.period,
            granted: self.granted,
            settled: self.settled,
            leased: self.held,
            overcommit: self.overcommit,
        }
    }

    fn money(&self, nanos: i128) -> Money {
        Money::from_nanos(saturate(nanos), self.currency)
    }
}

pub(super) const fn malformed(reason: &'static str) -> LedgerError {
    LedgerError::Malformed { reason }
}

/// Only counters of unlimited budgets can leave the range, after 9.2 billion units.
pub(super) fn saturate(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}
