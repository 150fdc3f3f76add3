//! The audit: recomputes every sum from its parts and the hash chains from their rows, on one snapshot.
//!
//! It keeps the sums of a slice of the accounts in memory, never those of all, and reads the usage records once per slice.

use cfr_billing::store::{AccountsAudit, AuditRule, Finding, Findings};
use cfr_core::id::AccountId;
use sqlx::PgConnection;

use crate::PostgresStore;
use crate::error::Fault;
use crate::row::{Fields, query};

mod accounts;
mod batches;

pub(crate) use accounts::Slice;

/// Accounts whose sums are in memory at once: about 50 MB.
const SLICE_ACCOUNTS: u32 = 250_000;
/// Usage records after which the log says how far the audit is.
const PROGRESS_RECORDS: i64 = 1_000_000;

/// Names every difference; empty when the books agree.
pub(crate) async fn run(store: &PostgresStore) -> Result<Vec<Finding>, Fault> {
    let mut snapshot = store.snapshot_transaction().await?;
    let mut found = Findings::default();
    batches::verify(&mut snapshot, &mut found).await?;
    verify_accounts(&mut snapshot, &mut found).await?;
    verify_journal(&mut snapshot, &mut found).await?;
    verify_days(&mut snapshot, &mut found).await?;
    verify_totals(&mut snapshot, &mut found).await?;
    snapshot.rollback().await?;
    Ok(found.finish())
}

/// Looks at a few accounts, by what has an index: everything but usage records.
pub(crate) async fn piece(store: &PostgresStore, after: AccountId, limit: u32) -> Result<AccountsAudit, Fault> {
    let mut snapshot = store.snapshot_transaction().await?;
    let mut found = Findings::default();
    let slice = Slice::read(&mut snapshot, after, limit).await?;
    slice.check(&mut found);
    let (checked, next) = (slice.len(), slice.next());
    snapshot.rollback().await?;
    Ok(AccountsAudit { findings: found.finish(), checked, next })
}

async fn verify_accounts(connection: &mut PgConnection, found: &mut Findings) -> Result<(), Fault> {
    let mut after = AccountId(i64::MIN);
    loop {
        let mut slice = Slice::read(connection, after, SLICE_ACCOUNTS).await?;
        slice.add_records(connection, found).await?;
        slice.check(found);
        let Some(next) = slice.next() else { return Ok(()) };
        tracing::info!(account = %next, "checked the accounts up to here");
        after = next;
    }
}

/// A hold that is open was not charged.
async fn verify_journal(connection: &mut PgConnection, found: &mut Findings) -> Result<(), Fault> {
    let sql = "SELECT h.id FROM holds h JOIN charge_keys k ON k.id = h.id WHERE h.state IN (0, 1) ORDER BY h.id";
    for row in query(sql).fetch_all(connection).await? {
        let hold = row.id("id", cfr_core::id::HoldId::from_bytes)?;
        found.note(AuditRule::Charges, format!("{hold}: it is open in the journal, but was charged"));
    }
    Ok(())
}

/// The daily sums against the records that they were added up from.
async fn verify_days(connection: &mut PgConnection, found: &mut Findings) -> Result<(), Fault> {
    let sql = "SELECT coalesce(d.day, u.day) AS day, coalesce(d.requests, 0)::bigint AS requests, \
           coalesce(d.charged, 0)::bigint AS charged, coalesce(u.requests, 0) AS records, \
           coalesce(u.charged, 0)::bigint AS sum \
         FROM (SELECT day, sum(requests) AS requests, sum(charged) AS charged FROM usage_daily GROUP BY day) d \
         FULL JOIN (SELECT (at - ((at % 86400000000) + 86400000000) % 86400000000) / 86400000000 AS day, \
           count(*) AS requests, sum(charged) AS charged FROM usage_records GROUP BY 1) u ON u.day = d.day \
         WHERE d.requests IS DISTINCT FROM u.requests OR d.charged IS DISTINCT FROM u.charged ORDER BY 1";
    for row in query(sql).fetch_all(connection).await? {
        let (day, requests, charged) = (row.int("day")?, row.int("requests")?, row.int("charged")?);
        let (records, sum) = (row.int("records")?, row.int("sum")?);
        let what = format!(
            "day {day}: the rollup counts {requests} requests and charges of {charged}, the records {records} and {sum}"
        );
        found.note(AuditRule::Days, what);
    }
    Ok(())
}

/// The sums of tenants against the sums of their users and keys.
async fn verify_totals(connection: &mut PgConnection, found: &mut Findings) -> Result<(), Fault> {
    let sql = "SELECT coalesce(t.day, d.day) AS day \
         FROM (SELECT day, tenant_id, model_served, sum(requests) AS requests, sum(charged) AS charged FROM usage_totals \
           GROUP BY day, tenant_id, model_served) t \
         FULL JOIN (SELECT day, tenant_id, model_served, sum(requests) AS requests, sum(charged) AS charged \
           FROM usage_daily GROUP BY day, tenant_id, model_served) d \
           ON d.day = t.day AND d.tenant_id = t.tenant_id AND d.model_served = t.model_served \
         WHERE t.requests IS DISTINCT FROM d.requests OR t.charged IS DISTINCT FROM d.charged GROUP BY 1 ORDER BY 1";
    for row in query(sql).fetch_all(connection).await? {
        let day = row.int("day")?;
        found.note(AuditRule::Days, format!("day {day}: the sums of tenants are not those of their users and keys"));
    }
    Ok(())
}
