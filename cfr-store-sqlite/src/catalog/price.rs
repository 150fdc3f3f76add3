//! Price tables under their hash.

use cfr_billing::audit_log::{Act, Event};
use sqlx::sqlite::SqlitePool;

use crate::audit_log;
use crate::error::Fault;
use crate::writer::Tx;

/// Keeps a table; a known hash changes nothing.
pub(super) async fn save(tx: &mut Tx<'_>, hash: &[u8; 32], source: &str, body: &[u8], act: &Act) -> Result<(), Fault> {
    let sql =
        "INSERT INTO price_versions (hash, source, body, saved_at) VALUES (?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING";
    let at = tx.micros();
    let insert = sqlx::query(sql).bind(&hash[..]).bind(source).bind(body).bind(at);
    match insert.execute(tx.connection()).await?.rows_affected() {
        0 => Ok(()),
        _ => audit_log::record(tx, act, &Event::prices_imported(hash, source)).await,
    }
}

/// The table that was saved last.
pub(super) async fn latest(readers: &SqlitePool) -> Result<Option<Vec<u8>>, Fault> {
    let sql = "SELECT body FROM price_versions ORDER BY seq DESC LIMIT 1";
    Ok(sqlx::query_scalar(sql).fetch_optional(readers).await?)
}
