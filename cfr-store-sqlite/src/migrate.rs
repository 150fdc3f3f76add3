//! The schema: forward-only migrations inside the binary, and the check that a file is ours and not from the future.

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlStr, SqliteConnection};

use crate::open::OpenError;

/// `PRAGMA application_id` of our files: "cfr1".
const APPLICATION_ID: i64 = 0x6366_7231;

/// Every migration, oldest first. A published one is never edited: its checksum is in every database.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "books", include_str!("../migrations/0001_books.sql")),
    (2, "nodes", include_str!("../migrations/0002_nodes.sql")),
    (3, "corrections", include_str!("../migrations/0003_corrections.sql")),
    (4, "usage_lists", include_str!("../migrations/0004_usage_lists.sql")),
    (5, "copies", include_str!("../migrations/0005_copies.sql")),
    (6, "entry_lists", include_str!("../migrations/0006_entry_lists.sql")),
    (7, "request_batches", include_str!("../migrations/0007_request_batches.sql")),
    (8, "audit_log", include_str!("../migrations/0008_audit_log.sql")),
    (9, "people", include_str!("../migrations/0009_people.sql")),
    (10, "keys", include_str!("../migrations/0010_keys.sql")),
    (11, "oidc", include_str!("../migrations/0011_oidc.sql")),
    (12, "secrets", include_str!("../migrations/0012_secrets.sql")),
    (13, "drop_in", include_str!("../migrations/0013_drop_in.sql")),
    (14, "reports", include_str!("../migrations/0014_reports.sql")),
    (15, "erasure", include_str!("../migrations/0015_erasure.sql")),
    (16, "sales", include_str!("../migrations/0016_sales.sql")),
    (17, "attempts", include_str!("../migrations/0017_attempts.sql")),
    (18, "passkeys", include_str!("../migrations/0018_passkeys.sql")),
    (19, "wide_tables", include_str!("../migrations/0019_wide_tables.sql")),
];

/// What a database file is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    Ours,
    Foreign,
}

/// Looks at the header and the schema.
pub(crate) async fn kind(connection: &mut SqliteConnection) -> Result<Kind, OpenError> {
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    if application == APPLICATION_ID {
        return Ok(Kind::Ours);
    }
    let objects: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    Ok(if application == 0 && objects == 0 { Kind::Empty } else { Kind::Foreign })
}

/// Brings the schema up to date. Each migration is one transaction.
pub(crate) async fn run(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    check(connection).await?;
    migrator().run_direct(None, connection, false).await.map_err(explain)
}

/// The names of the migrations that a file still needs, oldest first.
pub(crate) async fn pending(connection: &mut SqliteConnection) -> Result<Vec<String>, OpenError> {
    let applied = check(connection).await?;
    let missing = MIGRATIONS.iter().filter(|(version, ..)| !applied.contains(version));
    Ok(missing.map(|(version, name, _)| format!("{version:04}_{name}")).collect())
}

/// Refuses files that are not ours or newer than we are; names the migrations that were applied.
async fn check(connection: &mut SqliteConnection) -> Result<Vec<i64>, OpenError> {
    match kind(connection).await? {
        Kind::Empty => return Ok(Vec::new()),
        Kind::Foreign => return Err(OpenError::NotOurs),
        Kind::Ours => {}
    }
    let applied = connection.list_applied_migrations(&migrator().table_name).await.map_err(explain)?;
    let versions: Vec<i64> = applied.iter().map(|migration| migration.version).collect();
    let newest = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
    match versions.iter().find(|version| **version > newest) {
        Some(&found) => Err(OpenError::NewerSchema { found, known: newest }),
        None => Ok(versions),
    }
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.collect())
}

fn explain(error: MigrateError) -> OpenError {
    match error {
        MigrateError::VersionMismatch(version) => OpenError::EditedMigration { version },
        MigrateError::Execute(error) => error.into(),
        other => OpenError::Migration { reason: other.to_string().into() },
    }
}

/// The names of all migrations, oldest first.
pub(crate) fn all() -> Vec<String> {
    MIGRATIONS.iter().map(|(version, name, _)| format!("{version:04}_{name}")).collect()
}
