//! Every decision of the memory ledger, as plain arithmetic over maps. Whoever calls holds the lock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::MemoryLedger;
use super::account::{Account, malformed, saturate};
use crate::id::{AccountId, BudgetId, HoldId};
use crate::ledger::invariants::{self, ChargeView, HoldView, Violation};
use crate::ledger::{
    AuthorizeError, Balance, BudgetSpec, Commit, Denial, Hold, HoldRequest, LedgerError, LimitPolicy, Settled,
    Settlement, UsageRecord, check_request,
};
use crate::money::{Charge, Currency, Money};

/// The whole state of a [`super::MemoryLedger`].
#[derive(Debug, Default)]
pub(super) struct Books {
    budgets: HashMap<BudgetId, Budget>,
    /// Current periods, and past ones on which a hold is still open.
    accounts: BTreeMap<AccountId, Account>,
    accounts_opened: i64,
    open: HashMap<HoldId, OpenHold>,
    ended: HashMap<HoldId, (HoldRequest, End)>,
    /// The order in which they are forgotten, the oldest first.
    ended_order: VecDeque<HoldId>,
    records: VecDeque<UsageRecord>,
    /// Top-ups by their keys. Never forgotten: a key that comes again must not grant again.
    grants: HashMap<Arc<str>, (BudgetId, Money)>,
}

#[derive(Debug)]
struct Budget {
    spec: BudgetSpec,
    current: Option<AccountId>,
}

/// Why an id holds nothing.
#[derive(Debug)]
enum End {
    Denied(Denial),
    Closed,
}

#[derive(Debug)]
struct OpenHold {
    ask: HoldRequest,
    accounts: Vec<AccountId>,
    authorized_at: Timestamp,
    /// What the request was answered with.
    answered: i64,
    /// That, and every raise since.
    amount: i64,
    raises: u32,
    evidence: Option<Settlement>,
}

impl Books {
    pub(super) fn add_budget(&mut self, spec: BudgetSpec) {
        self.budgets.entry(spec.id).or_insert(Budget { spec, current: None });
    }

    pub(super) fn grant(
        &mut self,
        budget: BudgetId,
        amount: Money,
        key: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        if let Some(before) = self.grants.get(key) {
            return if *before == (budget, amount) {
                Ok(())
            } else {
                Err(malformed("the key was used for another grant"))
            };
        }
        let account = self.current(budget, now)?;
        if amount.currency() != account.currency || amount.nanos() <= 0 {
            return Err(malformed("a grant is a positive amount in the budget's currency"));
        }
        account.granted += i128::from(amount.nanos());
        account.bought += i128::from(amount.nanos());
        self.grants.insert(key.into(), (budget, amount));
        Ok(())
    }

    pub(super) fn set_limit(&mut self, budget: BudgetId, included: Money, now: Timestamp) -> Result<(), LedgerError> {
        let before = self.budgets.get(&budget).ok_or(LedgerError::UnknownBudget { budget })?.spec.included_nanos;
        let account = self.current(budget, now)?;
        if included.currency() != account.currency || included.nanos() < 0 {
            return Err(malformed("a limit is not negative and in the budget's currency"));
        }
        account.granted += i128::from(included.nanos()) - i128::from(before);
        account.overcommit = (account.settled + account.held - account.granted).max(0);
        if let Some(budget) = self.budgets.get_mut(&budget) {
            budget.spec.included_nanos = included.nanos();
        }
        Ok(())
    }

    pub(super) fn records(&self) -> Vec<UsageRecord> {
        self.records.iter().cloned().collect()
    }

    pub(super) fn evidence(&self, hold: HoldId) -> Option<Settlement> {
        self.open(hold).ok()?.evidence.clone()
    }

    pub(super) fn authorize(&mut self, ask: HoldRequest, now: Timestamp) -> Result<Hold, AuthorizeError> {
        check_request(&ask)?;
        if let Some(answer) = self.answer_again(&ask) {
            return answer;
        }
        let id = ask.id;
        match self.decide(&ask, now) {
            Ok((accounts, amount)) => self.hold(ask, accounts, amount, now),
            Err(error) => {
                if let AuthorizeError::Denied(denial) = &error {
                    self.end(ask, End::Denied(denial.clone()));
                }
                return Err(error);
            }
        }
        Ok(self.answer(self.open(id)?))
    }

    pub(super) fn extend(&mut self, hold: HoldId, step: u32, amount: Money) -> Result<(), AuthorizeError> {
        let open = self.open(hold)?;
        if amount.currency() != open.ask.amount.currency() || amount.nanos() < 0 {
            return Err(malformed("a hold is raised by a positive amount in its own currency").into());
        }
        if step <= open.raises {
            return Ok(());
        }
        let raised = open.amount.checked_add(amount.nanos()).ok_or_else(|| malformed("the hold is out of range"))?;
        self.affordable(&open.accounts, amount, amount)?;
        let open = self.open_mut(hold)?;
        (open.amount, open.raises) = (raised, step);
        let accounts = open.accounts.clone();
        self.book(&accounts, amount.nanos(), 0);
        Ok(())
    }

    pub(super) fn checkpoint(&mut self, hold: HoldId, so_far: Settlement) -> Result<(), LedgerError> {
        let open = self.open_mut(hold)?;
        check_price(&so_far, open)?;
        open.evidence = Some(so_far);
        Ok(())
    }

    pub(super) fn settle(&mut self, hold: HoldId, settlement: Settlement) -> Result<Settled, LedgerError> {
        check_price(&settlement, self.open(hold)?)?;
        let Settlement { charge, mut record } = settlement;
        let open = self.close(hold)?;
        let charged = self.chargeable(&open, charge.price.nanos());
        let overrun = charge.price.nanos() - charged;
        debug_assert_eq!(self.check_charge(&open, &charge, charged), Ok(()));
        self.book(&open.accounts, -open.amount, charged);
        (record.charged_nanos, record.overrun_nanos) = (charged, overrun);
        push_bounded(&mut self.records, *record, MemoryLedger::RECORDS_KEPT);
        let currency = charge.price.currency();
        Ok(Settled {
            charged: Money::from_nanos(charged, currency),
            overrun: Money::from_nanos(overrun, currency),
            available: self.available(&open.accounts, currency),
            committed: Commit::done(),
        })
    }

    pub(super) fn release(&mut self, hold: HoldId) -> Result<(), LedgerError> {
        let open = self.close(hold)?;
        self.book(&open.accounts, -open.amount, 0);
        Ok(())
    }

    pub(super) fn balance(&mut self, budget: BudgetId, now: Timestamp) -> Result<Balance, LedgerError> {
        self.current(budget, now).map(|account| account.balance())
    }

    // --- Holds -----------------------------------------------------------------------------------------------------

    /// What the id was answered before, if it was asked for and is not forgotten.
    fn answer_again(&self, ask: &HoldRequest) -> Option<Result<Hold, AuthorizeError>> {
        if let Some(open) = self.open.get(&ask.id) {
            return Some(check_same_terms(&open.ask, ask).map(|()| self.answer(open)));
        }
        let (before, end) = self.ended.get(&ask.id)?;
        let hold = ask.id;
        Some(check_same_terms(before, ask).and_then(|()| match end {
            End::Denied(denial) => Err(AuthorizeError::Denied(denial.clone())),
            End::Closed => Err(LedgerError::AlreadyClosed { hold }.into()),
        }))
    }

    /// Where to hold how much.
    fn decide(&mut self, ask: &HoldRequest, now: Timestamp) -> Result<(Vec<AccountId>, i64), AuthorizeError> {
        let accounts = self.accounts_of(ask, now)?;
        let amount = self.affordable(&accounts, ask.amount, ask.amount_min)?;
        Ok((accounts, amount))
    }

    fn answer(&self, open: &OpenHold) -> Hold {
        let currency = open.ask.amount.currency();
        Hold {
            id: open.ask.id,
            amount: Money::from_nanos(open.answered, currency),
            available_after: self.available(&open.accounts, currency),
            committed: Commit::done(),
        }
    }

    fn hold(&mut self, ask: HoldRequest, accounts: Vec<AccountId>, amount: i64, now: Timestamp) {
        let open = OpenHold {
            ask,
            accounts: accounts.clone(),
            authorized_at: now,
            answered: amount,
            amount,
            raises: 0,
            evidence: None,
        };
        self.open.insert(open.ask.id, open);
        self.book(&accounts, amount, 0);
    }

    fn open(&self, hold: HoldId) -> Result<&OpenHold, LedgerError> {
        self.open.get(&hold).ok_or_else(|| self.not_open(hold))
    }

    fn open_mut(&mut self, hold: HoldId) -> Result<&mut OpenHold, LedgerError> {
        let not_open = self.not_open(hold);
        self.open.get_mut(&hold).ok_or(not_open)
    }

    fn not_open(&self, hold: HoldId) -> LedgerError {
        match self.ended.get(&hold) {
            Some((_, End::Closed)) => LedgerError::AlreadyClosed { hold },
            Some((_, End::Denied(_))) | None => LedgerError::UnknownHold { hold },
        }
    }

    /// Takes the hold out of the books. What it holds is still counted on its accounts.
    fn close(&mut self, hold: HoldId) -> Result<OpenHold, LedgerError> {
        let open = self.open.remove(&hold).ok_or_else(|| self.not_open(hold))?;
        self.end(open.ask.clone(), End::Closed);
        Ok(open)
    }

    /// Remembers how an id ended, and forgets the oldest that did.
    fn end(&mut self, ask: HoldRequest, end: End) {
        self.ended_order.push_back(ask.id);
        self.ended.insert(ask.id, (ask, end));
        if self.ended_order.len() > MemoryLedger::ENDED_HOLDS_REMEMBERED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    // --- Money -----------------------------------------------------------------------------------------------------

    /// As much of `most` as every account has, or a denial that names the tightest when that is below `least`.
    fn affordable(&self, accounts: &[AccountId], most: Money, least: Money) -> Result<i64, AuthorizeError> {
        let Some(tightest) = self.tightest(accounts) else { return Ok(most.nanos()) };
        let amount = saturate(tightest.free()).clamp(0, most.nanos());
        if amount >= least.nanos() { Ok(amount) } else { Err(AuthorizeError::Denied(tightest.denial(least))) }
    }

    /// The price, or what the hold and the free money of every account cover of it.
    fn chargeable(&self, open: &OpenHold, price: i64) -> i64 {
        let free = self.tightest(&open.accounts).map_or(i64::MAX, |account| saturate(account.free()));
        price.min(open.amount.saturating_add(free.max(0)))
    }

    /// The enforced account with the least free money, the first of several; none when none is enforced.
    fn tightest(&self, accounts: &[AccountId]) -> Option<&Account> {
        let accounts = accounts.iter().filter_map(|id| self.accounts.get(id));
        accounts.filter(|account| account.policy == LimitPolicy::Hard).min_by_key(|account| account.free())
    }

    fn available(&self, accounts: &[AccountId], currency: Currency) -> Money {
        let free = self.tightest(accounts).map_or(i64::MAX, |account| saturate(account.free()));
        Money::from_nanos(free.max(0), currency)
    }

    /// Books the same on every account of a path.
    fn book(&mut self, accounts: &[AccountId], held: i64, settled: i64) {
        for id in accounts {
            if let Some(account) = self.accounts.get_mut(id) {
                account.held += i128::from(held);
                account.settled += i128::from(settled);
            }
        }
        debug_assert_eq!(self.check(accounts), Ok(()));
    }

    // --- Accounts --------------------------------------------------------------------------------------------------

    fn accounts_of(&mut self, ask: &HoldRequest, now: Timestamp) -> Result<Vec<AccountId>, AuthorizeError> {
        ask.path.iter().map(|&budget| self.current(budget, now)?.usable_for(ask, now)).collect()
    }

    /// The account of the budget's current period, opened if it was not; the last one when there is no next one. A clock
    /// that was set back does not reopen a period: the current one then lasts until its end comes again.
    fn current(&mut self, budget: BudgetId, now: Timestamp) -> Result<&mut Account, LedgerError> {
        let unknown = LedgerError::UnknownBudget { budget };
        let current = self.budgets.get(&budget).ok_or_else(|| unknown.clone())?.current;
        let lasts = |id: &AccountId| self.accounts.get(id).is_some_and(|account| account.lasts_at(now));
        let id = if current.as_ref().is_some_and(lasts) { current } else { self.open_period(budget, now).or(current) };
        id.and_then(|id| self.accounts.get_mut(&id)).ok_or(unknown)
    }

    fn open_period(&mut self, budget: BudgetId, now: Timestamp) -> Option<AccountId> {
        let Budget { spec, current } = self.budgets.get_mut(&budget)?;
        let period = spec.period.window_at(&spec.zone, now).ok()?;
        self.accounts_opened += 1;
        let id = AccountId(self.accounts_opened);
        let before = current.replace(id).and_then(|before| self.accounts.get_mut(&before));
        let rolled_over = before.map_or(0, Account::roll_over);
        let used = |id: &AccountId| self.open.values().any(|hold| hold.accounts.contains(id));
        self.accounts.retain(|id, account| account.budget != budget || used(id));
        self.accounts.insert(id, Account::open(id, spec, period, rolled_over));
        Some(id)
    }

    // --- Checks ----------------------------------------------------------------------------------------------------

    fn check(&self, accounts: &[AccountId]) -> Result<(), Violation> {
        let open = self.open_holds();
        accounts.iter().filter_map(|id| self.accounts.get(id)).map(Account::view).try_for_each(|account| {
            invariants::within_grant(&account)?;
            invariants::holds_add_up(&account, &open)
        })
    }

    fn check_charge(&self, open: &OpenHold, charge: &Charge, charged: i64) -> Result<(), Violation> {
        let free = self.tightest(&open.accounts).map_or(i128::MAX, Account::free);
        let view = ChargeView {
            hold: open.ask.id,
            held: open.amount.into(),
            free,
            cost: charge.cost.nanos().into(),
            margin: charge.margin.nanos().into(),
            price: charge.price.nanos().into(),
            charged: charged.into(),
            overrun: i128::from(charge.price.nanos()) - i128::from(charged),
            entries: open.accounts.iter().map(|&account| (account, charged.into())).collect(),
        };
        invariants::charge_fits(&view)
    }

    fn open_holds(&self) -> Vec<HoldView> {
        let view = |open: &OpenHold| HoldView {
            hold: open.ask.id,
            accounts: open.accounts.clone(),
            amount: open.amount.into(),
            authorized_at: open.authorized_at,
        };
        self.open.values().map(view).collect()
    }
}

/// An id stands for its terms. The time does not count: a retry comes later.
fn check_same_terms(before: &HoldRequest, now: &HoldRequest) -> Result<(), AuthorizeError> {
    if before.path == now.path && before.amount == now.amount && before.amount_min == now.amount_min {
        return Ok(());
    }
    Err(LedgerError::IdReused { hold: now.id }.into())
}

fn check_price(settlement: &Settlement, open: &OpenHold) -> Result<(), LedgerError> {
    let price = settlement.charge.price;
    if price.currency() == open.ask.amount.currency() && price.nanos() >= 0 {
        return Ok(());
    }
    Err(malformed("a price is not negative and in the currency of its hold"))
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back(item);
}
