//! Bare proxies: what the work of a gateway costs at the least. They check nothing, hold nothing and record nothing.

use std::borrow::Cow;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Failure;
use crate::serve::{AnyBody, any};

/// How much a floor looks at what it passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Bytes only.
    Raw,
    /// Reads model, stream and usage with borrowed fields; passes the bytes on.
    Peek,
    /// Parses each body and each chunk into a tree and writes it again.
    Json,
}

impl Depth {
    /// Every depth, the cheapest first.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Peek, Self::Json];

    /// The name in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "floor-raw",
            Self::Peek => "floor-peek",
            Self::Json => "floor-json",
        }
    }
}

impl FromStr for Depth {
    type Err = Failure;
    fn from_str(name: &str) -> Result<Self, Failure> {
        Self::ALL.into_iter().find(|depth| depth.name() == name).ok_or_else(|| format!("no floor `{name}`").into())
    }
}

/// A proxy to one upstream with a pool of connections.
#[derive(Debug, Clone)]
pub struct Floor {
    depth: Depth,
    upstream: Authority,
    client: Client<HttpConnector, AnyBody>,
}

#[derive(Deserialize)]
struct Ask<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    #[serde(borrow)]
    messages: &'a RawValue,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl Floor {
    /// A proxy to `upstream`, an address with its port.
    ///
    /// # Errors
    /// When that is no address.
    pub fn new(depth: Depth, upstream: &str) -> Result<Self, Failure> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { depth, upstream: upstream.parse()?, client })
    }

    /// Passes one request on.
    ///
    /// # Errors
    /// When a body does not arrive, is not what the depth expects, or the upstream is not reached.
    pub async fn pass(self, request: Request<Incoming>) -> Result<Response<AnyBody>, Failure> {
        match self.depth {
            Depth::Raw => self.pass_raw(request).await,
            Depth::Peek => self.pass_peeking(request).await,
            Depth::Json => self.pass_rebuilding(request).await,
        }
    }

    async fn pass_raw(self, request: Request<Incoming>) -> Result<Response<AnyBody>, Failure> {
        let (head, body) = request.into_parts();
        let response = self.client.request(Request::from_parts(self.redirect(head)?, any(body))).await?;
        Ok(response.map(any))
    }

    async fn pass_peeking(self, request: Request<Incoming>) -> Result<Response<AnyBody>, Failure> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let ask: Ask<'_> = serde_json::from_slice(&body)?;
        if ask.model.is_empty() || ask.messages.get().is_empty() {
            return Err("a request without model or messages".into());
        }
        let stream = ask.stream;
        let request = Request::from_parts(self.redirect(head)?, any(Full::new(body.clone())));
        let response = self.client.request(request).await?;
        if stream {
            return Ok(response.map(|body| any(body.map_frame(look_for_usage))));
        }
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        let answer: Answer<'_> = serde_json::from_slice(&body)?;
        if answer.usage.is_none() {
            return Err("an answer without usage".into());
        }
        Ok(Response::from_parts(head, any(Full::new(body))))
    }

    async fn pass_rebuilding(self, request: Request<Incoming>) -> Result<Response<AnyBody>, Failure> {
        let (mut head, body) = request.into_parts();
        let ask: Value = serde_json::from_slice(&body.collect().await?.to_bytes())?;
        head.headers.remove(CONTENT_LENGTH);
        let body = Full::from(serde_json::to_vec(&ask)?);
        let response = self.client.request(Request::from_parts(self.redirect(head)?, any(body))).await?;
        let (mut head, body) = response.into_parts();
        if head.headers.get(CONTENT_TYPE) == Some(&HeaderValue::from_static("text/event-stream")) {
            return Ok(Response::from_parts(head, rebuilt_stream(body)));
        }
        let answer: Value = serde_json::from_slice(&body.collect().await?.to_bytes())?;
        head.headers.remove(CONTENT_LENGTH);
        Ok(Response::from_parts(head, any(Full::from(serde_json::to_vec(&answer)?))))
    }

    /// The same request line and headers, to the upstream.
    fn redirect(&self, mut head: hyper::http::request::Parts) -> Result<hyper::http::request::Parts, Failure> {
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.uri = Uri::builder().scheme(Scheme::HTTP).authority(self.upstream.clone()).path_and_query(path).build()?;
        head.headers.remove(hyper::header::HOST);
        Ok(head)
    }
}

/// Parses the events that can carry usage, and no others.
fn look_for_usage(frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(bytes) = frame.data_ref() {
        for event in bytes.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"data: ")) {
            if event.windows(USAGE.len()).rev().any(|window| window == USAGE) {
                let _: Result<Answer<'_>, _> = serde_json::from_slice(event);
            }
        }
    }
    frame
}

const USAGE: &[u8] = b"\"usage\":{";

/// Every event parsed into a tree and written again; an event may come in pieces.
fn rebuilt_stream(body: Incoming) -> AnyBody {
    let mut rest = BytesMut::new();
    let pieces = TryStreamExt::map_err(body.into_data_stream(), Failure::from);
    let frames = pieces.try_filter_map(move |data: Bytes| {
        rest.extend_from_slice(&data);
        let rebuilt = rebuild_events(&mut rest);
        std::future::ready(rebuilt.map(|bytes| (!bytes.is_empty()).then(|| Frame::data(Bytes::from(bytes)))))
    });
    any(StreamBody::new(frames))
}

/// Takes the complete events out of `rest`.
fn rebuild_events(rest: &mut BytesMut) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(rest.len());
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
        let event = rest.split_to(end + 2);
        match event[..end].strip_prefix(b"data: ") {
            Some(data) if data != b"[DONE]" => {
                let tree: Value = serde_json::from_slice(data)?;
                out.extend_from_slice(b"data: ");
                serde_json::to_writer(&mut out, &tree)?;
                out.extend_from_slice(b"\n\n");
            }
            _ => out.extend_from_slice(&event),
        }
    }
    Ok(out)
}
