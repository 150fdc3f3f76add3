//! Who stands in front of the door, before anybody knows their name.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use cfr_billing::audit_log::{AGENT_BYTES_MAX, Act, Actor, ActorKind};
use cfr_core::id::{RequestId, UserId};
use cfr_core::time::Timestamp;

use crate::serve::Peer;

/// What is known of who sends a request: where from, and what their browser calls itself.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// The client's address, behind proxies that are trusted.
    pub address: Option<IpAddr>,
    /// What the browser calls itself, cut to [`AGENT_BYTES_MAX`].
    pub agent: Option<Arc<str>>,
    /// The request.
    pub request: Option<RequestId>,
    /// What it sent.
    pub headers: HeaderMap,
}

impl Visitor {
    /// Something that they do now; as `user` once it is known that they are that user.
    #[must_use]
    pub fn act(&self, user: Option<UserId>, at: Timestamp) -> Act {
        let actor = Actor {
            id: user.map(|user| user.to_string().into()),
            address: self.address,
            agent: self.agent.clone(),
            request: self.request,
            ..Actor::of_kind(ActorKind::User)
        };
        Act { by: Arc::new(actor), at }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let agent = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self {
            address: parts.extensions.get::<Peer>().map(|peer| peer.0),
            agent: agent.map(|agent| agent.get(..AGENT_BYTES_MAX).unwrap_or(agent).into()),
            request: parts.extensions.get().copied(),
            headers: parts.headers.clone(),
        })
    }
}
