//! The hot path: a batch of steps becomes one statement.
//!
//! It is written in good faith that the leases have what is charged, that every settlement is new, and that this life may
//! write. The statement proves that itself, or fails as a whole; then the batch is done again with care, in a transaction.
//! Its first statement locks the accounts and leases that are charged, in the order of their ids, and says what they have;
//! the second books. When a unique key says there that a settlement is not new (a repeated batch), all is undone and done
//! again after a look at what was booked before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cfr_billing::store::{Incarnation, Op, SettledHold, StoreError};
use cfr_core::id::{AccountId, HoldId, KeyId, UserId};
use cfr_core::time::Timestamp;
use fail::fail_point;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, Row};
use uuid::Uuid;

use super::hold::{self, Journal};
use super::rollup::{self, Days};
use crate::PostgresStore;
use crate::bulk::{Cell, Rows, Script};
use crate::chain::{self, Amounts, Entries, EntryKind, Usage};
use crate::error::Fault;
use crate::row::{Fields, query, searchable, uuid};
use crate::usage::details;
use crate::writer::{Attempts, Tx};

/// Writes the batch, all of it or nothing.
pub(super) async fn commit(store: &PostgresStore, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), Fault> {
    let batch = Batch::of(by, ops)?;
    let mut attempts = Attempts::sealing();
    let mut good_faith = true;
    let mut repeated = false;
    loop {
        let mut writer = store.writer().await?;
        good_faith &= writer.can_be_single(store.clock());
        let mut tx = match good_faith {
            true => writer.single(store.clock(), now)?,
            false => writer.begin_untimed(store.clock(), now).await?,
        };
        let written = match good_faith {
            true => batch.write_in_good_faith(&mut tx).await,
            false => batch.write_with_care(&mut tx, repeated).await,
        };
        let done = tx.end(written).await;
        match done {
            Err(fault) if good_faith && fault.is_contradiction() => tracing::debug!(?fault, "a batch needs care"),
            Err(fault) => attempts.next(store.collision_counter(), fault)?,
            done => return done,
        }
        fail_point!("commit.refused");
        (good_faith, repeated) = (false, true);
    }
}

/// What is committed at once.
#[derive(Debug)]
struct Batch<'a> {
    by: &'a Incarnation,
    journal: Journal<'a>,
    settled: Vec<&'a SettledHold>,
}

impl<'a> Batch<'a> {
    fn of(by: &'a Incarnation, ops: &'a [Op]) -> Result<Self, Fault> {
        let settled: Vec<&SettledHold> = ops.iter().filter_map(settlement).collect();
        if settled.iter().any(|hold| hold.charged < 0) {
            return Err(StoreError::invalid("a charge is not negative").into());
        }
        Ok(Self { by, journal: Journal::gather(ops), settled })
    }

    /// One statement, which refuses when anything is other than it should be.
    async fn write_in_good_faith(&self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let mut script = Script::default();
        let mut funds = Funds::believed(&self.settled);
        Books::of(&self.settled, &HashSet::new(), &mut funds)?.push(tx, self.by, &mut script).await?;
        hold::push(&mut script, &self.by.node, &self.journal)?;
        script.require(ALIVE);
        script.bind(self.by.node.to_string())?;
        script.bind(self.by.epoch)?;
        script.require(NONE_SUSPENDED);
        script.bind(self.journal.ended().map(|hold| uuid(hold.to_bytes())).collect::<Vec<Uuid>>())?;
        if tx.has_estimated_moment() {
            script.require(IN_TIME);
            script.bind(tx.micros())?;
        }
        fail_point!("commit.prepared");
        script.run_alone(tx).await
    }

    /// Charges what is there, after a look at it.
    async fn write_with_care(&self, tx: &mut Tx<'_>, repeated: bool) -> Result<(), Fault> {
        let Self { by, journal, settled } = self;
        let mut look = Look::at(tx, by, settled, journal).await?;
        if !look.alive {
            return Err(StoreError::Fenced.into());
        }
        let known = if repeated { booked_before(tx, settled).await? } else { HashSet::new() };
        let mut script = Script::default();
        Books::of(settled, &known, &mut look.funds)?.push(tx, by, &mut script).await?;
        if look.ends_suspended {
            // What is freed depends on what was charged.
            std::mem::take(&mut script).run(tx).await?;
            fail_point!("commit.booked");
            hold::free_suspended(tx, journal, settled).await?;
            fail_point!("commit.suspended_freed");
        }
        hold::push(&mut script, &by.node, journal)?;
        fail_point!("commit.prepared");
        script.run(tx).await
    }
}

const ALIVE: &str = "EXISTS (SELECT FROM nodes WHERE name = $1 AND epoch = $2 AND NOT fenced)";

const NONE_SUSPENDED: &str = "NOT EXISTS (SELECT FROM holds WHERE state = 1 AND id = ANY($1))";

/// What is booked says when: within a second of the database's own clock.
const IN_TIME: &str = "abs((extract(epoch FROM transaction_timestamp()) * 1000000)::bigint - $1) < 1000000";

fn settlement(op: &Op) -> Option<&SettledHold> {
    match op {
        Op::Settle(settled) => Some(settled),
        _ => None,
    }
}

/// Books settlements of a dead life, inside a running transaction.
pub(super) async fn settle_orphans(tx: &mut Tx<'_>, by: &Incarnation, settled: &[SettledHold]) -> Result<(), Fault> {
    tx.must_seal()?;
    let settled: Vec<&SettledHold> = settled.iter().collect();
    let mut look = Look::at(tx, by, &settled, &Journal::default()).await?;
    let known = booked_before(tx, &settled).await?;
    let mut script = Script::default();
    Books::of(&settled, &known, &mut look.funds)?.push(tx, by, &mut script).await?;
    script.run(tx).await
}

/// Which of the settlements are booked.
async fn booked_before(tx: &mut Tx<'_>, settled: &[&SettledHold]) -> Result<HashSet<HoldId>, Fault> {
    let ids: Vec<Uuid> = settled.iter().map(|hold| uuid(hold.id.to_bytes())).collect();
    let rows = query("SELECT id FROM charge_keys WHERE id = ANY($1)").bind(ids).fetch_all(tx.connection()).await?;
    rows.iter().map(|row| row.id("id", HoldId::from_bytes)).collect()
}

/// What a batch changes, coalesced.
#[derive(Debug, Default)]
struct Books {
    accounts: BTreeMap<AccountId, AccountChange>,
    /// What is consumed of each lease, by account and epoch.
    leases: BTreeMap<(AccountId, i64), i64>,
    entries: Entries,
    usage: Usage,
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
    /// Leaves out what was booked before, and charges at most what each lease and the account's free room have.
    fn of(settled: &[&SettledHold], known: &HashSet<HoldId>, funds: &mut Funds) -> Result<Self, Fault> {
        let mut books = Self::default();
        let mut seen = BTreeSet::new();
        for hold in settled {
            if !seen.insert(hold.id) || known.contains(&hold.id) {
                continue;
            }
            let booked = booked(hold, funds.chargeable(hold));
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
        let caller = &record.caller;
        let (id, at) = (Cell::Id(record.id.to_bytes()), Cell::Int(record.at.as_microsecond()));
        self.usage.keys.push(&[id, at]);
        self.usage.records.push(&[
            id,
            at,
            Cell::Id(caller.tenant.to_bytes()),
            Cell::IdOpt(caller.user.map(UserId::to_bytes)),
            Cell::IdOpt(caller.key.map(KeyId::to_bytes)),
            Cell::Text(&searchable(&record.model_served)),
            Cell::Int(record.cost_nanos),
            Cell::Int(booked.amount),
            Cell::Int(booked.overrun),
            Cell::Accounts(&hold.accounts),
            Cell::Text(&details(record)?),
        ]);
        self.days.entry(rollup::day_of(record)).or_default().count(record, booked.amount);
        Ok(())
    }

    /// Adds to the script what books everything.
    async fn push(self, tx: &mut Tx<'_>, by: &Incarnation, script: &mut Script) -> Result<(), Fault> {
        if self.usage.records.is_empty() {
            return Ok(());
        }
        if !self.accounts.is_empty() {
            script.named("locked", LOCK);
            script.bind(self.accounts.keys().map(|account| account.0).collect::<Vec<i64>>())?;
            script.named_for("charged", CHARGE, account_rows(&self.accounts))?;
            script.require("(SELECT count(*) FROM charged) = $1");
            script.bind(count(self.accounts.len()))?;
        }
        if script.named_for("consumed", CONSUME, lease_rows(&self.leases))? {
            script.bind(by.node.to_string())?;
            script.require("(SELECT count(*) FROM consumed) = $1");
            script.bind(count(self.leases.len()))?;
        }
        chain::append(tx, script, (&by.node, by.epoch), (&self.entries, self.usage)).await?;
        rollup::push(script, &self.days)
    }
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// All accounts, in the order of their ids, before anything is changed: whoever else charges them does the same.
const LOCK: &str = "SELECT id FROM accounts WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";

const CONSUME: &str = "UPDATE leases l SET consumed = l.consumed + change.consumed \
     FROM unnest($1, $2, $3) AS change (account_id, epoch, consumed) \
     WHERE l.account_id = change.account_id AND l.node = $4 AND l.epoch = change.epoch \
     AND (SELECT count(*) FROM locked) > 0 RETURNING 1";

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

const CHARGE: &str = "UPDATE accounts a SET settled = a.settled + change.settled, leased = a.leased - change.unleased, \
     overrun = a.overrun + least(change.overrun, 9223372036854775807 - a.overrun), \
     overcommit = greatest(a.overcommit, change.overcommit) \
     FROM unnest($1, $2, $3, $4, $5) AS change (id, settled, unleased, overrun, overcommit) WHERE a.id = change.id \
     AND (SELECT count(*) FROM locked) > 0 RETURNING 1";

/// What the database says before a batch is booked.
#[derive(Debug, Default)]
struct Look {
    /// Whether the life may write.
    alive: bool,
    /// Whether a suspended hold ends with this batch.
    ends_suspended: bool,
    funds: Funds,
}

/// The accounts first, then their leases, each in the order of ids: whoever else charges them does the same.
const LOOK: &str = "WITH account AS MATERIALIZED (SELECT a.id, a.granted - a.settled - a.leased AS free, \
       9223372036854775807 - a.settled - a.leased AS countable, b.policy = 'hard' AS enforced FROM accounts a JOIN budgets b ON b.id = a.budget_id \
       WHERE a.id = ANY($3) ORDER BY a.id FOR NO KEY UPDATE OF a), \
     lease AS MATERIALIZED (SELECT account_id, epoch, granted - consumed AS remainder FROM leases \
       WHERE (SELECT count(*) FROM account) > 0 AND account_id = ANY($3) AND node = $1 AND epoch = ANY($4) \
       ORDER BY account_id, epoch FOR NO KEY UPDATE) \
     SELECT 'account' AS what, id, countable, free AS amount, enforced AS flag FROM account \
     UNION ALL SELECT 'lease', account_id, epoch, remainder, false FROM lease \
     UNION ALL SELECT 'life', 0, 0, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
       EXISTS (SELECT FROM nodes WHERE name = $1 AND epoch = $2 AND NOT fenced) \
     UNION ALL SELECT 'suspended', 0, 0, 0, EXISTS (SELECT FROM holds WHERE state = 1 AND id = ANY($5))";

impl Look {
    async fn at(
        tx: &mut Tx<'_>,
        by: &Incarnation,
        settled: &[&SettledHold],
        journal: &Journal<'_>,
    ) -> Result<Self, Fault> {
        let accounts: BTreeSet<i64> = settled.iter().flat_map(|hold| hold.accounts.iter().map(|id| id.0)).collect();
        let epochs: BTreeSet<i64> = settled.iter().map(|hold| hold.epoch).collect();
        let ended: Vec<Uuid> = journal.ended().map(|hold| uuid(hold.to_bytes())).collect();
        let mut arguments = PgArguments::default();
        arguments.add(&*by.node).map_err(sqlx::Error::Encode)?;
        arguments.add(by.epoch).map_err(sqlx::Error::Encode)?;
        for ids in [accounts, epochs] {
            arguments.add(ids.into_iter().collect::<Vec<i64>>()).map_err(sqlx::Error::Encode)?;
        }
        arguments.add(ended).map_err(sqlx::Error::Encode)?;
        let rows = tx.prepared(LOOK, arguments).fetch_all(tx.connection()).await?;
        let mut look = Self::default();
        for row in &rows {
            look.note(tx, row)?;
        }
        Ok(look)
    }

    fn note(&mut self, tx: &mut Tx<'_>, row: &PgRow) -> Result<(), Fault> {
        let (account, second, amount) = (AccountId(row.try_get(1)?), row.try_get(2)?, row.try_get(3)?);
        let flag = row.try_get(4)?;
        match row.try_get::<&str, _>(0)? {
            "account" => {
                let room = Room { free: amount, countable: second, enforced: flag };
                self.funds.rooms.insert(account, room);
            }
            "lease" => drop(self.funds.leases.insert((account, second), amount)),
            "suspended" => self.ends_suspended = flag,
            _ => {
                self.alive = flag;
                tx.set_moment(amount)?;
            }
        }
        Ok(())
    }
}

/// What accounts and leases have, less what the batch spends.
#[derive(Debug, Default)]
struct Funds {
    rooms: HashMap<AccountId, Room>,
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
    /// In good faith: every lease has what is charged to it.
    fn believed(settled: &[&SettledHold]) -> Self {
        let mut funds = Self::default();
        for (hold, &account) in settled.iter().flat_map(|hold| hold.accounts.iter().map(move |account| (hold, account)))
        {
            funds.rooms.insert(account, Room { free: 0, countable: 0, enforced: true });
            let lease = funds.leases.entry((account, hold.epoch)).or_default();
            *lease = lease.saturating_add(hold.charged);
        }
        funds
    }

    /// The charge, or as much of it as every account of the hold has.
    fn chargeable(&self, hold: &SettledHold) -> i64 {
        let has = |account: &AccountId| {
            let room = self.rooms.get(account).map_or(0, |room| room.chargeable());
            room.saturating_add(self.leases.get(&(*account, hold.epoch)).copied().unwrap_or_default())
        };
        hold.accounts.iter().map(has).fold(hold.charged, i64::min)
    }

    /// Spends from the lease first, then from the account. `None` for an account that does not exist.
    fn spend(&mut self, account: AccountId, epoch: i64, charged: i64) -> Option<Source> {
        let room = self.rooms.get_mut(&account)?;
        let lease = self.leases.entry((account, epoch)).or_default();
        let from_lease = charged.min(*lease);
        *lease -= from_lease;
        room.free -= charged - from_lease;
        room.countable -= charged - from_lease;
        let beyond = if room.enforced { 0 } else { room.free.saturating_neg().max(0) };
        Some(Source { lease: from_lease, beyond })
    }
}
