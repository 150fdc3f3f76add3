//! A person is erased (GDPR, Article 17): what says who it was goes, the id stays in usage and in the books.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::identity::User;
use cfr_billing::oidc::Ending;
use cfr_billing::store::StoreError;
use cfr_core::id::{KeyId, UserId};

use super::credential;
use crate::error::Fault;
use crate::identity::{key, user};
use crate::row::{Fields, query, uuid, word};
use crate::writer::Tx;
use crate::{audit_log, oidc};

pub(super) async fn erase(tx: &mut Tx<'_>, id: UserId, version: i64, act: &Act) -> Result<User, Fault> {
    let before = user::by_id(tx.connection(), id).await?;
    if before.version != version {
        return Err(StoreError::conflict("the user was changed meanwhile").into());
    }
    before.check_not_erased()?;
    revoke_keys(tx, id, act).await?;
    let credentials = credential::read(tx.connection(), id).await?;
    credential::write(tx, &credentials.erased()).await?;
    for sql in FORGET {
        query(sql).bind(uuid(id.to_bytes())).execute(tx.connection()).await?;
    }
    for sql in FORGET_BY_ADDRESS {
        query(sql).bind(user::normal(&before.email)).execute(tx.connection()).await?;
    }
    oidc::end_sessions(tx, Ending::User(id), act).await?;
    let erased = before.erased(tx.now);
    write(tx, &erased, version).await?;
    let erased = audit_log::changed(tx, act, Action::UserErased, &before, erased).await?;
    audit_log::forget_origins(tx, &id.to_string()).await?;
    Ok(erased)
}

/// What is kept of a user by their id.
const FORGET: [&str; 4] = [
    "DELETE FROM identities WHERE user_id = $1",
    "DELETE FROM sessions WHERE user_id = $1",
    "DELETE FROM one_time_tokens WHERE user_id = $1",
    "DELETE FROM outside_names WHERE kind = 'user' AND id = $1",
];
/// And by their address.
const FORGET_BY_ADDRESS: [&str; 2] =
    ["DELETE FROM one_time_tokens WHERE email_normal = $1", "DELETE FROM mails WHERE lower(trim(entry->>'to')) = $1"];

async fn revoke_keys(tx: &mut Tx<'_>, user: UserId, act: &Act) -> Result<(), Fault> {
    let sql = "SELECT id FROM api_keys WHERE user_id = $1 ORDER BY id";
    let keys = query(sql).bind(uuid(user.to_bytes())).fetch_all(tx.connection()).await?;
    for row in keys {
        key::revoke(tx, row.id("id", KeyId::from_bytes)?, act).await?;
    }
    let sql = "UPDATE api_keys SET name = '' WHERE user_id = $1";
    query(sql).bind(uuid(user.to_bytes())).execute(tx.connection()).await?;
    Ok(())
}

async fn write(tx: &mut Tx<'_>, erased: &User, version: i64) -> Result<(), Fault> {
    let sql = "UPDATE users SET email = $2, email_normal = $3, name = $4, status = $5, email_verified_at = NULL, \
         locale = NULL, version = $6, updated_at = $7 WHERE id = $1 AND version = $8";
    let update = query(sql)
        .bind(uuid(erased.id.to_bytes()))
        .bind(erased.email.clone())
        .bind(user::normal(&erased.email))
        .bind(erased.name.clone())
        .bind(word(&erased.status)?)
        .bind(erased.version)
        .bind(erased.updated_at.as_microsecond())
        .bind(version);
    match update.execute(tx.connection()).await?.rows_affected() {
        0 => Err(StoreError::conflict("the user was changed meanwhile").into()),
        _ => Ok(()),
    }
}
