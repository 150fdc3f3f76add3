//! The audit log: one chain of events for the whole database.

use cfr_billing::audit_log::{Act, Action, Actor, AuditEvent, AuditFilter, Chain, Event, Origin, Subject};
use cfr_billing::store::{Page, PageRequest};
use cfr_core::id::TenantId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use crate::error::Fault;
use crate::lock::AdvisoryLock;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, damaged, query, uuid, word};
use crate::writer::Tx;

/// Tells that a thing was made, and hands it on.
pub(crate) async fn created<S: Subject>(tx: &mut Tx<'_>, act: &Act, action: Action, made: S) -> Result<S, Fault> {
    record(tx, act, &Event::created(action, &made)).await?;
    Ok(made)
}

/// Tells that a thing was changed, and hands it on.
pub(crate) async fn changed<S: Subject>(
    tx: &mut Tx<'_>,
    act: &Act,
    action: Action,
    before: &S,
    after: S,
) -> Result<S, Fault> {
    record(tx, act, &Event::changed(action, before, &after)).await?;
    Ok(after)
}

/// Seals an event behind the last one, at the moment of the transaction. Whoever tells of something else waits until this
/// transaction ends, so it comes last in a change.
pub(crate) async fn record(tx: &mut Tx<'_>, act: &Act, event: &Event) -> Result<(), Fault> {
    AdvisoryLock::AuditLog.take(tx.connection()).await?;
    let act = Act { by: act.by.clone(), at: tx.now };
    let event = end(tx.connection()).await?.append(&act, event);
    insert(tx.connection(), &event).await
}

/// The same, where there is one.
pub(crate) async fn record_opt(tx: &mut Tx<'_>, act: &Act, event: Option<&Event>) -> Result<(), Fault> {
    match event {
        Some(event) => record(tx, act, event).await,
        None => Ok(()),
    }
}

/// The end of the log.
pub(crate) async fn end(connection: &mut PgConnection) -> Result<Chain, Fault> {
    let sql = "SELECT seq, hash FROM audit_events ORDER BY seq DESC LIMIT 1";
    let last = query(sql).fetch_optional(connection).await?;
    last.as_ref().map_or(Ok(Chain::default()), |row| Ok(Chain { seq: row.int("seq")?, hash: hash(row)? }))
}

pub(crate) async fn insert(connection: &mut PgConnection, event: &AuditEvent) -> Result<(), Fault> {
    let sql = "INSERT INTO audit_events (seq, at, actor_kind, actor, address, agent, request, tenant_id, action, target, \
         changes, hash, origin, salt) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    query(sql)
        .bind(event.seq)
        .bind(event.at.as_microsecond())
        .bind(word(&event.actor.kind)?)
        .bind(event.actor.id.clone())
        .bind(event.actor.address.map(|address| address.to_string()))
        .bind(event.actor.agent.clone())
        .bind(event.actor.request.map(|request| request.to_string()))
        .bind(event.tenant.map(|id| uuid(id.to_bytes())))
        .bind(event.action.clone())
        .bind(event.target.clone())
        .bind(event.changes.clone())
        .bind(&event.hash[..])
        .bind(event.origin.map(|origin| origin.hash.to_vec()))
        .bind(event.origin.and_then(|origin| origin.salt).map(|salt| salt.to_vec()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Events, the newest first.
pub(crate) async fn list(
    connection: &mut PgConnection,
    filter: &AuditFilter,
    page: PageRequest,
) -> Result<Page<AuditEvent>, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM audit_events WHERE TRUE");
    if let Some(tenant) = filter.tenant {
        sql.push(" AND tenant_id = ").push_bind(uuid(tenant.to_bytes()));
    }
    if let Some(actor) = &filter.actor {
        sql.push(" AND actor = ").push_bind(actor.clone());
    }
    if let Some(action) = &filter.action {
        sql.push(" AND substr(action, 1, length(").push_bind(action.clone());
        sql.push(")) = ").push_bind(action.clone());
    }
    if let Some(target) = &filter.target {
        sql.push(" AND target = ").push_bind(target.clone());
    }
    if let Some(from) = filter.from {
        sql.push(" AND at >= ").push_bind(from.as_microsecond());
    }
    if let Some(until) = filter.until {
        sql.push(" AND at < ").push_bind(until.as_microsecond());
    }
    if let Some(after) = page.after {
        sql.push(" AND seq < ").push_bind(i64::try_from(after.0).unwrap_or(i64::MAX));
    }
    sql.push(" ORDER BY seq DESC LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().persistent(false).fetch_all(connection).await?, page, from_row, |event| {
        event.seq.unsigned_abs().into()
    })
}

/// Events in the order in which they were sealed.
pub(crate) async fn chain(connection: &mut PgConnection, after: i64, limit: u32) -> Result<Vec<AuditEvent>, Fault> {
    let sql = "SELECT * FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2";
    query(sql).bind(after).bind(i64::from(limit)).fetch_all(connection).await?.iter().map(from_row).collect()
}

pub(crate) fn from_row(row: &PgRow) -> Result<AuditEvent, Fault> {
    let actor = Actor {
        kind: row.word("actor_kind")?,
        id: row.text_opt("actor")?,
        address: row.text_opt("address")?.map(|text| text.parse().map_err(|_| damaged("address"))).transpose()?,
        agent: row.text_opt("agent")?,
        request: row.text_opt("request")?.map(|text| text.parse().map_err(|_| damaged("request"))).transpose()?,
    };
    Ok(AuditEvent {
        seq: row.int("seq")?,
        at: row.time("at")?,
        actor,
        tenant: row.id_opt("tenant_id", TenantId::from_bytes)?,
        action: row.text("action")?,
        target: row.text("target")?,
        changes: row.text("changes")?,
        origin: origin(row)?,
        hash: hash(row)?,
    })
}

fn origin(row: &PgRow) -> Result<Option<Origin>, Fault> {
    let Some(hash) = row.bytes_opt("origin")? else { return Ok(None) };
    let hash = hash.try_into().map_err(|_| damaged("origin"))?;
    let salt = row.bytes_opt("salt")?.map(|salt| salt.try_into().map_err(|_| damaged("salt"))).transpose()?;
    Ok(Some(Origin { hash, salt }))
}

/// Forgets where somebody acted from. The chain still holds: it knows of that only a salted hash.
pub(crate) async fn forget_origins(tx: &mut Tx<'_>, actor: &str) -> Result<(), Fault> {
    let sql = "UPDATE audit_events SET address = NULL, agent = NULL, salt = NULL WHERE actor = $1";
    query(sql).bind(actor.to_owned()).execute(tx.connection()).await?;
    Ok(())
}

fn hash(row: &PgRow) -> Result<[u8; 32], Fault> {
    row.bytes("hash")?.try_into().map_err(|_| damaged("hash"))
}
