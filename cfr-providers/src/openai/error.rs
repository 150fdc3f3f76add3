//! Errors: from a status and a body of any of the shapes in use to what the router can act on.

use std::borrow::Cow;

use bytes::Bytes;
use cfr_core::upstream::{Rejection, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::decode::ERROR_IN_SUCCESS;
use crate::patience;

/// Bytes of a text without form, such as a page of a proxy, that are kept as a message.
const PLAIN_MESSAGE_BYTES_MAX: usize = 512;

/// The meaning of an answer with an error status.
pub(crate) fn read(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
    let words = Words::of(body);
    let retry_after = patience::retry_after(headers);
    let should_retry = patience::should_retry(headers);
    let message = words.message.clone();
    let content_policy = words.rejection() == Some(Rejection::ContentPolicy);
    match status.as_u16() {
        429 => {
            let exhausted = words.quota_is_used_up() || should_retry == Some(false) || patience::is_long(retry_after);
            UpstreamError::RateLimited { retry_after, exhausted, message }
        }
        401..=403 if !content_policy => UpstreamError::Account { status, message },
        400 if words.blames_our_key() => UpstreamError::Account { status, message },
        408 | 425 | 498 | 500..=599 => UpstreamError::Failed { status, retry_after, message },
        400 if words.is_a_failed_generation() => UpstreamError::Failed { status, retry_after, message },
        _ if should_retry == Some(true) => UpstreamError::Failed { status, retry_after, message },
        300..=399 => UpstreamError::Malformed { message: format!("redirected with {status}").into() },
        code => {
            let missing = (code == 404).then_some(Rejection::ModelNotFound);
            let kind = words.rejection().or(missing).unwrap_or(Rejection::Invalid);
            UpstreamError::Rejected { status, kind, message, body: Some(words.in_openai_shape(body)) }
        }
    }
}

/// The meaning of an error that came with a success status: its code is the status when it is one.
pub(crate) fn read_in_success(headers: &HeaderMap, body: &Bytes) -> UpstreamError {
    let code = Words::of(body).code.and_then(|code| code.parse().ok());
    let status = code.filter(|code: &StatusCode| code.as_u16() >= 400).unwrap_or(ERROR_IN_SUCCESS);
    read(status, headers, body)
}

/// The error that an error frame of a stream stands for.
pub(crate) fn in_stream(data: &[u8]) -> UpstreamError {
    let frame = [b"data: ", data, b"\n\n"].concat();
    UpstreamError::InStream { message: Words::of(data).message, frame: Some(frame.into()) }
}

/// The same error, come after the answer had begun.
pub(crate) fn within(error: &UpstreamError) -> UpstreamError {
    let message = match error {
        UpstreamError::Rejected { message, .. }
        | UpstreamError::RateLimited { message, .. }
        | UpstreamError::Failed { message, .. }
        | UpstreamError::Malformed { message } => message.clone(),
        // Trouble with our account is not the caller's to know.
        other => other.to_string().into(),
    };
    UpstreamError::InStream { message, frame: None }
}

/// What an error body says, whatever its shape.
struct Words {
    message: Box<str>,
    code: Option<String>,
    kind: Option<String>,
    /// Whether the body has the shape that OpenAI's clients read.
    is_openai_shape: bool,
}

impl Words {
    fn of(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) if value.is_object() => Self::of_object(&value),
            _ => Self { message: plain(body), code: None, kind: None, is_openai_shape: false },
        }
    }

    /// `{error: {…}}` of OpenAI, `{error: "…", code}` of xAI and Ollama, `{message, type, code}` of Mistral and old
    /// vLLM, `{detail}` of FastAPI.
    fn of_object(body: &Value) -> Self {
        let inner = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
        let message = [inner.get("message"), body.get("error"), body.get("detail"), body.get("message")];
        let message = message.into_iter().flatten().find(|value| !value.is_null());
        Self {
            message: message.map_or_else(|| plain(body.to_string().as_bytes()), |value| said(value).into()),
            code: inner.get("code").and_then(word),
            kind: inner.get("type").and_then(word),
            is_openai_shape: inner.get("message").is_some_and(Value::is_string)
                && body.get("error").is_some_and(Value::is_object),
        }
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        [&self.code, &self.kind].into_iter().flatten().any(|word| codes.contains(&word.as_str()))
    }

    fn says(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    fn rejection(&self) -> Option<Rejection> {
        if self.has_code(CONTEXT_CODES) || self.says(CONTEXT_PHRASES) {
            Some(Rejection::ContextWindow)
        } else if self.has_code(POLICY_CODES) || self.says(POLICY_PHRASES) {
            Some(Rejection::ContentPolicy)
        } else if self.has_code(MODEL_CODES) {
            Some(Rejection::ModelNotFound)
        } else {
            None
        }
    }

    fn quota_is_used_up(&self) -> bool {
        self.has_code(QUOTA_CODES) || self.says(QUOTA_PHRASES)
    }

    fn blames_our_key(&self) -> bool {
        self.has_code(&["invalid_api_key"]) || self.says(&["incorrect api key", "invalid api key"])
    }

    /// The model produced something that its server could not read; another try often succeeds.
    fn is_a_failed_generation(&self) -> bool {
        self.has_code(&["tool_use_failed", "json_validate_failed"])
    }

    /// The body as it came when OpenAI's clients can read it, else one that they can.
    fn in_openai_shape(&self, body: &Bytes) -> Bytes {
        if self.is_openai_shape {
            return body.clone();
        }
        let error =
            json!({"message": &*self.message, "type": "invalid_request_error", "param": null, "code": self.code});
        json!({ "error": error }).to_string().into()
    }
}

const CONTEXT_CODES: &[&str] = &["context_length_exceeded", "exceed_context_size_error", "string_above_max_length"];
const CONTEXT_PHRASES: &[&str] = &[
    "maximum context length",
    "context length exceeded",
    "context window",
    "maximum prompt length",
    "prompt is too long",
    "input is too long",
    "reduce the length of the messages",
    "exceeds the available context",
    "too large for model",
];
const POLICY_CODES: &[&str] =
    &["content_filter", "content_policy_violation", "content_policy", "invalid_prompt", "ResponsibleAIPolicyViolation"];
const POLICY_PHRASES: &[&str] = &[
    "content management policy",
    "content policy",
    "safety system",
    "usage guidelines",
    "flagged by moderation",
    "requires moderation",
    "your input was flagged",
];
const MODEL_CODES: &[&str] = &["model_not_found", "DeploymentNotFound", "model_not_available"];
const QUOTA_CODES: &[&str] =
    &["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "insufficient_balance"];
const QUOTA_PHRASES: &[&str] =
    &["exceeded your current quota", "insufficient balance", "out of credits", "insufficient credits"];

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A message that may be a text, or a list of what is wrong with which field.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(complaint).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

/// One item of FastAPI's list: `{loc: ["body", "messages"], msg: "…"}`.
fn complaint(item: &Value) -> String {
    let Some(message) = item.get("msg").and_then(Value::as_str) else { return item.to_string() };
    let place = item.get("loc").and_then(Value::as_array).into_iter().flatten().filter_map(word).collect::<Vec<_>>();
    if place.is_empty() { message.into() } else { format!("{}: {message}", place.join(".")) }
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
    cut(text, PLAIN_MESSAGE_BYTES_MAX).into()
}

fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes_max)]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> UpstreamError {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        read(StatusCode::from_u16(status).unwrap(), &headers, &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[track_caller]
    fn check_kind(status: u16, body: &str, expected: Rejection) {
        match error(status, &[], body) {
            UpstreamError::Rejected { kind, .. } => assert_eq!(kind, expected, "{body}"),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(status: u16, headers: &[(&'static str, &'static str)], body: &str, expected: &str) {
        assert_eq!(error(status, headers, body).to_string(), expected);
    }

    #[test]
    fn a_context_that_is_too_small_is_told_from_other_refusals() {
        check_kind(400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, Rejection::ContextWindow);
        check_kind(413, r#"{"message":"Prompt is too long: 9 > 8"}"#, Rejection::ContextWindow);
        check_kind(
            400,
            r#"{"error":{"message":"bad","type":"exceed_context_size_error","code":400}}"#,
            Rejection::ContextWindow,
        );
        check_kind(400, r#"{"error":{"message":"max_tokens must be positive"}}"#, Rejection::Invalid);
    }

    #[test]
    fn a_content_policy_is_the_callers_matter_even_with_403() {
        check_kind(400, r#"{"error":{"message":"x","code":"content_filter"}}"#, Rejection::ContentPolicy);
        check_kind(
            403,
            r#"{"code":"The caller","error":"Content violates usage guidelines."}"#,
            Rejection::ContentPolicy,
        );
        check(403, &[], r#"{"error":{"message":"no"}}"#, "upstream refused our account with 403 Forbidden");
    }

    #[test]
    fn a_missing_model_is_another_targets_chance() {
        check_kind(404, "<html>", Rejection::ModelNotFound);
        check_kind(400, r#"{"error":{"message":"x","code":"model_not_found"}}"#, Rejection::ModelNotFound);
    }

    #[test]
    fn a_body_that_openai_clients_can_read_is_untouched_and_any_other_is_made_so() {
        let body = |text: &str| match error(400, &[], text) {
            UpstreamError::Rejected { body: Some(body), .. } => String::from_utf8(body.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        let native = r#"{ "error": {"message":"m", "more": 1} }"#;
        assert_eq!(body(native), native);
        let detail = r#"{"detail":[{"loc":["body","messages",0],"msg":"too short"},{"msg":"odd"}]}"#;
        let made = r#"{"error":{"message":"body.messages.0: too short; odd","type":"invalid_request_error","param":null,"code":null}}"#;
        assert_eq!(body(detail), made);
    }

    #[test]
    fn patience_and_exhaustion_are_told_apart() {
        let exhausted = |headers: &[(&'static str, &'static str)], body: &str| match error(429, headers, body) {
            UpstreamError::RateLimited { exhausted, .. } => exhausted,
            other => panic!("{other:?}"),
        };
        assert!(!exhausted(&[("retry-after", "5")], r#"{"message":"slow down"}"#));
        assert!(exhausted(&[], r#"{"error":{"message":"x","code":"insufficient_quota"}}"#));
        assert!(exhausted(&[("retry-after", "3600")], "{}"));
        assert!(exhausted(&[("x-should-retry", "false")], "{}"));
    }

    #[test]
    fn overloads_of_all_numbers_are_failures_of_the_provider() {
        for status in [408, 425, 498, 500, 503, 529] {
            assert_eq!(error(status, &[], "").name(), "failed", "{status}");
        }
        assert_eq!(error(409, &[("x-should-retry", "true")], "{}").name(), "failed");
        assert_eq!(error(409, &[], "{}").name(), "rejected");
    }

    #[test]
    fn an_error_under_a_success_status_has_the_status_of_its_code() {
        let read = |body: &'static str| read_in_success(&HeaderMap::new(), &Bytes::from_static(body.as_bytes()));
        assert_eq!(read(r#"{"error":{"code":402,"message":"no credits"}}"#).name(), "account");
        assert_eq!(read(r#"{"error":{"code":"odd","message":"m"}}"#).name(), "failed");
        assert_eq!(read(r#"{"error":"m"}"#).name(), "failed");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let error = error(500, &[], &"\u{20ac}".repeat(400)).to_string();
        assert!(error.ends_with('…') && error.len() < 600, "{error}");
    }
}
