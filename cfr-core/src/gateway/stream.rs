//! A streamed answer on its way to the client: chunks pass, a side view watches for usage, the end settles.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::Sleep;

use super::GatewayError;
use super::open_call::{Ending, OpenCall};
use crate::hook::StreamFilter;
use crate::ledger::Commit;
use crate::upstream::{EventStream, StreamEvent, StreamReply, UpstreamError};

/// Bytes that may follow a finish reason: the ends of other choices and the usage.
const TAIL_BYTES_MAX: usize = 1024 * 1024;

/// Wire bytes of a streamed answer in the caller's dialect.
///
/// Chunks leave as they arrive. From the finish reason on, the rest waits until the charge is durable. An error after
/// the start is the last item. Dropping the stream aborts the upstream call and settles what was delivered.
pub struct AnswerStream {
    state: State,
    open: Box<OpenCall>,
    /// Whether anybody asked for the first event, which was there before.
    asked: bool,
    filters: Vec<Box<dyn StreamFilter>>,
    checkpoint_due: Duration,
    /// Rings when the hold's time is up, also for an upstream that has fallen silent.
    time_up: Pin<Box<Sleep>>,
}

enum State {
    /// Passing events on.
    Running { events: EventStream },
    /// A finish reason was seen: what follows is kept until the charge is durable, or another choice goes on.
    Finishing { events: EventStream, tail: BytesMut },
    /// The answer is settled.
    Settled { committed: Commit, tail: Bytes },
    /// Nothing comes any more.
    Ended,
}

impl std::fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerStream").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Waits for the first event, so that an upstream that fails before it can still be replaced.
pub(super) async fn wait_for_first(mut reply: StreamReply) -> Result<StreamReply, UpstreamError> {
    match reply.events.next().await {
        Some(Ok(first)) => {
            let first = stream::iter(std::iter::once(Ok(first)));
            Ok(StreamReply { events: Box::pin(first.chain(reply.events)), ..reply })
        }
        Some(Err(error)) => Err(error),
        None => Err(UpstreamError::Truncated { message: "the stream was empty".into() }),
    }
}

impl AnswerStream {
    pub(super) fn new(open: Box<OpenCall>, events: EventStream) -> Self {
        let hooks = &open.gateway.stream_hooks;
        let filters = hooks.iter().filter_map(|hook| hook.begin(open.caller(), &open.call)).collect();
        let checkpoint_due = open.gateway.config.checkpoint_every;
        let time_up = Box::pin(tokio::time::sleep(open.time_left()));
        Self { state: State::Running { events }, open, asked: false, filters, checkpoint_due, time_up }
    }

    fn poll_running(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, GatewayError>>> {
        loop {
            let (State::Running { events } | State::Finishing { events, .. }) = &mut self.state else {
                return self.poll_settled(context);
            };
            let event = events.as_mut().poll_next(context);
            if event.is_pending() && self.time_up.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(self.break_off(self.too_late()))));
            }
            match std::task::ready!(event) {
                Some(Ok(event)) => match self.pass(event) {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                    Err(error) => return Poll::Ready(Some(Err(self.break_off(error)))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(self.break_off(error)))),
                None => {
                    if let Err(error) = self.settle() {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }

    /// Takes note of an event and returns what leaves now.
    fn pass(&mut self, event: StreamEvent) -> Result<Bytes, UpstreamError> {
        let StreamEvent { bytes, report } = event;
        let (finished, goes_on) = (report.finish.is_some(), report.output_bytes > 0);
        self.open.note(report);
        self.watch_the_time()?;
        let bytes = self.open.sealed(bytes);
        let bytes = self.filters.iter_mut().fold(bytes, |bytes, filter| filter.event(bytes));
        if finished && self.open.gateway.config.ack_settle {
            self.hold_back();
        } else if goes_on {
            return Ok(self.let_go(bytes));
        }
        let State::Finishing { tail, .. } = &mut self.state else { return Ok(bytes) };
        if !tail.is_empty() && tail.len() + bytes.len() > TAIL_BYTES_MAX {
            return Err(UpstreamError::Malformed { message: "the answer goes on after its end".into() });
        }
        tail.extend_from_slice(&bytes);
        Ok(Bytes::new())
    }

    /// Breaks off a stream that never ends, and notes now and then what a running one delivered.
    fn watch_the_time(&mut self) -> Result<(), UpstreamError> {
        let elapsed = self.open.elapsed();
        let config = &self.open.gateway.config;
        if elapsed > config.hold_max {
            return Err(self.too_late());
        }
        if elapsed >= self.checkpoint_due {
            self.checkpoint_due = elapsed + config.checkpoint_every;
            self.open.checkpoint();
        }
        Ok(())
    }

    fn too_late(&self) -> UpstreamError {
        UpstreamError::Timeout { after: self.open.gateway.config.hold_max }
    }

    fn hold_back(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Running { events } => State::Finishing { events, tail: BytesMut::new() },
            other => other,
        };
    }

    /// Another choice goes on: what was kept leaves before `bytes`.
    fn let_go(&mut self, bytes: Bytes) -> Bytes {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Finishing { events, mut tail } => {
                self.state = State::Running { events };
                tail.extend_from_slice(&bytes);
                tail.freeze()
            }
            other => {
                self.state = other;
                bytes
            }
        }
    }

    fn settle(&mut self) -> Result<(), GatewayError> {
        let mut tail = match std::mem::replace(&mut self.state, State::Ended) {
            State::Finishing { tail, .. } => tail,
            _ => BytesMut::new(),
        };
        let committed = self.open.close(Ending::Complete)?.committed;
        tail.extend_from_slice(&self.finish_filters());
        let committed = if self.open.gateway.config.ack_settle { committed } else { Commit::done() };
        self.state = State::Settled { committed, tail: tail.freeze() };
        Ok(())
    }

    /// What the hooks kept back; what one of them gives out still passes the later ones.
    fn finish_filters(&mut self) -> Bytes {
        self.filters.iter_mut().fold(Bytes::new(), |kept, filter| {
            let passed = if kept.is_empty() { kept } else { filter.event(kept) };
            let mut out = BytesMut::from(&passed[..]);
            out.extend_from_slice(&filter.finish());
            out.freeze()
        })
    }

    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, GatewayError>>> {
        let State::Settled { committed, tail } = &mut self.state else { return Poll::Ready(None) };
        let outcome = std::task::ready!(Pin::new(committed).poll(context));
        let tail = std::mem::take(tail);
        self.state = State::Ended;
        match outcome {
            Ok(()) if tail.is_empty() => Poll::Ready(None),
            Ok(()) => Poll::Ready(Some(Ok(tail))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    /// The upstream broke off: what was delivered is charged, and the client hears of it.
    fn break_off(&mut self, mut error: UpstreamError) -> GatewayError {
        self.state = State::Ended;
        if let UpstreamError::InStream { frame: Some(frame), .. } = &mut error {
            *frame = self.open.sealed(std::mem::take(frame));
        }
        self.open.close_failed(&error);
        GatewayError::Upstream { error: Box::new(error), attempts: std::mem::take(&mut self.open.attempts) }
    }
}

impl Stream for AnswerStream {
    type Item = Result<Bytes, GatewayError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.asked = true;
        self.poll_running(context)
    }
}

/// A caller who goes away before the first event is asked for: it had arrived, and the provider charges for it.
impl Drop for AnswerStream {
    fn drop(&mut self) {
        let State::Running { events } = &mut self.state else { return };
        if !self.asked
            && let Some(Some(Ok(first))) = events.next().now_or_never()
        {
            self.open.note(first.report);
        }
    }
}
