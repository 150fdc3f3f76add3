//! What a request presents before anybody reads its body.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::serve;

/// What a request presents before anybody reads its body, and where it comes from.
#[derive(Debug)]
pub struct Asker {
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it comes from; none where it came over no connection.
    pub address: Option<IpAddr>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { headers: parts.headers.clone(), address: serve::address(&parts.extensions) })
    }
}
