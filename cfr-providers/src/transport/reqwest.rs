//! The bundled transport: one connection pool over reqwest, TLS by rustls with ring.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::batch::ByteStream;
use futures_util::StreamExt;
use http::Response;
use reqwest::{Client, ClientBuilder, Request, redirect};

use super::guard::AddressGuard;
use super::websocket::{Handshake, Socket};
use super::{Body, Connected, Transport, TransportError, WireRequest};

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept; shorter than the usual 60 s of load balancers, so that they rarely close first.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// How often a silent TCP connection is probed.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Sends requests over a pool of connections. Clones share the pool; one transport can serve every upstream.
#[derive(Debug, Clone)]
pub struct ReqwestTransport {
    client: Client,
    /// For WebSockets, which only HTTP/1.1 opens everywhere.
    sockets: Client,
    /// Keeps it from what is inside; none where the operator chose every address.
    guard: Option<AddressGuard>,
}

/// The HTTP client cannot be made, as when the machine has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be made: {source}")]
pub struct ClientError {
    #[from]
    source: reqwest::Error,
}

impl ReqwestTransport {
    /// A transport with a pool of its own. Proxies are taken from the environment.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, ClientError> {
        Ok(Self { client: builder().build()?, sockets: builder().http1_only().build()?, guard: None })
    }

    /// A transport for addresses that somebody else chose. It uses no proxy, which would look names up by itself.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn guarded(guard: AddressGuard) -> Result<Self, ClientError> {
        let builder = || builder().no_proxy().dns_resolver(Arc::new(guard.clone()));
        let (client, sockets) = (builder().build()?, builder().http1_only().build()?);
        Ok(Self { client, sockets, guard: Some(guard) })
    }
}

fn builder() -> ClientBuilder {
    // A provider that the application chose before stays in force; an error here says just that.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(redirect::Policy::none())
}

#[async_trait]
impl Transport for ReqwestTransport {
    async fn send(&self, request: WireRequest, timeout: Duration) -> Result<Response<Body>, TransportError> {
        let body = request.body.clone().into();
        self.exchange(request, body, timeout).await
    }

    async fn send_stream(
        &self,
        request: WireRequest,
        content: ByteStream,
        timeout: Duration,
    ) -> Result<Response<Body>, TransportError> {
        self.exchange(request, reqwest::Body::wrap_stream(content), timeout).await
    }

    async fn connect(
        &self,
        mut request: WireRequest,
        timeout: Duration,
        event_bytes_max: usize,
    ) -> Result<Connected, TransportError> {
        let handshake = Handshake::new()?;
        handshake.add_to(&mut request.headers)?;
        let answer = self.execute(&self.sockets, request, reqwest::Body::default(), timeout).await?;
        if handshake.is_agreed(answer.status(), answer.headers()) {
            return Ok(Connected::Socket(Box::new(Socket::open(answer, event_bytes_max).await?)));
        }
        Ok(Connected::Refused(taken_apart(answer)))
    }
}

impl ReqwestTransport {
    async fn exchange(
        &self,
        request: WireRequest,
        body: reqwest::Body,
        timeout: Duration,
    ) -> Result<Response<Body>, TransportError> {
        self.execute(&self.client, request, body, timeout).await.map(taken_apart)
    }

    async fn execute(
        &self,
        client: &Client,
        request: WireRequest,
        body: reqwest::Body,
        timeout: Duration,
    ) -> Result<reqwest::Response, TransportError> {
        let mut outgoing = Request::new(request.endpoint.method().clone(), request.endpoint.url.clone());
        *outgoing.headers_mut() = request.headers;
        *outgoing.body_mut() = Some(body);
        let guarded = self.guard.as_ref().map_or(Ok(()), |guard| guard.check_url(outgoing.url()));
        guarded.map_err(|error| TransportError::Unreachable { message: error.to_string().into() })?;
        let answer = tokio::time::timeout(timeout, client.execute(outgoing)).await;
        answer.map_err(|_| TransportError::Timeout { after: timeout })?.map_err(|error| unsent_or_broken(&error))
    }
}

fn taken_apart(mut answer: reqwest::Response) -> Response<Body> {
    let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
    let chunks = answer.bytes_stream().map(|chunk| chunk.map_err(|error| broken(&error)));
    let mut response = Response::new(Box::pin(chunks) as Body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

fn unsent_or_broken(error: &reqwest::Error) -> TransportError {
    if error.is_connect() { TransportError::Unreachable { message: reason(error) } } else { broken(error) }
}

fn broken(error: &reqwest::Error) -> TransportError {
    TransportError::Broken { message: reason(error) }
}

/// The innermost causes of an error, without the address, which may be private.
fn reason(error: &reqwest::Error) -> Box<str> {
    let mut reason = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    if reason.is_empty() { "the exchange failed".into() } else { reason.into() }
}
