//! Leases: spending rights of the nodes' lives.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cfr_billing::store::{AccountState, AcquireError, Incarnation, LeaseAsk, LeaseGrant, Renewal, StoreError};
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::PeriodWindow;
use fail::fail_point;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, Row};
use uuid::Uuid;

use super::{account, node};
use crate::bulk::{Cell, Rows, Script};
use crate::catalog::budget;
use crate::error::Fault;
use crate::notify;
use crate::row::{Fields, query, uuid};
use crate::writer::Tx;

/// What an acquisition came to.
#[derive(Debug)]
pub(super) enum Answer {
    Granted(Vec<LeaseGrant>),
    Refused(AcquireError),
    /// A budget has no open period, or does not exist. Nothing was taken.
    Unopened,
}

/// Rights on every budget asked for, or on none.
pub(super) async fn acquire(
    tx: &mut Tx<'_>,
    by: &Incarnation,
    asks: &[LeaseAsk],
    ttl: Duration,
) -> Result<Answer, Fault> {
    let newest = lock_newest(tx, by, asks).await?;
    let open = |ask: &LeaseAsk| newest.get(&ask.budget).filter(|account| account::is_open(account, tx.now)).cloned();
    let Some(accounts) = asks.iter().map(open).collect::<Option<Vec<AccountState>>>() else {
        return Ok(Answer::Unopened);
    };
    let short = accounts.iter().zip(asks).filter(|(account, ask)| is_hard(account) && account.room().max(0) < ask.min);
    if let Some((account, _)) = short.min_by_key(|(account, _)| account.room()) {
        return Ok(Answer::Refused(denied(account)));
    }
    let amounts: Vec<i64> = accounts.iter().zip(asks).map(|(account, ask)| grantable(account, ask)).collect();
    take(tx, by, &accounts, &amounts, ttl).await?;
    fail_point!("acquire.account_raised");
    Ok(Answer::Granted(
        accounts.into_iter().zip(amounts).map(|(account, amount)| lease_grant(account, amount)).collect(),
    ))
}

/// The life's row first: whoever declares it dead waits until what is acquired here is there to be taken back. Then the
/// accounts, in the order of their ids.
const LOCK_NEWEST: &str = "WITH life AS MATERIALIZED (SELECT 1 FROM nodes WHERE name = $1 AND epoch = $2 AND NOT fenced \
       FOR SHARE), \
     account AS MATERIALIZED (SELECT a.id AS account_id, a.budget_id, a.seq, b.scope, b.currency, b.policy, a.starts_at, \
       a.ends_at, a.granted, a.settled, a.leased, a.overcommit, a.overrun \
       FROM accounts a JOIN budgets b ON b.id = a.budget_id WHERE a.budget_id = ANY($3) AND b.active \
       AND a.seq = (SELECT max(seq) FROM accounts n WHERE n.budget_id = a.budget_id) \
       AND (SELECT count(*) FROM life) > 0 ORDER BY a.id FOR NO KEY UPDATE OF a) \
     SELECT account.*, (SELECT count(*) FROM life) > 0 AS alive, \
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock FROM (SELECT) one LEFT JOIN account ON true";

/// The newest account of each budget asked for, which nobody else changes before this transaction ends.
async fn lock_newest(
    tx: &mut Tx<'_>,
    by: &Incarnation,
    asks: &[LeaseAsk],
) -> Result<HashMap<BudgetId, AccountState>, Fault> {
    let budgets: Vec<Uuid> = asks.iter().map(|ask| uuid(ask.budget.to_bytes())).collect();
    let mut arguments = PgArguments::default();
    arguments.add(&*by.node).map_err(sqlx::Error::Encode)?;
    arguments.add(by.epoch).map_err(sqlx::Error::Encode)?;
    arguments.add(budgets).map_err(sqlx::Error::Encode)?;
    let rows = tx.prepared(LOCK_NEWEST, arguments).fetch_all(tx.connection()).await?;
    let Some(last) = rows.last().filter(|row| row.flag("alive").unwrap_or(false)) else {
        return Err(StoreError::Fenced.into());
    };
    tx.set_moment(last.int("clock")?)?;
    let found = rows.iter().filter(|row| matches!(row.int_opt("account_id"), Ok(Some(_))));
    found.map(account::from_row).map(|account| account.map(|account| (account.budget, account))).collect()
}

/// Opens the current period of a budget that is asked for. What is in the way of a lease on it, if anything is.
pub(super) async fn open_for_ask(tx: &mut Tx<'_>, ask: &LeaseAsk) -> Result<Option<AcquireError>, Fault> {
    let Some(budget) = budget::active(tx.connection(), ask.budget).await? else {
        return Ok(Some(AcquireError::UnknownBudget { budget: ask.budget }));
    };
    if account::open(tx, &budget).await?.is_some() {
        return Ok(None);
    }
    let last = account::newest(tx.connection(), ask.budget).await?;
    let period = last.map_or(PeriodWindow { start: tx.now, end: None }, |last| last.period);
    let (scope, currency) = (budget.spec.scope, budget.spec.currency);
    Ok(Some(AcquireError::Denied { budget: ask.budget, scope, currency, room: 0, period }))
}

fn is_hard(account: &AccountState) -> bool {
    account.policy == LimitPolicy::Hard
}

/// What is wanted as far as there is room. A soft or unlimited budget gives the least that helps even without room.
fn grantable(account: &AccountState, ask: &LeaseAsk) -> i64 {
    let fits = ask.want.clamp(0, account.room().max(0));
    if is_hard(account) { fits } else { fits.max(ask.min) }
}

fn denied(account: &AccountState) -> AcquireError {
    AcquireError::Denied {
        budget: account.budget,
        scope: account.scope,
        currency: account.currency,
        room: account.room(),
        period: account.period,
    }
}

fn lease_grant(account: AccountState, granted: i64) -> LeaseGrant {
    LeaseGrant {
        budget: account.budget,
        account: account.account,
        scope: account.scope,
        currency: account.currency,
        policy: account.policy,
        period: account.period,
        granted,
        room: account.room() - granted,
    }
}

const RAISE_LEASES: &str = "INSERT INTO leases AS l (account_id, granted, node, epoch, expires_at) \
     SELECT taken.*, $3, $4, $5 FROM unnest($1, $2) AS taken ON CONFLICT (account_id, node, epoch) \
     DO UPDATE SET granted = l.granted + excluded.granted, expires_at = greatest(l.expires_at, excluded.expires_at)";

const RAISE_ACCOUNTS: &str = "UPDATE accounts a SET leased = leased + taken.amount, \
     overcommit = greatest(overcommit, taken.beyond) FROM unnest($1, $2, $3) AS taken (id, amount, beyond) \
     WHERE a.id = taken.id";

async fn take(
    tx: &mut Tx<'_>,
    by: &Incarnation,
    accounts: &[AccountState],
    amounts: &[i64],
    ttl: Duration,
) -> Result<(), Fault> {
    let (mut leases, mut raised) = (Rows::default(), Rows::default());
    for (account, &amount) in accounts.iter().zip(amounts) {
        let beyond = if is_hard(account) { 0 } else { amount.saturating_sub(account.room()) };
        leases.push(&[account.account.0, amount].map(Cell::Int));
        raised.push(&[account.account.0, amount, beyond].map(Cell::Int));
    }
    let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
    let mut script = Script::default();
    if script.statement_for(RAISE_LEASES, leases)? {
        script.bind(by.node.to_string())?;
        script.bind(by.epoch)?;
        script.bind(tx.micros().saturating_add(ttl))?;
    }
    script.statement_for(RAISE_ACCOUNTS, raised)?;
    script.run(tx).await
}

/// Prolongs the life of the node, and with it every lease that it has; names their accounts.
pub(super) async fn renew(
    tx: &mut Tx<'_>,
    by: &Incarnation,
    ttl: Duration,
    name_is_ours: bool,
) -> Result<Renewal, Fault> {
    node::note_seen(tx, by, ttl, name_is_ours).await?;
    let sql = "SELECT account_id FROM leases WHERE node = $1 AND epoch = $2 ORDER BY account_id";
    let rows = query(sql).bind(&*by.node).bind(by.epoch).fetch_all(tx.connection()).await?;
    let accounts = rows.iter().map(|row| Ok(AccountId(row.try_get(0)?))).collect::<Result<_, Fault>>()?;
    Ok(Renewal { accounts, nodes: node::alive(tx).await?, now: tx.now })
}

/// Rights that go back to an account.
#[derive(Debug)]
pub(super) struct Return {
    pub(super) by: Incarnation,
    pub(super) account: AccountId,
    pub(super) amount: i64,
}

/// What is used beyond a lowered limit is allowed only as long as it is used: it does not become room again.
const LOWER_ACCOUNTS: &str = "UPDATE accounts a SET leased = leased - freed.amount, \
     overcommit = greatest(0, least(overcommit, settled + leased - freed.amount - granted)) \
     FROM unnest($1, $2) AS freed (id, amount) WHERE a.id = freed.id";

const LOWER_LEASES: &str = "UPDATE leases l SET granted = granted - freed.amount \
     FROM unnest($1, $2, $3, $4) AS freed (account_id, node, epoch, amount) \
     WHERE l.account_id = freed.account_id AND l.node = freed.node AND l.epoch = freed.epoch";

const END_LEASES: &str = "DELETE FROM leases l USING unnest($1, $2, $3) AS ended (account_id, node, epoch) \
     WHERE l.account_id = ended.account_id AND l.node = ended.node AND l.epoch = ended.epoch";

/// Gives rights back, at most what each lease has left; an empty lease ends. Bought money that comes back to a past
/// period follows to the newest one.
pub(super) async fn give_back(tx: &mut Tx<'_>, returns: &[Return]) -> Result<(), Fault> {
    let mut left = lock(tx, returns).await?;
    let mut freed = BTreeMap::<i64, i64>::new();
    for Return { by, account, amount } in returns {
        let Some(rest) = left.get_mut(&(account.0, by.clone())) else { continue };
        let amount = (*amount).clamp(0, rest.left);
        rest.left -= amount;
        rest.freed += amount;
        *freed.entry(account.0).or_default() += amount;
    }
    let (mut lowered, mut ended, mut accounts) = (Rows::default(), Rows::default(), Rows::default());
    for ((account, by), rest) in &left {
        let lease = [Cell::Int(*account), Cell::Text(&by.node), Cell::Int(by.epoch)];
        match rest.left {
            0 => ended.push(&lease),
            _ => lowered.push(&[lease[0], lease[1], lease[2], Cell::Int(rest.freed)]),
        }
    }
    freed.iter().for_each(|(&account, &amount)| accounts.push(&[account, amount].map(Cell::Int)));
    let mut script = Script::default();
    script.statement_for(LOWER_LEASES, lowered)?;
    script.statement_for(END_LEASES, ended)?;
    script.statement_for(LOWER_ACCOUNTS, accounts)?;
    script.run(tx).await?;
    fail_point!("give_back.account_lowered");
    let back: Vec<AccountId> = freed.iter().filter(|(_, amount)| **amount > 0).map(|(&id, _)| AccountId(id)).collect();
    notify::returned(tx, &back).await?;
    account::roll_over_past(tx, &freed.into_keys().collect::<Vec<_>>()).await
}

#[derive(Debug, Default)]
struct Rest {
    left: i64,
    freed: i64,
}

/// Locks the accounts in the order of their ids, and with them their leases; says what each lease has left.
async fn lock(tx: &mut Tx<'_>, returns: &[Return]) -> Result<HashMap<(i64, Incarnation), Rest>, Fault> {
    let accounts: Vec<i64> = returns.iter().map(|back| back.account.0).collect();
    let sql = "SELECT FROM accounts WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
    query(sql).bind(&accounts).execute(tx.connection()).await?;
    let nodes: Vec<String> = returns.iter().map(|back| back.by.node.to_string()).collect();
    let epochs: Vec<i64> = returns.iter().map(|back| back.by.epoch).collect();
    let sql = "SELECT account_id, node, epoch, granted - consumed AS remainder FROM leases \
         WHERE (account_id, node, epoch) IN (SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[]))";
    let rows = query(sql).bind(accounts).bind(nodes).bind(epochs).fetch_all(tx.connection()).await?;
    let rest = |row: &PgRow| -> Result<_, Fault> {
        let (by, left) = (Incarnation { node: row.text("node")?, epoch: row.int("epoch")? }, row.int("remainder")?);
        Ok(((row.int("account_id")?, by), Rest { left, freed: 0 }))
    };
    rows.iter().map(rest).collect()
}
