//! `/v1/responses` and what is below it: answers that their provider keeps are shown, forgotten and asked about by whoever
//! they were made for.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use cfr_core::chat::Operation;
use cfr_core::gateway::StoredRequest;
use cfr_core::upstream::StoredAction;
use http::header::CONTENT_TYPE;
use http::{Request, Uri};

use crate::auth::Asker;
use crate::calls::{Asked, answer, api_error, count, describe_rate};
use crate::error::ApiError;
use crate::state::App;

/// Bytes behind the question mark; a page of a list takes a hundred.
const QUERY_BYTES_MAX: usize = 2_048;

/// `POST /v1/responses`.
pub async fn responses(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Responses), request).await
}

/// `POST /v1/responses/input_tokens`.
pub async fn count_input_tokens(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    count(app, Asked::InBody(Operation::Responses), request).await
}

/// `GET /v1/responses/{id}`.
///
/// # Errors
/// 404 for what is not kept for this caller; what the provider says.
pub async fn show_response(
    app: State<Arc<App>>,
    id: Path<String>,
    uri: Uri,
    asker: Asker,
) -> Result<Response, ApiError> {
    stored(app, id, StoredAction::Show, uri, asker).await
}

/// `DELETE /v1/responses/{id}`.
///
/// # Errors
/// As [`show_response`].
pub async fn delete_response(
    app: State<Arc<App>>,
    id: Path<String>,
    uri: Uri,
    asker: Asker,
) -> Result<Response, ApiError> {
    stored(app, id, StoredAction::Delete, uri, asker).await
}

/// `POST /v1/responses/{id}/cancel`.
///
/// # Errors
/// As [`show_response`].
pub async fn cancel_response(
    app: State<Arc<App>>,
    id: Path<String>,
    uri: Uri,
    asker: Asker,
) -> Result<Response, ApiError> {
    stored(app, id, StoredAction::Cancel, uri, asker).await
}

/// `GET /v1/responses/{id}/input_items`.
///
/// # Errors
/// As [`show_response`].
pub async fn list_input_items(
    app: State<Arc<App>>,
    id: Path<String>,
    uri: Uri,
    asker: Asker,
) -> Result<Response, ApiError> {
    stored(app, id, StoredAction::InputItems, uri, asker).await
}

async fn stored(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    action: StoredAction,
    uri: Uri,
    asker: Asker,
) -> Result<Response, ApiError> {
    let (caller, _) = app.callers.caller(&asker.headers, asker.address).await?;
    let request = StoredRequest { id: id.into(), action, query: query(&uri)? };
    let stored = app.gateway.stored(&caller, request).await;
    let stored = stored.map_err(|error| api_error(error, &app.settings))?;
    let mut response = ([(CONTENT_TYPE, stored.content_type)], stored.body).into_response();
    if let Some(rate) = stored.rate {
        describe_rate(rate, response.headers_mut());
    }
    Ok(response)
}

/// What the provider is asked besides. Only an answer that is still being made could be streamed, and none is made after
/// its request has ended.
fn query(uri: &Uri) -> Result<Option<Box<str>>, ApiError> {
    let Some(query) = uri.query().filter(|query| !query.is_empty()) else { return Ok(None) };
    if query.len() > QUERY_BYTES_MAX {
        return Err(ApiError::bad_request("invalid_value", format!("the query has more than {QUERY_BYTES_MAX} bytes")));
    }
    if query.split('&').any(|pair| pair.starts_with("stream=") && pair != "stream=false") {
        let message = "stream: a stored response is shown whole";
        return Err(ApiError::bad_request("unsupported", message).param("stream"));
    }
    Ok(Some(query.into()))
}
