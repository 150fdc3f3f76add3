//! Opening, closing and copying the file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection};

use cfr_billing::store::{StoreError, missing_migrations};
use cfr_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::archive;
use crate::error::Fault;
use crate::lock::FileLock;
use crate::migrate;
use crate::writer::Writer;

/// How long a statement waits for another program that has the file locked, such as a backup tool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log before a commit copies it into the file (256 MB), where copying beside the writer did not
/// get that far: `checkpoint.rs`.
const CHECKPOINT_PAGES: &str = "64000";
/// Page cache of the writing connection in KiB, negative as SQLite wants it (8 MB, used as needed): the inner pages and the
/// growing ends of the indexes of usage stay in it.
const WRITER_CACHE: &str = "-8000";
/// Read-only connections.
const READERS_MAX: u32 = 4;
/// Prepared statements per connection: the scripts of commits, in their few shapes, and the others.
const STATEMENTS_MAX: usize = 256;

/// How safe a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// Survives a power loss: every commit waits for the disk.
    #[default]
    Full,
    /// Survives the end of the process, not a power loss. Faster for single commits.
    Normal,
}

/// How a file is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// How safe a commit is.
    pub synchronous: Synchronous,
    /// Whether a file that is missing is made, and one that an older version wrote is brought up to date. Else both are
    /// refused.
    pub upgrade: bool,
    /// The largest size of the file in pages of 4096 bytes; none for what the disk has.
    pub pages_max: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { synchronous: Synchronous::default(), upgrade: true, pages_max: None }
    }
}

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by process {holder}; stop that process first", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process id that the lock file names.
        holder: String,
    },
    /// The folder cannot be made.
    #[error("cannot make the folder of {}: {source}", path.display())]
    Folder {
        /// The database.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The lock file cannot be used.
    #[error("cannot use the lock file {}: {source}", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a database of another program.
    #[error("the file is a database of another program; choose another path")]
    NotOurs,
    /// A newer version of this software wrote it.
    #[error(
        "the database has schema {found}, this version knows {known}; install the version that wrote it, or a newer one"
    )]
    NewerSchema {
        /// The newest migration in the file.
        found: i64,
        /// The newest migration that we have.
        known: i64,
    },
    /// An older version wrote it, and it is not to be brought up to date now.
    #[error("the database lacks {}; start the server once, or run its `migrate` command", missing_migrations(missing))]
    OlderSchema {
        /// What is missing.
        missing: Vec<String>,
    },
    /// A migration was applied in another form.
    #[error(
        "migration {version} of the database is not ours; open it with the version that wrote it, or choose another path"
    )]
    EditedMigration {
        /// The migration.
        version: i64,
    },
    /// A migration failed.
    #[error("the schema cannot be brought up to date: {reason}")]
    Migration {
        /// What failed.
        reason: Arc<str>,
    },
    /// It is the target of a copy that did not end.
    #[error(
        "the database is an unfinished copy of {origin}, begun {started_at}; delete it, and copy into an empty one again"
    )]
    UnfinishedCopy {
        /// What was copied.
        origin: String,
        /// When.
        started_at: Timestamp,
    },
    /// The check after an unclean stop found damage.
    #[error("the database file is damaged ({finding}); restore the last backup")]
    Damaged {
        /// The first finding of the check.
        finding: String,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Whether nothing was written: the file is as it was found.
    const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotOurs | Self::NewerSchema { .. } | Self::OlderSchema { .. } | Self::UnfinishedCopy { .. }
        )
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Fault::from(error).into()
    }
}

/// The books in one SQLite file: implements `LedgerStore` and `CatalogStore`.
///
/// One connection writes, behind a mutex; a few read. Call [`SqliteStore::close`] at the end: without it nothing is lost,
/// but the next start checks the file first.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Option<Mutex<Writer>>,
    readers: SqlitePool,
    lock: Option<FileLock>,
}

impl SqliteStore {
    /// Opens a file for reading and writing; makes it, and its folder, if it is missing. Brings the schema up to date.
    /// After an unclean stop the file is checked first, which takes about a second per gigabyte.
    ///
    /// # Errors
    /// [`OpenError`] says what to do next.
    pub async fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        if !options.upgrade && !path.exists() {
            return Err(OpenError::OlderSchema { missing: migrate::all() });
        }
        make_folder(path)?;
        let lock = FileLock::take(path)?;
        match open_writer(path, &options, lock.unclean).await {
            Ok(writer) => {
                let (writer, readers) = (Some(Mutex::new(writer)), readers(path));
                Ok(Self { path: path.to_owned(), writer, readers, lock: Some(lock) })
            }
            Err(error) if error.is_refusal() => {
                lock.left_as_found().map_err(StoreError::unavailable)?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens an existing file for reading, also while another process writes to it.
    ///
    /// # Errors
    /// When the file is missing, not ours, or of another version.
    pub async fn open_read_only(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let readers = readers(path);
        let mut connection = readers.acquire().await?;
        let missing = migrate::pending(&mut connection).await?;
        if !missing.is_empty() {
            return Err(OpenError::OlderSchema { missing });
        }
        archive::check_complete(&mut connection).await?;
        drop(connection);
        Ok(Self { path: path.to_owned(), writer: None, readers, lock: None })
    }

    /// Opens an existing file for reading while no process writes to it, and keeps it so. Changes nothing.
    ///
    /// # Errors
    /// As [`SqliteStore::open_read_only`], and when another process has the file.
    pub async fn open_stopped(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        if !path.exists() {
            return Err(StoreError::NotFound { what: "database file" }.into());
        }
        let lock = FileLock::take(path)?;
        match Self::open_read_only(path).await {
            Ok(store) => Ok(Self { lock: Some(lock), ..store }),
            Err(error) => {
                lock.left_as_found().map_err(StoreError::unavailable)?;
                Err(error)
            }
        }
    }

    /// The names of the migrations that a file still needs, without changing it. All of them when there is no file.
    ///
    /// # Errors
    /// As [`SqliteStore::open_read_only`].
    pub async fn pending_migrations(path: impl AsRef<Path>) -> Result<Vec<String>, OpenError> {
        let path = path.as_ref();
        if !path.exists() {
            return Ok(migrate::all());
        }
        let mut connection = reading(path).connect().await?;
        let pending = migrate::pending(&mut connection).await;
        connection.close().await?;
        pending
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a complete, consistent copy to a new file, while the store is in use.
    ///
    /// # Errors
    /// When `target` exists or cannot be written.
    pub async fn backup_to(&self, target: impl AsRef<Path>) -> Result<(), StoreError> {
        let target = target.as_ref();
        let Some(text) = target.to_str() else { return Err(StoreError::invalid("the path of the copy is not UTF-8")) };
        if target.exists() {
            return Err(StoreError::conflict(format_args!("{} exists already", target.display())));
        }
        sqlx::query("VACUUM INTO ?").bind(text).execute(&self.readers).await.map_err(Fault::from)?;
        Ok(())
    }

    /// Waits for what is being written, closes the file, and leaves word that it was left in good order.
    ///
    /// # Errors
    /// When the file cannot be written. The next start then checks it.
    pub async fn close(self) -> Result<(), StoreError> {
        self.readers.close().await;
        let wrote = self.writer.is_some();
        if let Some(writer) = self.writer {
            writer.into_inner().close().await?;
        }
        match self.lock {
            Some(lock) if wrote => lock.left_in_good_order().map_err(StoreError::unavailable),
            Some(lock) => lock.left_as_found().map_err(StoreError::unavailable),
            None => Ok(()),
        }
    }

    /// Whether no other process can write the file.
    pub(crate) const fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The connections that read.
    pub(crate) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// One of the connections that read.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Sqlite>, Fault> {
        Ok(self.readers.acquire().await?)
    }

    /// The connection that writes.
    pub(crate) async fn writer(&self) -> Result<tokio::sync::MutexGuard<'_, Writer>, Fault> {
        match &self.writer {
            Some(writer) => Ok(writer.lock().await),
            None => Err(StoreError::unavailable("the file was opened read-only").into()),
        }
    }
}

async fn open_writer(path: &Path, options: &SqliteOptions, unclean: bool) -> Result<Writer, OpenError> {
    let connect = writing(path, options);
    let mut connection = connect.connect().await?;
    if unclean {
        check(&mut connection).await?;
    }
    if options.upgrade {
        migrate::run(&mut connection).await?;
    } else {
        refuse_older(&mut connection).await?;
    }
    archive::check_complete(&mut connection).await?;
    Ok(Writer::new(connect, connection).await?)
}

async fn refuse_older(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let missing = migrate::pending(connection).await?;
    if missing.is_empty() { Ok(()) } else { Err(OpenError::OlderSchema { missing }) }
}

fn make_folder(path: &Path) -> Result<(), OpenError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| OpenError::Folder { path: path.to_owned(), source })
}

async fn check(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    tracing::warn!("the database was not closed in good order; checking it");
    let finding: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await?;
    if finding == "ok" { Ok(()) } else { Err(OpenError::Damaged { finding }) }
}

fn writing(path: &Path, options: &SqliteOptions) -> SqliteConnectOptions {
    let synchronous = match options.synchronous {
        Synchronous::Full => SqliteSynchronous::Full,
        Synchronous::Normal => SqliteSynchronous::Normal,
    };
    let connect = common(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("cache_size", WRITER_CACHE);
    match options.pages_max {
        Some(pages) => connect.pragma("max_page_count", pages.to_string()),
        None => connect,
    }
}

fn reading(path: &Path) -> SqliteConnectOptions {
    common(path).read_only(true)
}

fn common(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("temp_store", "memory")
        .statement_cache_capacity(STATEMENTS_MAX);
    // Only a test listens to what is run: `plans.rs`.
    if cfg!(test) { options } else { options.disable_statement_logging() }
}

fn readers(path: &Path) -> SqlitePool {
    SqlitePoolOptions::new().max_connections(READERS_MAX).test_before_acquire(false).connect_lazy_with(reading(path))
}
