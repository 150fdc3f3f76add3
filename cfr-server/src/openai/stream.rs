//! A streamed answer as the body of a response: one frame out for each event in.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cfr_core::gateway::AnswerStream;
use cfr_core::id::RequestId;
use futures_core::Stream;
use http_body::{Body, Frame};

use super::error;
use crate::config::Settings;

/// The body of a streamed answer. An error after the start is a last frame; `[DONE]` does not follow it.
#[derive(Debug)]
pub(super) struct StreamBody {
    answer: Option<AnswerStream>,
    request: RequestId,
    settings: Settings,
}

impl StreamBody {
    pub(super) const fn new(answer: AnswerStream, request: RequestId, settings: Settings) -> Self {
        Self { answer: Some(answer), request, settings }
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
        let frame = match ready!(Pin::new(answer).poll_next(context)) {
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(failed)) => {
                self.answer = None;
                Some(error::frame(failed, self.request, &self.settings))
            }
            None => {
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
