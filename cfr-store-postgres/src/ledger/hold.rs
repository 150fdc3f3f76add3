//! The journal of holds: what is under way, and what to charge for it after a crash.

use std::collections::{BTreeMap, BTreeSet};

use cfr_billing::store::{Incarnation, Op, OpenedHold, SettledHold};
use cfr_core::id::{AccountId, HoldId, KeyId, ProductVersionId, UserId};
use cfr_core::ledger::UsageRecord;
use sqlx::postgres::PgRow;

use super::lease::{self, Return};
use crate::bulk::{Cell, Rows, Script};
use crate::error::Fault;
use crate::row::{Fields, json, query, searchable, uuid};
use crate::writer::Tx;

/// States of a hold, as columns keep them. A settled one has no row.
const OPEN: i64 = 0;
const RELEASED: i64 = 2;

/// What a batch changes in the journal.
#[derive(Debug, Default)]
pub(super) struct Journal<'a> {
    /// Opened here and not settled here. An earlier delivery may have opened them already.
    opened: BTreeMap<HoldId, Opened<'a>>,
    /// What changed of holds, opened here or before.
    changed: BTreeMap<HoldId, Change<'a>>,
    settled: BTreeSet<HoldId>,
    released: BTreeSet<HoldId>,
}

#[derive(Debug)]
struct Opened<'a> {
    hold: &'a OpenedHold,
    state: i64,
}

/// A new total, and the last word on what was delivered.
#[derive(Debug, Default)]
struct Change<'a> {
    amount: Option<i64>,
    evidence: Option<Evidence<'a>>,
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
        for op in ops {
            match op {
                Op::Open(hold) if journal.has_ended(hold.id) => {}
                Op::Open(hold) => {
                    journal.opened.entry(hold.id).or_insert(Opened { hold, state: OPEN });
                }
                Op::Extend { hold, amount } => journal.extend(*hold, *amount),
                Op::Checkpoint { hold, charged, record } => {
                    journal.checkpoint(*hold, Evidence { charged: *charged, record });
                }
                Op::Settle(settled) => journal.settle(settled.id),
                Op::Release { hold, .. } => journal.release(*hold),
            }
        }
        journal
    }

    /// Holds that end here.
    pub(super) fn ended(&self) -> impl Iterator<Item = HoldId> {
        self.settled.union(&self.released).copied()
    }

    fn has_ended(&self, hold: HoldId) -> bool {
        self.settled.contains(&hold) || self.released.contains(&hold)
    }

    fn extend(&mut self, hold: HoldId, amount: i64) {
        self.changed.entry(hold).or_default().amount = Some(amount);
    }

    fn checkpoint(&mut self, hold: HoldId, evidence: Evidence<'a>) {
        self.changed.entry(hold).or_default().evidence = Some(evidence);
    }

    /// The usage record stands for the hold, also when it was released before.
    fn settle(&mut self, hold: HoldId) {
        self.opened.remove(&hold);
        self.released.remove(&hold);
        self.settled.insert(hold);
    }

    fn release(&mut self, hold: HoldId) {
        if self.settled.contains(&hold) {
            return;
        }
        if let Some(opened) = self.opened.get_mut(&hold) {
            opened.state = RELEASED;
        }
        self.released.insert(hold);
    }
}

// These statements run as one, and none sees what another one does: a hold that is inserted has its changes already, and a
// hold that was there gets them by the next statement.

const INSERT: &str = "INSERT INTO holds (id, epoch, accounts, amount, state, tenant_id, user_id, key_id, \
     product_version_id, model, at, delivered, evidence, node) SELECT h.id, h.epoch, h.accounts::bigint[], h.amount, \
     h.state::smallint, h.tenant_id, h.user_id, h.key_id, h.product_version_id, h.model, h.at, h.delivered, \
     h.evidence::json, $14 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS h (id, epoch, accounts, \
     amount, state, tenant_id, user_id, key_id, product_version_id, model, at, delivered, evidence) \
     ON CONFLICT (id) DO NOTHING";

const CHANGE: &str = "UPDATE holds h SET amount = coalesce(c.amount, h.amount), \
     delivered = coalesce(c.delivered, h.delivered), evidence = coalesce(c.evidence::json, h.evidence) \
     FROM unnest($1, $2, $3, $4) AS c (id, amount, delivered, evidence) WHERE h.id = c.id AND h.state = 0";

const SETTLE: &str = "DELETE FROM holds WHERE id = ANY($1)";

/// A released hold stays for a while, so that a late `Open` cannot open it again.
const RELEASE: &str = "UPDATE holds SET state = 2 WHERE id = ANY($1)";

/// Adds to the script what writes the journal of one batch.
pub(super) fn push(script: &mut Script, node: &str, journal: &Journal<'_>) -> Result<(), Fault> {
    let (mut opened, mut changed) = (Rows::default(), Rows::default());
    for row in journal.opened.values() {
        push_opened(&mut opened, row, journal.changed.get(&row.hold.id))?;
    }
    for (hold, change) in journal.changed.iter().filter(|(hold, _)| !journal.has_ended(**hold)) {
        let record = change.evidence.map(|evidence| json(evidence.record)).transpose()?;
        changed.push(&[
            Cell::Id(hold.to_bytes()),
            Cell::IntOpt(change.amount),
            Cell::IntOpt(change.evidence.map(|evidence| evidence.charged)),
            Cell::TextOpt(record.as_deref()),
        ]);
    }
    if script.statement_for(INSERT, opened)? {
        script.bind(node.to_owned())?;
    }
    script.statement_for(CHANGE, changed)?;
    script.statement_for(SETTLE, id_rows(&journal.settled))?;
    script.statement_for(RELEASE, id_rows(&journal.released)).map(drop)
}

fn id_rows(holds: &BTreeSet<HoldId>) -> Rows {
    let mut rows = Rows::default();
    for hold in holds {
        rows.push(&[Cell::Id(hold.to_bytes())]);
    }
    rows
}

fn push_opened(rows: &mut Rows, row: &Opened<'_>, change: Option<&Change<'_>>) -> Result<(), Fault> {
    let (hold, caller) = (row.hold, &row.hold.caller);
    let amount = change.and_then(|change| change.amount).unwrap_or(hold.amount);
    let evidence = change.and_then(|change| change.evidence);
    let record = evidence.map(|evidence| json(evidence.record)).transpose()?;
    rows.push(&[
        Cell::Id(hold.id.to_bytes()),
        Cell::Int(hold.epoch),
        Cell::Accounts(&hold.accounts),
        Cell::Int(amount),
        Cell::Int(row.state),
        Cell::Id(caller.tenant.to_bytes()),
        Cell::IdOpt(caller.user.map(UserId::to_bytes)),
        Cell::IdOpt(caller.key.map(KeyId::to_bytes)),
        Cell::IdOpt(caller.product_version.map(ProductVersionId::to_bytes)),
        Cell::Text(&searchable(&hold.model)),
        Cell::Int(hold.at.as_microsecond()),
        Cell::IntOpt(evidence.map(|evidence| evidence.charged)),
        Cell::TextOpt(record.as_deref()),
    ]);
    Ok(())
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
    fn from_row(row: &PgRow) -> Result<Self, Fault> {
        let evidence = match row.int_opt("delivered")? {
            Some(charged) => Some((charged, row.json("evidence")?)),
            None => None,
        };
        Ok(Self {
            id: row.id("id", HoldId::from_bytes)?,
            by: Incarnation { node: row.text("node")?, epoch: row.int("epoch")? },
            accounts: row.accounts("accounts")?,
            amount: row.int("amount")?,
            evidence,
        })
    }
}

/// Holds that are kept counted until somebody decides.
pub(super) async fn suspended(tx: &mut Tx<'_>) -> Result<Vec<JournaledHold>, Fault> {
    let rows = query("SELECT * FROM holds WHERE state = 1").fetch_all(tx.connection()).await?;
    rows.iter().map(JournaledHold::from_row).collect()
}

/// Open holds of lives that are over, at most so many.
pub(super) async fn orphans(tx: &mut Tx<'_>, limit: i64) -> Result<Vec<JournaledHold>, Fault> {
    let sql = "SELECT h.* FROM holds h LEFT JOIN nodes n ON n.name = h.node \
         WHERE h.state = 0 AND (n.name IS NULL OR h.epoch < n.epoch + n.fenced::int) ORDER BY h.id LIMIT $1";
    let rows = query(sql).bind(limit).fetch_all(tx.connection()).await?;
    rows.iter().map(JournaledHold::from_row).collect()
}

/// With the end of a suspended hold, what is not charged of it becomes free.
pub(super) async fn free_suspended(
    tx: &mut Tx<'_>,
    journal: &Journal<'_>,
    settled: &[&SettledHold],
) -> Result<(), Fault> {
    let ended: Vec<_> = journal.ended().map(|hold| uuid(hold.to_bytes())).collect();
    let sql = "SELECT * FROM holds WHERE state = 1 AND id = ANY($1) ORDER BY id";
    let rows = query(sql).bind(ended).fetch_all(tx.connection()).await?;
    let mut returns = Vec::new();
    for hold in rows.iter().map(JournaledHold::from_row) {
        let hold = hold?;
        let charged = settled.iter().find(|other| other.id == hold.id).map_or(0, |other| other.charged);
        let back = |&account| Return { by: hold.by.clone(), account, amount: hold.amount - charged };
        returns.extend(hold.accounts.iter().map(back));
    }
    lease::give_back(tx, &returns).await
}
