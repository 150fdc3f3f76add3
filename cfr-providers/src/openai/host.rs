//! One server's addresses and headers.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::models;
use super::quirks::Quirks;
use crate::transport::{BadAddress, Endpoint, WireRequest};

/// Where a server's operations are, and what every request to it carries.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) quirks: &'static Quirks,
    headers: HeaderMap,
    pub(super) chat: Arc<Endpoint>,
    pub(super) completions: Arc<Endpoint>,
    pub(super) embeddings: Arc<Endpoint>,
    pub(super) responses: Arc<Endpoint>,
}

impl Host {
    /// The server `quirks` at `base_url`, or at its usual address.
    ///
    /// # Errors
    /// When the address is not one, or is missing where there is no usual one.
    pub(super) fn new(quirks: &'static Quirks, base_url: Option<&str>) -> Result<Self, BadAddress> {
        let base = base_url.unwrap_or(quirks.base_url);
        let below = |path| Endpoint::below(base, path).map(Arc::new);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("cfr/", env!("CARGO_PKG_VERSION"))));
        Ok(Self {
            quirks,
            headers,
            chat: below("/chat/completions")?,
            completions: below("/completions")?,
            embeddings: below("/embeddings")?,
            responses: below("/responses")?,
        })
    }

    /// A request to one of the addresses.
    pub(super) fn request(&self, endpoint: &Arc<Endpoint>, body: Bytes) -> WireRequest {
        WireRequest { endpoint: Arc::clone(endpoint), headers: self.headers.clone(), body, dropped: Vec::new() }
    }

    /// Whether a model answers on `/responses` only.
    pub(super) fn is_responses_only(&self, model: &str) -> bool {
        let words = &self.quirks.words;
        let by_rule = words.openai_models && models::is_responses_only(model);
        self.quirks.responses && (by_rule || words.responses_only.iter().any(|part| model.contains(part)))
    }

    /// Whether its models may refuse on chat completions what they do on `/responses`.
    pub(super) const fn bridges(&self) -> bool {
        self.quirks.responses && self.quirks.words.openai_models
    }
}
