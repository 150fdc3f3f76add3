//! OpenAI's wire format, and that of every server that speaks it: a compatible server is a row in [`quirks`].
//!
//! The caller speaks this dialect too, so bytes stay bytes: a request is changed only where the server needs it, an
//! answer is handed on as it came, and what we want to know is read from the side.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Capabilities, Order, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::adapter::{Adapter, StreamDecoder};
use crate::transport::{BadAddress, Endpoint, WireRequest};

mod decode;
mod encode;
pub(crate) mod error;
mod fields;
pub mod quirks;
mod stream;
mod surface;
mod synthesis;
mod usage;
mod visible;
mod wire;

pub use quirks::{CapField, Quirks, UsageRule};
pub use surface::{CHAT_SURFACE, ChatSurface};

/// OpenAI's wire format for one server.
#[derive(Debug, Clone)]
pub struct OpenAi {
    quirks: &'static Quirks,
    headers: HeaderMap,
    chat: Arc<Endpoint>,
    completions: Arc<Endpoint>,
    embeddings: Arc<Endpoint>,
}

impl OpenAi {
    /// The format of the server `quirks` at `base_url`, or at its usual address.
    ///
    /// # Errors
    /// When the address is not one, or is missing where there is no usual one.
    pub fn new(quirks: &'static Quirks, base_url: Option<&str>) -> Result<Self, BadAddress> {
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
        })
    }

    fn endpoint(&self, operation: Operation) -> Result<&Arc<Endpoint>, UpstreamError> {
        let can = self.quirks.capabilities;
        match operation {
            Operation::ChatCompletions if can.chat => Ok(&self.chat),
            Operation::Completions if can.completions => Ok(&self.completions),
            Operation::Embeddings if can.embeddings => Ok(&self.embeddings),
            other => Err(UpstreamError::Unsupported { message: other.name().into() }),
        }
    }
}

impl Adapter for OpenAi {
    fn name(&self) -> &'static str {
        self.quirks.name
    }

    fn capabilities(&self) -> Capabilities {
        self.quirks.capabilities
    }

    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        let endpoint = Arc::clone(self.endpoint(order.call.operation)?);
        let body = encode::body(self.quirks, order)?;
        Ok(WireRequest { endpoint, headers: self.headers.clone(), body, dropped: Vec::new() })
    }

    fn decode(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        decode::whole(self.quirks, call, headers, body)
    }

    fn decode_error(&self, _call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }

    fn stream_decoder(&self, call: &Call) -> Box<dyn StreamDecoder> {
        Box::new(stream::ChunkDecoder::new(self.quirks, call))
    }

    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let reply = decode::whole(self.quirks, call, headers, body)?;
        let body = synthesis::stream_of(call, &reply.body)?;
        Ok(WholeReply { content_type: HeaderValue::from_static("text/event-stream"), body, ..reply })
    }
}
