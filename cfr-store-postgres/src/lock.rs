//! The advisory locks of the store. Each is held until its transaction ends, as a pooler needs it.

use sqlx::PgConnection;

use crate::error::Fault;
use crate::row::query;

/// What one transaction of the database does at a time. The numbers are "cfr1" and those after it.
#[derive(Debug, Clone, Copy)]
#[repr(i64)]
pub(crate) enum AdvisoryLock {
    /// Changing the schema.
    Schema = 0x6366_7231,
    /// Writing behind the end of the audit log. It is taken last, by whoever has locked rows already.
    AuditLog = 0x6366_7232,
    /// Reclaiming. It is taken first: who has it waits for rows, and nobody who has rows waits for it.
    Reclaim = 0x6366_7233,
}

impl AdvisoryLock {
    /// Waits until nobody else has it.
    pub(crate) async fn take(self, connection: &mut PgConnection) -> Result<(), Fault> {
        query("SELECT pg_advisory_xact_lock($1)").bind(self as i64).execute(connection).await?;
        Ok(())
    }
}
