//! The transaction that every change is, its moment, and the one connection of this process that seals what is booked.
//!
//! Most changes run on any connection of the pool, several at a time. Those that book entries take the [`Writer`] first,
//! before they lock any row: it keeps the end of this process's hash chain.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cfr_billing::store::StoreError;
use cfr_core::time::Timestamp;
use fail::fail_point;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Postgres, SqlSafeStr, SqlStr, Transaction};
use tokio::time::Instant;

use crate::chain::Head;
use crate::error::Fault;
use crate::open::{Login, StoreClock};

/// How long a change may take, with its repetitions: whoever waits for it would rather hear that the store is out of reach.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the writer waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the database may take to answer that an abandoned transaction is undone.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a transaction is done again that the database gave up for the sake of another one.
const COLLISIONS_MAX: u32 = 10;
/// How long the connection that seals keeps the plans of its statements. Those that were made for small tables compare every
/// row of a batch with every row of a table: until statistics are renewed, which may be never, that is slow once it grew.
const PLANS_AGE_MAX: Duration = Duration::from_secs(10);
/// How many transactions on the connections of the pool keep their plans, for the same reason. A prime, so that it meets
/// each connection, however many there are and whatever their turns.
const PLANS_TRANSACTIONS_MAX: u32 = 61;

/// Runs one function inside a transaction and commits what it did: again, when the database gave the transaction up for
/// another one, or when it turned out that something has to be sealed. With `sealing` it is expected to be.
macro_rules! write {
    ($store:expr, $now:expr, |$tx:ident| $work:expr) => {
        $crate::writer::write!($store, $now, $crate::writer::Attempts::default(), |$tx| $work)
    };
    (sealing $store:expr, $now:expr, |$tx:ident| $work:expr) => {
        $crate::writer::write!($store, $now, $crate::writer::Attempts::sealing(), |$tx| $work)
    };
    ($store:expr, $now:expr, $attempts:expr, |$tx:ident| $work:expr) => {
        $crate::writer::in_time(async {
            let mut attempts = $attempts;
            loop {
                let mut writer = if attempts.seals() { Some($store.writer().await?) } else { None };
                let mut transaction = match &mut writer {
                    Some(writer) => writer.begin($store.clock(), $now).await?,
                    None => $store.begin($now).await?,
                };
                let $tx = &mut transaction;
                let outcome = $work.await;
                match transaction.end(outcome).await {
                    Ok(done) => break Ok(done),
                    Err(fault) => attempts.next($store.collision_counter(), fault)?,
                }
            }
        })
    };
}
pub(crate) use write;

/// Gives up when the database does not answer: then nobody knows whether the change was made.
pub(crate) async fn in_time<T, E: From<Fault>>(change: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let late = || Fault::from(StoreError::unavailable("the database did not answer in time"));
    tokio::time::timeout(CHANGE_TIMEOUT, change).await.unwrap_or_else(|_| Err(late().into()))
}

/// How a change is tried the next time.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    seals: bool,
    collisions: u32,
}

impl Attempts {
    /// A change that books for certain.
    pub(crate) const fn sealing() -> Self {
        Self { seals: true, collisions: 0 }
    }

    /// Whether the writer is needed.
    pub(crate) const fn seals(&self) -> bool {
        self.seals
    }

    /// Whether it is worth another try: the fault when it is not.
    pub(crate) fn next(&mut self, collisions: &AtomicU64, fault: Fault) -> Result<(), Fault> {
        match fault {
            Fault::MustSeal if !self.seals => self.seals = true,
            fault if fault.is_collision() && self.collisions < COLLISIONS_MAX => {
                self.collisions += 1;
                collisions.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(times = self.collisions, "a transaction collided with another one");
            }
            fault => return Err(fault),
        }
        Ok(())
    }
}

/// The clock of the store. Its time never goes back behind what this process committed.
#[derive(Debug)]
pub(crate) struct Clock {
    kind: StoreClock,
    /// In microseconds.
    latest: AtomicI64,
    /// How far the database was ahead of callers when it was asked last, in microseconds.
    ahead: AtomicI64,
}

/// [`Clock::ahead`] before the database was asked.
const UNKNOWN: i64 = i64::MIN;

impl Clock {
    pub(crate) const fn new(kind: StoreClock, latest: i64) -> Self {
        Self { kind, latest: AtomicI64::new(latest), ahead: AtomicI64::new(UNKNOWN) }
    }

    /// The moment of a transaction.
    pub(crate) async fn moment(&self, connection: &mut PgConnection, now: Timestamp) -> Result<Timestamp, Fault> {
        match self.kind {
            StoreClock::Caller => self.not_before_the_last(now.as_microsecond()),
            StoreClock::Database => {
                let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
                let micros: i64 = sqlx::query_scalar(sql).persistent(false).fetch_one(connection).await?;
                self.not_before_the_last(micros)
            }
        }
    }

    /// A moment to begin with; the first statement of the transaction brings the right one.
    fn expected(&self, now: Timestamp) -> Result<Timestamp, Fault> {
        match self.kind {
            StoreClock::Caller => self.not_before_the_last(now.as_microsecond()),
            StoreClock::Database => self.not_before_the_last(i64::MIN),
        }
    }

    /// Whether [`Clock::estimate`] can tell the time.
    fn is_known(&self) -> bool {
        self.kind == StoreClock::Caller || self.ahead.load(Ordering::Relaxed) != UNKNOWN
    }

    /// The moment, from how far the database was ahead of callers.
    fn estimate(&self, now: Timestamp) -> Result<Timestamp, Fault> {
        let ahead = match self.kind {
            StoreClock::Caller => 0,
            StoreClock::Database => self.ahead.load(Ordering::Relaxed),
        };
        self.not_before_the_last(now.as_microsecond().saturating_add(ahead))
    }

    /// Learns what the clock of the database says to a caller whose own clock says `now`. A caller's clock stays.
    fn learn(&self, now: Timestamp, micros: i64) {
        self.ahead.store(micros.saturating_sub(now.as_microsecond()), Ordering::Relaxed);
    }

    fn not_before_the_last(&self, micros: i64) -> Result<Timestamp, Fault> {
        let micros = micros.max(self.latest.load(Ordering::Relaxed));
        Ok(Timestamp::from_microsecond(micros).map_err(StoreError::invalid)?)
    }
}

/// How transactions begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// Behind a pooler the next transaction may have another server process: what is set or prepared is set and prepared
    /// for one transaction only.
    pub(crate) pooled: bool,
}

/// What becomes of the plans of statements that a connection has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plans {
    Stay,
    AreRenewed,
}

impl Session {
    fn begin(self, plans: Plans) -> SqlStr {
        SqlStr::from_static(match (self.pooled, plans) {
            (true, _) => {
                "BEGIN; SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '5s'; \
                 SET LOCAL idle_in_transaction_session_timeout = '10s'"
            }
            (false, Plans::Stay) => "BEGIN",
            (false, Plans::AreRenewed) => "BEGIN; DISCARD PLANS",
        })
    }

    /// The same limits for every transaction of a session that is ours alone.
    pub(crate) fn apply(self, options: PgConnectOptions) -> PgConnectOptions {
        if self.pooled {
            return options;
        }
        options.options([
            ("statement_timeout", "30s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("jit", "off"), // for statements that run for seconds
        ])
    }

    /// What the connection that seals has beside that. Its few statements find every row by an index and are planned once
    /// for a while, whatever their arguments are.
    fn apply_to_writer(self, options: &PgConnectOptions) -> PgConnectOptions {
        if self.pooled {
            return options.clone();
        }
        options.clone().options([
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ])
    }
}

/// The connection that seals, and the end of the chain that it extends.
#[derive(Debug)]
pub(crate) struct Writer {
    login: Login,
    session: Session,
    standby: Arc<Standby>,
    /// None until it is needed, and after it broke.
    connection: Option<PgConnection>,
    /// When it was made.
    connected_at: Option<Instant>,
    /// Not later than its plans. None when that is not known.
    pub(crate) planned_at: Option<Instant>,
    /// None before the first batch, and when it is not known whether the last one was committed: then a new chain begins.
    head: Option<Head>,
    /// A transaction was begun and not ended.
    abandoned: bool,
}

impl Writer {
    /// A writer that connects when it is needed.
    pub(crate) const fn new(login: Login, session: Session, standby: Arc<Standby>) -> Self {
        Self {
            login,
            session,
            standby,
            connection: None,
            connected_at: None,
            planned_at: None,
            head: None,
            abandoned: false,
        }
    }

    /// Begins a transaction that can seal. Dropping it undoes everything.
    pub(crate) async fn begin<'a>(&'a mut self, clock: &'a Clock, now: Timestamp) -> Result<Tx<'a>, Fault> {
        let mut tx = self.begin_untimed(clock, now).await?;
        tx.now = clock.moment(tx.connection(), now).await?;
        Ok(tx)
    }

    /// Begins one whose first statement tells the time: see [`Tx::set_moment`].
    pub(crate) async fn begin_untimed<'a>(&'a mut self, clock: &'a Clock, now: Timestamp) -> Result<Tx<'a>, Fault> {
        self.recover().await;
        if self.is_outdated() {
            self.connection = None;
        }
        let plans = self.renew_plans();
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.connected_at = Some(Instant::now()); // not later than the server was chosen
                none.insert(connect(&self.session.apply_to_writer(&self.login)).await?)
            }
        };
        self.abandoned = true;
        let inner = Extent::Transaction(connection.begin_with(self.session.begin(plans)).await?);
        fail_point!("transaction.begun");
        let seal = Seal { head: &mut self.head, ends: None, abandoned: &mut self.abandoned };
        let (session, standby) = (self.session, Arc::clone(&self.standby));
        Ok(Tx { inner, now: clock.expected(now)?, asked: now, clock, session, standby, seal: Some(seal) })
    }

    /// Whether a change can be one statement: not as long as there is no connection, no chain to extend or the time is not
    /// known, not with old plans, and not behind a pooler.
    pub(crate) fn can_be_single(&self, clock: &Clock) -> bool {
        let ready = self.connection.is_some() && !self.abandoned && self.head.is_some();
        ready && !self.session.pooled && clock.is_known() && !self.is_outdated() && self.has_new_plans()
    }

    fn has_new_plans(&self) -> bool {
        self.planned_at.is_some_and(|at| at.elapsed() <= PLANS_AGE_MAX)
    }

    /// What the next transaction has to do about plans.
    fn renew_plans(&mut self) -> Plans {
        if self.has_new_plans() {
            return Plans::Stay;
        }
        self.planned_at = Some(Instant::now());
        Plans::AreRenewed
    }

    /// Whether a server was found meanwhile to take no writes.
    fn is_outdated(&self) -> bool {
        self.connected_at.is_some_and(|at| self.standby.was_found_within(at.elapsed()))
    }

    /// Begins a change that is one statement: one message to the server and one answer, nothing around them.
    pub(crate) fn single<'a>(&'a mut self, clock: &'a Clock, now: Timestamp) -> Result<Tx<'a>, Fault> {
        let missing = || StoreError::unavailable("there is no connection to Postgres");
        let inner = Extent::Statement(self.connection.as_mut().ok_or_else(missing)?);
        let moment = clock.estimate(now)?;
        self.abandoned = true;
        let seal = Seal { head: &mut self.head, ends: None, abandoned: &mut self.abandoned };
        let (session, standby) = (self.session, Arc::clone(&self.standby));
        Ok(Tx { inner, now: moment, asked: now, clock, session, standby, seal: Some(seal) })
    }

    /// Says goodbye to the server.
    pub(crate) async fn close(self) -> Result<(), Fault> {
        match self.connection {
            Some(connection) => Ok(connection.close().await?),
            None => Ok(()),
        }
    }

    /// Waits for the rollback of an abandoned transaction; replaces a connection that does not answer.
    async fn recover(&mut self) {
        let Some(connection) = self.connection.as_mut().filter(|_| self.abandoned) else { return };
        let answer = tokio::time::timeout(RECOVERY_TIMEOUT, connection.ping()).await;
        if !matches!(answer, Ok(Ok(()))) {
            tracing::warn!("connecting to the database again after a failed write");
            self.connection = None;
        }
        self.abandoned = false;
    }
}

/// When a server was found to take no writes, as a standby does. Connections that are older are made anew before they are
/// used again: the address may lead to the primary by now, and they would stay where they are.
#[derive(Debug, Default)]
pub(crate) struct Standby(Mutex<Option<Instant>>);

impl Standby {
    fn found(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it was found while a connection of this age existed.
    pub(crate) fn was_found_within(&self, age: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|found| found.elapsed() <= age)
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Fault> {
    let late = || StoreError::unavailable("the database did not accept a connection in time");
    Ok(tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await.map_err(|_| late())??)
}

/// A change of the books: all of it or nothing.
#[derive(Debug)]
pub(crate) struct Tx<'a> {
    inner: Extent<'a>,
    /// The moment of the change, never before that of an earlier one of this process, in whole microseconds.
    pub(crate) now: Timestamp,
    /// The same by the caller's clock.
    asked: Timestamp,
    clock: &'a Clock,
    session: Session,
    standby: Arc<Standby>,
    /// None when it cannot seal.
    seal: Option<Seal<'a>>,
}

/// What becomes durable together.
#[derive(Debug)]
enum Extent<'a> {
    Transaction(Transaction<'a, Postgres>),
    /// The next statement, as soon as it succeeds.
    Statement(&'a mut PgConnection),
}

/// The end of the chain, for the transaction that extends it.
#[derive(Debug)]
struct Seal<'a> {
    /// What the writer keeps: empty until the commit succeeds, so that nothing is ever built upon a stale end.
    head: &'a mut Option<Head>,
    /// The ends before this transaction and after it.
    ends: Option<Ends>,
    abandoned: &'a mut bool,
}

#[derive(Debug)]
struct Ends {
    before: Option<Head>,
    after: Head,
}

impl Tx<'_> {
    /// The connection, to run a statement on.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        match &mut self.inner {
            Extent::Transaction(transaction) => transaction,
            Extent::Statement(connection) => connection,
        }
    }

    /// The moment of the change as columns keep it.
    pub(crate) fn micros(&self) -> i64 {
        self.now.as_microsecond()
    }

    /// The moment by the clock of the database, as a statement of this transaction told it. A caller's clock stays.
    pub(crate) fn set_moment(&mut self, micros: i64) -> Result<(), Fault> {
        if self.clock.kind == StoreClock::Database {
            self.clock.learn(self.asked, micros);
            self.now = self.clock.not_before_the_last(micros)?;
        }
        Ok(())
    }

    /// Whether the moment is what the clock of the database is believed to say.
    pub(crate) const fn has_estimated_moment(&self) -> bool {
        matches!((&self.inner, self.clock.kind), (Extent::Statement(_), StoreClock::Database))
    }

    /// A statement of the hot path: prepared once per connection, where connections are ours.
    pub(crate) fn prepared<'q>(
        &self,
        sql: impl SqlSafeStr,
        arguments: PgArguments,
    ) -> Query<'q, Postgres, PgArguments> {
        sqlx::query_with(sql, arguments).persistent(!self.session.pooled)
    }

    /// Asks for a transaction that can seal, before anything is locked.
    pub(crate) const fn must_seal(&self) -> Result<(), Fault> {
        if self.seal.is_some() { Ok(()) } else { Err(Fault::MustSeal) }
    }

    /// The end of the hash chain, of a new one if there is none.
    pub(crate) async fn take_head(&mut self) -> Result<Head, Fault> {
        let Some(seal) = &mut self.seal else { return Err(Fault::MustSeal) };
        if let Some(ends) = &seal.ends {
            return Ok(ends.after.clone());
        }
        match seal.head.take() {
            Some(head) => {
                seal.ends = Some(Ends { before: Some(head.clone()), after: head.clone() });
                Ok(head)
            }
            None => {
                let now = self.now;
                Head::begin(self.connection(), now).await
            }
        }
    }

    /// Sets the end of the hash chain as this transaction leaves it.
    pub(crate) fn set_head(&mut self, head: Head) {
        let Some(seal) = &mut self.seal else { return };
        let before = seal.ends.take().and_then(|ends| ends.before);
        seal.ends = Some(Ends { before, after: head });
    }

    /// Commits what was done, or undoes it: then the fault is the answer.
    pub(crate) async fn end<T>(self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        match outcome {
            Ok(done) => self.commit().await.map(|()| done),
            Err(fault) => {
                if fault.is_read_only() {
                    self.standby.found();
                }
                self.roll_back(&fault).await;
                Err(fault)
            }
        }
    }

    /// Ends a transaction that changed nothing and seals nothing: nobody waits for the disk.
    pub(crate) async fn end_unchanged(self) -> Result<(), Fault> {
        match self.inner {
            Extent::Transaction(transaction) => Ok(transaction.rollback().await?),
            Extent::Statement(_) => Ok(()),
        }
    }

    /// Makes everything durable.
    async fn commit(self) -> Result<(), Fault> {
        if let Extent::Transaction(transaction) = self.inner {
            fail_point!("transaction.written");
            transaction.commit().await?;
        }
        fail_point!("transaction.committed");
        self.clock.latest.fetch_max(self.now.as_microsecond(), Ordering::Relaxed);
        if let Some(seal) = self.seal {
            *seal.abandoned = false;
            if let Some(ends) = seal.ends {
                *seal.head = Some(ends.after);
            }
        }
        Ok(())
    }

    /// Undoes everything. When that is certain, the chain ends where it ended before.
    async fn roll_back(self, fault: &Fault) {
        let undone = match self.inner {
            Extent::Transaction(transaction) => transaction.rollback().await.is_ok(),
            Extent::Statement(_) => fault.is_refusal(),
        };
        if !undone {
            return;
        }
        if let Some(seal) = self.seal {
            *seal.abandoned = false;
            if let Some(ends) = seal.ends {
                *seal.head = ends.before;
            }
        }
    }
}

/// A connection that only reads. Behind a pooler its statements are one transaction, for else they would meet different
/// server processes.
#[derive(Debug)]
pub(crate) enum Reader {
    Connection(PoolConnection<Postgres>),
    Transaction(Transaction<'static, Postgres>),
}

impl Deref for Reader {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

/// The connections that most changes and all reads use.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    connections: PgPool,
    session: Session,
    standby: Arc<Standby>,
    /// Transactions so far.
    begun: Arc<AtomicU32>,
}

impl Pool {
    pub(crate) fn new(connections: PgPool, session: Session, standby: Arc<Standby>) -> Self {
        Self { connections, session, standby, begun: Arc::default() }
    }

    fn begin_statement(&self) -> SqlStr {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        self.session.begin(if begun.is_multiple_of(PLANS_TRANSACTIONS_MAX) { Plans::AreRenewed } else { Plans::Stay })
    }

    /// Those that are open, and those of them that work now.
    pub(crate) fn connections(&self) -> (u32, u32) {
        let open = self.connections.size();
        let idle = u32::try_from(self.connections.num_idle()).unwrap_or(open);
        (open, open.saturating_sub(idle))
    }

    /// Begins a transaction that cannot seal. Dropping it undoes everything.
    pub(crate) async fn begin<'a>(&self, clock: &'a Clock, now: Timestamp) -> Result<Tx<'a>, Fault> {
        let mut tx = self.begin_untimed(clock, now).await?;
        tx.now = clock.moment(tx.connection(), now).await?;
        Ok(tx)
    }

    /// Begins one whose first statement tells the time: see [`Tx::set_moment`].
    pub(crate) async fn begin_untimed<'a>(&self, clock: &'a Clock, now: Timestamp) -> Result<Tx<'a>, Fault> {
        let inner = Extent::Transaction(self.connections.begin_with(self.begin_statement()).await?);
        let (session, standby) = (self.session, Arc::clone(&self.standby));
        Ok(Tx { inner, now: clock.expected(now)?, asked: now, clock, session, standby, seal: None })
    }

    /// A transaction that sees everything as it is now, for as long as it lasts: without the limits of short ones.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, Fault> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = 0; \
             SET LOCAL idle_in_transaction_session_timeout = 0";
        Ok(self.connections.begin_with(SqlStr::from_static(begin)).await?)
    }

    /// A connection to read from.
    pub(crate) async fn reader(&self) -> Result<Reader, Fault> {
        Ok(if self.session.pooled {
            Reader::Transaction(self.connections.begin_with(self.begin_statement()).await?)
        } else {
            Reader::Connection(self.connections.acquire().await?)
        })
    }

    /// Whether a pooler stands between.
    pub(crate) const fn is_pooled(&self) -> bool {
        self.session.pooled
    }

    /// A connection for simple statements, which need no transaction behind a pooler.
    pub(crate) async fn connection(&self) -> Result<PoolConnection<Postgres>, Fault> {
        Ok(self.connections.acquire().await?)
    }

    /// A transaction for what is not part of the books.
    pub(crate) async fn transaction(&self) -> Result<Transaction<'static, Postgres>, Fault> {
        Ok(self.connections.begin_with(self.begin_statement()).await?)
    }

    pub(crate) async fn close(&self) {
        self.connections.close().await;
    }
}
