//! Batches in their order: the hash chain, and what each books on its accounts beside its own usage records.

use std::collections::BTreeMap;

use cfr_billing::store::rules::{PathFigures, RecordFigures, RecordSums, check_batch};
use cfr_billing::store::{AuditRule, Findings};
use cfr_core::id::{AccountId, RequestId, TenantId};
use futures_util::TryStreamExt;
use serde::Deserialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::PROGRESS_RECORDS;
use crate::bulk::Rows;
use crate::chain::{Amounts, Batch, EntryKind, Hash, Seal, push_correction, push_entry};
use crate::error::Fault;
use crate::row::{Fields, accounts_from_blob};
use crate::usage::{USAGE_COLUMNS, sealed_cells};

/// Batches that are read at once.
const PAGE_BATCHES: i64 = 1_000;

/// Verifies every batch, and that nothing lies outside of them.
pub(super) async fn verify(connection: &mut SqliteConnection, found: &mut Findings) -> Result<(), Fault> {
    let mut chain = Chain { previous: [0; 32], last: 0, next_row: 1 };
    loop {
        let sql = "SELECT * FROM ledger_batches WHERE id > ? ORDER BY id LIMIT ?";
        let page = sqlx::query(sql).bind(chain.last).bind(PAGE_BATCHES).fetch_all(&mut *connection).await?;
        if page.is_empty() {
            break;
        }
        for batch in &page {
            chain.verify_batch(connection, batch, found).await?;
        }
    }
    for (what, sql) in [
        ("batches", "SELECT count(*) FROM ledger_batches WHERE id < 1 OR id > ?"),
        ("usage records", "SELECT count(*) FROM usage_records WHERE row < 1 OR row >= ?"),
        ("ledger entries", "SELECT count(*) FROM ledger_entries WHERE batch < 1 OR batch > ?"),
        ("corrections", "SELECT count(*) FROM ledger_corrections WHERE batch < 1 OR batch > ?"),
    ] {
        let end = if what == "usage records" { chain.next_row } else { chain.last };
        let strays: i64 = sqlx::query_scalar(sql).bind(end).fetch_one(&mut *connection).await?;
        if strays > 0 {
            found.note(AuditRule::Chain, format!("{strays} {what} belong to no batch"));
        }
    }
    Ok(())
}

/// How far the chain was followed.
#[derive(Debug)]
struct Chain {
    previous: Hash,
    last: i64,
    next_row: i64,
}

/// What a batch books, and what its usage records say.
type Charges = BTreeMap<AccountId, RecordSums>;

impl Chain {
    async fn verify_batch(
        &mut self,
        connection: &mut SqliteConnection,
        row: &SqliteRow,
        found: &mut Findings,
    ) -> Result<(), Fault> {
        let node = row.text("node")?;
        let batch = Batch {
            id: row.int("id")?,
            node: &node,
            epoch: row.int("epoch")?,
            at: row.int("at")?,
            first_row: row.int("first_row")?,
            rows: row.int("rows")?,
        };
        if batch.id != self.last + 1 || batch.first_row != self.next_row {
            found.note(AuditRule::Chain, format!("batch {} does not follow the batch before it", batch.id));
        }
        let hash = self.hash(connection, &batch, found).await?;
        let sealed = row.bytes("hash")?;
        if sealed != hash {
            let last_good = self.last;
            let what =
                format!("batch {} was changed after it was sealed; the last good batch is {last_good}", batch.id);
            found.note(AuditRule::Chain, what);
        }
        self.previous = sealed.try_into().unwrap_or(hash);
        self.next_row = batch.first_row.saturating_add(batch.rows.max(0));
        self.last = batch.id;
        Ok(())
    }

    /// The hash of what lies under the batch now.
    async fn hash(
        &self,
        connection: &mut SqliteConnection,
        batch: &Batch<'_>,
        found: &mut Findings,
    ) -> Result<Hash, Fault> {
        let (entries, booked) = entries(connection, batch.id).await?;
        let seal = batch.seal(&self.previous, &entries);
        let (seal, used) = add_usage(connection, batch, seal, found).await?;
        for account in booked.keys().chain(used.keys().filter(|account| !booked.contains_key(account))) {
            let [booked, used] = [&booked, &used].map(|sums| sums.get(account).copied().unwrap_or_default());
            check_batch(&format!("batch {}", batch.id), *account, booked, used, found);
        }
        Ok(seal.with(&corrections(connection, batch.id).await?).finish())
    }
}

/// The entries as they are sealed, and the charges among them.
async fn entries(connection: &mut SqliteConnection, batch: i64) -> Result<(Rows, Charges), Fault> {
    let (mut rows, mut charges) = (Rows::default(), Charges::new());
    let sql = "SELECT account_id, kind, amount, overrun FROM ledger_entries WHERE batch = ? ORDER BY account_id, kind";
    for entry in sqlx::query(sql).bind(batch).fetch_all(connection).await? {
        let (account, kind): (i64, &str) = (entry.try_get(0)?, entry.try_get(1)?);
        let amounts = Amounts { amount: entry.try_get(2)?, overrun: entry.try_get(3)? };
        push_entry(&mut rows, account, kind, amounts);
        if kind == EntryKind::Settle.name() {
            charges.entry(AccountId(account)).or_default().add(amounts.amount, amounts.overrun);
        }
    }
    Ok((rows, charges))
}

async fn add_usage(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    mut seal: Seal,
    found: &mut Findings,
) -> Result<(Seal, Charges), Fault> {
    let mut charges = Charges::new();
    if batch.rows <= 0 {
        return Ok((seal, charges));
    }
    let sql = format!("SELECT {USAGE_COLUMNS}, row FROM usage_records WHERE row BETWEEN ? AND ? ORDER BY row");
    let last_row = batch.first_row.saturating_add(batch.rows - 1);
    let mut records = sqlx::query(AssertSqlSafe(sql)).bind(batch.first_row).bind(last_row).fetch(connection);
    while let Some(record) = records.try_next().await? {
        let mut row = Rows::default();
        row.push(&sealed_cells(&record)?);
        seal = seal.with(&row);
        let (charged, overrun) = (record.int("charged")?, record.int("overrun")?);
        for account in accounts_from_blob(record.try_get("accounts")?) {
            charges.entry(account).or_default().add(charged, overrun);
        }
        check_record(&record, found)?;
        let number = record.int("row")?;
        if number % PROGRESS_RECORDS == 0 {
            tracing::info!(records = number, "verifying the hash chain");
        }
    }
    Ok((seal, charges))
}

/// The part of the details that is about money.
#[derive(Debug, Deserialize)]
struct Priced {
    price: i64,
}

fn check_record(record: &SqliteRow, found: &mut Findings) -> Result<(), Fault> {
    let id = record.id("id", RequestId::from_bytes)?;
    let accounts: Vec<AccountId> = accounts_from_blob(record.try_get("accounts")?).collect();
    let tenant = record.id("tenant_id", TenantId::from_bytes)?;
    PathFigures { id, tenant, accounts: &accounts }.check_charges(found);
    let Ok(Priced { price }) = serde_json::from_str(record.try_get("details")?) else {
        found.note(AuditRule::Prices, format!("{id}: its price cannot be read"));
        return Ok(());
    };
    let (cost, charged, overrun) = (record.int("cost")?, record.int("charged")?, record.int("overrun")?);
    RecordFigures { id, cost, price, charged, overrun }.check(found);
    Ok(())
}

async fn corrections(connection: &mut SqliteConnection, batch: i64) -> Result<Rows, Fault> {
    let mut rows = Rows::default();
    let sql = "SELECT account_id, sum, was, became, reason, actor FROM ledger_corrections WHERE batch = ?";
    for row in sqlx::query(sql).bind(batch).fetch_all(connection).await? {
        let sums = (row.try_get(2)?, row.try_get(3)?);
        push_correction(&mut rows, (row.try_get(0)?, row.try_get(1)?), sums, (row.try_get(4)?, row.try_get(5)?));
    }
    Ok(rows)
}
