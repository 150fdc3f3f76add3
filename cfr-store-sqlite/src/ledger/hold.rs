//! The journal of holds: what is under way, and what to charge for it after a crash.

use std::collections::{BTreeMap, HashSet};

use cfr_billing::store::{Incarnation, Op, OpenedHold, SettledHold};
use cfr_core::id::{AccountId, HoldId, KeyId, ProductVersionId, UserId};
use cfr_core::ledger::UsageRecord;
use sqlx::sqlite::SqliteRow;

use super::lease;
use crate::bulk::{Cell, Rows, Script};
use crate::error::Fault;
use crate::row::{Fields, accounts_blob, accounts_from_blob, json};
use crate::writer::Tx;

/// States of a hold, as columns keep them. A settled one has no row.
const OPEN: i64 = 0;
const RELEASED: i64 = 2;

/// What a batch changes in the journal.
#[derive(Debug, Default)]
pub(super) struct Journal<'a> {
    /// Opened here and not settled here. An earlier delivery may have opened them already.
    opened: BTreeMap<HoldId, Opened<'a>>,
    /// New totals of holds, opened here or before.
    extended: BTreeMap<HoldId, i64>,
    /// The last word on holds, opened here or before.
    checkpoints: BTreeMap<HoldId, Evidence<'a>>,
    released: Vec<HoldId>,
}

#[derive(Debug)]
struct Opened<'a> {
    hold: &'a OpenedHold,
    state: i64,
}

#[derive(Debug, Clone, Copy)]
struct Evidence<'a> {
    charged: i64,
    record: &'a UsageRecord,
}

impl<'a> Journal<'a> {
    /// Reads the steps in order; what happens to a hold within one batch leaves one row or none.
    pub(super) fn gather(ops: &'a [Op]) -> Self {
        let mut journal = Self::default();
        let mut ended = HashSet::new();
        for op in ops {
            match op {
                Op::Open(hold) if ended.contains(&hold.id) => {}
                Op::Open(hold) => {
                    journal.opened.entry(hold.id).or_insert(Opened { hold, state: OPEN });
                }
                Op::Extend { hold, amount } => drop(journal.extended.insert(*hold, *amount)),
                Op::Checkpoint { hold, charged, record } => {
                    journal.checkpoints.insert(*hold, Evidence { charged: *charged, record });
                }
                Op::Settle(settled) => {
                    ended.insert(settled.id);
                    journal.forget(settled.id);
                }
                Op::Release { hold, .. } => {
                    ended.insert(*hold);
                    if let Some(opened) = journal.opened.get_mut(hold) {
                        opened.state = RELEASED;
                    }
                    journal.released.push(*hold);
                }
            }
        }
        journal
    }

    fn forget(&mut self, hold: HoldId) {
        self.opened.remove(&hold);
        self.extended.remove(&hold);
        self.checkpoints.remove(&hold);
    }
}

const INSERT: &str = "INSERT INTO holds (id, node, epoch, accounts, amount, state, tenant_id, user_id, key_id, \
     product_version_id, model, at) SELECT unhex(value->>0), value->>1, value->>2, unhex(value->>3), value->>4, \
     value->>5, unhex(value->>6), unhex(value->>7), unhex(value->>8), unhex(value->>9), value->>10, value->>11 \
     FROM jsonb_each(?) WHERE TRUE ON CONFLICT (id) DO NOTHING";

const EXTEND: &str = "UPDATE holds SET amount = change.amount \
     FROM (SELECT unhex(value->>0) AS id, value->>1 AS amount FROM jsonb_each(?)) AS change \
     WHERE holds.id = change.id AND holds.state = 0";

const CHECKPOINT: &str = "UPDATE holds SET delivered = change.delivered, evidence = change.evidence \
     FROM (SELECT unhex(value->>0) AS id, value->>1 AS delivered, value->>2 AS evidence FROM jsonb_each(?)) AS change \
     WHERE holds.id = change.id AND holds.state = 0";

const SETTLE: &str = "DELETE FROM holds WHERE id IN (SELECT unhex(value) FROM jsonb_each(?))";

/// A released hold stays for a while, so that a late `Open` cannot open it again.
const RELEASE: &str = "UPDATE holds SET state = 2 WHERE id IN (SELECT unhex(value) FROM jsonb_each(?))";

/// Adds to the script what writes the journal of one batch.
pub(super) fn push(
    script: &mut Script,
    node: &str,
    journal: &Journal<'_>,
    settled: &[&SettledHold],
) -> Result<(), Fault> {
    let (mut opened, mut extended, mut checkpoints) = (Rows::default(), Rows::default(), Rows::default());
    for row in journal.opened.values() {
        push_opened(&mut opened, node, row);
    }
    for (hold, amount) in &journal.extended {
        extended.push(&[Cell::Blob(&hold.to_bytes()), Cell::Int(*amount)]);
    }
    for (hold, evidence) in &journal.checkpoints {
        let record = json(evidence.record)?;
        checkpoints.push(&[Cell::Blob(&hold.to_bytes()), Cell::Int(evidence.charged), Cell::Text(&record)]);
    }
    script.statement_for(INSERT, opened)?;
    script.statement_for(EXTEND, extended)?;
    script.statement_for(CHECKPOINT, checkpoints)?;
    script.statement_for(SETTLE, id_rows(settled.iter().map(|hold| hold.id)))?;
    script.statement_for(RELEASE, id_rows(journal.released.iter().copied()))
}

fn id_rows(holds: impl Iterator<Item = HoldId>) -> Rows {
    let mut rows = Rows::default();
    for hold in holds {
        rows.push_single(Cell::Blob(&hold.to_bytes()));
    }
    rows
}

fn push_opened(rows: &mut Rows, node: &str, row: &Opened<'_>) {
    let (hold, caller) = (row.hold, &row.hold.caller);
    let (user, key) = (caller.user.map(UserId::to_bytes), caller.key.map(KeyId::to_bytes));
    let product_version = caller.product_version.map(ProductVersionId::to_bytes);
    rows.push(&[
        Cell::Blob(&hold.id.to_bytes()),
        Cell::Text(node),
        Cell::Int(hold.epoch),
        Cell::Blob(&accounts_blob(&hold.accounts)),
        Cell::Int(hold.amount),
        Cell::Int(row.state),
        Cell::Blob(&caller.tenant.to_bytes()),
        Cell::id_opt(user.as_ref()),
        Cell::id_opt(key.as_ref()),
        Cell::id_opt(product_version.as_ref()),
        Cell::Text(&hold.model),
        Cell::Int(hold.at.as_microsecond()),
    ]);
}

/// A hold as the journal has it.
#[derive(Debug)]
pub(super) struct JournaledHold {
    pub(super) id: HoldId,
    pub(super) by: Incarnation,
    pub(super) accounts: Vec<AccountId>,
    pub(super) amount: i64,
    pub(super) evidence: Option<(i64, Box<UsageRecord>)>,
}

impl JournaledHold {
    fn from_row(row: &SqliteRow) -> Result<Self, Fault> {
        let evidence = match row.int_opt("delivered")? {
            Some(charged) => Some((charged, row.json("evidence")?)),
            None => None,
        };
        Ok(Self {
            id: row.id("id", HoldId::from_bytes)?,
            by: Incarnation { node: row.text("node")?, epoch: row.int("epoch")? },
            accounts: accounts_from_blob(&row.bytes("accounts")?).collect(),
            amount: row.int("amount")?,
            evidence,
        })
    }
}

/// Holds that are kept counted until somebody decides.
pub(super) async fn suspended(tx: &mut Tx<'_>) -> Result<Vec<JournaledHold>, Fault> {
    let rows = sqlx::query("SELECT * FROM holds WHERE state = 1").fetch_all(tx.connection()).await?;
    rows.iter().map(JournaledHold::from_row).collect()
}

/// Open holds of lives that are over.
pub(super) async fn orphans(tx: &mut Tx<'_>) -> Result<Vec<JournaledHold>, Fault> {
    let sql = "SELECT h.* FROM holds h LEFT JOIN nodes n ON n.name = h.node \
         WHERE h.state = 0 AND h.epoch < coalesce(n.epoch + n.fenced, 9223372036854775807) ORDER BY h.id";
    let rows = sqlx::query(sql).fetch_all(tx.connection()).await?;
    rows.iter().map(JournaledHold::from_row).collect()
}

/// With the end of a suspended hold, what is not charged of it becomes free.
pub(super) async fn free_suspended(
    tx: &mut Tx<'_>,
    journal: &Journal<'_>,
    settled: &[&SettledHold],
) -> Result<(), Fault> {
    for hold in suspended(tx).await? {
        let released = journal.released.contains(&hold.id).then_some(0);
        let charged = settled.iter().find(|other| other.id == hold.id).map(|other| other.charged);
        let Some(charged) = charged.or(released) else { continue };
        for &account in &hold.accounts {
            lease::give_back(tx, &hold.by, account, hold.amount - charged).await?;
        }
    }
    Ok(())
}
