//! Errors of the management API as problem details (RFC 9457).

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cfr_billing::store::StoreError;
use cfr_core::id::RequestId;
use cfr_core::ledger::LedgerError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// How long a caller waits before it tries again when the books are out of reach.
const RETRY_AFTER_SECONDS: u64 = 1;

/// An error, for programs by `code` and for people by `detail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// Names the kind of problem: `urn:cfr:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:cfr:problem:conflict")]
    pub(crate) kind: Box<str>,
    /// The kind of problem as a stable word.
    #[schema(value_type = String, example = "conflict")]
    pub(crate) code: Box<str>,
    /// The kind of problem in words.
    #[schema(value_type = String, example = "Conflict")]
    pub(crate) title: Box<str>,
    /// The HTTP status.
    #[schema(example = 409)]
    pub(crate) status: u16,
    /// What happened here, and what to do about it.
    #[schema(value_type = String, example = "the slug `acme` is taken")]
    pub(crate) detail: Box<str>,
    /// What is wrong with which field.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>)]
    pub(crate) errors: Box<[FieldError]>,
    /// Seconds after which it may be tried again: the header `retry-after`.
    #[serde(skip)]
    pub(crate) retry_after: Option<u64>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field's path, as in `price.amount`.
    #[schema(example = "slug")]
    pub(crate) field: String,
    /// What is wrong with it.
    #[schema(example = "only lower case letters, digits and `-`")]
    pub(crate) message: String,
}

impl FieldError {
    /// `message` about `field`.
    pub(crate) fn new(field: impl Into<String>, message: impl ToString) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}

impl Problem {
    /// A problem of its own kind.
    #[must_use]
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl ToString) -> Self {
        Self {
            kind: format!("urn:cfr:problem:{code}").into(),
            code: code.into(),
            title: status.canonical_reason().unwrap_or_default().into(),
            status: status.as_u16(),
            detail: detail.to_string().into(),
            errors: Box::default(),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS),
        }
    }

    /// 400: the request cannot be read at all.
    #[must_use]
    pub(crate) fn bad_request(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 401: nobody is signed in, and no key or not one that is in use is sent.
    #[must_use]
    pub(crate) fn unauthorized() -> Self {
        let detail = "sign in, or send a key as `authorization: Bearer cfr_…`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403: a key that opens something else.
    #[must_use]
    pub(crate) fn forbidden(detail: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 403: what is dangerous asks for a recent proof of who somebody is.
    #[must_use]
    pub(crate) fn step_up_required() -> Self {
        let detail = "prove again who you are with `POST /auth/step-up`, then repeat this within five minutes";
        Self::new(StatusCode::FORBIDDEN, "step_up_required", detail)
    }

    /// 404: there is no such thing.
    #[must_use]
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format_args!("no such {what}"))
    }

    /// 405: the path exists, the method does not.
    #[must_use]
    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this path has other methods: see the `allow` header";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// 409: a unique value is taken, or a rule of the books forbids it.
    #[must_use]
    pub(crate) fn conflict(detail: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 409: a change was made, but what was answered is not known any more.
    #[must_use]
    pub(crate) fn answer_lost(request: RequestId) -> Self {
        let detail = format_args!(
            "the change was made, but its answer is lost: the events of the request {request} in the audit log say what came \
             of it"
        );
        Self::new(StatusCode::CONFLICT, "answer_lost", detail)
    }

    /// 412: somebody else changed the resource meanwhile.
    #[must_use]
    pub(crate) fn stale() -> Self {
        let detail = "it was changed meanwhile: read it again and repeat the change with its new `etag`";
        Self::new(StatusCode::PRECONDITION_FAILED, "stale", detail)
    }

    /// 413: the body is longer than the route takes.
    #[must_use]
    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large for this path")
    }

    /// 415: the body is not declared as JSON.
    #[must_use]
    pub(crate) fn not_json() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "send the body as `content-type: application/json`")
    }

    /// 422: the request is well-formed, its values are not acceptable.
    #[must_use]
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.iter().map(describe).collect::<Vec<_>>().join("; ");
        Self { errors: errors.into(), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }

    /// 422 about one field.
    #[must_use]
    pub(crate) fn invalid_field(field: &str, message: impl ToString) -> Self {
        Self::invalid(vec![FieldError::new(field, message)])
    }

    /// 429: somebody asks too often.
    #[must_use]
    pub(crate) fn too_many(after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0); // up: not too early
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many requests: wait");
        Self { retry_after: Some(seconds), ..problem }
    }

    /// 500: our fault. The reason goes to the log, not to the caller.
    #[must_use]
    pub(crate) fn internal(reason: impl ToString) -> Self {
        tracing::error!(reason = reason.to_string(), "the management API failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong on our side; see the server's log",
        )
    }

    /// 503: the books are out of reach. The reason goes to the log, not to the caller.
    #[must_use]
    pub(crate) fn unavailable(reason: impl ToString) -> Self {
        tracing::error!(reason = reason.to_string(), "the books are out of reach");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", "the books are out of reach; try again")
    }
}

fn describe(error: &FieldError) -> String {
    format!("{}: {}", error.field, error.message)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what } => Self::not_found(what),
            StoreError::Conflict { what } => Self::conflict(what),
            needed @ StoreError::NeedsSecondPerson => {
                Self::new(StatusCode::FORBIDDEN, "second_person_required", needed)
            }
            StoreError::Invalid { what } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", what),
            StoreError::Unavailable { reason } | StoreError::Unwritable { reason } => Self::unavailable(reason),
            other => Self::unavailable(other),
        }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::UnknownBudget { .. } => Self::not_found("budget"),
            LedgerError::Unavailable { reason } => Self::unavailable(reason),
            other => Self::internal(other),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        self.retry_after.map(|seconds| headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds)));
        response
    }
}

/// The error answer that every operation can give, for the OpenAPI document.
#[derive(Debug, utoipa::IntoResponses)]
#[response(status = "default", description = "What went wrong", content_type = "application/problem+json")]
pub(crate) struct Problems(#[expect(dead_code, reason = "describes the body, is never built")] Problem);
