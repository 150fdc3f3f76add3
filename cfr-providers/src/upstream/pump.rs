//! The loop behind a streamed answer: network chunks in, events for the gateway out.

use std::time::Duration;

use cfr_core::upstream::{EventStream, StreamEvent, UpstreamError};
use futures_util::{StreamExt, stream};

use crate::adapter::{Framing, StreamDecoder};
use crate::framing::Relay;
use crate::framing::relay::Relayed;
use crate::transport::{self, Body};

/// How long we wait after the answer's end for the connection's, so that it can be used again.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// The events of a streamed answer. Nothing is read ahead; dropping the stream drops the body.
pub(super) fn events(
    body: Body,
    (framing, decoder): (Framing, Box<dyn StreamDecoder>),
    idle_timeout: Duration,
) -> EventStream {
    let pump = Pump { body, relay: Relay::new(framing, decoder), idle_timeout, error: None, ended: false };
    stream::unfold(pump, |mut pump| async move { pump.next().await.map(|event| (event, pump)) }).boxed()
}

struct Pump {
    body: Body,
    relay: Relay,
    idle_timeout: Duration,
    /// What ends the answer after the event that is out.
    error: Option<UpstreamError>,
    ended: bool,
}

impl Pump {
    async fn next(&mut self) -> Option<Result<StreamEvent, UpstreamError>> {
        loop {
            if let Some(error) = self.error.take() {
                self.ended = true;
                return Some(Err(error));
            }
            if self.ended {
                return None;
            }
            let relayed = self.turn().await;
            self.error = relayed.error;
            if has_something(&relayed.event) {
                return Some(Ok(relayed.event));
            }
        }
    }

    async fn turn(&mut self) -> Relayed {
        if self.relay.is_done() {
            return self.drain().await;
        }
        match transport::next_chunk(&mut self.body, self.idle_timeout).await {
            Some(Ok(chunk)) => self.relay.push(chunk),
            Some(Err(cause)) => Relayed { event: StreamEvent::default(), error: Some(cause.into()) },
            None => {
                self.ended = true;
                self.relay.finish()
            }
        }
    }

    /// The answer is complete. The end of the body is usually a few bytes away, and reading it frees the connection.
    async fn drain(&mut self) -> Relayed {
        self.ended = true;
        let rest = async { while let Some(Ok(_)) = self.body.next().await {} };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, rest).await;
        Relayed::default()
    }
}

fn has_something(event: &StreamEvent) -> bool {
    !event.bytes.is_empty() || event.report != cfr_core::upstream::Report::default()
}
