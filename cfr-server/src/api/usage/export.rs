//! Usage records as a file, however many there are.

use std::sync::Arc;

use axum::response::Response;
use cfr_billing::store::{CatalogStore, Page, PageRequest, Reach};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::{KeyId, RequestId, TenantId, UserId};
use cfr_core::ledger::UsageRecord as Row;
use cfr_core::money::{Currency, Money as Amount};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::desk::Desk;
use super::super::export::{self, FileFormat, Format};
use super::super::input::Params;
use super::super::lookup::Memo;
use super::super::problem::{Problem, Problems};
use super::super::schema;
use super::{UsageQuery, UsageRecord, filter};

/// Which usage records, and how they are written.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
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
    /// `csv` or `jsonl`; `csv` when absent.
    #[param(inline)]
    pub(crate) format: Option<FileFormat>,
}

/// A record, the currency of its amounts, and what its reader may reach.
type Exported = (Row, Currency, Reach);

/// A record as a line of a table. Amounts are decimal numbers of `currency`.
#[derive(Debug, Serialize)]
struct Line {
    id: RequestId,
    at: Timestamp,
    tenant: TenantId,
    user: Option<UserId>,
    key: Option<KeyId>,
    operation: cfr_core::chat::Operation,
    model_requested: String,
    provider: Arc<str>,
    model: String,
    tokens_in: u64,
    tokens_out: u64,
    cost: Option<String>,
    price: String,
    charged: String,
    overrun: Option<String>,
    currency: Currency,
    status: u16,
    finish: String,
    streamed: bool,
    latency_ms: u32,
    first_byte_ms: Option<u32>,
}

impl Line {
    /// What the platform pays and loses is for who runs it.
    fn of((row, currency, reach): Exported) -> Self {
        let amount = |nanos| Amount::from_nanos(nanos, currency).to_decimal().to_string();
        Self {
            id: row.id,
            at: row.at,
            tenant: row.caller.tenant,
            user: row.caller.user,
            key: row.caller.key,
            operation: row.operation,
            model_requested: export::cell(&row.model_requested),
            model: export::cell(&row.model_served),
            tokens_in: row.usage.input_total(),
            tokens_out: row.usage.output_total(),
            cost: reach.is_all().then(|| amount(row.cost_nanos)),
            price: amount(row.price_nanos),
            charged: amount(row.charged_nanos),
            overrun: reach.is_all().then(|| amount(row.overrun_nanos)),
            currency,
            status: row.status,
            finish: export::cell(&row.finish),
            streamed: row.streamed,
            latency_ms: row.latency_ms,
            first_byte_ms: row.first_byte_ms,
            provider: row.provider,
        }
    }
}

/// Download usage records, the newest first, as many as there are.
#[utoipa::path(get, path = "/usage/export", operation_id = "export_usage", tag = "usage", params(ExportQuery),
    responses((status = 200, description = "The records",
        content((String = "text/csv"), (String = "application/x-ndjson"))), Problems))]
pub(crate) async fn download(desk: Desk, Params(query): Params<ExportQuery>) -> Result<Response, Problem> {
    let ExportQuery { tenant, user, key, model, from, to, format } = query;
    let query = UsageQuery { tenant, user, key, model, from, to, ..UsageQuery::default() };
    let (filter, store) = (filter(&desk, query).await?, Arc::clone(&desk.store));
    let reach = desk.view.reach();
    let fetch = move |page| read(Arc::clone(&store), reach, filter.clone(), page);
    match format.unwrap_or(FileFormat::Csv) {
        FileFormat::Csv => {
            export::pages("usage", Format::Csv, fetch, |rows: Vec<Exported>, first| {
                export::csv(rows.into_iter().map(Line::of), first)
            })
            .await
        }
        FileFormat::Jsonl => {
            export::pages("usage", Format::Jsonl, fetch, |rows: Vec<Exported>, _| {
                let shown = rows.into_iter();
                let shown = shown.map(|(row, currency, reach)| UsageRecord::present(row, currency).within(reach));
                export::json_lines(&shown.collect::<Vec<_>>())
            })
            .await
        }
    }
}

async fn read(
    store: Arc<dyn CatalogStore>,
    reach: Reach,
    filter: UsageFilter,
    page: PageRequest,
) -> Result<Page<Exported>, Problem> {
    let rows = store.usage(&filter, page).await?;
    let mut memo = Memo::new(&*store);
    let mut items = Vec::with_capacity(rows.items.len());
    for row in rows.items {
        let currency = memo.currency(row.caller.tenant).await?;
        items.push((row, currency, reach));
    }
    Ok(Page { items, next: rows.next })
}
