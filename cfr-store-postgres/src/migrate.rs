//! The schema: forward-only migrations inside the binary, and the check that a schema is ours and not from the future.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, SqlStr};

use crate::error::{code, code_of};
use crate::lock::AdvisoryLock;
use crate::open::OpenError;
use crate::row::query;

/// Where the applied migrations are noted. The name is also how we recognise a schema of ours.
const TABLE: &str = "cfr_migrations";

/// Every migration, oldest first. A published one is never edited: its checksum is in every database.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "books", include_str!("../migrations/0001_books.sql")),
    (2, "agreements", include_str!("../migrations/0002_agreements.sql")),
    (3, "notices", include_str!("../migrations/0003_notices.sql")),
    (4, "partitions", include_str!("../migrations/0004_partitions.sql")),
    (5, "copies", include_str!("../migrations/0005_copies.sql")),
    (6, "corrections", include_str!("../migrations/0006_corrections.sql")),
    (7, "ended_holds", include_str!("../migrations/0007_ended_holds.sql")),
    (8, "forgotten_nodes", include_str!("../migrations/0008_forgotten_nodes.sql")),
    (9, "leases_of_a_node", include_str!("../migrations/0009_leases_of_a_node.sql")),
    (10, "request_batches", include_str!("../migrations/0010_request_batches.sql")),
    (11, "audit_log", include_str!("../migrations/0011_audit_log.sql")),
    (12, "people", include_str!("../migrations/0012_people.sql")),
    (13, "keys", include_str!("../migrations/0013_keys.sql")),
    (14, "oidc", include_str!("../migrations/0014_oidc.sql")),
    (15, "secrets", include_str!("../migrations/0015_secrets.sql")),
    (16, "drop_in", include_str!("../migrations/0016_drop_in.sql")),
    (17, "reports", include_str!("../migrations/0017_reports.sql")),
    (18, "erasure", include_str!("../migrations/0018_erasure.sql")),
    (19, "sales", include_str!("../migrations/0019_sales.sql")),
    (20, "attempts", include_str!("../migrations/0020_attempts.sql")),
    (21, "passkeys", include_str!("../migrations/0021_passkeys.sql")),
    (22, "wide_tables", include_str!("../migrations/0022_wide_tables.sql")),
];

/// What a schema is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    Ours,
    Foreign,
}

/// Looks at the tables of the connection's schema, but not at those of extensions.
pub(crate) async fn kind(connection: &mut PgConnection) -> Result<Kind, OpenError> {
    let sql = "SELECT coalesce(bool_or(relname = $1), false) AS ours, count(*) AS tables FROM pg_class c \
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT EXISTS \
         (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";
    let row = query(sql).bind(TABLE).fetch_one(connection).await?;
    Ok(match (sqlx::Row::try_get(&row, "ours")?, sqlx::Row::try_get::<i64, _>(&row, "tables")?) {
        (true, _) => Kind::Ours,
        (false, 0) => Kind::Empty,
        (false, _) => Kind::Foreign,
    })
}

/// Brings the schema up to date, in one transaction. Of several processes that start at once, one does it and the others
/// wait: the lock ends with the transaction, as a pooler needs it.
pub(crate) async fn run(connection: &mut PgConnection) -> Result<(), OpenError> {
    let mut transaction = connection.begin().await?;
    AdvisoryLock::Schema.take(&mut transaction).await?;
    check(&mut transaction).await?;
    migrator().run_direct(None, &mut *transaction, false).await.map_err(explain)?;
    Ok(transaction.commit().await?)
}

/// The names of the migrations that a schema still needs, oldest first.
pub(crate) async fn pending(connection: &mut PgConnection) -> Result<Vec<String>, OpenError> {
    let mut look = connection.begin().await?; // behind a pooler a statement alone may meet two server processes
    let applied = check(&mut look).await?;
    look.rollback().await?;
    let missing = MIGRATIONS.iter().filter(|(version, ..)| !applied.contains(version));
    Ok(missing.map(|(version, name, _)| format!("{version:04}_{name}")).collect())
}

/// Refuses schemas that are not ours, newer than we are or edited; names the migrations that were applied.
async fn check(connection: &mut PgConnection) -> Result<Vec<i64>, OpenError> {
    match kind(connection).await? {
        Kind::Empty => return Ok(Vec::new()),
        Kind::Foreign => return Err(OpenError::NotOurs),
        Kind::Ours => {}
    }
    let rows = query("SELECT version, checksum FROM cfr_migrations ORDER BY version").fetch_all(connection).await?;
    let migrator = migrator();
    let newest = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
    let mut versions = Vec::with_capacity(rows.len());
    for row in rows {
        let (version, checksum): (i64, Vec<u8>) = (sqlx::Row::try_get(&row, 0)?, sqlx::Row::try_get(&row, 1)?);
        match migrator.iter().find(|known| known.version == version) {
            Some(known) if *known.checksum == checksum => versions.push(version),
            Some(_) => return Err(OpenError::EditedMigration { version }),
            None => return Err(OpenError::NewerSchema { found: version, known: newest }),
        }
    }
    Ok(versions)
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator {
        table_name: Cow::Borrowed(TABLE),
        locking: false, // ours is held
        ..Migrator::with_migrations(migrations.collect())
    }
}

fn explain(error: MigrateError) -> OpenError {
    match error {
        MigrateError::VersionMismatch(version) => OpenError::EditedMigration { version },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
            if code_of(&error).as_deref() == Some(code::MISSING_RIGHTS) =>
        {
            OpenError::MissingRights { reason: error.to_string().into() }
        }
        MigrateError::Execute(error) => error.into(),
        other => OpenError::Migration { reason: other.to_string().into() },
    }
}
