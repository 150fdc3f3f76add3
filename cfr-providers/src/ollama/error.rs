//! Errors: `{"error": "…"}` with a status, or as a line of a stream (providers.md §9.1, §15).

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use http::{HeaderMap, StatusCode};

use crate::openai;

/// The meaning of an answer with an error status: the words are those that all servers of open models use.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
    match openai::error::read(status, headers, body) {
        UpstreamError::Rejected { status, kind, message, .. } => {
            UpstreamError::Rejected { status, kind, message, body: None }
        }
        error => error,
    }
}

/// The meaning of an error before the first word of a stream: as good as an error status.
pub(super) fn at_first(message: &str, status: Option<u64>) -> UpstreamError {
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let status = status.filter(|status| status.is_client_error() || status.is_server_error());
    let body = serde_json::json!({ "error": message }).to_string();
    read(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &HeaderMap::new(), &body.into())
}

/// The meaning of an error after the answer had begun.
pub(super) fn in_stream(message: String) -> UpstreamError {
    UpstreamError::InStream { message: message.into(), frame: None }
}
