//! The ledger engine: decides in memory inside rights that the store granted, and writes the decisions down in groups.
//!
//! ```text
//! authorize ─┐                    ┌─ acquire_all · give_back · renew   (rights, when the local ones do not suffice)
//! settle    ─┼─ book (one lock) ──┤
//! release   ─┘   ~0.2 µs          └─ outbox ── committer ── one transaction per batch ── Commit resolves
//! ```
//!
//! A node spends only what the store leased to it, so nodes that share a store cannot overspend together. The owner of an
//! exclusive store leases everything there is and never waits for it. A decision is final in memory at once; its
//! [`Commit`] resolves when it is durable. While an exclusive store fails nothing new is held, running calls settle into
//! the outbox, and the same batch is written again until the store takes it.
//!
//! # One store, many nodes
//! What a node leased is durable before the node spends it: the lease **is** the durable hold. So on a shared store the
//! [`Commit`] of a hold inside a lease is done at once, and a warm request asks nobody; the hold itself is journaled a
//! moment later, only as evidence for whoever has to resolve it. Settlements are acknowledged when they are written, as
//! everywhere. When a node dies, what its lease had left covers every hold that the journal does not know; it is
//! released with the lease, which outlives the longest hold unless the node's death is proven.
//!
//! - A lease ends by the node's own monotonic clock, counted from before the question (R2). Then nothing new is held; while
//!   the store is away that is a lease time at most, and settlements wait as long.
//! - A node asks for what it will soon need at its rate, but for a small share of what is left only, so that near the limit
//!   it asks for exactly what it needs (R8).
//! - What the store denies is asked of the other nodes before a request is (R6), and idle rights go back (R7).
//! - What a shared store has is known from the last conversation only: `available` in answers is an estimate, and so is
//!   what a settlement above its hold says to be charged. The record and the books are exact.
//! - Periods follow the store's clock, whatever this machine's says.
//! - An incarnation that lost a lease holds nothing more; the node goes on under a new epoch (R9), and under another name
//!   when somebody took its own.
//!
//! **Invariant**: for every account, what open holds claim is at most what this node's lease has left, and that is at most
//! what the store says, so `settled + held <= granted` at every instant and not only at commits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use cfr_core::id::{BudgetId, HoldId};
use cfr_core::ledger::{
    AuthorizeError, Balance, BudgetLedger, Commit, Denial, Hold, HoldRequest, LedgerError, ReleaseReason, Settled,
    Settlement, check_request,
};
use cfr_core::money::Money;
use cfr_core::time::{Clock, Timestamp};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

mod aside;
mod asker;
mod book;
mod committer;
mod config;
mod engine;
mod gates;
mod id_hash;
mod keeper;
mod lender;
mod lives;
mod outbox;
mod slot;
mod stats;
mod store_clock;

pub use self::aside::AsideAsk;
pub use self::book::ENDS_REMEMBERED_MAX;
use self::book::{Asks, Book, Decision, refusal};
pub use self::config::EscrowConfig;
use self::engine::{Engine, denial, ledger_error, store_error};
pub use self::stats::EscrowStats;
use crate::budget::Grant;
use crate::store::{AcquireError, LedgerStore, NewGrant, Reclaimed, StoreError};

/// Times that one decision goes back to the store because others took what it had just got, or gave some back.
const ACQUIRE_ROUNDS_MAX: u32 = 8;
/// A request that is denied asks the other nodes this often: a call may be lost.
const RECALLS_PER_PATIENCE: u32 = 2;

/// The ledger over a durable store. Call [`Escrow::shutdown`] at the end: dropping it is like killing the process, and
/// open holds become orphans that the next start resolves.
#[derive(Debug)]
pub struct Escrow {
    engine: Arc<Engine>,
    reclaimed: Reclaimed,
    /// Ends the keeper.
    retire: CancellationToken,
}

impl Escrow {
    /// Begins a new life of the node, resolves what earlier ones left open, and starts the tasks that write decisions
    /// down and keep leases.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn start(
        store: Arc<dyn LedgerStore>,
        clock: Arc<dyn Clock>,
        config: EscrowConfig,
    ) -> Result<Arc<Self>, StoreError> {
        let by = lives::first(&*store, &*clock, &config).await?;
        let engine = Arc::new(Engine::new(store, clock, config, by));
        if !engine.store.exclusive() {
            keeper::renew(&engine).await?;
        }
        let reclaimed = reclaim_at_start(&engine).await?;
        let escrow = Self { engine, reclaimed, retire: CancellationToken::new() };
        escrow.engine.spawn(committer::run(escrow.engine.clone()));
        escrow.spawn_keeper(keeper::return_idle(escrow.engine.clone()));
        if !escrow.engine.store.exclusive() {
            escrow.spawn_keeper(keeper::keep_leases(escrow.engine.clone()));
            escrow.spawn_keeper(lender::run(escrow.engine.clone()));
        }
        Ok(Arc::new(escrow))
    }

    fn spawn_keeper(&self, task: impl Future<Output = ()> + Send + 'static) {
        let retire = self.retire.clone();
        self.engine.spawn(async move {
            retire.run_until_cancelled(task).await;
        });
    }

    /// What the start found left open by earlier runs.
    #[must_use]
    pub const fn reclaimed(&self) -> &Reclaimed {
        &self.reclaimed
    }

    /// What is in flight, and what happened since the start.
    #[must_use]
    pub fn stats(&self) -> EscrowStats {
        EscrowStats { clock_offset_us: self.engine.clock.offset_us(), ..self.engine.book().stats() }
    }

    /// Waits until everything that was decided before is durable.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the store does not answer in time.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.engine.decide(Book::barrier).await
    }

    /// Makes no holds any more, writes everything down, and gives the leases back. End the running calls before: a hold
    /// that is still open is an orphan of the next start.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the store did not take everything within the configured patience. What it did not
    /// take back is its own again with the next start.
    pub async fn shutdown(&self) -> Result<(), LedgerError> {
        self.engine.stopping.store(true, Ordering::SeqCst);
        self.engine.book().refuse(refusal("the ledger is shutting down"));
        self.retire.cancel();
        self.engine.work.notify_one();
        self.engine.tasks.close();
        let drained = tokio::time::timeout(self.engine.config.commit_patience, self.engine.tasks.wait()).await;
        self.engine.book().store_overdue(); // nobody writes what is decided from now on
        if drained.is_err() {
            self.engine.kill.cancel();
            return Err(refusal("not everything could be written before the end"));
        }
        self.in_time(async {
            let engine = &self.engine;
            engine.give_back(engine.take(Book::take_all_free)).await;
            if let Err(error) = engine.store.retire(&engine.incarnation(), engine.clock.now()).await {
                tracing::warn!(%error, "the store was not told that this node ends; its name is free when its lease time is over");
            }
            Ok(())
        })
        .await
    }

    /// Adds money to a budget's current period, or takes some. See [`LedgerStore::grant`].
    ///
    /// # Errors
    /// As [`LedgerStore::grant`].
    pub async fn grant(&self, grant: &NewGrant) -> Result<Grant, StoreError> {
        self.recalled(grant.budget, self.engine.store.grant(grant, self.engine.clock.now())).await
    }

    /// Runs `change` while this node has no idle rights on the budget, so that the store sees all that is left: for a
    /// lowered limit, a removal of money, a new policy. The next hold reads the new terms.
    pub async fn recalled<T>(&self, budget: BudgetId, change: impl Future<Output = T>) -> T {
        let _closed = self.engine.gates.pass(std::iter::once(budget)).await;
        self.give_up(budget).await;
        let changed = change.await;
        self.take_again(budget).await;
        changed
    }

    /// Gives idle rights on the budget back and reads its terms anew at its next hold: after it was changed or closed.
    pub async fn forget(&self, budget: BudgetId) {
        self.recalled(budget, std::future::ready(())).await;
    }

    /// In a task of its own: a caller who leaves must not take the rights along.
    async fn give_up(&self, budget: BudgetId) {
        let engine = self.engine.clone();
        self.detached(async move {
            engine.give_back(engine.take(|book| book.recall(budget).into_iter().collect())).await;
        })
        .await;
    }

    /// Running holds whose price exceeds them may need what is left, so the owner of a store takes it again at once.
    async fn take_again(&self, budget: BudgetId) {
        let engine = self.engine.clone();
        self.detached(async move {
            let asks = engine.book().ask_again(budget);
            let now = engine.clock.now();
            if let Some(asks) = asks
                && let Err(error) = engine.acquire(&asks, now).await
            {
                tracing::debug!(%error, %budget, "the next hold will ask again");
            }
        })
        .await;
    }

    /// Goes on when the caller leaves, until the ledger is dropped. None when it did not come to its end.
    async fn detached<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let kill = self.engine.kill.clone();
        let task = self.engine.tasks.spawn(async move { kill.run_until_cancelled(work).await });
        task.await.ok().flatten() // it panics only when the runtime ends
    }

    /// Asks the store for rights, unless somebody got them meanwhile, until `decide` comes to an end.
    async fn decide_with_store<T>(
        &self,
        at: Timestamp,
        mut asks: Asks,
        decide: impl Fn(&mut Book, &dyn Clock) -> Decision<T>,
        finally: impl FnOnce(&mut Book, Option<AcquireError>) -> Result<T, AuthorizeError>,
    ) -> Result<T, AuthorizeError> {
        let engine = &self.engine;
        let (mut denied, mut patience) = (None, None);
        for _ in 0..ACQUIRE_ROUNDS_MAX {
            let passage = engine.gates.pass(asks.iter().map(|ask| ask.budget)).await;
            match engine.decide(|book| decide(book, &engine.clock)) {
                Decision::Done(done) => return done,
                Decision::Short(now) if !passage.covers(now.iter().map(|ask| ask.budget)) => {
                    asks = now;
                    continue;
                }
                Decision::Short(now) => asks = now,
            }
            // Until it is decided nobody else, here or on another node, takes what was granted for it.
            let (passage, acquired) = self.acquire(passage, asks.clone(), at).await;
            match acquired {
                Ok(()) => match engine.decide(|book| decide(book, &engine.clock)) {
                    Decision::Done(done) => return done,
                    Decision::Short(next) => asks = next,
                },
                Err(AcquireError::Denied { budget, .. }) => {
                    drop(passage);
                    denied = acquired.err();
                    if !self.recall(budget, &mut patience).await {
                        break;
                    }
                }
                Err(error) => return Err(ledger_error(error).into()),
            }
        }
        if let Some(denied) = &denied {
            engine.note_exhausted(denied, &asks, at).await;
        }
        engine.decide(|book| finally(book, denied))
    }

    /// In a task of its own: a caller who leaves must not take the granted rights along.
    async fn acquire(
        &self,
        passage: gates::Passage,
        asks: Asks,
        at: Timestamp,
    ) -> (Option<gates::Passage>, Result<(), AcquireError>) {
        let engine = self.engine.clone();
        let work = async move {
            let acquired = engine.acquire(&asks, at).await;
            (Some(passage), acquired)
        };
        let ended = || (None, Err(StoreError::unavailable("the ledger ended meanwhile").into()));
        self.detached(work).await.unwrap_or_else(ended)
    }

    /// Asks the other nodes for what they do not use, or waits for somebody here who does so (R6). False when the request
    /// has waited for that as long as it may, and when there are no other nodes.
    async fn recall(&self, budget: BudgetId, patience: &mut Option<Pin<Box<Sleep>>>) -> bool {
        let engine = &self.engine;
        if engine.store.exclusive() {
            return false;
        }
        let whole = engine.config.recall_patience;
        let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(whole)));
        if patience.is_elapsed() {
            return false;
        }
        tokio::select! {
            biased;
            () = patience => {}
            () = engine.recall(budget, whole / RECALLS_PER_PATIENCE) => {}
        }
        true
    }

    /// Nobody waits longer than the configured patience for what only the store knows. What it grants too late is kept.
    async fn in_time<T, E: From<LedgerError>>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        match tokio::time::timeout(self.engine.config.commit_patience, Box::pin(answer)).await {
            Ok(answer) => answer,
            Err(_) => Err(refusal("the store does not answer in time").into()),
        }
    }

    async fn authorize_with_store(&self, ask: &HoldRequest, asks: Asks) -> Result<Hold, AuthorizeError> {
        let decide = |book: &mut Book, clock: &dyn Clock| book.authorize(ask, clock);
        let finally =
            |book: &mut Book, denied: Option<AcquireError>| book.authorize_finally(ask, spoken(ask.amount_min, denied));
        self.decide_with_store(ask.at, asks, decide, finally).await
    }
}

/// Resolves what earlier lives left open.
async fn reclaim_at_start(engine: &Engine) -> Result<Reclaimed, StoreError> {
    let (config, now, by) = (&engine.config, engine.clock.now(), engine.incarnation());
    let expired_before = now.checked_sub(config.hold_max + config.reclaim_grace).unwrap_or(Timestamp::MIN);
    let reclaimed = engine.store.reclaim(expired_before, config.orphan_policy, now).await?;
    if reclaimed != Reclaimed::default() {
        tracing::warn!(?reclaimed, node = %by.node, epoch = by.epoch, "resolved what an earlier run left open");
    }
    Ok(reclaimed)
}

fn spoken(asked: Money, denied: Option<AcquireError>) -> Option<Denial> {
    denied.and_then(|denied| denial(asked, &denied))
}

impl Drop for Escrow {
    fn drop(&mut self) {
        self.retire.cancel();
        self.engine.kill.cancel();
    }
}

#[async_trait]
impl BudgetLedger for Escrow {
    async fn authorize(&self, ask: HoldRequest) -> Result<Hold, AuthorizeError> {
        check_request(&ask)?;
        let ask = HoldRequest { at: self.engine.clock.at(ask.at), ..ask };
        match self.engine.decide(|book| book.authorize(&ask, &self.engine.clock)) {
            Decision::Done(done) => done,
            Decision::Short(asks) => self.in_time(self.authorize_with_store(&ask, asks)).await,
        }
    }

    async fn extend(&self, hold: HoldId, step: u32, amount: Money) -> Result<Commit, AuthorizeError> {
        let decide = |book: &mut Book, clock: &dyn Clock| book.extend(hold, step, amount, clock.uptime());
        match self.engine.decide(|book| decide(book, &self.engine.clock)) {
            Decision::Done(done) => done,
            Decision::Short(asks) => {
                let finally = |book: &mut Book, denied| Err(book.extend_finally(amount, spoken(amount, denied)));
                self.in_time(self.decide_with_store(self.engine.clock.now(), asks, decide, finally)).await
            }
        }
    }

    fn checkpoint(&self, hold: HoldId, so_far: Settlement) -> Result<(), LedgerError> {
        self.engine.decide(|book| book.checkpoint(hold, so_far))
    }

    fn settle(&self, hold: HoldId, settlement: Settlement) -> Result<Settled, LedgerError> {
        self.engine.decide(|book| book.settle(hold, settlement, &self.engine.clock))
    }

    fn release(&self, hold: HoldId, reason: ReleaseReason) -> Result<Commit, LedgerError> {
        self.engine.decide(|book| book.release(hold, reason, &self.engine.clock))
    }

    async fn balance(&self, budget: BudgetId) -> Result<Balance, LedgerError> {
        self.flush().await?;
        let now = self.engine.clock.now();
        let account = self.engine.store.account(budget, now);
        let account = self.in_time(async { account.await.map_err(|error| store_error(budget, error)) }).await?;
        let held = self.engine.book().held_of(budget, account.account, account.leased);
        let money = |nanos| Money::from_nanos(nanos, account.currency);
        Ok(Balance {
            budget,
            account: account.account,
            scope: account.scope,
            policy: account.policy,
            period: account.period,
            granted: money(account.granted),
            settled: money(account.settled),
            held: money(held),
            available: money(account.granted.saturating_sub(account.settled).saturating_sub(held).max(0)),
        })
    }
}
