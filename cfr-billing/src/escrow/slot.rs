//! This node's rights on one account.

use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId};
use cfr_core::ledger::{LimitPolicy, Scope};
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;

use crate::store::LeaseGrant;

/// The place of a slot in the book.
pub(super) type SlotIndex = u32;

/// What this node may spend on one account, and what of it is held. `0 <= held <= lease`.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) budget: BudgetId,
    pub(super) account: AccountId,
    /// The epoch that holds the lease.
    pub(super) epoch: i64,
    /// Rights that are not spent.
    pub(super) lease: i64,
    /// The part of `lease` that open holds claim.
    pub(super) held: i64,
    /// Open holds that lie here, those over nothing included.
    pub(super) claims: u32,
    /// The end of the account's period.
    pub(super) end: Timestamp,
    /// The uptime after which nothing more may be held.
    pub(super) deadline: Duration,
    /// The uptime before which it is pointless to ask the store for more.
    pub(super) dry_until: Duration,
    pub(super) currency: Currency,
    pub(super) scope: Scope,
    pub(super) policy: LimitPolicy,
    /// How often the last refills came soon after each other: the wish doubles each time.
    pub(super) eagerness: u8,
    /// New holds go here. Otherwise only running ones end here.
    pub(super) current: bool,
    /// The terms may have changed: ask the store before the next hold.
    pub(super) stale: bool,
    /// Used since the last look for idle slots.
    pub(super) touched: bool,
}

impl Slot {
    pub(super) fn new(grant: &LeaseGrant, epoch: i64) -> Self {
        Self {
            budget: grant.budget,
            account: grant.account,
            epoch,
            lease: 0,
            held: 0,
            claims: 0,
            end: grant.period.end.unwrap_or(Timestamp::MAX),
            deadline: Duration::ZERO,
            dry_until: Duration::ZERO,
            currency: grant.currency,
            scope: grant.scope,
            policy: grant.policy,
            eagerness: 0,
            current: true,
            stale: false,
            touched: true,
        }
    }

    /// Rights that no hold claims.
    pub(super) const fn free(&self) -> i64 {
        self.lease - self.held
    }

    /// What the limit leaves to a new hold.
    pub(super) const fn room(&self) -> i64 {
        if self.is_hard() { self.free() } else { i64::MAX }
    }

    pub(super) const fn is_hard(&self) -> bool {
        matches!(self.policy, LimitPolicy::Hard)
    }

    /// Takes more rights in, with the terms under which they were granted.
    pub(super) fn refill(&mut self, grant: &LeaseGrant, deadline: Duration) {
        self.lease = self.lease.saturating_add(grant.granted);
        self.end = grant.period.end.unwrap_or(Timestamp::MAX);
        self.deadline = self.deadline.max(deadline);
        (self.scope, self.policy, self.stale) = (grant.scope, grant.policy, false);
    }

    /// A new hold lies here.
    pub(super) const fn claim(&mut self, amount: i64) {
        self.held += amount;
        self.claims += 1;
        self.touched = true;
    }

    /// Ends a claim of `held` with a charge. Without a hard limit the charge may be more than the lease has; the store
    /// then books it beyond the limit.
    pub(super) fn end_claim(&mut self, held: i64, charged: i64) {
        self.held -= held;
        self.claims -= 1;
        self.touched = true;
        self.lease = (self.lease - charged).max(self.held);
        debug_assert!(self.held >= 0, "more was freed than was held");
    }

    /// Gives up what is free.
    pub(super) const fn take_free(&mut self) -> i64 {
        let free = self.free();
        self.lease = self.held;
        free
    }
}
