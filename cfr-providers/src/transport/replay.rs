//! A transport that replays a recorded exchange, so that a wire format can be tested without a network.
//!
//! A recording is a JSON file: `{request: {path, headers, body}, response: {status, headers, content_type, body or
//! body_file}, …}`; other members are the test's. The request is asserted as strictly as the answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::{Body, Transport, TransportError, WireRequest};

/// A recorded exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The path that the request must have.
    pub path: String,
    /// Headers that the request must have.
    pub request_headers: HeaderMap,
    /// The JSON that the request must have, in any order of members; null where it has no body.
    pub request_body: Value,
    /// The status of the answer.
    pub status: StatusCode,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// The body of the answer.
    pub body: Bytes,
}

/// A file is not a recording.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct RecordingError {
    path: Box<str>,
    reason: Box<str>,
}

#[derive(Deserialize)]
struct Recording {
    request: RecordedRequest,
    response: RecordedResponse,
}

#[derive(Deserialize)]
struct RecordedRequest {
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Value,
}

#[derive(Deserialize)]
struct RecordedResponse {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    content_type: Option<String>,
    body: Option<Value>,
    body_file: Option<String>,
}

impl Exchange {
    /// Reads a recording, and the body in the file beside it when it names one.
    ///
    /// # Errors
    /// When a file cannot be read, or is not a recording.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let wrong = |reason: String| RecordingError { path: path.display().to_string().into(), reason: reason.into() };
        let text = std::fs::read(path).map_err(|cause| wrong(cause.to_string()))?;
        let recording: Recording = serde_json::from_slice(&text).map_err(|cause| wrong(cause.to_string()))?;
        let body = match &recording.response.body_file {
            Some(name) => {
                std::fs::read(path.with_file_name(name)).map_err(|cause| wrong(format!("{name}: {cause}")))?
            }
            None => recording.response.body.as_ref().map(written).unwrap_or_default(),
        };
        recording.into_exchange(body.into()).ok_or_else(|| wrong("a status or header is not one".into()))
    }
}

/// A body that is not JSON is recorded as a text.
fn written(body: &Value) -> Vec<u8> {
    body.as_str().map_or_else(|| body.to_string().into_bytes(), |text| text.as_bytes().to_vec())
}

impl Recording {
    fn into_exchange(self, body: Bytes) -> Option<Exchange> {
        let mut headers = header_map(&self.response.headers)?;
        if let Some(content_type) = &self.response.content_type {
            headers.insert(CONTENT_TYPE, content_type.parse().ok()?);
        }
        Some(Exchange {
            path: self.request.path,
            request_headers: header_map(&self.request.headers)?,
            request_body: self.request.body,
            status: StatusCode::from_u16(self.response.status).ok()?,
            headers,
            body,
        })
    }
}

fn header_map(headers: &BTreeMap<String, String>) -> Option<HeaderMap> {
    let pair = |(name, value): (&String, &String)| {
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    };
    headers.iter().map(pair).collect()
}

/// Answers every request that is the recorded one with the recorded answer; any other gets an error that says how it
/// differs.
#[derive(Debug, Clone)]
pub struct Replay {
    exchange: Arc<Exchange>,
    cuts: Vec<usize>,
    breaks: bool,
}

impl Replay {
    /// Replays `exchange` with its body in one piece.
    #[must_use]
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange: Arc::new(exchange), cuts: Vec::new(), breaks: false }
    }

    /// The same with the body in pieces of `bytes`, as a slow network brings it.
    #[must_use]
    pub fn in_pieces(self, bytes: usize) -> Self {
        let cuts = (0..self.exchange.body.len()).step_by(bytes.max(1)).skip(1).collect();
        Self { cuts, ..self }
    }

    /// The same with the body cut in two at `at`.
    #[must_use]
    pub fn torn_at(self, at: usize) -> Self {
        Self { cuts: vec![at.min(self.exchange.body.len())], ..self }
    }

    /// The same with a connection that breaks after the body.
    #[must_use]
    pub fn then_broken(self) -> Self {
        Self { breaks: true, ..self }
    }

    fn body(&self) -> Body {
        let whole = &self.exchange.body;
        let starts = std::iter::once(0).chain(self.cuts.iter().copied());
        let ends = self.cuts.iter().copied().chain([whole.len()]);
        let pieces: Vec<_> = starts.zip(ends).map(|(start, end)| Ok(whole.slice(start..end))).collect();
        let broken = self.breaks.then(|| Err(TransportError::Broken { message: "the recording breaks here".into() }));
        stream::iter(pieces.into_iter().chain(broken)).boxed()
    }
}

#[async_trait]
impl Transport for Replay {
    async fn send(&self, request: WireRequest, _timeout: Duration) -> Result<Response<Body>, TransportError> {
        if let Some(message) = difference(&self.exchange, &request) {
            return Err(TransportError::Broken { message: message.into() });
        }
        let mut response = Response::new(self.body());
        *response.status_mut() = self.exchange.status;
        response.headers_mut().clone_from(&self.exchange.headers);
        Ok(response)
    }
}

/// How a request differs from the recorded one.
fn difference(expected: &Exchange, request: &WireRequest) -> Option<String> {
    let path = request.endpoint.uri().path_and_query().map_or("", |path| path.as_str());
    if path != expected.path {
        return Some(format!("the path is {path}, not {}", expected.path));
    }
    for (name, value) in &expected.request_headers {
        if request.headers.get(name) != Some(value) {
            return Some(format!("the header {name} is missing or different"));
        }
    }
    let body: Value = match serde_json::from_slice(&request.body) {
        Ok(body) => body,
        Err(_) if request.body.is_empty() => Value::Null,
        Err(cause) => return Some(format!("the body is not JSON: {cause}")),
    };
    (body != expected.request_body).then(|| format!("the body is {body}, not {}", expected.request_body))
}
