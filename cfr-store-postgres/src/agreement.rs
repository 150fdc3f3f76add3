//! What the processes that share a database must agree upon: whoever comes first decides.

use cfr_billing::store::StoreError;
use cfr_core::time::Timestamp;

use crate::error::Fault;
use crate::open::PostgresStore;
use crate::row::{Fields, query};
use crate::writer::{Tx, write};

impl PostgresStore {
    /// What was agreed upon under this name: `value` from now on, if nobody decided before.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn agree(&self, name: &str, value: &[u8], now: Timestamp) -> Result<Vec<u8>, StoreError> {
        write!(self, now, |tx| agree(tx, name, value)).await
    }

    /// What was agreed upon under this name, if anything was.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn agreed(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let read = async {
            let mut reader = self.reader().await?;
            let sql = "SELECT value FROM agreements WHERE name = $1";
            let row = query(sql).bind(name).fetch_optional(&mut *reader).await?;
            row.map(|row| row.bytes("value")).transpose()
        };
        read.await.map_err(|fault: Fault| fault.into())
    }
}

/// The second statement sees what another process committed meanwhile: the first one waits for it.
async fn agree(tx: &mut Tx<'_>, name: &str, value: &[u8]) -> Result<Vec<u8>, Fault> {
    let sql = "INSERT INTO agreements (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    query(sql).bind(name).bind(value).execute(tx.connection()).await?;
    let sql = "SELECT value FROM agreements WHERE name = $1";
    query(sql).bind(name).fetch_one(tx.connection()).await?.bytes("value")
}
