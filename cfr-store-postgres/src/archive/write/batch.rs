//! Batches, each sealed with the one before it by this store's rule, and written a page at a time.

use std::collections::BTreeSet;

use cfr_billing::store::archive::{BatchRow, BookedUsage, CorrectionRow};
use cfr_core::id::{KeyId, UserId};
use cfr_core::time::Timestamp;
use jiff::tz::TimeZone;

use crate::bulk::{Cell, Rows, Script};
use crate::chain::{self, Amounts, Batch, Hash, push_correction, push_entry};
use crate::error::Fault;
use crate::row::query;
use crate::usage::details;
use crate::writer::Tx;

const BATCHES: &str = "INSERT INTO ledger_batches (chain, id, node, epoch, at, first_row, rows, hash) \
     SELECT b.chain, b.id, b.node, b.epoch, b.at, b.first_row, b.rows, decode(b.hash, 'hex') \
     FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS b (chain, id, node, epoch, at, first_row, rows, hash)";

const ENTRIES: &str = "INSERT INTO ledger_entries (chain, batch, at, account_id, kind, amount, overrun) \
     SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)";

const KEYS: &str = "INSERT INTO charge_keys (id, at) SELECT * FROM unnest($1, $2)";

const USAGE: &str = "INSERT INTO usage_records (chain, row, id, at, tenant_id, user_id, key_id, model_served, cost, charged, \
     overrun, accounts, details) SELECT u.chain, u.row, u.id, u.at, u.tenant_id, u.user_id, u.key_id, u.model_served, \
     u.cost, u.charged, u.overrun, u.accounts::bigint[], u.details::json \
     FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
     AS u (chain, row, id, at, tenant_id, user_id, key_id, model_served, cost, charged, overrun, accounts, details)";

const CORRECTIONS: &str = "INSERT INTO ledger_corrections (chain, batch, account_id, sum, was, became, reason, actor) \
     SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)";

/// Writes a page of batches in one statement, each row into the partition of its month.
pub(super) async fn write(tx: &mut Tx<'_>, batches: &[BatchRow]) -> Result<(), Fault> {
    make_months(tx, batches).await?;
    let mut page = Page::default();
    for batch in batches {
        page.add(tx, batch).await?;
    }
    let mut script = Script::default();
    script.statement_for(BATCHES, page.batches)?;
    script.statement_for(ENTRIES, page.entries)?;
    script.statement_for(KEYS, page.keys)?;
    script.statement_for(USAGE, page.usage)?;
    script.statement_for(CORRECTIONS, page.corrections)?;
    script.run(tx).await.map(drop)
}

async fn make_months(tx: &mut Tx<'_>, batches: &[BatchRow]) -> Result<(), Fault> {
    let booked = batches.iter().map(|batch| batch.at);
    let used = batches.iter().flat_map(|batch| &batch.usage).map(|booked| booked.record.at);
    let months: BTreeSet<String> = booked.chain(used).map(first_day).collect();
    let months: Vec<String> = months.into_iter().collect();
    let sql = "SELECT make_months(month::date, 0) FROM unnest($1::text[]) AS month";
    query(sql).bind(months).execute(tx.connection()).await?;
    Ok(())
}

fn first_day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().first_of_month().to_string()
}

/// The rows of a page, table by table.
#[derive(Debug, Default)]
struct Page {
    batches: Rows,
    entries: Rows,
    keys: Rows,
    usage: Rows,
    corrections: Rows,
}

impl Page {
    async fn add(&mut self, tx: &mut Tx<'_>, row: &BatchRow) -> Result<(), Fault> {
        let (batch, hash) = seal(tx, row).await?;
        self.push_batch(&batch, &hash);
        for entry in &row.entries {
            self.entries.push(&[
                Cell::Int(batch.chain),
                Cell::Int(batch.id),
                Cell::Int(batch.at),
                Cell::Int(entry.account.0),
                Cell::Text(&entry.kind),
                Cell::Int(entry.amount),
                Cell::Int(entry.overrun),
            ]);
        }
        for (booked, number) in row.usage.iter().zip(batch.first_row..) {
            let details = details(&booked.record)?;
            let cells = cells(booked, &details);
            self.keys.push(&cells[..2]);
            let place = [Cell::Int(batch.chain), Cell::Int(number)];
            self.usage.push(&[&place[..], &cells].concat());
        }
        if let Some(correction) = &row.correction {
            self.push_correction(&batch, correction);
        }
        Ok(())
    }

    fn push_correction(&mut self, batch: &Batch<'_>, correction: &CorrectionRow) {
        self.corrections.push(&[
            Cell::Int(batch.chain),
            Cell::Int(batch.id),
            Cell::Int(correction.account.0),
            Cell::Text(&correction.sum),
            Cell::Int(correction.was),
            Cell::Int(correction.became),
            Cell::Text(&correction.reason),
            Cell::Text(&correction.actor),
        ]);
    }

    fn push_batch(&mut self, batch: &Batch<'_>, hash: &Hash) {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        self.batches.push(&[
            Cell::Int(batch.chain),
            Cell::Int(batch.id),
            Cell::Text(batch.node),
            Cell::Int(batch.epoch),
            Cell::Int(batch.at),
            Cell::Int(batch.first_row),
            Cell::Int(batch.rows),
            Cell::Text(&hex),
        ]);
    }
}

async fn seal<'a>(tx: &mut Tx<'_>, row: &'a BatchRow) -> Result<(Batch<'a>, Hash), Fault> {
    let (mut entries, mut usage, mut corrected) = (Rows::default(), Rows::default(), Rows::default());
    for entry in &row.entries {
        let amounts = Amounts { amount: entry.amount, overrun: entry.overrun };
        push_entry(&mut entries, entry.account.0, &entry.kind, amounts);
    }
    for booked in &row.usage {
        usage.push(&cells(booked, &details(&booked.record)?));
    }
    if let Some(CorrectionRow { account, sum, was, became, reason, actor }) = &row.correction {
        push_correction(&mut corrected, (account.0, sum), (*was, *became), (reason, actor));
    }
    let at = row.at.as_microsecond();
    chain::seal_with(tx, (&row.node, row.epoch), at, (&entries, &usage, &corrected)).await
}

/// A usage record as it is booked and sealed.
fn cells<'a>(booked: &'a BookedUsage, details: &'a str) -> [Cell<'a>; 11] {
    let record = &booked.record;
    [
        Cell::Id(record.id.to_bytes()),
        Cell::Int(record.at.as_microsecond()),
        Cell::Id(record.caller.tenant.to_bytes()),
        Cell::IdOpt(record.caller.user.map(UserId::to_bytes)),
        Cell::IdOpt(record.caller.key.map(KeyId::to_bytes)),
        Cell::Text(&record.model_served),
        Cell::Int(record.cost_nanos),
        Cell::Int(record.charged_nanos),
        Cell::Int(record.overrun_nanos),
        Cell::Accounts(&booked.accounts),
        Cell::Text(details),
    ]
}
