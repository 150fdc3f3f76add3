//! How often something was tried: one row for each subject, until its count is over.

use cfr_billing::people::{AttemptCount, SecretHash};
use cfr_core::time::Timestamp;

use crate::error::Fault;
use crate::row::Fields;
use crate::writer::Tx;

pub(super) async fn count(
    tx: &mut Tx<'_>,
    subject: &SecretHash,
    more: u32,
    now: Timestamp,
    until: Timestamp,
) -> Result<AttemptCount, Fault> {
    let sql = "INSERT INTO attempts AS known (subject, count, ends_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (subject) DO UPDATE SET \
         count = CASE WHEN known.ends_at <= ?4 THEN ?2 ELSE known.count + ?2 END, \
         ends_at = CASE WHEN known.ends_at <= ?4 THEN ?3 ELSE known.ends_at END RETURNING count, ends_at";
    let upsert = sqlx::query(sql).bind(&subject.0[..]).bind(i64::from(more));
    let upsert = upsert.bind(until.as_microsecond()).bind(now.as_microsecond());
    let row = upsert.fetch_one(tx.connection()).await?;
    Ok(AttemptCount { count: row.int("count")?.unsigned_abs(), until: row.time("ends_at")? })
}

pub(super) async fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, Fault> {
    let gone = sqlx::query("DELETE FROM attempts WHERE ends_at <= ?1").bind(now.as_microsecond());
    Ok(gone.execute(tx.connection()).await?.rows_affected())
}
