//! Reports: sums over the rollups, by any of their dimensions.

use cfr_billing::usage::{Dimension, REPORT_ROWS_MAX, ReportRow, UsageFilter, UsageSums};
use cfr_core::id::{KeyId, TenantId, UserId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::error::Fault;
use crate::row::Fields;
use crate::usage::{date, push_days, sums_from_row};

/// Sums by any of day, tenant, user, key and model.
pub(crate) async fn rows(
    connection: &mut PgConnection,
    filter: &UsageFilter,
    by: &[Dimension],
) -> Result<Vec<ReportRow>, Fault> {
    let rows = report_query(filter, by).build().persistent(false).fetch_all(connection).await?;
    rows.iter().map(|row| report_row(row, by)).collect()
}

/// The columns that rollups have a row for each of, in the order of reports.
const DIMENSIONS: [(Dimension, &str); 6] = [
    (Dimension::Day, "day"),
    (Dimension::Tenant, "tenant_id"),
    (Dimension::User, "user_id"),
    (Dimension::Key, "key_id"),
    (Dimension::Model, "model_served COLLATE \"C\""),
    (Dimension::Currency, "currency"),
];

fn report_query(filter: &UsageFilter, by: &[Dimension]) -> QueryBuilder<Postgres> {
    let columns: Vec<_> =
        DIMENSIONS.iter().filter(|(dimension, _)| by.contains(dimension)).map(|(_, name)| *name).collect();
    let sums = UsageSums::COLUMNS.map(|name| format!("least(sum({name}), 9223372036854775807)::bigint AS {name}"));
    let names = columns.iter().map(|name| name.split(' ').next().unwrap_or(name));
    let wanted: Vec<_> = names.chain(sums.iter().map(String::as_str)).collect();
    let people = filter.user.is_some() || filter.key.is_some();
    let whole = !people && !by.iter().any(|dimension| matches!(dimension, Dimension::User | Dimension::Key));
    let table = if whole { "usage_totals" } else { "usage_daily" };
    let mut sql = QueryBuilder::new(format!("SELECT {} FROM {table}", wanted.join(", ")));
    if by.contains(&Dimension::Currency) {
        sql.push(" LEFT JOIN (SELECT id, currency FROM tenants) AS t ON t.id = tenant_id");
    }
    sql.push(" WHERE TRUE");
    push_days(&mut sql, filter);
    if columns.is_empty() {
        sql.push(" HAVING count(*) > 0");
    } else {
        let (order, columns) = (columns.join(", "), columns.iter().map(|name| name.split(' ').next().unwrap_or(name)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        sql.push(format_args!(" GROUP BY {columns} ORDER BY {order} LIMIT {}", REPORT_ROWS_MAX + 1));
    }
    sql
}

fn report_row(row: &PgRow, by: &[Dimension]) -> Result<ReportRow, Fault> {
    let has = |dimension| by.contains(&dimension);
    Ok(ReportRow {
        day: if has(Dimension::Day) { Some(date(row.int("day")?)?) } else { None },
        tenant: if has(Dimension::Tenant) { row.id_opt("tenant_id", TenantId::from_bytes)? } else { None },
        user: if has(Dimension::User) { row.id_opt("user_id", UserId::from_bytes)? } else { None },
        key: if has(Dimension::Key) { row.id_opt("key_id", KeyId::from_bytes)? } else { None },
        model: if has(Dimension::Model) { Some(row.text("model_served")?) } else { None },
        currency: if has(Dimension::Currency) { row.word_opt("currency")? } else { None },
        sums: sums_from_row(row)?,
    })
}

/// Users who made a request.
pub(crate) async fn active_users(connection: &mut PgConnection, filter: &UsageFilter) -> Result<i64, Fault> {
    // Counting distinct values sorts them all; telling them apart first does not.
    let distinct = "SELECT count(*) FROM (SELECT DISTINCT user_id FROM usage_daily WHERE user_id <> ";
    let mut sql = QueryBuilder::<Postgres>::new(distinct);
    sql.push_bind(Uuid::nil());
    push_days(&mut sql, filter);
    sql.push(") AS people");
    Ok(sql.build_query_scalar().persistent(false).fetch_one(connection).await?)
}
