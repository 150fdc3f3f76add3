//! The fake provider behind our own HTTP client: what one says the other must understand.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, Operation};
use cfr_core::id::RequestId;
use cfr_core::upstream::{Order, Reply, Upstream, UpstreamError};
use cfr_providers::Fake;
use cfr_providers::transport::{Body, Transport, TransportError, WireRequest};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Response, StatusCode};

/// Serves HTTP requests by the fake provider.
#[derive(Debug)]
pub struct Loopback(pub Fake);

#[async_trait]
impl Transport for Loopback {
    async fn send(&self, request: WireRequest, timeout: Duration) -> Result<Response<Body>, TransportError> {
        let path = request.endpoint.uri().path();
        let operation = match path.rsplit('/').next() {
            Some("embeddings") => Operation::Embeddings,
            Some("responses") => Operation::Responses,
            _ if path.ends_with("chat/completions") => Operation::ChatCompletions,
            _ => Operation::Completions,
        };
        let envelope = Envelope::parse(operation, &request.body).unwrap();
        let call = Call {
            id: RequestId::from_u128(1),
            operation,
            envelope,
            body: request.body,
            files: Vec::new(),
            tags: cfr_core::chat::Tags::default(),
            cache: cfr_core::cache::CacheUse::default(),
            drop_params: false,
            betas: None,
            dialect_version: None,
        };
        let model = call.envelope.model.clone();
        let order = Order { call: &call, model: &model, output_tokens_max: None, timeout, idle_timeout: timeout };
        Ok(match self.0.send(order).await {
            Ok(Reply::Whole(whole)) => {
                response(StatusCode::OK, "application/json", stream::iter([Ok(whole.body)]).boxed())
            }
            Ok(Reply::Stream(reply)) => response(StatusCode::OK, "text/event-stream", frames(reply.events)),
            Err(UpstreamError::Rejected { status, body, .. }) => {
                response(status, "application/json", stream::iter(body.map(Ok)).boxed())
            }
            Err(error) => return Err(TransportError::Broken { message: error.to_string().into() }),
            other => panic!("unknown reply {other:?}"),
        })
    }
}

fn frames(events: cfr_core::upstream::EventStream) -> Body {
    let bytes = |event: Result<cfr_core::upstream::StreamEvent, UpstreamError>| match event {
        Ok(event) => Ok(event.bytes),
        Err(UpstreamError::InStream { frame: Some(frame), .. }) => Ok::<Bytes, _>(frame),
        Err(error) => Err(TransportError::Broken { message: error.to_string().into() }),
    };
    events.map(bytes).boxed()
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    response
}
