//! The collections of PocketBase that the portal reads which runs today: lists, filters by equality, single records. Nothing
//! is written here: who wants to change something is told where.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::body::{Params, not_found};
use super::manager::Manager;
use crate::error::ApiError;
use crate::state::App;

mod filter;
mod records;

use self::filter::Filter;
use self::records::{Collection, Record};

/// Records on a page when nobody says, as PocketBase has it.
const PER_PAGE_DEFAULT: usize = 30;
/// And at the most.
const PER_PAGE_MAX: usize = 500;
/// Records that are gone through for one page.
const RECORDS_MAX: usize = 10_000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/collections/{collection}/records", any(list))
        .route("/api/collections/{collection}/records/{id}", any(show))
}

/// Which records, in PocketBase's words.
#[derive(Debug, Deserialize)]
struct ListQuery {
    page: Option<usize>,
    #[serde(rename = "perPage")]
    per_page: Option<usize>,
    sort: Option<String>,
    filter: Option<String>,
    #[serde(rename = "skipTotal")]
    skip_total: Option<String>,
}

/// A page of records.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordList {
    page: usize,
    per_page: usize,
    /// -1 when they were not counted.
    total_items: i64,
    total_pages: i64,
    items: Vec<Record>,
}

async fn list(
    State(app): State<Arc<App>>,
    method: Method,
    manager: Manager,
    Path(collection): Path<String>,
    Params(query): Params<ListQuery>,
) -> Result<Response, Refusal> {
    let collection = Collection::named(&collection)?;
    refuse_writes(&method, collection)?;
    manager.may(collection.permission())?;
    let page = query.page.unwrap_or(1).max(1);
    let per_page = query.per_page.unwrap_or(PER_PAGE_DEFAULT).clamp(1, PER_PAGE_MAX);
    let newest_first = newest_first(query.sort.as_deref(), collection)?;
    let filter = Filter::parse(query.filter.as_deref().unwrap_or_default()).map_err(|reason| bad_filter(&reason))?;
    let counted = collection.is_cheap_to_count() && !matches!(query.skip_total.as_deref(), Some("1" | "true" | "t"));
    let skipped = (page - 1).saturating_mul(per_page);
    let enough = skipped.saturating_add(per_page);
    if enough > RECORDS_MAX {
        let message = format!("only the first {RECORDS_MAX} records have pages here: filter them, or use /api/v1");
        return Err(ApiError::bad_request("page_too_far", message).into());
    }
    let found = collection.records(&app, &manager, &filter, newest_first, if counted { RECORDS_MAX } else { enough });
    let found = found.await?;
    let (total_items, total_pages) = match found.complete && counted {
        true => (signed(found.records.len()), signed(found.records.len().div_ceil(per_page))),
        false => (-1, -1),
    };
    let items = found.records.into_iter().skip(skipped).take(per_page).collect();
    Ok(Json(RecordList { page, per_page, total_items, total_pages, items }).into_response())
}

async fn show(
    State(app): State<Arc<App>>,
    method: Method,
    manager: Manager,
    Path((collection, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let collection = Collection::named(&collection)?;
    refuse_writes(&method, collection)?;
    manager.may(collection.permission())?;
    Ok(Json(collection.record(&app, &manager, &id).await?).into_response())
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn newest_first(sort: Option<&str>, collection: Collection) -> Result<bool, ApiError> {
    match sort.map(str::trim).filter(|sort| !sort.is_empty()) {
        None => Ok(collection.comes_newest_first()),
        Some("created" | "+created" | "timestamp" | "+timestamp") => Ok(false),
        Some("-created" | "-timestamp") => Ok(true),
        Some(other) => {
            let message = format!("records are sorted by `created` or `-created` here, not by `{other}`");
            Err(ApiError::bad_request("unknown_sort", message).param("sort"))
        }
    }
}

fn bad_filter(reason: &str) -> ApiError {
    let message = format!("{reason}; a filter here is `(field='value' && other='value')`");
    ApiError::bad_request("unknown_filter", message).param("filter")
}

fn refuse_writes(method: &Method, collection: Collection) -> Result<(), ApiError> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let message = format!("collections are read only: use {} of the management API", collection.management());
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let allow = HeaderValue::from_static("GET, HEAD");
    Err(ApiError::new(status, "invalid_request_error", "read_only", message).header(ALLOW, allow))
}

/// An error in PocketBase's envelope.
#[derive(Debug)]
struct Refusal(ApiError);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let told: serde_json::Value = serde_json::from_slice(&error.body()).unwrap_or_default();
        let status = error.status();
        let body = json!({"status": status.as_u16(), "message": told["error"]["message"], "data": {}});
        let mut response = error.with_body(body.to_string().into()).into_response();
        *response.status_mut() = status;
        response
    }
}

/// 404 as PocketBase says it.
fn no_collection() -> ApiError {
    not_found("collection")
}
