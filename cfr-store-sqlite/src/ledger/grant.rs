//! Grants: money for a budget's current period, each once per idempotency key.

use std::sync::Arc;

use cfr_billing::approval::Consent;
use cfr_billing::audit_log::{Act, Action, Actor, Event, GrantOf};
use cfr_billing::budget::{Budget, Grant, GrantKind};
use cfr_billing::store::{NewGrant, Page, PageRequest, StoreError};
use cfr_core::id::{AccountId, BudgetId, GrantId, TenantId};
use fail::fail_point;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::account;
use crate::approval;
use crate::audit_log;
use crate::bulk::{Rows, Script};
use crate::catalog::budget;
use crate::chain::{self, Amounts, Entries, EntryKind};
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, blob, word};
use crate::writer::Tx;

/// Grants once; a repeated key returns the first grant.
pub(super) async fn grant(tx: &mut Tx<'_>, new: &NewGrant) -> Result<Grant, Fault> {
    let act = Act { by: Arc::clone(&new.actor), at: tx.now };
    let proposal = approval::proposal_of(tx, new, &act).await?;
    if let Some(known) = by_key(tx.connection(), &new.idempotency_key).await? {
        let same = known.budget == new.budget && known.kind == new.kind && known.amount_nanos == new.amount;
        let conflict = || StoreError::conflict("the idempotency key was used before with other terms");
        return if same && proposal.is_none() { Ok(known) } else { Err(conflict().into()) };
    }
    let budget = budget::active(tx.connection(), new.budget).await?.ok_or(StoreError::NotFound { what: "budget" })?;
    let account = account::open(tx, &budget).await?.ok_or(StoreError::NotFound { what: "open period" })?;
    let grant = book(tx, account.account, new).await?;
    if let Consent::Alone(alone) = &new.consent {
        approval::check_alone(tx, alone, &grant).await?;
    }
    tell(tx, &act, &grant, budget.tenant).await?;
    if let Some(proposal) = &proposal {
        approval::approve(tx, proposal, &grant, &act).await?;
    }
    Ok(grant)
}

async fn tell(tx: &mut Tx<'_>, act: &Act, grant: &Grant, tenant: Option<TenantId>) -> Result<(), Fault> {
    audit_log::record(tx, act, &Event::created(Action::GrantBooked, &GrantOf { grant, tenant })).await
}

/// Changes the open period, if there is one, by the difference of two limits.
pub(crate) async fn adjust_limit(tx: &mut Tx<'_>, budget: &Budget, by: i64, actor: &Arc<Actor>) -> Result<(), Fault> {
    let newest = account::newest(tx.connection(), budget.spec.id).await?;
    let open = newest.filter(|account| account.period.end.is_none_or(|end| tx.now < end) && by != 0);
    let Some(account) = open else { return Ok(()) };
    let key = format!("limit:{}:{}", budget.spec.id, budget.version);
    let mut grant = NewGrant::by_terms(budget.spec.id, GrantKind::Adjustment, by, &key);
    grant.reason = "the limit was changed".into();
    grant.actor = Arc::clone(actor);
    book(tx, account.account, &grant).await.map(drop)
}

/// Writes a grant, raises the account by it and seals it: a batch of its own.
pub(super) async fn book(tx: &mut Tx<'_>, account: AccountId, new: &NewGrant) -> Result<Grant, Fault> {
    let grant = Grant {
        id: GrantId::generate(tx.now),
        budget: new.budget,
        account,
        kind: new.kind,
        amount_nanos: new.amount,
        idempotency_key: new.idempotency_key.clone(),
        reason: new.reason.clone(),
        actor: new.actor.label(),
        at: tx.now,
    };
    insert(tx.connection(), &grant).await?;
    fail_point!("grant.inserted");
    raise(tx.connection(), account, new.amount, new.overcommit).await?;
    fail_point!("grant.account_raised");
    let entry = Amounts { amount: new.amount, overrun: 0 };
    let entries = Entries::from([((account, EntryKind::Grant), entry)]);
    let mut script = Script::default();
    chain::append(tx, &mut script, ("", 0), (&entries, Rows::default())).await?;
    script.run(tx.connection()).await?;
    Ok(grant)
}

/// What is used beyond the limit stays allowed, and only that: it shrinks when the limit rises. Without `overcommit` it
/// does not grow, so that the constraint of the table refuses what is not there.
async fn raise(
    connection: &mut SqliteConnection,
    account: AccountId,
    amount: i64,
    overcommit: bool,
) -> Result<(), Fault> {
    let sql = "UPDATE accounts SET granted = granted + ?2, overcommit = max(0, \
         min(CASE WHEN ?3 THEN 9223372036854775807 ELSE overcommit END, settled + leased - granted - ?2)) WHERE id = ?1";
    let update = sqlx::query(sql).bind(account.0).bind(amount).bind(overcommit).execute(connection).await;
    update.map_err(|error| Fault::from(error).or_conflict("the budget has less left than is to be taken"))?;
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, grant: &Grant) -> Result<(), Fault> {
    let sql = "INSERT INTO grants (id, budget_id, account_id, kind, amount, idempotency_key, reason, actor, at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(blob(grant.id.to_bytes()))
        .bind(blob(grant.budget.to_bytes()))
        .bind(grant.account.0)
        .bind(word(&grant.kind)?)
        .bind(grant.amount_nanos)
        .bind(grant.idempotency_key.clone())
        .bind(grant.reason.clone())
        .bind(grant.actor.clone())
        .bind(grant.at.as_microsecond())
        .execute(connection)
        .await?;
    Ok(())
}

async fn by_key(connection: &mut SqliteConnection, key: &str) -> Result<Option<Grant>, Fault> {
    let row =
        sqlx::query("SELECT * FROM grants WHERE idempotency_key = ?").bind(key).fetch_optional(connection).await?;
    row.as_ref().map(from_row).transpose()
}

/// Grants of a budget, the newest first.
pub(crate) async fn list(readers: &SqlitePool, budget: BudgetId, page: PageRequest) -> Result<Page<Grant>, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM grants WHERE budget_id = ");
    sql.push_bind(blob(budget.to_bytes()));
    if let Some(after) = page.after {
        sql.push(" AND id < ").push_bind(after.0.to_be_bytes().to_vec());
    }
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(rows_wanted(page));
    let rows = sql.build().fetch_all(readers).await?;
    page_of(rows, page, from_row, |grant| grant.id.as_u128())
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<Grant, Fault> {
    Ok(Grant {
        id: row.id("id", GrantId::from_bytes)?,
        budget: row.id("budget_id", BudgetId::from_bytes)?,
        account: AccountId(row.int("account_id")?),
        kind: row.word("kind")?,
        amount_nanos: row.int("amount")?,
        idempotency_key: row.text("idempotency_key")?,
        reason: row.text("reason")?,
        actor: row.text("actor")?,
        at: row.time("at")?,
    })
}
