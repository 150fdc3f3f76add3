//! What the committer takes out of the book, and what it notes of its success.

use cfr_core::ledger::{Commit, LedgerError};

use super::Book;
use crate::escrow::outbox::{Batch, give_up};

impl Book {
    /// The next batch. `None` when there is nothing to do; the committer is then woken by the next decision.
    pub(in crate::escrow) fn next_batch(&mut self, ops_max: usize) -> Option<Batch> {
        self.committer_idle = !self.has_work();
        (!self.committer_idle).then(|| self.outbox.take(&self.by.node, ops_max))
    }

    /// Steps that wait to be written.
    pub(in crate::escrow) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the committer has to be woken.
    pub(in crate::escrow) fn wakes_committer(&mut self) -> bool {
        let wakes = self.committer_idle && self.has_work() || self.committer_rests && self.is_urgent();
        self.committer_idle &= !wakes;
        self.committer_rests &= !wakes;
        wakes
    }

    /// Whether the committer may let more steps gather: until it is woken, or told to [`Book::go_on`].
    pub(in crate::escrow) fn rests(&mut self) -> bool {
        self.committer_rests = !self.exclusive && !self.is_urgent();
        self.committer_rests
    }

    pub(in crate::escrow) const fn go_on(&mut self) {
        self.committer_rests = false;
    }

    /// Whether somebody waits for what is to be written.
    fn is_urgent(&self) -> bool {
        self.outbox.is_awaited() || !self.surplus.is_empty() || !self.late.is_empty()
    }

    fn has_work(&self) -> bool {
        self.outbox.len() > 0 || !self.surplus.is_empty() || !self.late.is_empty()
    }

    pub(in crate::escrow) fn barrier(&mut self) -> Commit {
        if self.late.is_empty() {
            return self.outbox.barrier();
        }
        let (waiter, commit) = self.outbox.promise();
        self.wait_for_late(waiter);
        commit
    }

    /// Refuses new holds: the store fails, or the node stops.
    pub(in crate::escrow) fn refuse(&mut self, reason: LedgerError) {
        self.refusing = Some(reason);
    }

    /// The owner of a store holds nothing more until it is written again. What a shared lease covers goes on being held
    /// as long as the store may be late.
    pub(in crate::escrow) fn commit_failed(&mut self, reason: LedgerError) {
        self.stats.commit_errors += 1;
        if self.exclusive {
            self.refuse(reason);
        }
    }

    /// Nobody waits for the store any more until it answers.
    pub(in crate::escrow) fn store_overdue(&mut self) {
        self.outbox.overdue();
        self.take_late_waiters().into_iter().for_each(|waiter| drop(give_up(waiter)));
    }

    /// Holds are made again, unless the node stops.
    pub(in crate::escrow) fn store_answers(&mut self, stopping: bool) {
        self.outbox.on_time();
        if !stopping {
            self.refusing = None;
        }
    }

    pub(in crate::escrow) const fn committed(&mut self, ops: usize) {
        self.stats.batches += 1;
        self.stats.ops_committed += ops as u64;
        self.stats.last_batch_ops = ops as u64;
    }
}
