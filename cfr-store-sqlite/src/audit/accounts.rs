//! Accounts in slices: their counters beside the sums of their grants, leases, entries and usage records.

use std::collections::BTreeMap;

use cfr_billing::store::rules::{AccountFigures, Counters, EntrySums, PathFigures, PeriodFigures, RecordSums};
use cfr_billing::store::{AuditRule, Findings};
use cfr_core::id::{AccountId, BudgetId, RequestId, TenantId};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::PROGRESS_RECORDS;
use crate::error::Fault;
use crate::row::{Fields, accounts_from_blob};

/// All accounts after one and up to another, with what their parts add up to.
#[derive(Debug)]
pub(crate) struct Slice {
    after: AccountId,
    /// The last account of the slice, unless there are no more after it.
    next: Option<AccountId>,
    accounts: BTreeMap<AccountId, Audited>,
    /// Parts of accounts that do not exist.
    strays: Vec<String>,
}

#[derive(Debug)]
struct Audited {
    figures: AccountFigures,
    owner: Option<TenantId>,
    period: PeriodFigures,
}

const ACCOUNTS: &str = "SELECT a.id, a.budget_id, a.seq, a.starts_at, a.granted, a.settled, a.leased, a.overrun, \
     a.overcommit, b.tenant_id, p.id AS before, p.ends_at AS before_ends_at FROM accounts a \
     LEFT JOIN budgets b ON b.id = a.budget_id \
     LEFT JOIN accounts p ON p.budget_id = a.budget_id AND p.seq = a.seq - 1 WHERE a.id > ? ORDER BY a.id LIMIT ?";

const GRANTS: &str = "SELECT account_id, sum(amount) AS amount FROM grants \
     WHERE account_id > ? AND account_id <= ? GROUP BY account_id";

const LEASES: &str = "SELECT account_id, sum(granted - consumed) AS amount FROM leases \
     WHERE account_id > ? AND account_id <= ? GROUP BY account_id";

/// Overruns may be as large as a number gets: their halves are added up apart.
macro_rules! sums_of_entries {
    ($entries:literal) => {
        concat!(
            "SELECT account_id, kind, sum(amount) AS amount, sum(overrun >> 32) AS upper, \
             sum(overrun & 4294967295) AS lower FROM ",
            $entries,
            " WHERE account_id > ?1 AND account_id <= ?2 GROUP BY account_id, kind"
        )
    };
}

const ENTRIES: &str = sums_of_entries!("ledger_entries");

/// The same by the lists of the accounts, and what is not in them yet.
const LISTED_ENTRIES: &str = sums_of_entries!(
    "(SELECT e.* FROM entry_lists l CROSS JOIN ledger_entries e \
       ON e.batch = l.batch AND e.account_id = l.account_id AND e.kind = l.kind \
       WHERE l.account_id > ?1 AND l.account_id <= ?2 \
     UNION ALL SELECT * FROM ledger_entries WHERE batch > (SELECT batch FROM listed))"
);

impl Slice {
    /// Reads at most `limit` accounts after `after`, by index; their entries are added after that.
    pub(crate) async fn read(connection: &mut SqliteConnection, after: AccountId, limit: u32) -> Result<Self, Fault> {
        let mut slice = Self { after, next: None, accounts: BTreeMap::new(), strays: Vec::new() };
        let rows = sqlx::query(ACCOUNTS).bind(after.0).bind(limit).fetch_all(&mut *connection).await?;
        for row in &rows {
            let audited = Audited::from_row(row)?;
            slice.accounts.insert(audited.figures.account, audited);
        }
        if u32::try_from(rows.len()).is_ok_and(|read| read == limit) {
            slice.next = slice.accounts.last_key_value().map(|(last, _)| *last);
        }
        slice.add_sums(connection, GRANTS, "grants", |figures, amount| figures.grants = amount).await?;
        slice.add_sums(connection, LEASES, "leases", |figures, amount| figures.leases = amount).await?;
        Ok(slice)
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.accounts.len()).unwrap_or(u32::MAX)
    }

    /// Where the next slice begins.
    pub(crate) const fn next(&self) -> Option<AccountId> {
        self.next
    }

    fn end(&self) -> AccountId {
        self.next.unwrap_or(AccountId(i64::MAX))
    }

    async fn add_sums(
        &mut self,
        connection: &mut SqliteConnection,
        sql: &'static str,
        parts: &str,
        set: fn(&mut AccountFigures, i64),
    ) -> Result<(), Fault> {
        for row in sqlx::query(sql).bind(self.after.0).bind(self.end().0).fetch_all(connection).await? {
            let (account, amount) = (AccountId(row.int("account_id")?), row.int("amount")?);
            match self.accounts.get_mut(&account) {
                Some(audited) => set(&mut audited.figures, amount),
                None => self.strays.push(format!("{account}: it has {parts} of {amount} but does not exist")),
            }
        }
        Ok(())
    }

    /// Adds the entries, of all that there are.
    pub(crate) async fn add_entries(&mut self, connection: &mut SqliteConnection) -> Result<(), Fault> {
        self.add_entries_of(connection, ENTRIES).await
    }

    /// Adds the entries without reading those of other accounts, but for the newest.
    pub(crate) async fn add_listed_entries(&mut self, connection: &mut SqliteConnection) -> Result<(), Fault> {
        self.add_entries_of(connection, LISTED_ENTRIES).await
    }

    async fn add_entries_of(&mut self, connection: &mut SqliteConnection, sql: &'static str) -> Result<(), Fault> {
        for row in sqlx::query(sql).bind(self.after.0).bind(self.end().0).fetch_all(connection).await? {
            let (account, kind, amount) = (AccountId(row.int("account_id")?), row.text("kind")?, row.int("amount")?);
            let Some(audited) = self.accounts.get_mut(&account) else {
                self.strays.push(format!("{account}: it has entries of {amount} but does not exist"));
                continue;
            };
            let entries = &mut audited.figures.entries;
            entries.overrun = entries.overrun.saturating_add(joined(row.int("upper")?, row.int("lower")?));
            if &*kind == "grant" {
                entries.granted = amount;
            } else {
                entries.settled = amount;
            }
        }
        Ok(())
    }

    /// Adds every usage record to the accounts of its path, and says which of them are not its own.
    pub(super) async fn add_records(
        &mut self,
        connection: &mut SqliteConnection,
        found: &mut Findings,
    ) -> Result<(), Fault> {
        for audited in self.accounts.values_mut() {
            audited.figures.records = Some(RecordSums::default());
        }
        let sql = "SELECT row, id, tenant_id, charged, overrun, accounts FROM usage_records";
        let mut records = sqlx::query(sql).fetch(connection);
        let mut read = 0;
        while let Some(record) = records.try_next().await? {
            self.add_record(&record, found)?;
            read += 1;
            if read % PROGRESS_RECORDS == 0 {
                tracing::info!(records = read, "adding up the usage records");
            }
        }
        Ok(())
    }

    fn add_record(&mut self, record: &SqliteRow, found: &mut Findings) -> Result<(), Fault> {
        let accounts: Vec<AccountId> = accounts_from_blob(record.try_get("accounts")?).collect();
        let (charged, overrun) = (record.int("charged")?, record.int("overrun")?);
        let path = PathFigures {
            id: record.id("id", RequestId::from_bytes)?,
            tenant: record.id("tenant_id", TenantId::from_bytes)?,
            accounts: &accounts,
        };
        let (after, end) = (self.after, self.end());
        for &account in accounts.iter().filter(|&&account| account > after && account <= end) {
            let audited = self.accounts.get_mut(&account);
            path.check_owner(account, audited.as_ref().map(|audited| audited.owner), found);
            if let Some(sums) = audited.and_then(|audited| audited.figures.records.as_mut()) {
                sums.add(charged, overrun);
            }
        }
        Ok(())
    }

    /// Says what does not agree.
    pub(crate) fn check(&self, found: &mut Findings) {
        for stray in &self.strays {
            found.note(AuditRule::Sums, stray.clone());
        }
        for audited in self.accounts.values() {
            audited.figures.check(found);
            audited.period.check(found);
        }
    }
}

impl Audited {
    fn from_row(row: &SqliteRow) -> Result<Self, Fault> {
        let account = AccountId(row.int("id")?);
        let budget = row.id("budget_id", BudgetId::from_bytes)?;
        let figures = AccountFigures {
            account,
            budget,
            booked: Counters {
                granted: row.int("granted")?,
                settled: row.int("settled")?,
                leased: row.int("leased")?,
                overrun: row.int("overrun")?,
            },
            overcommit: row.int("overcommit")?,
            grants: 0,
            leases: 0,
            entries: EntrySums::default(),
            records: None,
        };
        let before = match row.int_opt("before")? {
            Some(_) => Some(row.time_opt("before_ends_at")?),
            None => None,
        };
        let period = PeriodFigures { account, budget, seq: row.int("seq")?, start: row.time("starts_at")?, before };
        Ok(Self { figures, owner: row.id_opt("tenant_id", TenantId::from_bytes)?, period })
    }
}

/// The sum whose upper and lower halves were added up apart, or the largest number.
fn joined(upper: i64, lower: i64) -> i64 {
    let sum = (i128::from(upper) << 32) + i128::from(lower);
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection};

    use super::*;

    /// What SQLite would do, one step a line.
    async fn plan(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
        let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).bind(0_i64).bind(100_i64);
        let rows = rows.fetch_all(connection).await.expect("a plan");
        rows.iter().map(|row| row.get("detail")).collect()
    }

    #[tokio::test]
    async fn a_look_at_a_few_accounts_reads_no_others() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.expect("a database");
        crate::migrate::run(&mut connection).await.expect("the schema");
        for sql in [ACCOUNTS, GRANTS, LEASES] {
            let steps = plan(&mut connection, sql).await;
            assert!(steps.iter().all(|step| step.starts_with("SEARCH")), "{sql}: {steps:#?}");
        }
        let entries = plan(&mut connection, LISTED_ENTRIES).await;
        for step in [
            "SEARCH l USING PRIMARY KEY (account_id>? AND account_id<?)",
            "SEARCH e USING PRIMARY KEY (batch=? AND account_id=? AND kind=?)",
            "SEARCH ledger_entries USING PRIMARY KEY (batch>?)",
        ] {
            assert!(entries.iter().any(|found| found == step), "{step}: {entries:#?}");
        }
        let scanned = |step: &&String| step.starts_with("SCAN") && !step.starts_with("SCAN listed");
        let scanned: Vec<_> = entries.iter().filter(scanned).filter(|step| !step.contains("subquery")).collect();
        assert!(scanned.is_empty(), "{entries:#?}");
    }
}
