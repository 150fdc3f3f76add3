//! From columns to values and back: ids as `uuid`, times as microseconds, words as text, cold columns as JSON.

use std::sync::Arc;

use cfr_billing::store::StoreError;
use cfr_core::id::AccountId;
use cfr_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{Postgres, Row};
use uuid::Uuid;

use crate::error::Fault;

/// What a searched name may have. A row of an index has 2704 bytes, and a character that stands for NUL three.
const NAME_BYTES_MAX: usize = 512;
/// What stands for a character that cannot be kept.
const REPLACEMENT: &str = "\u{fffd}";

/// A statement that the server forgets after it ran: for everything but the hot path, and harmless behind PgBouncer.
pub(crate) fn query<'q>(sql: &'static str) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// The columns of a row by name, in the types of the domain.
pub(crate) trait Fields {
    fn int(&self, column: &str) -> Result<i64, Fault>;
    fn int_opt(&self, column: &str) -> Result<Option<i64>, Fault>;
    fn flag(&self, column: &str) -> Result<bool, Fault>;
    fn uuid_opt(&self, column: &str) -> Result<Option<Uuid>, Fault>;
    fn bytes(&self, column: &str) -> Result<Vec<u8>, Fault>;
    fn bytes_opt(&self, column: &str) -> Result<Option<Vec<u8>>, Fault>;
    fn text(&self, column: &str) -> Result<Arc<str>, Fault>;
    fn text_opt(&self, column: &str) -> Result<Option<Arc<str>>, Fault>;
    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Fault>;
    fn accounts(&self, column: &str) -> Result<Vec<AccountId>, Fault>;

    fn number_opt<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, Fault> {
        self.int_opt(column)?.map(|value| T::try_from(value).map_err(|_| damaged(column))).transpose()
    }

    fn id<T>(&self, column: &str, from_bytes: fn([u8; 16]) -> T) -> Result<T, Fault> {
        self.uuid_opt(column)?.map(|id| from_bytes(id.into_bytes())).ok_or_else(|| damaged(column))
    }

    /// The nil id stands for nobody, like null.
    fn id_opt<T>(&self, column: &str, from_bytes: fn([u8; 16]) -> T) -> Result<Option<T>, Fault> {
        Ok(self.uuid_opt(column)?.filter(|id| !id.is_nil()).map(|id| from_bytes(id.into_bytes())))
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
}

impl Fields for PgRow {
    fn int(&self, column: &str) -> Result<i64, Fault> {
        Ok(self.try_get(column)?)
    }

    fn int_opt(&self, column: &str) -> Result<Option<i64>, Fault> {
        Ok(self.try_get(column)?)
    }

    fn flag(&self, column: &str) -> Result<bool, Fault> {
        Ok(self.try_get(column)?)
    }

    fn uuid_opt(&self, column: &str) -> Result<Option<Uuid>, Fault> {
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

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Fault> {
        let Json(value) = self.try_get::<Json<T>, _>(column).map_err(|_| damaged(column))?;
        Ok(value)
    }

    fn accounts(&self, column: &str) -> Result<Vec<AccountId>, Fault> {
        Ok(self.try_get::<Vec<i64>, _>(column)?.into_iter().map(AccountId).collect())
    }
}

/// The word under which [`Fields::word`] finds the value again.
pub(crate) fn word<T: Serialize>(value: &T) -> Result<String, Fault> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(StoreError::invalid("the value has no name").into()),
    }
}

/// A name as a column keeps it that is searched: without NUL, for which Postgres has no place, and short enough for an
/// index. JSON columns have the whole name. No batch may fail for what somebody called a model.
pub(crate) fn searchable(name: &Arc<str>) -> Arc<str> {
    if name.len() <= NAME_BYTES_MAX && !name.contains('\0') {
        return Arc::clone(name);
    }
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    name[..end].replace('\0', REPLACEMENT).into()
}

/// The same for a row that comes from another store. Different names stay different there: what distinguishes one that is
/// changed is the beginning of its hash.
pub(crate) fn searchable_and_distinct(name: &Arc<str>) -> Arc<str> {
    let kept = searchable(name);
    if kept == *name {
        return kept;
    }
    let hash: String = Sha256::digest(name.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let end = kept.floor_char_boundary(NAME_BYTES_MAX - hash.len() - 1);
    format!("{}~{hash}", &kept[..end]).into()
}

/// JSON text for cold columns; the statement casts it.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| StoreError::invalid(error).into())
}

/// An id as its column keeps it.
pub(crate) const fn uuid(id: [u8; 16]) -> Uuid {
    Uuid::from_bytes(id)
}

pub(crate) fn damaged(column: &str) -> Fault {
    StoreError::unavailable(format_args!("the column `{column}` holds a value that this version cannot read")).into()
}
