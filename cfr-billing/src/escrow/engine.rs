//! What the engine's tasks and its front share: the book, the store, and the conversations between the two.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId};
use cfr_core::ledger::{Denial, LedgerError};
use cfr_core::money::Money;
use cfr_core::time::{Clock, Timestamp};
use tokio::sync::Notify;

use super::book::{Asks, Book};
use super::config::EscrowConfig;
use super::gates::Gates;
use crate::store::{AcquireError, Incarnation, LedgerStore, StoreError};

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) store: Arc<dyn LedgerStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: EscrowConfig,
    pub(super) gates: Gates,
    /// Wakes the committer.
    pub(super) work: Notify,
    /// No holds are made any more, and the committer ends when everything is written.
    pub(super) stopping: AtomicBool,
    book: Mutex<Book>,
    /// Held while a new life begins, so that it begins once.
    birth: tokio::sync::Mutex<()>,
}

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
        let book = Book::new(by, store.exclusive(), config.outbox_ops_max);
        Self {
            store,
            clock,
            config,
            gates: Gates::default(),
            work: Notify::new(),
            stopping: AtomicBool::new(false),
            book: Mutex::new(book),
            birth: tokio::sync::Mutex::default(),
        }
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

    /// Asks the store for rights and takes them in. The deadline counts from before the question (R2), shortened by the
    /// drift that two clocks may have.
    pub(super) async fn acquire(&self, asks: &Asks, at: Timestamp) -> Result<(), AcquireError> {
        let now = at.max(self.clock.now());
        let ended = self.take(|book| book.retire_ended(asks.iter().map(|ask| ask.budget), now));
        self.give_back(ended).await;
        let by = self.incarnation();
        let sent = self.clock.uptime();
        let granted = match self.store.acquire(&by, asks, self.config.lease_ttl, now).await {
            Err(AcquireError::Store(StoreError::Fenced)) => {
                let by = self.reborn(&by).await?;
                let granted = self.store.acquire(&by, asks, self.config.lease_ttl, now).await?;
                (by, granted)
            }
            granted => (by, granted?),
        };
        let (by, granted) = granted;
        self.book().refill(&by, asks, &granted, self.deadline(sent), self.clock.uptime());
        Ok(())
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

    /// Gives rights back. When that fails they stay leased until this node's next life: too little may be spent then,
    /// never too much.
    pub(super) async fn give_back(&self, Rights { by, rights }: Rights) {
        if rights.is_empty() {
            return;
        }
        if let Err(error) = self.store.give_back(&by, &rights).await {
            tracing::warn!(%error, accounts = rights.len(), "rights could not be given back; they stay leased until the next start");
        }
    }

    /// Begins a new life after `dead` was declared dead, unless somebody did meanwhile (R9).
    pub(super) async fn reborn(&self, dead: &Incarnation) -> Result<Incarnation, StoreError> {
        let _birth = self.birth.lock().await;
        let current = self.incarnation();
        if current != *dead {
            return Ok(current);
        }
        let by = self.store.register(&self.config.node, self.config.boot, self.clock.now()).await?;
        tracing::warn!(node = %by.node, epoch = by.epoch, "this node lost its leases and begins a new epoch");
        self.book().reborn(by.clone());
        Ok(by)
    }
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
