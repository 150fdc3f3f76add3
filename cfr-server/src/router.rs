//! Every route on one page.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cfr_core::id::RequestId;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::error::{ApiError, Reason};
use crate::serve::Peer;
use crate::state::App;
use crate::{
    anthropic, api, compat, federation, gemini, leads, leaks, models, oidc, openai, openapi, people, realtime,
};

/// Where OpenAI's clients find everything.
const SURFACE: &str = "/v1";
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Browsers take an answer for what it says it is.
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// No proxy may keep an error: the next call may well succeed.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Everything that the server answers.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/responses", post(openai::responses))
        .route("/v1/responses/input_tokens", post(openai::count_input_tokens))
        .route("/v1/responses/{id}", get(openai::show_response).delete(openai::delete_response))
        .route("/v1/responses/{id}/cancel", post(openai::cancel_response))
        .route("/v1/responses/{id}/input_items", get(openai::list_input_items))
        .route("/v1/realtime", get(realtime::realtime))
        .route("/v1/moderations", post(openai::moderations))
        .route("/v1/rerank", post(openai::rerank))
        .route("/v2/rerank", post(openai::rerank))
        .route("/v1/images/generations", post(openai::image_generations))
        .route("/v1/images/edits", post(openai::image_edits))
        .route("/v1/audio/speech", post(openai::speech))
        .route("/v1/audio/transcriptions", post(openai::transcriptions))
        .route("/v1/audio/translations", post(openai::translations))
        .route("/v1/files", get(openai::list_files).post(openai::create_file))
        .route("/v1/files/{id}", get(openai::show_file).delete(openai::delete_file))
        .route("/v1/files/{id}/content", get(openai::file_content))
        .route("/v1/batches", get(openai::list_batches).post(openai::create_batch))
        .route("/v1/batches/{id}", get(openai::show_batch))
        .route("/v1/batches/{id}/cancel", post(openai::cancel_batch))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::show).post(gemini::generate))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/v1beta/models", get(models::list))
        .route("/v1beta/models/{*path}", get(models::show).post(gemini::generate))
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/", get(root))
        .merge(compat::router())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&app))
        .merge(app.oidc.clone().map(oidc::routes).unwrap_or_default())
        .merge(app.federation.clone().map(federation::routes).unwrap_or_default())
        .nest_service(people::routes::BASE_PATH, people::routes::router(Arc::clone(&app.books.people)))
        .merge(leaks::router(Arc::clone(&app.keys), Arc::clone(&app.books.store) as _, Arc::clone(&app.clock)))
        .merge(leads::router(Arc::clone(&app.books.store), app.books.letters.clone(), Arc::clone(&app.clock)))
        .nest_service(api::BASE_PATH, api::router(app.api_state()))
        .layer(middleware::from_fn_with_state(app, identify))
}

/// Gives every request an id, every answer the same one, and logs under it why a request failed. Answers also get the
/// headers that keep browsers and proxies from being clever.
async fn identify(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::generate(app.clock.now());
    request.extensions_mut().insert(id);
    if let Some(peer) = request.extensions().get::<Peer>().copied() {
        let client = app.proxies.look_through(peer, request.headers());
        request.extensions_mut().insert(client);
    }
    let mut response = next.run(request).await;
    if let Some(reason) = response.extensions().get::<Reason>() {
        reason.log(id, response.status());
    }
    let failed = !response.status().is_success();
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if failed {
        headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
    }
    response
}

/// Clients ask for `/` to see whether a base address answers.
async fn root() -> Json<Value> {
    Json(json!({ "name": "CloudFreedom Router", "version": env!("CARGO_PKG_VERSION") }))
}

/// The process runs.
async fn live() -> StatusCode {
    StatusCode::OK
}

/// Calls are accepted: the ledger decides and the store answers.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let problem = app.problem().await;
    let status = if problem.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": problem.is_none(), "problem": problem }))).into_response()
}

async fn health(State(app): State<Arc<App>>) -> Json<Value> {
    let problem = app.problem().await;
    Json(json!({
        "status": if problem.is_none() { "ok" } else { "degraded" },
        "problem": problem,
        "version": env!("CARGO_PKG_VERSION"),
        "open_holds": app.books.escrow.stats().open_holds,
    }))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let page = app.metrics.render(&app.books.escrow.stats(), app.books.database.pool_use());
    ([(CONTENT_TYPE, OPENMETRICS)], page).into_response()
}

async fn unknown_path(request: Request<Body>) -> ApiError {
    let path = request.uri().path();
    if path.starts_with(realtime::OTHER_WAYS) {
        return realtime::other_ways();
    }
    let hint = if path.starts_with(SURFACE) { "" } else { "; is `/v1` missing from the base URL?" };
    let message = format!("unknown path: {} {path}{hint}", request.method());
    ApiError::not_found("unknown_url", message)
}

async fn wrong_method(request: Request<Body>) -> ApiError {
    let message = format!("{} does not answer {}", request.uri().path(), request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "method_not_allowed", message)
}
