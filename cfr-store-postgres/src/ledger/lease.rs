//! Leases: spending rights of the nodes' lives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use cfr_billing::store::{AccountState, AcquireError, Incarnation, LeaseAsk, LeaseGrant, Renewal, StoreError};
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::ledger::{BudgetSpec, LimitPolicy};
use cfr_core::time::{PeriodWindow, Timestamp};
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

/// What the store says to a group of asks.
pub(super) type Acquired = Result<Vec<LeaseGrant>, AcquireError>;
/// Budgets on which there can be no lease, and why.
pub(super) type Refusals = HashMap<BudgetId, AcquireError>;

/// What an acquisition came to.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Vec<Acquired>),
    /// These budgets have no open period, or do not exist. Nothing was taken.
    Unopened(Vec<BudgetId>),
}

impl Outcome {
    /// Whether anything was written.
    pub(super) fn is_a_change(&self) -> bool {
        matches!(self, Self::Answered(answers) if answers.iter().any(Result::is_ok))
    }
}

/// Rights for each group on every budget that it asks for, or on none.
pub(super) async fn acquire(
    tx: &mut Tx<'_>,
    by: &Incarnation,
    groups: &[&[LeaseAsk]],
    refusals: &Refusals,
    ttl: Duration,
) -> Result<Outcome, Fault> {
    let refusal = |asks: &[LeaseAsk]| asks.iter().find_map(|ask| refusals.get(&ask.budget)).cloned();
    let possible = groups.iter().filter(|asks| refusal(asks).is_none());
    let budgets: BTreeSet<BudgetId> = possible.flat_map(|asks| asks.iter()).map(|ask| ask.budget).collect();
    let mut till = Till(lock_newest(tx, by, &budgets).await?);
    let unopened: Vec<BudgetId> = budgets.into_iter().filter(|budget| !till.is_open(*budget, tx.now)).collect();
    if !unopened.is_empty() {
        return Ok(Outcome::Unopened(unopened));
    }
    let answers = groups.iter().map(|asks| refusal(asks).map_or_else(|| till.answer(asks), Err)).collect();
    write(tx, by, &till, ttl).await?;
    fail_point!("acquire.account_raised");
    Ok(Outcome::Answered(answers))
}

/// The locked accounts, as the groups that were answered leave them.
#[derive(Debug)]
struct Till(HashMap<BudgetId, Drawer>);

#[derive(Debug)]
struct Drawer {
    account: AccountState,
    /// What was taken; none when nobody who was granted anything asked for it.
    taken: Option<i64>,
}

impl Till {
    fn is_open(&self, budget: BudgetId, now: Timestamp) -> bool {
        self.0.get(&budget).is_some_and(|drawer| account::is_open(&drawer.account, now))
    }

    /// Everything that is asked for, or the reason for nothing.
    fn answer(&mut self, asks: &[LeaseAsk]) -> Acquired {
        let asked = || asks.iter().filter_map(|ask| Some((&self.0.get(&ask.budget)?.account, ask)));
        let short = asked().filter(|(account, ask)| is_hard(account) && account.room().max(0) < ask.min);
        if let Some((account, _)) = short.min_by_key(|(account, _)| account.room()) {
            return Err(denied(account));
        }
        if asked().any(|(account, ask)| !is_in_range(account, grantable(account, ask))) {
            return Err(StoreError::invalid("more is asked for than the books can count").into());
        }
        Ok(asks.iter().filter_map(|ask| Some(self.0.get_mut(&ask.budget)?.take(ask))).collect())
    }
}

impl Drawer {
    fn take(&mut self, ask: &LeaseAsk) -> LeaseGrant {
        let amount = grantable(&self.account, ask);
        self.taken = Some(self.taken.unwrap_or(0) + amount);
        self.account.leased += amount;
        lease_grant(&self.account, amount)
    }
}

/// Whether the sums of the account can take this much more.
fn is_in_range(account: &AccountState, amount: i64) -> bool {
    account.settled.checked_add(account.leased).and_then(|used| used.checked_add(amount)).is_some()
}

/// The life's row first: whoever declares it dead waits until what is acquired here is there to be taken back. Then the
/// accounts, in the order of their ids.
const LOCK_NEWEST: &str = "WITH life AS MATERIALIZED (SELECT 1 FROM nodes WHERE name = $1 AND epoch = $2 AND NOT fenced \
       FOR KEY SHARE), \
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
    budgets: &BTreeSet<BudgetId>,
) -> Result<HashMap<BudgetId, Drawer>, Fault> {
    let budgets: Vec<Uuid> = budgets.iter().map(|budget| uuid(budget.to_bytes())).collect();
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
    let drawer = |account: AccountState| (account.budget, Drawer { account, taken: None });
    found.map(account::from_row).map(|account| account.map(drawer)).collect()
}

/// Opens the current periods of budgets that are asked for. What is in the way of a lease, where anything is.
pub(super) async fn open_periods(tx: &mut Tx<'_>, budgets: &[BudgetId]) -> Result<Refusals, Fault> {
    let known = budget::lock_active(tx, budgets).await?;
    let ended = account::open_all(tx, &known).await?;
    let ids: BTreeSet<BudgetId> = known.iter().map(|budget| budget.spec.id).collect();
    let unknown = budgets.iter().filter(|budget| !ids.contains(budget));
    let unknown = unknown.map(|&budget| (budget, AcquireError::UnknownBudget { budget }));
    Ok(unknown.chain(ended.into_iter().map(|(spec, last)| (spec.id, without_next(tx.now, spec, last)))).collect())
}

fn without_next(now: Timestamp, budget: &BudgetSpec, last: Option<AccountState>) -> AcquireError {
    let period = last.map_or(PeriodWindow { start: now, end: None }, |last| last.period);
    AcquireError::Denied { budget: budget.id, scope: budget.scope, currency: budget.currency, room: 0, period }
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

fn lease_grant(account: &AccountState, granted: i64) -> LeaseGrant {
    LeaseGrant {
        budget: account.budget,
        account: account.account,
        scope: account.scope,
        currency: account.currency,
        policy: account.policy,
        period: account.period,
        granted,
        room: account.room(),
    }
}

const RAISE_LEASES: &str = "INSERT INTO leases AS l (account_id, granted, node, epoch, expires_at) \
     SELECT taken.*, $3, $4, $5 FROM unnest($1, $2) AS taken ON CONFLICT (account_id, node, epoch) \
     DO UPDATE SET granted = l.granted + excluded.granted, expires_at = greatest(l.expires_at, excluded.expires_at)";

const RAISE_ACCOUNTS: &str = "UPDATE accounts a SET leased = leased + taken.amount, \
     overcommit = greatest(overcommit, taken.beyond) FROM unnest($1, $2, $3) AS taken (id, amount, beyond) \
     WHERE a.id = taken.id";

/// Writes down what was taken, in the order of the accounts.
async fn write(tx: &mut Tx<'_>, by: &Incarnation, till: &Till, ttl: Duration) -> Result<(), Fault> {
    let taken = till.0.values().filter_map(|drawer| Some((drawer.account.account.0, (&drawer.account, drawer.taken?))));
    let (mut leases, mut raised) = (Rows::default(), Rows::default());
    for (id, (account, amount)) in taken.collect::<BTreeMap<_, _>>() {
        let beyond = if is_hard(account) { 0 } else { account.room().saturating_neg() };
        leases.push(&[id, amount].map(Cell::Int));
        raised.push(&[id, amount, beyond].map(Cell::Int));
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
