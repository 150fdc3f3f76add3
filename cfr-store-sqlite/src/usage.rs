//! Usage records and their daily sums: how they lie in columns, and how they are asked for.

use std::sync::Arc;

use cfr_billing::store::{Cursor, Page, PageRequest, StoreError};
use cfr_billing::usage::{UsageDay, UsageFilter};
use cfr_core::chat::{Tags, UsageSource};
use cfr_core::id::{AccountId, KeyId, ProductVersionId, RequestId, TenantId, UserId};
use cfr_core::ledger::{Attempt, CallerIds, UsageRecord};
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use jiff::{Span, tz};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use crate::bulk::Cell;
use crate::chain::Amounts;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, accounts_blob, json};

/// Columns of a usage record, without its row number.
pub(crate) const USAGE_CELLS: usize = 26;

/// What few records have, in one JSON column.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Details {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstream_id: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    tags: Tags,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_tokens_max_applied: Option<u64>,
}

/// The columns of a record in the order of the table, appended to `cells`.
pub(crate) fn push_cells(
    cells: &mut Vec<Cell>,
    record: &UsageRecord,
    booked: Amounts,
    accounts: &[AccountId],
) -> Result<(), Fault> {
    let caller = &record.caller;
    cells.extend([
        Cell::Blob(record.id.to_bytes().to_vec()),
        Cell::Int(record.at.as_microsecond()),
        Cell::Blob(caller.tenant.to_bytes().to_vec()),
        Cell::id_opt(caller.user.map(UserId::to_bytes)),
        Cell::id_opt(caller.key.map(KeyId::to_bytes)),
        Cell::id_opt(caller.product_version.map(ProductVersionId::to_bytes)),
        Cell::Text(record.operation.name().into()),
        Cell::Text(Arc::clone(&record.model_requested)),
        Cell::Text(Arc::clone(&record.provider)),
        Cell::Text(Arc::clone(&record.model_served)),
        Cell::Text(json(&record.usage)?.into()),
        Cell::Int(record.source.code().into()),
        Cell::Int(record.cost_nanos),
        Cell::Int(record.price_nanos),
        Cell::Int(booked.amount),
        Cell::Int(booked.overrun),
        Cell::Int(record.price_version.cast_signed()),
        Cell::Int(record.fx_e6),
        Cell::Int(record.margin_bps.into()),
        Cell::Int(record.status.into()),
        Cell::Text(Arc::clone(&record.finish)),
        Cell::Int(record.streamed.into()),
        Cell::Int(record.latency_ms.into()),
        Cell::int_opt(record.first_byte_ms.map(i64::from)),
        details(record)?,
        Cell::Blob(accounts_blob(accounts)),
    ]);
    Ok(())
}

fn details(record: &UsageRecord) -> Result<Cell, Fault> {
    let plain = record.attempts.is_empty()
        && record.upstream_id.is_none()
        && record.tags.is_empty()
        && record.output_tokens_max_applied.is_none();
    if plain {
        return Ok(Cell::Null);
    }
    let details = Details {
        attempts: record.attempts.clone(),
        upstream_id: record.upstream_id.clone(),
        tags: record.tags.clone(),
        output_tokens_max_applied: record.output_tokens_max_applied,
    };
    Ok(Cell::Text(json(&details)?.into()))
}

fn from_row(row: &SqliteRow) -> Result<UsageRecord, Fault> {
    let details: Details = match row.text_opt("details")? {
        Some(_) => row.json("details")?,
        None => Details::default(),
    };
    let unknown = || StoreError::unavailable("a usage record has a source that this version does not know");
    Ok(UsageRecord {
        id: row.id("id", RequestId::from_bytes)?,
        at: row.time("at")?,
        caller: caller(row)?,
        operation: row.word("operation")?,
        model_requested: row.text("model_requested")?,
        provider: row.text("provider")?,
        model_served: row.text("model_served")?,
        usage: row.json("usage")?,
        source: UsageSource::from_code(row.number("source")?).ok_or_else(unknown)?,
        cost_nanos: row.int("cost")?,
        price_nanos: row.int("price")?,
        charged_nanos: row.int("charged")?,
        overrun_nanos: row.int("overrun")?,
        price_version: row.int("price_version")?.cast_unsigned(),
        fx_e6: row.int("fx_e6")?,
        margin_bps: row.number("margin_bps")?,
        status: row.number("status")?,
        finish: row.text("finish")?,
        streamed: row.flag("streamed")?,
        latency_ms: row.number("latency_ms")?,
        first_byte_ms: row.number_opt("first_byte_ms")?,
        attempts: details.attempts,
        upstream_id: details.upstream_id,
        tags: details.tags,
        output_tokens_max_applied: details.output_tokens_max_applied,
    })
}

fn caller(row: &SqliteRow) -> Result<CallerIds, Fault> {
    Ok(CallerIds {
        tenant: row.id("tenant_id", TenantId::from_bytes)?,
        user: row.id_opt("user_id", UserId::from_bytes)?,
        key: row.id_opt("key_id", KeyId::from_bytes)?,
        product_version: row.id_opt("product_version_id", ProductVersionId::from_bytes)?,
    })
}

/// A page of records, the newest first.
pub(crate) async fn list(
    readers: &SqlitePool,
    filter: &UsageFilter,
    page: PageRequest,
) -> Result<Page<UsageRecord>, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM usage_records WHERE TRUE");
    if let Some(id) = filter.id {
        sql.push(" AND id = ").push_bind(id.to_bytes().to_vec());
    }
    push_caller(&mut sql, filter);
    if let Some(from) = filter.from {
        sql.push(" AND at >= ").push_bind(from.as_microsecond());
    }
    if let Some(to) = filter.to {
        sql.push(" AND at < ").push_bind(to.as_microsecond());
    }
    if let Some(Cursor(after)) = page.after {
        let position = "(SELECT at, id FROM usage_records WHERE id = ";
        sql.push(" AND (at, id) < ").push(position).push_bind(after.to_be_bytes().to_vec()).push(")");
    }
    sql.push(" ORDER BY at DESC, id DESC LIMIT ").push_bind(rows_wanted(page));
    let rows = sql.build().fetch_all(readers).await?;
    page_of(rows, page, from_row, |record| record.id.as_u128())
}

/// Daily sums, oldest day first.
pub(crate) async fn daily(readers: &SqlitePool, filter: &UsageFilter) -> Result<Vec<UsageDay>, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM usage_daily WHERE TRUE");
    push_caller(&mut sql, filter);
    if let Some(from) = filter.from {
        sql.push(" AND day >= ").push_bind(day(from));
    }
    if let Some(to) = filter.to {
        sql.push(" AND day * 86400000000 < ").push_bind(to.as_microsecond());
    }
    sql.push(" ORDER BY day, tenant_id, user_id, key_id, model_served");
    sql.build().fetch_all(readers).await?.iter().map(day_from_row).collect()
}

fn push_caller(sql: &mut QueryBuilder<Sqlite>, filter: &UsageFilter) {
    let ids = [
        ("tenant_id", filter.tenant.map(TenantId::to_bytes)),
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

fn day_from_row(row: &SqliteRow) -> Result<UsageDay, Fault> {
    Ok(UsageDay {
        day: date(row.int("day")?)?,
        tenant: row.id("tenant_id", TenantId::from_bytes)?,
        user: row.id_opt("user_id", UserId::from_bytes)?,
        key: row.id_opt("key_id", KeyId::from_bytes)?,
        model: row.text("model_served")?,
        requests: row.int("requests")?,
        tokens_in: row.int("tokens_in")?,
        tokens_out: row.int("tokens_out")?,
        cost_nanos: row.int("cost")?,
        charged_nanos: row.int("charged")?,
    })
}

/// The day of a moment in UTC, counted from 1970.
pub(crate) fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

fn date(day: i64) -> Result<Date, Fault> {
    let epoch = Timestamp::UNIX_EPOCH.to_zoned(tz::TimeZone::UTC).date();
    let span = Span::new().try_days(day).map_err(StoreError::unavailable)?;
    epoch.checked_add(span).map_err(|error| StoreError::unavailable(error).into())
}
