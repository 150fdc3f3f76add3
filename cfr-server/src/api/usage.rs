//! `/usage`: what was used and charged, request by request and day by day.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Answer;
use cfr_billing::store::Reach;
use cfr_billing::usage::{UsageDay as DayRow, UsageFilter};
use cfr_core::chat::{Operation, Tags as CoreTags, UsageSource};
use cfr_core::id::{KeyId, ProductVersionId, RequestId, TenantId, UserId};
use cfr_core::ledger::{Attempt as CoreAttempt, UsageRecord as Row};
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::desk::Desk;
use super::input::Params;
use super::lookup::{self, Memo};
use super::money::Money;
use super::page::{Listing, page_request};
use super::problem::{Problem, Problems};
use super::{reports, schema};

pub(crate) mod export;

/// What one request used, cost and was charged. No prompt and no answer is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageRecord {
    /// The request.
    #[schema(value_type = schema::RequestId)]
    pub(crate) id: RequestId,
    /// When it began.
    #[schema(value_type = schema::Time)]
    pub(crate) at: Timestamp,
    /// The tenant.
    #[schema(value_type = schema::TenantId)]
    pub(crate) tenant: TenantId,
    /// The user; null for a service.
    #[schema(value_type = Option<schema::UserId>)]
    pub(crate) user: Option<UserId>,
    /// The key.
    #[schema(value_type = Option<schema::KeyId>)]
    pub(crate) key: Option<KeyId>,
    /// The terms under which it ran.
    #[schema(value_type = Option<schema::ProductVersionId>)]
    pub(crate) product_version: Option<ProductVersionId>,
    /// What was asked for.
    #[schema(value_type = schema::Operation)]
    pub(crate) operation: Operation,
    /// The model as the caller named it.
    #[schema(value_type = String)]
    pub(crate) model_requested: Arc<str>,
    /// The provider that answered; empty when none did.
    #[schema(value_type = String)]
    pub(crate) provider: Arc<str>,
    /// The provider's model that was priced; empty when none answered.
    #[schema(value_type = String)]
    pub(crate) model: Arc<str>,
    /// Quantities by meter, as in `input_tokens`; what was not used is absent.
    pub(crate) usage: BTreeMap<&'static str, u64>,
    /// Where the quantities come from.
    #[schema(value_type = schema::UsageSource)]
    pub(crate) source: UsageSource,
    /// What the provider charges; absent for who does not run the platform, as what follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<Money>,
    /// Cost plus margin.
    pub(crate) price: Money,
    /// What the customer was charged.
    pub(crate) charged: Money,
    /// Price minus charged: the operator's loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overrun: Option<Money>,
    /// Hundredths of a percent on top of the cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) margin_bps: Option<u32>,
    /// Millionths of a dollar per unit of the currency, frozen when the request began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fx_e6: Option<i64>,
    /// First 16 hexadecimal digits of the price table's version.
    pub(crate) price_version: String,
    /// The HTTP status that the caller saw.
    pub(crate) status: u16,
    /// Why the answer ended; empty when unknown.
    #[schema(value_type = String)]
    pub(crate) finish: Arc<str>,
    /// Whether the answer was streamed.
    pub(crate) streamed: bool,
    /// From arrival to the last byte, in milliseconds.
    pub(crate) latency_ms: u32,
    /// From arrival to the upstream's first byte, in milliseconds.
    pub(crate) first_byte_ms: Option<u32>,
    /// Targets that were tried before the one that answered.
    pub(crate) attempts: Vec<Attempt>,
    /// The provider's own id of the request.
    #[schema(value_type = Option<String>)]
    pub(crate) upstream_id: Option<Box<str>>,
    /// The caller's own names for the request.
    pub(crate) tags: Tags,
    /// `max_tokens` that was set because the caller sent none.
    pub(crate) output_tokens_max_applied: Option<u64>,
}

/// The caller's own names for a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tags {
    /// Its header `x-request-id`.
    #[schema(value_type = Option<String>)]
    pub(crate) request_id: Option<Box<str>>,
    /// Its body's `user`.
    #[schema(value_type = Option<String>)]
    pub(crate) user: Option<Box<str>>,
    /// Its body's `metadata`, an object.
    #[schema(value_type = Option<Object>)]
    pub(crate) metadata: Option<Box<RawValue>>,
}

impl From<CoreTags> for Tags {
    fn from(tags: CoreTags) -> Self {
        let metadata = tags.metadata.and_then(|text| RawValue::from_string(text.into()).ok());
        Self { request_id: tags.request_id, user: tags.user, metadata }
    }
}

/// One target that was tried and failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Attempt {
    /// The upstream by its configured name.
    #[schema(value_type = String)]
    pub(crate) upstream: Arc<str>,
    /// Its model.
    #[schema(value_type = String)]
    pub(crate) model: Arc<str>,
    /// What came of it, as a stable word.
    #[schema(value_type = String)]
    pub(crate) outcome: Box<str>,
}

impl From<CoreAttempt> for Attempt {
    fn from(attempt: CoreAttempt) -> Self {
        Self { upstream: attempt.upstream, model: attempt.model, outcome: attempt.outcome }
    }
}

impl UsageRecord {
    pub(super) fn present(row: Row, currency: Currency) -> Self {
        let quantities = row.usage.used().map(|(meter, quantity)| (meter.name(), quantity));
        Self {
            id: row.id,
            at: row.at,
            tenant: row.caller.tenant,
            user: row.caller.user,
            key: row.caller.key,
            product_version: row.caller.product_version,
            operation: row.operation,
            model_requested: row.model_requested,
            provider: row.provider,
            model: row.model_served,
            usage: quantities.collect(),
            source: row.source,
            cost: Some(Money::nanos(row.cost_nanos, currency)),
            price: Money::nanos(row.price_nanos, currency),
            charged: Money::nanos(row.charged_nanos, currency),
            overrun: Some(Money::nanos(row.overrun_nanos, currency)),
            margin_bps: Some(row.margin_bps),
            fx_e6: Some(row.fx_e6),
            price_version: format!("{:016x}", row.price_version),
            status: row.status,
            finish: row.finish,
            streamed: row.streamed,
            latency_ms: row.latency_ms,
            first_byte_ms: row.first_byte_ms,
            attempts: row.attempts.into_iter().map(Attempt::from).collect(),
            upstream_id: row.upstream_id,
            tags: Tags::from(row.tags),
            output_tokens_max_applied: row.output_tokens_max_applied,
        }
    }
}

impl UsageRecord {
    /// What the platform pays and earns is for who runs it (money.md §2.8).
    pub(super) fn within(self, reach: Reach) -> Self {
        match reach.is_all() {
            true => self,
            false => Self { cost: None, overrun: None, margin_bps: None, fx_e6: None, attempts: Vec::new(), ..self },
        }
    }
}

/// The sum of a day (UTC) for one tenant, user, key and model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageDay {
    /// The day, UTC.
    #[schema(value_type = schema::Day)]
    pub(crate) day: Date,
    /// The tenant.
    #[schema(value_type = schema::TenantId)]
    pub(crate) tenant: TenantId,
    /// The user.
    #[schema(value_type = Option<schema::UserId>)]
    pub(crate) user: Option<UserId>,
    /// The key.
    #[schema(value_type = Option<schema::KeyId>)]
    pub(crate) key: Option<KeyId>,
    /// The served model; empty when none answered.
    #[schema(value_type = String)]
    pub(crate) model: Arc<str>,
    /// Requests, failed ones included.
    pub(crate) requests: i64,
    /// Prompt tokens.
    pub(crate) tokens_in: i64,
    /// Answer tokens.
    pub(crate) tokens_out: i64,
    /// What providers charge; absent for who does not run the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<Money>,
    /// What customers were charged.
    pub(crate) charged: Money,
}

impl UsageDay {
    /// What the platform pays is for who runs it.
    fn within(self, reach: Reach) -> Self {
        if reach.is_all() { self } else { Self { cost: None, ..self } }
    }

    fn present(row: DayRow, currency: Currency) -> Self {
        Self {
            day: row.day,
            tenant: row.tenant,
            user: row.user,
            key: row.key,
            model: row.model,
            requests: row.sums.requests,
            tokens_in: row.sums.tokens_in,
            tokens_out: row.sums.tokens_out,
            cost: Some(Money::nanos(row.sums.cost_nanos, currency)),
            charged: Money::nanos(row.sums.charged_nanos, currency),
        }
    }
}

/// Which usage records.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// Only this request.
    pub(crate) id: Option<String>,
    /// Only of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// Only of this user, by id or e-mail address.
    pub(crate) user: Option<String>,
    /// Only of this key.
    pub(crate) key: Option<String>,
    /// Only with this served model.
    pub(crate) model: Option<String>,
    /// Only from this moment on.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) from: Option<Timestamp>,
    /// Only before this moment.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) to: Option<Timestamp>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// Which days.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DailyQuery {
    /// Only of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// Only of this user, by id or e-mail address.
    pub(crate) user: Option<String>,
    /// Only of this key.
    pub(crate) key: Option<String>,
    /// Only with this served model.
    pub(crate) model: Option<String>,
    /// From the day of this moment on.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) from: Option<Timestamp>,
    /// Only days that begin before this moment.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) to: Option<Timestamp>,
}

/// List usage records, the newest first.
#[utoipa::path(get, path = "/usage", operation_id = "list_usage", tag = "usage", params(UsageQuery),
    responses((status = 200, description = "A page of usage records", body = Listing<UsageRecord>), Problems))]
pub(crate) async fn list(
    desk: Desk,
    Params(query): Params<UsageQuery>,
) -> Result<Answer<Listing<UsageRecord>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let filter = filter(&desk, query).await?;
    let rows = desk.store.usage(&filter, page).await?;
    let mut memo = Memo::new(&*desk.store);
    let mut items = Vec::with_capacity(rows.items.len());
    for row in rows.items {
        let currency = memo.currency(row.caller.tenant).await?;
        items.push(UsageRecord::present(row, currency).within(desk.view.reach()));
    }
    Ok(Answer(Listing::page(items, rows.next)))
}

/// Sum usage up per day (UTC), tenant, user, key and model: at most 10000 rows.
#[utoipa::path(get, path = "/usage/daily", operation_id = "list_usage_daily", tag = "usage", params(DailyQuery),
    responses((status = 200, description = "The days", body = Listing<UsageDay>), Problems))]
pub(crate) async fn daily(desk: Desk, Params(query): Params<DailyQuery>) -> Result<Answer<Listing<UsageDay>>, Problem> {
    let DailyQuery { tenant, user, key, model, from, to } = query;
    let filter = filter(&desk, UsageQuery { tenant, user, key, model, from, to, ..UsageQuery::default() }).await?;
    let mut memo = Memo::new(&*desk.store);
    let mut items = Vec::new();
    for row in reports::not_too_many(desk.store.usage_daily(&filter).await?)? {
        let currency = memo.currency(row.tenant).await?;
        items.push(UsageDay::present(row, currency).within(desk.view.reach()));
    }
    Ok(Answer(Listing::complete(items)))
}

/// Whoever's usage is asked for is found by their tenant: the sums of one tenant lie together.
pub(super) async fn filter(desk: &Desk, query: UsageQuery) -> Result<UsageFilter, Problem> {
    let store = &*desk.store;
    let tenant = lookup::tenant_filter(store, query.tenant.as_deref()).await?;
    let user = match &query.user {
        Some(name) => Some(lookup::user(store, name).await?),
        None => None,
    };
    let key = match &query.key {
        Some(id) => Some(store.key(lookup::id(id, "key")?).await?),
        None => None,
    };
    let owner = user.as_ref().map(|user| user.tenant).or(key.as_ref().and_then(|key| key.tenant));
    // What a person's key did is among what the person did, which is less than what their tenant did.
    let person = user.as_ref().map(|user| user.id).or(key.as_ref().and_then(|key| key.user));
    Ok(UsageFilter {
        id: query.id.as_deref().map(|id| lookup::id(id, "request")).transpose()?,
        tenant: tenant.or(owner),
        user: person,
        key: key.map(|key| key.id),
        model: query.model.map(Into::into),
        from: query.from,
        to: query.to,
    })
}
