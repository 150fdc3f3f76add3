//! Ollama by its own dialect (providers.md §9.1). By OpenAI's it is a row of [`crate::openai::quirks`]; its own tells
//! more: how much to think, every option of sampling, and time in place of tokens.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};

use crate::adapter::{Adapter, Framing};
use crate::dialog::{Answer, Dialog, Drops, Manners, StreamReader, Wire};
use crate::embeddings::Embeddings;
use crate::media::MediaKind;
use crate::transport::{BadAddress, Endpoint, WireRequest, json_headers};

mod answer;
mod embed;
mod error;
mod request;
mod stream;

#[cfg(test)]
mod tests;

use embed::Embed;

/// The provider's name, for logs and metrics: by its own dialect rather than by OpenAI's.
const NAME: &str = "ollama_native";
/// Where Ollama listens on one's own machine.
pub const BASE_URL: &str = "http://127.0.0.1:11434";

/// Everything but legacy completions. Thoughts are shown.
pub(crate) const CAPABILITIES: Capabilities = {
    let mut capabilities = Capabilities::TEXT;
    capabilities.completions = false;
    capabilities
};

/// Turns as they come, but for results of tools: they follow their calls in order.
const MANNERS: Manners = Manners { merges_turns: true, answers_every_call: true, ..Manners::NONE };

/// An Ollama server.
#[derive(Debug, Clone)]
pub struct Ollama {
    chat: Arc<Endpoint>,
    headers: HeaderMap,
    embeddings: Embeddings<Embed>,
}

impl Ollama {
    /// The server at `base_url`, or the one on this machine.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(base_url: Option<&str>) -> Result<Self, BadAddress> {
        let base = base_url.unwrap_or(BASE_URL);
        let headers = json_headers();
        let embed = Embed::new(Arc::new(Endpoint::below(base, "/api/embed")?), headers.clone());
        Ok(Self { chat: Arc::new(Endpoint::below(base, "/api/chat")?), headers, embeddings: Embeddings(embed) })
    }
}

impl Wire for Ollama {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn framing(&self) -> Framing {
        Framing::JsonLines
    }

    fn fetches(&self, _: MediaKind, _: &str) -> bool {
        false
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
        Box::new(stream::LineReader::default())
    }

    fn own(&self, call: &Call) -> Option<&dyn Adapter> {
        (call.operation == Operation::Embeddings).then_some(&self.embeddings)
    }
}
