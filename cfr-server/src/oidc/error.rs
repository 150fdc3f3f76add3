//! Errors in the words of OAuth 2.0 (RFC 6749 §5.2) and OpenID Connect.

use axum::Json;
use axum::response::{IntoResponse, Response};
use cfr_billing::store::StoreError;
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::params::ParamsError;
use crate::people::Refusal;
use crate::secrets::VaultError;

/// A request that is refused: what the client's program reads, and what its developer reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {description}")]
pub struct OAuthError {
    /// One of the words that the protocols define.
    pub code: &'static str,
    /// Why, in a sentence.
    pub description: String,
    status: StatusCode,
    basic: bool,
}

impl OAuthError {
    pub(super) fn new(code: &'static str, description: impl ToString) -> Self {
        Self { code, description: description.to_string(), status: StatusCode::BAD_REQUEST, basic: false }
    }

    /// The request itself is wrong.
    pub(super) fn invalid_request(description: impl ToString) -> Self {
        Self::new("invalid_request", description)
    }

    /// The code or refresh token does not work (any more).
    pub(super) fn invalid_grant(description: impl ToString) -> Self {
        Self::new("invalid_grant", description)
    }

    /// The client is not who it says, whichever part of that is wrong. One that sent `Authorization` is told the scheme.
    pub(super) fn invalid_client(basic: bool) -> Self {
        let error = Self::new("invalid_client", "the client is not known, or its secret is wrong");
        Self { status: StatusCode::UNAUTHORIZED, basic, ..error }
    }

    /// The store or the vault fails; the log says why.
    pub(super) fn unavailable(reason: impl std::fmt::Display) -> Self {
        tracing::warn!(%reason, "signing in by OpenID Connect failed");
        let error = Self::new("temporarily_unavailable", "try again in a moment");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, ..error }
    }
}

impl From<StoreError> for OAuthError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error)
    }
}

impl From<VaultError> for OAuthError {
    fn from(error: VaultError) -> Self {
        Self::unavailable(error)
    }
}

impl From<Refusal> for OAuthError {
    fn from(error: Refusal) -> Self {
        Self::unavailable(error)
    }
}

impl From<ParamsError> for OAuthError {
    fn from(error: ParamsError) -> Self {
        Self::invalid_request(error)
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.code, "error_description": self.description }));
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.basic {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"cfr\""));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
