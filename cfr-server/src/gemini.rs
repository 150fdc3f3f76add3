//! The surface that Gemini's clients speak: `/v1beta/models/{model}:generateContent`, `:streamGenerateContent` and
//! `:countTokens`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use cfr_core::chat::Dialect;
use http::Request;

use crate::calls::{Asked, answer, count};
use crate::error::ApiError;
use crate::state::App;

/// `POST /v1beta/models/{model}:{method}`, also below `/v1`, where one of Google's SDKs posts to. The model's name may
/// contain slashes and colons: the method is what follows the last colon.
pub async fn generate(State(app): State<Arc<App>>, Path(path): Path<String>, request: Request<Body>) -> Response {
    let (model, stream) = match path.rsplit_once(':') {
        Some((model, "generateContent")) => (model, false),
        Some((model, "streamGenerateContent")) => (model, true),
        Some((model, "countTokens")) => return count(app, Asked::Counted { model: model.into() }, request).await,
        _ => {
            let known = "generateContent, streamGenerateContent and countTokens";
            let message = format!("unknown method: POST {path}; {known} are there");
            return ApiError::not_found("unknown_url", message).in_dialect(Dialect::Gemini).into_response();
        }
    };
    answer(app, Asked::InPath { model: model.into(), stream }, request).await
}
