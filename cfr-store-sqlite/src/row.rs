//! From columns to values and back: ids as 16 bytes, times as microseconds, words and JSON as text.

use std::sync::Arc;

use cfr_billing::store::StoreError;
use cfr_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::error::Fault;

/// The columns of a row by name, in the types of the domain.
pub(crate) trait Fields {
    fn int(&self, column: &str) -> Result<i64, Fault>;
    fn int_opt(&self, column: &str) -> Result<Option<i64>, Fault>;
    fn bytes(&self, column: &str) -> Result<Vec<u8>, Fault>;
    fn bytes_opt(&self, column: &str) -> Result<Option<Vec<u8>>, Fault>;
    fn text(&self, column: &str) -> Result<Arc<str>, Fault>;
    fn text_opt(&self, column: &str) -> Result<Option<Arc<str>>, Fault>;

    fn number_opt<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, Fault> {
        self.int_opt(column)?.map(|value| T::try_from(value).map_err(|_| damaged(column))).transpose()
    }

    fn flag(&self, column: &str) -> Result<bool, Fault> {
        Ok(self.int(column)? != 0)
    }

    fn id<T>(&self, column: &str, from_bytes: fn([u8; 16]) -> T) -> Result<T, Fault> {
        self.bytes(column)?.try_into().map(from_bytes).map_err(|_| damaged(column))
    }

    fn id_opt<T>(&self, column: &str, from_bytes: fn([u8; 16]) -> T) -> Result<Option<T>, Fault> {
        let Some(bytes) = self.bytes_opt(column)?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
        bytes.try_into().map(|bytes| Some(from_bytes(bytes))).map_err(|_| damaged(column))
    }

    fn time(&self, column: &str) -> Result<Timestamp, Fault> {
        Timestamp::from_microsecond(self.int(column)?).map_err(|_| damaged(column))
    }

    fn time_opt(&self, column: &str) -> Result<Option<Timestamp>, Fault> {
        let micros = self.int_opt(column)?;
        micros.map(|micros| Timestamp::from_microsecond(micros).map_err(|_| damaged(column))).transpose()
    }

    /// An enum without data by its name, or anything else that serializes as a string.
    fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, Fault> {
        self.word_opt(column)?.ok_or_else(|| damaged(column))
    }

    fn word_opt<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Fault> {
        let Some(word) = self.text_opt(column)? else { return Ok(None) };
        serde_json::from_value(serde_json::Value::from(&*word)).map(Some).map_err(|_| damaged(column))
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Fault> {
        serde_json::from_str(&self.text(column)?).map_err(|_| damaged(column))
    }
}

impl Fields for SqliteRow {
    fn int(&self, column: &str) -> Result<i64, Fault> {
        Ok(self.try_get(column)?)
    }

    fn int_opt(&self, column: &str) -> Result<Option<i64>, Fault> {
        Ok(self.try_get(column)?)
    }

    fn bytes(&self, column: &str) -> Result<Vec<u8>, Fault> {
        Ok(self.try_get(column)?)
    }

    fn bytes_opt(&self, column: &str) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.try_get(column)?)
    }

    fn text(&self, column: &str) -> Result<Arc<str>, Fault> {
        Ok(self.try_get::<&str, _>(column)?.into())
    }

    fn text_opt(&self, column: &str) -> Result<Option<Arc<str>>, Fault> {
        Ok(self.try_get::<Option<&str>, _>(column)?.map(Arc::from))
    }
}

/// The word under which [`Fields::word`] finds the value again.
pub(crate) fn word<T: Serialize>(value: &T) -> Result<String, Fault> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(StoreError::invalid("the value has no name").into()),
    }
}

/// JSON text for cold columns.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| StoreError::invalid(error).into())
}

/// An id as its column keeps it.
pub(crate) fn blob(id: [u8; 16]) -> Vec<u8> {
    id.to_vec()
}

/// A list of accounts as one blob, eight bytes each, big endian.
pub(crate) fn accounts_blob(accounts: &[cfr_core::id::AccountId]) -> Vec<u8> {
    accounts.iter().flat_map(|account| account.0.to_be_bytes()).collect()
}

/// The accounts in such a blob.
pub(crate) fn accounts_from_blob(blob: &[u8]) -> impl Iterator<Item = cfr_core::id::AccountId> + '_ {
    let (chunks, _) = blob.as_chunks::<8>();
    chunks.iter().map(|bytes| cfr_core::id::AccountId(i64::from_be_bytes(*bytes)))
}

pub(crate) fn damaged(column: &str) -> Fault {
    StoreError::unavailable(format_args!("the column `{column}` holds a value that this version cannot read")).into()
}
