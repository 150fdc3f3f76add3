//! [`Archive`]: everything out of a database that nobody is at work on, and into an empty one.

use std::sync::Arc;

use async_trait::async_trait;
use cfr_billing::store::archive::{Archive, CopyReport, Origin, Rows, Snapshot};
use cfr_billing::store::{LedgerStore, StoreError};
use cfr_core::time::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::PostgresStore;
use crate::error::Fault;
use crate::open::OpenError;
use crate::row::{Fields, json, query, searchable_and_distinct};
use crate::writer::{Tx, write};

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
    "charge_keys",
    "ledger_chains",
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
impl Archive for PostgresStore {
    async fn snapshot(&self, now: Timestamp) -> Result<Box<dyn Snapshot>, StoreError> {
        if let Some(node) = self.nodes(now).await?.into_iter().find(|node| node.alive) {
            return Err(StoreError::conflict(format_args!(
                "node `{}` is at work (last seen {}); stop it first, or declare it dead with `cfr-server node fence {0}`",
                node.node, node.seen_at
            )));
        }
        crate::batch::check_none_runs(&mut *self.reader().await?).await?;
        Ok(Box::new(read::PostgresSnapshot::begin(self).await?))
    }

    async fn check_empty(&self) -> Result<(), StoreError> {
        Ok(check_empty(&mut *self.reader().await?).await?)
    }

    async fn begin_copy(&self, origin: &Origin, now: Timestamp) -> Result<(), StoreError> {
        write!(self, now, |tx| begin(tx, origin)).await
    }

    /// Models are called what somebody calls them, and SQLite keeps any text.
    fn fitted(&self, mut rows: Rows) -> (Rows, u64) {
        let mut changed = 0;
        let mut fit = |name: &mut Arc<str>| {
            let kept = searchable_and_distinct(name);
            changed += u64::from(kept != *name);
            *name = kept;
        };
        match &mut rows {
            Rows::Holds(holds) => {
                for hold in holds {
                    fit(&mut hold.model);
                }
            }
            Rows::Batches(batches) => {
                for booked in batches.iter_mut().flat_map(|batch| &mut batch.usage) {
                    fit(&mut booked.record.model_served);
                }
            }
            Rows::Days(days) => days.iter_mut().for_each(|day| fit(&mut day.model)),
            _ => {}
        }
        (rows, changed)
    }

    async fn write(&self, rows: &Rows) -> Result<(), StoreError> {
        match rows {
            Rows::Batches(_) => write!(sealing self, Timestamp::MIN, |tx| write_rows(tx, rows)).await, // with their own moments
            _ => write!(self, Timestamp::MIN, |tx| write_rows(tx, rows)).await,
        }
    }

    async fn finish_copy(&self, report: &CopyReport, now: Timestamp) -> Result<(), StoreError> {
        write!(self, now, |tx| finish(tx, report)).await
    }
}

async fn check_empty(connection: &mut PgConnection) -> Result<(), Fault> {
    for table in TABLES {
        let sql = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {table})"));
        if sqlx::query_scalar(sql).persistent(false).fetch_one(&mut *connection).await? {
            let what = format_args!("it is not empty: `{table}` has rows; name an empty database");
            return Err(StoreError::conflict(what).into());
        }
    }
    Ok(())
}

/// Of two copies that begin at once, one waits for the other, and then finds its mark.
async fn begin(tx: &mut Tx<'_>, origin: &Origin) -> Result<(), Fault> {
    query("LOCK TABLE copies IN EXCLUSIVE MODE").execute(tx.connection()).await?;
    check_empty(tx.connection()).await?;
    let sql = "INSERT INTO copies (source, heads, started_at) VALUES ($1, $2::json, $3)";
    let (heads, at) = (json(&origin.heads)?, tx.micros());
    query(sql).bind(&*origin.source).bind(heads).bind(at).execute(tx.connection()).await?;
    Ok(())
}

async fn write_rows(tx: &mut Tx<'_>, rows: &Rows) -> Result<(), Fault> {
    if unfinished(tx.connection()).await?.is_none() {
        return Err(StoreError::conflict("no copy was begun").into());
    }
    write::rows(tx, rows).await
}

async fn finish(tx: &mut Tx<'_>, report: &CopyReport) -> Result<(), Fault> {
    let sql = "UPDATE copies SET ended_at = $1, sections = $2::json WHERE ended_at IS NULL";
    let (sections, at) = (json(&report.sections)?, tx.micros());
    match query(sql).bind(at).bind(sections).execute(tx.connection()).await?.rows_affected() {
        0 => Err(StoreError::conflict("no copy was begun").into()),
        _ => Ok(()),
    }
}

/// Where a copy that has not ended comes from, and when it was begun.
async fn unfinished(connection: &mut PgConnection) -> Result<Option<(String, Timestamp)>, Fault> {
    let sql = "SELECT source, started_at FROM copies WHERE ended_at IS NULL";
    let row = query(sql).fetch_optional(connection).await?;
    row.map(|row| Ok((row.text("source")?.to_string(), row.time("started_at")?))).transpose()
}

/// Refuses books that are not complete.
pub(crate) async fn check_complete(connection: &mut PgConnection) -> Result<(), OpenError> {
    match unfinished(connection).await? {
        Some((origin, started_at)) => Err(OpenError::UnfinishedCopy { origin, started_at }),
        None => Ok(()),
    }
}
