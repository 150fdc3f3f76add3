//! Errors: `{"message": "…"}` with a status (providers.md §1.3, §11, §15).

use bytes::Bytes;
use cfr_core::upstream::{Rejection, UpstreamError};
use http::{HeaderMap, StatusCode};

use crate::openai;

/// Our key is not one. Elsewhere the same number asks for patience.
const INVALID_TOKEN: u16 = 498;
/// A quota that does not come back while a caller waits.
const QUOTA_PHRASE: &str = "/ month";
const CONTEXT_PHRASE: &str = "too many tokens";

/// The meaning of an answer with an error status. All but a few words are those that everybody uses.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
    match openai::error::read(status, headers, body) {
        UpstreamError::Failed { message, .. } if status.as_u16() == INVALID_TOKEN => {
            UpstreamError::Account { status, message }
        }
        UpstreamError::RateLimited { retry_after, exhausted, message } => {
            let exhausted = exhausted || message.contains(QUOTA_PHRASE);
            UpstreamError::RateLimited { retry_after, exhausted, message }
        }
        UpstreamError::Rejected { status, kind, message, .. } => {
            let kind = if message.contains(CONTEXT_PHRASE) { Rejection::ContextWindow } else { kind };
            UpstreamError::Rejected { status, kind, message, body: None }
        }
        error => error,
    }
}

/// The meaning of an answer that ends with an error before its first word: as good as an error status.
pub(super) fn at_first(reason: &str, message: Box<str>) -> UpstreamError {
    let status = if reason == "TIMEOUT" { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::INTERNAL_SERVER_ERROR };
    UpstreamError::Failed { status, retry_after: None, message }
}
