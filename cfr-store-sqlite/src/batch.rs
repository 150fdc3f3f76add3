//! [`BatchStore`]: files and batches as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::batch::{Batch, BatchState, FilePurpose, KeptFile, Owner};
use cfr_billing::store::batch::CLAIMS_MAX;
use cfr_billing::store::{BatchStore, Page, PageRequest, StoreError};
use cfr_core::id::{BatchId, FileId, UserId};
use cfr_core::time::Timestamp;
use fail::fail_point;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::SqliteStore;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, blob, json, word};
use crate::writer::Tx;

#[async_trait]
impl BatchStore for SqliteStore {
    async fn add_file(&self, file: &KeptFile) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        insert_file(&mut tx, file).await?;
        Ok(tx.commit().await?)
    }

    async fn file(&self, owner: Owner, id: FileId) -> Result<KeptFile, StoreError> {
        let sql = "SELECT entry FROM request_files WHERE id = ? AND tenant_id = ? AND user_id = ?";
        let found = sqlx::query(sql).bind(blob(id.to_bytes())).bind(tenant(owner)).bind(user(owner));
        let row = found.fetch_optional(self.readers()).await.map_err(Fault::from)?;
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
        let rows = newest_first(&mut sql, page).build().fetch_all(self.readers()).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, entry, |file: &KeptFile| file.id.as_u128())?)
    }

    async fn forget_file(&self, owner: Owner, id: FileId) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "DELETE FROM request_files WHERE id = ? AND tenant_id = ? AND user_id = ?";
        let gone = sqlx::query(sql).bind(blob(id.to_bytes())).bind(tenant(owner)).bind(user(owner));
        if gone.execute(tx.connection()).await.map_err(Fault::from)?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "file" });
        }
        Ok(tx.commit().await?)
    }

    async fn add_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql =
            "INSERT INTO request_batches (id, tenant_id, user_id, state, due_at, entry) VALUES (?, ?, ?, ?, ?, ?)";
        let insert = sqlx::query(sql)
            .bind(blob(batch.id.to_bytes()))
            .bind(tenant(batch.owner))
            .bind(user(batch.owner))
            .bind(batch.state.name())
            .bind(batch.due_at.as_microsecond())
            .bind(json(batch)?);
        insert.execute(tx.connection()).await.map_err(Fault::from)?;
        fail_point!("batch.added");
        Ok(tx.commit().await?)
    }

    async fn batch(&self, owner: Owner, id: BatchId) -> Result<Batch, StoreError> {
        let sql = "SELECT entry, due_at FROM request_batches WHERE id = ? AND tenant_id = ? AND user_id = ?";
        let found = sqlx::query(sql).bind(blob(id.to_bytes())).bind(tenant(owner)).bind(user(owner));
        let row = found.fetch_optional(self.readers()).await.map_err(Fault::from)?;
        Ok(batch(&row.ok_or(StoreError::NotFound { what: "batch" })?)?)
    }

    async fn batches(&self, owner: Owner, page: PageRequest) -> Result<Page<Batch>, StoreError> {
        let mut sql = of_owner("request_batches", owner);
        sql.push(" AND state <> 'void'");
        let rows = newest_first(&mut sql, page).build().fetch_all(self.readers()).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, batch, |batch| batch.id.as_u128())?)
    }

    async fn update_batch(&self, from: BatchState, batch: &Batch, files: &[KeptFile]) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "UPDATE request_batches SET state = ?3, due_at = ?4, entry = ?5 WHERE id = ?1 AND state = ?2";
        let update = sqlx::query(sql)
            .bind(blob(batch.id.to_bytes()))
            .bind(from.name())
            .bind(batch.state.name())
            .bind(batch.due_at.as_microsecond())
            .bind(json(batch)?);
        if update.execute(tx.connection()).await.map_err(Fault::from)?.rows_affected() == 0 {
            return Err(StoreError::conflict("the batch was brought further meanwhile"));
        }
        for file in files {
            insert_file(&mut tx, file).await?;
        }
        fail_point!("batch.updated");
        Ok(tx.commit().await?)
    }

    async fn claim_batches(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Batch>, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "UPDATE request_batches SET due_at = ?2 WHERE id IN (SELECT id FROM request_batches \
             WHERE due_at <= ?1 AND state NOT IN ('settled', 'void') ORDER BY due_at LIMIT ?3) RETURNING entry, due_at";
        let claim =
            sqlx::query(sql).bind(now.as_microsecond()).bind(until.as_microsecond()).bind(limit.min(CLAIMS_MAX));
        let rows = claim.fetch_all(tx.connection()).await.map_err(Fault::from)?;
        let claimed = rows.iter().map(batch).collect::<Result<_, Fault>>()?;
        tx.commit().await?;
        Ok(claimed)
    }
}

/// Refuses books with a batch that is not charged yet: its rights are those of a life that ends with these books.
pub(crate) async fn check_none_runs(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let sql = "SELECT count(*) FROM request_batches WHERE state NOT IN ('settled', 'void')";
    match sqlx::query_scalar::<_, i64>(sql).fetch_one(connection).await? {
        0 => Ok(()),
        count => {
            Err(StoreError::conflict(format_args!("{count} batches are not charged yet; wait for their end")).into())
        }
    }
}

async fn insert_file(tx: &mut Tx<'_>, file: &KeptFile) -> Result<(), Fault> {
    let sql = "INSERT INTO request_files (id, tenant_id, user_id, purpose, entry) VALUES (?, ?, ?, ?, ?)";
    let insert = sqlx::query(sql)
        .bind(blob(file.id.to_bytes()))
        .bind(tenant(file.owner))
        .bind(user(file.owner))
        .bind(word(&file.purpose)?)
        .bind(json(file)?);
    insert.execute(tx.connection()).await?;
    Ok(())
}

fn of_owner(table: &'static str, owner: Owner) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM ");
    sql.push(table).push(" WHERE tenant_id = ").push_bind(tenant(owner));
    sql.push(" AND user_id = ").push_bind(user(owner));
    sql
}

fn newest_first(sql: &mut QueryBuilder<Sqlite>, page: PageRequest) -> &mut QueryBuilder<Sqlite> {
    if let Some(after) = page.after {
        sql.push(" AND id < ").push_bind(after.0.to_be_bytes().to_vec());
    }
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(rows_wanted(page))
}

fn batch(row: &SqliteRow) -> Result<Batch, Fault> {
    Ok(Batch { due_at: row.time("due_at")?, ..entry(row)? })
}

fn entry<T: DeserializeOwned>(row: &SqliteRow) -> Result<T, Fault> {
    row.json("entry")
}

fn tenant(owner: Owner) -> Vec<u8> {
    blob(owner.tenant.to_bytes())
}

/// An empty blob stands for nobody.
fn user(owner: Owner) -> Vec<u8> {
    owner.user.map_or_else(Vec::new, |user| blob(UserId::to_bytes(user)))
}
