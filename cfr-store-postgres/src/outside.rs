//! [`OutsideStore`]: holds and names of other programs as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::outside::{Named, NamedKind, OutsideHold, OutsideName};
use cfr_billing::store::outside::OUTSIDE_HOLDS_MAX;
use cfr_billing::store::{OutsideStore, StoreError};
use cfr_core::id::HoldId;
use cfr_core::time::Timestamp;
use sqlx::postgres::PgRow;

use crate::PostgresStore;
use crate::audit_log;
use crate::error::Fault;
use crate::row::{Fields, json, query, uuid};
use crate::writer::{Tx, write};

#[async_trait]
impl OutsideStore for PostgresStore {
    async fn add_outside_hold(&self, hold: &OutsideHold) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| add(tx, hold)).await
    }

    async fn outside_hold(&self, id: HoldId) -> Result<Option<OutsideHold>, StoreError> {
        let found = query("SELECT entry FROM outside_holds WHERE id = $1").bind(uuid(id.to_bytes()));
        let row = found.fetch_optional(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(row.as_ref().map(|row| row.json("entry")).transpose()?)
    }

    async fn ended_outside_holds(&self, now: Timestamp, limit: u32) -> Result<Vec<OutsideHold>, StoreError> {
        let sql = "SELECT entry FROM outside_holds WHERE ends_at <= $1 ORDER BY ends_at, id LIMIT $2";
        let ended = query(sql).bind(now.as_microsecond()).bind(i64::from(limit.min(OUTSIDE_HOLDS_MAX)));
        let rows = ended.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(rows.iter().map(|row| row.json("entry")).collect::<Result<_, Fault>>()?)
    }

    async fn forget_outside_hold(&self, id: HoldId) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| forget(tx, id)).await
    }

    async fn keep_outside_name(&self, name: &OutsideName, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| keep(tx, name, act)).await
    }

    async fn outside_name(&self, kind: NamedKind, name: &str) -> Result<Option<OutsideName>, StoreError> {
        let sql = "SELECT entry FROM outside_names WHERE kind = $1 AND name = $2";
        let found = query(sql).bind(kind.name()).bind(name);
        let row = found.fetch_optional(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(row.as_ref().map(from_row).transpose()?)
    }

    async fn outside_names_of(&self, named: Named) -> Result<Vec<OutsideName>, StoreError> {
        let sql = "SELECT entry FROM outside_names WHERE kind = $1 AND id = $2 ORDER BY name COLLATE \"C\"";
        let found = query(sql).bind(named.kind().name()).bind(uuid(named.to_bytes()));
        let rows = found.fetch_all(&mut *self.reader().await?).await.map_err(Fault::from)?;
        Ok(rows.iter().map(from_row).collect::<Result<_, Fault>>()?)
    }
}

async fn add(tx: &mut Tx<'_>, hold: &OutsideHold) -> Result<(), Fault> {
    let sql = "INSERT INTO outside_holds (id, ends_at, entry) VALUES ($1, $2, $3::json)";
    let insert = query(sql).bind(uuid(hold.id.to_bytes())).bind(hold.ends_at.as_microsecond()).bind(json(hold)?);
    insert.execute(tx.connection()).await?;
    Ok(())
}

async fn forget(tx: &mut Tx<'_>, id: HoldId) -> Result<(), Fault> {
    let gone = query("DELETE FROM outside_holds WHERE id = $1").bind(uuid(id.to_bytes()));
    gone.execute(tx.connection()).await?;
    Ok(())
}

/// Nothing happens to a name that is kept just so already.
async fn keep(tx: &mut Tx<'_>, name: &OutsideName, act: &Act) -> Result<(), Fault> {
    let before = query("SELECT entry FROM outside_names WHERE kind = $1 AND name = $2 FOR UPDATE")
        .bind(name.named.kind().name())
        .bind(&*name.name);
    let before = before.fetch_optional(tx.connection()).await?.as_ref().map(from_row).transpose()?;
    if before.as_ref() == Some(name) {
        return Ok(());
    }
    let sql = "INSERT INTO outside_names (kind, name, id, entry) VALUES ($1, $2, $3, $4::json) \
         ON CONFLICT (kind, name) DO UPDATE SET entry = excluded.entry WHERE outside_names.id = excluded.id";
    let kept =
        query(sql).bind(name.named.kind().name()).bind(&*name.name).bind(uuid(name.named.to_bytes())).bind(json(name)?);
    if kept.execute(tx.connection()).await?.rows_affected() == 0 {
        return Err(StoreError::conflict("the name is taken").into());
    }
    audit_log::record(tx, act, &Event::created(Action::OutsideNameKept, name)).await
}

pub(crate) fn from_row(row: &PgRow) -> Result<OutsideName, Fault> {
    row.json("entry")
}
