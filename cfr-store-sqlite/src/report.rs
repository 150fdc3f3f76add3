//! Reports: sums over the rollups, by any of their dimensions.

use cfr_billing::usage::{Dimension, REPORT_ROWS_MAX, ReportRow, UsageFilter, UsageSums};
use cfr_core::id::{KeyId, TenantId, UserId};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use crate::error::Fault;
use crate::row::Fields;
use crate::usage::{date, push_days};

/// Sums by any of day, tenant, user, key and model.
pub(crate) async fn rows(
    readers: &SqlitePool,
    filter: &UsageFilter,
    by: &[Dimension],
) -> Result<Vec<ReportRow>, Fault> {
    let rows = report_query(filter, by).build().fetch_all(readers).await?;
    rows.iter().map(|row| report_row(row, by)).collect()
}

/// The columns that rollups have a row for each of, in the order of reports.
const DIMENSIONS: [(Dimension, &str); 6] = [
    (Dimension::Day, "day"),
    (Dimension::Tenant, "tenant_id"),
    (Dimension::User, "user_id"),
    (Dimension::Key, "key_id"),
    (Dimension::Model, "model_served"),
    (Dimension::Currency, "currency"),
];

/// SQLite's sum of numbers that do not fit is an error, so their halves are added up.
fn report_query(filter: &UsageFilter, by: &[Dimension]) -> QueryBuilder<Sqlite> {
    let columns: Vec<_> =
        DIMENSIONS.iter().filter(|(dimension, _)| by.contains(dimension)).map(|(_, name)| *name).collect();
    let halves = |name: &str| format!("sum({name} >> 32) AS {name}_high, sum({name} & 4294967295) AS {name}_low");
    let sums = UsageSums::COLUMNS.map(halves);
    let wanted: Vec<_> = columns.iter().copied().chain(sums.iter().map(String::as_str)).collect();
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
        let columns = columns.join(", ");
        sql.push(format_args!(" GROUP BY {columns} ORDER BY {columns} LIMIT {}", REPORT_ROWS_MAX + 1));
    }
    sql
}

fn report_row(row: &SqliteRow, by: &[Dimension]) -> Result<ReportRow, Fault> {
    let has = |dimension| by.contains(&dimension);
    let mut columns = [0; UsageSums::COLUMNS.len()];
    for (sum, name) in columns.iter_mut().zip(UsageSums::COLUMNS) {
        let halves = (row.int(&format!("{name}_high"))?, row.int(&format!("{name}_low"))?);
        *sum = i64::try_from((i128::from(halves.0) << 32) + i128::from(halves.1)).unwrap_or(i64::MAX);
    }
    Ok(ReportRow {
        day: if has(Dimension::Day) { Some(date(row.int("day")?)?) } else { None },
        tenant: if has(Dimension::Tenant) { row.id_opt("tenant_id", TenantId::from_bytes)? } else { None },
        user: if has(Dimension::User) { row.id_opt("user_id", UserId::from_bytes)? } else { None },
        key: if has(Dimension::Key) { row.id_opt("key_id", KeyId::from_bytes)? } else { None },
        model: if has(Dimension::Model) { Some(row.text("model_served")?) } else { None },
        currency: if has(Dimension::Currency) { row.word_opt("currency")? } else { None },
        sums: UsageSums::from_columns(columns),
    })
}

/// Users who made a request.
pub(crate) async fn active_users(readers: &SqlitePool, filter: &UsageFilter) -> Result<i64, Fault> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT count(DISTINCT user_id) FROM usage_daily WHERE user_id <> x''");
    push_days(&mut sql, filter);
    Ok(sql.build_query_scalar().fetch_one(readers).await?)
}
