//! What must hold for every account at every moment, as functions over plain snapshots. money.md §2.3 names them I1 to
//! I10; [`Invariant`] gives each name its sentence.
//!
//! They ask nothing of an implementation: whoever can describe its books in these views can be checked, be it a ledger in
//! memory, an auditor over SQL or a simulation. Sums are `i128`, so that no check overflows where the books would not.

use std::fmt::{self, Display};

use jiff::Timestamp;

use super::LimitPolicy;
use crate::id::{AccountId, BudgetId, HoldId, TenantId};
use crate::time::PeriodWindow;

/// A rule of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Invariant {
    /// I1: what is settled and leased never exceeds what was granted.
    WithinGrant,
    /// I2: what a node's open requests can still cost never exceeds the node's lease.
    WithinLease,
    /// I3: every counter is the sum of its entries.
    AddsUp,
    /// I4: a hold ends once, a request is charged once, a complete answer is charged.
    EndsOnce,
    /// I5: a charge is equal on every account of its path, and its price is cost plus margin.
    ChargedAlike,
    /// I6: a charge is the price, or as much of it as fits.
    ChargeFits,
    /// I7: every price is either charged or overrun.
    NothingVanishes,
    /// I8: periods of a budget do not overlap, and a hold lies in the one in which it was made.
    OnePeriod,
    /// I9: without open holds nothing is leased.
    NothingStranded,
    /// I10: the accounts of a path have one tenant.
    OneTenant,
}

impl Invariant {
    /// The number of the rule in money.md §2.3.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::WithinGrant => 1,
            Self::WithinLease => 2,
            Self::AddsUp => 3,
            Self::EndsOnce => 4,
            Self::ChargedAlike => 5,
            Self::ChargeFits => 6,
            Self::NothingVanishes => 7,
            Self::OnePeriod => 8,
            Self::NothingStranded => 9,
            Self::OneTenant => 10,
        }
    }
}

impl Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", self.number())
    }
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} is violated{}: {details}", .account.map(|account| format!(" on {account}")).unwrap_or_default())]
pub struct Violation {
    /// The rule.
    pub invariant: Invariant,
    /// The account on which it does not hold, when it is about one.
    pub account: Option<AccountId>,
    /// The figures.
    pub details: Box<str>,
}

/// One period of one budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Its id.
    pub account: AccountId,
    /// The budget.
    pub budget: BudgetId,
    /// The owner; none for product and platform budgets.
    pub tenant: Option<TenantId>,
    /// What happens at the limit.
    pub policy: LimitPolicy,
    /// The period.
    pub period: PeriodWindow,
    /// Everything granted.
    pub granted: i128,
    /// Everything charged.
    pub settled: i128,
    /// Everything promised to nodes or, where there are none, held by open requests.
    pub leased: i128,
    /// What may be used beyond `granted`, after a limit was lowered below use.
    pub overcommit: i128,
}

/// What a node may spend on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// The account.
    pub account: AccountId,
    /// Everything granted to the node.
    pub granted: i128,
    /// What of it was charged.
    pub consumed: i128,
}

/// An open hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldView {
    /// Its id.
    pub hold: HoldId,
    /// The accounts of its path.
    pub accounts: Vec<AccountId>,
    /// What is held on each.
    pub amount: i128,
    /// When it was made, on the clock that decides periods.
    pub authorized_at: Timestamp,
}

/// A settled request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeView {
    /// The hold.
    pub hold: HoldId,
    /// What was held when it ended.
    pub held: i128,
    /// What every account had free beside the hold.
    pub free: i128,
    /// What the provider charges.
    pub cost: i128,
    /// What is added.
    pub margin: i128,
    /// What the customer should pay.
    pub price: i128,
    /// What the customer pays.
    pub charged: i128,
    /// What the operator loses.
    pub overrun: i128,
    /// What was booked, account by account.
    pub entries: Vec<(AccountId, i128)>,
}

/// I1 of one account. Soft and unlimited budgets count without a limit.
///
/// # Errors
/// When more is settled and leased than was granted.
pub fn within_grant(account: &AccountView) -> Result<(), Violation> {
    let AccountView { granted, settled, leased, overcommit, .. } = account;
    let fits = settled + leased <= granted + overcommit;
    ensure(Invariant::WithinGrant, Some(account.account), account.policy != LimitPolicy::Hard || fits, || {
        format!("settled {settled} + leased {leased} > granted {granted} + overcommit {overcommit}")
    })
}

/// I2 of one lease: holds and charges that the store has not seen yet stay within what the lease has left.
///
/// # Errors
/// When the node could spend more than it was given.
pub fn within_lease(lease: &LeaseView, open: &[HoldView], unflushed: &[ChargeView]) -> Result<(), Violation> {
    let held = held_on(lease.account, open);
    let charged = charged_on(lease.account, unflushed);
    let left = lease.granted - lease.consumed;
    ensure(Invariant::WithinLease, Some(lease.account), held + charged <= left, || {
        format!("held {held} + unflushed {charged} > left in the lease {left}")
    })
}

/// I3 of what is granted and settled, against every grant and every charge ever booked.
///
/// # Errors
/// When a counter is not the sum of its entries.
pub fn entries_add_up(account: &AccountView, grants: &[i128], charges: &[ChargeView]) -> Result<(), Violation> {
    let granted = grants.iter().sum();
    let settled = charged_on(account.account, charges);
    equal(Invariant::AddsUp, account.account, "granted", account.granted, granted)?;
    equal(Invariant::AddsUp, account.account, "settled", account.settled, settled)
}

/// I3 of what is leased, where nodes hold leases.
///
/// # Errors
/// When the counter is not the sum of what the leases have left.
pub fn leases_add_up(account: &AccountView, leases: &[LeaseView]) -> Result<(), Violation> {
    let of_account = leases.iter().filter(|lease| lease.account == account.account);
    let leased = of_account.map(|lease| lease.granted - lease.consumed).sum();
    equal(Invariant::AddsUp, account.account, "leased", account.leased, leased)
}

/// I3 of what is leased, where the ledger holds without leases.
///
/// # Errors
/// When the counter is not the sum of the open holds.
pub fn holds_add_up(account: &AccountView, open: &[HoldView]) -> Result<(), Violation> {
    equal(Invariant::AddsUp, account.account, "held", account.leased, held_on(account.account, open))
}

/// I4: `ended` names each hold once, `charges` each request once, and every hold in `answered` was charged.
///
/// # Errors
/// When a hold ended twice, a request was charged twice, or a complete answer was not charged.
pub fn ends_once(ended: &[HoldId], charges: &[ChargeView], answered: &[HoldId]) -> Result<(), Violation> {
    let charged: Vec<_> = charges.iter().map(|charge| charge.hold).collect();
    let rule = Invariant::EndsOnce;
    let twice = repeated(ended);
    ensure(rule, None, twice.is_none(), || format!("{twice:?} ended twice"))?;
    let twice = repeated(&charged);
    ensure(rule, None, twice.is_none(), || format!("{twice:?} was charged twice"))?;
    let free = answered.iter().find(|hold| !charged.contains(hold));
    ensure(rule, None, free.is_none(), || format!("{free:?} was answered and never charged"))
}

/// I5 of one charge.
///
/// # Errors
/// When the accounts of the path were charged differently, or cost and margin are not the price.
pub fn charged_alike(charge: &ChargeView) -> Result<(), Violation> {
    let ChargeView { hold, cost, margin, price, charged, .. } = charge;
    let rule = Invariant::ChargedAlike;
    let adds_up = cost + margin == *price;
    ensure(rule, None, adds_up, || format!("{hold}: cost {cost} + margin {margin} != price {price}"))?;
    charge.entries.iter().try_for_each(|&(account, booked)| equal(rule, account, "booked", booked, *charged))
}

/// I6 of one charge.
///
/// # Errors
/// When it is not the price, or as much of the price as the hold and free money cover.
pub fn charge_fits(charge: &ChargeView) -> Result<(), Violation> {
    let ChargeView { hold, held, free, price, charged, overrun, .. } = charge;
    let expected = *price.min(&held.saturating_add((*free).max(0)));
    let fits = *charged == expected && *overrun == price - charged && *overrun >= 0;
    ensure(Invariant::ChargeFits, None, fits, || {
        format!("{hold}: of price {price} charged {charged}, overrun {overrun}, with {held} held and {free} free")
    })
}

/// I7 over any set of charges.
///
/// # Errors
/// When a part of a price was neither charged nor overrun.
pub fn nothing_vanishes(charges: &[ChargeView]) -> Result<(), Violation> {
    let prices: i128 = charges.iter().map(|charge| charge.price).sum();
    let booked: i128 = charges.iter().map(|charge| charge.charged + charge.overrun).sum();
    ensure(Invariant::NothingVanishes, None, prices == booked, || format!("prices {prices} != booked {booked}"))
}

/// I8 over the accounts of one budget, in the order in which they were opened. Between two of them there may be periods
/// that nobody used and that were therefore never opened.
///
/// # Errors
/// When a period begins before the one before it ended.
pub fn periods_follow(accounts: &[AccountView]) -> Result<(), Violation> {
    accounts.windows(2).try_for_each(|pair| {
        let (earlier, later) = (&pair[0], &pair[1]);
        let follows = earlier.period.end.is_some_and(|end| end <= later.period.start);
        ensure(Invariant::OnePeriod, Some(later.account), follows, || {
            format!("{:?} does not follow {:?}", later.period, earlier.period)
        })
    })
}

/// I8 of one hold and an account of its path.
///
/// # Errors
/// When the hold was not made in the account's period.
pub fn in_period(hold: &HoldView, account: &AccountView) -> Result<(), Violation> {
    let inside = account.period.contains(hold.authorized_at);
    ensure(Invariant::OnePeriod, Some(account.account), inside, || {
        format!("{} was made at {}, outside {:?}", hold.hold, hold.authorized_at, account.period)
    })
}

/// I9 of one account at rest: no hold is open and every lease was given back or taken.
///
/// # Errors
/// When something is still counted as used.
pub fn nothing_stranded(account: &AccountView) -> Result<(), Violation> {
    equal(Invariant::NothingStranded, account.account, "leased", account.leased, 0)
}

/// I10 over the accounts of one path. Product and platform budgets have no tenant.
///
/// # Errors
/// When two tenants share the path.
pub fn one_tenant(path: &[AccountView]) -> Result<(), Violation> {
    let mut owned = path.iter().filter(|account| account.tenant.is_some());
    let Some(first) = owned.next() else { return Ok(()) };
    let stranger = owned.find(|account| account.tenant != first.tenant);
    ensure(Invariant::OneTenant, stranger.map(|account| account.account), stranger.is_none(), || {
        format!("path of {:?} leads through {:?}", first.tenant, stranger.map(|account| account.tenant))
    })
}

fn held_on(account: AccountId, open: &[HoldView]) -> i128 {
    open.iter().filter(|hold| hold.accounts.contains(&account)).map(|hold| hold.amount).sum()
}

fn charged_on(account: AccountId, charges: &[ChargeView]) -> i128 {
    let entries = charges.iter().flat_map(|charge| &charge.entries);
    entries.filter(|(booked, _)| *booked == account).map(|(_, amount)| amount).sum()
}

fn repeated(ids: &[HoldId]) -> Option<HoldId> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn equal(rule: Invariant, account: AccountId, what: &str, found: i128, expected: i128) -> Result<(), Violation> {
    ensure(rule, Some(account), found == expected, || format!("{what} is {found}, its entries say {expected}"))
}

fn ensure(
    invariant: Invariant,
    account: Option<AccountId>,
    holds: bool,
    details: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, account, details: details().into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: AccountId = AccountId(1);

    #[track_caller]
    fn check(result: Result<(), Violation>, expected: Option<Invariant>) {
        assert_eq!(result.map_err(|violation| violation.invariant), expected.map_or(Ok(()), Err));
    }

    fn account(granted: i128, settled: i128, leased: i128) -> AccountView {
        AccountView {
            account: ACCOUNT,
            budget: BudgetId::from_u128(1),
            tenant: None,
            policy: LimitPolicy::Hard,
            period: period(0, 10),
            granted,
            settled,
            leased,
            overcommit: 0,
        }
    }

    fn period(start: i64, end: i64) -> PeriodWindow {
        let at = |second| Timestamp::from_second(second).expect("a timestamp");
        PeriodWindow { start: at(start), end: Some(at(end)) }
    }

    fn hold(amount: i128) -> HoldView {
        let authorized_at = Timestamp::from_second(5).expect("a timestamp");
        HoldView { hold: HoldId::from_u128(1), accounts: vec![ACCOUNT], amount, authorized_at }
    }

    /// 20 were held, 5 were free, and the price was 30: 25 are charged.
    fn charge() -> ChargeView {
        ChargeView {
            hold: HoldId::from_u128(1),
            held: 20,
            free: 5,
            cost: 24,
            margin: 6,
            price: 30,
            charged: 25,
            overrun: 5,
            entries: vec![(ACCOUNT, 25), (AccountId(2), 25)],
        }
    }

    #[test]
    fn what_is_used_stays_within_the_grant() {
        check(within_grant(&account(100, 60, 40)), None);
        check(within_grant(&account(100, 60, 41)), Some(Invariant::WithinGrant));
        check(within_grant(&AccountView { overcommit: 1, ..account(100, 60, 41) }), None);
        check(within_grant(&AccountView { policy: LimitPolicy::Soft, ..account(100, 600, 41) }), None);
    }

    #[test]
    fn a_node_stays_within_its_lease() {
        let lease = LeaseView { account: ACCOUNT, granted: 100, consumed: 50 };
        check(within_lease(&lease, &[hold(25)], &[charge()]), None);
        check(within_lease(&lease, &[hold(26)], &[charge()]), Some(Invariant::WithinLease));
        let elsewhere = HoldView { accounts: vec![AccountId(3)], ..hold(26) };
        check(within_lease(&lease, &[elsewhere], &[charge()]), None);
    }

    #[test]
    fn counters_are_sums() {
        let lease = LeaseView { account: ACCOUNT, granted: 50, consumed: 20 };
        check(entries_add_up(&account(100, 25, 0), &[60, 40], &[charge()]), None);
        check(entries_add_up(&account(101, 25, 0), &[60, 40], &[charge()]), Some(Invariant::AddsUp));
        check(entries_add_up(&account(100, 26, 0), &[60, 40], &[charge()]), Some(Invariant::AddsUp));
        let elsewhere = AccountView { account: AccountId(3), ..account(0, 0, 0) };
        check(entries_add_up(&elsewhere, &[], &[charge()]), None);
        check(leases_add_up(&account(100, 0, 60), &[lease, lease]), None);
        check(leases_add_up(&account(100, 0, 61), &[lease, lease]), Some(Invariant::AddsUp));
        check(holds_add_up(&account(100, 0, 30), &[hold(10), hold(20)]), None);
        check(holds_add_up(&account(100, 0, 30), &[hold(10)]), Some(Invariant::AddsUp));
    }

    #[test]
    fn everything_ends_once() {
        let (one, two) = (HoldId::from_u128(1), HoldId::from_u128(2));
        check(ends_once(&[two, one], &[charge()], &[one]), None);
        check(ends_once(&[one, two, one], &[charge()], &[]), Some(Invariant::EndsOnce));
        check(ends_once(&[], &[charge(), charge()], &[]), Some(Invariant::EndsOnce));
        check(ends_once(&[], &[charge()], &[two]), Some(Invariant::EndsOnce));
    }

    #[test]
    fn a_charge_is_the_same_everywhere() {
        check(charged_alike(&charge()), None);
        check(charged_alike(&ChargeView { margin: 5, ..charge() }), Some(Invariant::ChargedAlike));
        check(charged_alike(&ChargeView { entries: vec![(ACCOUNT, 24)], ..charge() }), Some(Invariant::ChargedAlike));
    }

    #[test]
    fn a_charge_is_what_fits_of_the_price() {
        check(charge_fits(&charge()), None);
        check(charge_fits(&ChargeView { free: -3, charged: 20, overrun: 10, ..charge() }), None);
        check(charge_fits(&ChargeView { price: 10, charged: 10, overrun: 0, ..charge() }), None);
        check(charge_fits(&ChargeView { charged: 26, overrun: 4, ..charge() }), Some(Invariant::ChargeFits));
        check(charge_fits(&ChargeView { charged: 24, overrun: 6, ..charge() }), Some(Invariant::ChargeFits));
        check(charge_fits(&ChargeView { overrun: 4, ..charge() }), Some(Invariant::ChargeFits));
    }

    #[test]
    fn every_price_is_charged_or_overrun() {
        check(nothing_vanishes(&[charge(), charge()]), None);
        let lost = ChargeView { overrun: 4, ..charge() };
        check(nothing_vanishes(&[charge(), lost]), Some(Invariant::NothingVanishes));
    }

    #[test]
    fn a_hold_has_one_period() {
        let in_window = |start, end| AccountView { period: period(start, end), ..account(0, 0, 0) };
        check(periods_follow(&[in_window(0, 10), in_window(10, 20), in_window(30, 40)]), None);
        check(periods_follow(&[in_window(0, 10), in_window(9, 20)]), Some(Invariant::OnePeriod));
        check(in_period(&hold(1), &in_window(5, 6)), None);
        check(in_period(&hold(1), &in_window(0, 5)), Some(Invariant::OnePeriod));
    }

    #[test]
    fn nothing_is_left_at_rest() {
        check(nothing_stranded(&account(100, 60, 0)), None);
        check(nothing_stranded(&account(100, 60, 1)), Some(Invariant::NothingStranded));
    }

    #[test]
    fn a_path_has_one_tenant() {
        let owned = |tenant| AccountView { tenant: Some(TenantId::from_u128(tenant)), ..account(0, 0, 0) };
        check(one_tenant(&[owned(1), account(0, 0, 0), owned(1)]), None);
        check(one_tenant(&[owned(1), account(0, 0, 0), owned(2)]), Some(Invariant::OneTenant));
    }

    #[test]
    fn a_violation_names_its_rule_and_its_account() {
        let text = within_grant(&account(100, 60, 41)).map_err(|violation| violation.to_string());
        assert_eq!(text, Err("I1 is violated on acc_1: settled 60 + leased 41 > granted 100 + overcommit 0".into()));
    }
}
