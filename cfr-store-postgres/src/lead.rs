//! [`LeadStore`]: leads as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::lead::{Lead, LeadFilter};
use cfr_billing::people::Mail;
use cfr_billing::store::{LeadStore, Page, PageRequest, StoreError};
use cfr_core::id::LeadId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::PostgresStore;
use crate::audit_log;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::people::mail;
use crate::row::{Fields, json, query, uuid, word};
use crate::writer::{Tx, write};

#[async_trait]
impl LeadStore for PostgresStore {
    async fn add_lead(&self, new: &Lead, letter: Option<&Mail>, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| add(tx, new, letter, act)).await
    }

    async fn lead(&self, id: LeadId) -> Result<Lead, StoreError> {
        Ok(by_id(&mut *self.reader().await?, id).await?)
    }

    async fn leads(&self, filter: &LeadFilter, page: PageRequest) -> Result<Page<Lead>, StoreError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM leads WHERE TRUE");
        if let Some(status) = filter.status {
            sql.push(" AND status = ").push_bind(word(&status)?);
        }
        if let Some(email) = &filter.email {
            sql.push(" AND email_normal = ").push_bind(Lead::address(email));
        }
        if let Some(before) = filter.before {
            sql.push(" AND updated_at < ").push_bind(before.as_microsecond());
        }
        if let Some(after) = page.after {
            sql.push(" AND id < ").push_bind(Uuid::from_u128(after.0));
        }
        sql.push(" ORDER BY id DESC LIMIT ").push_bind(rows_wanted(page));
        let list = sql.build().persistent(false);
        let rows = list.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, from_row, |row| row.id.as_u128())?)
    }

    async fn update_lead(&self, new: &Lead, act: &Act) -> Result<Lead, StoreError> {
        write!(self, act.at, |tx| update(tx, new, act)).await
    }

    async fn remove_lead(&self, id: LeadId, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| remove(tx, id, act)).await
    }
}

async fn add(tx: &mut Tx<'_>, new: &Lead, letter: Option<&Mail>, act: &Act) -> Result<(), Fault> {
    insert(tx.connection(), new).await?;
    if let Some(letter) = letter {
        mail::insert(tx, letter).await?;
    }
    audit_log::record(tx, act, &Event::created(Action::LeadReceived, new)).await
}

async fn update(tx: &mut Tx<'_>, new: &Lead, act: &Act) -> Result<Lead, Fault> {
    let before = lock(tx.connection(), new.id).await?;
    if before.version != new.version {
        return Err(StoreError::conflict("the lead was changed meanwhile").into());
    }
    let after = Lead { version: new.version + 1, updated_at: tx.now, ..new.clone() };
    let sql = "UPDATE leads SET status = $2, email_normal = $3, updated_at = $4, entry = $5::json WHERE id = $1";
    let update = query(sql)
        .bind(uuid(after.id.to_bytes()))
        .bind(word(&after.status)?)
        .bind(Lead::address(&after.email))
        .bind(after.updated_at.as_microsecond())
        .bind(json(&after)?);
    update.execute(tx.connection()).await?;
    audit_log::changed(tx, act, Action::LeadChanged, &before, after).await
}

async fn remove(tx: &mut Tx<'_>, id: LeadId, act: &Act) -> Result<(), Fault> {
    let gone = lock(tx.connection(), id).await?;
    query("DELETE FROM leads WHERE id = $1").bind(uuid(id.to_bytes())).execute(tx.connection()).await?;
    audit_log::record(tx, act, &Event::created(Action::LeadRemoved, &gone)).await
}

async fn by_id(connection: &mut PgConnection, id: LeadId) -> Result<Lead, Fault> {
    let found = query("SELECT entry FROM leads WHERE id = $1").bind(uuid(id.to_bytes()));
    from_row(&found.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "lead" })?)
}

/// A lead that nobody else changes before this transaction ends.
async fn lock(connection: &mut PgConnection, id: LeadId) -> Result<Lead, Fault> {
    let found = query("SELECT entry FROM leads WHERE id = $1 FOR UPDATE").bind(uuid(id.to_bytes()));
    from_row(&found.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "lead" })?)
}

pub(crate) async fn insert(connection: &mut PgConnection, new: &Lead) -> Result<(), Fault> {
    let sql = "INSERT INTO leads (id, status, email_normal, updated_at, entry) VALUES ($1, $2, $3, $4, $5::json)";
    let insert = query(sql)
        .bind(uuid(new.id.to_bytes()))
        .bind(word(&new.status)?)
        .bind(Lead::address(&new.email))
        .bind(new.updated_at.as_microsecond())
        .bind(json(new)?);
    insert.execute(connection).await?;
    Ok(())
}

pub(crate) fn from_row(row: &PgRow) -> Result<Lead, Fault> {
    row.json("entry")
}
