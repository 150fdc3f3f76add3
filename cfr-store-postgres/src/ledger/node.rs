//! The lives of nodes: who may write, and who may not any more.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::{Act, Event};
use cfr_billing::store::{
    Boot, Incarnation, NodeState, ONE_LIFE_PREFIXES, ONE_LIFE_REMEMBERED, StoreError, lives_once,
};
use cfr_core::time::Timestamp;
use fail::fail_point;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::audit_log;
use crate::error::Fault;
use crate::row::{Fields, query};
use crate::writer::Tx;

/// The next epoch of a node. Another process than before gets the name when the life before is over: by its time, by a
/// fence, or because `name_is_ours`, the lock that a living process holds on its name, as far as that one held it.
pub(super) async fn register(
    tx: &mut Tx<'_>,
    node: &str,
    boot: Boot,
    name_is_ours: bool,
) -> Result<Incarnation, Fault> {
    let sql = "INSERT INTO nodes AS n (name, epoch, boot, registered_at, seen_at, alive_until, locked) \
         VALUES ($1, 1, $2, $3, $3, $3, $4) ON CONFLICT (name) DO UPDATE SET epoch = n.epoch + 1, boot = $2, \
         registered_at = $3, seen_at = $3, alive_until = $3, fenced = false, locked = $4 \
         WHERE n.boot = $2 OR n.alive_until <= $3 OR n.fenced OR (n.locked AND $4) RETURNING epoch";
    lock(tx, node).await?;
    let begin = query(sql).bind(node).bind(Uuid::from_u128(boot.0)).bind(tx.micros()).bind(name_is_ours);
    let Some(row) = begin.fetch_optional(tx.connection()).await? else {
        return Err(in_use(tx, node).await?.into());
    };
    fail_point!("register.written");
    Ok(Incarnation { node: Arc::from(node), epoch: row.try_get(0)? })
}

/// Takes a node's row for whoever ends its life: waits until what is acquired on the way is there, and lets nothing be
/// acquired meanwhile. A renewal ends nothing and takes less: it passes acquisitions, however many there are.
async fn lock(tx: &mut Tx<'_>, node: &str) -> Result<(), Fault> {
    query("SELECT FROM nodes WHERE name = $1 FOR UPDATE").bind(node).execute(tx.connection()).await?;
    Ok(())
}

async fn in_use(tx: &mut Tx<'_>, node: &str) -> Result<StoreError, Fault> {
    let row = query("SELECT seen_at FROM nodes WHERE name = $1").bind(node).fetch_one(tx.connection()).await?;
    Ok(StoreError::NodeInUse { node: node.into(), seen_at: row.time("seen_at")? })
}

/// Notes that a life renewed its leases: it is alive until they end. Refuses one that another one has followed, or that
/// was fenced. A life that lost the lock on its name is not proven dead by it any more: then only its time counts.
pub(super) async fn note_seen(
    tx: &mut Tx<'_>,
    by: &Incarnation,
    ttl: Duration,
    name_is_ours: bool,
) -> Result<(), Fault> {
    let (now, ttl) = (tx.micros(), i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
    let sql = "UPDATE nodes SET seen_at = $3, alive_until = greatest(alive_until, $4), locked = locked AND $5 \
         WHERE name = $1 AND epoch = $2 AND NOT fenced";
    let update = query(sql).bind(&*by.node).bind(by.epoch).bind(now).bind(now.saturating_add(ttl)).bind(name_is_ours);
    match update.execute(tx.connection()).await?.rows_affected() {
        0 => Err(StoreError::Fenced.into()),
        _ => Ok(()),
    }
}

/// How many nodes are taken for alive.
pub(super) async fn alive(tx: &mut Tx<'_>) -> Result<u32, Fault> {
    let now = tx.micros();
    let row = query("SELECT count(*) FROM nodes WHERE alive_until > $1").bind(now).fetch_one(tx.connection()).await?;
    Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX))
}

/// Ends a life in good order.
pub(super) async fn retire(tx: &mut Tx<'_>, by: &Incarnation) -> Result<(), Fault> {
    let now = tx.micros();
    let sql = "UPDATE nodes SET seen_at = $3, alive_until = $3 WHERE name = $1 AND epoch = $2";
    let ended = query(sql).bind(&*by.node).bind(by.epoch).bind(now).execute(tx.connection()).await?;
    if ended.rows_affected() > 0 && lives_once(&by.node) {
        forget(tx, vec![by.node.to_string()]).await?;
    }
    Ok(())
}

/// Forgets nodes that live once and were not heard of for long: they were killed.
pub(super) async fn forget_killed(tx: &mut Tx<'_>) -> Result<(), Fault> {
    let remembered = i64::try_from(ONE_LIFE_REMEMBERED.as_micros()).unwrap_or(i64::MAX);
    let seen_before = tx.micros().saturating_sub(remembered);
    let sql = "SELECT name FROM nodes WHERE EXISTS (SELECT FROM unnest($1) AS prefix WHERE starts_with(name, prefix)) \
         AND seen_at < $2 AND alive_until < $2 ORDER BY name FOR UPDATE";
    let rows = query(sql).bind(&ONE_LIFE_PREFIXES[..]).bind(seen_before).fetch_all(tx.connection()).await?;
    let names = rows.iter().map(|row| Ok(row.text("name")?.to_string())).collect::<Result<Vec<String>, Fault>>()?;
    if names.is_empty() { Ok(()) } else { forget(tx, names).await }
}

/// Forgets those of these nodes that have nothing. Their rows are ours: an acquisition on the way has ended, and what it
/// leased is there.
async fn forget(tx: &mut Tx<'_>, names: Vec<String>) -> Result<(), Fault> {
    let sql = "DELETE FROM nodes n WHERE name = ANY($1) AND NOT EXISTS (SELECT FROM leases l WHERE l.node = n.name) \
         AND NOT EXISTS (SELECT FROM holds h WHERE h.node = n.name AND h.state IN (0, 1))";
    query(sql).bind(names).execute(tx.connection()).await?;
    Ok(())
}

/// Declares a node's life dead.
pub(super) async fn fence(tx: &mut Tx<'_>, node: &str, act: &Act) -> Result<(), Fault> {
    lock(tx, node).await?;
    let sql = "UPDATE nodes SET fenced = true, alive_until = $2 WHERE name = $1";
    let found = query(sql).bind(node).bind(tx.micros()).execute(tx.connection()).await?;
    if found.rows_affected() == 0 {
        return Err(StoreError::NotFound { what: "node" }.into());
    }
    audit_log::record(tx, act, &Event::node_fenced(node)).await
}

/// Declares lives dead that have leases, of which the last expired before a moment. An acquisition on the way holds its
/// node's row: what it leases is there when the row is ours.
pub(super) async fn fence_expired(tx: &mut Tx<'_>, expired_before: i64) -> Result<(), Fault> {
    let sql = "SELECT name FROM nodes n WHERE alive_until < $1 AND NOT fenced AND EXISTS \
         (SELECT FROM leases l WHERE l.node = n.name AND l.epoch = n.epoch) ORDER BY name FOR UPDATE";
    let rows = query(sql).bind(expired_before).fetch_all(tx.connection()).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let names = rows.iter().map(|row| Ok(row.text("name")?.to_string())).collect::<Result<Vec<String>, Fault>>()?;
    let sql = "UPDATE nodes n SET fenced = true WHERE name = ANY($2) AND alive_until < $1 AND NOT EXISTS \
         (SELECT FROM leases l WHERE l.node = n.name AND l.epoch = n.epoch AND l.expires_at >= $1)";
    query(sql).bind(expired_before).bind(names).execute(tx.connection()).await?;
    Ok(())
}

/// Every node, by name.
pub(super) async fn all(connection: &mut PgConnection, now: Timestamp) -> Result<Vec<NodeState>, Fault> {
    let sql = "SELECT name, epoch, seen_at, alive_until > $1 AS alive, \
         (SELECT count(*) FROM leases l WHERE l.node = name) AS leases, \
         (SELECT coalesce(sum(granted - consumed), 0)::bigint FROM leases l WHERE l.node = name) AS leased, \
         (SELECT count(*) FROM holds h WHERE h.node = name AND h.state = 0) AS open_holds FROM nodes ORDER BY name";
    let rows = query(sql).bind(now.as_microsecond()).fetch_all(connection).await?;
    let state = |row: &PgRow| -> Result<NodeState, Fault> {
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
