//! Streamed answers: each chunk is read from the side and handed on as it came.

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Report, UpstreamError};
use http::HeaderMap;

use super::error;
use super::quirks::Quirks;
use super::usage;
use super::wire::{self, Answer, Choices};
use crate::adapter::{Forward, StreamDecoder, WireEvent};

const DONE: &[u8] = b"[DONE]";
const DONE_FRAME: &[u8] = b"data: [DONE]\n\n";

/// Watches one stream.
#[derive(Debug)]
pub(super) struct ChunkDecoder {
    quirks: &'static Quirks,
    operation: Operation,
    /// Whether the caller asked for the chunk that has usage and nothing else.
    wants_usage: bool,
    told: Told,
    /// Choices that occurred and that ended, as bits by index.
    seen: u128,
    finished: u128,
    done: bool,
}

/// What is the same in every chunk and is reported once.
#[derive(Debug, Default)]
struct Told {
    model: bool,
    service_tier: bool,
}

impl ChunkDecoder {
    pub(super) fn new(quirks: &'static Quirks, call: &Call) -> Self {
        let wants_usage = call.envelope.include_usage;
        let (operation, told) = (call.operation, Told::default());
        Self { quirks, operation, wants_usage, told, seen: 0, finished: 0, done: false }
    }

    fn chunk(&mut self, data: &[u8], report: &mut Report) -> Result<Forward, UpstreamError> {
        let chunk = crate::json::parse::<Answer<'_>>(data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("a chunk is not JSON: {cause}").into() })?;
        self.tell(&chunk, report);
        let usage = chunk.usage().and_then(|raw| usage::read(self.quirks, self.operation, raw));
        let has_usage = usage.is_some();
        if let Some((usage, cost)) = usage {
            report.usage = Some(usage);
            report.provider_cost = cost.or(report.provider_cost);
        }
        if chunk.error.is_some() {
            return Err(self.failure(data));
        }
        let empty = chunk.choices.as_ref().is_none_or(|choices| choices.count == 0);
        if let Some(choices) = chunk.choices {
            self.watch(&choices, report);
        }
        Ok(if empty && has_usage && !self.wants_usage { Forward::Nothing } else { Forward::AsIs })
    }

    /// An error before the answer began is as good as an error status: another target may still answer.
    fn failure(&self, data: &[u8]) -> UpstreamError {
        if self.seen == 0 {
            error::read_in_success(&HeaderMap::new(), &Bytes::copy_from_slice(data))
        } else {
            error::in_stream(data)
        }
    }

    fn watch(&mut self, choices: &Choices<'_>, report: &mut Report) {
        self.seen |= choices.seen;
        self.finished |= choices.finished;
        report.output_bytes += choices.visible_bytes;
        if let Some(reason) = &choices.finish {
            report.finish = Some(wire::finish_reason(reason));
        }
    }

    fn tell(&mut self, chunk: &Answer<'_>, report: &mut Report) {
        if !self.told.model {
            report.model = chunk.model.boxed();
            self.told.model = report.model.is_some();
        }
        if !self.told.service_tier {
            report.service_tier = chunk.service_tier.boxed();
            self.told.service_tier = report.service_tier.is_some();
        }
    }
}

impl StreamDecoder for ChunkDecoder {
    fn feed(&mut self, event: &WireEvent<'_>, report: &mut Report) -> Result<Forward, UpstreamError> {
        if *event.name == *b"error" {
            return Err(self.failure(&event.data));
        }
        match event.data.trim_ascii() {
            // A second end, or anything after the end, would only confuse the caller.
            _ if self.done => Ok(Forward::Nothing),
            b"" => Ok(Forward::Nothing),
            DONE if self.finished == 0 => Err(truncated("[DONE] came before a finish reason")),
            DONE => {
                self.done = true;
                Ok(Forward::AsIs)
            }
            data => self.chunk(data, report),
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    /// Without `[DONE]` the answer is complete when every choice that began has ended.
    fn finish(&mut self, _report: &mut Report) -> Result<Bytes, UpstreamError> {
        if self.done {
            return Ok(Bytes::new());
        }
        if self.finished == 0 || self.seen != self.finished {
            return Err(truncated("the stream ended before a finish reason"));
        }
        self.done = true;
        Ok(Bytes::from_static(DONE_FRAME))
    }
}

fn truncated(message: &str) -> UpstreamError {
    UpstreamError::Truncated { message: message.into() }
}
