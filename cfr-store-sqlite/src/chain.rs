//! The hash chain over everything that was booked: each batch seals its entries, its usage records and the batch before.

use std::collections::BTreeMap;

use cfr_core::id::AccountId;
use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};

use crate::bulk::{Bulk, Cell};
use crate::error::Fault;
use crate::usage::USAGE_CELLS;
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
pub(crate) struct Seal<'a> {
    pub(crate) id: i64,
    pub(crate) node: &'a str,
    pub(crate) epoch: i64,
    pub(crate) at: i64,
    pub(crate) first_row: i64,
    pub(crate) rows: i64,
}

impl Seal<'_> {
    /// Begins the hash of a batch with the hash before it and the batch's own columns.
    pub(crate) fn begin(&self, previous: &Hash) -> Sha256 {
        let mut hasher = Sha256::new();
        hasher.update(previous);
        update_bytes(&mut hasher, self.node.as_bytes());
        for number in [self.id, self.epoch, self.at, self.first_row, self.rows] {
            hasher.update(number.to_be_bytes());
        }
        hasher
    }
}

/// Adds an entry, in the order of account and kind.
pub(crate) fn update_entry(hasher: &mut Sha256, account: i64, kind: &str, amounts: Amounts) {
    hasher.update(account.to_be_bytes());
    update_bytes(hasher, kind.as_bytes());
    hasher.update(amounts.amount.to_be_bytes());
    hasher.update(amounts.overrun.to_be_bytes());
}

/// Adds the cells of a usage record, each with its type and length, so that no two records look the same.
pub(crate) fn update_cells(hasher: &mut Sha256, cells: &[Cell]) {
    for cell in cells {
        match cell {
            Cell::Null => hasher.update([0]),
            Cell::Int(value) => {
                hasher.update([1]);
                hasher.update(value.to_be_bytes());
            }
            Cell::Text(text) => {
                hasher.update([2]);
                update_bytes(hasher, text.as_bytes());
            }
            Cell::Blob(bytes) => {
                hasher.update([3]);
                update_bytes(hasher, bytes);
            }
        }
    }
}

fn update_bytes(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

static INSERT_USAGE: Bulk = Bulk::new(
    "INSERT INTO usage_records (row, id, at, tenant_id, user_id, key_id, product_version_id, operation, \
     model_requested, provider, model_served, usage, source, cost, price, charged, overrun, price_version, fx_e6, \
     margin_bps, status, finish, streamed, latency_ms, first_byte_ms, details, accounts) VALUES ",
    USAGE_CELLS + 1,
    "",
);

static INSERT_ENTRY: Bulk =
    Bulk::new("INSERT INTO ledger_entries (batch, account_id, kind, amount, overrun) VALUES ", 5, "");

/// Writes what a transaction books and seals it. Does nothing when it books nothing.
///
/// `usage` holds the cells of the usage records, [`USAGE_CELLS`] each.
///
/// # Errors
/// A constraint when one of the usage records exists already.
pub(crate) async fn append(
    tx: &mut Tx<'_>,
    node: &str,
    epoch: i64,
    entries: &Entries,
    usage: Vec<Cell>,
) -> Result<(), Fault> {
    if entries.is_empty() && usage.is_empty() {
        return Ok(());
    }
    let head = tx.take_head().await?;
    let rows = i64::try_from(usage.len() / USAGE_CELLS).unwrap_or(i64::MAX);
    let seal = Seal { id: head.batch + 1, node, epoch, at: tx.micros(), first_row: head.row + 1, rows };
    let mut hasher = seal.begin(&head.hash);
    for (&(account, kind), &amounts) in entries {
        update_entry(&mut hasher, account.0, kind.name(), amounts);
    }
    update_cells(&mut hasher, &usage);
    let hash: Hash = hasher.finalize().into();
    INSERT_USAGE.run(tx.connection(), numbered(usage, seal.first_row)).await?;
    INSERT_ENTRY.run(tx.connection(), entry_cells(seal.id, entries)).await?;
    insert_batch(tx.connection(), &seal, &hash).await?;
    tx.set_head(Head { batch: seal.id, row: head.row + rows, hash });
    Ok(())
}

fn numbered(usage: Vec<Cell>, first_row: i64) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(usage.len() + usage.len() / USAGE_CELLS);
    for (index, cell) in usage.into_iter().enumerate() {
        if index % USAGE_CELLS == 0 {
            cells.push(Cell::Int(first_row + i64::try_from(index / USAGE_CELLS).unwrap_or(i64::MAX)));
        }
        cells.push(cell);
    }
    cells
}

fn entry_cells(batch: i64, entries: &Entries) -> Vec<Cell> {
    let row = |(&(account, kind), amounts): (&(AccountId, EntryKind), &Amounts)| {
        [
            Cell::Int(batch),
            Cell::Int(account.0),
            Cell::Text(kind.name().into()),
            Cell::Int(amounts.amount),
            Cell::Int(amounts.overrun),
        ]
    };
    entries.iter().flat_map(row).collect()
}

async fn insert_batch(connection: &mut SqliteConnection, seal: &Seal<'_>, hash: &Hash) -> Result<(), Fault> {
    sqlx::query("INSERT INTO ledger_batches (id, node, epoch, at, first_row, rows, hash) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(seal.id)
        .bind(seal.node)
        .bind(seal.epoch)
        .bind(seal.at)
        .bind(seal.first_row)
        .bind(seal.rows)
        .bind(&hash[..])
        .execute(connection)
        .await?;
    Ok(())
}
