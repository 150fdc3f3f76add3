//! Accounts: one period of one budget each, opened by whoever needs it first.

use cfr_billing::budget::{Budget, GrantKind};
use cfr_billing::store::{AccountState, NewGrant, StoreError};
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::{PeriodWindow, Timestamp};
use fail::fail_point;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::grant;
use crate::catalog::budget;
use crate::error::Fault;
use crate::row::{Fields, query, uuid};
use crate::writer::Tx;

/// The accounts of one budget, the newest first.
const SELECT: &str = "SELECT a.id AS account_id, a.budget_id, a.seq, b.scope, b.currency, b.policy, a.starts_at, \
     a.ends_at, a.granted, a.settled, a.leased, a.overcommit, a.overrun \
     FROM accounts a JOIN budgets b ON b.id = a.budget_id WHERE a.budget_id = $1 ORDER BY a.seq DESC";

/// The newest account of a budget, if its period is not over.
pub(super) async fn current(
    connection: &mut PgConnection,
    budget: BudgetId,
    now: Timestamp,
) -> Result<Option<AccountState>, Fault> {
    let account = newest(connection, budget).await?;
    Ok(account.filter(|account| is_open(account, now)))
}

/// Every account of a budget, the newest first.
pub(super) async fn all(connection: &mut PgConnection, budget: BudgetId) -> Result<Vec<AccountState>, Fault> {
    query(SELECT).bind(uuid(budget.to_bytes())).fetch_all(connection).await?.iter().map(from_row).collect()
}

/// The newest account of a budget, over or not.
pub(super) async fn newest(connection: &mut PgConnection, budget: BudgetId) -> Result<Option<AccountState>, Fault> {
    let row = query(SELECT).bind(uuid(budget.to_bytes())).fetch_optional(connection).await?;
    row.as_ref().map(from_row).transpose()
}

/// The account of the current period, or the last one of a budget that has no next period.
pub(super) async fn open_or_newest(tx: &mut Tx<'_>, id: BudgetId) -> Result<AccountState, Fault> {
    let budget = budget::active(tx.connection(), id).await?.ok_or(StoreError::NotFound { what: "budget" })?;
    let opened = open(tx, &budget).await?;
    let account = match opened {
        Some(account) => Some(account),
        None => newest(tx.connection(), id).await?,
    };
    Ok(account.ok_or(StoreError::NotFound { what: "open period" })?)
}

/// The account of the period that contains the transaction's moment, opened if nobody did. A clock that goes back
/// reopens nothing. `None` when the budget's period has no next one.
///
/// Whoever opens a period has the budget's row: of many who try at once one opens it, and the others find it open.
pub(super) async fn open(tx: &mut Tx<'_>, budget: &Budget) -> Result<Option<AccountState>, Fault> {
    let now = tx.now;
    if let Some(account) = current(tx.connection(), budget.spec.id, now).await? {
        return Ok(Some(account));
    }
    budget::lock(tx.connection(), budget.spec.id).await?;
    let last = newest(tx.connection(), budget.spec.id).await?;
    if let Some(last) = last.as_ref().filter(|last| is_open(last, tx.now)) {
        return Ok(Some(last.clone()));
    }
    let Ok(mut period) = budget.spec.period.window_at(&budget.spec.zone, tx.now) else { return Ok(None) };
    if let Some(end) = last.as_ref().and_then(|last| last.period.end) {
        period.start = period.start.max(end);
    }
    let seq = last.as_ref().map_or(1, |last| last.seq + 1);
    let account = insert(tx, budget, seq, period).await?;
    fail_point!("period.account_inserted");
    grant_included(tx, budget, account, seq).await?;
    fail_point!("period.granted");
    if let Some(last) = last {
        roll_over(tx, last.account, account).await?;
    }
    newest(tx.connection(), budget.spec.id).await
}

/// Whether the period is not over.
pub(super) fn is_open(account: &AccountState, now: Timestamp) -> bool {
    account.period.end.is_none_or(|end| now < end)
}

async fn insert(tx: &mut Tx<'_>, budget: &Budget, seq: i64, period: PeriodWindow) -> Result<AccountId, Fault> {
    let sql = "INSERT INTO accounts (budget_id, seq, starts_at, ends_at) VALUES ($1, $2, $3, $4) RETURNING id";
    let row = query(sql)
        .bind(uuid(budget.spec.id.to_bytes()))
        .bind(seq)
        .bind(period.start.as_microsecond())
        .bind(period.end.map(|end| end.as_microsecond()))
        .fetch_one(tx.connection())
        .await?;
    Ok(AccountId(row.try_get(0)?))
}

async fn grant_included(tx: &mut Tx<'_>, budget: &Budget, account: AccountId, seq: i64) -> Result<(), Fault> {
    let spec = &budget.spec;
    if spec.included_nanos == 0 {
        return Ok(());
    }
    let key = format!("included:{}:{seq}", spec.id);
    let grant = NewGrant::by_terms(spec.id, GrantKind::Included, spec.included_nanos, &key);
    grant::book(tx, account, &grant).await.map(drop)
}

/// Bought money on accounts of past periods follows to the newest ones, as far as it is neither spent nor leased. Their
/// rows are locked already, so that nobody opens a next period meanwhile without what they have.
pub(super) async fn roll_over_past(tx: &mut Tx<'_>, accounts: &[i64]) -> Result<(), Fault> {
    let sql = "SELECT a.id, n.id AS newest FROM accounts a JOIN accounts n ON n.budget_id = a.budget_id AND n.seq = \
         (SELECT max(seq) FROM accounts l WHERE l.budget_id = a.budget_id) WHERE a.id = ANY($1) AND n.id <> a.id \
         ORDER BY a.id";
    for row in query(sql).bind(accounts).fetch_all(tx.connection()).await? {
        roll_over(tx, AccountId(row.int("id")?), AccountId(row.int("newest")?)).await?;
    }
    Ok(())
}

/// Two grants: one takes the money from the past account, one adds it to the new one.
async fn roll_over(tx: &mut Tx<'_>, from: AccountId, to: AccountId) -> Result<(), Fault> {
    query("SELECT FROM accounts WHERE id = $1 FOR NO KEY UPDATE").bind(from.0).execute(tx.connection()).await?;
    let sql = "SELECT a.budget_id, a.granted - a.settled - a.leased AS room, coalesce(sum(g.amount), 0)::bigint AS bought, \
         count(*) FILTER (WHERE g.kind = 'rollover') AS times FROM accounts a JOIN grants g ON g.account_id = a.id \
         WHERE a.id = $1 AND g.kind IN ('top_up', 'promo', 'import', 'rollover') GROUP BY a.id";
    let Some(row) = query(sql).bind(from.0).fetch_optional(tx.connection()).await? else { return Ok(()) };
    let (budget, times) = (row.id("budget_id", BudgetId::from_bytes)?, row.int("times")?);
    let carried = row.int("bought")?.min(row.int("room")?);
    if carried <= 0 {
        return Ok(());
    }
    for (account, amount, side) in [(from, -carried, "out"), (to, carried, "in")] {
        let key = format!("rollover:{}:{times}:{side}", from.0);
        grant::book(tx, account, &NewGrant::by_terms(budget, GrantKind::Rollover, amount, &key)).await?;
        fail_point!("period.rolled_over");
    }
    Ok(())
}

/// An account with the columns of its budget.
pub(super) fn from_row(row: &PgRow) -> Result<AccountState, Fault> {
    Ok(AccountState {
        budget: row.id("budget_id", BudgetId::from_bytes)?,
        account: AccountId(row.int("account_id")?),
        seq: row.int("seq")?,
        scope: row.word("scope")?,
        currency: row.word("currency")?,
        policy: row.word("policy")?,
        period: PeriodWindow { start: row.time("starts_at")?, end: row.time_opt("ends_at")? },
        granted: row.int("granted")?,
        settled: row.int("settled")?,
        leased: row.int("leased")?,
        overcommit: row.int("overcommit")?,
        overrun: row.int("overrun")?,
    })
}
