//! [`OidcStore`]: clients, keys and sessions as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::oidc::{Client, ClientSession, Ending, SigningKey};
use cfr_billing::people::SecretHash;
use cfr_billing::store::archive::OidcClientRow;
use cfr_billing::store::{LOGOUTS_MAX, OidcStore, Page, PageRequest, SIGNING_KEYS_PUBLISHED, StoreError};
use cfr_core::id::{ClientId, ClientSessionId, TenantId};
use cfr_core::time::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::SqliteStore;
use crate::audit_log;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, blob, damaged, json};
use crate::writer::Tx;

const CLIENT: StoreError = StoreError::NotFound { what: "client" };
const SESSION: StoreError = StoreError::NotFound { what: "client's session" };
const CHANGED: &str = "it was changed meanwhile";

#[async_trait]
impl OidcStore for SqliteStore {
    async fn add_client(&self, client: &Client, secret: &SecretHash, act: &Act) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        insert_client(tx.connection(), client, secret).await?;
        audit_log::record(&mut tx, act, &Event::created(Action::ClientCreated, client)).await?;
        Ok(tx.commit().await?)
    }

    async fn client(&self, id: ClientId) -> Result<Client, StoreError> {
        Ok(client(&mut *self.reader().await?, id).await?)
    }

    async fn client_secret(&self, id: ClientId) -> Result<SecretHash, StoreError> {
        let found = sqlx::query("SELECT secret FROM oidc_clients WHERE id = ?").bind(blob(id.to_bytes()));
        let row = found.fetch_optional(self.readers()).await.map_err(Fault::from)?.ok_or(CLIENT)?;
        Ok(secret(&row)?)
    }

    async fn clients(&self, tenant: Option<TenantId>, page: PageRequest) -> Result<Page<Client>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT entry FROM oidc_clients WHERE TRUE");
        if let Some(tenant) = tenant {
            sql.push(" AND tenant_id = ").push_bind(blob(tenant.to_bytes()));
        }
        if let Some(after) = page.after {
            sql.push(" AND id > ").push_bind(after.0.to_be_bytes().to_vec());
        }
        sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
        let rows = sql.build().fetch_all(self.readers()).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, |row| row.json("entry"), |client: &Client| client.id.as_u128())?)
    }

    async fn update_client(&self, new: &Client, secret: Option<&SecretHash>, act: &Act) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        update_client(&mut tx, new, secret, act).await?;
        Ok(tx.commit().await?)
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let sql = "SELECT entry FROM signing_keys ORDER BY seq DESC LIMIT ?";
        let newest = sqlx::query(sql).bind(SIGNING_KEYS_PUBLISHED as i64);
        let rows = newest.fetch_all(self.readers()).await.map_err(Fault::from)?;
        Ok(rows.iter().map(signing_key).collect::<Result<_, Fault>>()?)
    }

    async fn add_signing_key(&self, key: &SigningKey, act: &Act) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        insert_signing_key(tx.connection(), key).await?;
        audit_log::record(&mut tx, act, &key.added()).await?;
        Ok(tx.commit().await?)
    }

    async fn reseal_signing_key(&self, seq: i64, private: &str) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "UPDATE signing_keys SET entry = json_set(entry, '$.private', ?2) WHERE seq = ?1";
        let write = sqlx::query(sql).bind(seq).bind(private.to_owned());
        if write.execute(tx.connection()).await.map_err(Fault::from)?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "signing key" });
        }
        Ok(tx.commit().await?)
    }

    async fn open_client_session(&self, session: &ClientSession, act: &Act) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        insert_session(tx.connection(), session).await?;
        audit_log::record(&mut tx, act, &session.event(Action::ClientSessionOpened)).await?;
        Ok(tx.commit().await?)
    }

    async fn client_session(&self, id: ClientSessionId) -> Result<ClientSession, StoreError> {
        Ok(session_by_id(&mut *self.reader().await?, id).await?)
    }

    async fn update_client_session(&self, new: &ClientSession, act: &Act) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        let known = session_by_id(tx.connection(), new.id).await?;
        update_session(tx.connection(), new).await?;
        if known.ended_at.is_none() && new.ended_at.is_some() {
            audit_log::record(&mut tx, act, &new.event(Action::ClientSessionEnded)).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn end_client_sessions(&self, ending: Ending, act: &Act) -> Result<u64, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        let count = end_sessions(&mut tx, ending, act).await?;
        tx.commit().await?;
        Ok(count)
    }

    async fn claim_logouts(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ClientSession>, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "UPDATE client_sessions SET due_at = ?2, tries = tries + 1 WHERE id IN (SELECT id FROM client_sessions \
             WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?3) RETURNING entry, due_at, tries";
        let claim =
            sqlx::query(sql).bind(now.as_microsecond()).bind(until.as_microsecond()).bind(limit.min(LOGOUTS_MAX));
        let rows = claim.fetch_all(tx.connection()).await.map_err(Fault::from)?;
        let claimed = rows.iter().map(session).collect::<Result<_, Fault>>()?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn logout_told(&self, id: ClientSessionId) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let told = sqlx::query("UPDATE client_sessions SET due_at = NULL WHERE id = ?").bind(blob(id.to_bytes()));
        told.execute(tx.connection()).await.map_err(Fault::from)?;
        Ok(tx.commit().await?)
    }

    async fn sweep_client_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "DELETE FROM client_sessions WHERE due_at IS NULL AND over_at < ?";
        let gone = sqlx::query(sql).bind(before.as_microsecond()).execute(tx.connection()).await;
        let count = gone.map_err(Fault::from)?.rows_affected();
        tx.commit().await?;
        Ok(count)
    }
}

/// Ends what is meant and has not ended.
pub(crate) async fn end_sessions(tx: &mut Tx<'_>, ending: Ending, act: &Act) -> Result<u64, Fault> {
    let sql = match ending {
        Ending::Session(_) => "SELECT * FROM client_sessions WHERE session_id = ? AND ended = 0",
        Ending::User(_) | Ending::Others(..) | Ending::Before(..) => {
            "SELECT * FROM client_sessions WHERE user_id = ? AND ended = 0"
        }
        Ending::Client(_) => "SELECT * FROM client_sessions WHERE client_id = ? AND ended = 0",
        _ => return Err(StoreError::invalid("an unknown end").into()),
    };
    let open = sqlx::query(sql).bind(blob(ending.id())).fetch_all(tx.connection()).await?;
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

async fn insert_signing_key(connection: &mut SqliteConnection, key: &SigningKey) -> Result<(), Fault> {
    let sql = "INSERT INTO signing_keys (seq, entry) VALUES (?, ?)";
    sqlx::query(sql).bind(key.seq).bind(json(key)?).execute(connection).await?;
    Ok(())
}

async fn insert_client(connection: &mut SqliteConnection, client: &Client, secret: &SecretHash) -> Result<(), Fault> {
    let sql = "INSERT INTO oidc_clients (id, tenant_id, secret, version, entry) VALUES (?, ?, ?, ?, ?)";
    let insert = sqlx::query(sql)
        .bind(blob(client.id.to_bytes()))
        .bind(blob(client.tenant.to_bytes()))
        .bind(&secret.0[..])
        .bind(client.version)
        .bind(json(client)?);
    insert.execute(connection).await?;
    Ok(())
}

async fn client(connection: &mut SqliteConnection, id: ClientId) -> Result<Client, Fault> {
    let found = sqlx::query("SELECT entry FROM oidc_clients WHERE id = ?").bind(blob(id.to_bytes()));
    found.fetch_optional(connection).await?.ok_or(CLIENT)?.json("entry")
}

async fn update_client(tx: &mut Tx<'_>, new: &Client, secret: Option<&SecretHash>, act: &Act) -> Result<(), Fault> {
    let before = client(tx.connection(), new.id).await?;
    let sql = "UPDATE oidc_clients SET version = ?2, entry = ?3, secret = coalesce(?4, secret) \
         WHERE id = ?1 AND version = ?2 - 1";
    let update = sqlx::query(sql)
        .bind(blob(new.id.to_bytes()))
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

async fn insert_session(connection: &mut SqliteConnection, session: &ClientSession) -> Result<(), Fault> {
    let sql = "INSERT INTO client_sessions (id, client_id, user_id, session_id, ended, over_at, due_at, tries, version, \
         entry) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let insert = sqlx::query(sql)
        .bind(blob(session.id.to_bytes()))
        .bind(blob(session.client.to_bytes()))
        .bind(blob(session.user.to_bytes()))
        .bind(blob(session.session.to_bytes()))
        .bind(session.ended_at.is_some())
        .bind(session.over_at().as_microsecond())
        .bind(session.due_at.map(Timestamp::as_microsecond))
        .bind(session.tries)
        .bind(session.version)
        .bind(json(session)?);
    insert.execute(connection).await?;
    Ok(())
}

async fn update_session(connection: &mut SqliteConnection, new: &ClientSession) -> Result<(), Fault> {
    let sql = "UPDATE client_sessions SET ended = ?2, over_at = ?3, due_at = ?4, tries = ?5, version = ?6, entry = ?7 \
         WHERE id = ?1 AND version = ?6 - 1";
    let update = sqlx::query(sql)
        .bind(blob(new.id.to_bytes()))
        .bind(new.ended_at.is_some())
        .bind(new.over_at().as_microsecond())
        .bind(new.due_at.map(Timestamp::as_microsecond))
        .bind(new.tries)
        .bind(new.version)
        .bind(json(new)?);
    match update.execute(connection).await?.rows_affected() {
        0 => Err(StoreError::conflict(CHANGED).into()),
        _ => Ok(()),
    }
}

async fn session_by_id(connection: &mut SqliteConnection, id: ClientSessionId) -> Result<ClientSession, Fault> {
    let found = sqlx::query("SELECT * FROM client_sessions WHERE id = ?").bind(blob(id.to_bytes()));
    session(&found.fetch_optional(connection).await?.ok_or(SESSION)?)
}

pub(crate) fn session(row: &SqliteRow) -> Result<ClientSession, Fault> {
    let tries = row.number_opt("tries")?.ok_or_else(|| damaged("tries"))?;
    Ok(ClientSession { due_at: row.time_opt("due_at")?, tries, ..row.json("entry")? })
}

fn secret(row: &SqliteRow) -> Result<SecretHash, Fault> {
    row.bytes("secret")?.try_into().map(SecretHash).map_err(|_| damaged("secret"))
}

pub(crate) fn client_row(row: &SqliteRow) -> Result<OidcClientRow, Fault> {
    Ok(OidcClientRow { client: row.json("entry")?, secret: secret(row)? })
}

pub(crate) fn signing_key(row: &SqliteRow) -> Result<SigningKey, Fault> {
    row.json("entry")
}
