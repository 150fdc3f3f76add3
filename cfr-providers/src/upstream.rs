//! An upstream over HTTP: a wire format, a signature and a transport, put together.

use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::secret::Secret;
use cfr_core::upstream::{Capabilities, Order, Reply, StreamEvent, StreamReply, Upstream, UpstreamError, WholeReply};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Response, StatusCode, header};

use crate::adapter::{Adapter, Framing};
use crate::openai::{OpenAi, Quirks};
use crate::sign::{Bearer, KeyError, Signer, Unsigned};
use crate::transport::{self, BadAddress, Body, Transport};

mod pump;

/// The largest complete answer that is taken.
pub const WHOLE_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The largest error body that is read.
pub const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Headers by which providers name a request, the most telling first.
const REQUEST_ID_HEADERS: [&str; 8] = [
    "x-request-id",
    "request-id",
    "apim-request-id",
    "x-amzn-requestid",
    "mistral-correlation-id",
    "x-ds-trace-id",
    "x-debug-trace-id",
    "cf-ray",
];

/// A provider over HTTP.
#[derive(Debug, Clone)]
pub struct HttpUpstream {
    adapter: Arc<dyn Adapter>,
    signer: Arc<dyn Signer>,
    transport: Arc<dyn Transport>,
}

/// Why an upstream cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base URL is not one.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The key is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The HTTP client cannot be made.
    #[cfg(feature = "reqwest")]
    #[error(transparent)]
    Client(#[from] transport::reqwest::ClientError),
}

impl HttpUpstream {
    /// Puts the three together.
    #[must_use]
    pub fn new(adapter: Arc<dyn Adapter>, signer: Arc<dyn Signer>, transport: Arc<dyn Transport>) -> Self {
        Self { adapter, signer, transport }
    }

    /// A server that speaks OpenAI's dialect, at its usual address or another, over a connection pool of its own.
    /// An empty key sends none.
    ///
    /// # Errors
    /// When the address or the key is not one, or TLS cannot be set up.
    #[cfg(feature = "reqwest")]
    pub fn openai_family(quirks: &'static Quirks, base_url: Option<&str>, key: &Secret) -> Result<Self, BuildError> {
        Self::openai_family_over(Arc::new(transport::ReqwestTransport::new()?), quirks, base_url, key)
    }

    /// As [`HttpUpstream::openai_family`], over a transport that may serve other upstreams too.
    ///
    /// # Errors
    /// When the address or the key is not one.
    pub fn openai_family_over(
        transport: Arc<dyn Transport>,
        quirks: &'static Quirks,
        base_url: Option<&str>,
        key: &Secret,
    ) -> Result<Self, BuildError> {
        let signer: Arc<dyn Signer> =
            if key.expose().is_empty() { Arc::new(Unsigned) } else { Arc::new(Bearer::new(key)?) };
        Ok(Self::new(Arc::new(OpenAi::new(quirks, base_url)?), signer, transport))
    }

    async fn reply(
        &self,
        order: Order<'_>,
        dropped: Vec<Box<str>>,
        response: Response<Body>,
    ) -> Result<Reply, UpstreamError> {
        let (head, mut body) = response.into_parts();
        let upstream_id = request_id(&head.headers);
        if !head.status.is_success() {
            return Err(self.refusal(&order, head.status, &head.headers, &mut body).await);
        }
        let wants_stream = order.call.envelope.stream;
        if wants_stream && is_stream(self.adapter.framing(), &head.headers) {
            let decoder = (self.adapter.framing(), self.adapter.stream_decoder(order.call));
            let events = pump::events(body, decoder, order.idle_timeout);
            return Ok(Reply::Stream(StreamReply { events, upstream_id, dropped }));
        }
        let body = transport::whole(&mut body, order.idle_timeout, WHOLE_BODY_BYTES_MAX).await?;
        if wants_stream {
            let WholeReply { body, report, .. } = self.adapter.stream_of_whole(order.call, &head.headers, body)?;
            let events = stream::iter([Ok(StreamEvent { bytes: body, report })]).boxed();
            return Ok(Reply::Stream(StreamReply { events, upstream_id, dropped }));
        }
        let reply = self.adapter.decode(order.call, &head.headers, body)?;
        Ok(Reply::Whole(WholeReply { upstream_id, dropped, ..reply }))
    }

    /// The error behind an error status. A body that cannot be read takes nothing away from the status.
    async fn refusal(
        &self,
        order: &Order<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        body: &mut Body,
    ) -> UpstreamError {
        let body = transport::whole(body, order.idle_timeout, ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
        self.adapter.decode_error(order.call, status, headers, &body)
    }
}

#[async_trait]
impl Upstream for HttpUpstream {
    fn capabilities(&self) -> Capabilities {
        self.adapter.capabilities()
    }

    async fn send(&self, order: Order<'_>) -> Result<Reply, UpstreamError> {
        let mut request = self.adapter.encode(&order)?;
        let dropped = std::mem::take(&mut request.dropped);
        self.signer.sign(&mut request).await?;
        let response = self.transport.send(request, order.timeout).await?;
        self.reply(order, dropped, response).await
    }
}

/// Whether an answer is a stream. A server that says nothing of JSON is taken by its word that it streams.
fn is_stream(framing: Framing, headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match framing {
        Framing::Sse => !content_type.contains("json") && !content_type.contains("html"),
        Framing::JsonLines => content_type.contains("ndjson"),
        Framing::AwsEventStream => content_type.contains("eventstream"),
    }
}

fn request_id(headers: &HeaderMap) -> Option<Box<str>> {
    REQUEST_ID_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok()).map(Into::into)
}
