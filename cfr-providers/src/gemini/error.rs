//! Errors: from Google's error object to what the router can act on (providers.md §7.5).

use std::time::Duration;

use bytes::Bytes;
use cfr_core::upstream::{Rejection, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::patience;

/// Bytes of a message that are kept.
const MESSAGE_BYTES_MAX: usize = 2_048;

/// The meaning of an answer with an error status. `body` is handed on where the caller speaks Google's dialect too.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes, hand_on: bool) -> UpstreamError {
    let words = Words::of(body);
    let retry_after = words.retry_delay().or_else(|| patience::retry_after(headers));
    let message = words.message();
    match status.as_u16() {
        429 => {
            let exhausted = words.has_no_quota() || patience::is_long(retry_after);
            UpstreamError::RateLimited { retry_after, exhausted, message }
        }
        401..=403 => UpstreamError::Account { status, message },
        400 if words.blames_our_account() => UpstreamError::Account { status, message },
        408 | 425 | 499 | 500..=599 => UpstreamError::Failed { status, retry_after, message },
        300..=399 => UpstreamError::Malformed { message: format!("redirected with {status}").into() },
        code => {
            let kind = words.rejection(code);
            UpstreamError::Rejected { status, kind, message, body: hand_on.then(|| body.clone()) }
        }
    }
}

/// The meaning of an error that came with a success status: its code is the status when it is one.
pub(super) fn read_in_success(headers: &HeaderMap, body: &Bytes, hand_on: bool) -> UpstreamError {
    let code = Words::of(body).error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = code.and_then(|code| StatusCode::from_u16(code).ok()).filter(|status| status.as_u16() >= 400);
    read(status.unwrap_or(StatusCode::BAD_GATEWAY), headers, body, hand_on)
}

/// The error that an error frame of a stream stands for, after the answer had begun.
pub(super) fn in_stream(data: &[u8], hand_on: bool) -> UpstreamError {
    let frame = hand_on.then(|| [b"data: ", data, b"\r\n\r\n"].concat().into());
    UpstreamError::InStream { message: Words::of(data).message(), frame }
}

/// What an error body says.
struct Words {
    /// The object inside `error`; null where the body has none.
    error: Value,
    /// The body where it has no form.
    plain: String,
}

const OUR_ACCOUNT: [&str; 5] =
    ["api key not valid", "api key expired", "api key not found", "enable billing", "user location is not supported"];
const TOO_LONG: [&str; 3] = ["exceeds the maximum number of tokens", "input token count", "input is too long"];

impl Words {
    /// `{error: {…}}`, or a list with one of those, as Vertex answers its streaming method.
    fn of(body: &[u8]) -> Self {
        let outer: Value = serde_json::from_slice(body).unwrap_or_default();
        let object = outer.get(0).unwrap_or(&outer);
        let error = object.get("error").cloned().unwrap_or_default();
        let plain = if error.is_null() { String::from_utf8_lossy(body).trim().to_owned() } else { String::new() };
        Self { error, plain }
    }

    fn message(&self) -> Box<str> {
        let said = match &self.error {
            Value::String(message) => message,
            error => error.get("message").and_then(Value::as_str).unwrap_or(&self.plain),
        };
        match said {
            "" => "no message".into(),
            page if page.starts_with('<') => "a page instead of an answer".into(),
            said => said[..said.floor_char_boundary(MESSAGE_BYTES_MAX)].into(),
        }
    }

    fn says(&self, phrases: &[&str]) -> bool {
        let message = self.message().to_ascii_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    /// The details of one type, by the end of its name.
    fn details<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let details = self.error.get("details").and_then(Value::as_array).into_iter().flatten();
        details
            .filter(move |detail| detail.get("@type").and_then(Value::as_str).is_some_and(|name| name.ends_with(kind)))
    }

    /// `retryDelay` such as `46.2s`.
    fn retry_delay(&self) -> Option<Duration> {
        let text = self.details("RetryInfo").find_map(|detail| detail.get("retryDelay")?.as_str())?;
        patience::decimal_seconds(text.trim().strip_suffix('s')?).filter(|wait| !wait.is_zero())
    }

    /// A quota of nothing is no quota: waiting does not help.
    fn has_no_quota(&self) -> bool {
        let violations =
            self.details("QuotaFailure").filter_map(|detail| detail.get("violations")?.as_array()).flatten();
        let mut values = violations.filter_map(|violation| violation.get("quotaValue"));
        values.any(|value| value.as_str() == Some("0") || value.as_u64() == Some(0))
            || self.says(&["limit: 0,", "limit: 0\n"])
    }

    /// Google answers a bad key with 400.
    fn blames_our_account(&self) -> bool {
        let reasons = self.details("ErrorInfo").filter_map(|detail| detail.get("reason")?.as_str());
        reasons.into_iter().any(|reason| reason.starts_with("API_KEY") || reason == "BILLING_DISABLED")
            || self.says(&OUR_ACCOUNT)
    }

    fn rejection(&self, code: u16) -> Rejection {
        match code {
            404 => Rejection::ModelNotFound,
            _ if self.says(&TOO_LONG) => Rejection::ContextWindow,
            _ => Rejection::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> UpstreamError {
        let status = StatusCode::from_u16(status).expect("a status");
        read(status, &HeaderMap::new(), &Bytes::copy_from_slice(body.as_bytes()), false)
    }

    #[test]
    fn a_bad_key_is_our_accounts_trouble_though_it_comes_with_400() {
        let info = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT",
            "details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
        assert_eq!(error(400, info).name(), "account");
        assert_eq!(error(403, r#"{"error":{"message":"no"}}"#).name(), "account");
        assert_eq!(error(400, r#"{"error":{"message":"bad field"}}"#).name(), "rejected");
    }

    #[test]
    fn the_delay_is_in_the_details_and_no_quota_at_all_is_exhausted() {
        let with = |details: &str| error(429, &format!(r#"[{{"error":{{"message":"m","details":[{details}]}}}}]"#));
        let retry = r#"{"@type":"x/google.rpc.RetryInfo","retryDelay":"46.2s"}"#;
        match with(retry) {
            UpstreamError::RateLimited { retry_after, exhausted, .. } => {
                assert_eq!((retry_after, exhausted), (Some(Duration::from_millis(46_200)), false));
            }
            other => panic!("{other:?}"),
        }
        let none = r#"{"@type":"x/google.rpc.QuotaFailure","violations":[{"quotaValue":"0"}]}"#;
        assert!(matches!(with(none), UpstreamError::RateLimited { exhausted: true, .. }));
    }

    #[test]
    fn a_prompt_that_is_too_long_and_a_missing_model_are_told_apart() {
        let kind = |status, message: &str| match error(status, &format!(r#"{{"error":{{"message":"{message}"}}}}"#)) {
            UpstreamError::Rejected { kind, .. } => kind,
            other => panic!("{other:?}"),
        };
        let long = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
        assert_eq!(kind(400, long), Rejection::ContextWindow);
        assert_eq!(kind(404, "models/x is not found"), Rejection::ModelNotFound);
        assert_eq!(kind(400, "contents is not specified"), Rejection::Invalid);
    }

    #[test]
    fn what_has_no_form_still_has_a_message() {
        assert_eq!(
            error(502, "<html>").to_string(),
            "upstream failed with 502 Bad Gateway: a page instead of an answer"
        );
        assert_eq!(error(503, "").to_string(), "upstream failed with 503 Service Unavailable: no message");
        assert_eq!(error(500, "odd").to_string(), "upstream failed with 500 Internal Server Error: odd");
        assert_eq!(error(302, "").name(), "malformed");
    }
}
