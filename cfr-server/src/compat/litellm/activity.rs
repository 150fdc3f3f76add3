//! What was spent: `/spend/logs`, `/…/daily/activity`, `/global/spend/report`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cfr_billing::outside::Named;
use cfr_billing::store::{CatalogStore as _, PAGE_ROWS_MAX, PageRequest};
use cfr_billing::usage::{Dimension, ReportRow, UsageFilter, UsageSums};
use cfr_core::ledger::UsageRecord;
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::super::amount::Amount;
use super::super::body::{Params, invalid, refused};
use super::super::manager::Manager;
use super::super::names;
use super::super::view::served;
use super::notes;
use crate::auth::access::Permission;
use crate::error::ApiError;
use crate::state::App;

/// Which usage.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SpendQuery {
    api_key: Option<String>,
    user_id: Option<String>,
    team_id: Option<String>,
    /// Of `/…/daily/activity`: one id.
    user_ids: Option<String>,
    team_ids: Option<String>,
    request_id: Option<String>,
    start_date: Option<String>,
    end_date: Option<String>,
    group_by: Option<String>,
}

/// A request as LiteLLM logs it. Nobody keeps what was said.
#[derive(Debug, Serialize)]
pub(super) struct SpendLog {
    request_id: String,
    call_type: &'static str,
    api_key: Option<String>,
    spend: Amount,
    total_tokens: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    #[serde(rename = "startTime")]
    start_time: Timestamp,
    #[serde(rename = "endTime")]
    end_time: Timestamp,
    model: Arc<str>,
    model_group: Arc<str>,
    custom_llm_provider: Arc<str>,
    user: Option<String>,
    team_id: String,
    end_user: Option<Box<str>>,
    cache_hit: &'static str,
    status: &'static str,
    request_duration_ms: u32,
}

/// List requests, the newest first, at most a thousand.
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    manager: Manager,
    Params(query): Params<SpendQuery>,
) -> Result<Json<Vec<SpendLog>>, ApiError> {
    manager.may(Permission::UsageRead)?;
    let filter = query.filter(&app, &manager).await?;
    let page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    let mut logs = Vec::new();
    for record in manager.view.usage(&filter, page).await.map_err(refused)?.items {
        logs.push(log(&app, record).await?);
    }
    Ok(Json(logs))
}

async fn log(app: &App, record: UsageRecord) -> Result<SpendLog, ApiError> {
    let store = &*app.books.store;
    let user = match record.caller.user {
        Some(user) => Some(notes::of(store, Named::User(user)).await?.0),
        None => None,
    };
    let (team_id, _) = notes::of(store, Named::Tenant(record.caller.tenant)).await?;
    let (input, output) = (record.usage.input_total(), record.usage.output_total());
    let lasted = std::time::Duration::from_millis(record.latency_ms.into());
    let model = Arc::clone(served(&record));
    Ok(SpendLog {
        request_id: record.id.to_string(),
        call_type: record.operation.name(),
        api_key: record.caller.key.map(|key| key.to_string()),
        spend: Amount::of_nanos(record.charged_nanos),
        total_tokens: input.saturating_add(output),
        prompt_tokens: input,
        completion_tokens: output,
        start_time: record.at,
        end_time: record.at.checked_add(lasted).unwrap_or(record.at),
        model,
        model_group: record.model_requested,
        custom_llm_provider: record.provider,
        user,
        team_id,
        end_user: record.tags.user,
        cache_hit: if record.source == cfr_core::chat::UsageSource::Cache { "True" } else { "False" },
        status: if record.status < 400 { "success" } else { "failure" },
        request_duration_ms: record.latency_ms,
    })
}

/// Days with their sums.
#[derive(Debug, Serialize)]
pub(super) struct Activity {
    results: Vec<ActivityDay>,
    metadata: ActivityTotal,
}

#[derive(Debug, Serialize)]
struct ActivityDay {
    date: Date,
    metrics: Metrics,
    breakdown: Breakdown,
}

#[derive(Debug, Default, Serialize)]
struct Breakdown {
    models: BTreeMap<String, ModelMetrics>,
}

#[derive(Debug, Serialize)]
struct ModelMetrics {
    metrics: Metrics,
}

#[derive(Debug, Serialize)]
struct Metrics {
    spend: Amount,
    prompt_tokens: i64,
    completion_tokens: i64,
    total_tokens: i64,
    successful_requests: i64,
    failed_requests: i64,
    api_requests: i64,
}

#[derive(Debug, Serialize)]
struct ActivityTotal {
    total_spend: Amount,
    total_prompt_tokens: i64,
    total_completion_tokens: i64,
    total_tokens: i64,
    total_api_requests: i64,
    total_successful_requests: i64,
    total_failed_requests: i64,
    page: u32,
    total_pages: u32,
    has_more: bool,
}

impl From<&UsageSums> for Metrics {
    fn from(sums: &UsageSums) -> Self {
        Self {
            spend: Amount::of_nanos(sums.charged_nanos),
            prompt_tokens: sums.tokens_in,
            completion_tokens: sums.tokens_out,
            total_tokens: sums.tokens_in.saturating_add(sums.tokens_out),
            successful_requests: sums.requests - sums.failed,
            failed_requests: sums.failed,
            api_requests: sums.requests,
        }
    }
}

/// The days of a user, or of everybody in reach.
pub(super) async fn of_users(
    state: State<Arc<App>>,
    manager: Manager,
    Params(query): Params<SpendQuery>,
) -> Result<Json<Activity>, ApiError> {
    let user_id = query.user_id.clone().or_else(|| query.user_ids.clone());
    activity(state, manager, SpendQuery { user_id, ..query }).await
}

/// The days of a team, or of all in reach.
pub(super) async fn of_teams(
    state: State<Arc<App>>,
    manager: Manager,
    Params(query): Params<SpendQuery>,
) -> Result<Json<Activity>, ApiError> {
    let team_id = query.team_id.clone().or_else(|| query.team_ids.clone());
    activity(state, manager, SpendQuery { team_id, ..query }).await
}

async fn activity(
    State(app): State<Arc<App>>,
    manager: Manager,
    query: SpendQuery,
) -> Result<Json<Activity>, ApiError> {
    manager.may(Permission::UsageRead)?;
    let filter = query.filter(&app, &manager).await?;
    let rows = manager.view.usage_report(&filter, &[Dimension::Day, Dimension::Model]).await.map_err(refused)?;
    let mut days: BTreeMap<Date, (UsageSums, Breakdown)> = BTreeMap::new();
    let mut all = UsageSums::default();
    for ReportRow { day, model, sums, .. } in &rows {
        let Some(day) = day else { continue };
        let (total, breakdown) = days.entry(*day).or_default();
        total.add(sums);
        all.add(sums);
        let name = model.as_deref().unwrap_or_default().to_owned();
        breakdown.models.insert(name, ModelMetrics { metrics: sums.into() });
    }
    let results = days.into_iter().rev();
    let results = results.map(|(date, (sums, breakdown))| ActivityDay { date, metrics: (&sums).into(), breakdown });
    Ok(Json(Activity { results: results.collect(), metadata: total(&all) }))
}

fn total(all: &UsageSums) -> ActivityTotal {
    let Metrics { spend, prompt_tokens, completion_tokens, total_tokens, .. } = all.into();
    ActivityTotal {
        total_spend: spend,
        total_prompt_tokens: prompt_tokens,
        total_completion_tokens: completion_tokens,
        total_tokens,
        total_api_requests: all.requests,
        total_successful_requests: all.requests - all.failed,
        total_failed_requests: all.failed,
        page: 1,
        total_pages: 1,
        has_more: false,
    }
}

/// What a team, a user, a key or a model spent.
#[derive(Debug, Serialize)]
pub(super) struct ReportView {
    group_by: String,
    id: Option<String>,
    total_spend: Amount,
    total_prompt_tokens: i64,
    total_completion_tokens: i64,
    total_requests: i64,
}

/// Add usage up by team, user, key or model.
pub(super) async fn report(
    State(app): State<Arc<App>>,
    manager: Manager,
    Params(query): Params<SpendQuery>,
) -> Result<Json<Vec<ReportView>>, ApiError> {
    manager.may(Permission::UsageRead)?;
    let group = query.group_by.clone().unwrap_or_else(|| "team".to_owned());
    let dimension = match group.as_str() {
        "team" => Dimension::Tenant,
        "internal_user" | "user" | "customer" => Dimension::User,
        "api_key" => Dimension::Key,
        "model" => Dimension::Model,
        _ => return Err(invalid("group_by", "one of team, internal_user, api_key, model")),
    };
    let filter = query.filter(&app, &manager).await?;
    let mut report = Vec::new();
    for row in manager.view.usage_report(&filter, &[dimension]).await.map_err(refused)? {
        let named = row.tenant.map(Named::Tenant).or(row.user.map(Named::User)).or(row.key.map(Named::Key));
        let id = match (named, &row.model) {
            (Some(named), _) => Some(notes::of(&*app.books.store, named).await?.0),
            (None, model) => model.as_deref().map(str::to_owned),
        };
        report.push(ReportView {
            group_by: group.clone(),
            id,
            total_spend: Amount::of_nanos(row.sums.charged_nanos),
            total_prompt_tokens: row.sums.tokens_in,
            total_completion_tokens: row.sums.tokens_out,
            total_requests: row.sums.requests,
        });
    }
    Ok(Json(report))
}

impl SpendQuery {
    async fn filter(&self, app: &App, manager: &Manager) -> Result<UsageFilter, ApiError> {
        let store = &*app.books.store;
        let mut filter = UsageFilter::default();
        if let Some(id) = &self.request_id {
            filter.id = Some(id.parse().map_err(|_| invalid("request_id", "an id as in `req_…`"))?);
        }
        if let Some(name) = &self.team_id {
            filter.tenant = Some(names::tenant(store, &manager.view, name).await?.id);
        }
        if let Some(name) = &self.user_id {
            filter.user = Some(names::user(store, &manager.view, name).await?.id);
        }
        if let Some(name) = &self.api_key {
            filter.key = Some(super::keys::find(app, manager, name).await?.id);
        }
        filter.from = self.start_date.as_deref().map(|text| day("start_date", text, 0)).transpose()?;
        filter.to = self.end_date.as_deref().map(|text| day("end_date", text, 1)).transpose()?;
        Ok(filter)
    }
}

/// The first moment of a day, or of one some days after it.
fn day(field: &'static str, text: &str, days_later: i64) -> Result<Timestamp, ApiError> {
    let wrong = || invalid(field, "a day, as in 2026-11-21");
    let date: Date = text.get(..10).unwrap_or(text).parse().map_err(|_| wrong())?;
    let date = date.checked_add(jiff::Span::new().days(days_later)).map_err(|_| wrong())?;
    Ok(date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?.timestamp())
}
