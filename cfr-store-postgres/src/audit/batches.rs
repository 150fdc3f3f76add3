//! Batches in their order: the hash chains, and what each batch books on its accounts beside its own usage records.

use std::collections::BTreeMap;

use cfr_billing::store::rules::{PathFigures, RecordFigures, RecordSums, check_batch};
use cfr_billing::store::{AuditRule, Findings};
use cfr_core::id::{AccountId, RequestId, TenantId};
use futures_util::TryStreamExt;
use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::types::JsonRawValue;
use sqlx::{PgConnection, Row};

use crate::bulk::{Cell, Rows};
use crate::chain::{Amounts, Batch, EntryKind, Hash, Seal, push_correction, push_entry};
use crate::error::Fault;
use crate::row::{Fields, query};

/// Batches that are read at once.
const PAGE_BATCHES: i64 = 1_000;

/// Verifies every batch of every chain, and that nothing lies outside of them.
pub(super) async fn verify(connection: &mut PgConnection, found: &mut Findings) -> Result<(), Fault> {
    for row in query("SELECT id FROM ledger_chains ORDER BY id").fetch_all(&mut *connection).await? {
        Chain { id: row.try_get(0)?, previous: [0; 32], last: 0, next_row: 1 }.verify(connection, found).await?;
    }
    verify_strays(connection, found).await
}

/// What belongs to no chain, or to no batch of its chain.
async fn verify_strays(connection: &mut PgConnection, found: &mut Findings) -> Result<(), Fault> {
    for (what, sql) in [
        (
            "batches",
            "SELECT count(*) FROM ledger_batches b WHERE b.id < 1 \
             OR NOT EXISTS (SELECT FROM ledger_chains c WHERE c.id = b.chain)",
        ),
        (
            "usage records",
            "SELECT count(*) FROM usage_records u LEFT JOIN (SELECT chain, max(first_row + rows) AS next \
             FROM ledger_batches GROUP BY chain) b ON b.chain = u.chain \
             WHERE u.row < 1 OR u.row >= coalesce(b.next, 0)",
        ),
        (
            "ledger entries",
            "SELECT count(*) FROM ledger_entries e LEFT JOIN ledger_batches b ON b.chain = e.chain AND b.id = e.batch \
             AND b.at = e.at WHERE b.id IS NULL",
        ),
        (
            "corrections",
            "SELECT count(*) FROM ledger_corrections c LEFT JOIN ledger_batches b ON b.chain = c.chain AND b.id = c.batch \
             WHERE b.id IS NULL",
        ),
    ] {
        let strays: i64 = query(sql).fetch_one(&mut *connection).await?.try_get(0)?;
        if strays > 0 {
            found.note(AuditRule::Chain, format!("{strays} {what} belong to no batch"));
        }
    }
    Ok(())
}

/// How far a chain was followed.
#[derive(Debug)]
struct Chain {
    id: i64,
    previous: Hash,
    last: i64,
    next_row: i64,
}

/// What a batch books, and what its usage records say.
type Charges = BTreeMap<AccountId, RecordSums>;

impl Chain {
    async fn verify(mut self, connection: &mut PgConnection, found: &mut Findings) -> Result<(), Fault> {
        loop {
            let sql = "SELECT * FROM ledger_batches WHERE chain = $1 AND id > $2 ORDER BY id LIMIT $3";
            let page = query(sql).bind(self.id).bind(self.last).bind(PAGE_BATCHES).fetch_all(&mut *connection).await?;
            if page.is_empty() {
                return Ok(());
            }
            for batch in &page {
                self.verify_batch(connection, batch, found).await?;
            }
            tracing::debug!(chain = self.id, batch = self.last, "verifying the hash chains");
        }
    }

    async fn verify_batch(
        &mut self,
        connection: &mut PgConnection,
        row: &PgRow,
        found: &mut Findings,
    ) -> Result<(), Fault> {
        let node = row.text("node")?;
        let batch = Batch {
            chain: self.id,
            id: row.int("id")?,
            node: &node,
            epoch: row.int("epoch")?,
            at: row.int("at")?,
            first_row: row.int("first_row")?,
            rows: row.int("rows")?,
        };
        if batch.id != self.last + 1 || batch.first_row != self.next_row {
            let what = format!("batch {} of chain {} does not follow the batch before it", batch.id, self.id);
            found.note(AuditRule::Chain, what);
        }
        let hash = self.hash(connection, &batch, found).await?;
        let sealed = row.bytes("hash")?;
        if sealed != hash {
            let (id, chain, last_good) = (batch.id, self.id, self.last);
            let what = format!(
                "batch {id} of chain {chain} was changed after it was sealed; the last good batch is {last_good}"
            );
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
        connection: &mut PgConnection,
        batch: &Batch<'_>,
        found: &mut Findings,
    ) -> Result<Hash, Fault> {
        let (entries, booked) = entries(connection, batch).await?;
        let seal = batch.seal(&self.previous, &entries);
        let (seal, used) = add_usage(connection, batch, seal, found).await?;
        for account in booked.keys().chain(used.keys().filter(|account| !booked.contains_key(account))) {
            let [booked, used] = [&booked, &used].map(|sums| sums.get(account).copied().unwrap_or_default());
            check_batch(&format!("batch {} of chain {}", batch.id, batch.chain), *account, booked, used, found);
        }
        Ok(seal.with(&corrections(connection, batch).await?).finish())
    }
}

/// The entries as they are sealed, and the charges among them.
async fn entries(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<(Rows, Charges), Fault> {
    let (mut rows, mut charges) = (Rows::default(), Charges::new());
    let sql = "SELECT account_id, kind, amount, overrun FROM ledger_entries \
         WHERE chain = $1 AND batch = $2 AND at = $3 ORDER BY account_id, kind";
    let query = query(sql).bind(batch.chain).bind(batch.id).bind(batch.at);
    for entry in query.fetch_all(connection).await? {
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
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    mut seal: Seal,
    found: &mut Findings,
) -> Result<(Seal, Charges), Fault> {
    let mut charges = Charges::new();
    if batch.rows <= 0 {
        return Ok((seal, charges));
    }
    let sql = "SELECT * FROM usage_records WHERE chain = $1 AND row BETWEEN $2 AND $3 ORDER BY row";
    let last_row = batch.first_row.saturating_add(batch.rows - 1);
    let query = query(sql).bind(batch.chain).bind(batch.first_row).bind(last_row);
    let mut records = query.fetch(connection);
    while let Some(record) = records.try_next().await? {
        let accounts = record.accounts("accounts")?;
        seal = seal.with(&sealed(&record, &accounts)?);
        let (charged, overrun) = (record.int("charged")?, record.int("overrun")?);
        for &account in &accounts {
            charges.entry(account).or_default().add(charged, overrun);
        }
        check_record(&record, &accounts, found)?;
    }
    Ok((seal, charges))
}

/// A usage record as it was sealed.
fn sealed(record: &PgRow, accounts: &[AccountId]) -> Result<Rows, Fault> {
    let id = |column| Ok::<_, Fault>(record.uuid_opt(column)?.map(uuid::Uuid::into_bytes));
    let details: &JsonRawValue = record.try_get("details")?;
    let mut row = Rows::default();
    row.push(&[
        Cell::IdOpt(id("id")?),
        Cell::Int(record.int("at")?),
        Cell::IdOpt(id("tenant_id")?),
        Cell::IdOpt(id("user_id")?),
        Cell::IdOpt(id("key_id")?),
        Cell::Text(record.try_get("model_served")?),
        Cell::Int(record.int("cost")?),
        Cell::Int(record.int("charged")?),
        Cell::Int(record.int("overrun")?),
        Cell::Accounts(accounts),
        Cell::Text(details.get()),
    ]);
    Ok(row)
}

/// The part of the details that is about money.
#[derive(Debug, Deserialize)]
struct Priced {
    price: i64,
}

fn check_record(record: &PgRow, accounts: &[AccountId], found: &mut Findings) -> Result<(), Fault> {
    let id = record.id("id", RequestId::from_bytes)?;
    let tenant = record.id("tenant_id", TenantId::from_bytes)?;
    PathFigures { id, tenant, accounts }.check_charges(found);
    let Ok(Priced { price }) = record.json("details") else {
        found.note(AuditRule::Prices, format!("{id}: its price cannot be read"));
        return Ok(());
    };
    let (cost, charged, overrun) = (record.int("cost")?, record.int("charged")?, record.int("overrun")?);
    RecordFigures { id, cost, price, charged, overrun }.check(found);
    Ok(())
}

async fn corrections(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<Rows, Fault> {
    let mut rows = Rows::default();
    let sql =
        "SELECT account_id, sum, was, became, reason, actor FROM ledger_corrections WHERE chain = $1 AND batch = $2";
    for row in query(sql).bind(batch.chain).bind(batch.id).fetch_all(connection).await? {
        let sums = (row.try_get(2)?, row.try_get(3)?);
        push_correction(&mut rows, (row.try_get(0)?, row.try_get(1)?), sums, (row.try_get(4)?, row.try_get(5)?));
    }
    Ok(rows)
}
