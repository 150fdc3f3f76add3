//! The surface that OpenAI's clients speak: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`,
//! `/v1/responses`, `/v1/images/*`, `/v1/audio/*`, `/v1/moderations`, `/v1/files`, `/v1/batches`; and `/v1/rerank`, which OpenAI has not
//! and others share.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use cfr_core::chat::Operation;
use http::Request;

use crate::calls::{Asked, answer};
use crate::state::App;

mod batches;
mod files;
mod responses;

pub use batches::{cancel_batch, create_batch, list_batches, show_batch};
pub use files::{
    DeletedFile, FileObject, ObjectPage, PageQuery, create_file, delete_file, file_content, list_files, show_file,
};
pub use responses::{cancel_response, count_input_tokens, delete_response, list_input_items, responses, show_response};

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

/// `POST /v1/moderations`.
pub async fn moderations(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Moderations), request).await
}

/// `POST /v1/rerank`, and `POST /v2/rerank` as Cohere's clients have it.
pub async fn rerank(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Rerank), request).await
}

/// `POST /v1/images/generations`.
pub async fn image_generations(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::ImageGenerations), request).await
}

/// `POST /v1/images/edits`.
pub async fn image_edits(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::ImageEdits), request).await
}

/// `POST /v1/audio/speech`.
pub async fn speech(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Speech), request).await
}

/// `POST /v1/audio/transcriptions`.
pub async fn transcriptions(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Transcriptions), request).await
}

/// `POST /v1/audio/translations`.
pub async fn translations(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(app, Asked::InBody(Operation::Translations), request).await
}
