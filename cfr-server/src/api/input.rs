//! What comes in: strict JSON bodies, strict queries, and checks that name the field.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::problem::{FieldError, Problem};

/// Characters of a name for people.
pub(crate) const NAME_CHARS_MAX: usize = 200;
/// Characters of a slug, a product's code or an idempotency key.
pub(crate) const WORD_CHARS_MAX: usize = 64;
/// Characters of a description or a reason.
pub(crate) const TEXT_CHARS_MAX: usize = 2_000;
/// Characters of an e-mail address (RFC 5321).
pub(crate) const EMAIL_CHARS_MAX: usize = 254;
/// Entries of a list of models or features.
pub(crate) const LIST_ENTRIES_MAX: usize = 500;

/// A JSON body. Unknown fields, missing fields and wrong types are refused with the field's name.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = json_bytes(request, state).await?;
        parse(&body).map(Self)
    }
}

/// The bytes of a body that is declared as JSON, within the route's limit.
///
/// # Errors
/// 413 when it is longer, 415 when it is declared otherwise.
pub(crate) async fn json_bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    if !is_json(&request) {
        return Err(Problem::not_json());
    }
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => Problem::too_large(),
        other => Problem::bad_request(other.body_text()),
    })
}

fn is_json(request: &Request) -> bool {
    let declared =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = declared.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        refuse(&path, error.into_inner())
    })?;
    json.end().map_err(|error| Problem::bad_request(format_args!("not JSON: {error}")))?;
    Ok(value)
}

fn refuse(path: &str, error: serde_json::Error) -> Problem {
    if !error.is_data() {
        return Problem::bad_request(format_args!("not JSON: {error}"));
    }
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    Problem::invalid(vec![FieldError::new(field_of(path, message), message)])
}

/// The parser's path ends at the object when a field is missing in it; then the message names the field.
fn field_of(path: &str, message: &str) -> String {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match (path, missing) {
        (".", Some(field)) => field.to_owned(),
        (path, Some(field)) => format!("{path}.{field}"),
        (path, None) => path.to_owned(),
    }
}

/// The query of a list. Unknown parameters are refused with their name.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        query.map(|query| Self(query.0)).map_err(|rejection| {
            let text = rejection.body_text();
            let reason = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason);
            Problem::bad_request(format_args!("query: {reason}"))
        })
    }
}

/// Collects what is wrong with a request, so that a caller learns everything at once.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes `message` about `field` unless `good`.
    pub(crate) fn require(&mut self, good: bool, field: &str, message: &str) {
        if !good {
            self.0.push(FieldError::new(field, message));
        }
    }

    /// The value, or what is wrong with it.
    pub(crate) fn take<T, E: ToString>(&mut self, field: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.0.push(FieldError::new(field, error))).ok()
    }

    /// A slug, or a product's code: lower case letters, digits, `-`, and not the shape of an id.
    pub(crate) fn word(&mut self, field: &str, text: &str) {
        let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let edges = !text.starts_with('-') && !text.ends_with('-');
        let good = letters && edges && (1..=WORD_CHARS_MAX).contains(&text.len()) && !looks_like_an_id(text);
        self.require(good, field, "1 to 64 lower case letters, digits and `-`, with a letter or digit at both ends");
    }

    /// A name for people: something readable on one line.
    pub(crate) fn name(&mut self, field: &str, text: &str) {
        let good =
            !text.trim().is_empty() && text.chars().count() <= NAME_CHARS_MAX && !text.chars().any(char::is_control);
        self.require(good, field, "1 to 200 characters on one line");
    }

    /// A reason or description that must say something.
    pub(crate) fn text(&mut self, field: &str, text: &str) {
        let good = !text.trim().is_empty() && text.chars().count() <= TEXT_CHARS_MAX;
        self.require(good, field, "1 to 2000 characters");
    }

    /// An e-mail address: one `@` with something before it and a domain after it.
    pub(crate) fn email(&mut self, field: &str, text: &str) {
        let parts = text.split_once('@');
        let shape =
            parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
        let letters = !text.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '/');
        self.require(
            shape && letters && text.len() <= EMAIL_CHARS_MAX,
            field,
            "an e-mail address, as in anna@example.com",
        );
    }

    /// Names of models or features.
    pub(crate) fn names(&mut self, field: &str, names: &[impl AsRef<str>]) {
        self.require(names.len() <= LIST_ENTRIES_MAX, field, "at most 500 entries");
        for (index, name) in names.iter().enumerate() {
            self.name(&format!("{field}[{index}]"), name.as_ref());
        }
    }

    /// Nothing wrong was found.
    ///
    /// # Errors
    /// 422 with everything that was.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::invalid(self.0)) }
    }
}

/// The plain form of a UUID is taken as an id everywhere, so it cannot be a name.
fn looks_like_an_id(text: &str) -> bool {
    text.parse::<cfr_core::id::TenantId>().is_ok()
}

/// Tells a field that is `null` from one that is absent: absent is `None`, `null` is `Some(None)`.
///
/// # Errors
/// When the value is neither `null` nor a `T`.
pub(crate) fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}
