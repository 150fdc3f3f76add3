//! Accounts: one period of one budget each, opened by whoever needs it first.

use std::collections::{BTreeMap, HashMap};

use cfr_billing::budget::{Budget, GrantKind};
use cfr_billing::store::{AccountState, NewGrant, StoreError};
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::ledger::BudgetSpec;
use cfr_core::time::{PeriodWindow, Timestamp};
use fail::fail_point;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, PgConnection};
use uuid::Uuid;

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

/// The account of the period that contains the transaction's moment, opened if nobody did. `None` when the budget's period
/// has no next one.
pub(super) async fn open(tx: &mut Tx<'_>, budget: &Budget) -> Result<Option<AccountState>, Fault> {
    let now = tx.now;
    if let Some(account) = current(tx.connection(), budget.spec.id, now).await? {
        return Ok(Some(account));
    }
    budget::lock(tx.connection(), budget.spec.id).await?;
    open_all(tx, std::slice::from_ref(budget)).await?;
    current(tx.connection(), budget.spec.id, now).await
}

/// Opens the period that contains the transaction's moment on each of these budgets where nobody did. A clock that goes
/// back reopens nothing. Names the budgets that have no next period, with the last one that they had.
///
/// Whoever opens a period has the budget's row: of many who try at once one opens it, and the others find it open.
pub(super) async fn open_all<'a>(
    tx: &mut Tx<'_>,
    budgets: &'a [Budget],
) -> Result<Vec<(&'a BudgetSpec, Option<AccountState>)>, Fault> {
    let (mut openings, mut ended) = (Vec::new(), Vec::new());
    let mut newest = newest_of(tx, budgets).await?;
    for Budget { spec, .. } in budgets {
        let last = newest.remove(&spec.id);
        if last.as_ref().is_some_and(|last| is_open(last, tx.now)) {
            continue;
        }
        match Opening::after(last.as_ref(), spec, tx.now) {
            Some(opening) => openings.push(opening),
            None => ended.push((spec, last)),
        }
    }
    open_next(tx, &openings).await?;
    Ok(ended)
}

/// The accounts, what is included in them, and what was bought before and is left.
async fn open_next(tx: &mut Tx<'_>, openings: &[Opening<'_>]) -> Result<(), Fault> {
    if openings.is_empty() {
        return Ok(());
    }
    let accounts = insert(tx, openings).await?;
    fail_point!("period.account_inserted");
    let opened = || openings.iter().filter_map(|opening| Some((opening, *accounts.get(&opening.budget.id)?)));
    let included: Vec<_> = opened().filter_map(|(opening, account)| Some((account, opening.included()?))).collect();
    grant::book_by_terms(tx, &included).await?;
    fail_point!("period.granted");
    let follows: BTreeMap<_, _> = opened().filter_map(|(opening, account)| Some((opening.last?, account))).collect();
    roll_over(tx, &follows).await
}

/// A period that is to be opened.
#[derive(Debug)]
struct Opening<'a> {
    budget: &'a BudgetSpec,
    seq: i64,
    period: PeriodWindow,
    /// The account of the period before.
    last: Option<AccountId>,
}

impl<'a> Opening<'a> {
    fn after(last: Option<&AccountState>, budget: &'a BudgetSpec, now: Timestamp) -> Option<Self> {
        let mut period = budget.period.window_at(&budget.zone, now).ok()?;
        if let Some(end) = last.and_then(|last| last.period.end) {
            period.start = period.start.max(end);
        }
        Some(Self { budget, seq: last.map_or(1, |last| last.seq + 1), period, last: last.map(|last| last.account) })
    }

    fn included(&self) -> Option<NewGrant> {
        let BudgetSpec { id, included_nanos, .. } = self.budget;
        let key = format!("included:{id}:{}", self.seq);
        (*included_nanos != 0).then(|| NewGrant::by_terms(*id, GrantKind::Included, *included_nanos, &key))
    }
}

const NEWEST_OF: &str = "SELECT a.id AS account_id, a.budget_id, a.seq, b.scope, b.currency, b.policy, a.starts_at, \
     a.ends_at, a.granted, a.settled, a.leased, a.overcommit, a.overrun \
     FROM accounts a JOIN budgets b ON b.id = a.budget_id WHERE a.budget_id = ANY($1) \
     AND a.seq = (SELECT max(seq) FROM accounts n WHERE n.budget_id = a.budget_id)";

async fn newest_of(tx: &mut Tx<'_>, budgets: &[Budget]) -> Result<HashMap<BudgetId, AccountState>, Fault> {
    let ids: Vec<Uuid> = budgets.iter().map(|budget| uuid(budget.spec.id.to_bytes())).collect();
    let mut arguments = PgArguments::default();
    arguments.add(ids).map_err(sqlx::Error::Encode)?;
    let rows = tx.prepared(NEWEST_OF, arguments).fetch_all(tx.connection()).await?;
    rows.iter().map(|row| from_row(row).map(|account| (account.budget, account))).collect()
}

const INSERT: &str = "INSERT INTO accounts (budget_id, seq, starts_at, ends_at) SELECT * FROM unnest($1, $2, $3, $4) \
     RETURNING id, budget_id";

async fn insert(tx: &mut Tx<'_>, openings: &[Opening<'_>]) -> Result<HashMap<BudgetId, AccountId>, Fault> {
    let column = |value: fn(&Opening<'_>) -> i64| openings.iter().map(value).collect::<Vec<i64>>();
    let ends: Vec<Option<i64>> =
        openings.iter().map(|opening| opening.period.end.map(|end| end.as_microsecond())).collect();
    let ids: Vec<Uuid> = openings.iter().map(|opening| uuid(opening.budget.id.to_bytes())).collect();
    let mut arguments = PgArguments::default();
    arguments.add(ids).map_err(sqlx::Error::Encode)?;
    arguments.add(column(|opening| opening.seq)).map_err(sqlx::Error::Encode)?;
    arguments.add(column(|opening| opening.period.start.as_microsecond())).map_err(sqlx::Error::Encode)?;
    arguments.add(ends).map_err(sqlx::Error::Encode)?;
    let rows = tx.prepared(INSERT, arguments).fetch_all(tx.connection()).await?;
    let ids = |row: &PgRow| Ok((row.id("budget_id", BudgetId::from_bytes)?, AccountId(row.int("id")?)));
    rows.iter().map(ids).collect()
}

/// Whether the period is not over.
pub(super) fn is_open(account: &AccountState, now: Timestamp) -> bool {
    account.period.end.is_none_or(|end| now < end)
}

/// Bought money on accounts of past periods follows to the newest ones, as far as it is neither spent nor leased. Their
/// rows are locked already, so that nobody opens a next period meanwhile without what they have.
pub(super) async fn roll_over_past(tx: &mut Tx<'_>, accounts: &[i64]) -> Result<(), Fault> {
    let sql = "SELECT a.id, n.id AS newest FROM accounts a JOIN accounts n ON n.budget_id = a.budget_id AND n.seq = \
         (SELECT max(seq) FROM accounts l WHERE l.budget_id = a.budget_id) WHERE a.id = ANY($1) AND n.id <> a.id \
         ORDER BY a.id";
    let rows = query(sql).bind(accounts).fetch_all(tx.connection()).await?;
    let follows = |row: &PgRow| Ok((AccountId(row.int("id")?), AccountId(row.int("newest")?)));
    roll_over(tx, &rows.iter().map(follows).collect::<Result<BTreeMap<_, _>, Fault>>()?).await
}

/// What was bought on past accounts goes to the ones after them, by two grants each: one takes the money from the past
/// account, one adds it to the new one.
async fn roll_over(tx: &mut Tx<'_>, follows: &BTreeMap<AccountId, AccountId>) -> Result<(), Fault> {
    if follows.is_empty() {
        return Ok(());
    }
    let past: Vec<i64> = follows.keys().map(|past| past.0).collect();
    let sql = "SELECT FROM accounts WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
    query(sql).bind(&past).execute(tx.connection()).await?;
    let sql = "SELECT a.id, a.budget_id, a.granted - a.settled - a.leased AS room, sum(g.amount)::bigint AS bought, \
         count(*) FILTER (WHERE g.kind = 'rollover') AS times FROM accounts a JOIN grants g ON g.account_id = a.id \
         WHERE a.id = ANY($1) AND g.kind IN ('top_up', 'promo', 'import', 'rollover') GROUP BY a.id";
    let bought = query(sql).bind(&past).fetch_all(tx.connection()).await?;
    let mut grants = Vec::new();
    for row in &bought {
        let (past, carried) = (AccountId(row.int("id")?), row.int("bought")?.min(row.int("room")?));
        let Some(new) = follows.get(&past).filter(|_| carried > 0) else { continue };
        let (budget, times) = (row.id("budget_id", BudgetId::from_bytes)?, row.int("times")?);
        for (account, amount, side) in [(past, -carried, "out"), (*new, carried, "in")] {
            let key = format!("rollover:{}:{times}:{side}", past.0);
            grants.push((account, NewGrant::by_terms(budget, GrantKind::Rollover, amount, &key)));
        }
    }
    grant::book_by_terms(tx, &grants).await?;
    fail_point!("period.rolled_over");
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
