//! A transport that answers with a recording, and lets the exchange end as it is told.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_providers::transport::{Body, Transport, TransportError, WireRequest};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Response, StatusCode};

/// What comes of a request.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body, a piece for each frame.
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) end: End,
}

/// What comes after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The end of the body.
    Clean,
    /// The connection breaks.
    Broken,
    /// Nothing, for ever.
    Silent,
    /// There is no connection at all.
    Unreachable,
    /// No status line ever comes.
    Mute,
}

#[derive(Debug, Default)]
pub(crate) struct Scripted(Mutex<Option<Script>>);

impl Scripted {
    /// From now on, every request is answered so: one that fails may be sent again.
    pub(crate) fn plays(&self, script: Script) {
        *self.0.lock().expect("not poisoned") = Some(script);
    }
}

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, _: WireRequest, timeout: Duration) -> Result<Response<Body>, TransportError> {
        let script = self.0.lock().expect("not poisoned").clone().expect("a script");
        match script.end {
            End::Unreachable => return Err(TransportError::Unreachable { message: "no route".into() }),
            End::Mute => return Err(TransportError::Timeout { after: timeout }),
            End::Clean | End::Broken | End::Silent => {}
        }
        let pieces = stream::iter(script.pieces.into_iter().map(Ok));
        let body: Body = match script.end {
            End::Broken => pieces.chain(stream::iter([Err(TransportError::Broken { message: "cut".into() })])).boxed(),
            End::Silent => pieces.chain(stream::pending()).boxed(),
            _ => pieces.boxed(),
        };
        let mut response = Response::new(body);
        *response.status_mut() = script.status;
        response.headers_mut().clone_from(&script.headers);
        Ok(response)
    }
}
