//! Prices above their holds on a shared store, where the rights that they need may be the store's.
//!
//! A charge must lie inside this node's lease: beyond it the store would take it from rights that other holds claim. So
//! the settlement waits, its hold still claimed, until the committer asked for more.

use cfr_core::id::HoldId;
use cfr_core::ledger::{Settled, Settlement};
use cfr_core::money::Money;
use cfr_core::time::Clock;

use super::{Asks, Book, OpenHold};
use crate::escrow::outbox::Waiter;
use crate::escrow::slot::Slot;
use crate::store::LeaseAsk;

/// A settlement that waits for rights.
#[derive(Debug)]
pub(super) struct LateSettlement {
    hold: HoldId,
    open: OpenHold,
    settlement: Settlement,
    /// What it was said to be charged beyond its claim.
    promised: i64,
    /// Who waits until it is written, and for everything before it.
    waiters: Vec<Waiter>,
}

impl LateSettlement {
    pub(super) const fn open(&mut self) -> &mut OpenHold {
        &mut self.open
    }

    /// What the price exceeds the hold by.
    const fn excess(&self) -> i64 {
        self.settlement.charge.price.nanos().saturating_sub(self.open.amount)
    }
}

impl Book {
    /// Whether the store seems to have what a price needs beyond the hold and the local `extra`, on every budget. It grants
    /// only rights of the running period, and what somebody is being granted now is not known yet.
    pub(super) fn may_get_more(&self, open: &OpenHold, price: i64, extra: i64, clock: &dyn Clock) -> bool {
        if self.exclusive || price.saturating_sub(open.amount) <= extra {
            return false;
        }
        let now = clock.now();
        let ours = |slot: &Slot| slot.current && now < slot.end && slot.epoch == self.by.epoch && slot.asking == 0;
        self.on(&open.slots).all(ours)
            && self.on(&open.slots).map(Slot::available).min().is_some_and(|available| available > extra)
    }

    /// Claims the local `extra`, too, and leaves the hold claimed until the committer got the rest. What is answered is
    /// what the store seemed to have; the record says what was charged.
    pub(super) fn settle_later(
        &mut self,
        hold: HoldId,
        mut open: OpenHold,
        settlement: Settlement,
        extra: i64,
    ) -> Settled {
        let price = settlement.charge.price;
        for &index in &open.slots {
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            slot.held += extra;
            slot.lease = slot.lease.max(slot.held); // only without a hard limit
        }
        open.amount += extra;
        let missing = price.nanos().saturating_sub(open.amount);
        let available = self.available(&open.slots);
        let promised = missing.min(available);
        let charged = open.amount.saturating_add(promised);
        let (waiter, committed) = self.outbox.promise();
        let late = LateSettlement { hold, open, settlement, promised, waiters: waiter.into_iter().collect() };
        self.promise(&late, promised);
        self.late.push_back(late);
        let money = |nanos: i64| Money::from_nanos(nanos, price.currency());
        let (left, overrun) = (available - promised, price.nanos() - charged);
        Settled { charged: money(charged), overrun: money(overrun), available: money(left), committed }
    }

    fn promise(&mut self, late: &LateSettlement, amount: i64) {
        for &index in &late.open.slots {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.promised += amount;
            }
        }
    }

    /// What the next late settlement needs from the store, if only living leases; none when no settlement is late.
    pub(in crate::escrow) fn next_late(&self) -> Option<Asks> {
        let late = self.late.front()?;
        let excess = late.excess();
        let missing = |slot: &Slot| if slot.is_hard() { (excess - slot.free()).max(0) } else { 0 };
        let current = self.on(&late.open.slots).filter(|slot| slot.current);
        Some(current.map(|slot| LeaseAsk { budget: slot.budget, min: 0, want: missing(slot) }).collect())
    }

    /// Charges the next late settlement as far as there are rights now.
    pub(in crate::escrow) fn settle_next_late(&mut self, clock: &dyn Clock) {
        let Some(late) = self.late.pop_front() else { return };
        self.promise(&late, -late.promised);
        let LateSettlement { hold, open, settlement, waiters, .. } = late;
        let extra = self.extra_room(&open, clock.uptime());
        drop(self.settle_at_once(hold, &open, settlement, extra, clock));
        waiters.into_iter().for_each(|waiter| self.outbox.tell(waiter));
    }

    /// Somebody who waits for everything before waits for late settlements, too.
    pub(super) fn wait_for_late(&mut self, waiter: Option<Waiter>) {
        if let Some(late) = self.late.back_mut() {
            late.waiters.extend(waiter);
        }
    }

    /// Those who wait for late settlements, when nobody should wait any more.
    pub(super) fn take_late_waiters(&mut self) -> Vec<Waiter> {
        self.late.iter_mut().flat_map(|late| late.waiters.drain(..)).collect()
    }
}
