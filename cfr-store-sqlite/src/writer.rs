//! The one connection that writes, its monotone clock, and the transaction that every change is.

use cfr_billing::store::{Incarnation, StoreError};
use cfr_core::time::Timestamp;
use fail::fail_point;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};

use crate::chain::Head;
use crate::checkpoint::{self, Checkpointer};
use crate::error::Fault;

/// Runs one function inside a transaction of the writer and commits what it did.
macro_rules! write {
    ($store:ident, $now:expr, |$tx:ident| $work:expr) => {{
        let mut writer = $store.writer().await?;
        let mut transaction = writer.begin($now).await?;
        let $tx = &mut transaction;
        let done = $work.await?;
        transaction.commit().await?;
        Ok(done)
    }};
}
pub(crate) use write;

/// The writing connection.
#[derive(Debug)]
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    connection: SqliteConnection,
    checkpointer: Checkpointer,
    state: State,
}

/// What the writer remembers from one transaction to the next.
#[derive(Debug)]
struct State {
    /// The latest moment of a committed transaction, in microseconds. Time never goes back behind it.
    clock: i64,
    /// The end of the hash chain; none when it must be read again.
    head: Option<Head>,
    /// Whether there may be suspended holds. There hardly ever are.
    suspended: bool,
    /// The life that was last found to be the newest of its node. Only this process writes the file.
    alive: Option<Incarnation>,
    /// A transaction was begun and not committed.
    abandoned: bool,
}

impl Writer {
    /// Takes over an open connection to an up-to-date database.
    pub(crate) async fn new(options: SqliteConnectOptions, mut connection: SqliteConnection) -> Result<Self, Fault> {
        let clock = last_moment(&mut connection).await?;
        let suspended = any_suspended(&mut connection).await?;
        let state = State { clock, head: None, suspended, alive: None, abandoned: false };
        let checkpointer = Checkpointer::new(options.clone(), checkpoint::BEGIN_PAGES);
        Ok(Self { options, connection, checkpointer, state })
    }

    /// Begins a transaction. Dropping it undoes everything.
    pub(crate) async fn begin(&mut self, now: Timestamp) -> Result<Tx<'_>, Fault> {
        if self.state.abandoned {
            self.recover().await?;
        }
        self.checkpointer.turn(&mut self.connection).await;
        let micros = now.as_microsecond().max(self.state.clock);
        let now = Timestamp::from_microsecond(micros).map_err(StoreError::invalid)?;
        let inner = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        self.state.abandoned = true;
        fail_point!("transaction.begun");
        Ok(Tx { inner, now, state: &mut self.state, new_head: None })
    }

    /// Closes the connection; SQLite then copies the log into the file.
    pub(crate) async fn close(self) -> Result<(), Fault> {
        self.checkpointer.close().await;
        Ok(self.connection.close().await?)
    }

    /// Waits for the rollback of an abandoned transaction. When SQLite had already undone it by itself, as after a full
    /// disk, the connection's state, and that of its file handle, is not to be trusted: it is replaced.
    async fn recover(&mut self) -> Result<(), Fault> {
        let alive = self.connection.ping().await.is_ok();
        if !alive || self.connection.is_in_transaction() {
            tracing::warn!("reopening the database after a failed write");
            let mut connection = self.options.connect().await?;
            prove_writable(&mut connection).await?;
            self.connection = connection;
        }
        self.state.abandoned = false;
        Ok(())
    }
}

/// SQLite opens a file that it may not write for reading, and stays with that.
async fn prove_writable(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let mut probe = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("UPDATE listed SET row = row").execute(&mut *probe).await?;
    Ok(probe.rollback().await?)
}

/// Money is never booked without a moment, and registering notes one too.
async fn last_moment(connection: &mut SqliteConnection) -> Result<i64, Fault> {
    let sql = "SELECT max(coalesce((SELECT at FROM ledger_batches ORDER BY id DESC LIMIT 1), 0),
                          coalesce((SELECT max(registered_at) FROM nodes), 0))";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}

async fn any_suspended(connection: &mut SqliteConnection) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM holds WHERE state = 1)";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}

/// A change of the books: all of it or nothing.
#[derive(Debug)]
pub(crate) struct Tx<'a> {
    inner: Transaction<'a, Sqlite>,
    /// The moment of the change, never before that of an earlier one, in whole microseconds.
    pub(crate) now: Timestamp,
    state: &'a mut State,
    new_head: Option<Head>,
}

impl Tx<'_> {
    /// The connection, to run a statement on.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }

    /// The moment of the change as columns keep it.
    pub(crate) fn micros(&self) -> i64 {
        self.now.as_microsecond()
    }

    /// The end of the hash chain. It is taken out of the writer until the commit succeeds: whatever becomes of this
    /// transaction, nothing is ever built upon a stale end.
    pub(crate) async fn take_head(&mut self) -> Result<Head, Fault> {
        match self.new_head.take().or_else(|| self.state.head.take()) {
            Some(head) => Ok(head),
            None => Head::read(&mut self.inner).await,
        }
    }

    /// Sets the end of the hash chain as this transaction leaves it.
    pub(crate) fn set_head(&mut self, head: Head) {
        self.new_head = Some(head);
    }

    /// Whether this life was found to be the newest of its node, and no node registered since.
    pub(crate) fn is_known_alive(&self, by: &Incarnation) -> bool {
        self.state.alive.as_ref() == Some(by)
    }

    /// Notes which life is the newest of its node; none before a node registers.
    pub(crate) fn note_alive(&mut self, by: Option<&Incarnation>) {
        self.state.alive = by.cloned();
    }

    /// Whether there may be suspended holds.
    pub(crate) const fn has_suspended(&self) -> bool {
        self.state.suspended
    }

    /// Notes that there are suspended holds. Never takes it back: looking once too often costs little.
    pub(crate) const fn note_suspended(&mut self, any: bool) {
        self.state.suspended |= any;
    }

    /// Makes everything durable.
    pub(crate) async fn commit(self) -> Result<(), Fault> {
        fail_point!("transaction.written");
        self.inner.commit().await?;
        fail_point!("transaction.committed");
        self.state.clock = self.now.as_microsecond();
        self.state.abandoned = false;
        if self.new_head.is_some() {
            self.state.head = self.new_head;
        }
        Ok(())
    }
}
