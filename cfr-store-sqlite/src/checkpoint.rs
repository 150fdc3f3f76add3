//! Copying the write-ahead log into the file while commits go on.
//!
//! SQLite does it inside the commit that fills the log, and everybody waits for it. Here another connection, on a thread of
//! its own, copies while the writer goes on. What the writer adds meanwhile is copied in the next round, which is shorter;
//! the last few pages between two commits, because only a log that is copied to its end begins anew
//! (<https://sqlite.org/wal.html#ckpt>).

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use futures_util::FutureExt;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use crate::error::Fault;

/// Pages in the log when copying begins (64 MB): pages that many commits change are copied once.
pub(crate) const BEGIN_PAGES: i64 = 16_000;
/// So few pages are copied between two commits.
const REST_PAGES: i64 = 400;
/// Rounds before the writer copies the rest, however long it is: it must not run away for ever.
const ROUNDS_MAX: u32 = 4;
/// Commits between two looks at the log's length.
const COMMITS_PER_LOOK: u32 = 16;

/// The connection that copies, and how far it is.
pub(crate) struct Checkpointer {
    options: SqliteConnectOptions,
    begin_pages: i64,
    commits: u32,
    connection: Option<SqliteConnection>,
    /// Goes on whether it is polled or not, one statement at a time.
    running: Option<Running>,
}

type Running = Pin<Box<dyn Future<Output = Result<(SqliteConnection, Copied), Fault>> + Send>>;

/// What is left of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    /// It was short.
    Nothing,
    /// All but what came at the very end.
    Nearly,
}

impl fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointer").field("running", &self.running.is_some()).finish_non_exhaustive()
    }
}

impl Checkpointer {
    /// For the database that `options` open for writing. The log is copied when it has so many pages.
    pub(crate) const fn new(options: SqliteConnectOptions, begin_pages: i64) -> Self {
        Self { options, begin_pages, commits: 0, connection: None, running: None }
    }

    /// To be called before each transaction of the writer, outside of one: looks at the log now and then, begins to copy a
    /// long one, and copies its end.
    pub(crate) async fn turn(&mut self, writer: &mut SqliteConnection) {
        match self.running.as_mut().map(FutureExt::now_or_never) {
            None => self.look_now_and_then(),
            Some(None) => {}
            Some(Some(done)) => {
                self.running = None;
                match done {
                    Ok((connection, copied)) => {
                        self.connection = Some(connection);
                        if copied == Copied::Nearly {
                            warn_of(copy(writer).await.err());
                        }
                    }
                    // Disk trouble: the next look opens a new connection, and a commit copies when the log is very long.
                    Err(fault) => warn_of(Some(fault)),
                }
            }
        }
    }

    /// Waits for what is running, and closes the connection.
    pub(crate) async fn close(mut self) {
        if let Some(running) = self.running.take() {
            match running.await {
                Ok((connection, _)) => self.connection = Some(connection),
                Err(fault) => warn_of(Some(fault)),
            }
        }
        if let Some(connection) = self.connection {
            warn_of(connection.close().await.err().map(Fault::from));
        }
    }

    fn look_now_and_then(&mut self) {
        self.commits = (self.commits + 1) % COMMITS_PER_LOOK;
        if self.commits > 0 {
            return;
        }
        let (options, connection, begin) = (self.options.clone(), self.connection.take(), self.begin_pages);
        self.running = Some(Box::pin(async move {
            let mut connection = match connection {
                Some(connection) => connection,
                None => options.connect().await?,
            };
            let copied = copy_long_log(&mut connection, begin).await?;
            Ok((connection, copied))
        }));
    }
}

/// Copies a log that is long, until few pages came meanwhile.
async fn copy_long_log(connection: &mut SqliteConnection, begin: i64) -> Result<Copied, Fault> {
    let Log { pages, copied: mut before } = log(connection, "PRAGMA wal_checkpoint(NOOP)").await?;
    if pages - before < begin {
        return Ok(Copied::Nothing);
    }
    for _ in 0..ROUNDS_MAX {
        let copied = copy(connection).await?.copied;
        if copied - before < REST_PAGES {
            break;
        }
        before = copied;
    }
    Ok(Copied::Nearly)
}

async fn copy(connection: &mut SqliteConnection) -> Result<Log, Fault> {
    log(connection, "PRAGMA wal_checkpoint(PASSIVE)").await
}

/// The log as a checkpoint leaves it.
#[derive(Debug, Clone, Copy)]
struct Log {
    pages: i64,
    copied: i64,
}

async fn log(connection: &mut SqliteConnection, pragma: &'static str) -> Result<Log, Fault> {
    let row = sqlx::query(pragma).fetch_one(connection).await?;
    Ok(Log { pages: row.try_get(1)?, copied: row.try_get(2)? })
}

fn warn_of(fault: Option<Fault>) {
    if let Some(fault) = fault {
        tracing::warn!(?fault, "copying the write-ahead log into the database failed; it will be tried again");
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteJournalMode;

    use super::*;

    /// Transactions after which a log that goes on is an error.
    const TRANSACTIONS_MAX: i64 = 100_000;

    /// A database whose writer never copies.
    fn options(folder: &tempfile::TempDir) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new().filename(folder.path().join("test.db")).create_if_missing(true);
        options.journal_mode(SqliteJournalMode::Wal).pragma("wal_autocheckpoint", "0")
    }

    async fn writer(options: &SqliteConnectOptions) -> SqliteConnection {
        let mut writer = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE numbers (number INTEGER PRIMARY KEY, filling BLOB)")
            .execute(&mut writer)
            .await
            .unwrap();
        writer
    }

    async fn write(writer: &mut SqliteConnection, number: i64) {
        let insert = sqlx::query("INSERT INTO numbers VALUES (?, zeroblob(20000))").bind(number);
        insert.execute(writer).await.unwrap();
    }

    async fn pages(connection: &mut SqliteConnection) -> i64 {
        log(connection, "PRAGMA wal_checkpoint(NOOP)").await.unwrap().pages
    }

    #[tokio::test]
    async fn a_long_log_begins_anew_while_transactions_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&folder);
        let mut writer = writer(&options).await;
        let mut checkpointer = Checkpointer::new(options.clone(), 50);
        let (mut number, mut before, mut beginnings) = (0, 0, 0);
        while beginnings < 3 {
            number += 1;
            assert!(number < TRANSACTIONS_MAX, "the log goes on: {before} pages");
            checkpointer.turn(&mut writer).await;
            write(&mut writer, number).await;
            let now = pages(&mut writer).await;
            beginnings += i32::from(now < before);
            before = now;
        }
        checkpointer.close().await;
        writer.close().await.unwrap();
        assert!(!folder.path().join("test.db-wal").exists(), "nobody has the file");
        let mut reader = options.connect().await.unwrap();
        let (rows, last): (i64, i64) =
            sqlx::query_as("SELECT count(*), max(number) FROM numbers").fetch_one(&mut reader).await.unwrap();
        assert_eq!((rows, last), (number, number));
    }

    #[tokio::test]
    async fn a_short_log_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&folder);
        let mut writer = writer(&options).await;
        let mut checkpointer = Checkpointer::new(options, BEGIN_PAGES);
        for number in 0..100 {
            checkpointer.turn(&mut writer).await;
            write(&mut writer, number).await;
        }
        checkpointer.close().await;
        let left = log(&mut writer, "PRAGMA wal_checkpoint(NOOP)").await.unwrap();
        assert_eq!(left.copied, 0, "{left:?}");
    }

    #[tokio::test]
    async fn a_connection_that_cannot_be_made_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&folder);
        let mut writer = writer(&options).await;
        let nowhere = options.clone().filename(folder.path().join("nowhere/test.db"));
        let mut checkpointer = Checkpointer::new(nowhere, 50);
        for number in 0..100 {
            checkpointer.turn(&mut writer).await;
            write(&mut writer, number).await;
        }
        let long = pages(&mut writer).await;
        checkpointer.options = options;
        for number in 100.. {
            assert!(number < TRANSACTIONS_MAX, "the log goes on");
            checkpointer.turn(&mut writer).await;
            write(&mut writer, number).await;
            if pages(&mut writer).await < long {
                return;
            }
        }
    }
}
