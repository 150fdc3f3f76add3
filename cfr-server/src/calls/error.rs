//! What the gateway says when it does not answer, in OpenAI's status codes and words (providers.md §15).

use std::time::Duration;

use bytes::Bytes;
use cfr_core::chat::{Dialect, EnvelopeError};
use cfr_core::gateway::{BudgetExceeded, GatewayError};
use cfr_core::id::RequestId;
use cfr_core::ledger::LedgerError;
use cfr_core::limit::{LimitExceeded, REQUESTS_PER_MINUTE};
use cfr_core::price::PriceError;
use cfr_core::upstream::{Rejection, UpstreamError};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::config::Settings;
use crate::error::ApiError;

const INVALID: &str = "invalid_request_error";
const API: &str = "api_error";

/// The answer to a call that failed.
#[must_use]
pub fn api_error(error: GatewayError, settings: &Settings) -> ApiError {
    let message = error.to_string();
    match error {
        GatewayError::Envelope(error) => envelope(error),
        GatewayError::UnknownModel { .. } => ApiError::not_found("model_not_found", message).param("model"),
        GatewayError::ForbiddenModel { .. } => forbidden("model_not_allowed", message).param("model"),
        GatewayError::NotStored { field: None, .. } => ApiError::not_found("not_found", message),
        GatewayError::NotStored { field: Some(field), .. } => {
            ApiError::bad_request("previous_response_not_found", message).param(field)
        }
        GatewayError::NotPriced(PriceError::UnboundedOutput { .. }) => {
            ApiError::bad_request("max_tokens_required", message).param("max_tokens")
        }
        GatewayError::NotPriced(_) | GatewayError::ModelNotPriced { .. } => {
            ApiError::bad_request("model_not_priced", message).param("model")
        }
        GatewayError::TooLarge => ApiError::bad_request("request_too_large", message),
        GatewayError::NoExchangeRate { .. } => ApiError::internal(message),
        GatewayError::LimitExceeded(limit) => rate_limit(&limit),
        GatewayError::BudgetExceeded(exceeded) => budget(&exceeded, settings.budget_status),
        GatewayError::Ledger(error) => ledger(&error),
        GatewayError::DeniedByHook(reason) => forbidden(reason.code, reason.message),
        GatewayError::Upstream { error, .. } => upstream(*error),
        _ => ApiError::internal(message),
    }
}

/// The error as the last frame of a stream that had begun.
pub(super) fn frame(error: GatewayError, (request, dialect): (RequestId, Dialect), settings: &Settings) -> Bytes {
    if let GatewayError::Upstream { error, .. } = &error
        && let UpstreamError::InStream { frame: Some(frame), .. } = &**error
    {
        return frame.clone();
    }
    let error = api_error(error, settings).in_dialect(dialect);
    if let Some(reason) = error.reason() {
        reason.log(request, StatusCode::OK); // the status that the caller saw
    }
    error.frame()
}

fn forbidden(
    code: impl Into<std::borrow::Cow<'static, str>>,
    message: impl Into<std::borrow::Cow<'static, str>>,
) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "permission_error", code, message)
}

fn envelope(error: EnvelopeError) -> ApiError {
    let message = error.to_string();
    match error {
        EnvelopeError::Field { param, .. } => ApiError::bad_request("invalid_value", message).param(param),
        _ => ApiError::bad_request("invalid_json", message),
    }
}

fn rate_limit(limit: &LimitExceeded) -> ApiError {
    let refusal =
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", limit.to_string())
            .retry_after(limit.retry_after)
            .field("limit", limit.what)
            .field("scope", limit.scope.name());
    if limit.what != REQUESTS_PER_MINUTE {
        return refusal; // the headers are about requests per minute
    }
    let reset = format!("{}ms", limit.retry_after.as_millis());
    let reset = HeaderValue::try_from(reset).unwrap_or(HeaderValue::from_static("60s"));
    refusal
        .header(HeaderName::from_static("x-ratelimit-limit-requests"), limit.limit.into())
        .header(HeaderName::from_static("x-ratelimit-remaining-requests"), HeaderValue::from(0_u32))
        .header(HeaderName::from_static("x-ratelimit-reset-requests"), reset)
}

fn budget(exceeded: &BudgetExceeded, status: StatusCode) -> ApiError {
    let denial = &exceeded.denial;
    ApiError::new(status, "insufficient_quota", "budget_exceeded", exceeded.to_string())
        .never_retry()
        .field("scope", denial.scope.name())
        .field("budget_id", denial.budget.to_string())
        .field("currency", denial.available.currency().code())
        .field("available", denial.available.to_decimal().to_string())
        .field("estimate", exceeded.estimate.to_decimal().to_string())
        .field("affordable_max_tokens", exceeded.output_tokens_affordable)
        .field("period_end", denial.period_end.map(|end| end.to_string()))
}

fn ledger(error: &LedgerError) -> ApiError {
    match error {
        LedgerError::UnknownBudget { .. } => forbidden("no_budget", "a budget of this key was closed").because(error),
        LedgerError::Unavailable { .. } => ApiError::ledger_unavailable(error),
        _ => ApiError::internal(error),
    }
}

fn upstream(error: UpstreamError) -> ApiError {
    let reason = error.to_string();
    let bad_gateway = |code: &'static str, message: &'static str| {
        ApiError::new(StatusCode::BAD_GATEWAY, API, code, message).because(&reason)
    };
    match error {
        UpstreamError::Rejected { status, kind, message, body } => rejected(status, kind, message, body),
        UpstreamError::Account { message, .. } => {
            let error = bad_gateway("upstream_auth", "the provider refuses the operator's account");
            operators(error, &reason, &message)
        }
        UpstreamError::RateLimited { exhausted: true, message, .. } => {
            let error = bad_gateway("upstream_auth", "the operator's quota at the provider is used up");
            operators(error, &reason, &message)
        }
        UpstreamError::RateLimited { retry_after, .. } => {
            let message = "the provider is rate limited";
            let error =
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", message);
            with_patience(error, retry_after)
        }
        UpstreamError::Failed { status, retry_after, .. } => {
            let overloaded = matches!(status.as_u16(), 503 | 529);
            let status = if overloaded { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
            let error = ApiError::new(status, API, "upstream_error", "the provider failed").because(&reason);
            with_patience(error, retry_after)
        }
        UpstreamError::Timeout { .. } => {
            let message = "the provider did not answer in time";
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "upstream_timeout", message).because(&reason)
        }
        UpstreamError::Unsupported { .. } => ApiError::bad_request("unsupported", reason),
        UpstreamError::Unreachable { .. } => bad_gateway("upstream_unreachable", "the provider cannot be reached"),
        UpstreamError::Truncated { .. } => bad_gateway("upstream_truncated", "the provider cut the answer short"),
        UpstreamError::InStream { .. } => bad_gateway("upstream_error", "the provider failed while it answered"),
        UpstreamError::Malformed { .. } => bad_gateway("upstream_malformed", "the provider's answer cannot be read"),
        _ => bad_gateway("upstream_error", "the provider failed"),
    }
}

/// What the provider says about the caller's own request keeps its meaning, and its words when both speak one dialect.
fn rejected(status: StatusCode, kind: Rejection, message: Box<str>, body: Option<Bytes>) -> ApiError {
    let code = match kind {
        Rejection::ContextWindow => "context_length_exceeded",
        Rejection::ContentPolicy => "content_policy_violation",
        Rejection::ModelNotFound => "model_not_found",
        _ => "upstream_rejected",
    };
    let error = ApiError::new(status, INVALID, code, String::from(message));
    body.into_iter().fold(error, ApiError::with_body)
}

fn with_patience(error: ApiError, retry_after: Option<Duration>) -> ApiError {
    retry_after.into_iter().fold(error, ApiError::retry_after)
}

/// Nobody but the operator can mend it. The provider's words are for the log alone: they can name the account.
fn operators(error: ApiError, reason: &str, message: &str) -> ApiError {
    error.never_retry().alarm().because(format_args!("{reason}: {message}"))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use cfr_core::id::BudgetId;
    use cfr_core::ledger::{Denial, Scope};
    use cfr_core::money::{Currency, Money};
    use http::header::RETRY_AFTER;

    use super::*;

    fn settings() -> Settings {
        Settings { body_bytes_max: 1, ..Settings::default() }
    }

    #[track_caller]
    fn check(error: UpstreamError, status: u16, code: &str) -> ApiError {
        let error = api_error(GatewayError::Upstream { error: Box::new(error), attempts: Vec::new() }, &settings());
        assert_eq!((error.status().as_u16(), error.code()), (status, code));
        error
    }

    #[test]
    fn the_operators_account_is_never_the_callers_fault_and_never_shown() {
        for status in [StatusCode::UNAUTHORIZED, StatusCode::PAYMENT_REQUIRED, StatusCode::FORBIDDEN] {
            let error =
                check(UpstreamError::Account { status, message: "key sk-1 of org-2".into() }, 502, "upstream_auth");
            assert!(!String::from_utf8_lossy(&error.body()).contains("org-2"));
        }
        check(
            UpstreamError::RateLimited { retry_after: None, exhausted: true, message: "".into() },
            502,
            "upstream_auth",
        );
    }

    #[test]
    fn a_refusal_keeps_its_status_and_its_own_words() {
        let body = Bytes::from_static(br#"{"error":{"message":"no such field","type":"x","param":null,"code":null}}"#);
        for status in [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::UNPROCESSABLE_ENTITY] {
            let refusal =
                |body| UpstreamError::Rejected { status, kind: Rejection::Invalid, message: "m".into(), body };
            check(refusal(None), status.as_u16(), "upstream_rejected");
            assert_eq!(check(refusal(Some(body.clone())), status.as_u16(), "upstream_rejected").body(), body);
        }
        let long = UpstreamError::Rejected {
            status: StatusCode::BAD_REQUEST,
            kind: Rejection::ContextWindow,
            message: "too long".into(),
            body: None,
        };
        check(long, 400, "context_length_exceeded");
    }

    #[test]
    fn patience_is_handed_on() {
        let after = Some(Duration::from_secs(7));
        let limited = UpstreamError::RateLimited { retry_after: after, exhausted: false, message: "".into() };
        assert_eq!(check(limited, 429, "rate_limit_exceeded").into_response().headers()[RETRY_AFTER], "7");
        let failed = |status| UpstreamError::Failed { status, retry_after: after, message: "".into() };
        assert_eq!(
            check(failed(StatusCode::SERVICE_UNAVAILABLE), 503, "upstream_error").into_response().headers()
                [RETRY_AFTER],
            "7"
        );
        check(failed(StatusCode::INTERNAL_SERVER_ERROR), 502, "upstream_error");
    }

    #[test]
    fn other_upstream_failures_have_a_status_of_their_own() {
        check(UpstreamError::Timeout { after: Duration::from_secs(1) }, 504, "upstream_timeout");
        check(UpstreamError::Unreachable { message: "".into() }, 502, "upstream_unreachable");
        check(UpstreamError::Malformed { message: "".into() }, 502, "upstream_malformed");
        check(UpstreamError::Truncated { message: "".into() }, 502, "upstream_truncated");
        check(UpstreamError::Unsupported { message: "audio".into() }, 400, "unsupported");
    }

    #[test]
    fn a_budget_error_says_what_is_left_and_what_would_fit() {
        let euro = |nanos| Money::from_nanos(nanos, Currency::EUR);
        let denial = Denial {
            budget: BudgetId::from_u128(7),
            scope: Scope::User,
            available: euro(50_000_000),
            asked: euro(1_000_000_000),
            period_end: "2026-12-01T00:00:00Z".parse().ok(),
        };
        let exceeded = BudgetExceeded { denial, estimate: euro(2_500_000_000), output_tokens_affordable: 12 };
        let error = api_error(GatewayError::BudgetExceeded(Box::new(exceeded)), &settings());
        let body: serde_json::Value = serde_json::from_slice(&error.body()).expect("json");
        let member = |name: &str| body["error"][name].clone();
        assert_eq!(member("code"), "budget_exceeded");
        assert_eq!((member("scope"), member("currency")), ("user".into(), "EUR".into()));
        assert_eq!((member("available"), member("estimate")), ("0.05".into(), "2.5".into()));
        assert_eq!(member("affordable_max_tokens"), 12);
        assert_eq!(member("period_end"), "2026-12-01T00:00:00Z");
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
        assert_eq!(response.headers()["x-should-retry"], "false");
    }

    #[test]
    fn a_rate_limit_says_when_to_come_back() {
        let limit = LimitExceeded {
            what: "requests_per_minute",
            scope: Scope::Key,
            limit: 60,
            retry_after: Duration::from_millis(1_500),
        };
        let response = api_error(limit.into(), &settings()).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()["x-ratelimit-limit-requests"], "60");
        assert_eq!(response.headers()["x-ratelimit-remaining-requests"], "0");
    }
}
