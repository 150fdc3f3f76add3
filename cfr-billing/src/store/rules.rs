//! The rules of the books as plain arithmetic: a store reads the figures, these say whether they agree.
//!
//! Every store checks with them, so that one kind of difference has one wording and one correction everywhere.

use cfr_core::id::{AccountId, BudgetId, RequestId, TenantId};
use cfr_core::time::Timestamp;

use super::finding::{AuditRule, Correction, Finding, Findings, Sum};

#[cfg(test)]
mod tests;

/// An account as the books have it, and what its parts add up to. All amounts in nano-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountFigures {
    /// The account.
    pub account: AccountId,
    /// The budget whose period it is.
    pub budget: BudgetId,
    /// Its counters.
    pub booked: Counters,
    /// What may be used beyond `granted`.
    pub overcommit: i64,
    /// The sum of its grants.
    pub grants: i64,
    /// What its leases have left.
    pub leases: i64,
    /// What its entries add up to.
    pub entries: EntrySums,
    /// What its usage records add up to; none when nobody read them.
    pub records: Option<RecordSums>,
}

/// The counters of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Everything granted.
    pub granted: i64,
    /// Everything charged.
    pub settled: i64,
    /// Everything leased and not yet charged.
    pub leased: i64,
    /// Prices that exceeded what could be charged.
    pub overrun: i64,
}

/// What the ledger entries of an account add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntrySums {
    /// Grants.
    pub granted: i64,
    /// Charges, with their corrections.
    pub settled: i64,
    /// Overruns, with their corrections.
    pub overrun: i64,
}

/// What usage records add up to on one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordSums {
    /// Charges.
    pub charged: i64,
    /// Overruns, up to the largest number.
    pub overrun: i64,
}

impl RecordSums {
    /// Adds a record.
    pub const fn add(&mut self, charged: i64, overrun: i64) {
        self.charged = self.charged.saturating_add(charged);
        self.overrun = self.overrun.saturating_add(overrun);
    }
}

impl AccountFigures {
    /// The limit (I1) and the sums (I3).
    pub fn check(&self, found: &mut Findings) {
        let booked = &self.booked;
        self.check_sum(found, Sum::Granted, booked.granted, ("grants", self.grants), ("entries", self.entries.granted));
        let entries = ("entries", self.entries.settled);
        let records = self.records.map_or(entries, |sums| ("usage records", sums.charged));
        self.check_sum(found, Sum::Settled, booked.settled, records, entries);
        let entries = ("entries", self.entries.overrun);
        let records = self.records.map_or(entries, |sums| ("usage records", sums.overrun));
        self.check_sum(found, Sum::Overrun, booked.overrun, records, entries);
        let leases = ("leases", self.leases);
        self.check_sum(found, Sum::Leased, booked.leased, leases, leases);
        self.check_limit(found);
    }

    /// A counter against two independent sums of its parts. It is corrected when both agree, so that only the counter can
    /// be wrong. Where they contradict each other, something that was booked has changed, and no booking sets that right.
    fn check_sum(
        &self,
        found: &mut Findings,
        sum: Sum,
        booked: i64,
        evidence: (&'static str, i64),
        other: (&'static str, i64),
    ) {
        let (account, budget, name) = (self.account, self.budget, sum.name());
        if booked == evidence.1 && booked == other.1 {
            return;
        }
        if evidence.1 == other.1 {
            let to = evidence.1;
            let what = format!("{account}: {name} is {booked} but its parts add up to {to}");
            let correction = Some(Correction { account, budget, sum, from: booked, to });
            found.add(Finding { rule: AuditRule::Sums, what, correction });
        } else {
            let ((first, evidence), (second, other)) = (evidence, other);
            let what =
                format!("{account}: {name} is {booked}, its {first} add up to {evidence} and its {second} to {other}");
            found.note(AuditRule::Sums, what);
        }
    }

    fn check_limit(&self, found: &mut Findings) {
        let Counters { granted, settled, leased, .. } = self.booked;
        if settled.saturating_add(leased) > granted.saturating_add(self.overcommit) {
            let (account, overcommit) = (self.account, self.overcommit);
            let what = format!(
                "{account}: settled {settled} and leased {leased} exceed granted {granted} and overcommit {overcommit}"
            );
            found.note(AuditRule::Limit, what);
        }
    }
}

/// What a usage record says about money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFigures {
    /// The request.
    pub id: RequestId,
    /// What the provider charges, in nano-units.
    pub cost: i64,
    /// Cost and margin.
    pub price: i64,
    /// What was charged on every account of the path.
    pub charged: i64,
    /// What could not be charged.
    pub overrun: i64,
}

impl RecordFigures {
    /// Charge and overrun are the price, and the price is no less than the cost (I5, I6, I7).
    pub fn check(&self, found: &mut Findings) {
        let Self { id, cost, price, charged, overrun } = *self;
        if charged.saturating_add(overrun) != price {
            let what = format!("{id}: charged {charged} and overrun {overrun} are not the price {price}");
            found.note(AuditRule::Prices, what);
        }
        if cost < 0 || price < cost {
            found.note(AuditRule::Prices, format!("{id}: the price {price} is not the cost {cost} and a margin"));
        }
    }
}

/// The path of a record: each account once (I4), of the record's tenant or of nobody's (I10).
#[derive(Debug)]
pub struct PathFigures<'a> {
    /// The request.
    pub id: RequestId,
    /// Whose request it is.
    pub tenant: TenantId,
    /// Where it was charged.
    pub accounts: &'a [AccountId],
}

impl PathFigures<'_> {
    /// No account is charged twice for one request.
    pub fn check_charges(&self, found: &mut Findings) {
        for (position, account) in self.accounts.iter().enumerate() {
            if self.accounts[..position].contains(account) {
                found.note(AuditRule::Charges, format!("{}: {account} is charged twice", self.id));
            }
        }
    }

    /// An account of the path, with the tenant that its budget belongs to: `None` when there is no such account,
    /// `Some(None)` for budgets of products and of the platform.
    pub fn check_owner(&self, account: AccountId, owner: Option<Option<TenantId>>, found: &mut Findings) {
        let Self { id, tenant, .. } = self;
        match owner {
            None => found.note(AuditRule::Charges, format!("{id}: it was charged on {account}, which does not exist")),
            Some(Some(owner)) if owner != *tenant => {
                let what = format!("{id}: a request of {tenant} was charged on {account} of {owner}");
                found.note(AuditRule::Isolation, what);
            }
            Some(_) => {}
        }
    }
}

/// What one batch books on one account: its entry against its own usage records (I5).
pub fn check_batch(batch: &str, account: AccountId, entry: RecordSums, records: RecordSums, found: &mut Findings) {
    if entry != records {
        let (booked, overrun) = (entry.charged, entry.overrun);
        let what = format!(
            "{batch}: {account} is charged {booked} (overrun {overrun}) but its usage records say {} (overrun {})",
            records.charged, records.overrun
        );
        found.note(AuditRule::Charges, what);
    }
}

/// A period of a budget beside the one that its number says is before it (I8). A period in which nobody asked for the
/// budget was never opened: there may be time between two, but no number.
#[derive(Debug)]
pub struct PeriodFigures {
    /// Its account.
    pub account: AccountId,
    /// The budget.
    pub budget: BudgetId,
    /// Counts the periods of the budget, from 1.
    pub seq: i64,
    /// When it begins.
    pub start: Timestamp,
    /// The end of the period whose number is one less: `None` when there is none, `Some(None)` when it never ends.
    pub before: Option<Option<Timestamp>>,
}

impl PeriodFigures {
    /// Its number follows another one, and it begins after that one's end.
    pub fn check(&self, found: &mut Findings) {
        let Self { account, budget, seq, start, before } = self;
        let what = match before {
            None if *seq > 1 => {
                format!("{account}: it is period {seq} of {budget}, but there is no period {}", seq - 1)
            }
            Some(None) => format!("{account}: it follows a period of {budget} that never ends"),
            Some(Some(end)) if start < end => {
                format!("{account}: it begins at {start}, but the period of {budget} before it ends at {end}")
            }
            _ => return,
        };
        found.note(AuditRule::Periods, what);
    }
}
