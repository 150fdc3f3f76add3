//! Versions as `etag` and `if-match`: nobody overwrites a change that they have not seen.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::Problem;

/// The version that a change was made for; none when the caller does not care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IfMatch(Option<i64>);

impl IfMatch {
    /// Passes when the resource still has the version that the caller saw.
    ///
    /// # Errors
    /// 412 when it was changed meanwhile.
    pub(crate) fn check(self, version: i64) -> Result<(), Problem> {
        match self.0 {
            Some(seen) if seen != version => Err(Problem::stale()),
            _ => Ok(()),
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        if text.trim() == "*" {
            return Ok(Self(None));
        }
        let digits = text.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let version = digits.and_then(|digits| digits.parse().ok());
        version.map(|version| Self(Some(version))).ok_or_else(|| Problem::bad_request("if-match: send back one `etag`"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().map_err(|_| Problem::bad_request("if-match: send back one `etag`"))?;
        Self::parse(text)
    }
}

/// A resource with its version as `etag`.
#[derive(Debug)]
pub(crate) struct Versioned<T> {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// Counts its changes.
    pub(crate) version: i64,
    /// The resource.
    pub(crate) body: T,
}

impl<T> Versioned<T> {
    /// 200 with the resource.
    pub(crate) const fn ok(version: i64, body: T) -> Self {
        Self { status: StatusCode::OK, version, body }
    }

    /// 201 with the new resource.
    pub(crate) const fn created(version: i64, body: T) -> Self {
        Self { status: StatusCode::CREATED, version, body }
    }
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", self.version)) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_matches_its_own_version_only() {
        let seen = IfMatch::parse("\"7\"").expect("an etag");
        assert_eq!(seen.check(7), Ok(()));
        assert_eq!(seen.check(8), Err(Problem::stale()));
        assert_eq!(IfMatch::parse("*").expect("any").check(8), Ok(()));
        assert!(IfMatch::parse("7").is_err() && IfMatch::parse("W/\"7\"").is_err());
    }
}
