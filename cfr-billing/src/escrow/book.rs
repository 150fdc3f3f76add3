//! Every decision of the engine, as plain arithmetic over this node's rights. Whoever calls holds the lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId, HoldId};
use cfr_core::ledger::{AuthorizeError, Commit, Denial, Hold, HoldRequest, LedgerError, Scope};
use cfr_core::money::Money;
use cfr_core::time::{Clock, Timestamp};
use smallvec::SmallVec;

use self::late::LateSettlement;
use self::terms::terms;
use super::id_hash::IdMap;
use super::outbox::{Outbox, Position};
use super::slot::{Slot, SlotIndex};
use super::stats::EscrowStats;
use crate::store::{Accounts, Incarnation, LeaseAsk, Op, OpenedHold};

mod late;
mod rights;
mod running;
mod terms;
mod written;

/// Ended holds and denials that are remembered, the latest ones, to answer a repeated request as before.
pub const ENDS_REMEMBERED_MAX: usize = 16_384;
/// A store that just granted less than was wished for is not asked again for this long.
const RECHECK_AFTER: Duration = Duration::from_millis(250);
/// What another node asked for stays with it for this long: what is freed goes there, and no more is taken than needed.
const WANTED_FOR: Duration = Duration::from_secs(1);
/// A period that the store says is current is current for this long, whatever this node's idea of the store's clock.
const PERIOD_EDGE: Duration = Duration::from_millis(20);
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
    /// Settlements that need more rights than there are, in the order of their decisions.
    late: VecDeque<LateSettlement>,
    /// Nodes that share the store, this one included.
    nodes: u32,
    /// Why no holds are made.
    refusing: Option<LedgerError>,
    /// Whether the committer waits to be woken.
    committer_idle: bool,
    /// Whether it lets steps gather that nobody waits for.
    committer_rests: bool,
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
            late: VecDeque::new(),
            nodes: 1,
            refusing: None,
            committer_idle: false,
            committer_rests: false,
            stats: EscrowStats::default(),
        }
    }

    pub(super) const fn incarnation(&self) -> &Incarnation {
        &self.by
    }

    pub(super) fn stats(&self) -> EscrowStats {
        let (queued_ops, active_accounts) = (self.outbox.len() as u64, self.budgets.len() as u64);
        EscrowStats { queued_ops, active_accounts, nodes: self.nodes, ..self.stats }
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
        match denied {
            Some(_) if self.local_room(&slots) < ask.amount_min.nanos() => {
                let denial = self.denial(&slots, ask.amount_min);
                Err(self.deny(ask, denial))
            }
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
            let fits = slot.usable() >= ask.amount.nanos() && ask.at < slot.end && !slot.stale;
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
        if !slot.stale && !expired && !slot.is_short(amount, amount_min, uptime) {
            return None;
        }
        let (min, need) = ((amount_min - slot.usable()).max(0), (amount - slot.usable()).max(0));
        if slot.is_hard() {
            let want = if self.exclusive || need == 0 { need } else { slot.wish(need, self.nodes, uptime) };
            return Some(self.ask(budget, min, want));
        }
        let chunk = amount.saturating_mul(UNLIMITED_CHUNK_HOLDS).max(need);
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
        let amount = ask.amount.nanos().min(self.local_room(&slots));
        if amount < ask.amount_min.nanos() {
            let denial = self.denial(&slots, ask.amount_min);
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
        let available = self.available(&slots);
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
        let (opening, committed) = self.push_inside_lease(Op::Open(Box::new(opened)));
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

    /// Appends a step that claims rights of this node. Shared rights are durable before they are spent; the owner of a
    /// store leases everything, so that only the step itself tells what is claimed.
    fn push_inside_lease(&mut self, op: Op) -> (Position, Commit) {
        if self.exclusive { self.outbox.push(op) } else { (self.outbox.push_unawaited(op), Commit::done()) }
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
                    available_after: Money::from_nanos(self.available(&slots), currency),
                    committed: if self.exclusive { self.outbox.barrier() } else { Commit::done() },
                })
            }
            Some(HoldState::Denied { denial, .. }) => Err(AuthorizeError::Denied((**denial).clone())),
            _ => Err(LedgerError::AlreadyClosed { hold }.into()),
        }
    }
}

// --- Denials -----------------------------------------------------------------------------------------------------------

impl Book {
    /// The slots by their places.
    fn on<'a>(&'a self, slots: &'a [SlotIndex]) -> impl Iterator<Item = &'a Slot> + 'a {
        slots.iter().filter_map(|&index| self.slots.get(index as usize))
    }

    /// What the tightest limit leaves of the local rights. Everything, when there is no hard limit.
    fn local_room(&self, slots: &Slots) -> i64 {
        self.on(slots).map(Slot::room).min().unwrap_or(0)
    }

    /// What a new hold might get beside the others: the local rights and, as far as is known, what the store has.
    fn available(&self, slots: &Slots) -> i64 {
        self.on(slots).map(Slot::available).min().unwrap_or(0).max(0)
    }

    /// Names the slot with the least that is available.
    fn denial(&self, slots: &Slots, asked: Money) -> Denial {
        let slot = self.on(slots).min_by_key(|slot| slot.available());
        Denial {
            budget: slot.map_or(BudgetId::from_u128(0), |slot| slot.budget),
            scope: slot.map_or(Scope::Platform, |slot| slot.scope),
            available: Money::from_nanos(slot.map_or(0, Slot::available).max(0), asked.currency()),
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

/// Shares a reason with everybody who is refused.
pub(super) fn refusal(reason: &str) -> LedgerError {
    LedgerError::Unavailable { reason: Arc::from(reason) }
}
