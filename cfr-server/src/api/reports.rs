//! `/reports`: what usage adds up to, over days, tenants, users, keys and models. Amounts of different currencies are never
//! added up: each has rows of its own.

use std::sync::Arc;

use axum::Json as Answer;
use axum::response::{IntoResponse, Response};
use cfr_billing::store::Reach;
use cfr_billing::usage::{Dimension, REPORT_ROWS_MAX, ReportRow as Row, UsageFilter, UsageSums};
use cfr_core::id::{KeyId, TenantId, UserId};
use cfr_core::money::{Currency, Money as Amount};
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::export::{self, Format};
use super::input::Params;
use super::money::Money;
use super::page::Listing;
use super::problem::{Problem, Problems};
use super::schema;
use super::usage::{self, UsageQuery};

/// Sums over many requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportRow {
    /// The day, UTC, when grouped by days.
    #[schema(value_type = Option<schema::Day>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) day: Option<Date>,
    /// The tenant, when grouped by tenants.
    #[schema(value_type = Option<schema::TenantId>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<TenantId>,
    /// The user, when grouped by users; absent for services.
    #[schema(value_type = Option<schema::UserId>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<UserId>,
    /// The key, when grouped by keys; absent where none was used.
    #[schema(value_type = Option<schema::KeyId>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<KeyId>,
    /// The served model, when grouped by models; empty when no provider was asked.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<Arc<str>>,
    /// The sums.
    #[serde(flatten)]
    pub(crate) sums: Sums,
}

/// What requests add up to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sums {
    /// Requests, failed ones included.
    pub(crate) requests: i64,
    /// Of them those that ended with a status from 400 on.
    pub(crate) failed: i64,
    /// Prompt tokens.
    pub(crate) tokens_in: i64,
    /// Answer tokens.
    pub(crate) tokens_out: i64,
    /// What providers charge; absent for all but who runs the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<Money>,
    /// What customers were charged.
    pub(crate) charged: Money,
    /// Charged minus cost; absent for all but who runs the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) margin: Option<Money>,
    /// From arrival to the last byte, in milliseconds, on average; null when it is not known of any request.
    pub(crate) latency_ms: Option<i64>,
    /// From arrival to the upstream's first byte, in milliseconds, on average.
    pub(crate) first_byte_ms: Option<i64>,
}

impl Sums {
    /// What the platform pays and earns is for who runs it (money.md §2.8).
    fn present(sums: &UsageSums, currency: Currency, reach: Reach) -> Self {
        let inside = |nanos| reach.is_all().then(|| Money::nanos(nanos, currency));
        Self {
            requests: sums.requests,
            failed: sums.failed,
            tokens_in: sums.tokens_in,
            tokens_out: sums.tokens_out,
            cost: inside(sums.cost_nanos),
            charged: Money::nanos(sums.charged_nanos, currency),
            margin: inside(sums.charged_nanos.saturating_sub(sums.cost_nanos)),
            latency_ms: mean(sums.latency_ms, sums.timed),
            first_byte_ms: mean(sums.first_byte_ms, sums.first_bytes),
        }
    }
}

/// Rounded down; none of nothing.
const fn mean(sum: i64, count: i64) -> Option<i64> {
    sum.checked_div(count)
}

impl ReportRow {
    fn present(row: Row, reach: Reach) -> Result<Self, Problem> {
        let currency = row.currency.ok_or_else(|| Problem::internal("usage of a tenant that is not there"))?;
        let sums = Sums::present(&row.sums, currency, reach);
        Ok(Self { day: row.day, tenant: row.tenant, user: row.user, key: row.key, model: row.model, sums })
    }
}

/// A row as a line of a table. Amounts are decimal numbers of `currency`.
#[derive(Debug, Serialize)]
struct Line {
    day: Option<Date>,
    tenant: Option<TenantId>,
    user: Option<UserId>,
    key: Option<KeyId>,
    model: Option<String>,
    requests: i64,
    failed: i64,
    tokens_in: i64,
    tokens_out: i64,
    cost: Option<String>,
    charged: String,
    currency: Option<Currency>,
    latency_ms: Option<i64>,
    first_byte_ms: Option<i64>,
}

impl Line {
    fn of(row: Row, reach: Reach) -> Self {
        let amount = |nanos| Amount::from_nanos(nanos, row.currency.unwrap_or(Currency::EUR)).to_decimal().to_string();
        let UsageSums { requests, failed, tokens_in, tokens_out, .. } = row.sums;
        Self {
            day: row.day,
            tenant: row.tenant,
            user: row.user,
            key: row.key,
            model: row.model.map(|model| export::cell(&model)),
            requests,
            failed,
            tokens_in,
            tokens_out,
            cost: reach.is_all().then(|| amount(row.sums.cost_nanos)),
            charged: amount(row.sums.charged_nanos),
            currency: row.currency,
            latency_ms: mean(row.sums.latency_ms, row.sums.timed),
            first_byte_ms: mean(row.sums.first_byte_ms, row.sums.first_bytes),
        }
    }
}

/// Which usage, and how it is grouped.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportQuery {
    /// What has rows of its own: any of `day`, `tenant`, `user`, `key` and `model`, with commas between them; one row per
    /// currency when absent.
    #[param(example = "day,model")]
    pub(crate) by: Option<String>,
    /// Only of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// Only of this user, by id or e-mail address.
    pub(crate) user: Option<String>,
    /// Only of this key.
    pub(crate) key: Option<String>,
    /// Only with this served model.
    pub(crate) model: Option<String>,
    /// From the day (UTC) of this moment on.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) from: Option<Timestamp>,
    /// Only days that begin before this moment.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) to: Option<Timestamp>,
    /// `json` when absent.
    #[param(inline)]
    pub(crate) format: Option<Format>,
}

/// Add usage up, by any of its dimensions.
#[utoipa::path(get, path = "/reports/usage", operation_id = "report_usage", tag = "usage", params(ReportQuery),
    responses((status = 200, description = "The rows", content((Listing<ReportRow> = "application/json"),
        (String = "text/csv"), (String = "application/x-ndjson"))), Problems))]
pub(crate) async fn sums(desk: Desk, Params(query): Params<ReportQuery>) -> Result<Response, Problem> {
    let by = dimensions(query.by.as_deref().unwrap_or_default())?;
    let rows = rows(&desk, &filter(&desk, &query).await?, &by).await?;
    let reach = desk.view.reach();
    let shown = |rows: Vec<Row>| {
        rows.into_iter().map(|row| ReportRow::present(row, reach)).collect::<Result<Vec<_>, Problem>>()
    };
    Ok(match query.format.unwrap_or_default() {
        Format::Json => Answer(Listing::complete(shown(rows)?)).into_response(),
        Format::Jsonl => Format::Jsonl.attach("usage-report", export::json_lines(&shown(rows)?)?),
        Format::Csv => {
            Format::Csv.attach("usage-report", export::csv(rows.into_iter().map(|row| Line::of(row, reach)), true)?)
        }
    })
}

/// How a platform, a tenant or a user is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Analytics {
    /// Users who made a request.
    pub(crate) active_users: i64,
    /// Everything together, one row per currency.
    pub(crate) total: Vec<ReportRow>,
    /// Day by day.
    pub(crate) days: Vec<ReportRow>,
    /// Model by model.
    pub(crate) models: Vec<ReportRow>,
}

/// Which usage.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AnalyticsQuery {
    /// Only of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// Only of this user, by id or e-mail address.
    pub(crate) user: Option<String>,
    /// From the day (UTC) of this moment on.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) from: Option<Timestamp>,
    /// Only days that begin before this moment.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) to: Option<Timestamp>,
}

/// Show requests, tokens, money, latency, failures and active users: in total, by day and by model.
#[utoipa::path(get, path = "/reports/analytics", operation_id = "report_analytics", tag = "usage", params(AnalyticsQuery),
    responses((status = 200, description = "The figures", body = Analytics), Problems))]
pub(crate) async fn analytics(desk: Desk, Params(query): Params<AnalyticsQuery>) -> Result<Answer<Analytics>, Problem> {
    let AnalyticsQuery { tenant, user, from, to } = query;
    let filter = filter(&desk, &ReportQuery { tenant, user, from, to, ..ReportQuery::default() }).await?;
    let shown = async |by: &[Dimension]| {
        let rows = rows(&desk, &filter, by).await?;
        rows.into_iter().map(|row| ReportRow::present(row, desk.view.reach())).collect::<Result<Vec<_>, Problem>>()
    };
    Ok(Answer(Analytics {
        active_users: desk.store.active_users(&filter).await?,
        total: shown(&[]).await?,
        days: shown(&[Dimension::Day]).await?,
        models: shown(&[Dimension::Model]).await?,
    }))
}

async fn rows(desk: &Desk, filter: &UsageFilter, by: &[Dimension]) -> Result<Vec<Row>, Problem> {
    let by: Vec<_> = by.iter().copied().chain([Dimension::Currency]).collect();
    not_too_many(desk.store.usage_report(filter, &by).await?)
}

/// Reports have no pages.
///
/// # Errors
/// 400 for more rows than one report has.
pub(super) fn not_too_many<T>(rows: Vec<T>) -> Result<Vec<T>, Problem> {
    if rows.len() > REPORT_ROWS_MAX {
        let message = "ask for a shorter time, for one tenant, or for fewer dimensions";
        return Err(Problem::bad_request(format_args!("the report has more than {REPORT_ROWS_MAX} rows: {message}")));
    }
    Ok(rows)
}

fn dimensions(text: &str) -> Result<Vec<Dimension>, Problem> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(dimension).collect()
}

fn dimension(name: &str) -> Result<Dimension, Problem> {
    Ok(match name {
        "day" => Dimension::Day,
        "tenant" => Dimension::Tenant,
        "user" => Dimension::User,
        "key" => Dimension::Key,
        "model" => Dimension::Model,
        _ => {
            return Err(Problem::bad_request(
                "by: any of `day`, `tenant`, `user`, `key` and `model`, with commas between",
            ));
        }
    })
}

async fn filter(desk: &Desk, query: &ReportQuery) -> Result<UsageFilter, Problem> {
    let ReportQuery { tenant, user, key, model, from, to, .. } = query.clone();
    usage::filter(desk, UsageQuery { tenant, user, key, model, from, to, ..UsageQuery::default() }).await
}
