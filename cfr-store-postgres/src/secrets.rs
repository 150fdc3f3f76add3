//! [`SecretStore`]: the keys that seal secrets, as a master key wraps them.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action};
use cfr_billing::secrets::DataKey;
use cfr_billing::store::{Page, PageRequest, SecretStore, StoreError};
use cfr_core::id::{DataKeyId, TenantId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::PostgresStore;
use crate::audit_log;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, query, uuid};
use crate::writer::{Tx, write};

#[async_trait]
impl SecretStore for PostgresStore {
    async fn current_data_key(&self, tenant: Option<TenantId>) -> Result<Option<DataKey>, StoreError> {
        Ok(current(&mut *self.reader().await?, tenant).await?)
    }

    async fn data_key(&self, id: DataKeyId) -> Result<DataKey, StoreError> {
        let found = query("SELECT * FROM data_keys WHERE id = $1").bind(uuid(id.to_bytes()));
        let row = found.fetch_optional(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(from_row(&row.ok_or(StoreError::NotFound { what: "data key" })?)?)
    }

    async fn data_keys(&self, page: PageRequest) -> Result<Page<DataKey>, StoreError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM data_keys");
        if let Some(after) = page.after {
            sql.push(" WHERE id > ").push_bind(Uuid::from_u128(after.0));
        }
        sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
        let list = sql.build().persistent(false);
        let rows = list.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, from_row, |key| key.id.as_u128())?)
    }

    async fn add_data_key(&self, new: &DataKey, replaces: Option<DataKeyId>, act: &Act) -> Result<DataKey, StoreError> {
        write!(self, act.at, |tx| add(tx, new, replaces, act)).await
    }

    async fn rewrap_data_key(&self, key: &DataKey, from: &str, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| rewrap(tx, key, from, act)).await
    }

    async fn shred_data_keys(&self, tenant: TenantId, act: &Act) -> Result<u64, StoreError> {
        write!(self, act.at, |tx| shred(tx, tenant, act)).await
    }
}

/// Keys are hardly ever made: those who make one wait for each other.
async fn add(tx: &mut Tx<'_>, new: &DataKey, replaces: Option<DataKeyId>, act: &Act) -> Result<DataKey, Fault> {
    query("LOCK TABLE data_keys IN SHARE ROW EXCLUSIVE MODE").execute(tx.connection()).await?;
    let known = current(tx.connection(), new.tenant).await?;
    if let Some(other) = known.filter(|key| Some(key.id) != replaces) {
        return Ok(other);
    }
    let retire = query("UPDATE data_keys SET current = false WHERE tenant_id = $1 AND current");
    retire.bind(owner(new.tenant)).execute(tx.connection()).await?;
    insert(tx.connection(), new).await?;
    audit_log::record(tx, act, &new.event(Action::DataKeyCreated)).await?;
    Ok(new.clone())
}

async fn rewrap(tx: &mut Tx<'_>, key: &DataKey, from: &str, act: &Act) -> Result<(), Fault> {
    let sql = "UPDATE data_keys SET master = $3, wrapped = $4 WHERE id = $1 AND master = $2";
    let update = query(sql).bind(uuid(key.id.to_bytes())).bind(from).bind(key.master.clone()).bind(key.wrapped.clone());
    if update.execute(tx.connection()).await?.rows_affected() == 0 {
        return Err(StoreError::conflict("the data key was wrapped anew meanwhile").into());
    }
    audit_log::record(tx, act, &key.event(Action::DataKeyRewrapped)).await
}

async fn shred(tx: &mut Tx<'_>, tenant: TenantId, act: &Act) -> Result<u64, Fault> {
    let sql = "DELETE FROM data_keys WHERE tenant_id = $1 RETURNING *";
    let rows = query(sql).bind(owner(Some(tenant))).fetch_all(tx.connection()).await?;
    for row in &rows {
        audit_log::record(tx, act, &from_row(row)?.event(Action::DataKeyShredded)).await?;
    }
    Ok(rows.len() as u64)
}

pub(crate) async fn insert(connection: &mut PgConnection, key: &DataKey) -> Result<(), Fault> {
    let sql =
        "INSERT INTO data_keys (id, tenant_id, master, wrapped, current, made_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let insert = query(sql)
        .bind(uuid(key.id.to_bytes()))
        .bind(owner(key.tenant))
        .bind(key.master.clone())
        .bind(key.wrapped.clone())
        .bind(key.current)
        .bind(key.made_at.as_microsecond());
    insert.execute(connection).await?;
    Ok(())
}

async fn current(connection: &mut PgConnection, tenant: Option<TenantId>) -> Result<Option<DataKey>, Fault> {
    let found = query("SELECT * FROM data_keys WHERE tenant_id = $1 AND current").bind(owner(tenant));
    found.fetch_optional(connection).await?.as_ref().map(from_row).transpose()
}

pub(crate) fn from_row(row: &PgRow) -> Result<DataKey, Fault> {
    Ok(DataKey {
        id: row.id("id", DataKeyId::from_bytes)?,
        tenant: row.id_opt("tenant_id", TenantId::from_bytes)?,
        master: row.text("master")?,
        wrapped: row.text("wrapped")?,
        current: row.flag("current")?,
        made_at: row.time("made_at")?,
    })
}

/// The nil id stands for the platform.
pub(crate) fn owner(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or_else(Uuid::nil, |tenant| uuid(tenant.to_bytes()))
}
