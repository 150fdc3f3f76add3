//! The audit: recomputes every sum from its parts and the hash chain from its rows, on one snapshot.

use std::collections::BTreeMap;

use cfr_billing::store::{AuditRule, Finding};
use cfr_core::id::AccountId;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use crate::bulk::Rows;
use crate::chain::{Amounts, Batch, Hash, push_entry};
use crate::error::Fault;
use crate::row::{Fields, accounts_from_blob};
use crate::usage::{USAGE_COLUMNS, sealed_cells};

/// Names every difference; empty when the books agree.
pub(crate) async fn run(readers: &SqlitePool) -> Result<Vec<Finding>, Fault> {
    let mut connection = readers.acquire().await?;
    let mut snapshot = connection.begin().await?;
    let mut found = Vec::new();
    let sums = verify_chain(&mut snapshot, &mut found).await?;
    verify_accounts(&mut snapshot, &sums, &mut found).await?;
    verify_days(&mut snapshot, &mut found).await?;
    snapshot.rollback().await?;
    Ok(found)
}

const fn finding(rule: AuditRule, what: String) -> Finding {
    Finding { rule, what, correction: None }
}

/// What the usage records say was charged, and lost, per account.
type Sums = BTreeMap<AccountId, Amounts>;

async fn verify_chain(connection: &mut SqliteConnection, found: &mut Vec<Finding>) -> Result<Sums, Fault> {
    let mut sums = Sums::new();
    let mut previous: Hash = [0; 32];
    let mut next_row = 1;
    let (mut after, mut expected) = (0_i64, 1_i64);
    loop {
        let sql = "SELECT * FROM ledger_batches WHERE id > ? ORDER BY id LIMIT 1";
        let Some(batch) = sqlx::query(sql).bind(after).fetch_optional(&mut *connection).await? else { break };
        after = batch.int("id")?;
        if after != expected || batch.int("first_row")? != next_row {
            found.push(finding(AuditRule::Chain, format!("batch {after} does not follow the batch before it")));
        }
        let hash = hash_of(connection, &batch, &previous, &mut sums).await?;
        let sealed = batch.bytes("hash")?;
        if sealed != hash {
            found.push(finding(AuditRule::Chain, format!("batch {after} was changed after it was sealed")));
        }
        previous = sealed.try_into().unwrap_or(hash);
        next_row = batch.int("first_row")? + batch.int("rows")?;
        expected = after + 1;
    }
    let sql = "SELECT count(*) FROM usage_records WHERE row >= ?";
    let strays: i64 = sqlx::query_scalar(sql).bind(next_row).fetch_one(connection).await?;
    if strays > 0 {
        found.push(finding(AuditRule::Chain, format!("{strays} usage records belong to no batch")));
    }
    Ok(sums)
}

async fn hash_of(
    connection: &mut SqliteConnection,
    batch: &SqliteRow,
    previous: &Hash,
    sums: &mut Sums,
) -> Result<Hash, Fault> {
    let node = batch.text("node")?;
    let (first_row, rows) = (batch.int("first_row")?, batch.int("rows")?);
    let batch =
        Batch { id: batch.int("id")?, node: &node, epoch: batch.int("epoch")?, at: batch.int("at")?, first_row, rows };
    let mut entries = Rows::default();
    let sql = "SELECT account_id, kind, amount, overrun FROM ledger_entries WHERE batch = ? ORDER BY account_id, kind";
    for entry in sqlx::query(sql).bind(batch.id).fetch_all(&mut *connection).await? {
        let amounts = Amounts { amount: entry.try_get(2)?, overrun: entry.try_get(3)? };
        push_entry(&mut entries, entry.try_get(0)?, entry.try_get(1)?, amounts);
    }
    let usage = records(connection, first_row, rows, sums).await?;
    Ok(batch.seal(previous, &entries, &usage))
}

async fn records(connection: &mut SqliteConnection, first_row: i64, rows: i64, sums: &mut Sums) -> Result<Rows, Fault> {
    let mut usage = Rows::default();
    let sql = format!("SELECT {USAGE_COLUMNS} FROM usage_records WHERE row BETWEEN ? AND ? ORDER BY row");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(first_row).bind(first_row.saturating_add(rows - 1));
    for record in query.fetch_all(connection).await? {
        usage.push(&sealed_cells(&record)?);
        for account in accounts_from_blob(record.try_get("accounts")?) {
            let sum = sums.entry(account).or_default();
            sum.amount = sum.amount.saturating_add(record.int("charged")?);
            sum.overrun = sum.overrun.saturating_add(record.int("overrun")?);
        }
    }
    Ok(usage)
}

async fn verify_accounts(
    connection: &mut SqliteConnection,
    sums: &Sums,
    found: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let sql = "SELECT a.*, \
         (SELECT coalesce(sum(amount), 0) FROM grants g WHERE g.account_id = a.id) AS grants, \
         (SELECT coalesce(sum(granted - consumed), 0) FROM leases l WHERE l.account_id = a.id) AS leases, \
         coalesce(e.granted, 0) AS entries_granted, coalesce(e.settled, 0) AS entries_settled, \
         coalesce(e.overrun, 0) AS entries_overrun \
         FROM accounts a LEFT JOIN (SELECT account_id, sum(amount) FILTER (WHERE kind = 'grant') AS granted, \
           sum(amount) FILTER (WHERE kind = 'settle') AS settled, sum(overrun) AS overrun \
           FROM ledger_entries GROUP BY account_id) e ON e.account_id = a.id ORDER BY a.id";
    for row in sqlx::query(sql).fetch_all(connection).await? {
        let account = AccountId(row.int("id")?);
        let used = sums.get(&account).copied().unwrap_or_default();
        let (granted, settled) = (row.int("granted")?, row.int("settled")?);
        let (leased, overrun) = (row.int("leased")?, row.int("overrun")?);
        let sums = [
            ("granted", granted, "grants", row.int("grants")?),
            ("granted", granted, "entries", row.int("entries_granted")?),
            ("settled", settled, "entries", row.int("entries_settled")?),
            ("settled", settled, "usage records", used.amount),
            ("overrun", overrun, "entries", row.int("entries_overrun")?),
            ("overrun", overrun, "usage records", used.overrun),
            ("leased", leased, "leases", row.int("leases")?),
        ];
        for (what, booked, parts, sum) in sums.into_iter().filter(|(_, booked, _, sum)| booked != sum) {
            let what = format!("{account}: {what} is {booked} but its {parts} add up to {sum}");
            found.push(finding(AuditRule::Sums, what));
        }
        if settled + leased > granted + row.int("overcommit")? {
            let what = format!("{account}: more is settled and leased than granted");
            found.push(finding(AuditRule::Limit, what));
        }
    }
    Ok(())
}

/// The daily sums against the records that they were added up from.
async fn verify_days(connection: &mut SqliteConnection, found: &mut Vec<Finding>) -> Result<(), Fault> {
    let sql = "SELECT d.day, d.requests, d.charged, coalesce(u.requests, 0) AS records, coalesce(u.charged, 0) AS sum \
         FROM (SELECT day, sum(requests) AS requests, sum(charged) AS charged FROM usage_daily GROUP BY day) d \
         LEFT JOIN (SELECT (at - ((at % 86400000000) + 86400000000) % 86400000000) / 86400000000 AS day, \
           count(*) AS requests, sum(charged) AS charged FROM usage_records GROUP BY 1) u ON u.day = d.day \
         WHERE d.requests <> coalesce(u.requests, 0) OR d.charged <> coalesce(u.charged, 0)";
    for row in sqlx::query(sql).fetch_all(connection).await? {
        let (day, requests, records) = (row.int("day")?, row.int("requests")?, row.int("records")?);
        let what =
            format!("day {day}: the rollup counts {requests} requests, the records {records}, or their charges differ");
        found.push(finding(AuditRule::Days, what));
    }
    Ok(())
}
