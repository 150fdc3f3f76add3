//! Errors in the words of each dialect (providers.md §15).

use cfr_core::chat::Dialect;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::error::Told;

/// The body of an error.
pub(crate) fn envelope(dialect: Dialect, error: &Told<'_>) -> Value {
    match dialect {
        Dialect::Anthropic => anthropic(error),
        Dialect::Gemini => gemini(error),
        _ => json!({ "error": openai(error) }),
    }
}

/// An error as the last frame of a stream that had begun.
pub(crate) fn frame(dialect: Dialect, error: &Told<'_>) -> String {
    match dialect {
        Dialect::Anthropic => format!("event: error\ndata: {}\n\n", anthropic(error)),
        Dialect::Responses => {
            let event = json!({
                "type": "error", "code": error.code, "message": error.message, "param": error.param, "sequence_number": 0,
            });
            format!("event: error\ndata: {event}\n\n")
        }
        _ => format!("data: {}\n\n", envelope(dialect, error)),
    }
}

fn openai(error: &Told<'_>) -> Value {
    let head = json!({
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
    });
    with_fields(head, error.fields)
}

/// What OpenAI calls the code stands beside Anthropic's type: it tells budgets from other billing matters.
fn anthropic(error: &Told<'_>) -> Value {
    let head = json!({ "type": anthropic_type(error.status), "message": error.message, "code": error.code });
    json!({ "type": "error", "error": with_fields(head, error.fields) })
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 | 405 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn gemini(error: &Told<'_>) -> Value {
    let metadata: Map<String, Value> =
        error.fields.iter().map(|(name, value)| (name.clone(), text_of(value).into())).collect();
    json!({
        "error": {
            "code": error.status.as_u16(),
            "message": error.message,
            "status": gemini_status(error.status),
            "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": error.code,
                "domain": "cloudfreedom-router",
                "metadata": metadata,
            }],
        },
    })
}

fn gemini_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        403 => "PERMISSION_DENIED",
        404 | 405 => "NOT_FOUND",
        409 => "ABORTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

/// Google's metadata are texts.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn with_fields(mut head: Value, fields: &Map<String, Value>) -> Value {
    if let Some(members) = head.as_object_mut() {
        members.extend(fields.clone());
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fields: &Map<String, Value>) -> Told<'_> {
        Told {
            status: StatusCode::PAYMENT_REQUIRED,
            kind: "insufficient_quota",
            code: "budget_exceeded",
            message: "the budget is used up",
            param: None,
            fields,
        }
    }

    #[track_caller]
    fn check(dialect: Dialect, expected: Value) {
        let fields = Map::from_iter([("affordable_max_tokens".to_owned(), Value::from(5))]);
        assert_eq!(envelope(dialect, &told(&fields)), expected);
    }

    #[test]
    fn a_used_up_budget_in_every_dialect() {
        check(
            Dialect::OpenAi,
            json!({"error": {
                "message": "the budget is used up", "type": "insufficient_quota", "param": null,
                "code": "budget_exceeded", "affordable_max_tokens": 5,
            }}),
        );
        check(
            Dialect::Anthropic,
            json!({"type": "error", "error": {
                "type": "billing_error", "message": "the budget is used up", "code": "budget_exceeded",
                "affordable_max_tokens": 5,
            }}),
        );
        check(
            Dialect::Gemini,
            json!({"error": {
                "code": 402, "message": "the budget is used up", "status": "RESOURCE_EXHAUSTED",
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "budget_exceeded",
                    "domain": "cloudfreedom-router", "metadata": {"affordable_max_tokens": "5"},
                }],
            }}),
        );
    }

    #[test]
    fn an_error_in_a_stream_is_an_event_where_the_dialect_has_events() {
        let fields = Map::new();
        assert!(frame(Dialect::OpenAi, &told(&fields)).starts_with("data: {\"error\""));
        assert!(frame(Dialect::Gemini, &told(&fields)).starts_with("data: {\"error\""));
        assert!(frame(Dialect::Anthropic, &told(&fields)).starts_with("event: error\ndata: {\"type\":\"error\""));
        assert!(frame(Dialect::Responses, &told(&fields)).starts_with("event: error\ndata: {\"type\":\"error\""));
    }
}
