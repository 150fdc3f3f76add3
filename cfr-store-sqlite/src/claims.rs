//! [`ClaimStore`]: one row for each name of a request.

use async_trait::async_trait;
use cfr_billing::store::StoreError;
use cfr_billing::store::claims::{Claim, ClaimStore, Claimed, KeptAnswer};
use cfr_core::id::RequestId;
use cfr_core::time::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::SqliteStore;
use crate::error::Fault;
use crate::row::{Fields, json};
use crate::writer::Tx;

#[async_trait]
impl ClaimStore for SqliteStore {
    async fn claim_request(&self, claim: &Claim, instead_of: Option<RequestId>) -> Result<Claimed, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let claimed = take(&mut tx, claim, instead_of).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn answer_request(&self, claim: &Claim, answer: &KeptAnswer) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "UPDATE request_claims SET answer = ?4 WHERE subject = ?1 AND key = ?2 AND request = ?3";
        let update = sqlx::query(sql).bind(claim.subject.clone()).bind(claim.key.clone());
        let update = update.bind(claim.request.to_string()).bind(json(answer)?);
        update.execute(tx.connection()).await.map_err(Fault::from)?;
        Ok(tx.commit().await?)
    }

    async fn forget_request(&self, claim: &Claim) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let sql = "DELETE FROM request_claims WHERE subject = ?1 AND key = ?2 AND request = ?3 AND answer IS NULL";
        let delete = sqlx::query(sql).bind(claim.subject.clone()).bind(claim.key.clone());
        delete.bind(claim.request.to_string()).execute(tx.connection()).await.map_err(Fault::from)?;
        Ok(tx.commit().await?)
    }

    async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?;
        let delete = sqlx::query("DELETE FROM request_claims WHERE expires_at <= ?").bind(now.as_microsecond());
        let gone = delete.execute(tx.connection()).await.map_err(Fault::from)?.rows_affected();
        tx.commit().await?;
        Ok(gone)
    }
}

/// Writes the claim over one that is over, and says otherwise what stands there.
async fn take(tx: &mut Tx<'_>, claim: &Claim, instead_of: Option<RequestId>) -> Result<Claimed, Fault> {
    let sql = "INSERT INTO request_claims (subject, key, digest, request, started_at, expires_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (subject, key) DO UPDATE SET digest = ?3, request = ?4, \
         started_at = ?5, expires_at = ?6, answer = NULL \
         WHERE expires_at <= ?5 OR (answer IS NULL AND request = ?7)";
    let insert = sqlx::query(sql)
        .bind(claim.subject.clone())
        .bind(claim.key.clone())
        .bind(&claim.digest[..])
        .bind(claim.request.to_string())
        .bind(claim.at.as_microsecond())
        .bind(claim.until.as_microsecond())
        .bind(instead_of.map(|request| request.to_string()));
    if insert.execute(tx.connection()).await?.rows_affected() > 0 {
        return Ok(Claimed::New);
    }
    let sql = "SELECT * FROM request_claims WHERE subject = ? AND key = ?";
    let found = sqlx::query(sql).bind(claim.subject.clone()).bind(claim.key.clone());
    claimed(claim, &found.fetch_one(tx.connection()).await?)
}

fn claimed(claim: &Claim, row: &SqliteRow) -> Result<Claimed, Fault> {
    if row.bytes("digest")? != claim.digest {
        return Ok(Claimed::Other);
    }
    if row.text_opt("answer")?.is_some() {
        return Ok(Claimed::Answered(row.json("answer")?));
    }
    Ok(Claimed::Running { request: row.word("request")?, since: row.time("started_at")? })
}
