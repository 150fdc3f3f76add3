//! Every decision of the engine, as plain arithmetic over this node's rights. Whoever calls holds the lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId, HoldId};
use cfr_core::ledger::{
    AuthorizeError, Commit, Denial, Hold, HoldRequest, LedgerError, PATH_BUDGETS_MAX, ReleaseReason, Settled,
    Settlement,
};
use cfr_core::money::{Currency, Money};
use cfr_core::time::{Clock, Timestamp};
use smallvec::SmallVec;

use super::id_hash::{IdMap, SPREAD, halves};
use super::outbox::{Batch, Outbox, Position};
use super::slot::{Slot, SlotIndex};
use super::stats::EscrowStats;
use crate::store::{Accounts, Incarnation, LeaseAsk, LeaseGrant, Op, OpenedHold, SettledHold};

/// Ended holds and denials that are remembered, the latest ones, to answer a repeated request as before.
pub const ENDS_REMEMBERED_MAX: usize = 16_384;
/// A store that just granted less than was wished for is not asked again for this long.
const RECHECK_AFTER: Duration = Duration::from_millis(250);
/// Refills that follow each other within this time make the next wish larger.
const REFILL_SOON: Duration = Duration::from_secs(2);
/// The wish for rights grows to at most this power of two of what is needed.
const EAGERNESS_MAX: u8 = 6;
/// A budget without a hard limit is granted this many holds at a time beyond its limit.
const UNLIMITED_CHUNK_HOLDS: i64 = 1_000;

/// Budgets to ask the store for.
pub(super) type Asks = SmallVec<[LeaseAsk; 6]>;
/// The slots that a hold lies on.
type Slots = SmallVec<[SlotIndex; 6]>;

/// What came of a look at the local rights.
#[derive(Debug)]
pub(super) enum Decision<T> {
    /// It is decided.
    Done(Result<T, AuthorizeError>),
    /// The store may have more.
    Short(Asks),
}

/// The state of the engine.
#[derive(Debug)]
pub(super) struct Book {
    by: Incarnation,
    /// Whether this node owns the store: leases are everything there is, and last.
    exclusive: bool,
    outbox_ops_max: usize,
    budgets: IdMap<BudgetId, SlotIndex>,
    slots: Vec<Slot>,
    vacant: Vec<SlotIndex>,
    holds: IdMap<HoldId, HoldState>,
    /// Holds that are not open, the oldest first: the order in which they are forgotten.
    ended: VecDeque<HoldId>,
    outbox: Outbox,
    /// Rights on accounts of past periods, to be given back.
    surplus: Vec<(AccountId, i64)>,
    /// Why no holds are made.
    refusing: Option<LedgerError>,
    /// Whether the committer waits to be woken.
    committer_idle: bool,
    stats: EscrowStats,
}

#[derive(Debug)]
enum HoldState {
    Open(OpenHold),
    Denied { terms: u64, denial: Box<Denial> },
    Ended { terms: u64 },
}

#[derive(Debug)]
struct OpenHold {
    slots: Slots,
    /// What every slot holds now.
    amount: i64,
    /// What the request was answered with.
    answered: i64,
    epoch: i64,
    /// A digest of the request.
    terms: u64,
    raises: u32,
    /// Where its opening is queued; none when more was queued about it, so that its end cannot take that place.
    opening: Option<Position>,
}

impl Book {
    pub(super) fn new(by: Incarnation, exclusive: bool, outbox_ops_max: usize) -> Self {
        Self {
            by,
            exclusive,
            outbox_ops_max,
            budgets: IdMap::default(),
            slots: Vec::new(),
            vacant: Vec::new(),
            holds: IdMap::default(),
            ended: VecDeque::new(),
            outbox: Outbox::default(),
            surplus: Vec::new(),
            refusing: None,
            committer_idle: false,
            stats: EscrowStats::default(),
        }
    }

    pub(super) const fn incarnation(&self) -> &Incarnation {
        &self.by
    }

    pub(super) fn stats(&self) -> EscrowStats {
        EscrowStats { queued_ops: self.outbox.len() as u64, active_accounts: self.budgets.len() as u64, ..self.stats }
    }
}

// --- Authorize ---------------------------------------------------------------------------------------------------------

impl Book {
    /// Decides from the local rights, or says what to ask the store for. The clock is read only when leases end, or when
    /// the local rights do not suffice.
    pub(super) fn authorize(&mut self, ask: &HoldRequest, clock: &dyn Clock) -> Decision<Hold> {
        if let Some(answer) = self.before_looking(ask) {
            return Decision::Done(answer);
        }
        match self.usable_slots(ask, clock) {
            Some(slots) => self.decide(ask, slots),
            None => self.look_closer(ask, clock.uptime()),
        }
    }

    /// Decides from the local rights without asking again: the store was asked. `denied` is what it said.
    pub(super) fn authorize_finally(
        &mut self,
        ask: &HoldRequest,
        denied: Option<Denial>,
    ) -> Result<Hold, AuthorizeError> {
        if let Some(answer) = self.before_looking(ask) {
            return answer;
        }
        let slots: Option<Slots> = ask.path.iter().map(|budget| self.current_slot(*budget, ask.at)).collect();
        let Some(slots) = slots else {
            let Some(denial) = denied else {
                return Err(LedgerError::unavailable("budgets change faster than they can be read").into());
            };
            return Err(self.deny(ask, denial));
        };
        let local = self.local_room(&slots);
        match denied {
            Some(denial) if local.0 < ask.amount_min.nanos() => Err(self.deny(ask, self.with_local(denial))),
            _ => match self.decide(ask, slots) {
                Decision::Done(answer) => answer,
                Decision::Short(_) => {
                    Err(LedgerError::unavailable("budgets change faster than they can be read").into())
                }
            },
        }
    }

    /// The answer to a repeated request, and the reasons why none is looked at.
    fn before_looking(&mut self, ask: &HoldRequest) -> Option<Result<Hold, AuthorizeError>> {
        if self.holds.contains_key(&ask.id) {
            return Some(self.answer_again(ask));
        }
        if let Some(reason) = &self.refusing {
            return Some(Err(reason.clone().into()));
        }
        if self.outbox.len() >= self.outbox_ops_max {
            return Some(Err(LedgerError::unavailable("too many decisions wait to be written").into()));
        }
        None
    }

    /// The slots of the path, when all of them can serve the whole amount.
    fn usable_slots(&self, ask: &HoldRequest, clock: &dyn Clock) -> Option<Slots> {
        let uptime = if self.exclusive { Duration::ZERO } else { clock.uptime() };
        let usable = |budget: &BudgetId| {
            let index = *self.budgets.get(budget)?;
            let slot = self.slots.get(index as usize)?;
            let fits = slot.free() >= ask.amount.nanos() && ask.at < slot.end && !slot.stale;
            (fits && (self.exclusive || uptime < slot.deadline)).then_some(index)
        };
        ask.path.iter().map(usable).collect()
    }

    /// Some slot cannot serve the whole amount: asks the store, unless it said a moment ago that it has no more.
    fn look_closer(&mut self, ask: &HoldRequest, uptime: Duration) -> Decision<Hold> {
        let mut asks = Asks::new();
        let mut slots = Slots::new();
        for &budget in ask.path.iter() {
            let index = self.current_slot(budget, ask.at);
            let slot = index.and_then(|index| self.slots.get(index as usize));
            asks.extend(self.missing(budget, slot, ask.amount.nanos(), ask.amount_min.nanos(), uptime));
            slots.extend(index);
        }
        if asks.is_empty() { self.decide(ask, slots) } else { Decision::Short(asks) }
    }

    /// What to ask the store for, if anything, so that the slot can serve `amount`, or at least `amount_min`.
    fn missing(
        &self,
        budget: BudgetId,
        slot: Option<&Slot>,
        amount: i64,
        amount_min: i64,
        uptime: Duration,
    ) -> Option<LeaseAsk> {
        let Some(slot) = slot else { return Some(self.ask(budget, amount_min, amount)) };
        let expired = !self.exclusive && uptime >= slot.deadline;
        let short = slot.free() < amount && (!slot.is_hard() || uptime >= slot.dry_until);
        if !slot.stale && !expired && !short {
            return None;
        }
        let (min, want) = ((amount_min - slot.free()).max(0), (amount - slot.free()).max(0));
        if slot.is_hard() {
            return Some(self.ask(budget, min, want.saturating_mul(1 << slot.eagerness)));
        }
        let chunk = amount.saturating_mul(UNLIMITED_CHUNK_HOLDS).max(want);
        Some(LeaseAsk { budget, min: chunk, want: chunk })
    }

    /// The owner of a store takes whatever there is and decides alone; sharers ask for what they need.
    const fn ask(&self, budget: BudgetId, min: i64, want: i64) -> LeaseAsk {
        if self.exclusive { LeaseAsk { budget, min: 0, want: i64::MAX } } else { LeaseAsk { budget, min, want } }
    }

    fn current_slot(&self, budget: BudgetId, at: Timestamp) -> Option<SlotIndex> {
        let index = *self.budgets.get(&budget)?;
        self.slots.get(index as usize).is_some_and(|slot| at < slot.end).then_some(index)
    }

    fn decide(&mut self, ask: &HoldRequest, slots: Slots) -> Decision<Hold> {
        let currency = ask.amount.currency();
        if self.on(&slots).any(|slot| slot.currency != currency) {
            return Decision::Done(Err(LedgerError::Malformed {
                reason: "a path has one currency, and the amount is in it",
            }
            .into()));
        }
        let (room, tightest) = self.local_room(&slots);
        let amount = ask.amount.nanos().min(room);
        if amount < ask.amount_min.nanos() {
            let denial = self.denial(tightest, ask.amount_min);
            return Decision::Done(Err(self.deny(ask, denial)));
        }
        // Where there is no hard limit the local rights may not suffice even so.
        let chunks = self.chunks(&slots, amount);
        if chunks.is_empty() { Decision::Done(Ok(self.hold(ask, slots, amount))) } else { Decision::Short(chunks) }
    }

    fn chunks(&self, slots: &Slots, amount: i64) -> Asks {
        let short = self.on(slots).filter(|slot| slot.free() < amount);
        short.filter_map(|slot| self.missing(slot.budget, Some(slot), amount, amount, Duration::MAX)).collect()
    }

    fn hold(&mut self, ask: &HoldRequest, slots: Slots, amount: i64) -> Hold {
        let mut accounts = Accounts::new();
        for &index in &slots {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.claim(amount);
                accounts.push(slot.account);
            }
        }
        let available = self.local_room(&slots).0;
        let epoch = self.by.epoch;
        let opened = OpenedHold {
            id: ask.id,
            epoch,
            accounts,
            amount,
            caller: ask.caller,
            model: ask.model.clone(),
            at: ask.at,
        };
        let (opening, committed) = self.outbox.push(Op::Open(Box::new(opened)));
        let open =
            OpenHold { slots, amount, answered: amount, epoch, terms: terms(ask), raises: 0, opening: Some(opening) };
        self.holds.insert(ask.id, HoldState::Open(open));
        self.stats.open_holds += 1;
        self.stats.holds += 1;
        let currency = ask.amount.currency();
        Hold {
            id: ask.id,
            amount: Money::from_nanos(amount, currency),
            available_after: Money::from_nanos(available, currency),
            committed,
        }
    }

    /// The same answer as before: the id is the idempotency key.
    fn answer_again(&mut self, ask: &HoldRequest) -> Result<Hold, AuthorizeError> {
        let hold = ask.id;
        let Some(
            HoldState::Open(OpenHold { terms: before, .. })
            | HoldState::Denied { terms: before, .. }
            | HoldState::Ended { terms: before },
        ) = self.holds.get(&hold)
        else {
            return Err(LedgerError::UnknownHold { hold }.into());
        };
        if *before != terms(ask) {
            return Err(LedgerError::IdReused { hold }.into());
        }
        match self.holds.get_mut(&hold) {
            Some(HoldState::Open(open)) => {
                open.opening = None; // somebody else waits for it from now on
                let (slots, answered) = (open.slots.clone(), open.answered);
                let currency = ask.amount.currency();
                Ok(Hold {
                    id: hold,
                    amount: Money::from_nanos(answered, currency),
                    available_after: Money::from_nanos(self.local_room(&slots).0, currency),
                    committed: self.outbox.barrier(),
                })
            }
            Some(HoldState::Denied { denial, .. }) => Err(AuthorizeError::Denied((**denial).clone())),
            _ => Err(LedgerError::AlreadyClosed { hold }.into()),
        }
    }
}

// --- Denials -----------------------------------------------------------------------------------------------------------

impl Book {
    /// What the tightest limit leaves, and where. Everything, when there is no hard limit.
    fn local_room(&self, slots: &Slots) -> (i64, SlotIndex) {
        let rooms = slots.iter().filter_map(|&index| Some((self.slots.get(index as usize)?.room(), index)));
        rooms.min_by_key(|(room, _)| *room).unwrap_or((0, SlotIndex::MAX))
    }

    fn denial(&self, tightest: SlotIndex, asked: Money) -> Denial {
        let slot = self.slots.get(tightest as usize);
        Denial {
            budget: slot.map_or(BudgetId::from_u128(0), |slot| slot.budget),
            scope: slot.map_or(cfr_core::ledger::Scope::Platform, |slot| slot.scope),
            available: Money::from_nanos(slot.map_or(0, Slot::free).max(0), asked.currency()),
            asked,
            period_end: slot.map(|slot| slot.end).filter(|end| *end != Timestamp::MAX),
        }
    }

    /// The store counts what it has; this node's own idle rights are available, too.
    fn with_local(&self, denial: Denial) -> Denial {
        let slot = self.budgets.get(&denial.budget).and_then(|index| self.slots.get(*index as usize));
        let nanos = denial.available.nanos().saturating_add(slot.map_or(0, Slot::free)).max(0);
        Denial { available: Money::from_nanos(nanos, denial.available.currency()), ..denial }
    }

    fn deny(&mut self, ask: &HoldRequest, denial: Denial) -> AuthorizeError {
        self.stats.denials += 1;
        let state = HoldState::Denied { terms: terms(ask), denial: Box::new(denial.clone()) };
        self.holds.insert(ask.id, state);
        self.remember(ask.id);
        AuthorizeError::Denied(denial)
    }

    /// Bounds what is remembered.
    fn remember(&mut self, hold: HoldId) {
        self.ended.push_back(hold);
        if self.ended.len() > ENDS_REMEMBERED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.holds.remove(&oldest);
        }
    }
}

// --- Running holds -----------------------------------------------------------------------------------------------------

impl Book {
    pub(super) fn extend(&mut self, hold: HoldId, step: u32, amount: Money, uptime: Duration) -> Decision<Commit> {
        match self.check_extend(hold, step, amount) {
            Ok(true) => self.extend_from_local(hold, step, amount, uptime),
            Ok(false) => Decision::Done(Ok(self.outbox.barrier())),
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
        let (room, tightest) = self.local_room(&slots);
        if room < raise {
            return Decision::Done(Err(AuthorizeError::Denied(self.denial(tightest, amount))));
        }
        Decision::Done(self.raise(hold, step, raise, &slots).map_err(AuthorizeError::from))
    }

    /// The last word on an extension after the store denied more.
    pub(super) fn extend_finally(&self, amount: Money, denied: Option<Denial>) -> AuthorizeError {
        denied.map_or_else(
            || LedgerError::unavailable("budgets change faster than they can be read").into(),
            |denial| AuthorizeError::Denied(Denial { asked: amount, ..self.with_local(denial) }),
        )
    }

    fn raise(&mut self, hold: HoldId, step: u32, raise: i64, slots: &Slots) -> Result<Commit, LedgerError> {
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
        Ok(self.outbox.push(Op::Extend { hold, amount }).1)
    }

    pub(super) fn checkpoint(&mut self, hold: HoldId, so_far: Settlement) -> Result<(), LedgerError> {
        self.check_price(hold, &so_far)?;
        let open = self.open_mut(hold)?;
        open.opening = None;
        let charged = so_far.charge.price.nanos().min(open.amount);
        let mut record = so_far.record;
        (record.charged_nanos, record.overrun_nanos) = (charged, so_far.charge.price.nanos() - charged);
        self.outbox.push_unawaited(Op::Checkpoint { hold, charged, record });
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        hold: HoldId,
        settlement: Settlement,
        clock: &dyn Clock,
    ) -> Result<Settled, LedgerError> {
        self.check_price(hold, &settlement)?;
        let open = self.close(hold)?;
        let price = settlement.charge.price;
        let extra = if price.nanos() > open.amount { self.extra_room(&open, clock.uptime()) } else { 0 };
        let charged = price.nanos().min(open.amount.saturating_add(extra));
        let accounts = self.end_claims(&open, charged);
        let overrun = price.nanos() - charged;
        self.count_settlement(overrun);
        let mut record = settlement.record;
        (record.charged_nanos, record.overrun_nanos) = (charged, overrun);
        let settled = SettledHold { id: hold, epoch: open.epoch, accounts, charged, record };
        let committed = self.push_end(&open, Op::Settle(Box::new(settled)), true);
        let money = |nanos| Money::from_nanos(nanos, price.currency());
        let available = money(self.local_room(&open.slots).0.max(0));
        self.vacate(&open.slots);
        Ok(Settled { charged: money(charged), overrun: money(overrun), available, committed })
    }

    pub(super) fn release(&mut self, hold: HoldId, reason: ReleaseReason) -> Result<Commit, LedgerError> {
        let open = self.close(hold)?;
        self.end_claims(&open, 0);
        self.stats.releases += 1;
        let committed = self.push_end(&open, Op::Release { hold, reason }, false);
        self.vacate(&open.slots);
        Ok(committed)
    }

    /// What a charge may take beyond its hold: only what is free on every account of the path, under a living lease.
    fn extra_room(&self, open: &OpenHold, uptime: Duration) -> i64 {
        let alive = |slot: &Slot| slot.epoch == self.by.epoch && (self.exclusive || uptime < slot.deadline);
        if self.on(&open.slots).all(alive) { self.local_room(&open.slots).0.max(0) } else { 0 }
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

    /// The rights on a past period stay with its running holds. With the last of them they are given back, and the slot
    /// is used again.
    fn vacate(&mut self, slots: &Slots) {
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

    fn on<'a>(&'a self, slots: &'a [SlotIndex]) -> impl Iterator<Item = &'a Slot> + 'a {
        slots.iter().filter_map(|&index| self.slots.get(index as usize))
    }
}

// --- Leases ------------------------------------------------------------------------------------------------------------

impl Book {
    /// Takes rights in that the store granted to `by`. Rights of an earlier life are not ours any more.
    pub(super) fn refill(
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
    pub(super) fn retire_ended(
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

    pub(super) fn take_surplus(&mut self) -> Vec<(AccountId, i64)> {
        std::mem::take(&mut self.surplus)
    }

    /// Gives up what is free on a budget. Its next hold asks the store, for rights and terms alike.
    pub(super) fn recall(&mut self, budget: BudgetId) -> Option<(AccountId, i64)> {
        let index = *self.budgets.get(&budget)?;
        let slot = self.slots.get_mut(index as usize)?;
        (slot.stale, slot.dry_until) = (true, Duration::ZERO);
        let (account, free) = (slot.account, slot.take_free());
        (free > 0).then_some((account, free))
    }

    /// What the owner of a store asks for after a recall, when the budget is in use.
    pub(super) fn ask_again(&self, budget: BudgetId) -> Option<Asks> {
        let in_use = self.exclusive && self.budgets.contains_key(&budget);
        in_use.then(|| Asks::from_slice(&[self.ask(budget, 0, 0)]))
    }

    /// What of `leased` is held: nodes that share the store may hold all of theirs, of our own rights we know.
    pub(super) fn held_of(&self, budget: BudgetId, account: AccountId, leased: i64) -> i64 {
        let slot = self.budgets.get(&budget).and_then(|index| self.slots.get(*index as usize));
        let (free, held) = slot.filter(|slot| slot.account == account).map_or((0, 0), |slot| (slot.free(), slot.held));
        leased.saturating_sub(free).max(held)
    }

    /// Budgets that nobody used since the last call.
    pub(super) fn idle_budgets(&mut self) -> Vec<BudgetId> {
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
    pub(super) fn drop_idle(&mut self, budget: BudgetId) -> Option<(AccountId, i64)> {
        let index = *self.budgets.get(&budget)?;
        let slot = self.slots.get_mut(index as usize).filter(|slot| slot.claims == 0 && !slot.touched)?;
        let rights = (slot.account, slot.take_free());
        self.retire(budget);
        Some(rights).filter(|(_, free)| *free > 0)
    }

    /// Everything that is free, when the node stops.
    pub(super) fn take_all_free(&mut self) -> Vec<(AccountId, i64)> {
        let epoch = self.by.epoch;
        let mut rights = self.take_surplus();
        let living = self.slots.iter_mut().filter(|slot| slot.epoch == epoch && slot.free() > 0);
        rights.extend(living.map(|slot| (slot.account, slot.take_free())));
        rights
    }

    /// Accounts on which this node has a lease.
    pub(super) fn leased_accounts(&self) -> Vec<AccountId> {
        self.budgets
            .values()
            .filter_map(|&index| self.slots.get(index as usize))
            .filter(|slot| slot.lease > 0)
            .map(|slot| slot.account)
            .collect()
    }

    /// Prolongs the leases that the store confirmed. False when one of `known` is lost.
    pub(super) fn renewed(
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
    pub(super) fn reborn(&mut self, by: Incarnation) {
        self.by = by;
        let budgets: Vec<BudgetId> = self.budgets.keys().copied().collect();
        budgets.into_iter().for_each(|budget| self.retire(budget));
        self.surplus.clear();
    }
}

// --- The committer's side ----------------------------------------------------------------------------------------------

impl Book {
    /// The next batch. `None` when there is nothing to do; the committer is then woken by the next decision.
    pub(super) fn next_batch(&mut self, ops_max: usize) -> Option<(Batch, Vec<(AccountId, i64)>)> {
        self.committer_idle = self.outbox.len() == 0 && self.surplus.is_empty();
        (!self.committer_idle).then(|| (self.outbox.take(ops_max), self.take_surplus()))
    }

    /// Whether the committer has to be woken.
    pub(super) fn wakes_committer(&mut self) -> bool {
        let wakes = self.committer_idle && (self.outbox.len() > 0 || !self.surplus.is_empty());
        self.committer_idle &= !wakes;
        wakes
    }

    pub(super) fn barrier(&mut self) -> Commit {
        self.outbox.barrier()
    }

    /// Refuses new holds: the store fails, or the node stops.
    pub(super) fn refuse(&mut self, reason: LedgerError) {
        self.refusing = Some(reason);
    }

    pub(super) fn commit_failed(&mut self, reason: LedgerError) {
        self.stats.commit_errors += 1;
        self.refuse(reason);
    }

    /// Nobody waits for the store any more until it answers.
    pub(super) fn store_overdue(&mut self) {
        self.outbox.overdue();
    }

    pub(super) fn committed(&mut self, ops: usize, stopping: bool) {
        self.outbox.on_time();
        if !stopping {
            self.refusing = None;
        }
        self.stats.batches += 1;
        self.stats.ops_committed += ops as u64;
        self.stats.last_batch_ops = ops as u64;
    }
}

/// A digest of what a request asks for: the same id with another digest is a mistake of the caller.
fn terms(ask: &HoldRequest) -> u64 {
    let mut digest = Digest(0);
    ask.path.iter().for_each(|budget| digest.id(budget.as_u128()));
    digest.word(ask.amount.nanos().cast_unsigned());
    digest.word(ask.amount_min.nanos().cast_unsigned());
    digest.currency(ask.amount.currency());
    digest.id(ask.caller.tenant.as_u128());
    for part in ask.model.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        digest.word(u64::from_le_bytes(word));
    }
    digest.0
}

struct Digest(u64);

impl Digest {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(SPREAD).rotate_left(23);
    }

    fn id(&mut self, id: u128) {
        halves(id).into_iter().for_each(|half| self.word(half));
    }

    fn currency(&mut self, currency: Currency) {
        currency.code().bytes().for_each(|byte| self.word(u64::from(byte)));
    }
}

/// Paths are bounded, so that every decision is.
const _: () = assert!(PATH_BUDGETS_MAX <= 64);

/// Shares a reason with everybody who is refused.
pub(super) fn refusal(reason: &str) -> LedgerError {
    LedgerError::Unavailable { reason: Arc::from(reason) }
}
