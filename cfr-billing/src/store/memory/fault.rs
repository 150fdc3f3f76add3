//! Failures on purpose, so that a test can see what the engine does when its store fails.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::store::StoreError;

/// How the store fails. Off by default.
#[derive(Debug)]
pub struct Faults {
    broken: AtomicBool,
    read_only: AtomicBool,
    commits_to_fail: AtomicU32,
    panics: AtomicBool,
    acks_to_lose: AtomicU32,
    answers_to_lose: AtomicU32,
    paused: watch::Sender<bool>,
    hung: watch::Sender<bool>,
    commits: AtomicU64,
    ops: AtomicU64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            broken: AtomicBool::default(),
            read_only: AtomicBool::default(),
            commits_to_fail: AtomicU32::default(),
            panics: AtomicBool::default(),
            acks_to_lose: AtomicU32::default(),
            answers_to_lose: AtomicU32::default(),
            paused: watch::Sender::new(false),
            hung: watch::Sender::new(false),
            commits: AtomicU64::default(),
            ops: AtomicU64::default(),
        }
    }
}

impl Faults {
    /// While broken, every call of the ledger contract fails and changes nothing.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// While read-only, commits are refused as by a database that takes no writes.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::SeqCst);
    }

    /// The next `count` commits fail and write nothing.
    pub fn fail_commits(&self, count: u32) {
        self.commits_to_fail.store(count, Ordering::SeqCst);
    }

    /// The next commit panics, as a store with a mistake in it does.
    pub fn panic_at_commit(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }

    /// The next `count` commits are written but reported as failed, as when a connection breaks before the answer.
    pub fn lose_acks(&self, count: u32) {
        self.acks_to_lose.store(count, Ordering::SeqCst);
    }

    /// The next `count` calls that register, acquire, renew or give back happen but are reported as failed.
    pub fn lose_answers(&self, count: u32) {
        self.answers_to_lose.store(count, Ordering::SeqCst);
    }

    /// While paused, commits wait.
    pub fn set_paused(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// While hung, nobody is granted rights, can give any back, or hears of an account: these calls wait.
    pub fn set_hung(&self, hung: bool) {
        self.hung.send_replace(hung);
    }

    /// Batches that were written.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Steps of holds in those batches.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.ops.load(Ordering::SeqCst)
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("broken on purpose"));
        }
        Ok(())
    }

    pub(super) async fn answers(&self) -> Result<(), StoreError> {
        let _ = self.hung.subscribe().wait_for(|hung| !hung).await; // the sender lives as long as self
        self.check()
    }

    pub(super) fn after_answer(&self) -> Result<(), StoreError> {
        if take_one(&self.answers_to_lose) {
            return Err(StoreError::unavailable("this answer is lost on purpose"));
        }
        Ok(())
    }

    pub(super) async fn before_commit(&self) -> Result<(), StoreError> {
        let _ = self.paused.subscribe().wait_for(|paused| !paused).await; // the sender lives as long as self
        self.check()?;
        if self.read_only.load(Ordering::SeqCst) {
            return Err(StoreError::unwritable("read-only on purpose"));
        }
        assert!(!self.panics.swap(false, Ordering::SeqCst), "this commit panics on purpose");
        if take_one(&self.commits_to_fail) {
            return Err(StoreError::unavailable("this commit fails on purpose"));
        }
        Ok(())
    }

    pub(super) fn after_commit(&self, ops: usize) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.ops.fetch_add(ops as u64, Ordering::SeqCst);
        if take_one(&self.acks_to_lose) {
            return Err(StoreError::unavailable("this answer is lost on purpose"));
        }
        Ok(())
    }
}

fn take_one(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}
