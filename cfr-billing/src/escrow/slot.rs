//! This node's rights on one account.

use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId};
use cfr_core::ledger::{LimitPolicy, Scope};
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;

use crate::store::LeaseGrant;

/// What a node with a steady load asks a shared store for lasts about this long.
const WISH_AHEAD: Duration = Duration::from_secs(2);
/// A rate that was observed for a shorter time than this is taken for that of this time.
const RATE_TIME_MIN: Duration = Duration::from_millis(1);

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
    /// The uptime before which it is pointless to ask the store for more than the least that helps.
    pub(super) dry_until: Duration,
    /// The uptime before which it is pointless to ask the store, or another node, for anything.
    pub(super) exhausted_until: Duration,
    /// The uptime before which other nodes want what this one does not use.
    pub(super) wanted_until: Duration,
    /// What the store had beyond all leases when it was last heard of.
    pub(super) beyond: i64,
    /// The part of `beyond` that late settlements count on.
    pub(super) promised: i64,
    /// Questions to the store about rights that are not answered.
    pub(super) asking: u32,
    /// When rights were last granted, and what was free then.
    pub(super) refilled: (Duration, i64),
    pub(super) currency: Currency,
    pub(super) scope: Scope,
    pub(super) policy: LimitPolicy,
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
            exhausted_until: Duration::ZERO,
            wanted_until: Duration::ZERO,
            beyond: 0,
            promised: 0,
            asking: 0,
            refilled: (Duration::ZERO, 0),
            currency: grant.currency,
            scope: grant.scope,
            policy: grant.policy,
            current: true,
            stale: false,
            touched: true,
        }
    }

    /// Rights that no hold claims.
    pub(super) const fn free(&self) -> i64 {
        self.lease - self.held
    }

    /// What of them a new hold may claim. After a limit was lowered below use, what holds leave free drains first.
    pub(super) const fn usable(&self) -> i64 {
        if self.is_hard() && self.beyond < 0 { self.free().saturating_add(self.beyond) } else { self.free() }
    }

    /// What the limit leaves to a new hold.
    pub(super) const fn room(&self) -> i64 {
        if self.is_hard() { self.usable() } else { i64::MAX }
    }

    pub(super) const fn is_hard(&self) -> bool {
        matches!(self.policy, LimitPolicy::Hard)
    }

    /// What a new hold might get: the usable rights, and what the store had when it was last heard of.
    pub(super) fn available(&self) -> i64 {
        let beyond = self.beyond.saturating_sub(self.promised).max(0);
        if self.is_hard() { self.usable().saturating_add(beyond) } else { i64::MAX }
    }

    /// Whether the store should be asked for more before a hold of `amount`, or of `amount_min` at least, is decided.
    pub(super) fn is_short(&self, amount: i64, amount_min: i64, uptime: Duration) -> bool {
        let usable = self.usable();
        if !self.is_hard() {
            return usable < amount;
        }
        if uptime < self.exhausted_until {
            return usable < amount && usable < self.available() && amount_min <= self.available();
        }
        usable < amount_min || (usable < amount && uptime >= self.dry_until)
    }

    /// What to ask a shared store for when `need` is missing: as much as will be needed soon at the rate of the time since
    /// the last refill, but only a small share of what is left, and no more than needed while others want it.
    pub(super) fn wish(&self, need: i64, nodes: u32, uptime: Duration) -> i64 {
        let (since, free_then) = self.refilled;
        if uptime < self.wanted_until {
            return need;
        }
        let drawn = i128::from((free_then - self.free()).max(0)) + i128::from(need);
        let elapsed = uptime.saturating_sub(since).max(RATE_TIME_MIN);
        let soon = drawn.saturating_mul(micros(WISH_AHEAD)) / micros(elapsed);
        let share = self.beyond / (2 * i64::from(nodes.max(1)));
        need.max(share.min(i64::try_from(soon).unwrap_or(i64::MAX)))
    }

    /// Takes more rights in, with the terms under which they were granted.
    pub(super) fn refill(&mut self, grant: &LeaseGrant, deadline: Duration, uptime: Duration) {
        self.lease = self.lease.saturating_add(grant.granted);
        self.end = grant.period.end.unwrap_or(Timestamp::MAX);
        self.deadline = self.deadline.max(deadline);
        self.beyond = grant.room;
        self.refilled = (uptime, self.free());
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
        self.beyond = self.beyond.saturating_add(free);
        free
    }
}

fn micros(time: Duration) -> i128 {
    i128::try_from(time.as_micros()).unwrap_or(i128::MAX)
}
