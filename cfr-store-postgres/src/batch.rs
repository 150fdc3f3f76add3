//! [`BatchStore`]: files and batches as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::batch::{Batch, BatchState, FilePurpose, KeptFile, Owner};
use cfr_billing::store::batch::CLAIMS_MAX;
use cfr_billing::store::{BatchStore, Page, PageRequest, StoreError};
use cfr_core::id::{BatchId, FileId, UserId};
use cfr_core::time::Timestamp;
use fail::fail_point;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

use crate::PostgresStore;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, json, query, uuid, word};
use crate::writer::{Tx, write};

#[async_trait]
impl BatchStore for PostgresStore {
    async fn add_file(&self, file: &KeptFile) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| insert_file(tx, file)).await
    }

    async fn file(&self, owner: Owner, id: FileId) -> Result<KeptFile, StoreError> {
        let sql =
            "SELECT entry FROM request_files WHERE id = $1 AND tenant_id = $2 AND user_id IS NOT DISTINCT FROM $3";
        let found = query(sql).bind(uuid(id.to_bytes())).bind(tenant(owner)).bind(user(owner));
        let row = found.fetch_optional(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(entry(&row.ok_or(StoreError::NotFound { what: "file" })?)?)
    }

    async fn files(
        &self,
        owner: Owner,
        purpose: Option<FilePurpose>,
        page: PageRequest,
    ) -> Result<Page<KeptFile>, StoreError> {
        let mut sql = of_owner("request_files", owner);
        if let Some(purpose) = purpose {
            sql.push(" AND purpose = ").push_bind(word(&purpose)?);
        }
        let list = newest_first(&mut sql, page).build().persistent(false);
        let rows = list.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, entry, |file: &KeptFile| file.id.as_u128())?)
    }

    async fn forget_file(&self, owner: Owner, id: FileId) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| delete_file(tx, owner, id)).await
    }

    async fn add_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| insert_batch(tx, batch)).await
    }

    async fn batch(&self, owner: Owner, id: BatchId) -> Result<Batch, StoreError> {
        let sql = "SELECT entry, due_at FROM request_batches \
             WHERE id = $1 AND tenant_id = $2 AND user_id IS NOT DISTINCT FROM $3";
        let found = query(sql).bind(uuid(id.to_bytes())).bind(tenant(owner)).bind(user(owner));
        let row = found.fetch_optional(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(batch(&row.ok_or(StoreError::NotFound { what: "batch" })?)?)
    }

    async fn batches(&self, owner: Owner, page: PageRequest) -> Result<Page<Batch>, StoreError> {
        let mut sql = of_owner("request_batches", owner);
        sql.push(" AND state <> 'void'");
        let list = newest_first(&mut sql, page).build().persistent(false);
        let rows = list.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, batch, |batch| batch.id.as_u128())?)
    }

    async fn update_batch(&self, from: BatchState, batch: &Batch, files: &[KeptFile]) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| update(tx, from, batch, files)).await
    }

    async fn claim_batches(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Batch>, StoreError> {
        write!(self, Timestamp::MIN, |tx| claim(tx, now, until, limit)).await
    }
}

/// Refuses books with a batch that is not charged yet: its rights are those of a life that ends with these books.
pub(crate) async fn check_none_runs(connection: &mut PgConnection) -> Result<(), Fault> {
    let sql = "SELECT count(*) FROM request_batches WHERE state NOT IN ('settled', 'void')";
    match query(sql).fetch_one(connection).await?.try_get::<i64, _>(0)? {
        0 => Ok(()),
        count => {
            Err(StoreError::conflict(format_args!("{count} batches are not charged yet; wait for their end")).into())
        }
    }
}

async fn insert_file(tx: &mut Tx<'_>, file: &KeptFile) -> Result<(), Fault> {
    let sql = "INSERT INTO request_files (id, tenant_id, user_id, purpose, entry) VALUES ($1, $2, $3, $4, $5::json)";
    let insert = query(sql)
        .bind(uuid(file.id.to_bytes()))
        .bind(tenant(file.owner))
        .bind(user(file.owner))
        .bind(word(&file.purpose)?)
        .bind(json(file)?);
    insert.execute(tx.connection()).await?;
    Ok(())
}

async fn delete_file(tx: &mut Tx<'_>, owner: Owner, id: FileId) -> Result<(), Fault> {
    let sql = "DELETE FROM request_files WHERE id = $1 AND tenant_id = $2 AND user_id IS NOT DISTINCT FROM $3";
    let gone = query(sql).bind(uuid(id.to_bytes())).bind(tenant(owner)).bind(user(owner));
    match gone.execute(tx.connection()).await?.rows_affected() {
        0 => Err(StoreError::NotFound { what: "file" }.into()),
        _ => Ok(()),
    }
}

async fn insert_batch(tx: &mut Tx<'_>, batch: &Batch) -> Result<(), Fault> {
    let sql = "INSERT INTO request_batches (id, tenant_id, user_id, state, due_at, entry) \
         VALUES ($1, $2, $3, $4, $5, $6::json)";
    let insert = query(sql)
        .bind(uuid(batch.id.to_bytes()))
        .bind(tenant(batch.owner))
        .bind(user(batch.owner))
        .bind(batch.state.name())
        .bind(batch.due_at.as_microsecond())
        .bind(json(batch)?);
    insert.execute(tx.connection()).await?;
    fail_point!("batch.added");
    Ok(())
}

async fn update(tx: &mut Tx<'_>, from: BatchState, batch: &Batch, files: &[KeptFile]) -> Result<(), Fault> {
    let sql = "UPDATE request_batches SET state = $3, due_at = $4, entry = $5::json WHERE id = $1 AND state = $2";
    let update = query(sql)
        .bind(uuid(batch.id.to_bytes()))
        .bind(from.name())
        .bind(batch.state.name())
        .bind(batch.due_at.as_microsecond())
        .bind(json(batch)?);
    if update.execute(tx.connection()).await?.rows_affected() == 0 {
        return Err(StoreError::conflict("the batch was brought further meanwhile").into());
    }
    for file in files {
        insert_file(tx, file).await?;
    }
    fail_point!("batch.updated");
    Ok(())
}

async fn claim(tx: &mut Tx<'_>, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Batch>, Fault> {
    let sql = "UPDATE request_batches SET due_at = $2 WHERE id IN (SELECT id FROM request_batches \
         WHERE due_at <= $1 AND state NOT IN ('settled', 'void') ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED) \
         RETURNING entry, due_at";
    let limit = i64::from(limit.min(CLAIMS_MAX));
    let claim = query(sql).bind(now.as_microsecond()).bind(until.as_microsecond()).bind(limit);
    claim.fetch_all(tx.connection()).await?.iter().map(batch).collect()
}

fn of_owner(table: &'static str, owner: Owner) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("SELECT * FROM ");
    sql.push(table).push(" WHERE tenant_id = ").push_bind(tenant(owner));
    sql.push(" AND user_id IS NOT DISTINCT FROM ").push_bind(user(owner));
    sql
}

fn newest_first(sql: &mut QueryBuilder<Postgres>, page: PageRequest) -> &mut QueryBuilder<Postgres> {
    if let Some(after) = page.after {
        sql.push(" AND id < ").push_bind(Uuid::from_u128(after.0));
    }
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(rows_wanted(page))
}

fn batch(row: &PgRow) -> Result<Batch, Fault> {
    Ok(Batch { due_at: row.time("due_at")?, ..entry(row)? })
}

fn entry<T: DeserializeOwned>(row: &PgRow) -> Result<T, Fault> {
    row.json("entry")
}

fn tenant(owner: Owner) -> Uuid {
    uuid(owner.tenant.to_bytes())
}

fn user(owner: Owner) -> Option<Uuid> {
    owner.user.map(|user| uuid(UserId::to_bytes(user)))
}
