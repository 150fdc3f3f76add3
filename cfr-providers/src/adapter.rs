//! What a wire format is: bytes in, meaning out. No socket, no clock, no retry, no price.

use std::borrow::Cow;
use std::fmt::Debug;

use bytes::Bytes;
use cfr_core::chat::Call;
use cfr_core::upstream::{
    Capabilities, Order, Report, StoredOrder, StoredReply, TokenCount, UpstreamError, WholeReply,
};
use http::{HeaderMap, StatusCode};

use crate::media::{Fetched, Wanted};
use crate::transport::WireRequest;

/// A provider's wire format. It holds addresses and names, and nothing that changes.
pub trait Adapter: Debug + Send + Sync + 'static {
    /// The provider's name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// What the provider can do.
    fn capabilities(&self) -> Capabilities;

    /// How its streams are cut into events.
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// The request to send, complete but for the signature.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] when the provider has no words for the call.
    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError>;

    /// Pictures and documents of a call that the caller gives by their addresses and the provider wants as bytes.
    ///
    /// # Errors
    /// As [`Adapter::encode`].
    fn wanted(&self, order: &Order<'_>) -> Result<Vec<Wanted>, UpstreamError> {
        let _ = order;
        Ok(Vec::new())
    }

    /// As [`Adapter::encode`], with what was fetched of [`Adapter::wanted`].
    ///
    /// # Errors
    /// As [`Adapter::encode`].
    fn encode_with(&self, order: &Order<'_>, fetched: &Fetched) -> Result<WireRequest, UpstreamError> {
        let _ = fetched;
        self.encode(order)
    }

    /// The meaning of a complete answer with a success status.
    ///
    /// # Errors
    /// [`UpstreamError::Malformed`] when it is not an answer; any other error that it carries under a success status.
    fn decode(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError>;

    /// The meaning of an answer to `call` with an error status.
    fn decode_error(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError;

    /// A decoder for one streamed answer to `call`.
    fn stream_decoder(&self, call: &Call) -> Box<dyn StreamDecoder>;

    /// The frames of a stream that says what a complete answer says, for providers that ignore the wish for a stream.
    ///
    /// # Errors
    /// As [`Adapter::decode`].
    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError>;

    /// The request that has the prompt of a call counted for nothing, complete but for the signature; none where the
    /// provider has no counter for the model. What it has no words for is not counted.
    ///
    /// # Errors
    /// As [`Adapter::encode`].
    fn encode_count(&self, order: &Order<'_>) -> Result<Option<WireRequest>, UpstreamError> {
        let _ = order;
        Ok(None)
    }

    /// What the answer to that request says. Who has no counter is never asked.
    ///
    /// # Errors
    /// As [`Adapter::decode`].
    fn decode_count(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<TokenCount, UpstreamError> {
        let _ = (call, headers, body);
        Err(UpstreamError::Unsupported { message: "counting tokens".into() })
    }

    /// The request that opens a conversation with a model over a WebSocket, complete but for the signature and the handshake.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] where there is nothing of the kind.
    fn encode_realtime(&self, model: &str) -> Result<WireRequest, UpstreamError> {
        let _ = model;
        Err(UpstreamError::Unsupported { message: "the realtime API".into() })
    }

    /// How to ask for responses that the provider keeps; none where it keeps none.
    fn keeper(&self) -> Option<&dyn KeepsResponses> {
        None
    }
}

const _: fn(&dyn Adapter) = |_| {};

/// A wire format in which a provider is asked for what it keeps.
pub trait KeepsResponses: Debug + Send + Sync {
    /// The request, complete but for the signature.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] when there is no such request.
    fn request(&self, order: &StoredOrder<'_>) -> Result<WireRequest, UpstreamError>;

    /// An answer with a success status, and the provider's own ids of responses in it.
    fn reply(&self, headers: &HeaderMap, body: Bytes) -> StoredReply;

    /// The meaning of an answer with an error status.
    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError;
}

/// How a provider cuts its streams into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON value per line.
    JsonLines,
    /// Amazon's binary event stream.
    AwsEventStream,
}

/// One event of a stream, whatever its framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireEvent<'a> {
    /// Its name; empty when the framing gives none.
    pub name: Cow<'a, [u8]>,
    /// Its payload.
    pub data: Cow<'a, [u8]>,
}

/// What becomes of the bytes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// They are handed on as they came.
    AsIs,
    /// They were for us alone.
    Nothing,
    /// Other bytes are handed on in their place.
    Instead(Bytes),
}

/// The state of one streamed answer. It is fed; it never polls.
pub trait StreamDecoder: Send {
    /// Takes the next event and adds what it says to `report`.
    ///
    /// # Errors
    /// When the event ends the answer badly. The event's own bytes are then not handed on.
    fn feed(&mut self, event: &WireEvent<'_>, report: &mut Report) -> Result<Forward, UpstreamError>;

    /// Whether the answer has come to its end, so that nothing more is expected from the wire.
    fn is_done(&self) -> bool;

    /// Takes notice that the wire ended; returns the bytes that complete the answer for the caller, often none, and adds
    /// what they say to `report`.
    ///
    /// # Errors
    /// [`UpstreamError::Truncated`] when the answer had not come to its end.
    fn finish(&mut self, report: &mut Report) -> Result<Bytes, UpstreamError>;
}
