//! Letters that wait to be sent.

use cfr_billing::people::Mail;
use cfr_billing::store::MAILS_MAX;
use cfr_core::id::MailId;
use cfr_core::time::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Fault;
use crate::row::{Fields, blob, damaged, json};
use crate::writer::Tx;

/// Writes a letter, or what became of one that is known.
pub(crate) async fn insert(tx: &mut Tx<'_>, mail: &Mail) -> Result<(), Fault> {
    let sql = "INSERT INTO mails (id, due_at, tries, entry) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (id) DO UPDATE SET due_at = ?2, tries = ?3, entry = ?4";
    let insert = sqlx::query(sql)
        .bind(blob(mail.id.to_bytes()))
        .bind(mail.due_at.as_microsecond())
        .bind(i64::from(mail.tries))
        .bind(json(mail)?);
    insert.execute(tx.connection()).await?;
    Ok(())
}

pub(super) async fn claim(tx: &mut Tx<'_>, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Mail>, Fault> {
    let sql = "UPDATE mails SET due_at = ?2, tries = tries + 1 WHERE id IN (SELECT id FROM mails \
         WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?3) RETURNING entry, due_at, tries";
    let limit = i64::from(limit.min(MAILS_MAX));
    let claim = sqlx::query(sql).bind(now.as_microsecond()).bind(until.as_microsecond()).bind(limit);
    claim.fetch_all(tx.connection()).await?.iter().map(from_row).collect()
}

pub(super) async fn delete(tx: &mut Tx<'_>, id: MailId) -> Result<(), Fault> {
    sqlx::query("DELETE FROM mails WHERE id = ?1").bind(blob(id.to_bytes())).execute(tx.connection()).await?;
    Ok(())
}

fn from_row(row: &SqliteRow) -> Result<Mail, Fault> {
    let tries = u32::try_from(row.int("tries")?).map_err(|_| damaged("tries"))?;
    Ok(Mail { due_at: row.time("due_at")?, tries, ..row.json("entry")? })
}
