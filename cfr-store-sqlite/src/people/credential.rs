//! How people prove who they are. A change counts once: it needs the version that was read.

use cfr_billing::people::Credentials;
use cfr_billing::store::StoreError;
use cfr_core::id::UserId;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::error::Fault;
use crate::identity::user;
use crate::row::{Fields, blob, json};
use crate::writer::Tx;

/// Those of a user, or none yet.
pub(crate) async fn read(connection: &mut SqliteConnection, user: UserId) -> Result<Credentials, Fault> {
    let found = sqlx::query("SELECT entry FROM credentials WHERE user_id = ?1").bind(blob(user.to_bytes()));
    if let Some(row) = found.fetch_optional(&mut *connection).await? {
        return from_row(&row);
    }
    user::by_id(connection, user).await?;
    Ok(Credentials::none(user))
}

/// Writes them under the next version, if they still have the one that `new` names.
pub(crate) async fn write(tx: &mut Tx<'_>, new: &Credentials) -> Result<Credentials, Fault> {
    let written = Credentials { version: new.version + 1, ..new.clone() };
    let sql = match new.version {
        0 => "INSERT INTO credentials (user_id, epoch, version, entry) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        _ => "UPDATE credentials SET epoch = ?2, version = ?3, entry = ?4 WHERE user_id = ?1 AND version = ?3 - 1",
    };
    let write = sqlx::query(sql)
        .bind(blob(new.user.to_bytes()))
        .bind(written.epoch)
        .bind(written.version)
        .bind(json(&written)?);
    match write.execute(tx.connection()).await?.rows_affected() {
        0 => Err(StoreError::conflict("how the user signs in was changed meanwhile").into()),
        _ => Ok(written),
    }
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<Credentials, Fault> {
    row.json("entry")
}
