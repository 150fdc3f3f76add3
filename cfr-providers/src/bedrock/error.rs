//! Errors: from the type in a header, or in an event, to what the router can act on (providers.md §8.4, §8.5, §15).

use bytes::Bytes;
use cfr_core::upstream::{Rejection, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::patience;

const ERROR_TYPE: &str = "x-amzn-errortype";
/// Bytes of a text without form, such as a page of a proxy, that are kept as a message.
const PLAIN_MESSAGE_BYTES_MAX: usize = 512;

const CONTEXT_PHRASES: [&str; 6] = [
    "input is too long",
    "prompt is too long",
    "context length",
    "context window",
    "too many input tokens",
    "exceeds the maximum number of tokens",
];
const POLICY_PHRASES: [&str; 2] = ["content filtering policy", "content policy"];
/// The model is there, but not by this name or not in this region.
const MODEL_PHRASES: [&str; 3] = ["on-demand throughput", "model identifier is invalid", "doesn't support the model"];

/// The exceptions of a stream with the status that each stands for.
const STATUSES: [(&str, StatusCode); 6] = [
    ("internalServerException", StatusCode::INTERNAL_SERVER_ERROR),
    ("modelStreamErrorException", StatusCode::FAILED_DEPENDENCY),
    ("modelTimeoutException", StatusCode::REQUEST_TIMEOUT),
    ("serviceUnavailableException", StatusCode::SERVICE_UNAVAILABLE),
    ("throttlingException", StatusCode::TOO_MANY_REQUESTS),
    ("validationException", StatusCode::BAD_REQUEST),
];

/// The meaning of an answer with an error status.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
    let words = Words::of(body);
    let header = headers.get(ERROR_TYPE).and_then(|value| value.to_str().ok());
    let kind = header.or(words.kind.as_deref()).map(short).unwrap_or_default().to_owned();
    meaning(status, &kind, patience::retry_after(headers), words)
}

/// The meaning of an exception that is the first word of a stream: another target may still answer.
pub(super) fn at_first(kind: &[u8], data: &[u8]) -> UpstreamError {
    let kind = String::from_utf8_lossy(kind);
    let status = STATUSES.iter().find(|(name, _)| *name == kind);
    let status = status.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status);
    meaning(status, &kind, None, Words::of(data))
}

/// The meaning of an exception after the answer had begun.
pub(super) fn in_stream(data: &[u8]) -> UpstreamError {
    UpstreamError::InStream { message: Words::of(data).message, frame: None }
}

fn meaning(status: StatusCode, kind: &str, retry_after: Option<std::time::Duration>, words: Words) -> UpstreamError {
    let message = words.message.clone();
    match status.as_u16() {
        _ if kind == "ServiceQuotaExceededException" => {
            UpstreamError::RateLimited { retry_after, exhausted: true, message }
        }
        429 => UpstreamError::RateLimited { retry_after, exhausted: patience::is_long(retry_after), message },
        401..=403 => UpstreamError::Account { status, message },
        // The model itself failed (424), was too slow (408), or the service did.
        408 | 424 | 425 | 500..=599 => UpstreamError::Failed { status, retry_after, message },
        300..=399 => UpstreamError::Malformed { message: format!("redirected with {status}").into() },
        _ => UpstreamError::Rejected { status, kind: words.rejection(status), message, body: None },
    }
}

/// `ValidationException:http://…` and `com.amazon.coral#ValidationException` without what is around the type.
fn short(kind: &str) -> &str {
    let kind = kind.split(':').next().unwrap_or(kind);
    kind.rsplit('#').next().unwrap_or(kind).trim()
}

#[derive(Deserialize)]
struct Body {
    #[serde(alias = "Message", alias = "originalMessage")]
    message: String,
    #[serde(rename = "__type")]
    kind: Option<String>,
}

struct Words {
    message: Box<str>,
    kind: Option<String>,
}

impl Words {
    fn of(body: &[u8]) -> Self {
        match serde_json::from_slice::<Body>(body) {
            Ok(body) => Self { message: body.message.into(), kind: body.kind },
            Err(_) => Self { message: plain(body), kind: None },
        }
    }

    fn say(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    fn rejection(&self, status: StatusCode) -> Rejection {
        if self.say(&CONTEXT_PHRASES) {
            Rejection::ContextWindow
        } else if self.say(&POLICY_PHRASES) {
            Rejection::ContentPolicy
        } else if status == StatusCode::NOT_FOUND || self.say(&MODEL_PHRASES) {
            Rejection::ModelNotFound
        } else {
            Rejection::Invalid
        }
    }
}

fn plain(body: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return "no message".into();
    }
    if text.starts_with('<') {
        return "a page instead of an answer".into();
    }
    text[..text.floor_char_boundary(PLAIN_MESSAGE_BYTES_MAX)].into()
}

#[cfg(test)]
mod tests {
    use cfr_core::upstream::Retry;

    use super::*;

    fn error(status: u16, kind: &str, message: &str) -> UpstreamError {
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static(ERROR_TYPE), kind.parse().expect("a type"))]);
        let body = serde_json::json!({ "message": message }).to_string();
        read(StatusCode::from_u16(status).expect("a status"), &headers, &body.into())
    }

    #[track_caller]
    fn check(status: u16, kind: &str, message: &str, expected: Rejection) {
        match error(status, kind, message) {
            UpstreamError::Rejected { kind, message: said, body: None, .. } => {
                assert_eq!((kind, &*said), (expected, message));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let validation = "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/";
        check(400, validation, "The maximum tokens you requested exceeds the model limit.", Rejection::Invalid);
        check(400, validation, "Input is too long for requested model.", Rejection::ContextWindow);
        let on_demand = "Invocation of model ID x with on-demand throughput isn\u{2019}t supported.";
        check(400, validation, on_demand, Rejection::ModelNotFound);
        check(400, validation, "The provided model identifier is invalid.", Rejection::ModelNotFound);
        check(400, validation, "Output blocked by content filtering policy", Rejection::ContentPolicy);
        check(404, "ResourceNotFoundException", "no such model", Rejection::ModelNotFound);
    }

    #[test]
    fn what_another_try_may_mend_is_tried_again() {
        for (status, kind) in [
            (408, "ModelTimeoutException"),
            (424, "ModelErrorException"),
            (429, "ThrottlingException"),
            (429, "ModelNotReadyException"),
            (500, "InternalServerException"),
            (503, "ServiceUnavailableException"),
        ] {
            assert!(matches!(error(status, kind, "m").retry(), Retry::SameTarget { .. }), "{kind}");
        }
    }

    #[test]
    fn a_quota_and_our_account_are_another_targets_chance_and_never_the_callers_fault() {
        for (status, kind) in [
            (400, "ServiceQuotaExceededException"),
            (403, "AccessDeniedException"),
            (403, "InvalidSignatureException"),
            (403, "ExpiredTokenException"),
        ] {
            assert_eq!(error(status, kind, "m").retry(), Retry::NextTarget, "{kind}");
        }
    }

    #[test]
    fn the_type_may_stand_in_the_body_and_a_page_has_none() {
        let read =
            |body: &'static str| read(StatusCode::BAD_REQUEST, &HeaderMap::new(), &Bytes::from_static(body.as_bytes()));
        let body = r#"{"__type":"com.amazon.coral.service#ServiceQuotaExceededException","Message":"m"}"#;
        assert!(matches!(read(body), UpstreamError::RateLimited { exhausted: true, .. }));
        assert!(read("<html>").to_string().ends_with("a page instead of an answer"));
    }

    #[test]
    fn exceptions_of_a_stream_stand_for_a_status() {
        let name = |kind: &str| at_first(kind.as_bytes(), br#"{"message":"m"}"#).name();
        let names = STATUSES.map(|(kind, _)| name(kind));
        assert_eq!(names, ["failed", "failed", "failed", "failed", "rate_limited", "rejected"]);
        assert_eq!(name("somethingNewException"), "failed");
    }
}
