//! The surface that Anthropic's clients speak: `/v1/messages` and `/v1/messages/count_tokens`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use cfr_core::chat::Operation;
use http::Request;

use crate::calls::{Asked, answer, count};
use crate::state::App;

/// `POST /v1/messages`.
pub async fn messages(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Messages), request).await
}

/// `POST /v1/messages/count_tokens`.
pub async fn count_tokens(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    count(app, Asked::InBody(Operation::Messages), request).await
}
