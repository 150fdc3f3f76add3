//! What becomes of a key: changes, a new secret, a secret that was found, and its last use.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::identity::{ApiKey, KeyMac, KeyPatch, KeyStatus, NewSecret};
use cfr_billing::store::StoreError;
use cfr_core::id::KeyId;
use cfr_core::time::Timestamp;

use super::by_id;
use crate::audit_log;
use crate::error::Fault;
use crate::row::{Fields, blob, json, word};
use crate::writer::Tx;

/// Changes a key if it is still the one that its editor saw.
pub(crate) async fn update(
    tx: &mut Tx<'_>,
    id: KeyId,
    version: i64,
    patch: &KeyPatch,
    act: &Act,
) -> Result<ApiKey, Fault> {
    let before = locked(tx, id).await?;
    if before.version != version {
        return Err(StoreError::conflict("the key was changed meanwhile").into());
    }
    let mut key = before.clone();
    patch.apply(&mut key)?;
    let sql = "UPDATE api_keys SET name = ?2, status = ?3, models = ?4, rules = ?5, expires_at = ?6, \
         version = ?7 WHERE id = ?1";
    let update = sqlx::query(sql)
        .bind(blob(id.to_bytes()))
        .bind(key.name.clone())
        .bind(word(&key.status)?)
        .bind(json(&key.models)?)
        .bind(json(&key.rules)?)
        .bind(key.expires_at.map(Timestamp::as_microsecond))
        .bind(key.version);
    update.execute(tx.connection()).await?;
    audit_log::changed(tx, act, Action::KeyChanged, &before, key).await
}

/// Gives a key a new secret, beside which the one before works for a while.
pub(crate) async fn rotate(
    tx: &mut Tx<'_>,
    id: KeyId,
    secret: &NewSecret,
    grace_until: Timestamp,
    act: &Act,
) -> Result<ApiKey, Fault> {
    let before = locked(tx, id).await?;
    let mut key = before.clone();
    key.rotate(secret, grace_until)?;
    let sql = "UPDATE api_keys SET old_mac = mac, mac = ?2, prefix = ?3, last4 = ?4, grace_until = ?5, \
         version = ?6 WHERE id = ?1";
    let update = sqlx::query(sql)
        .bind(blob(id.to_bytes()))
        .bind(&secret.mac.0[..])
        .bind(key.prefix.clone())
        .bind(key.last4.clone())
        .bind(grace_until.as_microsecond())
        .bind(key.version);
    update.execute(tx.connection()).await?;
    audit_log::changed(tx, act, Action::KeyRotated, &before, key).await
}

/// Ends a secret that somebody found: with its key, or alone where the key has a newer one.
pub(crate) async fn revoke_secret(tx: &mut Tx<'_>, mac: &KeyMac, act: &Act) -> Result<Option<ApiKey>, Fault> {
    let sql = "SELECT id, mac <> ?1 AS superseded FROM api_keys WHERE mac = ?1 OR old_mac = ?1";
    let found = sqlx::query(sql).bind(&mac.0[..]).fetch_optional(tx.connection()).await?;
    let Some(row) = found else { return Ok(None) };
    let before = locked(tx, row.id("id", KeyId::from_bytes)?).await?;
    if before.status == KeyStatus::Revoked {
        return Ok(None);
    }
    let mut key = before.clone();
    match row.flag("superseded")? {
        true => key.grace_until = None,
        false => key.status = KeyStatus::Revoked,
    }
    key.version += 1;
    let sql = "UPDATE api_keys SET status = ?2, grace_until = ?3, version = ?4, \
         old_mac = CASE WHEN old_mac = ?5 THEN NULL ELSE old_mac END, \
         revoked_at = CASE WHEN ?2 = 'revoked' THEN ?6 END WHERE id = ?1";
    let at = tx.micros();
    let update = sqlx::query(sql)
        .bind(blob(key.id.to_bytes()))
        .bind(word(&key.status)?)
        .bind(key.grace_until.map(Timestamp::as_microsecond))
        .bind(key.version)
        .bind(&mac.0[..])
        .bind(at);
    update.execute(tx.connection()).await?;
    audit_log::changed(tx, act, Action::KeyLeaked, &before, key).await.map(Some)
}

/// Notes when keys were last used.
pub(crate) async fn touch(tx: &mut Tx<'_>, used: &[(KeyId, Timestamp)]) -> Result<(), Fault> {
    for (id, at) in used {
        let sql = "UPDATE api_keys SET used_at = ?2 WHERE id = ?1 AND coalesce(used_at, 0) < ?2";
        sqlx::query(sql).bind(blob(id.to_bytes())).bind(at.as_microsecond()).execute(tx.connection()).await?;
    }
    Ok(())
}

/// A key that nobody else changes: there is one writer.
async fn locked(tx: &mut Tx<'_>, id: KeyId) -> Result<ApiKey, Fault> {
    by_id(tx.connection(), id).await
}
