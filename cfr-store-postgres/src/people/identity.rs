//! Who people are at other providers: each identity is one user's.

use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::people::OutsideIdentity;
use cfr_billing::store::StoreError;
use cfr_core::id::UserId;
use serde_json::json;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use crate::audit_log;
use crate::error::Fault;
use crate::identity::user;
use crate::row::{Fields, query, uuid};
use crate::writer::Tx;

pub(crate) async fn owner(connection: &mut PgConnection, identity: &OutsideIdentity) -> Result<Option<UserId>, Fault> {
    let sql = "SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2";
    let found = query(sql).bind(&*identity.issuer).bind(&*identity.subject);
    let row = found.fetch_optional(connection).await?;
    row.as_ref().map(|row| row.id("user_id", UserId::from_bytes)).transpose()
}

pub(crate) async fn of_user(connection: &mut PgConnection, user: UserId) -> Result<Vec<OutsideIdentity>, Fault> {
    let sql = "SELECT * FROM identities WHERE user_id = $1 ORDER BY issuer, subject";
    let found = query(sql).bind(uuid(user.to_bytes()));
    found.fetch_all(connection).await?.iter().map(from_row).collect()
}

pub(crate) async fn insert(tx: &mut Tx<'_>, user: UserId, identity: &OutsideIdentity) -> Result<(), Fault> {
    let sql = "INSERT INTO identities (issuer, subject, user_id) VALUES ($1, $2, $3)";
    let insert = query(sql).bind(&*identity.issuer).bind(&*identity.subject).bind(uuid(user.to_bytes()));
    let taken = |error| Fault::from(error).or_conflict("the identity is another user's");
    insert.execute(tx.connection()).await.map_err(taken)?;
    Ok(())
}

pub(crate) async fn link(tx: &mut Tx<'_>, user: UserId, identity: &OutsideIdentity, act: &Act) -> Result<(), Fault> {
    let owner = user::by_id(tx.connection(), user).await?;
    insert(tx, user, identity).await?;
    let event = Event::about(Action::IdentityLinked, &owner, &json!({ "issuer": identity.issuer }));
    audit_log::record(tx, act, &event).await
}

pub(crate) async fn unlink(tx: &mut Tx<'_>, user: UserId, identity: &OutsideIdentity, act: &Act) -> Result<(), Fault> {
    let owner = user::by_id(tx.connection(), user).await?;
    let sql = "DELETE FROM identities WHERE issuer = $1 AND subject = $2 AND user_id = $3";
    let gone = query(sql).bind(&*identity.issuer).bind(&*identity.subject).bind(uuid(user.to_bytes()));
    if gone.execute(tx.connection()).await?.rows_affected() == 0 {
        return Err(StoreError::NotFound { what: "identity" }.into());
    }
    let event = Event::about(Action::IdentityUnlinked, &owner, &json!({ "issuer": identity.issuer }));
    audit_log::record(tx, act, &event).await
}

pub(crate) fn from_row(row: &PgRow) -> Result<OutsideIdentity, Fault> {
    Ok(OutsideIdentity { issuer: row.text("issuer")?, subject: row.text("subject")? })
}
