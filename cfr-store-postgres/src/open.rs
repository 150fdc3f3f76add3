//! Opening and closing the database.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cfr_billing::store::{StoreError, missing_migrations};
use cfr_core::time::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, Postgres, Row, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::archive;
use crate::error::{Fault, code, code_of};
use crate::migrate;
use crate::notify::Notices;
use crate::partition::Months;
use crate::row::query;
use crate::writer::{Clock, Pool, Reader, Session, Standby, Tx, Writer};

/// Connections of one process beside the one that seals, unless the options say otherwise. Postgres works best with few.
const CONNECTIONS_MAX: u32 = 8;
/// How long a request for a connection waits: then it is better to refuse what needs one.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the first connection may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is replaced now and then: its server process keeps what it has cached.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);
/// The oldest version of Postgres that has what the schema needs.
const SERVER_VERSION_MIN: i32 = 130_000;
/// In the URL: the server is a pooler in transaction mode.
const POOLER_PARAMETER: &str = "pgbouncer";
/// The other parameters of a URL, beside `options[…]`: the driver ignores what it does not know, and so a misspelled
/// `sslmode` would go without TLS.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];
/// What a pooler says of a parameter that it cannot pass on.
const POOLER_REFUSES: &str = "unsupported startup parameter";

/// Whose clock decides when a period begins and a lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StoreClock {
    /// The clock of the database, which all nodes share.
    #[default]
    Database,
    /// The moments that callers bring: for tests, and for virtual time.
    Caller,
}

/// How a database is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// Connections of this process, beside the one that seals what is booked.
    pub connections_max: u32,
    /// Whose clock decides.
    pub clock: StoreClock,
    /// Whether a pooler such as PgBouncer in transaction mode stands between: then no session keeps anything. The parameter
    /// `pgbouncer=true` of the URL says the same.
    pub pooled: bool,
    /// Whether a schema that an older version made is brought up to date. Else it is refused.
    pub upgrade: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { connections_max: CONNECTIONS_MAX, clock: StoreClock::default(), pooled: false, upgrade: true }
    }
}

/// Why a database was not opened. No variant tells the password of the URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL cannot be read.
    #[error(
        "the database URL is not one of Postgres ({reason}); write postgres://user:password@host:5432/database, and in the \
         password %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #"
    )]
    BadUrl {
        /// What is wrong.
        reason: Arc<str>,
    },
    /// Nobody answers.
    #[error("cannot reach Postgres at {target} ({reason}); check that it runs, and host and port of the database URL")]
    Unreachable {
        /// User, host, port and database.
        target: Arc<str>,
        /// What the system says.
        reason: Arc<str>,
    },
    /// The server does not let us in.
    #[error("Postgres at {target} refuses the login ({reason}); check user and password of the database URL")]
    Refused {
        /// User, host, port and database.
        target: Arc<str>,
        /// What the server says.
        reason: Arc<str>,
    },
    /// A pooler answers, and nobody said that there is one.
    #[error(
        "{target} is a pooler; add `pgbouncer=true` to the database URL, or set `prepared_statements = false` in [database]"
    )]
    Pooler {
        /// User, host, port and database.
        target: Arc<str>,
    },
    /// There is no such database.
    #[error("Postgres at {target} has no such database; create it with `createdb`, or correct the database URL")]
    NoDatabase {
        /// User, host, port and database.
        target: Arc<str>,
    },
    /// The server is too old, or not Postgres.
    #[error("the server is version {found} of Postgres; version 13 or newer is needed")]
    OldServer {
        /// Its version.
        found: Arc<str>,
    },
    /// The schema has tables of another program.
    #[error("the schema has tables of another program; name an empty database, or a schema with options[search_path]")]
    NotOurs,
    /// A newer version of this software wrote it.
    #[error(
        "the database has schema {found}, this version knows {known}; install the version that wrote it, or a newer one"
    )]
    NewerSchema {
        /// The newest migration in the database.
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
        "migration {version} of the database is not ours; open it with the version that wrote it, or choose another one"
    )]
    EditedMigration {
        /// The migration.
        version: i64,
    },
    /// It is the target of a copy that did not end.
    #[error(
        "the database is an unfinished copy of {origin}, begun {started_at}; drop it, and copy into an empty one again"
    )]
    UnfinishedCopy {
        /// What was copied.
        origin: String,
        /// When.
        started_at: Timestamp,
    },
    /// The role may not do what is needed.
    #[error(
        "the database role lacks a right ({reason}); let the owner of the schema run `cfr-server migrate`, and then \
         `SELECT grant_application_role('role')`"
    )]
    MissingRights {
        /// What the server says.
        reason: Arc<str>,
    },
    /// A migration failed.
    #[error("the schema cannot be brought up to date: {reason}")]
    Migration {
        /// What failed.
        reason: Arc<str>,
    },
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Sql(error) if code_of(&error).as_deref() == Some(code::MISSING_RIGHTS) => {
                Self::MissingRights { reason: words(&error) }
            }
            fault => Self::Store(fault.into()),
        }
    }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Fault::from(error).into()
    }
}

/// The books in Postgres: implements `LedgerStore` and `CatalogStore`.
///
/// Any number of processes share a database. Each has a few connections, and one more that seals what it books.
#[derive(Debug)]
pub struct PostgresStore {
    /// None when it was opened for reading.
    writer: Option<Mutex<Writer>>,
    pool: Pool,
    notices: Notices,
    months: Months,
    clock: Clock,
    collisions: AtomicU64,
}

impl PostgresStore {
    /// Opens a database for reading and writing, and brings the schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] says what to do next.
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Self, OpenError> {
        let target = Target::parse(url, &options)?;
        let mut connection = target.connect().await?;
        let missing = migrate::pending(&mut connection).await?;
        if !missing.is_empty() && !options.upgrade {
            return Err(OpenError::OlderSchema { missing });
        }
        if !missing.is_empty() {
            migrate::run(&mut connection).await?;
        }
        let store = Self::with(connection, target, &options, true).await?;
        if options.clock == StoreClock::Database {
            let now = store.clock.moment(&mut *store.reader().await?, Timestamp::MIN).await?;
            store.months.keep_ahead(now).await;
        }
        Ok(store)
    }

    /// Opens an up-to-date database for reading.
    ///
    /// # Errors
    /// When the database is out of reach, not ours, or of another version.
    pub async fn open_read_only(url: &str, options: PostgresOptions) -> Result<Self, OpenError> {
        let target = Target::parse(url, &options)?;
        let mut connection = target.connect().await?;
        let missing = migrate::pending(&mut connection).await?;
        if !missing.is_empty() {
            return Err(OpenError::OlderSchema { missing });
        }
        Self::with(connection, target, &options, false).await
    }

    /// The names of the migrations that a database still needs, without changing it.
    ///
    /// # Errors
    /// As [`PostgresStore::open_read_only`].
    pub async fn pending_migrations(url: &str, options: PostgresOptions) -> Result<Vec<String>, OpenError> {
        let mut connection = Target::parse(url, &options)?.connect().await?;
        let pending = migrate::pending(&mut connection).await;
        connection.close().await?;
        pending
    }

    /// As [`PostgresStore::pending_migrations`], and whether the role could apply them.
    ///
    /// # Errors
    /// [`OpenError::MissingRights`] when the role may not make tables. As [`PostgresStore::open_read_only`].
    pub async fn rehearse_migrations(url: &str, options: PostgresOptions) -> Result<Vec<String>, OpenError> {
        let mut connection = Target::parse(url, &options)?.connect().await?;
        let pending = migrate::pending(&mut connection).await?;
        let may_make_tables = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)";
        let allowed: bool = sqlx::raw_sql(may_make_tables).fetch_one(&mut connection).await?.try_get(0)?;
        connection.close().await?;
        if pending.is_empty() || allowed {
            return Ok(pending);
        }
        Err(OpenError::MissingRights { reason: "it may not make tables in the schema".into() })
    }

    async fn with(
        mut connection: PgConnection,
        target: Target,
        options: &PostgresOptions,
        writes: bool,
    ) -> Result<Self, OpenError> {
        let mut look = connection.begin().await?; // behind a pooler a statement alone may meet two server processes
        archive::check_complete(&mut look).await?;
        let clock = Clock::new(options.clock, last_moment(&mut look).await?);
        look.rollback().await?;
        connection.close().await?;
        let standby = Arc::new(Standby::default());
        let outdated = Arc::clone(&standby);
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(LIFETIME_MAX)
            .before_acquire(move |_, known| {
                let stays = !outdated.was_found_within(known.age);
                Box::pin(async move { Ok(stays) })
            })
            .connect_lazy_with(target.login.0.clone());
        let pool = Pool::new(pool, target.session, Arc::clone(&standby));
        let notices = Notices::new(target.login.clone(), pool.clone());
        let months = Months::new(pool.clone());
        let writer = writes.then(|| Mutex::new(Writer::new(target.login, target.session, standby)));
        Ok(Self { writer, pool, notices, months, clock, collisions: AtomicU64::new(0) })
    }

    /// Waits for what is being written, and closes every connection.
    ///
    /// # Errors
    /// Never for what was committed: that is safe. When the server is gone meanwhile.
    pub async fn close(self) -> Result<(), StoreError> {
        self.notices.close().await;
        self.pool.close().await;
        match self.writer {
            Some(writer) => Ok(writer.into_inner().close().await?),
            None => Ok(()),
        }
    }

    /// Connections that are open, and those of them that work now, beside the one that seals.
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        self.pool.connections()
    }

    /// How often a transaction was done again because it collided with another one, since the store was opened.
    #[must_use]
    pub fn collisions(&self) -> u64 {
        self.collisions.load(Ordering::Relaxed)
    }

    /// Counts them.
    pub(crate) const fn collision_counter(&self) -> &AtomicU64 {
        &self.collisions
    }

    /// The clock of the store.
    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The months of usage and entries.
    pub(crate) const fn months(&self) -> &Months {
        &self.months
    }

    /// Word between the processes.
    pub(crate) const fn notices(&self) -> &Notices {
        &self.notices
    }

    /// A connection that reads.
    pub(crate) async fn reader(&self) -> Result<Reader, Fault> {
        self.pool.reader().await
    }

    /// A transaction that reads, and sees everything as it is now for as long as it lasts.
    pub(crate) async fn snapshot_transaction(&self) -> Result<Transaction<'static, Postgres>, Fault> {
        self.pool.snapshot().await
    }

    /// A transaction on one of the connections: it changes what it likes, but seals nothing.
    pub(crate) async fn begin(&self, now: Timestamp) -> Result<Tx<'_>, Fault> {
        self.may_write()?;
        self.pool.begin(&self.clock, now).await
    }

    /// One whose first statement tells the time.
    pub(crate) async fn begin_untimed(&self, now: Timestamp) -> Result<Tx<'_>, Fault> {
        self.may_write()?;
        self.pool.begin_untimed(&self.clock, now).await
    }

    /// The connection that seals.
    pub(crate) async fn writer(&self) -> Result<MutexGuard<'_, Writer>, Fault> {
        Ok(self.may_write()?.lock().await)
    }

    fn may_write(&self) -> Result<&Mutex<Writer>, Fault> {
        let read_only = || StoreError::unavailable("the database was opened read-only").into();
        self.writer.as_ref().ok_or_else(read_only)
    }
}

/// Registering and renewing note the time, so the database cannot have seen a later one by much.
async fn last_moment(connection: &mut PgConnection) -> Result<i64, OpenError> {
    let row = query("SELECT coalesce(max(seen_at), 0) FROM nodes").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// How to connect. It has the password, and does not show it.
#[derive(Clone)]
pub(crate) struct Login(PgConnectOptions);

impl Deref for Login {
    type Target = PgConnectOptions;
    fn deref(&self) -> &PgConnectOptions {
        &self.0
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// Where the database is, and how to talk to it.
#[derive(Debug)]
struct Target {
    login: Login,
    session: Session,
    /// User, host, port and database: what may be shown.
    name: Arc<str>,
}

impl Target {
    fn parse(url: &str, options: &PostgresOptions) -> Result<Self, OpenError> {
        let (url, pooler) = without_pooler_parameter(url);
        let session = Session { pooled: pooler || options.pooled };
        let bad = |reason: &str| OpenError::BadUrl { reason: reason.into() };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(bad("it begins with another word"));
        }
        check_parameters(&url).map_err(|reason| bad(&reason))?;
        let connect = PgConnectOptions::from_str(&url).map_err(|_| bad("a part of it makes no sense"))?;
        let name = format!(
            "{}@{}:{}/{}",
            connect.get_username(),
            connect.get_host(),
            connect.get_port(),
            connect.get_database().unwrap_or_default()
        );
        let connect = connect.application_name("cfr").extra_float_digits(None).disable_statement_logging();
        Ok(Self { login: Login(session.apply(connect)), session, name: name.into() })
    }

    /// The first connection, with errors that say what to do.
    async fn connect(&self) -> Result<PgConnection, OpenError> {
        let late = |_| OpenError::Unreachable { target: self.name.clone(), reason: "no answer in time".into() };
        let connected = tokio::time::timeout(OPEN_TIMEOUT, self.login.connect()).await.map_err(late)?;
        let mut connection = connected.map_err(|error| self.explain(&error))?;
        // In one message, which a pooler cannot part.
        let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version')";
        let row = sqlx::raw_sql(sql).fetch_one(&mut connection).await?;
        if row.try_get::<i32, _>(0)? < SERVER_VERSION_MIN {
            return Err(OpenError::OldServer { found: row.try_get::<&str, _>(1)?.into() });
        }
        Ok(connection)
    }

    fn explain(&self, error: &sqlx::Error) -> OpenError {
        let (target, reason) = (self.name.clone(), words(error));
        match code_of(error).as_deref() {
            _ if reason.contains(POOLER_REFUSES) => OpenError::Pooler { target },
            Some(code::NO_DATABASE) => OpenError::NoDatabase { target },
            Some(code::WRONG_PASSWORD | code::NOT_LET_IN) => OpenError::Refused { target, reason },
            _ => OpenError::Unreachable { target, reason },
        }
    }
}

/// What the server or the system says, without the place in the source code of Postgres.
fn words(error: &sqlx::Error) -> Arc<str> {
    match error {
        sqlx::Error::Database(database) => database.message().into(),
        other => other.to_string().into(),
    }
}

/// Refuses what the driver would ignore, in words that repeat no password: of one with unescaped characters, a part can
/// stand where the name of a parameter is looked for.
fn check_parameters(url: &str) -> Result<(), String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let names = parameters.split('&').filter_map(|parameter| parameter.split('=').next());
    let database = place.split_once('/').map_or("", |(_, database)| database);
    if database.contains('@') || names.clone().any(|name| name.contains('@')) {
        return Err("an @ stands where none can be".into());
    }
    let is_known = |name: &&str| name.is_empty() || PARAMETERS.contains(name) || name.starts_with("options[");
    match names.clone().find(|name| !is_known(name)) {
        Some(unknown) => Err(format!("there is no parameter `{unknown}`")),
        None => Ok(()),
    }
}

/// The URL that the driver knows, and whether it named a pooler.
fn without_pooler_parameter(url: &str) -> (String, bool) {
    let Some((base, parameters)) = url.split_once('?') else { return (url.to_owned(), false) };
    let is_ours = |parameter: &&str| parameter.split('=').next() == Some(POOLER_PARAMETER);
    let (ours, others): (Vec<&str>, Vec<&str>) = parameters.split('&').partition(is_ours);
    let pooled = ours.iter().any(|parameter| !parameter.ends_with("=false"));
    let url = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
    (url, pooled)
}
