//! What an audit finds, and what would set it right.

use std::fmt;

use cfr_core::id::AccountId;

/// Which promise of the books is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// The periods of a budget do not overlap and leave no gap (I8).
    Periods,
    /// Nothing is leased by a life that is over, unless a hold is kept counted (I9).
    Stranded,
    /// The budgets of a path belong to one tenant, or to the platform (I10).
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

/// An account's sum that would be set right by a booking of the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Correction {
    /// The account.
    pub account: AccountId,
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
