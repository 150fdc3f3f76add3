//! Grants: money for a budget's current period, each once per idempotency key.

use std::sync::Arc;

use cfr_billing::approval::Consent;
use cfr_billing::audit_log::{Act, Action, Actor, Event, GrantOf};
use cfr_billing::budget::{Budget, Grant, GrantKind};
use cfr_billing::store::{NewGrant, Page, PageRequest, StoreError};
use cfr_core::id::{AccountId, BudgetId, GrantId, TenantId};
use fail::fail_point;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::account;
use crate::approval;
use crate::audit_log;
use crate::bulk::{Cell, Rows, Script};
use crate::catalog::budget;
use crate::chain::{self, Entries, EntryKind, Usage};
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, query, uuid, word};
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
    // Somebody may have opened the next period since it was read: what was bought must not stay behind.
    account::roll_over_past(tx, &[account.account.0]).await?;
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
async fn book(tx: &mut Tx<'_>, account: AccountId, new: &NewGrant) -> Result<Grant, Fault> {
    let grant = grant_on(tx, account, new);
    book_all(tx, std::slice::from_ref(&grant), new.overcommit).await?;
    Ok(grant)
}

/// Writes grants that follow from the terms of budgets, raises their accounts and seals it all: one batch.
pub(super) async fn book_by_terms(tx: &mut Tx<'_>, new: &[(AccountId, NewGrant)]) -> Result<(), Fault> {
    let grants: Vec<Grant> = new.iter().map(|(account, new)| grant_on(tx, *account, new)).collect();
    if grants.is_empty() { Ok(()) } else { book_all(tx, &grants, true).await }
}

fn grant_on(tx: &Tx<'_>, account: AccountId, new: &NewGrant) -> Grant {
    Grant {
        id: GrantId::generate(tx.now),
        budget: new.budget,
        account,
        kind: new.kind,
        amount_nanos: new.amount,
        idempotency_key: new.idempotency_key.clone(),
        reason: new.reason.clone(),
        actor: new.actor.label(),
        at: tx.now,
    }
}

const INSERT: &str = "INSERT INTO grants (id, budget_id, account_id, kind, amount, idempotency_key, reason, actor, at) \
     SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// What is used beyond the limit stays allowed, and only that: it shrinks when the limit rises. Where `beyond` is zero it
/// does not grow, so that the constraint of the table refuses what is not there.
const RAISE: &str = "UPDATE accounts a SET granted = granted + raised.amount, overcommit = greatest(0, \
     least(greatest(overcommit, raised.beyond), settled + leased - granted - raised.amount)) \
     FROM unnest($1, $2, $3) AS raised (id, amount, beyond) WHERE a.id = raised.id";

/// With `overcommit` they may leave less than is used.
async fn book_all(tx: &mut Tx<'_>, grants: &[Grant], overcommit: bool) -> Result<(), Fault> {
    tx.must_seal()?;
    let mut entries = Entries::new();
    for grant in grants {
        let entry = entries.entry((grant.account, EntryKind::Grant)).or_default();
        entry.amount = entry.amount.saturating_add(grant.amount_nanos);
    }
    let beyond = if overcommit { i64::MAX } else { 0 };
    let mut raised = Rows::default();
    entries.iter().for_each(|((account, _), sum)| raised.push(&[account.0, sum.amount, beyond].map(Cell::Int)));
    let mut script = Script::default();
    script.statement_for(INSERT, rows(grants)?)?;
    script.statement_for(RAISE, raised)?;
    chain::append(tx, &mut script, ("", 0), (&entries, Usage::default())).await?;
    fail_point!("grant.sealed");
    script.run(tx).await.map_err(|fault| match fault.is_collision() {
        true => fault,
        false => fault.or_conflict("the budget has less left than is to be taken"),
    })?;
    fail_point!("grant.written");
    Ok(())
}

fn rows(grants: &[Grant]) -> Result<Rows, Fault> {
    let mut rows = Rows::default();
    for grant in grants {
        rows.push(&[
            Cell::Id(grant.id.to_bytes()),
            Cell::Id(grant.budget.to_bytes()),
            Cell::Int(grant.account.0),
            Cell::Text(&word(&grant.kind)?),
            Cell::Int(grant.amount_nanos),
            Cell::Text(&grant.idempotency_key),
            Cell::Text(&grant.reason),
            Cell::Text(&grant.actor),
            Cell::Int(grant.at.as_microsecond()),
        ]);
    }
    Ok(rows)
}

async fn by_key(connection: &mut PgConnection, key: &str) -> Result<Option<Grant>, Fault> {
    let row = query("SELECT * FROM grants WHERE idempotency_key = $1").bind(key).fetch_optional(connection).await?;
    row.as_ref().map(from_row).transpose()
}

/// Grants of a budget, the newest first.
pub(crate) async fn list(
    connection: &mut PgConnection,
    budget: BudgetId,
    page: PageRequest,
) -> Result<Page<Grant>, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM grants WHERE budget_id = ");
    sql.push_bind(uuid(budget.to_bytes()));
    if let Some(after) = page.after {
        sql.push(" AND id < ").push_bind(Uuid::from_u128(after.0));
    }
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(rows_wanted(page));
    let rows = sql.build().persistent(false).fetch_all(connection).await?;
    page_of(rows, page, from_row, |grant| grant.id.as_u128())
}

pub(crate) fn from_row(row: &PgRow) -> Result<Grant, Fault> {
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
