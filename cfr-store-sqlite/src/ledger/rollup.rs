//! Sums per day, kept in the transaction of the records: of tenant, user, key and model, and of tenant and model alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use cfr_billing::usage::UsageSums;
use cfr_core::id::{KeyId, UserId};
use cfr_core::ledger::UsageRecord;

use crate::bulk::{Cell, Rows, Script};
use crate::error::Fault;
use crate::usage::day;

/// Sums of days.
pub(crate) type Days = BTreeMap<DayKey, UsageSums>;
/// Day, tenant, user, key and model.
pub(crate) type DayKey = (i64, [u8; 16], Option<[u8; 16]>, Option<[u8; 16]>, Arc<str>);

/// Adds to the script what adds to the sums.
pub(crate) fn push(script: &mut Script, days: &Days) -> Result<(), Fault> {
    script.statement_for(ADD_TO_DAY, day_rows(days))?;
    script.statement_for(ADD_TO_TOTAL, total_rows(days)).map(drop)
}

// Tokens and costs follow what an upstream reports, which may be nonsense, and where no limit is a hard one so do charges.
// Their sums stop at the largest number, for a sum that does not fit would make every later batch fail.

macro_rules! add_the_sums {
    ($($column:literal),+) => {
        concat!("DO UPDATE SET requests = requests + excluded.requests",
            $(", ", $column, " = ", $column, " + min(excluded.", $column, ", 9223372036854775807 - ", $column, ")"),*)
    };
    () => {
        add_the_sums!("failed", "timed", "latency_ms", "first_bytes", "first_byte_ms", "tokens_in", "tokens_out", "cost",
            "charged")
    };
}

const ADD_TO_DAY: &str = concat!(
    "INSERT INTO usage_daily (day, tenant_id, user_id, key_id, model_served, requests, failed, timed, latency_ms, \
       first_bytes, first_byte_ms, tokens_in, tokens_out, cost, charged) \
     SELECT value->>0, unhex(value->>1), unhex(value->>2), unhex(value->>3), value->>4, value->>5, value->>6, value->>7, \
       value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14 FROM jsonb_each(?) WHERE TRUE \
     ON CONFLICT (day, tenant_id, user_id, key_id, model_served) ",
    add_the_sums!()
);

const ADD_TO_TOTAL: &str = concat!(
    "INSERT INTO usage_totals (day, tenant_id, model_served, requests, failed, timed, latency_ms, first_bytes, \
       first_byte_ms, tokens_in, tokens_out, cost, charged) \
     SELECT value->>0, unhex(value->>1), value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, \
       value->>9, value->>10, value->>11, value->>12 FROM jsonb_each(?) WHERE TRUE \
     ON CONFLICT (day, tenant_id, model_served) ",
    add_the_sums!()
);

/// The row of the sums that a record belongs to.
pub(super) fn day_of(record: &UsageRecord) -> DayKey {
    let caller = &record.caller;
    let (user, key) = (caller.user.map(UserId::to_bytes), caller.key.map(KeyId::to_bytes));
    (day(record.at), caller.tenant.to_bytes(), user, key, Arc::clone(&record.model_served))
}

fn day_rows(days: &Days) -> Rows {
    let mut rows = Rows::default();
    for ((day, tenant, user, api_key, model), sums) in days {
        let (user, api_key) = (somebody(user.as_ref()), somebody(api_key.as_ref()));
        rows.push(&with_sums(&[Cell::Int(*day), Cell::Blob(tenant), user, api_key, Cell::Text(model)], sums));
    }
    rows
}

/// The same days without users and keys: what reports about whole tenants read.
fn total_rows(days: &Days) -> Rows {
    let mut totals = BTreeMap::<_, UsageSums>::new();
    for ((day, tenant, _, _, model), sums) in days {
        totals.entry((day, tenant, model)).or_default().add(sums);
    }
    let mut rows = Rows::default();
    for ((day, tenant, model), sums) in totals {
        rows.push(&with_sums(&[Cell::Int(*day), Cell::Blob(tenant), Cell::Text(model)], &sums));
    }
    rows
}

fn with_sums<'a>(key: &[Cell<'a>], sums: &UsageSums) -> Vec<Cell<'a>> {
    key.iter().copied().chain(sums.columns().map(Cell::Int)).collect()
}

/// An empty blob stands for nobody.
fn somebody(id: Option<&[u8; 16]>) -> Cell<'_> {
    Cell::Blob(id.map_or(&[], |id| &id[..]))
}
