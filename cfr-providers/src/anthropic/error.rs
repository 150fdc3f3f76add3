//! Errors: from Anthropic's statuses and words to what the router can act on (providers.md §6.4, §15).

use std::time::Duration;

use bytes::Bytes;
use cfr_core::upstream::{Rejection, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::wire::Word;
use crate::patience;

/// Bytes of a text without form, such as a page of a proxy, that are kept as a message.
const PLAIN_MESSAGE_BYTES_MAX: usize = 512;

/// Our account is used up, which waiting does not mend.
const SPENT_PHRASES: [&str; 6] =
    ["credit balance is too low", "spend limit", "spend_limit", "spending limit", "usage limit", "billing"];
const CONTEXT_PHRASES: [&str; 4] =
    ["prompt is too long", "input is too long", "context window", "exceed context limit"];
const POLICY_PHRASES: [&str; 2] = ["content filtering policy", "content policy"];

/// What Anthropic limits, each with headers of its own.
const LIMITS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// The words of an error with the status that each stands for.
const STATUSES: [(&str, StatusCode); 9] = [
    ("invalid_request_error", StatusCode::BAD_REQUEST),
    ("authentication_error", StatusCode::UNAUTHORIZED),
    ("billing_error", StatusCode::PAYMENT_REQUIRED),
    ("permission_error", StatusCode::FORBIDDEN),
    ("not_found_error", StatusCode::NOT_FOUND),
    ("request_too_large", StatusCode::PAYLOAD_TOO_LARGE),
    ("rate_limit_error", StatusCode::TOO_MANY_REQUESTS),
    ("timeout_error", StatusCode::GATEWAY_TIMEOUT),
    ("overloaded_error", StatusCode::SERVICE_UNAVAILABLE),
];

/// The meaning of an answer with an error status, with Anthropic's own body for callers who speak its dialect.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
    let words = Words::of(body);
    let retry_after = patience::retry_after(headers).or_else(|| reset(headers));
    let should_retry = patience::should_retry(headers);
    let message = words.message.clone();
    match status.as_u16() {
        429 => {
            let exhausted = words.say(&SPENT_PHRASES) || should_retry == Some(false) || patience::is_long(retry_after);
            UpstreamError::RateLimited { retry_after, exhausted, message }
        }
        401..=403 => UpstreamError::Account { status, message },
        400 if words.say(&SPENT_PHRASES) => UpstreamError::Account { status, message },
        408 | 425 | 500..=599 => UpstreamError::Failed { status, retry_after, message },
        _ if should_retry == Some(true) => UpstreamError::Failed { status, retry_after, message },
        300..=399 => UpstreamError::Malformed { message: format!("redirected with {status}").into() },
        _ => UpstreamError::Rejected { status, kind: words.rejection(status), message, body: Some(words.body(body)) },
    }
}

/// How long until the last of the limits that are reached is set back.
fn reset(headers: &HeaderMap) -> Option<Duration> {
    let header = |limit: &str, word: &str| headers.get(format!("anthropic-ratelimit-{limit}-{word}"))?.to_str().ok();
    let reached = LIMITS.into_iter().filter(|limit| header(limit, "remaining") == Some("0"));
    let moments = reached.filter_map(|limit| header(limit, "reset")?.parse().ok());
    moments.filter_map(|moment| patience::until(headers, moment)).max()
}

/// The same error for callers who speak another dialect.
pub(super) fn without_body(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Rejected { status, kind, message, .. } => {
            UpstreamError::Rejected { status, kind, message, body: None }
        }
        error => error,
    }
}

/// The error that came in place of an answer, or as the first event of a stream: its kind says the status.
pub(super) fn in_success(headers: &HeaderMap, body: &[u8]) -> UpstreamError {
    let status = Words::of(body).status();
    read(status, headers, &Bytes::copy_from_slice(body))
}

/// The error that an event of a stream stands for that has begun to answer.
pub(super) fn in_stream(data: &[u8]) -> UpstreamError {
    let frame = [b"event: error\ndata: ", data, b"\n\n"].concat();
    UpstreamError::InStream { message: Words::of(data).message, frame: Some(frame.into()) }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireError<'a> {
    #[serde(rename = "type")]
    kind: Word,
    message: Word,
    /// More words, among them why a limit holds.
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: WireError<'a>,
}

/// What an error body says.
struct Words {
    message: Box<str>,
    kind: Option<Box<str>>,
    details: String,
    /// Whether the body has the shape that Anthropic's clients read.
    is_own_shape: bool,
}

impl Words {
    fn of(body: &[u8]) -> Self {
        let wire = serde_json::from_slice::<Body<'_>>(body).map(|body| body.error);
        let wire = wire.ok().filter(|error| error.message.text().is_some());
        let Some(error) = wire else {
            return Self { message: plain(body), kind: None, details: String::new(), is_own_shape: false };
        };
        Self {
            message: error.message.text().unwrap_or_default().into(),
            kind: error.kind.text().map(Box::from),
            details: error.details.map(|raw| raw.get().to_ascii_lowercase()).unwrap_or_default(),
            is_own_shape: error.kind.text().is_some(),
        }
    }

    fn say(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase) || self.details.contains(phrase))
    }

    fn status(&self) -> StatusCode {
        let known = STATUSES.iter().find(|(kind, _)| self.kind.as_deref() == Some(kind));
        known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
    }

    fn rejection(&self, status: StatusCode) -> Rejection {
        if self.say(&CONTEXT_PHRASES) {
            Rejection::ContextWindow
        } else if self.say(&POLICY_PHRASES) {
            Rejection::ContentPolicy
        } else if status == StatusCode::NOT_FOUND {
            Rejection::ModelNotFound
        } else {
            Rejection::Invalid
        }
    }

    /// The body as it came when Anthropic's clients can read it, else one that they can.
    fn body(&self, body: &Bytes) -> Bytes {
        if self.is_own_shape {
            return body.clone();
        }
        let error = json!({"type": "invalid_request_error", "message": &*self.message});
        json!({"type": "error", "error": error}).to_string().into()
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
    use super::*;

    fn error(status: u16, headers: &[(&'static str, &'static str)], kind: &str, message: &str) -> UpstreamError {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req"});
        read(StatusCode::from_u16(status).unwrap(), &headers, &body.to_string().into())
    }

    #[track_caller]
    fn check_kind(status: u16, message: &str, expected: Rejection) {
        match error(status, &[], "invalid_request_error", message) {
            UpstreamError::Rejected { kind, body: Some(body), .. } => {
                assert_eq!(kind, expected, "{message}");
                assert!(body.ends_with(br#""request_id":"req"}"#), "the body is Anthropic's own");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        check_kind(400, "prompt is too long: 9 tokens > 8 maximum", Rejection::ContextWindow);
        check_kind(400, "Output blocked by content filtering policy", Rejection::ContentPolicy);
        check_kind(404, "model: claude-x", Rejection::ModelNotFound);
        check_kind(413, "Request exceeds the maximum size", Rejection::Invalid);
        check_kind(400, "messages: at least one message is required", Rejection::Invalid);
    }

    #[test]
    fn trouble_of_our_account_is_never_the_callers_whatever_its_status() {
        for status in [401, 402, 403] {
            assert_eq!(error(status, &[], "authentication_error", "invalid x-api-key").name(), "account", "{status}");
        }
        let spent = "Your credit balance is too low to access the Anthropic API.";
        assert_eq!(error(400, &[], "invalid_request_error", spent).name(), "account");
        let spent = "You have reached your specified API usage limits.";
        assert_eq!(error(400, &[], "invalid_request_error", spent).name(), "account");
    }

    #[test]
    fn a_rate_limit_passes_and_a_spend_limit_does_not() {
        let exhausted = |headers: &[(&'static str, &'static str)], message: &str| match error(
            429,
            headers,
            "rate_limit_error",
            message,
        ) {
            UpstreamError::RateLimited { exhausted, .. } => exhausted,
            other => panic!("{other:?}"),
        };
        assert!(!exhausted(&[("retry-after", "12"), ("x-should-retry", "true")], "2,000,000 input tokens per minute"));
        assert!(exhausted(&[], "This workspace has reached its spend limit."));
        assert!(exhausted(&[("x-should-retry", "false")], "no"));
        assert!(exhausted(&[("retry-after", "3600")], "no"));
        let body = r#"{"error":{"type":"rate_limit_error","message":"no","details":{"error_code":"SPEND_LIMIT"}}}"#;
        let error = read(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), &Bytes::from_static(body.as_bytes()));
        assert!(matches!(error, UpstreamError::RateLimited { exhausted: true, .. }), "{error:?}");
    }

    #[test]
    fn the_limit_that_is_set_back_last_says_how_long_to_wait_where_nothing_else_does() {
        let limits = [
            ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
            ("anthropic-ratelimit-requests-remaining", "9"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T12:00:50Z"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T12:00:07Z"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-21T12:00:12.5Z"),
        ];
        let wait = |headers: &[(&'static str, &'static str)]| match error(
            429,
            headers,
            "rate_limit_error",
            "2,000,000 input tokens per minute",
        ) {
            UpstreamError::RateLimited { retry_after, exhausted: false, .. } => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(&limits), Some(Duration::from_millis(12_500)));
        assert_eq!(wait(&[&limits[..], &[("retry-after", "3")]].concat()), Some(Duration::from_secs(3)));
        assert_eq!(wait(&limits[1..]), None, "nobody says when that was");
        assert_eq!(wait(&limits[..3]), None, "nothing is reached");
    }

    #[test]
    fn overloads_are_failures_of_the_provider() {
        for status in [500, 503, 504, 529] {
            assert_eq!(error(status, &[], "overloaded_error", "Overloaded").name(), "failed", "{status}");
        }
        assert_eq!(error(409, &[("x-should-retry", "true")], "conflict_error", "x").name(), "failed");
        assert_eq!(error(409, &[], "conflict_error", "x").name(), "rejected");
    }

    #[test]
    fn an_error_without_a_status_has_that_of_its_kind() {
        let read = |body: &str| in_success(&HeaderMap::new(), body.as_bytes()).name();
        assert_eq!(read(r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#), "failed");
        assert_eq!(read(r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#), "rate_limited");
        assert_eq!(read(r#"{"type":"error","error":{"type":"authentication_error","message":"x"}}"#), "account");
        assert_eq!(read(r#"{"type":"error","error":{"type":"new_error","message":"x"}}"#), "failed");
    }

    #[test]
    fn a_page_becomes_a_body_that_clients_can_read() {
        let error = read(StatusCode::BAD_REQUEST, &HeaderMap::new(), &Bytes::from_static(b"<html>"));
        let UpstreamError::Rejected { body: Some(body), message, .. } = error else { panic!("{error:?}") };
        assert_eq!(&*message, "a page instead of an answer");
        assert!(body.starts_with(br#"{"type":"error","error":{"type":"invalid_request_error""#), "{body:?}");
    }
}
