//! A streamed answer as the body of a response: one frame out for each event in.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cfr_core::chat::Dialect;
use cfr_core::gateway::AnswerStream;
use cfr_core::id::RequestId;
use futures_core::Stream;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use super::error;
use crate::config::Settings;

/// How long Anthropic's clients wait before they are told that the answer still comes.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING: Bytes = Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n");

/// The body of a streamed answer. An error after the start is a last frame; `[DONE]` does not follow it.
#[derive(Debug)]
pub(super) struct StreamBody {
    answer: Option<AnswerStream>,
    /// Rings after some silence, for a dialect that has pings.
    silence: Option<Pin<Box<Sleep>>>,
    request: RequestId,
    dialect: Dialect,
    settings: Settings,
}

impl StreamBody {
    pub(super) fn new(answer: AnswerStream, (request, dialect): (RequestId, Dialect), settings: Settings) -> Self {
        let pings = dialect == Dialect::Anthropic;
        let silence = pings.then(|| Box::pin(tokio::time::sleep(PING_EVERY)));
        Self { answer: Some(answer), silence, request, dialect, settings }
    }

    /// A ping, when it is time for one. What is sent by others breaks the silence too.
    fn poll_ping(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let Some(silence) = &mut self.silence else { return Poll::Pending };
        ready!(silence.as_mut().poll(context));
        self.heard();
        Poll::Ready(PING)
    }

    fn heard(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.as_mut().reset(Instant::now() + PING_EVERY);
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(answer) = &mut self.answer else { return Poll::Ready(None) };
        let frame = match Pin::new(answer).poll_next(context) {
            Poll::Pending => Some(ready!(self.poll_ping(context))),
            Poll::Ready(Some(Ok(bytes))) => {
                self.heard();
                Some(bytes)
            }
            Poll::Ready(Some(Err(failed))) => {
                self.answer = None;
                Some(error::frame(failed, (self.request, self.dialect), &self.settings))
            }
            Poll::Ready(None) => {
                self.answer = None;
                None
            }
        };
        Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_none()
    }
}
