//! Cohere (providers.md §11): chat, embeddings and reranks by the second version of its own dialect.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};

use crate::adapter::Adapter;
use crate::dialog::{Answer, Dialog, Drops, Manners, StreamReader, Wire};
use crate::embeddings::Embeddings;
use crate::rerank::Reranking;
use crate::transport::{BadAddress, Endpoint, WireRequest, json_headers};

mod answer;
mod citation;
mod embed;
mod error;
mod request;
mod rerank;
mod stream;
mod usage;

#[cfg(test)]
mod tests;

use embed::Embed;
use rerank::Rerank;

/// The provider's name, for logs and metrics.
const NAME: &str = "cohere";
/// Where Cohere is.
pub const BASE_URL: &str = "https://api.cohere.com";

/// Everything but legacy completions. Thoughts are shown, and what Cohere puts around a prompt itself is free.
pub(crate) const CAPABILITIES: Capabilities = {
    let mut capabilities = Capabilities::TEXT;
    capabilities.completions = false;
    capabilities.rerank = true;
    capabilities
};

/// Turns as they come, but for results of tools: they follow their calls in order. An answer cannot be begun for the
/// model.
const MANNERS: Manners = Manners { merges_turns: true, answers_every_call: true, prefill: false, ..Manners::NONE };

/// Cohere, or a server that speaks its dialect.
#[derive(Debug, Clone)]
pub struct Cohere {
    chat: Arc<Endpoint>,
    headers: HeaderMap,
    embeddings: Embeddings<Embed>,
    reranking: Reranking<Rerank>,
}

impl Cohere {
    /// Cohere at `base_url`, or where it usually is.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(base_url: Option<&str>) -> Result<Self, BadAddress> {
        let base = base_url.unwrap_or(BASE_URL);
        let headers = json_headers();
        let embed = Embed::new(Arc::new(Endpoint::below(base, "/v2/embed")?), headers.clone());
        let rerank = Rerank::new(Arc::new(Endpoint::below(base, "/v2/rerank")?), headers.clone());
        let chat = Arc::new(Endpoint::below(base, "/v2/chat")?);
        Ok(Self { chat, headers, embeddings: Embeddings(embed), reranking: Reranking(rerank) })
    }
}

impl Wire for Cohere {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn manners(&self, _model: &str) -> Manners {
        MANNERS
    }

    fn request(&self, dialog: &Dialog, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let body = request::body(dialog, order.model, drops)?.to_string().into();
        Ok(WireRequest { endpoint: Arc::clone(&self.chat), headers: self.headers.clone(), body, dropped: Vec::new() })
    }

    fn answer(&self, _headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
        answer::read(body)
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }

    fn stream(&self) -> Box<dyn StreamReader> {
        Box::new(stream::EventReader::default())
    }

    fn own(&self, call: &Call) -> Option<&dyn Adapter> {
        match call.operation {
            Operation::Embeddings => Some(&self.embeddings),
            Operation::Rerank => Some(&self.reranking),
            _ => None,
        }
    }
}
