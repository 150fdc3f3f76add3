//! Secrets that work once. One of a smaller epoch than its user's is void.

use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::people::{Mail, OneTimeToken, SecretHash, TokenKind};
use cfr_billing::store::{Page, PageRequest, StoreError};
use cfr_core::id::{TenantId, TokenId, UserId};
use cfr_core::time::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::mail;
use crate::audit_log;
use crate::error::Fault;
use crate::identity::{tenant, user};
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, json, query, uuid, word};
use crate::writer::Tx;

/// Whether a token is not void because its user's epoch grew.
macro_rules! of_this_epoch {
    () => {
        "epoch >= coalesce((SELECT c.epoch FROM credentials c WHERE c.user_id = one_time_tokens.user_id), 0)"
    };
}

pub(super) async fn issue(
    tx: &mut Tx<'_>,
    token: &OneTimeToken,
    letter: Option<&Mail>,
    act: &Act,
) -> Result<(), Fault> {
    if token.kind.replaces_earlier() {
        revoke_earlier(tx, token).await?;
    }
    insert(tx, token).await?;
    if let Some(letter) = letter {
        mail::insert(tx, letter).await?;
    }
    audit_log::record(tx, act, &Event::of_token(Action::TokenIssued, token)).await
}

/// Of two who do so at once for the same user or tenant, one waits for the other.
async fn revoke_earlier(tx: &mut Tx<'_>, token: &OneTimeToken) -> Result<(), Fault> {
    match (token.user, token.tenant) {
        (Some(user), _) => drop(user::lock(tx.connection(), user).await?),
        (None, Some(tenant)) => drop(tenant::lock(tx.connection(), tenant).await?),
        (None, None) => {}
    }
    let sql = "DELETE FROM one_time_tokens WHERE kind = $1 AND user_id IS NOT DISTINCT FROM $2 \
         AND (user_id IS NOT NULL OR tenant_id IS NOT DISTINCT FROM $3 AND email_normal IS NOT DISTINCT FROM $4)";
    let revoke = query(sql)
        .bind(word(&token.kind)?)
        .bind(token.user.map(|id| uuid(id.to_bytes())))
        .bind(token.tenant.map(|id| uuid(id.to_bytes())))
        .bind(token.address());
    revoke.execute(tx.connection()).await?;
    Ok(())
}

pub(super) async fn insert(tx: &mut Tx<'_>, token: &OneTimeToken) -> Result<(), Fault> {
    let sql = "INSERT INTO one_time_tokens (id, hash, kind, tenant_id, user_id, email_normal, epoch, expires_at, entry) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::json)";
    let insert = query(sql)
        .bind(uuid(token.id.to_bytes()))
        .bind(token.hash.0.to_vec())
        .bind(word(&token.kind)?)
        .bind(token.tenant.map(|id| uuid(TenantId::to_bytes(id))))
        .bind(token.user.map(|id| uuid(UserId::to_bytes(id))))
        .bind(token.address())
        .bind(token.epoch)
        .bind(token.expires_at.as_microsecond())
        .bind(json(token)?);
    insert.execute(tx.connection()).await?;
    Ok(())
}

pub(super) async fn by_hash(
    connection: &mut PgConnection,
    kind: TokenKind,
    hash: &SecretHash,
    now: Timestamp,
) -> Result<Option<OneTimeToken>, Fault> {
    let sql = concat!(
        "SELECT * FROM one_time_tokens WHERE kind = $1 AND hash = $2 AND expires_at > $3 AND ",
        of_this_epoch!()
    );
    let found = query(sql).bind(word(&kind)?).bind(hash.0.to_vec()).bind(now.as_microsecond());
    found.fetch_optional(connection).await?.as_ref().map(from_row).transpose()
}

pub(super) async fn by_id(
    connection: &mut PgConnection,
    kind: TokenKind,
    id: TokenId,
    now: Timestamp,
) -> Result<Option<OneTimeToken>, Fault> {
    let sql =
        concat!("SELECT * FROM one_time_tokens WHERE kind = $1 AND id = $2 AND expires_at > $3 AND ", of_this_epoch!());
    let found = query(sql).bind(word(&kind)?).bind(uuid(id.to_bytes())).bind(now.as_microsecond());
    found.fetch_optional(connection).await?.as_ref().map(from_row).transpose()
}

pub(super) async fn take(tx: &mut Tx<'_>, kind: TokenKind, hash: &SecretHash) -> Result<Option<OneTimeToken>, Fault> {
    let sql = concat!(
        "DELETE FROM one_time_tokens WHERE kind = $1 AND hash = $2 AND expires_at > $3 AND ",
        of_this_epoch!(),
        " RETURNING *"
    );
    let taken = query(sql).bind(word(&kind)?).bind(hash.0.to_vec()).bind(tx.micros());
    taken.fetch_optional(tx.connection()).await?.as_ref().map(from_row).transpose()
}

/// Uses up a token that makes a user.
pub(super) async fn take_admitting(tx: &mut Tx<'_>, hash: &SecretHash) -> Result<(), Fault> {
    for kind in TokenKind::ADMITTING {
        if take(tx, kind, hash).await?.is_some() {
            return Ok(());
        }
    }
    Err(StoreError::NotFound { what: "token" }.into())
}

pub(super) async fn list(
    connection: &mut PgConnection,
    kind: TokenKind,
    tenant: Option<TenantId>,
    now: Timestamp,
    page: PageRequest,
) -> Result<Page<OneTimeToken>, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new(concat!("SELECT * FROM one_time_tokens WHERE ", of_this_epoch!()));
    sql.push(" AND kind = ").push_bind(word(&kind)?);
    sql.push(" AND expires_at > ").push_bind(now.as_microsecond());
    if let Some(tenant) = tenant {
        sql.push(" AND tenant_id = ").push_bind(uuid(tenant.to_bytes()));
    }
    if let Some(after) = page.after {
        sql.push(" AND id > ").push_bind(Uuid::from_u128(after.0));
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().persistent(false).fetch_all(connection).await?, page, from_row, |token| token.id.as_u128())
}

pub(super) async fn revoke(tx: &mut Tx<'_>, id: TokenId, act: &Act) -> Result<(), Fault> {
    let revoke = query("DELETE FROM one_time_tokens WHERE id = $1 RETURNING *").bind(uuid(id.to_bytes()));
    let row = revoke.fetch_optional(tx.connection()).await?.ok_or(StoreError::NotFound { what: "token" })?;
    audit_log::record(tx, act, &Event::of_token(Action::TokenRevoked, &from_row(&row)?)).await
}

pub(super) async fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, Fault> {
    let gone = query("DELETE FROM one_time_tokens WHERE expires_at <= $1").bind(now.as_microsecond());
    Ok(gone.execute(tx.connection()).await?.rows_affected())
}

fn from_row(row: &PgRow) -> Result<OneTimeToken, Fault> {
    row.json("entry")
}
