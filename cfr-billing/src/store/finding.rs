//! What an audit finds, and what would set it right.

use std::collections::BTreeMap;
use std::fmt;

use cfr_core::id::{AccountId, BudgetId};

/// Findings of one rule that an audit names one by one; it counts those beyond. Books that are wrong everywhere must not
/// fill the memory of whoever looks at them.
pub const FINDINGS_PER_RULE_MAX: usize = 1_000;

/// Which promise of the books is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AuditRule {
    /// No more is settled and leased than granted (I1).
    Limit,
    /// Every sum of an account is the sum of its parts (I3).
    Sums,
    /// Every request has at most one charge, and the same on every account of its path (I4, I5).
    Charges,
    /// A charge and what could not be charged add up to the price, and price to cost and margin (I5, I6, I7).
    Prices,
    /// The periods of a budget are numbered without a gap and do not overlap (I8).
    Periods,
    /// Nothing is leased by a life that is over, unless a hold is kept counted (I9). Reclaiming sets it right.
    Stranded,
    /// The budgets of a path belong to the tenant of the request, or to the platform (I10).
    Isolation,
    /// Every batch is sealed with the one before it.
    Chain,
    /// The sums per day are those of the records.
    Days,
}

impl AuditRule {
    /// A stable name, as in `sums`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Sums => "sums",
            Self::Charges => "charges",
            Self::Prices => "prices",
            Self::Periods => "periods",
            Self::Stranded => "stranded",
            Self::Isolation => "isolation",
            Self::Chain => "chain",
            Self::Days => "days",
        }
    }

    /// What to do about a finding that no booking sets right.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Limit => "correct the sums first; if none is wrong, grant the budget what is missing",
            Self::Sums => "something that was booked has changed: compare these rows with the last backup",
            Self::Charges | Self::Prices => {
                "look the request up in the log and in a backup, and give the customer the difference as a grant"
            }
            Self::Periods => "compare the accounts of this budget with the last backup",
            Self::Stranded => "nothing: it is taken back by the next node that starts, or after the lease time",
            Self::Isolation => "close the budget's path for this tenant, and give back what was charged as a grant",
            Self::Chain => {
                "restore the last backup whose books are clean; what was booked up to the last good batch is as it was"
            }
            Self::Days => "no money depends on these sums: reports of these days come from the usage records",
        }
    }

    /// Whether the books are right, and only something is still to be done that is done by itself.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::Stranded)
    }
}

/// One difference in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The broken promise.
    pub rule: AuditRule,
    /// What is wrong, with the place and the figures, in one line.
    pub what: String,
    /// The booking that would set it right, where one can.
    pub correction: Option<Correction>,
}

impl Finding {
    /// A difference that no booking sets right.
    #[must_use]
    pub const fn new(rule: AuditRule, what: String) -> Self {
        Self { rule, what, correction: None }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A sum of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sum {
    /// Everything granted.
    Granted,
    /// Everything charged.
    Settled,
    /// Everything leased and not yet charged.
    Leased,
    /// Prices that exceeded what could be charged.
    Overrun,
}

impl Sum {
    /// A stable name, as in `settled`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Settled => "settled",
            Self::Leased => "leased",
            Self::Overrun => "overrun",
        }
    }
}

/// An account's sum that would be set right by a booking of the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Correction {
    /// The account.
    pub account: AccountId,
    /// The budget whose period it is, for people.
    pub budget: BudgetId,
    /// Which of its sums.
    pub sum: Sum,
    /// What the books say, in nano-units.
    pub from: i64,
    /// What the parts add up to.
    pub to: i64,
}

/// What a look at some accounts found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountsAudit {
    /// Differences.
    pub findings: Vec<Finding>,
    /// Accounts that were looked at.
    pub checked: u32,
    /// Where the next look begins; none after the last account.
    pub next: Option<AccountId>,
}

/// Findings while an audit runs: at most [`FINDINGS_PER_RULE_MAX`] of each rule, and how many more there are.
#[derive(Debug, Default)]
pub struct Findings {
    found: Vec<Finding>,
    counts: BTreeMap<AuditRule, usize>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.rule).or_default();
        *count += 1;
        if *count <= FINDINGS_PER_RULE_MAX {
            self.found.push(finding);
        }
    }

    /// Adds a difference that no booking sets right.
    pub fn note(&mut self, rule: AuditRule, what: String) {
        self.add(Finding::new(rule, what));
    }

    /// All of them, in the order in which they were found; what is only counted comes last.
    #[must_use]
    pub fn finish(mut self) -> Vec<Finding> {
        for (rule, count) in &self.counts {
            let more = count.saturating_sub(FINDINGS_PER_RULE_MAX);
            if more > 0 {
                self.found.push(Finding::new(*rule, format!("and {more} more findings of the rule `{}`", rule.name())));
            }
        }
        self.found
    }
}
