//! What the engine's tasks and its front share: the book, the store, and the conversations between the two.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId};
use cfr_core::ledger::{Denial, LedgerError};
use cfr_core::money::Money;
use cfr_core::time::{Clock, Timestamp};
use tokio::sync::{Notify, RwLock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asker::{self, Asker};
use super::book::{Asks, Book};
use super::committer::caught;
use super::config::EscrowConfig;
use super::gates::Gates;
use super::lives;
use super::store_clock::StoreClock;
use crate::store::{AcquireError, Incarnation, LeaseAsk, LeaseGrant, LedgerStore, StoreError};

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) store: Arc<dyn LedgerStore>,
    pub(super) clock: StoreClock,
    pub(super) config: EscrowConfig,
    pub(super) tasks: TaskTracker,
    /// Ends the tasks where they are.
    pub(super) kill: CancellationToken,
    pub(super) gates: Gates,
    pub(super) asker: Asker,
    /// Held while other nodes are asked for a budget's rights, so that one request asks for all.
    pub(super) recalls: Gates,
    /// Wakes the committer.
    pub(super) work: Notify,
    /// No holds are made any more, and the committer ends when everything is written.
    pub(super) stopping: AtomicBool,
    /// Wakes the lender when a new life began.
    pub(super) reborn: Notify,
    /// The name under which the next life begins. Held while it does, so that it begins once.
    pub(super) name: tokio::sync::Mutex<Arc<str>>,
    /// Shared while some rights are on their way to the store, so that nobody gives a whole lease back meanwhile.
    pub(super) returns: RwLock<()>,
    book: Mutex<Book>,
}

/// What the store says to a group of asks.
type Acquired = Result<Vec<LeaseGrant>, AcquireError>;

/// Rights that nobody may spend any more, on their way to the store.
#[derive(Debug)]
pub(super) struct Rights {
    by: Incarnation,
    rights: Vec<(AccountId, i64)>,
}

impl Engine {
    pub(super) fn new(
        store: Arc<dyn LedgerStore>,
        clock: Arc<dyn Clock>,
        config: EscrowConfig,
        by: Incarnation,
    ) -> Self {
        let name = by.node.clone();
        let book = Book::new(by, store.exclusive(), config.outbox_ops_max);
        Self {
            store,
            clock: StoreClock::new(clock),
            config,
            tasks: TaskTracker::new(),
            kill: CancellationToken::new(),
            gates: Gates::default(),
            asker: Asker::default(),
            recalls: Gates::default(),
            work: Notify::new(),
            stopping: AtomicBool::new(false),
            reborn: Notify::new(),
            name: tokio::sync::Mutex::new(name),
            returns: RwLock::default(),
            book: Mutex::new(book),
        }
    }

    /// How long what was decided may wait to be written. What a shared lease covers may wait as long as the lease lasts.
    pub(super) fn write_patience(&self) -> Duration {
        let config = &self.config;
        if self.store.exclusive() { config.commit_patience } else { config.lease_ttl.max(config.commit_patience) }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a decision and wakes the committer when that gave it work.
    pub(super) fn decide<T>(&self, decision: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.book();
        let decided = decision(&mut book);
        let wake = book.wakes_committer();
        drop(book);
        if wake {
            self.work.notify_one();
        }
        decided
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.book().incarnation().clone()
    }

    /// Goes on until it ends, or the ledger is dropped.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        self.tasks.spawn(async move { kill.run_until_cancelled(work).await });
    }

    /// Asks the store for rights, after the settlements that were promised some of them.
    pub(super) async fn acquire(self: &Arc<Self>, asks: &Asks, at: Timestamp) -> Result<(), AcquireError> {
        while !self.begin_asking(asks) {
            self.decide(Book::barrier).await.map_err(StoreError::unavailable)?;
        }
        asker::ask(self, asks, at).await
    }

    fn begin_asking(&self, asks: &Asks) -> bool {
        let mut book = self.book();
        let promised = book.has_promised(asks);
        if !promised {
            book.begin_asking(asks);
        }
        !promised
    }

    /// Asks the store for what a late settlement needs, which was promised it.
    pub(super) async fn acquire_for_late(&self, asks: &Asks) -> Result<(), AcquireError> {
        self.book().begin_asking(asks);
        let answers = self.ask_store(std::slice::from_ref(asks), self.clock.now()).await;
        answers.into_iter().collect()
    }

    /// Asks the store for what several decisions need and takes in what it grants: one answer for each. The deadline
    /// counts from before the question (R2), shortened by the drift that two clocks may have.
    pub(super) async fn ask_store(&self, groups: &[Asks], at: Timestamp) -> Vec<Result<(), AcquireError>> {
        let now = at.max(self.clock.now());
        let ended = self.take(|book| book.retire_ended(groups.iter().flatten().map(|ask| ask.budget), now));
        self.give_back(ended).await;
        let sent = self.clock.uptime();
        let answers = self.ask_living(groups, now).await;
        let uptime = self.clock.uptime();
        let mut book = self.book();
        let take_in = |(asks, (by, answer)): (&Asks, (Incarnation, Acquired))| {
            book.end_asking(asks);
            book.refill(&by, asks, &answer?, self.deadline(sent), uptime, now);
            Ok(())
        };
        groups.iter().zip(answers).map(take_in).collect()
    }

    /// Asks under this life; what it is refused because it was declared dead, under the next one.
    async fn ask_living(&self, groups: &[Asks], now: Timestamp) -> Vec<(Incarnation, Acquired)> {
        let by = self.incarnation();
        let asks: Vec<&[LeaseAsk]> = groups.iter().map(|asks| &**asks).collect();
        let mut answers = self.ask_as(&by, &asks, now).await;
        let refused = |(_, answer): &(Incarnation, Acquired)| is_fenced(answer);
        let again: Vec<&[LeaseAsk]> =
            asks.into_iter().zip(&answers).filter(|(_, answer)| refused(answer)).map(|(asks, _)| asks).collect();
        if again.is_empty() {
            return answers;
        }
        let anew = match lives::next(self, &by).await {
            Ok(by) => self.ask_as(&by, &again, now).await,
            Err(error) => vec![(by, Err(error.into())); again.len()],
        };
        answers.iter_mut().filter(|answer| refused(answer)).zip(anew).for_each(|(answer, anew)| *answer = anew);
        answers
    }

    async fn ask_as(&self, by: &Incarnation, groups: &[&[LeaseAsk]], now: Timestamp) -> Vec<(Incarnation, Acquired)> {
        self.book().count_conversation();
        let asked = self.store.acquire_all(by, groups, self.config.lease_ttl, now);
        let mut answers = caught(asked).await.unwrap_or_default();
        answers.resize_with(groups.len(), || Err(StoreError::unavailable("the store did not answer").into()));
        answers.into_iter().map(|answer| (by.clone(), answer)).collect()
    }

    /// Asks the other nodes for what they do not use of a budget. Whoever comes second waits for the first one to end.
    pub(super) async fn recall(&self, budget: BudgetId, patience: Duration) {
        let turn = self.recalls.pass_free(std::iter::once(budget));
        if !turn.covers(std::iter::once(budget)) {
            drop(self.recalls.pass(std::iter::once(budget)).await);
            return;
        }
        let by = {
            let mut book = self.book();
            book.count_recall();
            book.incarnation().clone()
        };
        if let Err(error) = self.store.recall(&by, &[budget], patience).await {
            tracing::debug!(%error, %budget, "other nodes could not be asked for rights");
        }
    }

    /// Remembers for a moment that a shared store denied, so that not every request asks all nodes again, and reads what
    /// there is, so that the denial can name it.
    pub(super) async fn note_exhausted(self: &Arc<Self>, denied: &AcquireError, asks: &Asks, at: Timestamp) {
        let AcquireError::Denied { budget, .. } = denied else { return };
        if self.store.exclusive() {
            return;
        }
        let look: Asks = asks.iter().map(|ask| LeaseAsk { min: 0, want: 0, ..*ask }).collect();
        if let Err(error) = self.acquire(&look, at).await {
            tracing::debug!(%error, %budget, "the next request asks again");
        }
        let uptime = self.clock.uptime();
        self.book().exhausted(*budget, uptime);
    }

    /// When leases that were asked for at `sent` end for this node.
    pub(super) fn deadline(&self, sent: Duration) -> Duration {
        sent.saturating_add(self.config.lease_ttl * 98 / 100)
    }

    /// Takes rights out of the book, with the life that holds them: a later one must not give back its own for them.
    pub(super) fn take(&self, take: impl FnOnce(&mut Book) -> Vec<(AccountId, i64)>) -> Rights {
        let mut book = self.book();
        let rights = take(&mut book);
        Rights { by: book.incarnation().clone(), rights }
    }

    /// Gives rights back. When that fails they may stay leased: too little may be spent then, never too much. The call is
    /// not repeated, for it may have happened; renewals find what is left over.
    pub(super) async fn give_back(&self, Rights { by, rights }: Rights) {
        if rights.is_empty() {
            return;
        }
        let _on_their_way = self.returns.read().await;
        if let Err(error) = self.store.give_back(&by, &rights).await {
            tracing::warn!(%error, accounts = rights.len(), "rights could not be given back; they stay leased for now");
        }
    }
}

const fn is_fenced(answer: &Acquired) -> bool {
    matches!(answer, Err(AcquireError::Store(StoreError::Fenced)))
}

/// Waits for the store, but not for ever.
pub(super) async fn in_time<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::unavailable("the store does not answer in time"));
    tokio::time::timeout(patience, answer).await.unwrap_or_else(late)
}

/// The denial that the store spoke, in the words of the ledger.
pub(super) fn denial(asked: Money, denied: &AcquireError) -> Option<Denial> {
    let AcquireError::Denied { budget, scope, room, period, .. } = denied else { return None };
    let available = Money::from_nanos((*room).max(0), asked.currency());
    Some(Denial { budget: *budget, scope: *scope, available, asked, period_end: period.end })
}

/// What a failure of the store means to somebody who asks for a hold.
pub(super) fn ledger_error(error: AcquireError) -> LedgerError {
    match error {
        AcquireError::UnknownBudget { budget } => LedgerError::UnknownBudget { budget },
        AcquireError::Denied { budget, .. } => store_error(budget, StoreError::Fenced),
        AcquireError::Store(error) => LedgerError::unavailable(error),
    }
}

/// What a failure of the store means to somebody who asks about a budget.
pub(super) fn store_error(budget: BudgetId, error: StoreError) -> LedgerError {
    match error {
        StoreError::NotFound { .. } => LedgerError::UnknownBudget { budget },
        error => LedgerError::unavailable(error),
    }
}
