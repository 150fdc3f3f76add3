//! The surface that Anthropic's clients speak: `/v1/messages` and `/v1/messages/count_tokens`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cfr_core::chat::usage::tokens_estimated;
use cfr_core::chat::{Dialect, Operation};
use http::{HeaderName, HeaderValue, Request};
use serde_json::json;

use crate::calls::{self, Asked, answer};
use crate::state::App;

/// Says that a number of tokens is an estimate of ours.
const ESTIMATE: HeaderName = HeaderName::from_static("x-cfr-estimate");

/// `POST /v1/messages`.
pub async fn messages(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Messages), request).await
}

/// `POST /v1/messages/count_tokens`: our estimate from the bytes of the request without its pictures, which is the same
/// for every provider and costs nothing. It is no bound.
pub async fn count_tokens(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match calls::read(&app, Asked::InBody(Operation::Messages), request).await {
        Ok((_, read)) => {
            let bytes = read.envelope.input.text_tokens.min(read.body.len() as u64);
            let tokens = tokens_estimated(bytes);
            ([(ESTIMATE, HeaderValue::from_static("1"))], Json(json!({ "input_tokens": tokens }))).into_response()
        }
        Err(error) => error.in_dialect(Dialect::Anthropic).into_response(),
    }
}
