//! OpenAI's wire format, and that of every server that speaks it: a compatible server is a row in [`quirks`].
//!
//! A caller who speaks the dialect too finds bytes that stay bytes: a request is changed only where the server needs it,
//! an answer is handed on as it came, and what we want to know is read from the side. For every other caller, and for
//! calls that a model answers in the other of OpenAI's two dialects only (providers.md §13.6), the server is a target of
//! translation.

use bytes::Bytes;
use cfr_core::chat::{Call, Dialect, Operation};
use cfr_core::upstream::{Capabilities, Order, TokenCount, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::adapter::{Adapter, KeepsResponses, StreamDecoder};
use crate::dialog::Translated;
use crate::media::{Fetched, Wanted};
use crate::responses;
use crate::transport::{BadAddress, WireRequest};

mod azure;
pub mod batches;
mod bridge;
mod count;
pub(crate) mod decode;
mod encode;
pub(crate) mod error;
mod fields;
mod host;
mod media;
pub(crate) mod models;
pub mod quirks;
mod results;
mod stored;
mod stream;
mod surface;
mod synthesis;
mod target;
pub(crate) mod usage;
pub(crate) mod visible;
pub(crate) mod wire;
pub mod words;

use bridge::EitherDecoder;
use host::{Host, Path};
use target::Target;

pub use azure::{API_VERSION as AZURE_API_VERSION, AzureAddressError};
pub use batches::OpenAiBatches;
pub use quirks::{CapField, Quirks, SpeechWords, UsageRule};
pub use surface::{CHAT_SURFACE, ChatSurface};
pub use words::{EffortRule, Words};

pub(crate) use media::is_media;
pub(crate) use surface::created_at;
pub(crate) use target::{FAILED, end_user, without_body};

/// OpenAI's wire format for one server.
#[derive(Debug, Clone)]
pub struct OpenAi {
    host: Host,
    /// The same server for callers of other dialects.
    target: Translated<Target>,
}

impl OpenAi {
    /// The format of the server `quirks` at `base_url`, or at its usual address.
    ///
    /// # Errors
    /// When the address is not one, or is missing where there is no usual one.
    pub fn new(quirks: &'static Quirks, base_url: Option<&str>) -> Result<Self, BadAddress> {
        Ok(Self::at(Host::new(quirks, base_url)?))
    }

    fn at(host: Host) -> Self {
        Self { target: Translated(Target(host.clone())), host }
    }

    /// Where a call is answered in the caller's own dialect; none when that is not to be had.
    fn own_path(&self, operation: Operation) -> Option<Path> {
        let can = self.host.quirks.capabilities;
        match operation {
            Operation::ChatCompletions if can.chat => Some(Path::Chat),
            Operation::Completions if can.completions => Some(Path::Completions),
            Operation::Embeddings if can.embeddings => Some(Path::Embeddings),
            Operation::Responses if can.chat && self.host.quirks.responses => Some(Path::Responses),
            Operation::Moderations if can.moderations => Some(Path::Moderations),
            Operation::Rerank if can.rerank => Some(Path::Rerank),
            Operation::ImageGenerations if can.images => Some(Path::ImageGenerations),
            Operation::ImageEdits if can.images => Some(Path::ImageEdits),
            Operation::Speech if can.speech => Some(Path::Speech),
            Operation::Transcriptions if can.transcriptions => Some(Path::Transcriptions),
            Operation::Translations if can.transcriptions => Some(Path::Translations),
            _ => None,
        }
    }
}

/// The dialect of an answer, as its caller sees it.
enum Spoken {
    /// The caller's own: chat completions and their siblings.
    Completion,
    /// The caller's own: Responses.
    Response,
    /// The caller's own: a list of results.
    Results,
    /// The caller's own: images, sound, a transcript.
    Media,
    /// Not the caller's.
    Foreign,
}

impl OpenAi {
    /// In which dialect a complete answer is. It says so by itself, so that nothing about a call needs to be remembered.
    fn spoken(&self, call: &Call, body: &Bytes) -> Spoken {
        let is_response = || self.host.quirks.responses && bridge::is_response(body);
        match call.operation {
            operation if self.own_path(operation).is_none() => Spoken::Foreign,
            Operation::ChatCompletions if is_response() => Spoken::Foreign,
            Operation::Responses if !is_response() => Spoken::Foreign,
            Operation::Responses => Spoken::Response,
            Operation::Moderations | Operation::Rerank => Spoken::Results,
            operation if is_media(operation) => Spoken::Media,
            _ => Spoken::Completion,
        }
    }
}

impl OpenAi {
    /// Where a call is answered in the caller's own dialect, unless the model answers it in the other one only.
    fn path_of(&self, order: &Order<'_>) -> Option<Path> {
        let operation = order.call.operation;
        let bridged = || operation == Operation::ChatCompletions && bridge::is_needed(&self.host, order);
        self.own_path(operation).filter(|_| !bridged())
    }
}

impl Adapter for OpenAi {
    fn name(&self) -> &'static str {
        self.host.quirks.name
    }

    fn capabilities(&self) -> Capabilities {
        self.host.quirks.capabilities
    }

    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        self.encode_with(order, &Fetched::default())
    }

    fn wanted(&self, order: &Order<'_>) -> Result<Vec<Wanted>, UpstreamError> {
        match self.path_of(order) {
            Some(_) => Ok(Vec::new()), // the caller knows what the server takes
            None => self.target.wanted(order),
        }
    }

    fn encode_with(&self, order: &Order<'_>, fetched: &Fetched) -> Result<WireRequest, UpstreamError> {
        let operation = order.call.operation;
        if !self.capabilities().serves(operation) {
            return Err(UpstreamError::Unsupported { message: operation.name().into() });
        }
        match self.path_of(order) {
            Some(path) if is_media(operation) => {
                let (body, content_type) = media::body(self.host.quirks, order)?;
                let mut request = self.host.request(path, order.model, body)?;
                request.headers.insert(header::CONTENT_TYPE, content_type);
                Ok(request)
            }
            Some(path) => self.host.request(path, order.model, encode::body(self.host.quirks, order)?),
            None => self.target.encode_with(order, fetched),
        }
    }

    fn decode(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let quirks = self.host.quirks;
        match self.spoken(call, &body) {
            Spoken::Completion => decode::whole(quirks, call, headers, body),
            Spoken::Response => responses::own::whole(quirks, headers, body),
            Spoken::Results => results::whole(headers, body),
            Spoken::Media => media::whole(quirks, call, headers, body),
            Spoken::Foreign => self.target.decode(call, headers, body),
        }
    }

    /// Both of OpenAI's dialects have errors of one shape.
    fn decode_error(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        match call.operation.dialect() {
            Dialect::OpenAi | Dialect::Responses => error::read(status, headers, body),
            _ => self.target.decode_error(call, status, headers, body),
        }
    }

    fn stream_decoder(&self, call: &Call) -> Box<dyn StreamDecoder> {
        let quirks = self.host.quirks;
        let own: Box<dyn StreamDecoder> = match call.operation {
            operation if self.own_path(operation).is_none() => return self.target.stream_decoder(call),
            Operation::Responses => Box::new(responses::own::EventDecoder::new(quirks)),
            operation if is_media(operation) => Box::new(media::MediaDecoder::new(quirks, call)),
            _ => Box::new(stream::ChunkDecoder::new(quirks, call)),
        };
        if call.operation.is_chat() && quirks.responses {
            return Box::new(EitherDecoder::new(call.operation, own, self.target.stream_decoder(call)));
        }
        own
    }

    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let quirks = self.host.quirks;
        match self.spoken(call, &body) {
            Spoken::Completion => {
                let reply = decode::whole(quirks, call, headers, body)?;
                let body = synthesis::stream_of(call, &reply.body)?;
                Ok(WholeReply { content_type: HeaderValue::from_static("text/event-stream"), body, ..reply })
            }
            Spoken::Response => responses::own::stream_of_whole(quirks, call, headers, body),
            Spoken::Results => results::whole(headers, body),
            Spoken::Media => media::stream_of_whole(quirks, call, headers, body),
            Spoken::Foreign => self.target.stream_of_whole(call, headers, body),
        }
    }

    fn encode_realtime(&self, model: &str) -> Result<WireRequest, UpstreamError> {
        self.host.realtime(model)
    }

    fn keeper(&self) -> Option<&dyn KeepsResponses> {
        self.host.quirks.responses.then_some(&self.host)
    }

    fn encode_count(&self, order: &Order<'_>) -> Result<Option<WireRequest>, UpstreamError> {
        match order.call.operation {
            _ if !self.host.quirks.counts_tokens => Ok(None),
            Operation::Responses => count::of_body(&self.host, order).map(Some),
            _ => self.target.encode_count(order),
        }
    }

    fn decode_count(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<TokenCount, UpstreamError> {
        match call.operation {
            Operation::Responses => Ok(TokenCount { tokens: count::counted(&body)?, body: Some(body) }),
            _ => self.target.decode_count(call, headers, body),
        }
    }
}
