//! The hash chains over everything that was booked: each batch seals its entries, its usage records and the batch before.
//! Each process has a chain of its own, so that no process waits for another one.

use cfr_core::time::Timestamp;
use sqlx::{PgConnection, Row};

use crate::error::Fault;
use crate::row::query;

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// The end of a chain.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    chain: i64,
    batch: i64,
    row: i64,
    hash: Hash,
}

impl Head {
    /// The end of a new chain.
    pub(crate) async fn begin(connection: &mut PgConnection, now: Timestamp) -> Result<Self, Fault> {
        let sql = "INSERT INTO ledger_chains (started_at) VALUES ($1) RETURNING id";
        let row = query(sql).bind(now.as_microsecond()).fetch_one(connection).await?;
        Ok(Self { chain: row.try_get(0)?, batch: 0, row: 0, hash: [0; 32] })
    }
}
