//! A call to a model: in through the key, the body and the gateway, and out again as it came.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cfr_core::cache::CacheUse;
use cfr_core::chat::{Call, Envelope, EnvelopeError, FormFile, Operation, Tags};
use cfr_core::gateway::{Answer, AnswerHead, Caller};
use cfr_core::id::RequestId;
use cfr_core::limit::RateState;
use cfr_core::time::Timestamp;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::value::RawValue;

use super::form::{self, Form};
use super::stream::StreamBody;
use super::{api_error, body};
use crate::error::ApiError;
use crate::observe::cache_word;
use crate::serve;
use crate::state::App;

/// Bytes of the caller's own request id that are kept.
const REQUEST_ID_BYTES_MAX: usize = 128;
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const X_REQUEST_ID: &str = "x-request-id";
/// An answer header: when the secret that was presented stops working, because a newer one replaced it.
const X_CFR_KEY_EXPIRES: HeaderName = HeaderName::from_static("x-cfr-key-expires");
/// A request header of Anthropic's clients: features in trial.
const ANTHROPIC_BETA: &str = "anthropic-beta";
/// Bytes of the features in trial that are handed on; clients that ask for many ask for a few hundred.
const BETAS_BYTES_MAX: usize = 2_048;
const ANTHROPIC_VERSION: &str = "anthropic-version";
/// A version is a day.
const VERSION_BYTES_MAX: usize = 32;
/// A request header: `true` allows us to leave out what a provider has no words for.
const X_CFR_DROP_PARAMS: &str = "x-cfr-drop-params";

/// Where a request says which model it is for.
#[derive(Debug)]
pub enum Asked {
    /// In its body, like everything else.
    InBody(Operation),
    /// In its path, Gemini's way.
    InPath {
        /// The model's public name.
        model: Box<str>,
        /// Whether the answer is wanted as a stream.
        stream: bool,
    },
    /// In its path as well, for a prompt that is to be counted: the request may stand in a member of its own.
    Counted {
        /// The model's public name.
        model: Box<str>,
    },
}

/// The member in which Gemini's clients put a request whose prompt is to be counted.
const COUNTED_REQUEST: &str = "generateContentRequest";

impl Asked {
    pub(super) const fn operation(&self) -> Operation {
        match self {
            Self::InBody(operation) => *operation,
            Self::InPath { .. } | Self::Counted { .. } => Operation::GenerateContent,
        }
    }

    fn envelope(&self, body: &Bytes, files: &[FormFile]) -> Result<Envelope, EnvelopeError> {
        match self {
            Self::InBody(operation) => Envelope::parse_form(*operation, body, files),
            Self::InPath { model, stream } => Envelope::parse_named(self.operation(), model, *stream, body),
            Self::Counted { model } => Envelope::parse_named(self.operation(), model, false, body),
        }
    }

    /// The request in the body: what else there is says nothing.
    fn request(&self, body: Bytes) -> Bytes {
        match self {
            Self::Counted { .. } => member(&body, COUNTED_REQUEST).unwrap_or(body),
            _ => body,
        }
    }
}

/// A member of an object, not copied. A body that is none is refused where its fields are read.
fn member(body: &Bytes, name: &str) -> Option<Bytes> {
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(body).ok()?;
    members.get(name).map(|value| body.slice_ref(value.get().as_bytes()))
}

/// Answers a call, or says in its dialect why not.
pub async fn answer(app: Arc<App>, asked: Asked, request: Request<Body>) -> Response {
    let operation = asked.operation();
    let id = request.extensions().get::<RequestId>().copied();
    let response = match read(&app, asked, request).await {
        Ok((admitted, call)) => {
            let id = call.id;
            match app.gateway.answer(&admitted.caller, call).await {
                Ok(answer) => Ok(admitted.warn(respond(&app, (id, operation), answer))),
                Err(error) => Err(api_error(error, &app.settings)),
            }
        }
        Err(error) => Err(error),
    };
    let response = response.unwrap_or_else(|error| error.in_dialect(operation.dialect()).into_response());
    app.metrics.answered(operation, response.status());
    let id = id.map(tracing::field::display);
    tracing::debug!(id, operation = operation.name(), status = response.status().as_u16(), "answered");
    response
}

/// Who calls.
#[derive(Debug)]
pub struct Admitted {
    /// What their calls may do.
    pub caller: Arc<Caller>,
    /// When the secret of their key stops working, where a newer one has replaced it.
    secret_ends: Option<Timestamp>,
}

impl Admitted {
    /// Tells in an answer that the secret stops working.
    fn warn(&self, mut response: Response) -> Response {
        if let Some(end) = self.secret_ends.and_then(|end| HeaderValue::try_from(end.to_string()).ok()) {
            response.headers_mut().insert(X_CFR_KEY_EXPIRES, end);
        }
        response
    }
}

/// Who calls, and what for.
///
/// # Errors
/// When the key is not let in, or the body cannot be read.
pub async fn read(app: &App, asked: Asked, request: Request<Body>) -> Result<(Admitted, Call), ApiError> {
    let id = request.extensions().get().copied().unwrap_or_else(|| RequestId::generate(app.clock.now()));
    let (caller, key) = app.callers.caller(request.headers(), serve::address(request.extensions())).await?;
    let admitted = Admitted { caller, secret_ends: key.and_then(|key| key.superseded_until()) };
    let (headers, body, files) = parts(app, asked.operation(), request).await?;
    let body = asked.request(body);
    let envelope = asked.envelope(&body, &files).map_err(|error| api_error(error.into(), &app.settings))?;
    let tags = Tags { request_id: own_request_id(&headers), ..Tags::of(&envelope) };
    let (cache, drop_params) = (cache_use(&headers), may_drop(&headers));
    let (betas, dialect_version) = (betas(&headers), dialect_version(&headers));
    let operation = asked.operation();
    Ok((admitted, Call { id, operation, envelope, body, files, tags, cache, drop_params, betas, dialect_version }))
}

/// The body, with the files that came with it where it is a form.
async fn parts(
    app: &App,
    operation: Operation,
    request: Request<Body>,
) -> Result<(HeaderMap, Bytes, Vec<FormFile>), ApiError> {
    if !operation.has_form() || !form::is_form(request.headers()) {
        let (headers, body) = body::read(request, app.settings.body_bytes_max).await?;
        return Ok((headers, body, Vec::new()));
    }
    let (headers, body) = body::read(request, app.settings.form_bytes_max).await?;
    let Form { body, files } = form::read(&headers, body).await?;
    Ok((headers, body, files))
}

/// Whether the caller would rather lose what a provider has no words for than be refused.
fn may_drop(headers: &HeaderMap) -> bool {
    headers.get(X_CFR_DROP_PARAMS).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Anthropic's features in trial that the caller asks for; they may stand in several headers.
fn betas(headers: &HeaderMap) -> Option<Box<str>> {
    let values: Vec<&str> = headers.get_all(ANTHROPIC_BETA).iter().filter_map(|value| value.to_str().ok()).collect();
    let betas = values.join(",");
    (!betas.is_empty() && betas.len() <= BETAS_BYTES_MAX).then(|| betas.into())
}

/// The version of Anthropic's dialect that the caller speaks.
fn dialect_version(headers: &HeaderMap) -> Option<Box<str>> {
    let version = headers.get(ANTHROPIC_VERSION)?.to_str().ok()?.trim();
    (!version.is_empty() && version.len() <= VERSION_BYTES_MAX).then(|| version.into())
}

/// What `cache-control` says: `no-store` beats `no-cache`, other words are about caches elsewhere.
fn cache_use(headers: &HeaderMap) -> CacheUse {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut wish = CacheUse::Allowed;
    for word in values.flat_map(|value| value.split(',')).map(str::trim) {
        if word.eq_ignore_ascii_case("no-store") {
            return CacheUse::Off;
        }
        if word.eq_ignore_ascii_case("no-cache") {
            wish = CacheUse::Refresh;
        }
    }
    wish
}

/// The caller's own id of the request. We answer with ours, and keep theirs on the record.
fn own_request_id(headers: &HeaderMap) -> Option<Box<str>> {
    let header = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    header.filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX).map(Box::from)
}

fn respond(app: &App, (id, operation): (RequestId, Operation), answer: Answer) -> Response {
    match answer {
        Answer::Whole { head, content_type, body } => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            describe(app, &head, response.headers_mut());
            response
        }
        Answer::Stream { head, body } => {
            let mut response = Response::new(Body::new(StreamBody::new(body, (id, operation.dialect()), app.settings)));
            response.headers_mut().insert(CONTENT_TYPE, EVENT_STREAM);
            response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
            describe(app, &head, response.headers_mut());
            response
        }
        _ => ApiError::internal("an answer of unknown shape").into_response(),
    }
}

/// Headers about limits, the response cache and what was left out, always; about money, when the operator wants them.
fn describe(app: &App, head: &AnswerHead, headers: &mut HeaderMap) {
    if let Some(rate) = head.rate {
        describe_rate(rate, headers);
    }
    if let Some(outcome) = head.cache {
        app.metrics.looked_up(outcome);
        headers.insert(HeaderName::from_static("x-cfr-cache"), HeaderValue::from_static(cache_word(outcome)));
    }
    if let Some(tokens) = head.output_tokens_max_applied {
        headers.insert(HeaderName::from_static("x-cfr-max-tokens-applied"), tokens.into());
    }
    if !head.dropped.is_empty()
        && let Ok(names) = HeaderValue::try_from(head.dropped.join(","))
    {
        headers.insert(HeaderName::from_static("x-cfr-dropped-params"), names);
    }
    if !app.settings.cost_headers {
        return;
    }
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(charged) = head.charged {
        set("x-cfr-cost", charged.to_string());
    }
    set("x-cfr-budget-remaining", head.available.to_string());
    set("x-cfr-model", format!("{}/{}", head.provider, head.model));
}

pub(crate) fn describe_rate(rate: RateState, headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("x-ratelimit-limit-requests"), rate.limit.into());
    headers.insert(HeaderName::from_static("x-ratelimit-remaining-requests"), rate.remaining.into());
    if let Ok(reset) = HeaderValue::try_from(format!("{}ms", rate.reset.as_millis())) {
        headers.insert(HeaderName::from_static("x-ratelimit-reset-requests"), reset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], expected: CacheUse) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(value).expect("a value"));
        }
        assert_eq!(cache_use(&headers), expected, "{values:?}");
    }

    #[test]
    fn cache_control_says_what_a_caller_wants_of_the_cache() {
        check(&[], CacheUse::Allowed);
        check(&["max-age=0"], CacheUse::Allowed);
        check(&["No-Cache"], CacheUse::Refresh);
        check(&["no-cache, no-store"], CacheUse::Off);
        check(&["no-cache", "max-age=0,no-store"], CacheUse::Off);
    }

    #[test]
    fn a_request_to_count_may_stand_in_a_member_of_its_own() {
        let asked = Asked::Counted { model: "m".into() };
        let request = |body: &'static str| asked.request(Bytes::from_static(body.as_bytes()));
        let inner = r#"{"contents":[{"parts":[{"text":"Hi"}]}]}"#;
        assert_eq!(request(r#"{"generateContentRequest":{"contents":[{"parts":[{"text":"Hi"}]}]}}"#), inner);
        assert_eq!(request(r#"{"contents":[{"parts":[{"text":"Hi"}]}]}"#), inner);
        assert_eq!(asked.envelope(&inner.into(), &[]).expect("a request").model.as_ref(), "m");
        assert!(asked.envelope(&request(r#"{"generateContentRequest":7}"#), &[]).is_err());
    }

    #[test]
    fn features_in_trial_are_handed_on_together_or_not_at_all() {
        let asked = |values: &[&str]| {
            let value = |value: &&str| {
                (HeaderName::from_static(ANTHROPIC_BETA), HeaderValue::from_str(value).expect("a value"))
            };
            betas(&values.iter().map(value).collect())
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["a,b", "c"]).as_deref(), Some("a,b,c"));
        assert_eq!(asked(&["a", &"x".repeat(BETAS_BYTES_MAX)]), None);
    }
}
