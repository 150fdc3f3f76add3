//! Browsers that are signed in. A session of a smaller epoch than its user's is over.

use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::oidc::Ending;
use cfr_billing::people::{SecretHash, Session, SignedIn};
use cfr_billing::store::StoreError;
use cfr_core::id::{SessionId, UserId};
use cfr_core::time::Timestamp;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use crate::audit_log;
use crate::error::Fault;
use crate::identity::{tenant, user};
use crate::oidc;
use crate::row::{Fields, json, query, uuid};
use crate::writer::Tx;

pub(super) async fn open(tx: &mut Tx<'_>, session: &Session, event: Option<&Event>, act: &Act) -> Result<(), Fault> {
    let sql = "INSERT INTO sessions (id, hash, user_id, epoch, expires_at, entry) \
         VALUES ($1, $2, $3, $4, $5, $6::json)";
    let insert = query(sql)
        .bind(uuid(session.id.to_bytes()))
        .bind(session.hash.0.to_vec())
        .bind(uuid(session.user.to_bytes()))
        .bind(session.epoch)
        .bind(session.expires_at.as_microsecond())
        .bind(json(session)?);
    insert.execute(tx.connection()).await?;
    audit_log::record_opt(tx, act, event).await
}

pub(super) async fn signed_in(
    connection: &mut PgConnection,
    hash: &SecretHash,
    now: Timestamp,
) -> Result<Option<SignedIn>, Fault> {
    let sql = "SELECT s.entry, coalesce(c.epoch, 0) AS epoch FROM sessions s \
         LEFT JOIN credentials c ON c.user_id = s.user_id \
         WHERE s.hash = $1 AND s.expires_at > $2 AND s.epoch >= coalesce(c.epoch, 0)";
    let found = query(sql).bind(hash.0.to_vec()).bind(now.as_microsecond());
    let Some(row) = found.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let session: Session = row.json("entry")?;
    let user = user::by_id(connection, session.user).await?;
    let tenant = tenant::by_id(connection, user.tenant).await?;
    Ok(Some(SignedIn { session, user, tenant, epoch: row.int("epoch")? }))
}

pub(super) async fn update(tx: &mut Tx<'_>, hash: &SecretHash, session: &Session) -> Result<(), Fault> {
    let sql =
        "UPDATE sessions SET hash = $3, epoch = $4, expires_at = $5, entry = $6::json WHERE id = $1 AND hash = $2";
    let update = query(sql)
        .bind(uuid(session.id.to_bytes()))
        .bind(hash.0.to_vec())
        .bind(session.hash.0.to_vec())
        .bind(session.epoch)
        .bind(session.expires_at.as_microsecond())
        .bind(json(session)?);
    update.execute(tx.connection()).await?;
    Ok(())
}

pub(super) async fn of_user(
    connection: &mut PgConnection,
    user: UserId,
    now: Timestamp,
) -> Result<Vec<Session>, Fault> {
    let sql = "SELECT s.entry FROM sessions s LEFT JOIN credentials c ON c.user_id = s.user_id \
         WHERE s.user_id = $1 AND s.expires_at > $2 AND s.epoch >= coalesce(c.epoch, 0) ORDER BY s.id DESC";
    let found = query(sql).bind(uuid(user.to_bytes())).bind(now.as_microsecond());
    found.fetch_all(connection).await?.iter().map(|row: &PgRow| row.json("entry")).collect()
}

pub(super) async fn end(tx: &mut Tx<'_>, user: UserId, id: SessionId, act: &Act) -> Result<(), Fault> {
    let owner = user::by_id(tx.connection(), user).await?;
    let sql = "DELETE FROM sessions WHERE id = $1 AND user_id = $2";
    let gone = query(sql).bind(uuid(id.to_bytes())).bind(uuid(user.to_bytes()));
    if gone.execute(tx.connection()).await?.rows_affected() == 0 {
        return Err(StoreError::NotFound { what: "session" }.into());
    }
    oidc::end_sessions(tx, Ending::Session(id), act).await?;
    let event = Event::about(Action::SessionEnded, &owner, &serde_json::json!({ "session": id }));
    audit_log::record(tx, act, &event).await
}

pub(super) async fn end_all(tx: &mut Tx<'_>, user: UserId, but: Option<SessionId>, act: &Act) -> Result<u64, Fault> {
    let owner = user::by_id(tx.connection(), user).await?;
    let sql = "DELETE FROM sessions WHERE user_id = $1 AND id IS DISTINCT FROM $2";
    oidc::end_sessions(tx, but.map_or(Ending::User(user), |but| Ending::Others(user, but)), act).await?;
    let but = but.map(|id| uuid(id.to_bytes()));
    let gone = query(sql).bind(uuid(user.to_bytes())).bind(but);
    let ended = gone.execute(tx.connection()).await?.rows_affected();
    if ended > 0 {
        let event = Event::about(Action::SessionsEnded, &owner, &serde_json::json!({ "sessions": ended }));
        audit_log::record(tx, act, &event).await?;
    }
    Ok(ended)
}

/// Ends those of smaller epochs.
pub(super) async fn end_before(tx: &mut Tx<'_>, user: UserId, epoch: i64) -> Result<(), Fault> {
    let sql = "DELETE FROM sessions WHERE user_id = $1 AND epoch < $2";
    query(sql).bind(uuid(user.to_bytes())).bind(epoch).execute(tx.connection()).await?;
    Ok(())
}

pub(super) async fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, Fault> {
    let gone = query("DELETE FROM sessions WHERE expires_at <= $1").bind(now.as_microsecond());
    Ok(gone.execute(tx.connection()).await?.rows_affected())
}
