//! The surface that OpenAI's clients speak: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`,
//! `/v1/responses`, `/v1/models`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use cfr_core::chat::Operation;
use http::Request;

use crate::calls::{Asked, answer};
use crate::state::App;

mod models;

pub use models::{ModelCard, ModelList, list_models, show_model};

/// `POST /v1/chat/completions`.
pub async fn chat_completions(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::ChatCompletions), request).await
}

/// `POST /v1/completions`.
pub async fn completions(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Completions), request).await
}

/// `POST /v1/embeddings`.
pub async fn embeddings(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Embeddings), request).await
}

/// `POST /v1/responses`.
pub async fn responses(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Responses), request).await
}
