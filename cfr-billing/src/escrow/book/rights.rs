//! What this node may spend: taken in, given up, prolonged, lost.

use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::{Clock, Timestamp};

use super::late::LateSettlement;
use super::{Asks, Book, HoldState, PERIOD_EDGE, RECHECK_AFTER, Slots, WANTED_FOR};
use crate::escrow::outbox::NO_EPOCH;
use crate::escrow::slot::{Slot, SlotIndex};
use crate::store::{Incarnation, LeaseAsk, LeaseGrant, Renewal};

impl Book {
    /// Takes rights in that the store granted to `by`. Rights of an earlier life are not ours any more.
    pub(in crate::escrow) fn refill(
        &mut self,
        by: &Incarnation,
        asks: &[LeaseAsk],
        grants: &[LeaseGrant],
        deadline: Duration,
        uptime: Duration,
        now: Timestamp,
    ) {
        if *by != self.by {
            return;
        }
        for (ask, grant) in asks.iter().zip(grants) {
            let index = self.slot_for(grant);
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            slot.refill(grant, deadline, uptime);
            if slot.end <= now {
                slot.end = now.checked_add(PERIOD_EDGE).unwrap_or(Timestamp::MAX); // the store knows better
            }
            slot.dry_until = if grant.granted >= ask.want { uptime } else { uptime + RECHECK_AFTER };
            if self.exclusive {
                slot.exhausted_until = slot.dry_until; // nobody else has any
            } else if grant.granted > 0 {
                slot.exhausted_until = Duration::ZERO;
            }
        }
    }

    /// Neither the store nor another node had enough: that is so for a moment.
    pub(in crate::escrow) fn exhausted(&mut self, budget: BudgetId, uptime: Duration) {
        let Some(slot) = self.budgets.get(&budget).and_then(|index| self.slots.get_mut(*index as usize)) else {
            return;
        };
        slot.dry_until = uptime + RECHECK_AFTER;
        slot.exhausted_until = slot.dry_until;
    }

    /// Gives up what is free where another node asked for it a moment ago. Slots of earlier lives are not current any more
    /// ([`reborn`](Self::reborn)): what they free is not ours to give.
    pub(super) fn pass_on(&mut self, slots: &Slots, clock: &dyn Clock) {
        if self.on(slots).all(|slot| slot.wanted_until.is_zero()) {
            return;
        }
        let uptime = clock.uptime();
        for &index in slots {
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            if slot.current && uptime < slot.wanted_until && slot.free() > 0 {
                self.surplus.push((slot.account, slot.take_free()));
            }
        }
    }

    /// Gives up what is free on a budget for another node that asked, and what becomes free in the next moment.
    pub(in crate::escrow) fn lend(&mut self, budget: BudgetId, uptime: Duration) -> Option<(AccountId, i64)> {
        let index = *self.budgets.get(&budget)?;
        let slot = self.slots.get_mut(index as usize)?;
        slot.wanted_until = uptime + WANTED_FOR;
        let rights = (slot.account, slot.take_free());
        self.stats.lent += u64::from(rights.1 > 0);
        Some(rights).filter(|(_, free)| *free > 0)
    }

    /// Whether a late settlement was promised some of what these ask for.
    pub(in crate::escrow) fn has_promised(&self, asks: &[LeaseAsk]) -> bool {
        let slots = asks.iter().filter_map(|ask| self.slots.get(*self.budgets.get(&ask.budget)? as usize));
        slots.into_iter().any(|slot| slot.promised > 0)
    }

    /// Notes a question to the store.
    pub(in crate::escrow) fn begin_asking(&mut self, asks: &[LeaseAsk]) {
        for ask in asks {
            if let Some(slot) = self.budgets.get(&ask.budget).and_then(|index| self.slots.get_mut(*index as usize)) {
                slot.asking += 1;
            }
        }
        self.stats.acquires += 1;
    }

    pub(in crate::escrow) const fn count_conversation(&mut self) {
        self.stats.conversations += 1;
    }

    /// The store answered, or failed to.
    pub(in crate::escrow) fn end_asking(&mut self, asks: &[LeaseAsk]) {
        for ask in asks {
            if let Some(slot) = self.budgets.get(&ask.budget).and_then(|index| self.slots.get_mut(*index as usize)) {
                slot.asking = slot.asking.saturating_sub(1);
            }
        }
    }

    pub(in crate::escrow) const fn count_recall(&mut self) {
        self.stats.recalls += 1;
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

    /// What to ask for after a recall, when the budget is in use: the owner of a store takes its rights again, others only
    /// read the new terms.
    pub(in crate::escrow) fn ask_again(&self, budget: BudgetId) -> Option<Asks> {
        self.budgets.contains_key(&budget).then(|| Asks::from_slice(&[self.ask(budget, 0, 0)]))
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
        renewal: &Renewal,
        deadline: Duration,
    ) -> bool {
        if *by != self.by {
            return true;
        }
        self.nodes = renewal.nodes;
        let alive = &renewal.accounts;
        let mut complete = true;
        for slot in self.slots.iter_mut().filter(|slot| slot.epoch == by.epoch) {
            if alive.binary_search(&slot.account).is_ok() {
                slot.deadline = slot.deadline.max(deadline);
            } else if slot.current && slot.lease > 0 && known.contains(&slot.account) {
                complete = false;
            }
        }
        complete
    }

    /// Those of these accounts on which this life has no rights, no claims, and nothing on its way back.
    pub(in crate::escrow) fn without_rights(&self, mut accounts: Vec<AccountId>) -> Vec<AccountId> {
        let living =
            self.slots.iter().filter(|slot| slot.epoch == self.by.epoch && (slot.lease > 0 || slot.claims > 0));
        let mut busy: Vec<AccountId> = living.map(|slot| slot.account).collect();
        busy.extend(self.surplus.iter().map(|(account, _)| *account));
        busy.sort_unstable();
        accounts.retain(|account| busy.binary_search(account).is_err());
        accounts
    }

    /// A new life after a lease was lost: nothing of the old one may be held on any more; running holds end there. Under
    /// another name the old leases are out of reach, so they end as if they had none.
    pub(in crate::escrow) fn reborn(&mut self, by: Incarnation) {
        if by.node != self.by.node {
            self.disown();
        }
        self.by = by;
        let budgets: Vec<BudgetId> = self.budgets.keys().copied().collect();
        budgets.into_iter().for_each(|budget| self.retire(budget));
        self.surplus.clear();
    }

    fn disown(&mut self) {
        let open = self.holds.values_mut().filter_map(|state| match state {
            HoldState::Open(open) => Some(open),
            _ => None,
        });
        open.chain(self.late.iter_mut().map(LateSettlement::open)).for_each(|open| open.epoch = NO_EPOCH);
        self.slots.iter_mut().for_each(|slot| slot.epoch = NO_EPOCH);
        self.outbox.disown();
    }
}
