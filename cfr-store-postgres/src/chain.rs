//! The hash chains over everything that was booked: each batch seals its entries, its usage records and the batch before.
//! Each process has a chain of its own, so that no process waits for another one.

use std::collections::BTreeMap;

use cfr_core::id::AccountId;
use cfr_core::time::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row};

use crate::bulk::{Cell, Rows, Script};
use crate::error::Fault;
use crate::row::query;
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

/// The end of a chain.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    chain: i64,
    batch: i64,
    row: i64,
    hash: Hash,
}

impl Head {
    /// The end of a new chain; its hash is all zeros.
    pub(crate) async fn begin(connection: &mut PgConnection, now: Timestamp) -> Result<Self, Fault> {
        let sql = "INSERT INTO ledger_chains (started_at) VALUES ($1) RETURNING id";
        let row = query(sql).bind(now.as_microsecond()).fetch_one(connection).await?;
        Ok(Self { chain: row.try_get(0)?, batch: 0, row: 0, hash: [0; 32] })
    }
}

/// A batch's own columns.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) chain: i64,
    pub(crate) id: i64,
    pub(crate) node: &'a str,
    pub(crate) epoch: i64,
    pub(crate) at: i64,
    pub(crate) first_row: i64,
    pub(crate) rows: i64,
}

impl Batch<'_> {
    /// Begins the hash over the one before it, the batch's own columns and its entries; usage records and then corrections
    /// follow.
    pub(crate) fn seal(&self, previous: &Hash, entries: &Rows) -> Seal {
        let mut columns = Rows::default();
        columns.push(&self.cells());
        // Every value is framed. The number of entries and that of records, a column of the batch, say where each end.
        let seal = Seal(Sha256::new_with_prefix(previous)).with(&columns);
        Seal(seal.0.chain_update(entries.count().to_be_bytes())).with(entries)
    }

    fn cells(&self) -> [Cell<'_>; 7] {
        let [chain, id, epoch, at, first_row, rows] =
            [self.chain, self.id, self.epoch, self.at, self.first_row, self.rows].map(Cell::Int);
        [chain, id, Cell::Text(self.node), epoch, at, first_row, rows]
    }
}

/// The hash of a batch in the making.
#[derive(Debug, Clone)]
pub(crate) struct Seal(Sha256);

impl Seal {
    /// Adds rows; several calls are the same as one with all rows.
    pub(crate) fn with(mut self, rows: &Rows) -> Self {
        rows.seal(|value| self.0.update(value));
        self
    }

    pub(crate) fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// Adds an entry, in the order of account and kind.
pub(crate) fn push_entry(entries: &mut Rows, account: i64, kind: &str, amounts: Amounts) {
    entries.push(&[Cell::Int(account), Cell::Text(kind), Cell::Int(amounts.amount), Cell::Int(amounts.overrun)]);
}

const INSERT_KEYS: &str = "INSERT INTO charge_keys (id, at) SELECT * FROM unnest($1, $2)";

const INSERT_USAGE: &str = "INSERT INTO usage_records (chain, row, id, at, tenant_id, user_id, key_id, model_served, cost, \
     charged, overrun, accounts, details) SELECT $12, $13 + u.row - 1, u.id, u.at, u.tenant_id, u.user_id, u.key_id, \
     u.model_served, u.cost, u.charged, u.overrun, u.accounts::bigint[], u.details::json \
     FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) WITH ORDINALITY \
     AS u (id, at, tenant_id, user_id, key_id, model_served, cost, charged, overrun, accounts, details, row)";

const INSERT_ENTRIES: &str = "INSERT INTO ledger_entries (chain, batch, at, account_id, kind, amount, overrun) \
     SELECT $5, $6, $7, e.* FROM unnest($1, $2, $3, $4) AS e";

const INSERT_BATCH: &str = "INSERT INTO ledger_batches (chain, id, node, epoch, at, first_row, rows, hash) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Usage records as they are booked, and the keys by which each is booked once.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) keys: Rows,
    pub(crate) records: Rows,
}

/// Adds to the script what writes and seals a batch at the end of the chain.
///
/// The script fails with a duplicate when one of the usage records exists already.
pub(crate) async fn append(
    tx: &mut Tx<'_>,
    script: &mut Script,
    life: (&str, i64),
    (entries, usage): (&Entries, Usage),
) -> Result<(), Fault> {
    let mut rows = Rows::default();
    for (&(account, kind), &amounts) in entries {
        push_entry(&mut rows, account.0, kind.name(), amounts);
    }
    let at = tx.micros();
    let (batch, hash) = seal(tx, life, at, (&rows, &usage.records)).await?;
    let (chain, id, first_row) = (batch.chain, batch.id, batch.first_row);
    insert_batch(script, &batch, &hash)?;
    if script.statement_for(INSERT_ENTRIES, rows)? {
        [chain, id, at].into_iter().try_for_each(|number| script.bind(number))?;
    }
    script.statement_for(INSERT_KEYS, usage.keys)?;
    if script.statement_for(INSERT_USAGE, usage.records)? {
        [chain, first_row].into_iter().try_for_each(|number| script.bind(number))?;
    }
    Ok(())
}

/// The next batch of the chain, sealed with the one before it. Whoever asks for it writes it in this transaction.
pub(crate) async fn seal<'a>(
    tx: &mut Tx<'_>,
    life: (&'a str, i64),
    at: i64,
    (entries, usage): (&Rows, &Rows),
) -> Result<(Batch<'a>, Hash), Fault> {
    seal_with(tx, life, at, (entries, usage, &Rows::default())).await
}

/// The same for a batch that may have a correction.
pub(crate) async fn seal_with<'a>(
    tx: &mut Tx<'_>,
    (node, epoch): (&'a str, i64),
    at: i64,
    (entries, usage, correction): (&Rows, &Rows, &Rows),
) -> Result<(Batch<'a>, Hash), Fault> {
    let head = tx.take_head().await?;
    let (chain, id, first_row) = (head.chain, head.batch + 1, head.row + 1);
    let batch = Batch { chain, id, node, epoch, at, first_row, rows: usage.count() };
    let hash = batch.seal(&head.hash, entries).with(usage).with(correction).finish();
    tx.set_head(Head { chain, batch: id, row: head.row + batch.rows, hash });
    Ok((batch, hash))
}

const INSERT_CORRECTION: &str = "INSERT INTO ledger_corrections (account_id, sum, was, became, reason, actor, chain, batch) \
     SELECT c.*, $7, $8 FROM unnest($1, $2, $3, $4, $5, $6) AS c";

/// Writes and seals a correction: a batch of its own, of no node.
pub(crate) async fn append_correction(tx: &mut Tx<'_>, correction: Rows) -> Result<(), Fault> {
    let (nothing, at) = (Rows::default(), tx.micros());
    let (batch, hash) = seal_with(tx, ("", 0), at, (&nothing, &nothing, &correction)).await?;
    let mut script = Script::default();
    insert_batch(&mut script, &batch, &hash)?;
    if script.statement_for(INSERT_CORRECTION, correction)? {
        [batch.chain, batch.id].into_iter().try_for_each(|number| script.bind(number))?;
    }
    script.run(tx).await.map(drop)
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
    script.bind(batch.chain)?;
    script.bind(batch.id)?;
    script.bind(batch.node.to_owned())?;
    for number in [batch.epoch, batch.at, batch.first_row, batch.rows] {
        script.bind(number)?;
    }
    script.bind(hash.to_vec())
}
