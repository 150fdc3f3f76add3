//! [`ProviderAccountStore`]: accounts as JSON, beside the columns that they are found by, and their sealed secrets.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::provider_account::{ProviderAccount, SealedAccount};
use cfr_billing::store::provider_account::PROVIDER_ACCOUNTS_MAX;
use cfr_billing::store::{Page, PageRequest, ProviderAccountStore, StoreError};
use cfr_core::id::{ProviderAccountId, TenantId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

use crate::PostgresStore;
use crate::audit_log;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, json, query, uuid};
use crate::secrets::owner;
use crate::writer::{Tx, write};

const NAME_TAKEN: &str = "the name of the account is taken";

#[async_trait]
impl ProviderAccountStore for PostgresStore {
    async fn add_provider_account(&self, new: &SealedAccount, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| add(tx, new, act)).await
    }

    async fn provider_account(&self, id: ProviderAccountId) -> Result<SealedAccount, StoreError> {
        Ok(by_id(&mut *self.reader().await?, id).await?)
    }

    async fn provider_accounts(
        &self,
        tenant: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Page<SealedAccount>, StoreError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM provider_accounts WHERE TRUE");
        if tenant.is_some() {
            sql.push(" AND tenant_id = ").push_bind(owner(tenant));
        }
        if let Some(after) = page.after {
            sql.push(" AND id > ").push_bind(Uuid::from_u128(after.0));
        }
        sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
        let list = sql.build().persistent(false);
        let rows = list.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, from_row, |sealed| sealed.account.id.as_u128())?)
    }

    async fn update_provider_account(&self, version: i64, new: &SealedAccount, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| update(tx, version, new, act)).await
    }

    async fn remove_provider_account(&self, id: ProviderAccountId, act: &Act) -> Result<ProviderAccount, StoreError> {
        write!(self, act.at, |tx| remove(tx, id, act)).await
    }
}

/// Accounts are hardly ever made: those who make one wait for each other, and count all of them.
async fn add(tx: &mut Tx<'_>, new: &SealedAccount, act: &Act) -> Result<(), Fault> {
    query("LOCK TABLE provider_accounts IN SHARE ROW EXCLUSIVE MODE").execute(tx.connection()).await?;
    let count: i64 = query("SELECT count(*) FROM provider_accounts").fetch_one(tx.connection()).await?.try_get(0)?;
    if count >= i64::from(PROVIDER_ACCOUNTS_MAX) {
        return Err(StoreError::conflict("there are as many provider accounts as there may be").into());
    }
    insert(tx.connection(), new).await.map_err(|fault| fault.or_conflict(NAME_TAKEN))?;
    audit_log::record(tx, act, &Event::created(Action::ProviderAccountCreated, &new.account)).await
}

async fn update(tx: &mut Tx<'_>, version: i64, new: &SealedAccount, act: &Act) -> Result<(), Fault> {
    let known = lock(tx.connection(), new.account.id).await?;
    if known.account.version != version {
        return Err(StoreError::conflict("the account was changed meanwhile").into());
    }
    let after = ProviderAccount { version: version + 1, tenant: known.account.tenant, ..new.account.clone() };
    let sql = "UPDATE provider_accounts SET name = $2, version = $3, entry = $4::json, secret = coalesce($5, secret) \
         WHERE id = $1";
    let update = query(sql)
        .bind(uuid(after.id.to_bytes()))
        .bind(after.name.clone())
        .bind(after.version)
        .bind(json(&after)?)
        .bind(new.secret.clone());
    update.execute(tx.connection()).await.map_err(|error| Fault::from(error).or_conflict(NAME_TAKEN))?;
    audit_log::record(tx, act, &Event::changed(Action::ProviderAccountChanged, &known.account, &after)).await
}

async fn remove(tx: &mut Tx<'_>, id: ProviderAccountId, act: &Act) -> Result<ProviderAccount, Fault> {
    let gone = lock(tx.connection(), id).await?.account;
    let delete = query("DELETE FROM provider_accounts WHERE id = $1").bind(uuid(id.to_bytes()));
    delete.execute(tx.connection()).await?;
    audit_log::record(tx, act, &Event::created(Action::ProviderAccountRemoved, &gone)).await?;
    Ok(gone)
}

pub(crate) async fn insert(connection: &mut PgConnection, new: &SealedAccount) -> Result<(), Fault> {
    let sql = "INSERT INTO provider_accounts (id, tenant_id, name, version, entry, secret) \
         VALUES ($1, $2, $3, $4, $5::json, $6)";
    let insert = query(sql)
        .bind(uuid(new.account.id.to_bytes()))
        .bind(owner(new.account.tenant))
        .bind(new.account.name.clone())
        .bind(new.account.version)
        .bind(json(&new.account)?)
        .bind(new.secret.clone().unwrap_or_default());
    insert.execute(connection).await?;
    Ok(())
}

async fn by_id(connection: &mut PgConnection, id: ProviderAccountId) -> Result<SealedAccount, Fault> {
    let found = query("SELECT * FROM provider_accounts WHERE id = $1").bind(uuid(id.to_bytes()));
    from_row(&found.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "provider account" })?)
}

/// An account that nobody else changes before this transaction ends.
async fn lock(connection: &mut PgConnection, id: ProviderAccountId) -> Result<SealedAccount, Fault> {
    let found = query("SELECT * FROM provider_accounts WHERE id = $1 FOR UPDATE").bind(uuid(id.to_bytes()));
    from_row(&found.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "provider account" })?)
}

pub(crate) fn from_row(row: &PgRow) -> Result<SealedAccount, Fault> {
    let secret = Some(row.text("secret")?).filter(|secret| !secret.is_empty());
    Ok(SealedAccount { account: row.json("entry")?, secret })
}
