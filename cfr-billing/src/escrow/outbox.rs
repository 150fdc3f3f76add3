//! What was decided and is not yet durable, in the order of the decisions.

use std::collections::VecDeque;
use std::sync::Arc;

use cfr_core::ledger::{Commit, LedgerError};
use tokio::sync::oneshot;

use crate::store::Op;

/// Told when the decision is durable, or that nobody knows.
pub(super) type Waiter = oneshot::Sender<Result<(), LedgerError>>;

/// The position of an entry, counted from the first one ever.
pub(super) type Position = u64;

/// Decisions that wait for the committer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Entry>,
    /// The position of the queue's first entry.
    first: Position,
    /// Whether somebody waits for an entry, or did for one that was queued with these.
    awaited: bool,
    /// Whether the store is so late that nobody should wait for it any more.
    overdue: bool,
}

/// One step to write, or only somebody who waits until everything before is written.
#[derive(Debug)]
struct Entry {
    op: Option<Op>,
    waiter: Option<Waiter>,
    /// Waited for the opening of a hold whose end took its place.
    opener: Option<Waiter>,
}

/// The epoch of holds whose leases are out of reach: those of a life under another name. No life has it, so they are
/// charged to what the accounts have left.
pub(super) const NO_EPOCH: i64 = 0;

/// The hold ends as one without a lease.
pub(super) fn disown(op: &mut Op) {
    match op {
        Op::Open(opened) => opened.epoch = NO_EPOCH,
        Op::Settle(settled) => settled.epoch = NO_EPOCH,
        Op::Extend { .. } | Op::Checkpoint { .. } | Op::Release { .. } => {}
    }
}

/// What is written in one transaction, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The node under whose leases it was decided.
    pub(super) node: Arc<str>,
    pub(super) ops: Vec<Op>,
    pub(super) waiters: Vec<Waiter>,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Appends a step; the commit resolves when it and everything before it is written.
    pub(super) fn push(&mut self, op: Op) -> (Position, Commit) {
        self.append(Some(op), None)
    }

    /// Resolves when everything before it is written.
    pub(super) fn barrier(&mut self) -> Commit {
        if self.overdue {
            let (sender, commit) = Commit::pending();
            give_up(sender);
            return commit;
        }
        self.append(None, None).1
    }

    /// Appends a step that nobody waits for.
    pub(super) fn push_unawaited(&mut self, op: Op) -> Position {
        self.queue.push_back(Entry { op: Some(op), waiter: None, opener: None });
        self.first + self.queue.len() as u64 - 1
    }

    /// Somebody to be told later, unless nobody should wait now.
    pub(super) fn promise(&self) -> (Option<Waiter>, Commit) {
        let (sender, commit) = Commit::pending();
        (if self.overdue { give_up(sender) } else { Some(sender) }, commit)
    }

    /// Tells the waiter when everything before is written.
    pub(super) fn tell(&mut self, waiter: Waiter) {
        self.awaited = true;
        self.queue.push_back(Entry { op: None, waiter: Some(waiter), opener: None });
    }

    /// Appends the end of a hold. When its opening is still in the queue the end takes its place: nothing is written of
    /// the opening, and whoever waits for it waits for the end instead. `None` leaves only the waiting.
    pub(super) fn push_end(&mut self, opened: Position, end: Op, end_tells_all: bool) -> Commit {
        let Some(opening) =
            opened.checked_sub(self.first).and_then(|index| self.queue.get_mut(usize::try_from(index).ok()?))
        else {
            return self.push(end).1;
        };
        opening.op = None;
        let opener = opening.waiter.take();
        self.append(end_tells_all.then_some(end), opener).1
    }

    fn append(&mut self, op: Option<Op>, opener: Option<Waiter>) -> (Position, Commit) {
        let (waiter, commit) = self.promise();
        self.awaited = true;
        let position = self.first + self.queue.len() as u64;
        self.queue.push_back(Entry { op, waiter, opener });
        (position, commit)
    }

    /// Takes the oldest entries of `node`, at most `ops_max`.
    pub(super) fn take(&mut self, node: &Arc<str>, ops_max: usize) -> Batch {
        let count = self.queue.len().min(ops_max);
        let node = node.clone();
        let mut batch = Batch { node, ops: Vec::with_capacity(count), waiters: Vec::with_capacity(count) };
        for entry in self.queue.drain(..count) {
            batch.ops.extend(entry.op);
            batch.waiters.extend(entry.waiter);
            batch.waiters.extend(entry.opener);
        }
        self.first += count as u64;
        self.awaited &= !self.queue.is_empty();
        batch
    }

    /// The steps of the last life end as those of holds without a lease.
    pub(super) fn disown(&mut self) {
        self.queue.iter_mut().filter_map(|entry| entry.op.as_mut()).for_each(disown);
    }

    /// Tells everybody who waits, now and until [`Outbox::on_time`], that the store does not answer. The steps stay.
    pub(super) fn overdue(&mut self) {
        self.overdue = true;
        for entry in &mut self.queue {
            entry.waiter.take().and_then(give_up);
            entry.opener.take().and_then(give_up);
        }
    }

    pub(super) const fn on_time(&mut self) {
        self.overdue = false;
    }
}

/// Tells a waiter that the store does not answer.
pub(super) fn give_up(waiter: Waiter) -> Option<Waiter> {
    let _ = waiter.send(Err(LedgerError::unavailable("the store does not answer in time"))); // who left needs no answer
    None
}
