//! An upstream over HTTP: a wire format, a signature and a transport, put together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::chat::{Call, Operation};
use cfr_core::secret::Secret;
use cfr_core::upstream::{
    Capabilities, Order, RealtimeOrder, RealtimeSocket, Reply, StoredOrder, StoredReply, StreamEvent, StreamReply,
    TokenCount, Upstream, UpstreamError, WholeReply,
};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Response, StatusCode, header};

use crate::adapter::{Adapter, Framing};
use crate::media::{FetchMedia, Fetched};
use crate::openai::{self, OpenAi, Quirks};
use crate::sign::{Bearer, KeyError, Signer, Unsigned};
use crate::transport::{self, BadAddress, Body, Connected, Transport, WireRequest};

mod pump;

/// The largest complete answer that is taken.
pub const WHOLE_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The largest complete answer with images: ten of the largest, as base64.
pub const IMAGES_BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The largest count of tokens that is read.
pub const COUNT_BODY_BYTES_MAX: usize = 64 * 1024;
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
    /// The wire formats of models whose names begin so.
    others: Vec<(&'static str, Arc<dyn Adapter>)>,
    signer: Arc<dyn Signer>,
    transport: Arc<dyn Transport>,
    manner: Manner,
    /// Fetches pictures and documents by their addresses; without one a provider that wants bytes refuses addresses.
    media: Option<Arc<dyn FetchMedia>>,
}

/// What an operator wants of every call to one upstream.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Headers beside those of the wire format. They win over it; the signature wins over them.
    pub headers: HeaderMap,
    /// How long it may take to begin its answer, in place of what the gateway says.
    pub header_timeout: Option<Duration>,
    /// How long its streams may be silent, in place of what the gateway says.
    pub idle_timeout: Option<Duration>,
    /// Whether what it has no words for is left out whatever the caller says.
    pub drop_params: bool,
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
        Self { adapter, others: Vec::new(), signer, transport, manner: Manner::default(), media: None }
    }

    /// Speaks another wire format to models whose names begin with `prefix`.
    #[must_use]
    pub fn with_models(mut self, prefix: &'static str, adapter: Arc<dyn Adapter>) -> Self {
        self.others.push((prefix, adapter));
        self
    }

    /// Fetches by these means what callers give by its address and the provider wants as bytes.
    #[must_use]
    pub fn with_media(self, media: Arc<dyn FetchMedia>) -> Self {
        Self { media: Some(media), ..self }
    }

    /// Sends these headers too.
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.manner.headers.extend(headers);
        self
    }

    /// Treats every call like that. Headers that were added before stay.
    #[must_use]
    pub fn with_manner(mut self, manner: &Manner) -> Self {
        let mut headers = std::mem::take(&mut self.manner.headers);
        headers.extend(manner.headers.clone());
        self.manner = Manner { headers, ..manner.clone() };
        self
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

    fn adapter(&self, model: &str) -> &dyn Adapter {
        let other = self.others.iter().find(|(prefix, _)| model.starts_with(prefix));
        other.map_or(&*self.adapter, |(_, adapter)| &**adapter)
    }

    /// The request for a call, with what had to be fetched for it.
    async fn encoded(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        let adapter = self.adapter(order.model);
        let input = &order.call.envelope.input;
        let Some(media) = self.media.as_ref().filter(|_| input.images > 0 || input.unbounded) else {
            return adapter.encode(order); // most calls bring nothing but words
        };
        let wanted = adapter.wanted(order)?;
        if wanted.is_empty() {
            return adapter.encode(order);
        }
        adapter.encode_with(order, &Fetched::fetch(&**media, wanted).await?)
    }

    /// The request as it goes over the wire.
    async fn signed(&self, mut request: WireRequest) -> Result<WireRequest, UpstreamError> {
        request.headers.extend(self.manner.headers.clone());
        self.signer.sign(&mut request).await?;
        Ok(request)
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
        let (adapter, wants_stream) = (self.adapter(order.model), order.call.envelope.stream);
        if wants_stream && is_stream(adapter.framing(), &head.headers) {
            let decoder = (adapter.framing(), adapter.stream_decoder(order.call));
            let events = pump::events(body, decoder, order.idle_timeout);
            return Ok(Reply::Stream(StreamReply { events, upstream_id, dropped }));
        }
        let bytes_max = whole_bytes_max(order.call.operation);
        let body = transport::whole(&mut body, order.idle_timeout, bytes_max).await?;
        if wants_stream {
            let WholeReply { body, report, .. } = adapter.stream_of_whole(order.call, &head.headers, body)?;
            let events = stream::iter([Ok(StreamEvent { bytes: body, report })]).boxed();
            return Ok(Reply::Stream(StreamReply { events, upstream_id, dropped }));
        }
        let reply = adapter.decode(order.call, &head.headers, body)?;
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
        self.adapter(order.model).decode_error(order.call, status, headers, &body)
    }
}

impl Manner {
    /// The call by somebody who allows that something is left out, where only the operator does.
    fn relaxed(&self, call: &Call) -> Option<Call> {
        (self.drop_params && !call.drop_params).then(|| Call { drop_params: true, ..call.clone() })
    }

    fn applied<'a>(&self, order: Order<'a>, relaxed: Option<&'a Call>) -> Order<'a> {
        Order {
            call: relaxed.unwrap_or(order.call),
            timeout: self.header_timeout.unwrap_or(order.timeout),
            idle_timeout: self.idle_timeout.unwrap_or(order.idle_timeout),
            ..order
        }
    }
}

#[async_trait]
impl Upstream for HttpUpstream {
    fn capabilities(&self) -> Capabilities {
        self.adapter.capabilities()
    }

    async fn send(&self, order: Order<'_>) -> Result<Reply, UpstreamError> {
        let relaxed = self.manner.relaxed(order.call);
        let order = self.manner.applied(order, relaxed.as_ref());
        let mut request = self.encoded(&order).await?;
        let dropped = std::mem::take(&mut request.dropped);
        let response = self.transport.send(self.signed(request).await?, order.timeout).await?;
        self.reply(order, dropped, response).await
    }

    async fn stored(&self, order: StoredOrder<'_>) -> Result<StoredReply, UpstreamError> {
        let none = || UpstreamError::Unsupported { message: "keeping answers".into() };
        let keeper = self.adapter.keeper().ok_or_else(none)?;
        let request = self.signed(keeper.request(&order)?).await?;
        let (head, mut body) = self.transport.send(request, order.timeout).await?.into_parts();
        if head.status.is_success() {
            let body = transport::whole(&mut body, order.timeout, WHOLE_BODY_BYTES_MAX).await?;
            return Ok(keeper.reply(&head.headers, body));
        }
        let body = transport::whole(&mut body, order.timeout, ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
        Err(keeper.error(head.status, &head.headers, &body))
    }

    async fn connect(&self, order: RealtimeOrder<'_>) -> Result<Box<dyn RealtimeSocket>, UpstreamError> {
        let request = self.signed(self.adapter(order.model).encode_realtime(order.model)?).await?;
        let timeout = self.manner.header_timeout.unwrap_or(order.timeout);
        match self.transport.connect(request, timeout, order.event_bytes_max).await? {
            Connected::Socket(socket) => Ok(socket),
            Connected::Refused(response) => {
                let (head, mut body) = response.into_parts();
                let body = transport::whole(&mut body, timeout, ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
                Err(openai::error::read(head.status, &head.headers, &body))
            }
        }
    }

    async fn count(&self, order: Order<'_>) -> Result<Option<TokenCount>, UpstreamError> {
        let order = self.manner.applied(order, None);
        let adapter = self.adapter(order.model);
        let Some(request) = adapter.encode_count(&order)? else { return Ok(None) };
        let (head, mut body) = self.transport.send(self.signed(request).await?, order.timeout).await?.into_parts();
        if !head.status.is_success() {
            return Err(self.refusal(&order, head.status, &head.headers, &mut body).await);
        }
        let body = transport::whole(&mut body, order.idle_timeout, COUNT_BODY_BYTES_MAX).await?;
        adapter.decode_count(order.call, &head.headers, body).map(Some)
    }
}

const fn whole_bytes_max(operation: Operation) -> usize {
    match operation {
        Operation::ImageGenerations | Operation::ImageEdits => IMAGES_BODY_BYTES_MAX,
        _ => WHOLE_BODY_BYTES_MAX,
    }
}

/// Whether an answer is a stream. A server that says nothing of JSON is taken by its word that it streams.
fn is_stream(framing: Framing, headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match framing {
        Framing::Sse => !["json", "html", "audio/"].iter().any(|other| content_type.contains(other)),
        Framing::JsonLines => content_type.contains("ndjson"),
        Framing::AwsEventStream => content_type.contains("eventstream"),
    }
}

fn request_id(headers: &HeaderMap) -> Option<Box<str>> {
    REQUEST_ID_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok()).map(Into::into)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{asking, call, order};

    #[test]
    fn an_operators_patience_takes_the_place_of_the_gateways() {
        let call = call(&asking(json!({})));
        let (timeout, idle_timeout) = (Duration::from_secs(9), Duration::from_secs(8));
        let asked = Order { timeout, idle_timeout, ..order(&call, "m") };
        let usual = Manner::default().applied(asked, None);
        assert_eq!((usual.timeout, usual.idle_timeout), (timeout, idle_timeout));
        let longer = Some(Duration::from_secs(1_800));
        let patient = Manner { header_timeout: longer, ..Manner::default() }.applied(asked, None);
        assert_eq!((Some(patient.timeout), patient.idle_timeout), (longer, idle_timeout));
        let patient = Manner { idle_timeout: longer, ..Manner::default() }.applied(asked, None);
        assert_eq!((patient.timeout, Some(patient.idle_timeout)), (timeout, longer));
    }
}
