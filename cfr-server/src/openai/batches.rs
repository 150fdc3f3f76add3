//! `/v1/batches`: work that a provider does within a day, under ids of ours.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use cfr_billing::batch::{Batch, BatchState, Owner};
use cfr_core::batch;
use cfr_core::id::{BatchId, FileId};
use http::Request;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::files::{ObjectPage, PageQuery, caller};
use crate::auth::Asker;
use crate::batches::{BatchError, BatchWish, is_over};
use crate::calls::read_json;
use crate::error::ApiError;
use crate::serve;
use crate::state::App;

/// A batch that is wanted, as OpenAI's SDKs write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    input_file_id: String,
    endpoint: String,
    completion_window: Box<str>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

/// `POST /v1/batches`.
///
/// # Errors
/// 402 when a budget does not have what the batch can cost; what the provider says.
pub async fn create_batch(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Value>, ApiError> {
    let caller = caller(&app, request.headers(), serve::address(request.extensions())).await?;
    let wish: Wish = read_json(request, app.settings.body_bytes_max).await?;
    let wrong = |param: &'static str, message: String| ApiError::bad_request("invalid_value", message).param(param);
    let operation = batch::operation(&wish.endpoint)
        .ok_or_else(|| wrong("endpoint", format!("endpoint: `{}` works on no batches", wish.endpoint)))?;
    let input_file: FileId = wish
        .input_file_id
        .parse()
        .map_err(|_| ApiError::not_found("file_not_found", "there is no such file").param("input_file_id"))?;
    let metadata = wish.metadata.unwrap_or_default();
    let wish = BatchWish { input_file, operation, window: wish.completion_window, metadata };
    let made = app.batches.submit(&caller, wish).await.map_err(|error| error.api(&app.settings))?;
    Ok(Json(show(made)))
}

/// `GET /v1/batches`.
///
/// # Errors
/// When the key is not let in, or the page is none.
pub async fn list_batches(
    State(app): State<Arc<App>>,
    Query(query): Query<PageQuery>,
    asker: Asker,
) -> Result<Json<ObjectPage<Value>>, ApiError> {
    let caller = caller(&app, &asker.headers, asker.address).await?;
    let page = query.page(BatchId::as_u128)?;
    let batches = app.batches.store().batches(Owner::of(&caller.ids), page).await;
    let batches = batches.map_err(|error| BatchError::from(error).api(&app.settings))?;
    Ok(Json(ObjectPage::of(batches, |batch| batch.id.to_string(), show)))
}

/// `GET /v1/batches/{id}`.
///
/// # Errors
/// 404 for a batch that the caller does not have; what the provider says.
pub async fn show_batch(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asker: Asker,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&app, &asker.headers, asker.address).await?;
    let batch = app.batches.batch(&caller, batch_id(&id)?).await;
    Ok(Json(show(batch.map_err(|error| error.api(&app.settings))?)))
}

/// `POST /v1/batches/{id}/cancel`.
///
/// # Errors
/// As [`show_batch`]; 409 for a batch that is over, or not yet at the provider.
pub async fn cancel_batch(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asker: Asker,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&app, &asker.headers, asker.address).await?;
    let batch = app.batches.cancel(&caller, batch_id(&id)?).await;
    Ok(Json(show(batch.map_err(|error| error.api(&app.settings))?)))
}

fn batch_id(id: &str) -> Result<BatchId, ApiError> {
    id.parse().map_err(|_| ApiError::not_found("batch_not_found", "there is no such batch"))
}

/// What its owner sees of a batch: the provider's words, with our ids. It is not over before it is charged.
fn show(batch: Batch) -> Value {
    let waits = is_over(&batch) && batch.state != BatchState::Settled;
    let mut object = Map::from_iter([("id".to_owned(), json!(batch.id))]);
    object.extend(batch.object.into_iter().filter(|(name, _)| name != "id"));
    object.insert("metadata".into(), Value::Object(batch.metadata));
    object.insert("input_file_id".into(), json!(batch.input_file));
    object.insert("output_file_id".into(), json!(batch.output_file));
    object.insert("error_file_id".into(), json!(batch.error_file));
    if waits {
        object.insert("status".into(), "finalizing".into());
        object.shift_remove("completed_at");
    }
    if batch.state == BatchState::Void {
        object.insert("status".into(), "failed".into());
    }
    Value::Object(object)
}
