//! `/prices` and `/price-table`: what providers charge. A table is immutable; an import puts another one in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::{Path, Request};
use cfr_billing::audit_log::Act;
use cfr_billing::store::Cursor;
use cfr_core::broadcast::Notice;
use cfr_core::price::{PRICE_TABLE_BYTES_MAX, PriceEntry, PriceTable, PriceUpdate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PriceDesk;
use super::desk::Desk;
use super::guard::Acting;
use super::input::{self, Params};
use super::page::{Listing, page_request};
use super::problem::{Problem, Problems};

mod audit;
mod view;

pub(crate) use audit::*;
pub(crate) use view::{LeftOut, Price, PriceChange, PriceChangeCounts};

/// The largest table that is read.
pub(crate) const TABLE_BYTES_MAX: usize = PRICE_TABLE_BYTES_MAX;
/// What the paths begin with that take a whole table.
pub(crate) const TABLE_PATH: &str = "/price-table";

/// A price table.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PriceTableInfo {
    /// The SHA-256 of its bytes. Usage records name the first 16 digits.
    #[schema(example = "5f0c0a6d3a3b9e0f4f1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef")]
    pub(crate) version: String,
    /// The day that its prices are from.
    #[schema(example = "2026-11-21")]
    pub(crate) as_of: String,
    /// Prices in it.
    pub(crate) entries: usize,
    /// Providers in it, in order.
    pub(crate) providers: Vec<String>,
}

/// How a price table differs from the one that is in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PriceTableDiff {
    /// The other table.
    pub(crate) table: PriceTableInfo,
    /// How many differences there are of each kind.
    pub(crate) counts: PriceChangeCounts,
    /// Every difference, by provider, model and time.
    pub(crate) changes: Vec<PriceChange>,
    /// What was left out of a file of LiteLLM, by reason.
    pub(crate) left_out: Vec<LeftOut>,
    /// Models in force that a file of LiteLLM does not mention: they keep their prices.
    pub(crate) not_mentioned: usize,
}

/// Which prices.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PriceQuery {
    /// Only of this provider.
    pub(crate) provider: Option<String>,
    /// Only models with this in a name, without regard to case.
    pub(crate) model: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List prices in the order of the table.
#[utoipa::path(get, path = "/prices", operation_id = "list_prices", tag = "prices", params(PriceQuery),
    responses((status = 200, description = "A page of prices", body = Listing<Price>), Problems))]
pub(crate) async fn list(desk: Desk, Params(query): Params<PriceQuery>) -> Result<Answer<Listing<Price>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    Ok(Answer(select(desk.prices().current().entries(), &query, page.after, page.limit)))
}

/// A cursor is the place in the table where the next page begins.
fn select(entries: &[PriceEntry], query: &PriceQuery, after: Option<Cursor>, limit: u32) -> Listing<Price> {
    let first = after.map_or(0, |cursor| usize::try_from(cursor.0).unwrap_or(usize::MAX));
    let part = query.model.as_ref().map(|model| model.to_lowercase());
    let wanted = |entry: &PriceEntry| {
        query.provider.as_ref().is_none_or(|provider| provider == entry.provider())
            && part.as_ref().is_none_or(|part| names(entry).any(|name| name.to_lowercase().contains(part)))
    };
    let mut rows = entries.iter().enumerate().skip(first).filter(|(_, entry)| wanted(entry));
    let taken: Vec<_> = rows.by_ref().take(limit as usize).collect();
    let next = rows.next().map(|(place, _)| Cursor(place as u128));
    Listing::page(taken.into_iter().map(|(_, entry)| entry.into()).collect(), next)
}

fn names(entry: &PriceEntry) -> impl Iterator<Item = &str> {
    std::iter::once(entry.model()).chain(entry.aliases())
}

/// Show the prices of a model: several when they change with time.
#[utoipa::path(get, path = "/prices/{provider}/{model}", operation_id = "get_price", tag = "prices",
    params(("provider" = String, Path, description = "The provider's name in the table"),
        ("model" = String, Path, description = "The provider's model by name or alias; a `/` in it is sent as `%2F`")),
    responses((status = 200, description = "The model's prices", body = Listing<Price>), Problems))]
pub(crate) async fn show(
    desk: Desk,
    Path((provider, model)): Path<(String, String)>,
) -> Result<Answer<Listing<Price>>, Problem> {
    let table = desk.prices().current();
    let is = |entry: &&PriceEntry| entry.provider() == provider && names(entry).any(|name| name == model);
    let found: Vec<_> = table.entries().iter().filter(is).map(Price::from).collect();
    if found.is_empty() {
        return Err(Problem::not_found("price: find the model's name and provider in the list of prices"));
    }
    Ok(Answer(Listing::complete(found)))
}

/// Show which price table is in force.
#[utoipa::path(get, path = "/price-table", operation_id = "get_price_table", tag = "prices",
    responses((status = 200, description = "The table in force", body = PriceTableInfo), Problems))]
pub(crate) async fn table(desk: Desk) -> Answer<PriceTableInfo> {
    Answer(describe(&desk.prices().current()))
}

/// Check a price table and say what it would change. Nothing is kept.
///
/// Takes what an import takes.
#[utoipa::path(post, path = "/price-table/diff", operation_id = "diff_price_table", tag = "prices",
    request_body(description = "A table of schema `cfr.prices/1`, or LiteLLM's price file", content((serde_json::Value = "application/json"))),
    responses((status = 200, description = "What would change", body = PriceTableDiff), Problems))]
pub(crate) async fn diff(desk: Desk, request: Request) -> Result<Answer<PriceTableDiff>, Problem> {
    let body = input::json_bytes(request, &()).await?;
    let upload = load(&desk, body).await?;
    Ok(Answer(compare(&desk.prices().current(), &upload)))
}

/// Put a price table in force for new requests. Running ones keep the prices that they began with.
///
/// A table of schema `cfr.prices/1` replaces the one in force. LiteLLM's `model_prices_and_context_window.json`, told
/// apart by what is in it, changes the one in force: it renews the models that both know, adds new ones, and leaves all
/// others and everything that it does not say as they are. What of it has no meaning here is left out and named.
#[utoipa::path(put, path = "/price-table", operation_id = "import_price_table", tag = "prices",
    request_body(description = "A table of schema `cfr.prices/1`, or LiteLLM's price file", content((serde_json::Value = "application/json"))),
    responses((status = 200, description = "What has changed", body = PriceTableDiff), Problems))]
pub(crate) async fn import(
    desk: Desk,
    Acting(act): Acting,
    request: Request,
) -> Result<Answer<PriceTableDiff>, Problem> {
    let body = input::json_bytes(request, &()).await?;
    let upload = load(&desk, body).await?;
    let diff = compare(&desk.prices().current(), &upload);
    keep(&desk, &upload, &act).await?;
    desk.prices().replace(upload.table);
    if let Err(error) = desk.broadcast().publish(Notice::Prices).await {
        tracing::warn!(%error, "other replicas read the new prices at their next start");
    }
    Ok(Answer(diff))
}

/// A table that was sent to us.
struct Upload {
    /// Its bytes; of a file of LiteLLM, those of the table that takes it in.
    body: Bytes,
    /// What they say.
    table: Arc<PriceTable>,
    /// The same with the operator's own prices.
    in_force: Arc<PriceTable>,
    left_out: Vec<LeftOut>,
    not_mentioned: usize,
}

/// A megabyte of JSON takes milliseconds: not on a thread that forwards answers.
async fn load(desk: &Desk, body: Bytes) -> Result<Upload, Problem> {
    let prices = Arc::clone(desk.prices());
    let imported = desk.store.latest_prices().await?;
    let now = desk.now();
    let read = move || {
        if !PriceUpdate::is_litellm(&body) {
            return complete(&*prices, body);
        }
        let base = prices.source(imported)?;
        let update = PriceUpdate::from_litellm(&base, &body, now).map_err(|error| error.to_string())?;
        let left_out = update.left_out.into_iter().map(LeftOut::from).collect();
        let upload = complete(&*prices, update.json.into())?;
        Ok(Upload { left_out, not_mentioned: update.not_mentioned.len(), ..upload })
    };
    let loaded = tokio::task::spawn_blocking(read).await.map_err(Problem::internal)?;
    loaded.map_err(|error: String| Problem::invalid_field(".", error))
}

fn complete(prices: &dyn PriceDesk, body: Bytes) -> Result<Upload, String> {
    let table = PriceTable::from_json(&body).map_err(|error| error.to_string())?;
    let in_force = prices.complete(&table)?;
    Ok(Upload { body, table: Arc::new(table), in_force, left_out: Vec::new(), not_mentioned: 0 })
}

/// A store keeps each table once, in the order of first use: an old one cannot come back under its old version.
async fn keep(desk: &Desk, upload: &Upload, act: &Act) -> Result<(), Problem> {
    let source = format!("import by {}", act.by.label());
    desk.store.save_prices(&upload.table.version().0, &source, &upload.body, act).await?;
    if desk.store.latest_prices().await?.as_deref() == Some(&upload.body) {
        return Ok(());
    }
    Err(Problem::conflict("this very table was in force before: change its `as_of` to put it in force again"))
}

fn compare(old: &PriceTable, upload: &Upload) -> PriceTableDiff {
    let changes: Vec<_> = PriceTable::diff(old, &upload.in_force).into_iter().map(PriceChange::from).collect();
    PriceTableDiff {
        table: describe(&upload.in_force),
        counts: PriceChangeCounts::of(&changes),
        changes,
        left_out: upload.left_out.clone(),
        not_mentioned: upload.not_mentioned,
    }
}

fn describe(table: &PriceTable) -> PriceTableInfo {
    let providers: BTreeSet<_> = table.entries().iter().map(PriceEntry::provider).collect();
    PriceTableInfo {
        version: table.version().0.iter().map(|byte| format!("{byte:02x}")).collect(),
        as_of: table.as_of().to_owned(),
        entries: table.entries().len(),
        providers: providers.into_iter().map(ToOwned::to_owned).collect(),
    }
}
