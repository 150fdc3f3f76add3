//! The hash chain over everything that was booked: each batch seals its entries, its usage records, its corrections and
//! the batch before.

use std::collections::BTreeMap;
use std::sync::Arc;

use cfr_core::id::AccountId;
use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};

use crate::bulk::{Cell, Rows, Script};
use crate::error::Fault;
use crate::usage::{ENTER_INTO_LISTS, LISTED_TOGETHER, NOTE_LISTED};
use crate::writer::Tx;

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// What a ledger entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKind {
    Grant,
    Settle,
}

impl EntryKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Settle => "settle",
        }
    }
}

/// The amounts that one batch books on one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) amount: i64,
    pub(crate) overrun: i64,
}

/// What one transaction books, coalesced per account.
pub(crate) type Entries = BTreeMap<(AccountId, EntryKind), Amounts>;

/// The end of the chain.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    batch: i64,
    row: i64,
    hash: Hash,
}

impl Head {
    /// Reads the end of the chain; of an empty one it is all zeros.
    pub(crate) async fn read(connection: &mut SqliteConnection) -> Result<Self, Fault> {
        let sql = "SELECT id, first_row + rows - 1, hash FROM ledger_batches ORDER BY id DESC LIMIT 1";
        let Some(row) = sqlx::query(sql).fetch_optional(connection).await? else {
            return Ok(Self { batch: 0, row: 0, hash: [0; 32] });
        };
        let hash: Vec<u8> = row.try_get(2)?;
        let hash = hash.try_into().unwrap_or_default();
        Ok(Self { batch: row.try_get(0)?, row: row.try_get(1)?, hash })
    }
}

/// A batch's own columns.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) id: i64,
    pub(crate) node: &'a str,
    pub(crate) epoch: i64,
    pub(crate) at: i64,
    pub(crate) first_row: i64,
    pub(crate) rows: i64,
}

impl Batch<'_> {
    /// Whether the lists are filled with this batch: once per so many usage records, or per so many batches without any.
    const fn fills_lists(&self) -> bool {
        let before = self.first_row - 1;
        before / LISTED_TOGETHER < (before + self.rows) / LISTED_TOGETHER || self.id % LISTED_TOGETHER == 0
    }

    /// Begins the hash over the one before it, the batch's own columns and its entries; usage records and then corrections
    /// follow.
    pub(crate) fn seal(&self, previous: &Hash, entries: &Rows) -> Seal {
        let numbers = [self.id, self.epoch, self.at, self.first_row, self.rows].map(Cell::Int);
        let mut columns = Rows::default();
        columns.push(&[Cell::Text(self.node)]);
        columns.push(&numbers);
        let hasher = Sha256::new_with_prefix(previous);
        // The rows frame themselves; the number of entries and that of records, a column of the batch, say where each end.
        let hasher = hasher.chain_update(columns.contents()).chain_update(entries.count().to_be_bytes());
        Seal(hasher.chain_update(entries.contents()))
    }
}

/// The hash of a batch in the making.
#[derive(Debug, Clone)]
pub(crate) struct Seal(Sha256);

impl Seal {
    /// Adds rows; several calls are the same as one with all rows.
    pub(crate) fn with(self, rows: &Rows) -> Self {
        Self(self.0.chain_update(rows.contents()))
    }

    pub(crate) fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// Adds an entry, in the order of account and kind.
pub(crate) fn push_entry(entries: &mut Rows, account: i64, kind: &str, amounts: Amounts) {
    entries.push(&[Cell::Int(account), Cell::Text(kind), Cell::Int(amounts.amount), Cell::Int(amounts.overrun)]);
}

/// A refused row undoes the whole transaction, so SQLite need not remember how to undo this statement alone: `OR FAIL`.
const INSERT_USAGE: &str = "INSERT OR FAIL INTO usage_records (row, id, at, tenant_id, user_id, key_id, model_served, cost, \
     charged, overrun, accounts, details) SELECT ? + key, unhex(value->>0), value->>1, unhex(value->>2), \
     unhex(value->>3), unhex(value->>4), value->>5, value->>6, value->>7, value->>8, unhex(value->>9), value->>10 \
     FROM jsonb_each(?)";

const INSERT_ENTRY: &str = "INSERT INTO ledger_entries (batch, account_id, kind, amount, overrun) \
     SELECT ?, value->>0, value->>1, value->>2, value->>3 FROM jsonb_each(?)";

/// Enters the entries that are not in the lists of their accounts yet.
const ENTER_ENTRIES: &str = "INSERT INTO entry_lists (account_id, batch, kind) SELECT account_id, batch, kind \
     FROM ledger_entries WHERE batch > (SELECT batch FROM listed) ORDER BY account_id, batch, kind";

const INSERT_BATCH: &str =
    "INSERT INTO ledger_batches (id, node, epoch, at, first_row, rows, hash) VALUES (?, ?, ?, ?, ?, ?, ?)";

/// Adds to the script what writes and seals a batch at the end of the chain.
///
/// The script fails with a constraint when one of the usage records exists already.
pub(crate) async fn append(
    tx: &mut Tx<'_>,
    script: &mut Script,
    life: (&str, i64),
    (entries, usage): (&Entries, Rows),
) -> Result<(), Fault> {
    let mut rows = Rows::default();
    for (&(account, kind), &amounts) in entries {
        push_entry(&mut rows, account.0, kind.name(), amounts);
    }
    let at = tx.micros();
    append_at(tx, script, life, at, (rows, usage)).await
}

/// The same for a batch of another moment, with entries as rows.
pub(crate) async fn append_at(
    tx: &mut Tx<'_>,
    script: &mut Script,
    (node, epoch): (&str, i64),
    at: i64,
    (entries, usage): (Rows, Rows),
) -> Result<(), Fault> {
    let head = tx.take_head().await?;
    let (id, first_row) = (head.batch + 1, head.row + 1);
    let batch = Batch { id, node, epoch, at, first_row, rows: usage.count() };
    let hash = batch.seal(&head.hash, &entries).with(&usage).finish();
    tx.set_head(Head { batch: id, row: head.row + batch.rows, hash });
    insert_batch(script, &batch, &hash)?;
    script.statement(INSERT_ENTRY);
    script.bind(id)?;
    script.bind_rows(entries)?;
    if !usage.is_empty() {
        script.statement(INSERT_USAGE);
        script.bind(first_row)?;
        script.bind_rows(usage)?;
    }
    if batch.fills_lists() {
        script.statement(ENTER_INTO_LISTS);
        script.statement(ENTER_ENTRIES);
        script.statement(NOTE_LISTED);
    }
    Ok(())
}

const INSERT_CORRECTION: &str = "INSERT INTO ledger_corrections (batch, account_id, sum, was, became, reason, actor) \
     SELECT ?, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM jsonb_each(?)";

/// Writes and seals a correction: a batch of its own, of no node.
pub(crate) async fn append_correction(tx: &mut Tx<'_>, correction: Rows) -> Result<(), Fault> {
    let at = tx.micros();
    append_correction_at(tx, at, correction).await
}

/// The same for a correction of another moment.
pub(crate) async fn append_correction_at(tx: &mut Tx<'_>, at: i64, correction: Rows) -> Result<(), Fault> {
    let head = tx.take_head().await?;
    let (id, first_row) = (head.batch + 1, head.row + 1);
    let batch = Batch { id, node: "", epoch: 0, at, first_row, rows: 0 };
    let hash = batch.seal(&head.hash, &Rows::default()).with(&correction).finish();
    tx.set_head(Head { batch: id, row: head.row, hash });
    let mut script = Script::default();
    insert_batch(&mut script, &batch, &hash)?;
    script.statement(INSERT_CORRECTION);
    script.bind(id)?;
    script.bind_rows(correction)?;
    script.run(tx.connection()).await.map(drop)
}

/// Adds a correction as it is sealed.
pub(crate) fn push_correction(
    rows: &mut Rows,
    (account, sum): (i64, &str),
    (was, became): (i64, i64),
    (reason, actor): (&str, &str),
) {
    rows.push(&[
        Cell::Int(account),
        Cell::Text(sum),
        Cell::Int(was),
        Cell::Int(became),
        Cell::Text(reason),
        Cell::Text(actor),
    ]);
}

fn insert_batch(script: &mut Script, batch: &Batch<'_>, hash: &Hash) -> Result<(), Fault> {
    script.statement(INSERT_BATCH);
    script.bind(batch.id)?;
    script.bind(Arc::<str>::from(batch.node))?;
    for number in [batch.epoch, batch.at, batch.first_row, batch.rows] {
        script.bind(number)?;
    }
    script.bind(hash.to_vec())
}
