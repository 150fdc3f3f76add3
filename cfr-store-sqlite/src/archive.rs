//! [`Archive`]: everything out of a stopped file, and into an empty one.

use async_trait::async_trait;
use cfr_billing::store::StoreError;
use cfr_billing::store::archive::{Archive, CopyReport, Origin, Rows, Snapshot};
use cfr_core::time::Timestamp;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::SqliteStore;
use crate::error::Fault;
use crate::open::OpenError;
use crate::row::json;

mod read;
mod write;

/// The tables that rows are copied into, and the one that says so.
const TABLES: &[&str] = &[
    "copies",
    "tenants",
    "products",
    "users",
    "api_keys",
    "budgets",
    "accounts",
    "grants",
    "nodes",
    "leases",
    "holds",
    "usage_records",
    "ledger_batches",
    "usage_daily",
    "usage_totals",
    "price_versions",
    "audit_events",
    "data_keys",
    "provider_accounts",
    "subscriptions",
    "proposals",
    "leads",
    "credentials",
    "identities",
    "oidc_clients",
    "signing_keys",
    "client_sessions",
    "outside_holds",
    "outside_names",
];

#[async_trait]
impl Archive for SqliteStore {
    /// The lock of the file proves that no other process is at work.
    async fn snapshot(&self, _now: Timestamp) -> Result<Box<dyn Snapshot>, StoreError> {
        if !self.is_locked() {
            return Err(StoreError::conflict("the file may be in use: only its owner can copy it"));
        }
        let mut snapshot = self.readers().begin().await.map_err(Fault::from)?;
        crate::batch::check_none_runs(&mut snapshot).await?;
        Ok(Box::new(read::SqliteSnapshot::new(snapshot)))
    }

    async fn check_empty(&self) -> Result<(), StoreError> {
        Ok(check_empty(&mut *self.reader().await?).await?)
    }

    async fn begin_copy(&self, origin: &Origin, now: Timestamp) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        check_empty(tx.connection()).await?;
        let sql = "INSERT INTO copies (source, heads, started_at) VALUES (?, ?, ?)";
        let at = tx.micros();
        let insert = sqlx::query(sql).bind(origin.source.clone()).bind(json(&origin.heads)?).bind(at);
        insert.execute(tx.connection()).await.map_err(Fault::from)?;
        Ok(tx.commit().await?)
    }

    async fn write(&self, rows: &Rows) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?; // every row has its own moments
        if unfinished(tx.connection()).await?.is_none() {
            return Err(StoreError::conflict("no copy was begun"));
        }
        write::rows(&mut tx, rows).await?;
        Ok(tx.commit().await?)
    }

    async fn finish_copy(&self, report: &CopyReport, now: Timestamp) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let sql = "UPDATE copies SET ended_at = ?, sections = ? WHERE ended_at IS NULL";
        let at = tx.micros();
        let update = sqlx::query(sql).bind(at).bind(json(&report.sections)?);
        if update.execute(tx.connection()).await.map_err(Fault::from)?.rows_affected() == 0 {
            return Err(StoreError::conflict("no copy was begun"));
        }
        Ok(tx.commit().await?)
    }
}

async fn check_empty(connection: &mut SqliteConnection) -> Result<(), Fault> {
    for table in TABLES {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        if sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await? {
            let what = format_args!("it is not empty: `{table}` has rows; name an empty database");
            return Err(StoreError::conflict(what).into());
        }
    }
    Ok(())
}

/// Where a copy that has not ended comes from, and when it was begun.
async fn unfinished(connection: &mut SqliteConnection) -> Result<Option<(String, i64)>, Fault> {
    let sql = "SELECT source, started_at FROM copies WHERE ended_at IS NULL";
    Ok(sqlx::query_as(sql).fetch_optional(connection).await?)
}

/// Refuses books that are not complete.
pub(crate) async fn check_complete(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let Some((origin, started_at)) = unfinished(connection).await? else { return Ok(()) };
    let started_at = Timestamp::from_microsecond(started_at).map_err(StoreError::unavailable)?;
    Err(OpenError::UnfinishedCopy { origin, started_at })
}
