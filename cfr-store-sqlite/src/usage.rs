//! Usage records and their daily sums: how they lie in columns, and how they are asked for.

use std::sync::Arc;

use cfr_billing::store::{Cursor, Page, PageRequest, StoreError};
use cfr_billing::usage::{REPORT_ROWS_MAX, UsageDay, UsageFilter, UsageSums};
use cfr_core::chat::{Operation, Tags, Usage, UsageSource};
use cfr_core::id::{AccountId, KeyId, ProductVersionId, RequestId, TenantId, UserId};
use cfr_core::ledger::{Attempt, CallerIds, UsageRecord};
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use jiff::{Span, tz};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::bulk::{Cell, Rows};
use crate::chain::Amounts;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, accounts_blob, json};

/// The columns of a usage record that are sealed: all but the row number, as [`sealed_cells`] reads them.
pub(crate) const USAGE_COLUMNS: &str =
    "id, at, tenant_id, user_id, key_id, model_served, cost, charged, overrun, accounts, details";

/// What no query asks for, in one JSON column.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Details {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    product_version: Option<ProductVersionId>,
    operation: Operation,
    model_requested: Arc<str>,
    provider: Arc<str>,
    usage: Usage,
    source: UsageSource,
    price: i64,
    price_version: u64,
    fx_e6: i64,
    margin_bps: u32,
    status: u16,
    finish: Arc<str>,
    streamed: bool,
    latency_ms: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstream_id: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    tags: Tags,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_tokens_max_applied: Option<u64>,
}

impl Details {
    fn of(record: &UsageRecord) -> Self {
        Self {
            product_version: record.caller.product_version,
            operation: record.operation,
            model_requested: Arc::clone(&record.model_requested),
            provider: Arc::clone(&record.provider),
            usage: record.usage,
            source: record.source,
            price: record.price_nanos,
            price_version: record.price_version,
            fx_e6: record.fx_e6,
            margin_bps: record.margin_bps,
            status: record.status,
            finish: Arc::clone(&record.finish),
            streamed: record.streamed,
            latency_ms: record.latency_ms,
            first_byte_ms: record.first_byte_ms,
            attempts: record.attempts.clone(),
            upstream_id: record.upstream_id.clone(),
            tags: record.tags.clone(),
            output_tokens_max_applied: record.output_tokens_max_applied,
        }
    }
}

/// Adds a record as it is booked.
pub(crate) fn push_record(
    rows: &mut Rows,
    record: &UsageRecord,
    booked: Amounts,
    accounts: &[AccountId],
) -> Result<(), Fault> {
    let caller = &record.caller;
    let (user, key) = (caller.user.map(UserId::to_bytes), caller.key.map(KeyId::to_bytes));
    rows.push(&[
        Cell::Blob(&record.id.to_bytes()),
        Cell::Int(record.at.as_microsecond()),
        Cell::Blob(&caller.tenant.to_bytes()),
        Cell::id_opt(user.as_ref()),
        Cell::id_opt(key.as_ref()),
        Cell::Text(&record.model_served),
        Cell::Int(record.cost_nanos),
        Cell::Int(booked.amount),
        Cell::Int(booked.overrun),
        Cell::Blob(&accounts_blob(accounts)),
        Cell::Text(&json(&Details::of(record))?),
    ]);
    Ok(())
}

/// A row of [`USAGE_COLUMNS`] as it was sealed.
pub(crate) fn sealed_cells(row: &SqliteRow) -> Result<[Cell<'_>; 11], Fault> {
    let blob_opt = |column| Ok::<_, Fault>(row.try_get::<Option<&[u8]>, _>(column)?.map_or(Cell::Null, Cell::Blob));
    Ok([
        Cell::Blob(row.try_get(0)?),
        Cell::Int(row.try_get(1)?),
        Cell::Blob(row.try_get(2)?),
        blob_opt(3)?,
        blob_opt(4)?,
        Cell::Text(row.try_get(5)?),
        Cell::Int(row.try_get(6)?),
        Cell::Int(row.try_get(7)?),
        Cell::Int(row.try_get(8)?),
        Cell::Blob(row.try_get(9)?),
        Cell::Text(row.try_get(10)?),
    ])
}

pub(crate) fn from_row(row: &SqliteRow) -> Result<UsageRecord, Fault> {
    let details: Details = row.json("details")?;
    Ok(UsageRecord {
        id: row.id("id", RequestId::from_bytes)?,
        at: row.time("at")?,
        caller: CallerIds {
            tenant: row.id("tenant_id", TenantId::from_bytes)?,
            user: row.id_opt("user_id", UserId::from_bytes)?,
            key: row.id_opt("key_id", KeyId::from_bytes)?,
            product_version: details.product_version,
        },
        operation: details.operation,
        model_requested: details.model_requested,
        provider: details.provider,
        model_served: row.text("model_served")?,
        usage: details.usage,
        source: details.source,
        cost_nanos: row.int("cost")?,
        price_nanos: details.price,
        charged_nanos: row.int("charged")?,
        overrun_nanos: row.int("overrun")?,
        price_version: details.price_version,
        fx_e6: details.fx_e6,
        margin_bps: details.margin_bps,
        status: details.status,
        finish: details.finish,
        streamed: details.streamed,
        latency_ms: details.latency_ms,
        first_byte_ms: details.first_byte_ms,
        attempts: details.attempts,
        upstream_id: details.upstream_id,
        tags: details.tags,
        output_tokens_max_applied: details.output_tokens_max_applied,
    })
}

/// Records are entered into the lists of their tenant, of their user and of everybody many at a time, in the order of the
/// lists: that changes a few pages per thousand records instead of one per record. Until then a reader looks through them.
pub(crate) const LISTED_TOGETHER: i64 = 1_024;

/// Enters what is not in the lists yet.
pub(crate) const ENTER_INTO_LISTS: &str = "INSERT INTO usage_lists (list, at, id, row) SELECT list, at, id, row FROM ( \
     SELECT x'' AS list, at, id, row FROM usage_records WHERE row > (SELECT row FROM listed) \
     UNION ALL SELECT tenant_id, at, id, row FROM usage_records WHERE row > (SELECT row FROM listed) \
     UNION ALL SELECT user_id, at, id, row FROM usage_records \
       WHERE row > (SELECT row FROM listed) AND user_id IS NOT NULL) ORDER BY list, at, id";

/// Notes how far the lists go, of usage records and of ledger entries.
pub(crate) const NOTE_LISTED: &str = "UPDATE listed SET row = coalesce((SELECT max(row) FROM usage_records), 0), \
     batch = (SELECT max(id) FROM ledger_batches)";

/// A page of records, the newest first.
pub(crate) async fn list(
    readers: &SqlitePool,
    filter: &UsageFilter,
    page: PageRequest,
) -> Result<Page<UsageRecord>, Fault> {
    let rows = list_query(filter, page).build().fetch_all(readers).await?;
    page_of(rows, page, from_row, |record| record.id.as_u128())
}

/// The newest of the lists and of what is not in them yet.
fn list_query(filter: &UsageFilter, page: PageRequest) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM (SELECT u.* FROM ");
    if let Some(id) = filter.id {
        sql.push("usage_records u WHERE u.id = ").push_bind(id.to_bytes().to_vec());
    } else {
        let user = filter.user.map(|user| user.to_bytes().to_vec());
        let list = user.or_else(|| filter.tenant.map(|tenant| tenant.to_bytes().to_vec())).unwrap_or_default();
        sql.push("usage_lists l CROSS JOIN usage_records u ON u.row = l.row WHERE l.list = ").push_bind(list);
        push_filter(&mut sql, "l", filter, page);
        sql.push(") UNION ALL SELECT * FROM (SELECT u.* FROM usage_records u ");
        sql.push("WHERE u.row > (SELECT row FROM listed)");
    }
    push_filter(&mut sql, "u", filter, page);
    sql.push(") ORDER BY at DESC, id DESC LIMIT ").push_bind(rows_wanted(page));
    sql
}

/// The rest of the filter, and the page, by the columns `at` and `id` of `source`.
fn push_filter(sql: &mut QueryBuilder<Sqlite>, source: &str, filter: &UsageFilter, page: PageRequest) {
    push_caller(sql, filter);
    if let Some(model) = &filter.model {
        push_days_of_model(sql, source, model);
    }
    if let Some(from) = filter.from {
        sql.push(format_args!(" AND {source}.at >= ")).push_bind(from.as_microsecond());
    }
    if let Some(to) = filter.to {
        sql.push(format_args!(" AND {source}.at < ")).push_bind(to.as_microsecond());
    }
    if let Some(Cursor(after)) = page.after {
        sql.push(format_args!(" AND ({source}.at, {source}.id) < (SELECT at, id FROM usage_records WHERE id = "));
        sql.push_bind(after.to_be_bytes().to_vec()).push(")");
    }
    sql.push(format_args!(" ORDER BY {source}.at DESC, {source}.id DESC LIMIT ")).push_bind(rows_wanted(page));
}

/// Only from the first to the last day on which a model was served: the totals know, so that nobody looks through a list
/// for what is not in it.
fn push_days_of_model(sql: &mut QueryBuilder<Sqlite>, source: &str, model: &Arc<str>) {
    for (bound, day) in [(">=", "min(day)"), ("<", "max(day) + 1")] {
        sql.push(format_args!(" AND {source}.at {bound} (SELECT {day} FROM usage_totals WHERE model_served = "));
        sql.push_bind(model.to_string()).push(format_args!(") * {DAY_MICROS}"));
    }
}

/// Daily sums, oldest day first, one more than a report may have at most.
pub(crate) async fn daily(readers: &SqlitePool, filter: &UsageFilter) -> Result<Vec<UsageDay>, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM usage_daily WHERE TRUE");
    push_days(&mut sql, filter);
    let rows_max = REPORT_ROWS_MAX + 1;
    sql.push(format_args!(" ORDER BY day, tenant_id, user_id, key_id, model_served LIMIT {rows_max}"));
    sql.build().fetch_all(readers).await?.iter().map(day_from_row).collect()
}

/// Every day that the time of the filter touches.
pub(crate) fn push_days(sql: &mut QueryBuilder<Sqlite>, filter: &UsageFilter) {
    push_caller(sql, filter);
    if let Some(from) = filter.from {
        sql.push(" AND day >= ").push_bind(day(from));
    }
    if let Some(to) = filter.to {
        sql.push(" AND day <= ").push_bind((to.as_microsecond() - 1).div_euclid(DAY_MICROS));
    }
}

fn push_caller(sql: &mut QueryBuilder<Sqlite>, filter: &UsageFilter) {
    // A user has less than their tenant: with the sign, SQLite does not look for the tenant's rows first.
    let tenant_column = if filter.user.is_some() { "+tenant_id" } else { "tenant_id" };
    let ids = [
        (tenant_column, filter.tenant.map(TenantId::to_bytes)),
        ("user_id", filter.user.map(UserId::to_bytes)),
        ("key_id", filter.key.map(KeyId::to_bytes)),
    ];
    for (column, id) in ids {
        if let Some(id) = id {
            sql.push(" AND ").push(column).push(" = ").push_bind(id.to_vec());
        }
    }
    if let Some(model) = &filter.model {
        sql.push(" AND model_served = ").push_bind(model.to_string());
    }
}

pub(crate) fn day_from_row(row: &SqliteRow) -> Result<UsageDay, Fault> {
    Ok(UsageDay {
        day: date(row.int("day")?)?,
        tenant: row.id("tenant_id", TenantId::from_bytes)?,
        user: row.id_opt("user_id", UserId::from_bytes)?,
        key: row.id_opt("key_id", KeyId::from_bytes)?,
        model: row.text("model_served")?,
        sums: sums_from_row(row)?,
    })
}

fn sums_from_row(row: &SqliteRow) -> Result<UsageSums, Fault> {
    let mut columns = [0; UsageSums::COLUMNS.len()];
    for (sum, column) in columns.iter_mut().zip(UsageSums::COLUMNS) {
        *sum = row.int(column)?;
    }
    Ok(UsageSums::from_columns(columns))
}

const DAY_MICROS: i64 = 86_400_000_000;

/// The day of a moment in UTC, counted from 1970.
pub(crate) fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

/// The day, counted from 1970.
pub(crate) fn day_number(day: Date) -> Result<i64, Fault> {
    let epoch = Timestamp::UNIX_EPOCH.to_zoned(tz::TimeZone::UTC).date();
    let span = day.since((jiff::Unit::Day, epoch)).map_err(StoreError::unavailable)?;
    Ok(span.get_days().into())
}

pub(crate) fn date(day: i64) -> Result<Date, Fault> {
    let epoch = Timestamp::UNIX_EPOCH.to_zoned(tz::TimeZone::UTC).date();
    let span = Span::new().try_days(day).map_err(StoreError::unavailable)?;
    epoch.checked_add(span).map_err(|error| StoreError::unavailable(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteStore;
    use sqlx::AssertSqlSafe;

    /// A list is read from where the page begins, and no further than it is long.
    #[tokio::test]
    async fn a_list_is_found_by_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("cfr.db"), Default::default()).await.unwrap();
        let page = PageRequest { after: Some(Cursor(1)), limit: 10 };
        for filter in [
            UsageFilter::default(),
            UsageFilter { tenant: Some(TenantId::from_u128(1)), ..Default::default() },
            UsageFilter { user: Some(UserId::from_u128(1)), from: Some(Timestamp::UNIX_EPOCH), ..Default::default() },
        ] {
            let sql = format!("EXPLAIN QUERY PLAN {}", list_query(&filter, page).sql().as_str());
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(store.readers()).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.try_get("detail").unwrap()).collect();
            let has = |step: &str| plan.iter().any(|found| format!("{found} ").starts_with(step));
            assert!(has("SEARCH l USING PRIMARY KEY (list=? AND "), "{filter:?}: {plan:#?}");
            assert!(has("SEARCH u USING INTEGER PRIMARY KEY (rowid>?)"), "{filter:?}: {plan:#?}");
            assert!(!has("SCAN u ") && !has("SCAN l ") && !has("SCAN usage_records"), "{filter:?}: {plan:#?}");
        }
        store.close().await.unwrap();
    }
}
