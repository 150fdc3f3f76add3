//! Usage records and their daily sums: how they lie in columns, and how they are asked for.

use std::sync::Arc;

use cfr_billing::store::{Cursor, Page, PageRequest, StoreError};
use cfr_billing::usage::{REPORT_ROWS_MAX, UsageDay, UsageFilter, UsageSums};
use cfr_core::chat::{Operation, Tags, Usage, UsageSource};
use cfr_core::id::{KeyId, ProductVersionId, RequestId, TenantId, UserId};
use cfr_core::ledger::{Attempt, CallerIds, UsageRecord};
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use jiff::{Span, tz};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, json, uuid};

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

/// What no query asks for, as it is booked and sealed.
pub(crate) fn details(record: &UsageRecord) -> Result<String, Fault> {
    json(&Details::of(record))
}

pub(crate) fn from_row(row: &PgRow) -> Result<UsageRecord, Fault> {
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

/// A page of records, the newest first.
pub(crate) async fn list(
    connection: &mut PgConnection,
    filter: &UsageFilter,
    page: PageRequest,
) -> Result<Page<UsageRecord>, Fault> {
    let after = match page.after {
        Some(cursor) => match place_of(connection, cursor).await? {
            Some(place) => Some(place),
            None => return Ok(Page { items: Vec::new(), next: None }),
        },
        None => None,
    };
    let rows = list_query(filter, after, page).build().persistent(false).fetch_all(connection).await?;
    page_of(rows, page, from_row, |record| record.id.as_u128())
}

/// Where the record of a cursor lies in the order of time, and so in which partition.
async fn place_of(connection: &mut PgConnection, Cursor(id): Cursor) -> Result<Option<(i64, Uuid)>, Fault> {
    let id = Uuid::from_u128(id);
    let at = sqlx::query_scalar("SELECT at FROM charge_keys WHERE id = $1").persistent(false).bind(id);
    Ok(at.fetch_optional(connection).await?.map(|at: i64| (at, id)))
}

fn list_query(filter: &UsageFilter, after: Option<(i64, Uuid)>, page: PageRequest) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("SELECT * FROM usage_records WHERE TRUE");
    if let Some(id) = filter.id {
        let id = uuid(id.to_bytes());
        sql.push(" AND id = ").push_bind(id).push(" AND at = (SELECT at FROM charge_keys WHERE id = ");
        sql.push_bind(id).push(")");
    }
    push_caller(&mut sql, filter);
    if let Some(model) = &filter.model {
        push_days_of_model(&mut sql, model);
    }
    if let Some(from) = filter.from {
        sql.push(" AND at >= ").push_bind(from.as_microsecond());
    }
    if let Some(to) = filter.to {
        sql.push(" AND at < ").push_bind(to.as_microsecond());
    }
    if let Some((at, id)) = after {
        // The first condition leaves partitions out, the second is the order of the list.
        sql.push(" AND at <= ")
            .push_bind(at)
            .push(" AND (at, id) < (")
            .push_bind(at)
            .push(", ")
            .push_bind(id)
            .push(")");
    }
    sql.push(" ORDER BY at DESC, id DESC LIMIT ").push_bind(rows_wanted(page));
    sql
}

/// Only from the first to the last day on which a model was served: the totals know, so that nobody looks through a list
/// for what is not in it.
fn push_days_of_model(sql: &mut QueryBuilder<Postgres>, model: &Arc<str>) {
    for (bound, day) in [(">=", "min(day)"), ("<", "max(day) + 1")] {
        sql.push(format_args!(" AND at {bound} (SELECT {day} FROM usage_totals WHERE model_served = "));
        sql.push_bind(model.to_string()).push(format_args!(") * {DAY_MICROS}"));
    }
}

/// Daily sums, oldest day first, one more than a report may have at most.
pub(crate) async fn daily(connection: &mut PgConnection, filter: &UsageFilter) -> Result<Vec<UsageDay>, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM usage_daily WHERE TRUE");
    push_days(&mut sql, filter);
    let rows_max = REPORT_ROWS_MAX + 1;
    sql.push(format_args!(" ORDER BY day, tenant_id, user_id, key_id, model_served LIMIT {rows_max}"));
    sql.build().persistent(false).fetch_all(connection).await?.iter().map(day_from_row).collect()
}

/// Every day that the time of the filter touches.
pub(crate) fn push_days(sql: &mut QueryBuilder<Postgres>, filter: &UsageFilter) {
    push_caller(sql, filter);
    if let Some(from) = filter.from {
        sql.push(" AND day >= ").push_bind(day(from));
    }
    if let Some(to) = filter.to {
        sql.push(" AND day <= ").push_bind((to.as_microsecond() - 1).div_euclid(DAY_MICROS));
    }
}

fn push_caller(sql: &mut QueryBuilder<Postgres>, filter: &UsageFilter) {
    let ids = [
        ("tenant_id", filter.tenant.map(TenantId::to_bytes)),
        ("user_id", filter.user.map(UserId::to_bytes)),
        ("key_id", filter.key.map(KeyId::to_bytes)),
    ];
    for (column, id) in ids {
        if let Some(id) = id {
            sql.push(" AND ").push(column).push(" = ").push_bind(uuid(id));
        }
    }
    if let Some(model) = &filter.model {
        sql.push(" AND model_served = ").push_bind(model.to_string());
    }
}

pub(crate) fn day_from_row(row: &PgRow) -> Result<UsageDay, Fault> {
    Ok(UsageDay {
        day: date(row.int("day")?)?,
        tenant: row.id("tenant_id", TenantId::from_bytes)?,
        user: row.id_opt("user_id", UserId::from_bytes)?,
        key: row.id_opt("key_id", KeyId::from_bytes)?,
        model: row.text("model_served")?,
        sums: sums_from_row(row)?,
    })
}

pub(crate) fn sums_from_row(row: &PgRow) -> Result<UsageSums, Fault> {
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
