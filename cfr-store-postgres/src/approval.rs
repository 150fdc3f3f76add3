//! [`ApprovalStore`]: proposals as JSON, beside the columns that they are found by, and what a grant asks of them.

use async_trait::async_trait;
use cfr_billing::approval::{Alone, Consent, Proposal, ProposalFilter};
use cfr_billing::audit_log::{Act, Action};
use cfr_billing::budget::Grant;
use cfr_billing::store::{ApprovalStore, NewGrant, Page, PageRequest, StoreError};
use cfr_core::id::ProposalId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::PostgresStore;
use crate::audit_log;
use crate::error::Fault;
use crate::ledger::grant;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, json, query, uuid, word};
use crate::writer::{Tx, write};

#[async_trait]
impl ApprovalStore for PostgresStore {
    async fn add_proposal(&self, new: &Proposal, act: &Act) -> Result<Proposal, StoreError> {
        write!(self, act.at, |tx| add(tx, new, act)).await
    }

    async fn proposal(&self, id: ProposalId) -> Result<Proposal, StoreError> {
        Ok(by_id(&mut *self.reader().await?, id).await?)
    }

    async fn proposals(&self, filter: &ProposalFilter, page: PageRequest) -> Result<Page<Proposal>, StoreError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM proposals WHERE TRUE");
        if let Some(tenant) = filter.tenant {
            sql.push(" AND tenant_id = ").push_bind(uuid(tenant.to_bytes()));
        }
        if let Some(status) = filter.status {
            sql.push(" AND status = ").push_bind(word(&status)?);
        }
        if let Some(after) = page.after {
            sql.push(" AND id < ").push_bind(Uuid::from_u128(after.0));
        }
        sql.push(" ORDER BY id DESC LIMIT ").push_bind(rows_wanted(page));
        let list = sql.build().persistent(false);
        let rows = list.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, from_row, |row| row.id.as_u128())?)
    }

    async fn reject_proposal(&self, id: ProposalId, why: &str, act: &Act) -> Result<Proposal, StoreError> {
        write!(self, act.at, |tx| reject(tx, id, why, act)).await
    }
}

async fn add(tx: &mut Tx<'_>, new: &Proposal, act: &Act) -> Result<Proposal, Fault> {
    let known = query("SELECT entry FROM proposals WHERE idempotency_key = $1").bind(new.idempotency_key.clone());
    if let Some(row) = known.fetch_optional(tx.connection()).await? {
        let known = from_row(&row)?;
        let conflict = || StoreError::conflict("the idempotency key was used before with other terms");
        return if known.is_same(new) { Ok(known) } else { Err(conflict().into()) };
    }
    insert(tx.connection(), new).await.map_err(|fault| fault.or_conflict("somebody proposes this at this moment"))?;
    audit_log::created(tx, act, Action::ProposalMade, new.clone()).await
}

async fn reject(tx: &mut Tx<'_>, id: ProposalId, why: &str, act: &Act) -> Result<Proposal, Fault> {
    let before = lock(tx.connection(), id).await?;
    let after = before.rejected(why, act)?;
    write(tx.connection(), &after).await?;
    audit_log::changed(tx, act, Action::ProposalRejected, &before, after).await
}

/// The proposal that a grant books, if it is open to its actor.
pub(crate) async fn proposal_of(tx: &mut Tx<'_>, new: &NewGrant, act: &Act) -> Result<Option<Proposal>, Fault> {
    let Consent::Second(id) = new.consent else { return Ok(None) };
    let proposal = lock(tx.connection(), id).await?;
    proposal.check_open(act)?;
    Ok(Some(proposal))
}

/// Notes that a grant was the consent to a proposal.
pub(crate) async fn approve(tx: &mut Tx<'_>, before: &Proposal, grant: &Grant, act: &Act) -> Result<(), Fault> {
    let after = before.approved(grant.id, act)?;
    write(tx.connection(), &after).await?;
    audit_log::changed(tx, act, Action::ProposalApproved, before, after).await.map(drop)
}

/// Passes when a grant that is written already, and what counts with it, is not too much for one person.
pub(crate) async fn check_alone(tx: &mut Tx<'_>, alone: &Alone, written: &Grant) -> Result<(), Fault> {
    let sql = "SELECT g.* FROM grants g WHERE g.budget_id = $1 AND g.id >= $2 \
         AND NOT EXISTS (SELECT 1 FROM proposals p WHERE p.grant_id = g.id)";
    let first = alone.first_id().to_bytes();
    let query = query(sql).bind(uuid(written.budget.to_bytes())).bind(uuid(first));
    let rows = query.fetch_all(tx.connection()).await?;
    let grants = rows.iter().map(grant::from_row).collect::<Result<Vec<_>, Fault>>()?;
    let counted = grants.iter().filter(|grant| alone.counts(grant));
    Ok(alone.check(counted.map(|grant| grant.amount_nanos))?)
}

async fn by_id(connection: &mut PgConnection, id: ProposalId) -> Result<Proposal, Fault> {
    let found = query("SELECT entry FROM proposals WHERE id = $1").bind(uuid(id.to_bytes()));
    from_row(&found.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "proposal" })?)
}

/// A proposal that nobody else changes before this transaction ends.
async fn lock(connection: &mut PgConnection, id: ProposalId) -> Result<Proposal, Fault> {
    let found = query("SELECT entry FROM proposals WHERE id = $1 FOR UPDATE").bind(uuid(id.to_bytes()));
    from_row(&found.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "proposal" })?)
}

pub(crate) async fn insert(connection: &mut PgConnection, new: &Proposal) -> Result<(), Fault> {
    let sql = "INSERT INTO proposals (id, tenant_id, status, idempotency_key, grant_id, entry) VALUES ($1, $2, $3, $4, $5, $6::json)";
    let insert = query(sql)
        .bind(uuid(new.id.to_bytes()))
        .bind(new.tenant.map(|id| uuid(id.to_bytes())))
        .bind(word(&new.status)?)
        .bind(new.idempotency_key.clone())
        .bind(new.grant.map(|id| uuid(id.to_bytes())))
        .bind(json(new)?);
    insert.execute(connection).await?;
    Ok(())
}

async fn write(connection: &mut PgConnection, after: &Proposal) -> Result<(), Fault> {
    let sql = "UPDATE proposals SET status = $2, grant_id = $3, entry = $4::json WHERE id = $1";
    let update = query(sql)
        .bind(uuid(after.id.to_bytes()))
        .bind(word(&after.status)?)
        .bind(after.grant.map(|id| uuid(id.to_bytes())))
        .bind(json(after)?);
    update.execute(connection).await?;
    Ok(())
}

pub(crate) fn from_row(row: &PgRow) -> Result<Proposal, Fault> {
    row.json("entry")
}
