//! What comes in: JSON under whichever media type, as other gateways take it.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use cfr_billing::store::StoreError;
use serde::de::DeserializeOwned;

use super::BODY_BYTES_MAX;
use crate::error::ApiError;

/// A JSON body. Fields that it does not know are left out.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|_| too_large())?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        serde_path_to_error::deserialize(&mut json).map(Self).map_err(|error| {
            let field = error.path().to_string();
            let message = error.into_inner().to_string();
            let named = if field == "." { message } else { format!("`{field}`: {message}") };
            ApiError::bad_request("invalid_body", named).param(field)
        })
    }
}

fn too_large() -> ApiError {
    let message = format!("a body has at most {BODY_BYTES_MAX} bytes here");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "body_too_large", message)
}

/// A query. Parameters that it does not know are left out.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        query
            .map(|query| Self(query.0))
            .map_err(|rejection| ApiError::bad_request("invalid_query", rejection.body_text()))
    }
}

/// What the store refuses, in the words of the caller.
pub(super) fn refused(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound { what } => not_found(what),
        StoreError::Conflict { what } => {
            ApiError::new(StatusCode::CONFLICT, "invalid_request_error", "conflict", what.to_string())
        }
        StoreError::Invalid { what } => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", "invalid", what.to_string())
        }
        other => ApiError::ledger_unavailable(other),
    }
}

/// 404 in the words by which Terraform knows that something is not there.
pub(super) fn not_found(what: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found_error",
        format!("{}_not_found", what.replace(' ', "_")),
        format!("{what} not found"),
    )
}

/// 422 that names the field.
pub(super) fn invalid(field: &'static str, message: impl std::fmt::Display) -> ApiError {
    let message = format!("`{field}`: {message}");
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", "invalid", message).param(field)
}
