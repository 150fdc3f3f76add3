//! How bytes get to a provider and back. The bundled transport is reqwest; tests replay recordings.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt;
use http::{HeaderMap, Response, Uri};

pub mod replay;
#[cfg(feature = "reqwest")]
pub mod reqwest;

#[cfg(feature = "reqwest")]
pub use self::reqwest::ReqwestTransport;

/// A request as it goes over the wire, always a `POST`.
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

/// The address of one operation, parsed once when an upstream is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
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
            uri,
            #[cfg(feature = "reqwest")]
            url: address.parse().map_err(|_| bad())?,
        })
    }

    /// The address.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }
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

impl From<TransportError> for cfr_core::upstream::UpstreamError {
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
