//! The one task that writes decisions down, batch by batch.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use cfr_core::ledger::LedgerError;
use cfr_core::time::Clock;
use tokio::sync::Notify;

use super::book::{Asks, Book};
use super::engine::Engine;
use super::lives;
use super::outbox::{Batch, Waiter, disown, give_up};
use crate::store::{AcquireError, Incarnation, Op, StoreError};

/// The first pause after a failed commit; it doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(10);
/// The longest pause between two attempts to commit.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long steps that nobody waits for may gather.
const JOURNAL_DELAY: Duration = Duration::from_millis(20);

/// Turns of the scheduler that one batch waits for more, at most.
const GATHER_TURNS_MAX: u32 = 32;

/// Writes batches until the engine is told to stop and everything is written.
pub(super) async fn run(engine: Arc<Engine>) {
    while let Some(batch) = next(&engine).await {
        write(&engine, batch).await;
        let surplus = engine.take(Book::take_surplus);
        let give_back = async { caught(engine.give_back(surplus)).await.unwrap_or_default() };
        patiently(&engine, &mut Vec::new(), &Notify::new(), give_back).await;
    }
}

async fn next(engine: &Engine) -> Option<Batch> {
    loop {
        gather(engine).await;
        settle_late(engine).await;
        if let Some(batch) = engine.book().next_batch(engine.config.batch_ops_max) {
            return Some(batch);
        }
        if engine.stopping.load(Ordering::SeqCst) {
            return None;
        }
        engine.work.notified().await;
        rest(engine).await;
        if !engine.config.flush_delay.is_zero() {
            tokio::time::sleep(engine.config.flush_delay).await;
        }
    }
}

/// What a shared lease covers is journaled as evidence only. Nobody waits for it, so it may gather: the store has less to
/// do, and of a hold that ends meanwhile nothing but its end.
async fn rest(engine: &Engine) {
    if engine.stopping.load(Ordering::SeqCst) || !engine.book().rests() {
        return;
    }
    let _ = tokio::time::timeout(JOURNAL_DELAY, engine.work.notified()).await; // either way it goes on
    engine.book().go_on();
}

/// Lets everybody decide who is ready to, as long as that brings more steps: a transaction costs more than many of them.
async fn gather(engine: &Engine) {
    let mut queued = engine.book().queued();
    for _ in 0..GATHER_TURNS_MAX {
        if queued == 0 || queued >= engine.config.batch_ops_max {
            return;
        }
        tokio::task::yield_now().await;
        let now = engine.book().queued();
        if now == queued {
            return;
        }
        queued = now;
    }
}

/// Writes a batch, however long that takes. Whoever waits for it is told when it is written, or after the configured
/// patience, or when the store takes no writes, that nobody knows: a request then fails instead of hanging, and its steps
/// are still written.
async fn write(engine: &Engine, batch: Batch) {
    let Batch { mut node, mut ops, mut waiters } = batch;
    let in_vain = Notify::new();
    patiently(engine, &mut waiters, &in_vain, write_until_done(engine, &in_vain, &mut node, &mut ops)).await;
    engine.book().committed(ops.len());
    for waiter in waiters {
        let _ = waiter.send(Ok(())); // who left needs no answer
    }
}

/// Does what only the store can end. Beyond the configured patience, or once it is `in_vain`, nobody waits for it but the
/// committer.
async fn patiently(engine: &Engine, waiters: &mut Vec<Waiter>, in_vain: &Notify, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    let why = tokio::select! {
        biased;
        () = &mut work => None,
        () = in_vain.notified() => Some("the store takes no writes"),
        () = tokio::time::sleep(engine.write_patience()) => Some("the store does not answer"),
    };
    if let Some(why) = why {
        lose_patience(engine, waiters, why);
        work.await;
    }
    engine.book().store_answers(engine.stopping.load(Ordering::SeqCst));
}

fn lose_patience(engine: &Engine, waiters: &mut Vec<Waiter>, why: &'static str) {
    tracing::error!(why, "the ledger cannot write; requests fail until it can");
    let mut book = engine.book();
    book.refuse(LedgerError::unavailable(why));
    book.store_overdue();
    drop(book);
    waiters.drain(..).for_each(|waiter| drop(give_up(waiter)));
}

/// Repeats the same batch until it is written: the store books each hold once, so that an attempt whose answer was lost
/// does no harm. Meanwhile the owner of a store makes no holds; on a shared one, those that leases cover.
async fn write_until_done(engine: &Engine, in_vain: &Notify, node: &mut Arc<str>, ops: &mut [Op]) {
    let mut attempts = Attempts::new(engine, in_vain);
    while let Err(error) = caught(attempt(engine, node, ops)).await.unwrap_or_else(panicked) {
        tracing::warn!(%error, ops = ops.len(), "a commit of the ledger failed; it is tried again");
        attempts.failed(error).await;
    }
    attempts.succeeded();
}

/// Attempts at one and the same thing, with pauses between them.
struct Attempts<'a> {
    engine: &'a Engine,
    /// Told when the store says that it takes no writes.
    in_vain: &'a Notify,
    pause: Duration,
    /// The uptime at the first failure.
    failed_at: Option<Duration>,
}

impl<'a> Attempts<'a> {
    const fn new(engine: &'a Engine, in_vain: &'a Notify) -> Self {
        Self { engine, in_vain, pause: RETRY_FIRST, failed_at: None }
    }

    /// Waits until the next one is due.
    async fn failed(&mut self, error: StoreError) {
        self.failed_at.get_or_insert_with(|| self.engine.clock.uptime());
        if matches!(error, StoreError::Unwritable { .. }) {
            self.in_vain.notify_one();
        }
        self.engine.book().commit_failed(LedgerError::unavailable(error));
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }

    /// Whoever read that it failed can read that this is over.
    fn succeeded(&self) {
        if let Some(failed_at) = self.failed_at {
            let after = self.engine.clock.uptime().saturating_sub(failed_at);
            tracing::info!(?after, "the ledger's store works again");
        }
    }
}

/// A store that panics is a store that fails: who talks to it for others must outlive it, or they would wait for ever.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

fn panicked<E: From<StoreError>>() -> Result<(), E> {
    Err(StoreError::unavailable("the store panicked").into())
}

async fn attempt(engine: &Engine, node: &mut Arc<str>, ops: &mut [Op]) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let by = engine.incarnation();
    match commit(engine, &by, node, ops).await {
        Err(StoreError::Fenced) => {
            let by = lives::next(engine, &by).await?;
            commit(engine, &by, node, ops).await
        }
        result => result,
    }
}

async fn commit(engine: &Engine, by: &Incarnation, node: &mut Arc<str>, ops: &mut [Op]) -> Result<(), StoreError> {
    if by.node != *node {
        ops.iter_mut().for_each(disown); // decided under a name that another process has now
        *node = by.node.clone();
    }
    engine.store.commit(by, ops, engine.clock.now()).await
}

/// Gets the rights that prices beyond their holds need, one after the other: that is rare.
async fn settle_late(engine: &Engine) {
    loop {
        let asks = engine.book().next_late();
        let Some(asks) = asks else { return };
        let in_vain = Notify::new();
        patiently(engine, &mut Vec::new(), &in_vain, acquire_until_answered(engine, &in_vain, &asks)).await;
        engine.book().settle_next_late(&engine.clock);
    }
}

/// A settlement can wait: nobody shall bear a price because the store was away for a moment.
async fn acquire_until_answered(engine: &Engine, in_vain: &Notify, asks: &Asks) {
    let mut attempts = Attempts::new(engine, in_vain);
    while !asks.is_empty() {
        let answer = caught(engine.acquire_for_late(asks)).await;
        let Err(AcquireError::Store(error)) = answer.unwrap_or_else(panicked) else { break };
        tracing::warn!(%error, "a price above its hold waits for the store");
        attempts.failed(error).await;
    }
    attempts.succeeded();
}
