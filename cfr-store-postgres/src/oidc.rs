//! [`OidcStore`]: clients, keys and sessions as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::oidc::{Client, ClientSession, Ending, SigningKey};
use cfr_billing::people::SecretHash;
use cfr_billing::store::archive::OidcClientRow;
use cfr_billing::store::{LOGOUTS_MAX, OidcStore, Page, PageRequest, SIGNING_KEYS_PUBLISHED, StoreError};
use cfr_core::id::{ClientId, ClientSessionId, TenantId};
use cfr_core::time::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::PostgresStore;
use crate::audit_log;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, damaged, json, query, uuid};
use crate::writer::{Tx, write};

const CLIENT: StoreError = StoreError::NotFound { what: "client" };
const SESSION: StoreError = StoreError::NotFound { what: "client's session" };
const CHANGED: &str = "it was changed meanwhile";

#[async_trait]
impl OidcStore for PostgresStore {
    async fn add_client(&self, client: &Client, secret: &SecretHash, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| add_client(tx, client, secret, act)).await
    }

    async fn client(&self, id: ClientId) -> Result<Client, StoreError> {
        Ok(client(&mut *self.reader().await?, id).await?)
    }

    async fn client_secret(&self, id: ClientId) -> Result<SecretHash, StoreError> {
        let found = query("SELECT secret FROM oidc_clients WHERE id = $1").bind(uuid(id.to_bytes()));
        let row = found.fetch_optional(&mut *self.reader().await?).await.map_err(Fault::from)?.ok_or(CLIENT)?;
        Ok(secret(&row)?)
    }

    async fn clients(&self, tenant: Option<TenantId>, page: PageRequest) -> Result<Page<Client>, StoreError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT entry FROM oidc_clients WHERE TRUE");
        if let Some(tenant) = tenant {
            sql.push(" AND tenant_id = ").push_bind(uuid(tenant.to_bytes()));
        }
        if let Some(after) = page.after {
            sql.push(" AND id > ").push_bind(Uuid::from_u128(after.0));
        }
        sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
        let list = sql.build().persistent(false);
        let rows = list.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, |row| row.json("entry"), |client: &Client| client.id.as_u128())?)
    }

    async fn update_client(&self, new: &Client, secret: Option<&SecretHash>, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| update_client(tx, new, secret, act)).await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let sql = "SELECT entry FROM signing_keys ORDER BY seq DESC LIMIT $1";
        let newest = query(sql).bind(SIGNING_KEYS_PUBLISHED as i64);
        let rows = newest.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(rows.iter().map(signing_key).collect::<Result<_, Fault>>()?)
    }

    async fn add_signing_key(&self, key: &SigningKey, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| add_signing_key(tx, key, act)).await
    }

    async fn reseal_signing_key(&self, seq: i64, private: &str) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| reseal_signing_key(tx, seq, private)).await
    }

    async fn open_client_session(&self, session: &ClientSession, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| open_session(tx, session, act)).await
    }

    async fn client_session(&self, id: ClientSessionId) -> Result<ClientSession, StoreError> {
        Ok(session_by_id(&mut *self.reader().await?, id).await?)
    }

    async fn update_client_session(&self, new: &ClientSession, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| change_session(tx, new, act)).await
    }

    async fn end_client_sessions(&self, ending: Ending, act: &Act) -> Result<u64, StoreError> {
        write!(self, act.at, |tx| end_sessions(tx, ending, act)).await
    }

    async fn claim_logouts(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ClientSession>, StoreError> {
        write!(self, Timestamp::MIN, |tx| claim(tx, now, until, limit)).await
    }

    async fn logout_told(&self, id: ClientSessionId) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| told(tx, id)).await
    }

    async fn sweep_client_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        write!(self, Timestamp::MIN, |tx| sweep(tx, before)).await
    }
}

async fn add_client(tx: &mut Tx<'_>, client: &Client, secret: &SecretHash, act: &Act) -> Result<(), Fault> {
    insert_client(tx.connection(), client, secret).await?;
    audit_log::record(tx, act, &Event::created(Action::ClientCreated, client)).await
}

async fn add_signing_key(tx: &mut Tx<'_>, key: &SigningKey, act: &Act) -> Result<(), Fault> {
    insert_signing_key(tx.connection(), key).await?;
    audit_log::record(tx, act, &key.added()).await
}

async fn open_session(tx: &mut Tx<'_>, session: &ClientSession, act: &Act) -> Result<(), Fault> {
    insert_session(tx.connection(), session).await?;
    audit_log::record(tx, act, &session.event(Action::ClientSessionOpened)).await
}

async fn change_session(tx: &mut Tx<'_>, new: &ClientSession, act: &Act) -> Result<(), Fault> {
    let known = session_by_id(tx.connection(), new.id).await?;
    update_session(tx.connection(), new).await?;
    match known.ended_at.is_none() && new.ended_at.is_some() {
        true => audit_log::record(tx, act, &new.event(Action::ClientSessionEnded)).await,
        false => Ok(()),
    }
}

async fn claim(tx: &mut Tx<'_>, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<ClientSession>, Fault> {
    let sql = "UPDATE client_sessions SET due_at = $2, tries = tries + 1 WHERE id IN (SELECT id FROM client_sessions \
         WHERE due_at <= $1 ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING entry, due_at, tries";
    let limit = i64::from(limit.min(LOGOUTS_MAX));
    let claim = query(sql).bind(now.as_microsecond()).bind(until.as_microsecond()).bind(limit);
    claim.fetch_all(tx.connection()).await?.iter().map(session).collect()
}

async fn told(tx: &mut Tx<'_>, id: ClientSessionId) -> Result<(), Fault> {
    let told = query("UPDATE client_sessions SET due_at = NULL WHERE id = $1").bind(uuid(id.to_bytes()));
    told.execute(tx.connection()).await?;
    Ok(())
}

async fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, Fault> {
    let sql = "DELETE FROM client_sessions WHERE due_at IS NULL AND over_at < $1";
    Ok(query(sql).bind(before.as_microsecond()).execute(tx.connection()).await?.rows_affected())
}

/// Ends what is meant and has not ended.
pub(crate) async fn end_sessions(tx: &mut Tx<'_>, ending: Ending, act: &Act) -> Result<u64, Fault> {
    let sql = match ending {
        Ending::Session(_) => "SELECT * FROM client_sessions WHERE session_id = $1 AND NOT ended",
        Ending::User(_) | Ending::Others(..) | Ending::Before(..) => {
            "SELECT * FROM client_sessions WHERE user_id = $1 AND NOT ended"
        }
        Ending::Client(_) => "SELECT * FROM client_sessions WHERE client_id = $1 AND NOT ended",
        _ => return Err(StoreError::invalid("an unknown end").into()),
    };
    let open = query(sql).bind(uuid(ending.id())).fetch_all(tx.connection()).await?;
    let mut ended = Vec::new();
    for row in &open {
        let session = session(row)?;
        if ending.means(&session) {
            ended.push(session.ended(tx.now));
        }
    }
    for session in &ended {
        update_session(tx.connection(), session).await?;
    }
    for session in &ended {
        audit_log::record(tx, act, &session.event(Action::ClientSessionEnded)).await?;
    }
    Ok(ended.len() as u64)
}

pub(crate) async fn insert_clients(tx: &mut Tx<'_>, rows: &[OidcClientRow]) -> Result<(), Fault> {
    for row in rows {
        insert_client(tx.connection(), &row.client, &row.secret).await?;
    }
    Ok(())
}

pub(crate) async fn insert_signing_keys(tx: &mut Tx<'_>, keys: &[SigningKey]) -> Result<(), Fault> {
    for key in keys {
        insert_signing_key(tx.connection(), key).await?;
    }
    Ok(())
}

pub(crate) async fn insert_sessions(tx: &mut Tx<'_>, sessions: &[ClientSession]) -> Result<(), Fault> {
    for session in sessions {
        insert_session(tx.connection(), session).await?;
    }
    Ok(())
}

async fn reseal_signing_key(tx: &mut Tx<'_>, seq: i64, private: &str) -> Result<(), Fault> {
    let sql =
        "UPDATE signing_keys SET entry = jsonb_set(entry::jsonb, '{private}', to_jsonb($2::text))::json WHERE seq = $1";
    let written = query(sql).bind(seq).bind(private.to_owned()).execute(tx.connection()).await?;
    match written.rows_affected() {
        0 => Err(StoreError::NotFound { what: "signing key" }.into()),
        _ => Ok(()),
    }
}

async fn insert_signing_key(connection: &mut PgConnection, key: &SigningKey) -> Result<(), Fault> {
    let sql = "INSERT INTO signing_keys (seq, entry) VALUES ($1, $2::json)";
    query(sql).bind(key.seq).bind(json(key)?).execute(connection).await?;
    Ok(())
}

async fn insert_client(connection: &mut PgConnection, client: &Client, secret: &SecretHash) -> Result<(), Fault> {
    let sql = "INSERT INTO oidc_clients (id, tenant_id, secret, version, entry) VALUES ($1, $2, $3, $4, $5::json)";
    let insert = query(sql)
        .bind(uuid(client.id.to_bytes()))
        .bind(uuid(client.tenant.to_bytes()))
        .bind(&secret.0[..])
        .bind(client.version)
        .bind(json(client)?);
    insert.execute(connection).await?;
    Ok(())
}

async fn client(connection: &mut PgConnection, id: ClientId) -> Result<Client, Fault> {
    let found = query("SELECT entry FROM oidc_clients WHERE id = $1").bind(uuid(id.to_bytes()));
    found.fetch_optional(connection).await?.ok_or(CLIENT)?.json("entry")
}

async fn update_client(tx: &mut Tx<'_>, new: &Client, secret: Option<&SecretHash>, act: &Act) -> Result<(), Fault> {
    let before = client(tx.connection(), new.id).await?;
    let sql = "UPDATE oidc_clients SET version = $2, entry = $3::json, secret = coalesce($4, secret) \
         WHERE id = $1 AND version = $2 - 1";
    let update = query(sql)
        .bind(uuid(new.id.to_bytes()))
        .bind(new.version)
        .bind(json(new)?)
        .bind(secret.map(|secret| secret.0.to_vec()));
    if update.execute(tx.connection()).await?.rows_affected() == 0 {
        return Err(StoreError::conflict(CHANGED).into());
    }
    if new.revoked_at.is_some() {
        end_sessions(tx, Ending::Client(new.id), act).await?;
    }
    audit_log::record(tx, act, &Client::changed(&before, new, secret.is_some())).await
}

async fn insert_session(connection: &mut PgConnection, session: &ClientSession) -> Result<(), Fault> {
    let sql = "INSERT INTO client_sessions (id, client_id, user_id, session_id, ended, over_at, due_at, tries, version, \
         entry) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::json)";
    let insert = query(sql)
        .bind(uuid(session.id.to_bytes()))
        .bind(uuid(session.client.to_bytes()))
        .bind(uuid(session.user.to_bytes()))
        .bind(uuid(session.session.to_bytes()))
        .bind(session.ended_at.is_some())
        .bind(session.over_at().as_microsecond())
        .bind(session.due_at.map(Timestamp::as_microsecond))
        .bind(i64::from(session.tries))
        .bind(session.version)
        .bind(json(session)?);
    insert.execute(connection).await?;
    Ok(())
}

async fn update_session(connection: &mut PgConnection, new: &ClientSession) -> Result<(), Fault> {
    let sql = "UPDATE client_sessions SET ended = $2, over_at = $3, due_at = $4, tries = $5, version = $6, entry = $7::json \
         WHERE id = $1 AND version = $6 - 1";
    let update = query(sql)
        .bind(uuid(new.id.to_bytes()))
        .bind(new.ended_at.is_some())
        .bind(new.over_at().as_microsecond())
        .bind(new.due_at.map(Timestamp::as_microsecond))
        .bind(i64::from(new.tries))
        .bind(new.version)
        .bind(json(new)?);
    match update.execute(connection).await?.rows_affected() {
        0 => Err(StoreError::conflict(CHANGED).into()),
        _ => Ok(()),
    }
}

async fn session_by_id(connection: &mut PgConnection, id: ClientSessionId) -> Result<ClientSession, Fault> {
    let found = query("SELECT * FROM client_sessions WHERE id = $1").bind(uuid(id.to_bytes()));
    session(&found.fetch_optional(connection).await?.ok_or(SESSION)?)
}

pub(crate) fn session(row: &PgRow) -> Result<ClientSession, Fault> {
    let tries = row.number_opt("tries")?.ok_or_else(|| damaged("tries"))?;
    Ok(ClientSession { due_at: row.time_opt("due_at")?, tries, ..row.json("entry")? })
}

fn secret(row: &PgRow) -> Result<SecretHash, Fault> {
    row.bytes("secret")?.try_into().map(SecretHash).map_err(|_| damaged("secret"))
}

pub(crate) fn client_row(row: &PgRow) -> Result<OidcClientRow, Fault> {
    Ok(OidcClientRow { client: row.json("entry")?, secret: secret(row)? })
}

pub(crate) fn signing_key(row: &PgRow) -> Result<SigningKey, Fault> {
    row.json("entry")
}
