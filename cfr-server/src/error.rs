//! Our own answers to requests that fail, in the caller's dialect: OpenAI's unless another is named.
//!
//! An error has two messages: one for the caller, and one for the log that says why.

use std::borrow::Cow;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cfr_core::chat::Dialect;
use cfr_core::id::RequestId;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::calls::dialect;

/// The media type of every answer that is not a stream.
pub const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Tells OpenAI's SDKs whether to try again on their own.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A request that failed, as the caller sees it.
#[derive(Debug)]
pub struct ApiError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    kind: &'static str,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    param: Option<Cow<'static, str>>,
    /// Further members of the error object.
    fields: Map<String, Value>,
    headers: HeaderMap,
    /// The words that the caller understands.
    dialect: Dialect,
    /// A provider's error body that is handed on in place of ours.
    body: Option<Bytes>,
    /// For the log only.
    reason: Option<Arc<str>>,
    /// Whether nobody but the operator can mend it.
    alarm: bool,
}

/// Why a request failed, on its way from the error to the log. Travels as an extension of the response, because only
/// the router knows the request's id.
#[derive(Debug, Clone)]
pub struct Reason {
    code: Cow<'static, str>,
    text: Arc<str>,
    alarm: bool,
}

impl Reason {
    /// Writes one line: an error when only the operator can mend it, else a warning.
    pub fn log(&self, request: RequestId, status: StatusCode) {
        let Self { code, text, alarm } = self;
        let status = status.as_u16();
        if *alarm {
            tracing::error!(%request, status, %code, reason = %text, "request failed, the operator must act");
        } else {
            tracing::warn!(%request, status, %code, reason = %text, "request failed");
        }
    }
}

impl ApiError {
    /// An error with OpenAI's `type` and `code`. The message is for the caller.
    #[must_use]
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            status,
            kind,
            code: code.into(),
            message: message.into(),
            param: None,
            fields: Map::new(),
            headers: HeaderMap::new(),
            dialect: Dialect::OpenAi,
            body: None,
            reason: None,
            alarm: false,
        }))
    }

    /// The caller sent something that cannot be processed.
    #[must_use]
    pub fn bad_request(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", code, message)
    }

    /// The books are out of reach: the request is refused, and may be sent again.
    #[must_use]
    pub fn ledger_unavailable(reason: impl Display) -> Self {
        let message = "the budget ledger is unavailable, so no request can be accepted";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", "ledger_unavailable", message)
            .retry_after(Duration::from_secs(1))
            .because(reason)
    }

    /// Something that should not happen.
    #[must_use]
    pub fn internal(reason: impl Display) -> Self {
        let message = "the request failed for an internal reason; quote the request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", "internal_error", message).because(reason)
    }

    /// Says it in the caller's words.
    #[must_use]
    pub fn in_dialect(mut self, dialect: Dialect) -> Self {
        self.0.dialect = dialect;
        self
    }

    /// Names the request field that is wrong.
    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// Adds a member to the error object.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Says when to try again, in whole seconds, rounded up.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0); // up: not before the time has passed
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Tells OpenAI's SDKs not to try again.
    #[must_use]
    pub fn never_retry(self) -> Self {
        self.header(SHOULD_RETRY, HeaderValue::from_static("false"))
    }

    /// Hands on a provider's own error body in place of ours.
    #[must_use]
    pub fn with_body(mut self, body: Bytes) -> Self {
        self.0.body = Some(body);
        self
    }

    /// Says why, for the log.
    #[must_use]
    pub fn because(mut self, reason: impl Display) -> Self {
        self.0.reason = Some(reason.to_string().into());
        self
    }

    /// Nobody but the operator can mend it.
    #[must_use]
    pub fn alarm(mut self) -> Self {
        self.0.alarm = true;
        self
    }

    /// Why, for the log; none when the caller's own mistake says it all.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        let Parts { code, reason, alarm, .. } = &*self.0;
        reason.clone().map(|text| Reason { code: code.clone(), text, alarm: *alarm })
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable word for programs.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The body, in the envelope of the caller's dialect unless a provider's own is handed on.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.0.body.clone().unwrap_or_else(|| Bytes::from(dialect::envelope(self.0.dialect, &self.told()).to_string()))
    }

    /// The error as a frame of a stream that had begun.
    #[must_use]
    pub fn frame(&self) -> Bytes {
        Bytes::from(dialect::frame(self.0.dialect, &self.told()))
    }

    fn told(&self) -> Told<'_> {
        let Parts { status, kind, code, message, param, fields, .. } = &*self.0;
        Told { status: *status, kind, code, message, param: param.as_deref(), fields }
    }
}

/// What the caller is told, before it is put into the words of a dialect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) status: StatusCode,
    /// OpenAI's `type`.
    pub(crate) kind: &'a str,
    /// The stable word for programs.
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) param: Option<&'a str>,
    /// Further members of the error object.
    pub(crate) fields: &'a Map<String, Value>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.body();
        let reason = self.reason();
        let mut response = Response::new(axum::body::Body::from(body));
        *response.status_mut() = self.0.status;
        *response.headers_mut() = self.0.headers;
        response.headers_mut().insert(CONTENT_TYPE, APPLICATION_JSON);
        reason.map(|reason| response.extensions_mut().insert(reason));
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_envelope_is_openais_and_hides_the_reason() {
        let error =
            ApiError::bad_request("bad_thing", "that is bad").param("n").field("limit", 5).because("secret reason");
        let expected = json!({"error": {
            "message": "that is bad", "type": "invalid_request_error", "param": "n", "code": "bad_thing", "limit": 5,
        }});
        assert_eq!(serde_json::from_slice::<Value>(&error.body()).expect("JSON"), expected);
        assert_eq!(error.frame(), format!("data: {expected}\n\n"));
    }

    #[test]
    fn waiting_is_rounded_up_to_whole_seconds() {
        let error = ApiError::bad_request("x", "y").retry_after(Duration::from_millis(1_001));
        assert_eq!(error.into_response().headers()[RETRY_AFTER], "2");
    }
}
