//! What becomes of holds: raised, noted, settled, released.

use std::time::Duration;

use cfr_core::id::HoldId;
use cfr_core::ledger::{AuthorizeError, Commit, Denial, LedgerError, ReleaseReason, Settled, Settlement};
use cfr_core::money::Money;
use cfr_core::time::Clock;

use super::{Asks, Book, Decision, HoldState, OpenHold, Slots};
use crate::escrow::slot::Slot;
use crate::store::{Accounts, Op, SettledHold};

impl Book {
    pub(in crate::escrow) fn extend(
        &mut self,
        hold: HoldId,
        step: u32,
        amount: Money,
        uptime: Duration,
    ) -> Decision<Commit> {
        match self.check_extend(hold, step, amount) {
            Ok(true) => self.extend_from_local(hold, step, amount, uptime),
            Ok(false) => Decision::Done(Ok(self.barrier())),
            Err(error) => Decision::Done(Err(error.into())),
        }
    }

    /// Whether there is anything to do.
    fn check_extend(&self, hold: HoldId, step: u32, amount: Money) -> Result<bool, LedgerError> {
        let open = self.open(hold)?;
        if step <= open.raises {
            return Ok(false);
        }
        if amount.nanos() < 0 || self.on(&open.slots).any(|slot| slot.currency != amount.currency()) {
            return Err(LedgerError::Malformed { reason: "a hold is raised by a positive amount in its own currency" });
        }
        if open.amount.checked_add(amount.nanos()).is_none() {
            return Err(LedgerError::Malformed { reason: "the hold is out of range" });
        }
        self.refusing.clone().map_or(Ok(true), Err)
    }

    fn extend_from_local(&mut self, hold: HoldId, step: u32, amount: Money, uptime: Duration) -> Decision<Commit> {
        let Ok(open) = self.open(hold) else { return Decision::Done(Err(LedgerError::UnknownHold { hold }.into())) };
        let slots = open.slots.clone();
        let raise = amount.nanos();
        let current = self.on(&slots).filter(|slot| slot.current);
        let asks: Asks =
            current.filter_map(|slot| self.missing(slot.budget, Some(slot), raise, raise, uptime)).collect();
        if !asks.is_empty() {
            return Decision::Short(asks);
        }
        // A running hold may lie on a period that is over, or in a life that is: rights that were lost are none.
        if self.extra_room(open, uptime) < raise {
            return Decision::Done(Err(AuthorizeError::Denied(self.denial(&slots, amount))));
        }
        Decision::Done(self.raise(hold, step, raise, &slots).map_err(AuthorizeError::from))
    }

    /// The last word on an extension after the store denied more.
    pub(in crate::escrow) fn extend_finally(&self, amount: Money, denied: Option<Denial>) -> AuthorizeError {
        denied.map_or_else(
            || LedgerError::unavailable("budgets change faster than they can be read").into(),
            |denial| AuthorizeError::Denied(Denial { asked: amount, ..self.with_local(denial) }),
        )
    }

    fn raise(&mut self, hold: HoldId, step: u32, raise: i64, slots: &Slots) -> Result<Commit, LedgerError> {
        let inside_lease = self.on(slots).all(|slot| slot.free() >= raise);
        for &index in slots {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.held += raise;
                slot.lease = slot.lease.max(slot.held); // only without a hard limit
            }
        }
        let open = self.open_mut(hold)?;
        open.amount += raise;
        (open.raises, open.opening) = (step, None);
        let amount = open.amount;
        let op = Op::Extend { hold, amount };
        Ok(if inside_lease { self.push_inside_lease(op).1 } else { self.outbox.push(op).1 })
    }

    pub(in crate::escrow) fn checkpoint(&mut self, hold: HoldId, so_far: Settlement) -> Result<(), LedgerError> {
        self.check_price(hold, &so_far)?;
        let open = self.open_mut(hold)?;
        open.opening = None;
        let charged = so_far.charge.price.nanos().min(open.amount);
        let mut record = so_far.record;
        (record.charged_nanos, record.overrun_nanos) = (charged, so_far.charge.price.nanos() - charged);
        self.outbox.push_unawaited(Op::Checkpoint { hold, charged, record });
        Ok(())
    }

    pub(in crate::escrow) fn settle(
        &mut self,
        hold: HoldId,
        settlement: Settlement,
        clock: &dyn Clock,
    ) -> Result<Settled, LedgerError> {
        self.check_price(hold, &settlement)?;
        let open = self.close(hold)?;
        if settlement.charge.price.nanos() <= open.amount {
            return Ok(self.settle_at_once(hold, &open, settlement, 0, clock));
        }
        let uptime = clock.uptime();
        let extra = self.extra_room(&open, uptime);
        if self.may_get_more(&open, settlement.charge.price.nanos(), extra, clock) {
            return Ok(self.settle_later(hold, open, settlement, extra));
        }
        Ok(self.settle_at_once(hold, &open, settlement, extra, clock))
    }

    /// Charges the price, at most the hold and `extra`.
    pub(super) fn settle_at_once(
        &mut self,
        hold: HoldId,
        open: &OpenHold,
        settlement: Settlement,
        extra: i64,
        clock: &dyn Clock,
    ) -> Settled {
        let price = settlement.charge.price;
        let charged = price.nanos().min(open.amount.saturating_add(extra));
        let accounts = self.end_claims(open, charged);
        let overrun = price.nanos() - charged;
        self.count_settlement(overrun);
        let mut record = settlement.record;
        (record.charged_nanos, record.overrun_nanos) = (charged, overrun);
        let settled = SettledHold { id: hold, epoch: open.epoch, accounts, charged, record };
        let committed = self.push_end(open, Op::Settle(Box::new(settled)), true);
        let money = |nanos| Money::from_nanos(nanos, price.currency());
        let available = money(self.available(&open.slots));
        self.after_end(&open.slots, clock);
        Settled { charged: money(charged), overrun: money(overrun), available, committed }
    }

    pub(in crate::escrow) fn release(
        &mut self,
        hold: HoldId,
        reason: ReleaseReason,
        clock: &dyn Clock,
    ) -> Result<Commit, LedgerError> {
        let open = self.close(hold)?;
        self.end_claims(&open, 0);
        self.stats.releases += 1;
        let committed = self.push_end(&open, Op::Release { hold, reason }, false);
        self.after_end(&open.slots, clock);
        Ok(committed)
    }

    /// What a charge may take beyond its hold: only what is free on every account of the path, under a living lease.
    pub(super) fn extra_room(&self, open: &OpenHold, uptime: Duration) -> i64 {
        let alive = |slot: &Slot| slot.epoch == self.by.epoch && (self.exclusive || uptime < slot.deadline);
        if self.on(&open.slots).all(alive) { self.local_room(&open.slots).max(0) } else { 0 }
    }

    fn end_claims(&mut self, open: &OpenHold, charged: i64) -> Accounts {
        let mut accounts = Accounts::new();
        for &index in &open.slots {
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            slot.end_claim(open.amount, charged);
            accounts.push(slot.account);
        }
        accounts
    }

    /// What an ended hold freed goes where it is wanted.
    fn after_end(&mut self, slots: &Slots, clock: &dyn Clock) {
        if !self.exclusive {
            self.pass_on(slots, clock);
        }
        self.vacate(slots);
    }

    /// The rights on a past period stay with its running holds. With the last of them they are given back, and the slot
    /// is used again.
    pub(super) fn vacate(&mut self, slots: &Slots) {
        for &index in slots {
            let Some(slot) = self.slots.get_mut(index as usize).filter(|slot| !slot.current && slot.claims == 0) else {
                continue;
            };
            let (account, free) = (slot.account, slot.take_free());
            if free > 0 && slot.epoch == self.by.epoch {
                self.surplus.push((account, free));
            }
            self.vacant.push(index);
        }
    }

    fn push_end(&mut self, open: &OpenHold, end: Op, end_tells_all: bool) -> Commit {
        match open.opening {
            Some(opening) => self.outbox.push_end(opening, end, end_tells_all),
            None => self.outbox.push(end).1,
        }
    }

    fn count_settlement(&mut self, overrun: i64) {
        self.stats.settlements += 1;
        if overrun > 0 {
            self.stats.overruns += 1;
            self.stats.overrun_nanos = self.stats.overrun_nanos.saturating_add(overrun);
        }
    }

    fn check_price(&self, hold: HoldId, settlement: &Settlement) -> Result<(), LedgerError> {
        let open = self.open(hold)?;
        let price = settlement.charge.price;
        if price.nanos() < 0 || self.on(&open.slots).any(|slot| slot.currency != price.currency()) {
            return Err(LedgerError::Malformed { reason: "a price is a positive amount in the hold's currency" });
        }
        Ok(())
    }

    fn close(&mut self, hold: HoldId) -> Result<OpenHold, LedgerError> {
        let terms = self.open(hold)?.terms;
        match self.holds.insert(hold, HoldState::Ended { terms }) {
            Some(HoldState::Open(open)) => {
                self.stats.open_holds -= 1;
                self.remember(hold);
                Ok(open)
            }
            _ => Err(LedgerError::UnknownHold { hold }),
        }
    }

    fn open(&self, hold: HoldId) -> Result<&OpenHold, LedgerError> {
        match self.holds.get(&hold) {
            Some(HoldState::Open(open)) => Ok(open),
            Some(HoldState::Ended { .. }) => Err(LedgerError::AlreadyClosed { hold }),
            _ => Err(LedgerError::UnknownHold { hold }),
        }
    }

    fn open_mut(&mut self, hold: HoldId) -> Result<&mut OpenHold, LedgerError> {
        match self.holds.get_mut(&hold) {
            Some(HoldState::Open(open)) => Ok(open),
            _ => Err(LedgerError::UnknownHold { hold }),
        }
    }
}
