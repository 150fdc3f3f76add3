//! A transport that answers with a recording, and lets the exchange end as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
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

#[derive(Debug, Default, Clone)]
pub(crate) struct Scripted(Arc<Mutex<Stage>>);

#[derive(Debug, Default)]
struct Stage {
    scripts: VecDeque<Script>,
    requests: usize,
    /// What was taken of the latest answer.
    taken: Vec<u8>,
}

impl Scripted {
    /// From now on requests are answered so, one after the other; the last script for all that come after: what fails may
    /// be sent again.
    pub(crate) fn plays(&self, scripts: impl Into<VecDeque<Script>>) {
        *self.stage() = Stage { scripts: scripts.into(), ..Stage::default() };
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.stage().requests
    }

    /// The bytes of the latest answer that were taken from the connection.
    pub(crate) fn taken(&self) -> Vec<u8> {
        self.stage().taken.clone()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().expect("not poisoned")
    }

    fn next(&self) -> Script {
        let mut stage = self.stage();
        stage.requests += 1;
        stage.taken.clear();
        let more = stage.scripts.len() > 1;
        let script = if more { stage.scripts.pop_front() } else { stage.scripts.front().cloned() };
        script.expect("a script")
    }
}

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, _: WireRequest, timeout: Duration) -> Result<Response<Body>, TransportError> {
        let script = self.next();
        match script.end {
            End::Unreachable => return Err(TransportError::Unreachable { message: "no route".into() }),
            End::Mute => return Err(TransportError::Timeout { after: timeout }),
            End::Clean | End::Broken | End::Silent => {}
        }
        let stage = self.clone();
        let pieces = stream::iter(script.pieces).map(move |piece| {
            stage.stage().taken.extend_from_slice(&piece);
            Ok(piece)
        });
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
