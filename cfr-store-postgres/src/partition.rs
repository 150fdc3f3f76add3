//! Months of usage and entries, made before they are needed.
//!
//! What no month was made for falls into the default partition and is found there; it is moved when its month is made.

use std::sync::atomic::{AtomicI64, Ordering};

use cfr_billing::store::StoreError;
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sqlx::Row;

use crate::error::Fault;
use crate::row::query;
use crate::writer::Pool;

/// Months that are made beside the present one: an installation that nobody calls for so long loses nothing but speed.
const MONTHS_AHEAD: i32 = 2;
/// Making a month waits for readers of the default partition, and writers of it wait for that.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

/// Up to when the months were made, as far as this process knows.
#[derive(Debug)]
pub(crate) struct Months {
    pool: Pool,
    /// In months since the year 0.
    looked_at: AtomicI64,
}

impl Months {
    pub(crate) const fn new(pool: Pool) -> Self {
        Self { pool, looked_at: AtomicI64::new(i64::MIN) }
    }

    /// Makes the month of `now` and those ahead of it, once per month and process. What cannot be made now is tried the next
    /// time: until then the default partition takes the rows.
    pub(crate) async fn keep_ahead(&self, now: Timestamp) {
        let today = now.to_zoned(TimeZone::UTC).date();
        let month = i64::from(today.year()) * 12 + i64::from(today.month());
        if self.looked_at.load(Ordering::Relaxed) == month {
            return;
        }
        match self.make(today).await {
            Ok(made) => {
                self.looked_at.store(month, Ordering::Relaxed);
                tracing::debug!(made, %today, "months of usage and entries are there");
            }
            Err(fault) => {
                let reason = StoreError::from(fault);
                tracing::warn!(%reason, %today, "the next months of usage and entries could not be made");
            }
        }
    }

    async fn make(&self, today: Date) -> Result<i32, Fault> {
        let mut transaction = self.pool.transaction().await?;
        query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
        let sql = "SELECT make_months($1::date, $2)";
        let row = query(sql).bind(today.to_string()).bind(MONTHS_AHEAD).fetch_one(&mut *transaction).await?;
        let made = row.try_get(0)?;
        transaction.commit().await?;
        Ok(made)
    }
}
