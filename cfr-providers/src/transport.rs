//! How bytes get to a provider and back. The bundled transport is reqwest; tests replay recordings.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cfr_core::batch::ByteStream;
use cfr_core::upstream::{RealtimeSocket, UpstreamError};
use futures_core::Stream;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Response, Uri, header};

#[cfg(feature = "reqwest")]
pub mod guard;
pub mod replay;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "reqwest")]
mod websocket;

#[cfg(feature = "reqwest")]
pub use self::reqwest::ReqwestTransport;

/// A request as it goes over the wire: a `POST` where its endpoint says nothing else.
#[derive(Debug, Clone)]
pub struct WireRequest {
    /// Where to.
    pub endpoint: Arc<Endpoint>,
    /// All headers but those that the transport owns (`host`, `content-length`).
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Fields of the call that are not in the body because the provider has no words for them.
    pub dropped: Vec<Box<str>>,
}

/// What every request with a JSON body carries.
pub(crate) fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::USER_AGENT, HeaderValue::from_static(concat!("cfr/", env!("CARGO_PKG_VERSION")))),
    ])
}

/// The same where the answer may be a stream of events.
pub(crate) fn event_headers() -> HeaderMap {
    let mut headers = json_headers();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers
}

/// The address of one operation, parsed once when an upstream is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    method: Method,
    uri: Uri,
    #[cfg(feature = "reqwest")]
    url: ::reqwest::Url,
}

/// A text is not the address of an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an http or https address without user, query and fragment: {address}")]
pub struct BadAddress {
    /// The text.
    pub address: Box<str>,
}

impl Endpoint {
    /// The address of `path` below `base`, which may end with a slash.
    ///
    /// # Errors
    /// When `base` is not `http://` or `https://` with a host, or carries a user, a query or a fragment.
    pub fn below(base: &str, path: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress { address: base.into() };
        let address = format!("{}{path}", base.trim_end_matches('/'));
        let uri: Uri = address.parse().map_err(|_| bad())?;
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let http = matches!(uri.scheme_str(), Some("http" | "https"));
        if !plain || !http || address.contains(['?', '#']) {
            return Err(bad());
        }
        Ok(Self {
            method: Method::POST,
            uri,
            #[cfg(feature = "reqwest")]
            url: address.parse().map_err(|_| bad())?,
        })
    }

    /// The address of `path_and_query` below this one, for providers that have the model in the path. Names from outside
    /// go through [`path_segment`] first.
    ///
    /// # Errors
    /// When the result is no address, or would be one elsewhere: another server, or not below this one.
    pub fn join(&self, path_and_query: &str) -> Result<Self, BadAddress> {
        let address = format!("{}{path_and_query}", self.uri.to_string().trim_end_matches('/'));
        let bad = || BadAddress { address: address.as_str().into() };
        let uri: Uri = address.parse().map_err(|_| bad())?;
        let below = path_and_query.starts_with('/') && uri.authority() == self.uri.authority();
        // A client would walk up on these, also in disguise.
        let walks = uri
            .path()
            .split('/')
            .any(|segment| matches!(&*segment.to_ascii_uppercase().replace("%2E", "."), "." | ".."));
        if !below || walks || address.contains('#') {
            return Err(bad());
        }
        Ok(Self {
            method: self.method.clone(),
            uri,
            #[cfg(feature = "reqwest")]
            url: address.parse().map_err(|_| bad())?,
        })
    }

    /// This address with one field in its query.
    ///
    /// # Errors
    /// When there is one already, or the result is no address.
    pub fn with_query(&self, name: &str, value: &str) -> Result<Self, BadAddress> {
        let address = format!("{}?{name}={}", self.uri, path_segment(value));
        let bad = || BadAddress { address: address.as_str().into() };
        if self.uri.query().is_some() {
            return Err(bad());
        }
        Ok(Self {
            method: self.method.clone(),
            uri: address.parse().map_err(|_| bad())?,
            #[cfg(feature = "reqwest")]
            url: address.parse().map_err(|_| bad())?,
        })
    }

    /// The same address for another method than `POST`.
    #[must_use]
    pub fn with_method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// The method: `POST` where nothing else was said.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The address.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }
}

/// A name as one segment of a path: every byte but letters, digits, `-`, `.`, `_` and `~` is percent-encoded, so that no
/// name brings a slash, a query or a host of its own. Dots alone stay dots; [`Endpoint::join`] refuses them.
#[must_use]
pub fn path_segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(char::from(byte)),
            _ => {
                segment.push('%');
                segment
                    .extend([byte >> 4, byte & 15].map(|nibble| char::from(b"0123456789ABCDEF"[usize::from(nibble)])));
            }
        }
    }
    segment
}

/// Sends requests. It knows no wire format, and never sends again what a server may have begun to work on.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Sends a request; returns when the headers of the answer are there, at the latest after `timeout`.
    ///
    /// # Errors
    /// When there is no answer to be had.
    ///
    /// # Cancel safety
    /// Dropping the future or the body aborts the exchange.
    async fn send(&self, request: WireRequest, timeout: Duration) -> Result<Response<Body>, TransportError>;

    /// As [`Transport::send`], with a body that comes in pieces in place of the request's own. One that is not overridden
    /// gathers them first. Where the pieces end with an error, the exchange is broken off, so that no server takes what came
    /// for the whole.
    ///
    /// # Errors
    /// As [`Transport::send`], and [`TransportError::Broken`] when the pieces end with an error.
    ///
    /// # Cancel safety
    /// As [`Transport::send`].
    async fn send_stream(
        &self,
        request: WireRequest,
        mut content: ByteStream,
        timeout: Duration,
    ) -> Result<Response<Body>, TransportError> {
        let mut body = BytesMut::new();
        while let Some(piece) = content.next().await {
            let broken = |error: UpstreamError| TransportError::Broken { message: error.to_string().into() };
            body.extend_from_slice(&piece.map_err(broken)?);
        }
        self.send(WireRequest { body: body.freeze(), ..request }, timeout).await
    }

    /// Opens a WebSocket by this request, at the latest after `timeout`; no event on it may be larger than so many bytes.
    ///
    /// # Errors
    /// When there is no answer to be had, or the transport opens none.
    ///
    /// # Cancel safety
    /// Dropping the future breaks the handshake off.
    async fn connect(
        &self,
        request: WireRequest,
        timeout: Duration,
        event_bytes_max: usize,
    ) -> Result<Connected, TransportError> {
        let _ = (request, timeout, event_bytes_max);
        Err(TransportError::Unreachable { message: "this transport opens no WebSockets".into() })
    }
}

/// What became of a wish for a WebSocket.
pub enum Connected {
    /// It is open.
    Socket(Box<dyn RealtimeSocket>),
    /// The server answered something else.
    Refused(Response<Body>),
}

impl Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(socket) => f.debug_tuple("Socket").field(socket).finish(),
            Self::Refused(response) => f.debug_tuple("Refused").field(&response.status()).finish(),
        }
    }
}

const _: fn(&dyn Transport) = |_| {};

/// The body of an answer, as the network brings it.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// Why bytes did not come.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection: nothing was sent.
    #[error("no connection: {message}")]
    Unreachable {
        /// For the log.
        message: Box<str>,
    },
    /// The request was sent, or part of it, and the connection broke.
    #[error("connection broken: {message}")]
    Broken {
        /// For the log.
        message: Box<str>,
    },
    /// Nothing came in time.
    #[error("nothing came within {after:?}")]
    Timeout {
        /// The time that was allowed.
        after: Duration,
    },
    /// More came than is taken.
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

impl From<TransportError> for UpstreamError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unreachable { message } => Self::Unreachable { message },
            TransportError::Broken { message } => Self::Truncated { message },
            TransportError::Timeout { after } => Self::Timeout { after },
            TransportError::TooLarge { .. } => Self::Malformed { message: error.to_string().into() },
        }
    }
}

/// The next piece of a body; an error when it stays silent for longer than `idle`.
pub(crate) async fn next_chunk(body: &mut Body, idle: Duration) -> Option<Result<Bytes, TransportError>> {
    match tokio::time::timeout(idle, body.next()).await {
        Ok(chunk) => chunk,
        Err(_) => Some(Err(TransportError::Timeout { after: idle })),
    }
}

/// A whole body of at most `bytes_max`; not copied when it came in one piece.
pub(crate) async fn whole(body: &mut Body, idle: Duration, bytes_max: usize) -> Result<Bytes, TransportError> {
    let Some(first) = next_chunk(body, idle).await.transpose()? else { return Ok(Bytes::new()) };
    let mut all = Pieces::One(first);
    loop {
        if all.len() > bytes_max {
            return Err(TransportError::TooLarge { bytes_max });
        }
        let Some(chunk) = next_chunk(body, idle).await.transpose()? else { return Ok(all.into_bytes()) };
        all.add(&chunk);
    }
}

enum Pieces {
    One(Bytes),
    Many(BytesMut),
}

impl Pieces {
    fn len(&self) -> usize {
        match self {
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    fn add(&mut self, chunk: &[u8]) {
        match self {
            Self::One(first) => {
                let mut all = BytesMut::with_capacity((first.len() + chunk.len()) * 2);
                all.extend_from_slice(first);
                all.extend_from_slice(chunk);
                *self = Self::Many(all);
            }
            Self::Many(all) => all.extend_from_slice(chunk),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Endpoint {
        Endpoint::below("https://host.example/", "/v1").expect("an address")
    }

    #[test]
    fn a_model_in_the_path_stays_one_segment() {
        let model = "arn:aws:bedrock:x/y?z#\u{e4} %@";
        let joined = base().join(&format!("/model/{}/converse", path_segment(model))).expect("an address");
        let expected = "https://host.example/v1/model/arn%3Aaws%3Abedrock%3Ax%2Fy%3Fz%23%C3%A4%20%25%40/converse";
        assert_eq!(joined.uri().to_string(), expected);
        #[cfg(feature = "reqwest")]
        assert_eq!(joined.url.as_str(), expected);
    }

    #[test]
    fn no_name_leads_out_of_the_base() {
        for path in ["/model/../x", "/model/./x", "/%2E%2e", "//..", "x", "@elsewhere/", ":80/", "/a#b", ""] {
            assert!(base().join(path).is_err(), "{path}");
        }
        for name in ["..", "."] {
            assert!(base().join(&format!("/model/{}/converse", path_segment(name))).is_err(), "{name}");
        }
    }

    #[test]
    fn a_query_is_kept() {
        let joined = base().join("/models/m:generate?alt=sse").expect("an address");
        assert_eq!(joined.uri().query(), Some("alt=sse"));
    }
}
