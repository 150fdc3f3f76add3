//! [`SubscriptionStore`]: subscriptions as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::budget::{NewBudget, ScopeId};
use cfr_billing::identity::{NOT_ACTIVATED, UserPatch};
use cfr_billing::store::{DUE_MAX, Page, PageRequest, StoreError, SubscriptionStore};
use cfr_billing::subscription::{HAS_ONE, Subscription, SubscriptionFilter};
use cfr_core::id::{SubscriptionId, TenantId, UserId};
use cfr_core::ledger::{LimitPolicy, Scope};
use cfr_core::time::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::SqliteStore;
use crate::audit_log;
use crate::catalog::{budget, product};
use crate::error::Fault;
use crate::identity::{tenant, user};
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, blob, json, word};
use crate::writer::{Tx, write};

#[async_trait]
impl SubscriptionStore for SqliteStore {
    async fn add_subscription(&self, new: &Subscription, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| add(tx, new, act))
    }

    async fn subscription(&self, id: SubscriptionId) -> Result<Subscription, StoreError> {
        Ok(by_id(&mut *self.reader().await?, id).await?)
    }

    async fn subscriptions(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest,
    ) -> Result<Page<Subscription>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM subscriptions WHERE TRUE");
        if let Some(tenant) = filter.tenant {
            sql.push(" AND tenant_id = ").push_bind(blob(tenant.to_bytes()));
        }
        if let Some(user) = filter.user {
            sql.push(" AND owner_id = ").push_bind(blob(user.to_bytes()));
        }
        if let Some(status) = filter.status {
            sql.push(" AND status = ").push_bind(word(&status)?);
        }
        if let Some(after) = page.after {
            sql.push(" AND id > ").push_bind(after.0.to_be_bytes().to_vec());
        }
        sql.push(" ORDER BY id LIMIT ").push_bind(rows_wanted(page));
        let rows = sql.build().fetch_all(self.readers()).await.map_err(Fault::from)?;
        Ok(page_of(rows, page, from_row, |row| row.id.as_u128())?)
    }

    async fn update_subscription(&self, new: &Subscription, act: &Act) -> Result<Subscription, StoreError> {
        write!(self, act.at, |tx| update(tx, new, act))
    }

    async fn due_subscriptions(&self, now: Timestamp) -> Result<Vec<Subscription>, StoreError> {
        let sql = "SELECT entry FROM subscriptions WHERE due_at <= ? ORDER BY due_at LIMIT ?";
        let due = sqlx::query(sql).bind(now.as_microsecond()).bind(DUE_MAX);
        let rows = due.fetch_all(self.readers()).await.map_err(Fault::from)?;
        Ok(rows.iter().map(from_row).collect::<Result<_, Fault>>()?)
    }
}

async fn add(tx: &mut Tx<'_>, new: &Subscription, act: &Act) -> Result<(), Fault> {
    check(tx, new).await?;
    insert(tx.connection(), new).await?;
    if new.status.gives() {
        give(tx, new, act).await?;
    }
    audit_log::record(tx, act, &Event::created(Action::SubscriptionCreated, new)).await
}

/// Whether its owner may have it.
async fn check(tx: &mut Tx<'_>, new: &Subscription) -> Result<(), Fault> {
    if live(tx.connection(), new.owner()).await?.is_some() {
        return Err(StoreError::conflict(HAS_ONE).into());
    }
    tenant::by_id(tx.connection(), new.tenant).await?;
    product::version(tx.connection(), new.product_version).await?;
    if let Some(user) = new.user
        && !user::by_id(tx.connection(), user).await?.status.takes_place()
    {
        return Err(StoreError::conflict(NOT_ACTIVATED).into());
    }
    Ok(new.check_seats(user::count(tx, new.tenant).await?)?)
}

async fn update(tx: &mut Tx<'_>, new: &Subscription, act: &Act) -> Result<Subscription, Fault> {
    let before = by_id(tx.connection(), new.id).await?;
    if before.version != new.version {
        return Err(StoreError::conflict("the subscription was changed meanwhile").into());
    }
    before.check_change(new)?;
    let (tenant, user) = (before.tenant, before.user);
    let after = Subscription { tenant, user, version: new.version + 1, updated_at: tx.now, ..new.clone() };
    write(tx.connection(), &after).await?;
    if before.gives_more(&after) {
        after.check_seats(user::count(tx, tenant).await?)?;
        give(tx, &after, act).await?;
    }
    audit_log::changed(tx, act, Action::SubscriptionChanged, &before, after).await
}

/// What a subscription gives as soon as it does: a user the product with its budget, a tenant a budget.
async fn give(tx: &mut Tx<'_>, subscription: &Subscription, act: &Act) -> Result<(), Fault> {
    if let Some(user) = subscription.user {
        let user = user::by_id(tx.connection(), user).await?;
        let terms = UserPatch { product_version: Some(subscription.product_version), ..UserPatch::default() };
        return user::change(tx, user.id, user.version, &terms, act).await.map(drop);
    }
    let terms = product::version(tx.connection(), subscription.product_version).await?.terms;
    let new = NewBudget {
        scope: Scope::Tenant,
        scope_id: ScopeId(subscription.tenant.as_u128()),
        tenant: Some(subscription.tenant),
        currency: terms.currency,
        included_nanos: subscription.included_nanos(&terms)?,
        policy: LimitPolicy::Hard,
        period: subscription.period.clone(),
        zone: subscription.zone.clone(),
    };
    budget::follow_or_create(tx, &new).await
}

/// The subscription that governs a request: the last one of the user that began, or else of the tenant.
pub(crate) async fn governing(
    connection: &mut SqliteConnection,
    user: Option<UserId>,
    tenant: Option<TenantId>,
) -> Result<Option<Subscription>, Fault> {
    for owner in [user.map(UserId::as_u128), tenant.map(TenantId::as_u128)].into_iter().flatten() {
        if let Some(found) = last(connection, owner).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The last subscription of an owner that began.
pub(crate) async fn last(connection: &mut SqliteConnection, owner: u128) -> Result<Option<Subscription>, Fault> {
    let sql = "SELECT entry FROM subscriptions WHERE owner_id = ? AND started = 1 ORDER BY id DESC LIMIT 1";
    sqlx::query(sql)
        .bind(blob(owner.to_be_bytes()))
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(from_row)
        .transpose()
}

/// The subscription of an owner that is not over.
pub(crate) async fn live(connection: &mut SqliteConnection, owner: u128) -> Result<Option<Subscription>, Fault> {
    let sql = "SELECT entry FROM subscriptions WHERE owner_id = ? AND status <> 'canceled'";
    sqlx::query(sql)
        .bind(blob(owner.to_be_bytes()))
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(from_row)
        .transpose()
}

async fn by_id(connection: &mut SqliteConnection, id: SubscriptionId) -> Result<Subscription, Fault> {
    let found = sqlx::query("SELECT entry FROM subscriptions WHERE id = ?").bind(blob(id.to_bytes()));
    from_row(&found.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "subscription" })?)
}

pub(crate) async fn insert(connection: &mut SqliteConnection, new: &Subscription) -> Result<(), Fault> {
    let sql = "INSERT INTO subscriptions (id, owner_id, tenant_id, status, started, due_at, entry) \
         VALUES (?, ?, ?, ?, ?, ?, ?)";
    let insert = sqlx::query(sql)
        .bind(blob(new.id.to_bytes()))
        .bind(blob(new.owner().to_be_bytes()))
        .bind(blob(new.tenant.to_bytes()))
        .bind(word(&new.status)?)
        .bind(new.started_at.is_some())
        .bind(new.due_at().map(|at| at.as_microsecond()))
        .bind(json(new)?);
    insert.execute(connection).await?;
    Ok(())
}

async fn write(connection: &mut SqliteConnection, after: &Subscription) -> Result<(), Fault> {
    let sql = "UPDATE subscriptions SET status = ?2, started = ?3, due_at = ?4, entry = ?5 WHERE id = ?1";
    let update = sqlx::query(sql)
        .bind(blob(after.id.to_bytes()))
        .bind(word(&after.status)?)
        .bind(after.started_at.is_some())
        .bind(after.due_at().map(|at| at.as_microsecond()))
        .bind(json(after)?);
    update.execute(connection).await?;
    Ok(())
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<Subscription, Fault> {
    row.json("entry")
}
