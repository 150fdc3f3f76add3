//! [`ClaimStore`]: one row for each name of a request.

use async_trait::async_trait;
use cfr_billing::store::StoreError;
use cfr_billing::store::claims::{Claim, ClaimStore, Claimed, KeptAnswer};
use cfr_core::id::RequestId;
use cfr_core::time::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Json;

use crate::PostgresStore;
use crate::error::Fault;
use crate::row::{Fields, json, query};
use crate::writer::{Tx, write};

#[async_trait]
impl ClaimStore for PostgresStore {
    async fn claim_request(&self, claim: &Claim, instead_of: Option<RequestId>) -> Result<Claimed, StoreError> {
        write!(self, Timestamp::MIN, |tx| take(tx, claim, instead_of)).await
    }

    async fn answer_request(&self, claim: &Claim, answer: &KeptAnswer) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| keep(tx, claim, answer)).await
    }

    async fn forget_request(&self, claim: &Claim) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| give_back(tx, claim)).await
    }

    async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        write!(self, Timestamp::MIN, |tx| forget(tx, now)).await
    }
}

/// Writes the claim over one that is over, and says otherwise what stands there.
async fn take(tx: &mut Tx<'_>, claim: &Claim, instead_of: Option<RequestId>) -> Result<Claimed, Fault> {
    let sql = "INSERT INTO request_claims AS known (subject, key, digest, request, started_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (subject, key) DO UPDATE SET digest = $3, request = $4, \
         started_at = $5, expires_at = $6, answer = NULL \
         WHERE known.expires_at <= $5 OR (known.answer IS NULL AND known.request = $7)";
    let insert = query(sql)
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
    let sql = "SELECT * FROM request_claims WHERE subject = $1 AND key = $2";
    let found = query(sql).bind(claim.subject.clone()).bind(claim.key.clone());
    claimed(claim, &found.fetch_one(tx.connection()).await?)
}

fn claimed(claim: &Claim, row: &PgRow) -> Result<Claimed, Fault> {
    if row.bytes("digest")? != claim.digest {
        return Ok(Claimed::Other);
    }
    if let Some(Json(answer)) = row.try_get("answer")? {
        return Ok(Claimed::Answered(answer));
    }
    Ok(Claimed::Running { request: row.word("request")?, since: row.time("started_at")? })
}

async fn keep(tx: &mut Tx<'_>, claim: &Claim, answer: &KeptAnswer) -> Result<(), Fault> {
    let sql = "UPDATE request_claims SET answer = $4::json WHERE subject = $1 AND key = $2 AND request = $3";
    let update = query(sql).bind(claim.subject.clone()).bind(claim.key.clone());
    update.bind(claim.request.to_string()).bind(json(answer)?).execute(tx.connection()).await?;
    Ok(())
}

async fn give_back(tx: &mut Tx<'_>, claim: &Claim) -> Result<(), Fault> {
    let sql = "DELETE FROM request_claims WHERE subject = $1 AND key = $2 AND request = $3 AND answer IS NULL";
    let delete = query(sql).bind(claim.subject.clone()).bind(claim.key.clone());
    delete.bind(claim.request.to_string()).execute(tx.connection()).await?;
    Ok(())
}

async fn forget(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, Fault> {
    let delete = query("DELETE FROM request_claims WHERE expires_at <= $1").bind(now.as_microsecond());
    Ok(delete.execute(tx.connection()).await?.rows_affected())
}
