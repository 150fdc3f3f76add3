//! The lives of nodes: who may write, and who may not any more.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::{Act, Event};
use cfr_billing::store::{
    Boot, Incarnation, NodeState, ONE_LIFE_PREFIXES, ONE_LIFE_REMEMBERED, StoreError, lives_once,
};
use cfr_core::time::Timestamp;
use fail::fail_point;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use crate::audit_log;
use crate::error::Fault;
use crate::row::Fields;
use crate::writer::Tx;

/// The next epoch of a node.
pub(super) async fn register(tx: &mut Tx<'_>, node: &str, boot: Boot) -> Result<Incarnation, Fault> {
    let sql = "INSERT INTO nodes (name, epoch, boot, registered_at, seen_at, alive_until) VALUES (?1, 1, ?2, ?3, ?3, ?3) \
         ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1, boot = ?2, registered_at = ?3, seen_at = ?3, \
         alive_until = ?3, fenced = 0 RETURNING epoch";
    let at = tx.micros();
    tx.note_alive(None);
    let boot = boot.0.to_be_bytes().to_vec();
    let row = sqlx::query(sql).bind(node).bind(boot).bind(at).fetch_one(tx.connection()).await?;
    fail_point!("register.written");
    Ok(Incarnation { node: Arc::from(node), epoch: row.try_get(0)? })
}

/// Refuses a life that another one has followed, or that was fenced.
pub(super) async fn check_alive(tx: &mut Tx<'_>, by: &Incarnation) -> Result<(), Fault> {
    if tx.is_known_alive(by) {
        return Ok(());
    }
    let sql = "SELECT epoch FROM nodes WHERE name = ? AND fenced = 0";
    let epoch: Option<i64> = sqlx::query_scalar(sql).bind(&*by.node).fetch_optional(tx.connection()).await?;
    if epoch != Some(by.epoch) {
        return Err(StoreError::Fenced.into());
    }
    tx.note_alive(Some(by));
    Ok(())
}

/// A life that renews its leases is alive until they end.
pub(super) async fn note_seen(tx: &mut Tx<'_>, by: &Incarnation, ttl: Duration) -> Result<(), Fault> {
    let (now, ttl) = (tx.micros(), i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
    let sql = "UPDATE nodes SET seen_at = ?2, alive_until = ?3 WHERE name = ?1";
    sqlx::query(sql).bind(&*by.node).bind(now).bind(now.saturating_add(ttl)).execute(tx.connection()).await?;
    Ok(())
}

/// How many nodes are taken for alive.
pub(super) async fn alive(tx: &mut Tx<'_>) -> Result<u32, Fault> {
    let now = tx.micros();
    let sql = "SELECT count(*) FROM nodes WHERE alive_until > ?";
    let alive: i64 = sqlx::query_scalar(sql).bind(now).fetch_one(tx.connection()).await?;
    Ok(u32::try_from(alive).unwrap_or(u32::MAX))
}

/// Ends a life in good order.
pub(super) async fn retire(tx: &mut Tx<'_>, by: &Incarnation) -> Result<(), Fault> {
    let now = tx.micros();
    let sql = "UPDATE nodes SET seen_at = ?3, alive_until = ?3 WHERE name = ?1 AND epoch = ?2";
    let ended = sqlx::query(sql).bind(&*by.node).bind(by.epoch).bind(now).execute(tx.connection()).await?;
    if ended.rows_affected() > 0 && lives_once(&by.node) {
        forget(tx, &by.node).await?;
    }
    Ok(())
}

/// Forgets nodes that live once and were not heard of for long: they were killed.
pub(super) async fn forget_killed(tx: &mut Tx<'_>) -> Result<(), Fault> {
    let remembered = i64::try_from(ONE_LIFE_REMEMBERED.as_micros()).unwrap_or(i64::MAX);
    let seen_before = tx.micros().saturating_sub(remembered);
    let sql = "SELECT name FROM nodes WHERE substr(name, 1, length(?1)) = ?1 AND seen_at < ?2 AND alive_until < ?2";
    for prefix in ONE_LIFE_PREFIXES {
        let names = sqlx::query_scalar(sql).bind(prefix).bind(seen_before);
        let names: Vec<String> = names.fetch_all(tx.connection()).await?;
        for name in names {
            forget(tx, &name).await?;
        }
    }
    Ok(())
}

/// Forgets a node that has nothing.
async fn forget(tx: &mut Tx<'_>, node: &str) -> Result<(), Fault> {
    tx.note_alive(None);
    let sql = "DELETE FROM nodes WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM leases WHERE node = ?1) \
         AND NOT EXISTS (SELECT 1 FROM holds WHERE node = ?1 AND state IN (0, 1))";
    sqlx::query(sql).bind(node).execute(tx.connection()).await?;
    Ok(())
}

/// Declares a node's life dead.
pub(super) async fn fence(tx: &mut Tx<'_>, node: &str, act: &Act) -> Result<(), Fault> {
    let now = tx.micros();
    tx.note_alive(None);
    let sql = "UPDATE nodes SET fenced = 1, alive_until = ?2 WHERE name = ?1";
    let found = sqlx::query(sql).bind(node).bind(now).execute(tx.connection()).await?;
    if found.rows_affected() == 0 {
        return Err(StoreError::NotFound { what: "node" }.into());
    }
    audit_log::record(tx, act, &Event::node_fenced(node)).await
}

/// Every node, by name.
pub(super) async fn all(readers: &SqlitePool, now: Timestamp) -> Result<Vec<NodeState>, Fault> {
    let sql = "SELECT name, epoch, seen_at, alive_until > ?1 AS alive, \
         (SELECT count(*) FROM leases l WHERE l.node = name) AS leases, \
         (SELECT coalesce(sum(granted - consumed), 0) FROM leases l WHERE l.node = name) AS leased, \
         (SELECT count(*) FROM holds h WHERE h.node = name AND h.state = 0) AS open_holds FROM nodes ORDER BY name";
    let rows = sqlx::query(sql).bind(now.as_microsecond()).fetch_all(readers).await?;
    let state = |row: &SqliteRow| -> Result<NodeState, Fault> {
        Ok(NodeState {
            node: row.text("name")?,
            epoch: row.int("epoch")?,
            alive: row.flag("alive")?,
            seen_at: row.time("seen_at")?,
            leases: row.int("leases")?.unsigned_abs(),
            leased: row.int("leased")?,
            open_holds: row.int("open_holds")?.unsigned_abs(),
        })
    };
    rows.iter().map(state).collect()
}
