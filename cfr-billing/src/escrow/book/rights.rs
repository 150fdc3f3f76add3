//! What this node may spend: taken in, given up, prolonged, lost.

use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::Timestamp;

use super::{Asks, Book, EAGERNESS_MAX, RECHECK_AFTER, REFILL_SOON, Slots};
use crate::escrow::slot::{Slot, SlotIndex};
use crate::store::{Incarnation, LeaseAsk, LeaseGrant};

impl Book {
    /// Takes rights in that the store granted to `by`. Rights of an earlier life are not ours any more.
    pub(in crate::escrow) fn refill(
        &mut self,
        by: &Incarnation,
        asks: &[LeaseAsk],
        grants: &[LeaseGrant],
        deadline: Duration,
        uptime: Duration,
    ) {
        if *by != self.by {
            return;
        }
        for (ask, grant) in asks.iter().zip(grants) {
            let index = self.slot_for(grant);
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            let soon = !slot.deadline.is_zero() && uptime.saturating_sub(slot.dry_until) < REFILL_SOON;
            slot.refill(grant, deadline);
            let granted_all = grant.granted >= ask.want;
            slot.eagerness = if granted_all && soon { (slot.eagerness + 1).min(EAGERNESS_MAX) } else { 0 };
            slot.dry_until = if granted_all { uptime } else { uptime + RECHECK_AFTER };
        }
    }

    fn slot_for(&mut self, grant: &LeaseGrant) -> SlotIndex {
        if let Some(&index) = self.budgets.get(&grant.budget) {
            if self.slots.get(index as usize).is_some_and(|slot| slot.account == grant.account) {
                return index;
            }
            self.retire(grant.budget);
        }
        let slot = Slot::new(grant, self.by.epoch);
        let index = self.vacant.pop().unwrap_or(SlotIndex::try_from(self.slots.len()).unwrap_or(SlotIndex::MAX));
        match self.slots.get_mut(index as usize) {
            Some(vacant) => *vacant = slot,
            None => self.slots.push(slot),
        }
        self.budgets.insert(grant.budget, index);
        index
    }

    /// No new hold goes to the budget's slot: its period is over, or its lease is lost.
    fn retire(&mut self, budget: BudgetId) {
        let Some(index) = self.budgets.remove(&budget) else { return };
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.current = false;
        }
        self.vacate(&Slots::from_slice(&[index]));
    }

    /// Retires the slots among `budgets` whose period is over, and returns what is free on them.
    pub(in crate::escrow) fn retire_ended(
        &mut self,
        budgets: impl Iterator<Item = BudgetId>,
        at: Timestamp,
    ) -> Vec<(AccountId, i64)> {
        for budget in budgets {
            let ended = self
                .budgets
                .get(&budget)
                .and_then(|index| self.slots.get(*index as usize))
                .is_some_and(|slot| at >= slot.end);
            if ended {
                self.retire(budget);
            }
        }
        self.take_surplus()
    }

    pub(in crate::escrow) fn take_surplus(&mut self) -> Vec<(AccountId, i64)> {
        std::mem::take(&mut self.surplus)
    }

    /// Gives up what is free on a budget. Its next hold asks the store, for rights and terms alike.
    pub(in crate::escrow) fn recall(&mut self, budget: BudgetId) -> Option<(AccountId, i64)> {
        let index = *self.budgets.get(&budget)?;
        let slot = self.slots.get_mut(index as usize)?;
        (slot.stale, slot.dry_until) = (true, Duration::ZERO);
        let (account, free) = (slot.account, slot.take_free());
        (free > 0).then_some((account, free))
    }

    /// What the owner of a store asks for after a recall, when the budget is in use.
    pub(in crate::escrow) fn ask_again(&self, budget: BudgetId) -> Option<Asks> {
        let in_use = self.exclusive && self.budgets.contains_key(&budget);
        in_use.then(|| Asks::from_slice(&[self.ask(budget, 0, 0)]))
    }

    /// What of `leased` is held: nodes that share the store may hold all of theirs, of our own rights we know.
    pub(in crate::escrow) fn held_of(&self, budget: BudgetId, account: AccountId, leased: i64) -> i64 {
        let slot = self.budgets.get(&budget).and_then(|index| self.slots.get(*index as usize));
        let (free, held) = slot.filter(|slot| slot.account == account).map_or((0, 0), |slot| (slot.free(), slot.held));
        leased.saturating_sub(free).max(held)
    }

    /// Budgets that nobody used since the last call.
    pub(in crate::escrow) fn idle_budgets(&mut self) -> Vec<BudgetId> {
        let mut idle = Vec::new();
        for (&budget, &index) in &self.budgets {
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            if slot.claims == 0 && !std::mem::take(&mut slot.touched) {
                idle.push(budget);
            }
        }
        idle
    }

    /// Forgets a budget that is still idle, and returns its rights.
    pub(in crate::escrow) fn drop_idle(&mut self, budget: BudgetId) -> Option<(AccountId, i64)> {
        let index = *self.budgets.get(&budget)?;
        let slot = self.slots.get_mut(index as usize).filter(|slot| slot.claims == 0 && !slot.touched)?;
        let rights = (slot.account, slot.take_free());
        self.retire(budget);
        Some(rights).filter(|(_, free)| *free > 0)
    }

    /// Everything that is free, when the node stops.
    pub(in crate::escrow) fn take_all_free(&mut self) -> Vec<(AccountId, i64)> {
        let epoch = self.by.epoch;
        let mut rights = self.take_surplus();
        let living = self.slots.iter_mut().filter(|slot| slot.epoch == epoch && slot.free() > 0);
        rights.extend(living.map(|slot| (slot.account, slot.take_free())));
        rights
    }

    /// Accounts on which this node has a lease.
    pub(in crate::escrow) fn leased_accounts(&self) -> Vec<AccountId> {
        self.budgets
            .values()
            .filter_map(|&index| self.slots.get(index as usize))
            .filter(|slot| slot.lease > 0)
            .map(|slot| slot.account)
            .collect()
    }

    /// Prolongs the leases that the store confirmed. False when one of `known` is lost.
    pub(in crate::escrow) fn renewed(
        &mut self,
        by: &Incarnation,
        known: &[AccountId],
        alive: &[AccountId],
        deadline: Duration,
    ) -> bool {
        if *by != self.by {
            return true;
        }
        let mut complete = true;
        for index in self.budgets.values() {
            let Some(slot) = self.slots.get_mut(*index as usize) else { continue };
            if alive.contains(&slot.account) {
                slot.deadline = slot.deadline.max(deadline);
            } else if slot.lease > 0 && known.contains(&slot.account) {
                complete = false;
            }
        }
        complete
    }

    /// A new life after a lease was lost: nothing of the old one may be held on any more; running holds end there.
    pub(in crate::escrow) fn reborn(&mut self, by: Incarnation) {
        self.by = by;
        let budgets: Vec<BudgetId> = self.budgets.keys().copied().collect();
        budgets.into_iter().for_each(|budget| self.retire(budget));
        self.surplus.clear();
    }
}
