//! What Postgres says, in the words of the store's contract: never a raw SQL text.

use cfr_billing::store::{AcquireError, StoreError};
use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Codes of Postgres (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(crate) mod code {
    pub(crate) const NO_SUCH_CHARACTER: &str = "22021";
    pub(crate) const NO_SUCH_JSON_CHARACTER: &str = "22P05";
    /// How a script says that the books are not what it requires.
    pub(crate) const DIVISION_BY_ZERO: &str = "22012";
    pub(crate) const OUT_OF_RANGE: &str = "22003";
    pub(crate) const APPEND_ONLY: &str = "23000";
    pub(crate) const SERIALIZATION_FAILURE: &str = "40001";
    pub(crate) const DEADLOCK: &str = "40P01";
    pub(crate) const WRONG_PASSWORD: &str = "28P01";
    pub(crate) const NOT_LET_IN: &str = "28000";
    pub(crate) const NO_DATABASE: &str = "3D000";
    pub(crate) const MISSING_RIGHTS: &str = "42501";
    pub(crate) const NO_TABLE: &str = "42P01";
    pub(crate) const READ_ONLY: &str = "25006";
    pub(crate) const DISK_FULL: &str = "53100";
    pub(crate) const OUT_OF_MEMORY: &str = "53200";
    pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(crate) const TOO_LONG: &str = "54000";
    pub(crate) const LOCK_NOT_AVAILABLE: &str = "55P03";
    pub(crate) const CANCELLED: &str = "57014";
    pub(crate) const IDLE_IN_TRANSACTION: &str = "25P03";
    pub(crate) const SHUTTING_DOWN: &str = "57P01";
    pub(crate) const CRASHED: &str = "57P02";
    pub(crate) const STARTING_UP: &str = "57P03";
    pub(crate) const STATEMENT_NAME_TAKEN: &str = "42P05";
    pub(crate) const NO_SUCH_STATEMENT: &str = "26000";
    pub(crate) const CORRUPT_DATA: &str = "XX001";
    pub(crate) const CORRUPT_INDEX: &str = "XX002";
}

/// The keys by which something is booked once: who finds it booked does not try.
const BOOKED_ONCE: &[&str] = &["charge_keys_pkey", "grants_idempotency_key_key"];

/// Why a step inside the store failed: the database, or one of our own rules.
#[derive(Debug)]
pub(crate) enum Fault {
    Sql(sqlx::Error),
    Store(StoreError),
    /// The step has to book an entry, and its transaction is not one that seals: it is done again in one that is.
    MustSeal,
}

impl Fault {
    /// Whether the server takes no writes: then another one may, such as the primary beside a standby.
    pub(crate) fn is_read_only(&self) -> bool {
        self.code().as_deref() == Some(code::READ_ONLY)
    }

    /// Whether a CHECK, UNIQUE or other constraint refused the statement.
    pub(crate) fn is_constraint(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("23"))
    }

    /// Whether the server refused the statement, undid it, and waits for the next one.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| error.severity() == PgSeverity::Error)
    }

    /// Whether the books are not what a script requires, or not what their constraints do.
    pub(crate) fn is_contradiction(&self) -> bool {
        let contradicts = matches!(self.code().as_deref(), Some(code::DIVISION_BY_ZERO | code::OUT_OF_RANGE));
        !self.is_collision() && (self.is_constraint() || contradicts)
    }

    /// Whether another transaction was in the way, so that the same again may succeed: the database gave this one up, or
    /// the other one booked in the same moment what this one did not find booked.
    pub(crate) fn is_collision(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                error.constraint().is_some_and(|constraint| BOOKED_ONCE.contains(&constraint))
            }
            _ => matches!(self.code().as_deref(), Some(code::DEADLOCK | code::SERIALIZATION_FAILURE)),
        }
    }

    /// The same fault, but a refused constraint means `conflict`.
    pub(crate) fn or_conflict(self, conflict: &str) -> Self {
        if self.is_constraint() { Self::Store(StoreError::conflict(conflict)) } else { self }
    }

    fn code(&self) -> Option<String> {
        match self {
            Self::Sql(error) => code_of(error),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Sql(error) => explain(&error),
            Fault::Store(error) => error,
            Fault::MustSeal => Self::unavailable("a step booked money in a transaction that cannot seal it"),
        }
    }
}

impl From<Fault> for AcquireError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}

/// The SQLSTATE of an error that the database reported.
pub(crate) fn code_of(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

fn explain(error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(database) => explain_code(database.as_ref()),
        sqlx::Error::PoolTimedOut => StoreError::unavailable(
            "no connection to Postgres was free in time; it is down, out of reach, or has too few connections",
        ),
        sqlx::Error::Io(error) => {
            StoreError::unavailable(format_args!("the connection to Postgres broke ({error}); it is tried again"))
        }
        other => StoreError::unavailable(format_args!("Postgres: {other}")),
    }
}

fn explain_code(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    if code.starts_with("23") {
        return refused(error);
    }
    if let Some(mistake) = mistake(&code) {
        return StoreError::invalid(mistake);
    }
    if let Some(obstacle) = obstacle(&code) {
        return StoreError::unwritable(obstacle);
    }
    match hint(&code) {
        Some(hint) => StoreError::unavailable(hint),
        None => StoreError::unavailable(format_args!("Postgres failed with code {code}: {}", error.message())),
    }
}

/// What is wrong with a value that Postgres does not take.
fn mistake(code: &str) -> Option<&'static str> {
    Some(match code {
        code::NO_SUCH_CHARACTER | code::NO_SUCH_JSON_CHARACTER => "a text has a character that cannot be stored: NUL",
        code::TOO_LONG => "a text is too long to be searched",
        _ if code.starts_with("22") => "a value is out of range",
        _ => return None,
    })
}

/// Why Postgres takes no writes from anybody.
fn obstacle(code: &str) -> Option<&'static str> {
    Some(match code {
        code::READ_ONLY => "the database is read-only; point the URL at the primary server",
        code::DISK_FULL => "the disk of the database is full; nothing was written",
        _ => return None,
    })
}

fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        code::DEADLOCK | code::SERIALIZATION_FAILURE => "too many transactions collided; it is tried again",
        code::MISSING_RIGHTS => "the database role lacks a right; grant it the rights of the application role",
        code::NO_TABLE => "a table is missing; run `cfr-server migrate`, or check the schema of the database URL",
        code::OUT_OF_MEMORY => "the database is out of memory; nothing was written",
        code::TOO_MANY_CONNECTIONS => "Postgres has no connection left; raise max_connections or use PgBouncer",
        code::LOCK_NOT_AVAILABLE | code::CANCELLED => "the database took too long; nothing was written",
        code::IDLE_IN_TRANSACTION => "the database gave up a transaction that had stopped; nothing was written",
        code::SHUTTING_DOWN | code::CRASHED | code::STARTING_UP => "Postgres is being restarted",
        code::STATEMENT_NAME_TAKEN | code::NO_SUCH_STATEMENT => {
            "prepared statements got mixed up, as behind PgBouncer; add `pgbouncer=true` to the database URL"
        }
        code::CORRUPT_DATA | code::CORRUPT_INDEX => "the database is damaged; restore the last backup",
        _ => return None,
    })
}

/// A constraint that was not foreseen by the caller, as a sentence.
fn refused(error: &dyn DatabaseError) -> StoreError {
    match error.kind() {
        ErrorKind::UniqueViolation => StoreError::conflict(taken(error.constraint().unwrap_or_default())),
        ErrorKind::ForeignKeyViolation => StoreError::NotFound { what: "row that this one refers to" },
        ErrorKind::CheckViolation => StoreError::conflict("the books would not add up"),
        ErrorKind::NotNullViolation => StoreError::invalid("a value is missing"),
        _ if error.code().as_deref() == Some(code::APPEND_ONLY) => StoreError::conflict(error.message()),
        _ => StoreError::invalid("a value is out of range"),
    }
}

/// Postgres names the constraint: `tenants_slug_key`.
fn taken(constraint: &str) -> &'static str {
    match constraint {
        "tenants_slug_key" => "the slug is taken by another tenant",
        "tenants_domain_key" => "the domain is taken by another tenant",
        "users_email_normal_key" => "the address is taken by another user",
        "api_keys_mac_key" => "the key exists already",
        "budgets_scope_scope_id_currency_period_kind_key" => {
            "there is such a budget already, in this currency and period"
        }
        "passkeys_pkey" => "the passkey is taken already",
        "grants_idempotency_key_key" => "the grant's key was used before",
        _ => "the value is taken",
    }
}
