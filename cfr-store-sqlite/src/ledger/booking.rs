//! The hot path: a batch of steps becomes one transaction of few statements.
//!
//! First the batch is written in good faith: every settlement is new and covered by its lease. When the database refuses
//! (a repeated batch, a lease that was taken away), it is undone and written again after a close look.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cfr_billing::store::{Incarnation, Op, SettledHold, StoreError};
use cfr_core::id::{AccountId, HoldId};
use cfr_core::time::Timestamp;
use fail::fail_point;

use super::hold::{self, Journal};
use super::rollup::{self, Days};
use super::{lease, node};
use crate::bulk::{Cell, Rows, Script};
use crate::chain::{self, Amounts, Entries, EntryKind};
use crate::error::Fault;
use crate::row::Fields;
use crate::usage::push_record;
use crate::writer::{Tx, Writer};

/// Writes the batch, all of it or nothing.
pub(super) async fn commit(writer: &mut Writer, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), Fault> {
    let journal = Journal::gather(ops);
    let settled: Vec<&SettledHold> = ops.iter().filter_map(settlement).collect();
    if settled.iter().any(|hold| hold.charged < 0) {
        return Err(StoreError::invalid("a charge is not negative").into());
    }
    if commit_in_good_faith(writer, by, &journal, &settled, now).await? {
        return Ok(());
    }
    let mut tx = writer.begin(now).await?;
    node::check_alive(&mut tx, by).await?;
    let books = Books::after_a_close_look(&mut tx, &by.node, &settled).await?;
    write(&mut tx, by, books, &journal, &settled).await?;
    tx.commit().await
}

/// Whether the batch was written; `false` when the books are not as a first delivery finds them.
async fn commit_in_good_faith(
    writer: &mut Writer,
    by: &Incarnation,
    journal: &Journal<'_>,
    settled: &[&SettledHold],
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut tx = writer.begin(now).await?;
    node::check_alive(&mut tx, by).await?;
    let books = Books::in_good_faith(settled)?;
    match write(&mut tx, by, books, journal, settled).await {
        Ok(true) => tx.commit().await.map(|()| true),
        Ok(false) => Ok(false),
        Err(fault) if fault.is_constraint() => {
            fail_point!("commit.refused");
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

/// Writes the books and the journal in one go. Whether every lease and account was there.
async fn write(
    tx: &mut Tx<'_>,
    by: &Incarnation,
    books: Books,
    journal: &Journal<'_>,
    settled: &[&SettledHold],
) -> Result<bool, Fault> {
    let mut script = Script::default();
    let expected = books.push(tx, by, &mut script).await?;
    if tx.has_suspended() {
        // What is freed depends on what was charged.
        let affected = std::mem::take(&mut script).run(tx.connection()).await?;
        if !affected.starts_with(&expected) {
            return Ok(false);
        }
        fail_point!("commit.booked");
        hold::free_suspended(tx, journal, settled).await?;
        fail_point!("commit.suspended_freed");
        hold::push(&mut script, &by.node, journal, settled)?;
        return script.run(tx.connection()).await.map(|_| true);
    }
    hold::push(&mut script, &by.node, journal, settled)?;
    fail_point!("commit.prepared");
    Ok(script.run(tx.connection()).await?.starts_with(&expected))
}

fn settlement(op: &Op) -> Option<&SettledHold> {
    match op {
        Op::Settle(settled) => Some(settled),
        _ => None,
    }
}

/// Books settlements after a close look, inside a running transaction. For holds whose node is dead.
pub(super) async fn settle_orphans(tx: &mut Tx<'_>, by: &Incarnation, settled: &[SettledHold]) -> Result<(), Fault> {
    let settled: Vec<&SettledHold> = settled.iter().collect();
    let books = Books::after_a_close_look(tx, &by.node, &settled).await?;
    let mut script = Script::default();
    books.push(tx, by, &mut script).await?;
    script.run(tx.connection()).await.map(drop)
}

/// What a batch changes, coalesced.
#[derive(Debug, Default)]
struct Books {
    accounts: BTreeMap<AccountId, AccountChange>,
    /// What is consumed of each lease, by account and epoch.
    leases: BTreeMap<(AccountId, i64), i64>,
    entries: Entries,
    usage: Rows,
    days: Days,
}

#[derive(Debug, Default)]
struct AccountChange {
    settled: i64,
    unleased: i64,
    overrun: i64,
    /// How far use is beyond the limit afterwards.
    overcommit: i64,
}

/// Where a charge on one account comes from.
#[derive(Debug, Clone, Copy)]
struct Source {
    /// From the lease of the hold's epoch; the rest comes from the account itself.
    lease: i64,
    /// How far use is beyond the limit afterwards.
    beyond: i64,
}

/// The charge, and what the operator loses: what the engine could not charge, and what the store could not.
fn booked(hold: &SettledHold, charged: i64) -> Amounts {
    Amounts { amount: charged, overrun: hold.record.overrun_nanos.saturating_add(hold.charged - charged) }
}

impl Books {
    fn in_good_faith(settled: &[&SettledHold]) -> Result<Self, Fault> {
        let mut books = Self::default();
        for hold in settled {
            let booked = booked(hold, hold.charged);
            books.add_record(hold, booked)?;
            for &account in &hold.accounts {
                books.charge(account, hold.epoch, booked, Source { lease: hold.charged, beyond: 0 });
            }
        }
        Ok(books)
    }

    /// Leaves out what was booked before, and charges at most what each lease and the account's free room have.
    async fn after_a_close_look(tx: &mut Tx<'_>, node: &Arc<str>, settled: &[&SettledHold]) -> Result<Self, Fault> {
        let mut books = Self::default();
        let mut funds = Funds { node: Arc::clone(node), rooms: HashMap::new(), leases: HashMap::new() };
        let mut seen = BTreeSet::new();
        for hold in settled {
            if !seen.insert(hold.id) || is_booked(tx, hold.id).await? {
                continue;
            }
            let booked = booked(hold, funds.chargeable(tx, hold).await?);
            books.add_record(hold, booked)?;
            for &account in &hold.accounts {
                if let Some(source) = funds.spend(account, hold.epoch, booked.amount) {
                    books.charge(account, hold.epoch, booked, source);
                }
            }
        }
        Ok(books)
    }

    fn charge(&mut self, account: AccountId, epoch: i64, booked: Amounts, source: Source) {
        let change = self.accounts.entry(account).or_default();
        change.settled = change.settled.saturating_add(booked.amount);
        change.unleased = change.unleased.saturating_add(source.lease);
        change.overrun = change.overrun.saturating_add(booked.overrun);
        change.overcommit = change.overcommit.max(source.beyond);
        if source.lease > 0 {
            let consumed = self.leases.entry((account, epoch)).or_default();
            *consumed = consumed.saturating_add(source.lease);
        }
        let entry = self.entries.entry((account, EntryKind::Settle)).or_default();
        entry.amount = entry.amount.saturating_add(booked.amount);
        entry.overrun = entry.overrun.saturating_add(booked.overrun);
    }

    fn add_record(&mut self, hold: &SettledHold, booked: Amounts) -> Result<(), Fault> {
        let record = &*hold.record;
        if record.id != hold.id {
            return Err(StoreError::invalid("a settlement's record is of another request").into());
        }
        push_record(&mut self.usage, record, booked, &hold.accounts)?;
        self.days.entry(rollup::day_of(record)).or_default().count(record, booked.amount);
        Ok(())
    }

    /// Adds to the script what books everything. Returns how many rows its first statements affect when every lease and
    /// account is there.
    async fn push(self, tx: &mut Tx<'_>, by: &Incarnation, script: &mut Script) -> Result<Vec<u64>, Fault> {
        if self.usage.is_empty() {
            return Ok(Vec::new());
        }
        let expected = vec![self.leases.len() as u64, self.accounts.len() as u64];
        script.statement(CONSUME);
        script.bind_rows(lease_rows(&self.leases))?;
        script.bind(Arc::clone(&by.node))?;
        script.statement(CHARGE);
        script.bind_rows(account_rows(&self.accounts))?;
        chain::append(tx, script, (&by.node, by.epoch), (&self.entries, self.usage)).await?;
        rollup::push(script, &self.days)?;
        Ok(expected)
    }
}

const CONSUME: &str = "UPDATE OR FAIL leases SET consumed = leases.consumed + change.consumed \
     FROM (SELECT value->>0 AS account_id, value->>1 AS epoch, value->>2 AS consumed FROM jsonb_each(?)) AS change \
     WHERE leases.account_id = change.account_id AND leases.node = ? AND leases.epoch = change.epoch";

fn lease_rows(leases: &BTreeMap<(AccountId, i64), i64>) -> Rows {
    let mut rows = Rows::default();
    for (&(account, epoch), &consumed) in leases {
        rows.push(&[account.0, epoch, consumed].map(Cell::Int));
    }
    rows
}

fn account_rows(accounts: &BTreeMap<AccountId, AccountChange>) -> Rows {
    let mut rows = Rows::default();
    for (account, change) in accounts {
        rows.push(&[account.0, change.settled, change.unleased, change.overrun, change.overcommit].map(Cell::Int));
    }
    rows
}

// Tokens, costs and overruns follow what an upstream reports, which may be nonsense, and where no limit is a hard one so do
// charges. Their sums stop at the largest number, for a sum that does not fit would make every later batch fail.

const CHARGE: &str = "UPDATE OR FAIL accounts SET settled = accounts.settled + change.settled, \
     leased = accounts.leased - change.unleased, \
     overrun = accounts.overrun + min(change.overrun, 9223372036854775807 - accounts.overrun), \
     overcommit = max(accounts.overcommit, change.overcommit) \
     FROM (SELECT value->>0 AS id, value->>1 AS settled, value->>2 AS unleased, value->>3 AS overrun, \
       value->>4 AS overcommit FROM jsonb_each(?)) AS change WHERE accounts.id = change.id";

async fn is_booked(tx: &mut Tx<'_>, hold: HoldId) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM usage_records WHERE id = ?)";
    let found: i64 = sqlx::query_scalar(sql).bind(hold.to_bytes().to_vec()).fetch_one(tx.connection()).await?;
    Ok(found != 0)
}

/// What accounts and leases have, read when first asked for, less what the batch spends.
#[derive(Debug)]
struct Funds {
    node: Arc<str>,
    /// None when there is no such account.
    rooms: HashMap<AccountId, Option<Room>>,
    leases: HashMap<(AccountId, i64), i64>,
}

/// What an account has beyond its leases.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Negative when use is beyond the limit.
    free: i64,
    /// What its sums can still take: they end at the largest number, whatever the limit is.
    countable: i64,
    /// Whether the limit is a hard one.
    enforced: bool,
}

impl Room {
    const fn chargeable(self) -> i64 {
        match (self.enforced, self.free > 0) {
            (false, _) => self.countable,
            (true, true) => self.free,
            (true, false) => 0,
        }
    }
}

impl Funds {
    /// The charge, or as much of it as every account of the hold has.
    async fn chargeable(&mut self, tx: &mut Tx<'_>, hold: &SettledHold) -> Result<i64, Fault> {
        let mut fits = hold.charged;
        for &account in &hold.accounts {
            let room = self.room(tx, account).await?.map_or(0, Room::chargeable);
            let leased = self.leased(tx, account, hold.epoch).await?;
            fits = fits.min(leased.saturating_add(room));
        }
        Ok(fits)
    }

    /// Spends from the lease first, then from the account. `None` for an account that does not exist.
    fn spend(&mut self, account: AccountId, epoch: i64, charged: i64) -> Option<Source> {
        let room = self.rooms.get_mut(&account)?.as_mut()?;
        let lease = self.leases.entry((account, epoch)).or_default();
        let from_lease = charged.min(*lease);
        *lease -= from_lease;
        room.free -= charged - from_lease;
        room.countable -= charged - from_lease;
        let beyond = if room.enforced { 0 } else { room.free.saturating_neg().max(0) };
        Some(Source { lease: from_lease, beyond })
    }

    async fn room(&mut self, tx: &mut Tx<'_>, account: AccountId) -> Result<Option<Room>, Fault> {
        if let Some(room) = self.rooms.get(&account) {
            return Ok(*room);
        }
        let sql = "SELECT a.granted - a.settled - a.leased AS free, \
             9223372036854775807 - a.settled - a.leased AS countable, b.policy = 'hard' AS enforced FROM accounts a JOIN budgets b ON b.id = a.budget_id WHERE a.id = ?";
        let row = sqlx::query(sql).bind(account.0).fetch_optional(tx.connection()).await?;
        let room = match row {
            Some(row) => {
                let (free, countable) = (row.int("free")?, row.int("countable")?);
                Some(Room { free, countable, enforced: row.flag("enforced")? })
            }
            None => None,
        };
        self.rooms.insert(account, room);
        Ok(room)
    }

    async fn leased(&mut self, tx: &mut Tx<'_>, account: AccountId, epoch: i64) -> Result<i64, Fault> {
        if let Some(left) = self.leases.get(&(account, epoch)) {
            return Ok(*left);
        }
        let by = Incarnation { node: Arc::clone(&self.node), epoch };
        let left = lease::left(tx, &by, account).await?.unwrap_or(0);
        self.leases.insert((account, epoch), left);
        Ok(left)
    }
}
