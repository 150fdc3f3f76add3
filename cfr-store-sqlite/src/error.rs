//! What SQLite says, in the words of the store's contract: never a raw SQL text.

use cfr_billing::store::{AcquireError, StoreError};
use sqlx::error::ErrorKind;

/// Primary result codes of SQLite (<https://sqlite.org/rescode.html>).
const SQLITE_BUSY: i64 = 5;
const SQLITE_LOCKED: i64 = 6;
const SQLITE_READONLY: i64 = 8;
const SQLITE_IOERR: i64 = 10;
const SQLITE_CORRUPT: i64 = 11;
const SQLITE_FULL: i64 = 13;
const SQLITE_CANTOPEN: i64 = 14;
const SQLITE_CONSTRAINT: i64 = 19;
const SQLITE_NOTADB: i64 = 26;

/// Why a step inside the store failed: the database, or one of our own rules.
#[derive(Debug)]
pub(crate) enum Fault {
    Sql(sqlx::Error),
    Store(StoreError),
}

impl Fault {
    /// Whether a CHECK, UNIQUE or other constraint refused the statement.
    pub(crate) fn is_constraint(&self) -> bool {
        matches!(self, Self::Sql(error) if primary_code(error) == Some(SQLITE_CONSTRAINT))
    }

    /// The same fault, but a refused constraint means `conflict`.
    pub(crate) fn or_conflict(self, conflict: &str) -> Self {
        if self.is_constraint() { Self::Store(StoreError::conflict(conflict)) } else { self }
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
        }
    }
}

impl From<Fault> for AcquireError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}

/// The SQLite primary result code: the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<i64> {
    let code = error.as_database_error()?.code()?.parse::<i64>().ok()?;
    Some(code & 0xff)
}

fn explain(error: &sqlx::Error) -> StoreError {
    match primary_code(error) {
        Some(SQLITE_CONSTRAINT) => refused(error),
        Some(SQLITE_READONLY) => {
            StoreError::unwritable("the database file is read-only; make it and its folder writable for this user")
        }
        Some(SQLITE_FULL) => {
            StoreError::unwritable("the disk is full, or the database reached its size limit; nothing was written")
        }
        Some(code) => match hint(code) {
            Some(hint) => StoreError::unavailable(hint),
            None => StoreError::unavailable(format_args!("SQLite failed with code {code}: {error}")),
        },
        None => StoreError::unavailable(format_args!("SQLite: {error}")),
    }
}

const fn hint(code: i64) -> Option<&'static str> {
    Some(match code {
        SQLITE_BUSY | SQLITE_LOCKED => {
            "the database is locked by another program; end whatever else writes to the file"
        }
        SQLITE_CORRUPT => "the database file is damaged; restore the last backup",
        SQLITE_NOTADB => "the file is not an SQLite database; name another one",
        SQLITE_IOERR => "reading or writing the database file failed; check the disk",
        SQLITE_CANTOPEN => "the database file cannot be opened; check that it exists and that this user may use it",
        _ => return None,
    })
}

/// A constraint that was not foreseen by the caller, as a sentence.
fn refused(error: &sqlx::Error) -> StoreError {
    let Some(database) = error.as_database_error() else { return StoreError::unavailable(error) };
    match database.kind() {
        ErrorKind::UniqueViolation => StoreError::conflict(taken(database.message())),
        ErrorKind::ForeignKeyViolation => StoreError::NotFound { what: "row that this one refers to" },
        ErrorKind::CheckViolation => StoreError::conflict("the books would not add up"),
        ErrorKind::NotNullViolation => StoreError::invalid("a value is missing"),
        _ if database.message().contains("append-only") || database.message().contains("immutable") => {
            StoreError::conflict(database.message())
        }
        _ => StoreError::invalid("a value is out of range"),
    }
}

/// SQLite names the columns: `UNIQUE constraint failed: tenants.slug`.
fn taken(message: &str) -> &'static str {
    let column = message.rsplit(": ").next().unwrap_or_default();
    match column.split(',').next().unwrap_or_default().trim() {
        "tenants.slug" => "the slug is taken by another tenant",
        "tenants.domain" => "the domain is taken by another tenant",
        "users.email_normal" => "the address is taken by another user",
        "api_keys.mac" => "the key exists already",
        "budgets.scope" => "there is such a budget already, in this currency and period",
        "passkeys.id" => "the passkey is taken already",
        "grants.idempotency_key" => "the grant's key was used before",
        _ => "the value is taken",
    }
}
