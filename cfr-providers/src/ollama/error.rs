//! Errors: `{"error": "…"}` with a status, or as a line of a stream (providers.md §9.1, §15).

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::openai;

/// A line that ends a stream badly.
#[derive(Deserialize)]
pub(super) struct Failure {
    error: String,
    #[serde(default, alias = "status_code")]
    status: Value,
}

/// The meaning of an answer with an error status: the words are those that all servers of open models use.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
    match openai::error::read(status, headers, body) {
        UpstreamError::Rejected { status, kind, message, .. } => {
            UpstreamError::Rejected { status, kind, message, body: None }
        }
        error => error,
    }
}

impl Failure {
    /// The failure that a line stands for, if it is one.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Before the first word: as good as an error status.
    pub(super) fn at_first(&self) -> UpstreamError {
        let status = self.status.as_u64().and_then(|status| u16::try_from(status).ok());
        let status =
            status.and_then(|status| StatusCode::from_u16(status).ok()).filter(|status| status.as_u16() >= 400);
        let body = serde_json::json!({ "error": self.error }).to_string();
        read(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &HeaderMap::new(), &body.into())
    }

    /// After the answer had begun.
    pub(super) fn in_stream(self) -> UpstreamError {
        UpstreamError::InStream { message: self.error.into(), frame: None }
    }
}
