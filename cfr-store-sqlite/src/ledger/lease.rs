//! Leases: spending rights of the node's current life.

use std::time::Duration;

use cfr_billing::store::{AccountState, AcquireError, Incarnation, LeaseAsk, LeaseGrant, Renewal, StoreError};
use cfr_core::id::AccountId;
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::{PeriodWindow, Timestamp};
use fail::fail_point;
use sqlx::Row;

use super::{account, node};
use crate::catalog::budget;
use crate::error::Fault;
use crate::writer::Tx;

/// Rights on every budget asked for, or on none. The periods that it opens stay open when it denies.
pub(super) async fn acquire(
    tx: &mut Tx<'_>,
    by: &Incarnation,
    asks: &[LeaseAsk],
) -> Result<Vec<LeaseGrant>, AcquireError> {
    node::check_alive(tx, by).await?;
    let mut accounts = Vec::with_capacity(asks.len());
    for ask in asks {
        accounts.push(open_for_ask(tx, ask).await?);
    }
    let short = accounts.iter().zip(asks).filter(|(account, ask)| is_hard(account) && account.room().max(0) < ask.min);
    if let Some((account, _)) = short.min_by_key(|(account, _)| account.room()) {
        return Err(denied(account));
    }
    if accounts.iter().zip(asks).any(|(account, ask)| !is_in_range(account, grantable(account, ask))) {
        return Err(StoreError::invalid("more is asked for than the books can count").into());
    }
    let mut granted = Vec::with_capacity(asks.len());
    for (account, ask) in accounts.into_iter().zip(asks) {
        let amount = grantable(&account, ask);
        take(tx, by, &account, amount).await?;
        granted.push(lease_grant(account, amount));
    }
    Ok(granted)
}

async fn open_for_ask(tx: &mut Tx<'_>, ask: &LeaseAsk) -> Result<AccountState, AcquireError> {
    let unknown = AcquireError::UnknownBudget { budget: ask.budget };
    let budget = budget::active(tx.connection(), ask.budget).await?.ok_or(unknown)?;
    if let Some(account) = account::open(tx, &budget).await? {
        return Ok(account);
    }
    let last = account::newest(tx.connection(), ask.budget).await?;
    let period = last.map_or(PeriodWindow { start: tx.now, end: None }, |last| last.period);
    let (scope, currency) = (budget.spec.scope, budget.spec.currency);
    Err(AcquireError::Denied { budget: ask.budget, scope, currency, room: 0, period })
}

fn is_hard(account: &AccountState) -> bool {
    account.policy == LimitPolicy::Hard
}

/// Whether the sums of the account can take this much more.
fn is_in_range(account: &AccountState, amount: i64) -> bool {
    account.settled.checked_add(account.leased).and_then(|used| used.checked_add(amount)).is_some()
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

async fn take(tx: &mut Tx<'_>, by: &Incarnation, account: &AccountState, amount: i64) -> Result<(), Fault> {
    let sql = "INSERT INTO leases (account_id, node, epoch, granted) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (account_id, node, epoch) DO UPDATE SET granted = granted + ?4";
    let id = account.account.0;
    sqlx::query(sql).bind(id).bind(&*by.node).bind(by.epoch).bind(amount).execute(tx.connection()).await?;
    fail_point!("acquire.lease_raised");
    let beyond = if is_hard(account) { 0 } else { amount.saturating_sub(account.room()) };
    let sql = "UPDATE accounts SET leased = leased + ?2, overcommit = max(overcommit, ?3) WHERE id = ?1";
    sqlx::query(sql).bind(id).bind(amount).bind(beyond).execute(tx.connection()).await?;
    fail_point!("acquire.account_raised");
    Ok(())
}

/// The accounts that this life holds rights on. They need no prolonging: a lease in a file ends with its process.
pub(super) async fn renew(tx: &mut Tx<'_>, by: &Incarnation, ttl: Duration, now: Timestamp) -> Result<Renewal, Fault> {
    node::check_alive(tx, by).await?;
    node::note_seen(tx, by, ttl).await?;
    let sql = "SELECT account_id FROM leases WHERE node = ? AND epoch = ? ORDER BY account_id";
    let rows = sqlx::query(sql).bind(&*by.node).bind(by.epoch).fetch_all(tx.connection()).await?;
    let accounts = rows.iter().map(|row| Ok(AccountId(row.try_get(0)?))).collect::<Result<_, Fault>>()?;
    Ok(Renewal { accounts, nodes: node::alive(tx).await?, now })
}

/// Gives rights back, at most what the lease has left; an empty lease ends. Bought money that comes back to a past
/// period follows to the newest one.
pub(super) async fn give_back(tx: &mut Tx<'_>, by: &Incarnation, account: AccountId, amount: i64) -> Result<(), Fault> {
    let Some(left) = left(tx, by, account).await? else { return Ok(()) };
    let amount = amount.clamp(0, left);
    let sql = "UPDATE leases SET granted = granted - ?4 WHERE account_id = ?1 AND node = ?2 AND epoch = ?3";
    let lease = sqlx::query(sql).bind(account.0).bind(&*by.node).bind(by.epoch).bind(amount);
    lease.execute(tx.connection()).await?;
    fail_point!("give_back.lease_lowered");
    let sql = "DELETE FROM leases WHERE account_id = ?1 AND node = ?2 AND epoch = ?3 AND granted = consumed";
    sqlx::query(sql).bind(account.0).bind(&*by.node).bind(by.epoch).execute(tx.connection()).await?;
    free(tx, account, amount).await?;
    fail_point!("give_back.account_lowered");
    account::roll_over_if_past(tx, account).await
}

/// What a lease has left; `None` when there is no such lease.
pub(super) async fn left(tx: &mut Tx<'_>, by: &Incarnation, account: AccountId) -> Result<Option<i64>, Fault> {
    let sql = "SELECT granted - consumed FROM leases WHERE account_id = ? AND node = ? AND epoch = ?";
    let lease = sqlx::query_scalar(sql).bind(account.0).bind(&*by.node).bind(by.epoch);
    Ok(lease.fetch_optional(tx.connection()).await?)
}

/// What is used beyond a lowered limit is allowed only as long as it is used: it does not become room again.
async fn free(tx: &mut Tx<'_>, account: AccountId, amount: i64) -> Result<(), Fault> {
    let sql = "UPDATE accounts SET leased = leased - ?2, \
         overcommit = max(0, min(overcommit, settled + leased - ?2 - granted)) WHERE id = ?1";
    sqlx::query(sql).bind(account.0).bind(amount).execute(tx.connection()).await?;
    Ok(())
}
