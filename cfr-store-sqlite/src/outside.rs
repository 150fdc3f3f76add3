//! [`OutsideStore`]: holds and names of other programs as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::outside::{Named, NamedKind, OutsideHold, OutsideName};
use cfr_billing::store::outside::OUTSIDE_HOLDS_MAX;
use cfr_billing::store::{OutsideStore, StoreError};
use cfr_core::id::HoldId;
use cfr_core::time::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::SqliteStore;
use crate::audit_log;
use crate::error::Fault;
use crate::row::{Fields, blob, json};
use crate::writer::Tx;

#[async_trait]
impl OutsideStore for SqliteStore {
    async fn add_outside_hold(&self, hold: &OutsideHold) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "INSERT INTO outside_holds (id, ends_at, entry) VALUES (?, ?, ?)";
        let insert =
            sqlx::query(sql).bind(blob(hold.id.to_bytes())).bind(hold.ends_at.as_microsecond()).bind(json(hold)?);
        insert.execute(tx.connection()).await.map_err(Fault::from)?;
        Ok(tx.commit().await?)
    }

    async fn outside_hold(&self, id: HoldId) -> Result<Option<OutsideHold>, StoreError> {
        let sql = "SELECT entry FROM outside_holds WHERE id = ?";
        let found = sqlx::query(sql).bind(blob(id.to_bytes())).fetch_optional(self.readers()).await;
        Ok(found.map_err(Fault::from)?.as_ref().map(|row| row.json("entry")).transpose()?)
    }

    async fn ended_outside_holds(&self, now: Timestamp, limit: u32) -> Result<Vec<OutsideHold>, StoreError> {
        let sql = "SELECT entry FROM outside_holds WHERE ends_at <= ? ORDER BY ends_at, id LIMIT ?";
        let ended = sqlx::query(sql).bind(now.as_microsecond()).bind(limit.min(OUTSIDE_HOLDS_MAX));
        let rows = ended.fetch_all(self.readers()).await.map_err(Fault::from)?;
        Ok(rows.iter().map(|row| row.json("entry")).collect::<Result<_, Fault>>()?)
    }

    async fn forget_outside_hold(&self, id: HoldId) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let gone = sqlx::query("DELETE FROM outside_holds WHERE id = ?").bind(blob(id.to_bytes()));
        gone.execute(tx.connection()).await.map_err(Fault::from)?;
        Ok(tx.commit().await?)
    }

    async fn keep_outside_name(&self, name: &OutsideName, act: &Act) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        keep(&mut tx, name, act).await?;
        Ok(tx.commit().await?)
    }

    async fn outside_name(&self, kind: NamedKind, name: &str) -> Result<Option<OutsideName>, StoreError> {
        let sql = "SELECT entry FROM outside_names WHERE kind = ? AND name = ?";
        let found = sqlx::query(sql).bind(kind.name()).bind(name).fetch_optional(self.readers()).await;
        Ok(found.map_err(Fault::from)?.as_ref().map(from_row).transpose()?)
    }

    async fn outside_names_of(&self, named: Named) -> Result<Vec<OutsideName>, StoreError> {
        let sql = "SELECT entry FROM outside_names WHERE kind = ? AND id = ? ORDER BY name";
        let found = sqlx::query(sql).bind(named.kind().name()).bind(blob(named.to_bytes()));
        let rows = found.fetch_all(self.readers()).await.map_err(Fault::from)?;
        Ok(rows.iter().map(from_row).collect::<Result<_, Fault>>()?)
    }
}

/// Nothing happens to a name that is kept just so already.
async fn keep(tx: &mut Tx<'_>, name: &OutsideName, act: &Act) -> Result<(), Fault> {
    let sql = "INSERT INTO outside_names (kind, name, id, entry) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (kind, name) DO UPDATE SET entry = ?4 WHERE id = ?3";
    let before = "SELECT entry FROM outside_names WHERE kind = ? AND name = ?";
    let before = sqlx::query(before).bind(name.named.kind().name()).bind(&*name.name);
    let before = before.fetch_optional(tx.connection()).await?.as_ref().map(from_row).transpose()?;
    if before.as_ref() == Some(name) {
        return Ok(());
    }
    let kept = sqlx::query(sql)
        .bind(name.named.kind().name())
        .bind(&*name.name)
        .bind(blob(name.named.to_bytes()))
        .bind(json(name)?);
    if kept.execute(tx.connection()).await?.rows_affected() == 0 {
        return Err(StoreError::conflict("the name is taken").into());
    }
    audit_log::record(tx, act, &Event::created(Action::OutsideNameKept, name)).await
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<OutsideName, Fault> {
    row.json("entry")
}
