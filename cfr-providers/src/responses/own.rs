//! Clients of Responses at a host that speaks it: bytes stay bytes, and what we want to know is read from the side.

use bytes::{Bytes, BytesMut};
use cfr_core::chat::Call;
use cfr_core::upstream::{Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, header};
use serde_json::value::RawValue;

use super::wire::{Event, Response, event_error, failure, parse};
use super::{RESPONSES_SURFACE, answer, usage};
use crate::adapter::{Forward, StreamDecoder, WireEvent};
use crate::dialog::Surface;
use crate::openai::visible::Visible;
use crate::openai::{Quirks, decode, error};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The meaning of a complete response.
pub(crate) fn whole(quirks: &Quirks, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
    let response: Response<'_> = serde_json::from_slice(&body).map_err(|cause| decode::malformed(headers, &cause))?;
    let mut report = Report::default();
    tell(quirks, &response, &mut report);
    let Some(items) = response.items() else {
        return Err(match response.error.is_some() {
            true => error::read_in_success(headers, &body),
            false => UpstreamError::Malformed { message: "the answer has no output".into() },
        });
    };
    if let Some(failure) = response.failure().filter(|_| report.usage.is_none()) {
        return Err(failure); // what was used must be settled, so only a failure without usage is an error
    }
    report.output_bytes = items.into_iter().map(visible).sum();
    let content_type = headers.get(header::CONTENT_TYPE).cloned().unwrap_or(JSON);
    Ok(WholeReply { content_type, report, upstream_id: None, body, dropped: Vec::new() })
}

/// The events of a stream that says what a complete response says.
pub(crate) fn stream_of_whole(
    quirks: &Quirks,
    call: &Call,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<WholeReply, UpstreamError> {
    let whole = whole(quirks, headers, body)?;
    let answer = answer::read(quirks, headers, &whole.body)?;
    let (mut writer, mut out) = (RESPONSES_SURFACE.stream(call), BytesMut::new());
    answer.into_pieces().into_iter().for_each(|piece| writer.write(piece, &mut out));
    writer.end(&mut out);
    Ok(WholeReply { content_type: EVENT_STREAM, body: out.freeze(), ..whole })
}

/// What a response says of itself, its output apart.
fn tell(quirks: &Quirks, response: &Response<'_>, report: &mut Report) {
    report.model = response.model.boxed().or(report.model.take());
    report.service_tier = response.service_tier.boxed().or(report.service_tier.take());
    report.finish = response.finish().or(report.finish.take());
    if response.is_kept() {
        report.kept_as = response.id.boxed().or(report.kept_as.take());
    }
    let (usage, cost) = usage::read(quirks, response);
    report.usage = usage.or(report.usage);
    report.provider_cost = cost.or(report.provider_cost);
}

/// Watches one stream.
#[derive(Debug)]
pub(crate) struct EventDecoder {
    quirks: &'static Quirks,
    begun: bool,
    done: bool,
}

impl EventDecoder {
    pub(crate) const fn new(quirks: &'static Quirks) -> Self {
        Self { quirks, begun: false, done: false }
    }

    fn event(&mut self, name: &[u8], data: &[u8], report: &mut Report) -> Result<Forward, UpstreamError> {
        let event: Event<'_> = serde_json::from_slice(data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("an event is not JSON: {cause}").into() })?;
        let kind = event.kind.text().unwrap_or_default();
        let fails = matches!(kind, "response.failed" | "error");
        if fails && !self.begun {
            return Err(self.failed(name, &event, data)); // and says nothing of an answer, which another may still give
        }
        if let Some(response) = event.response.and_then(parse::<Response<'_>>) {
            tell(self.quirks, &response, report);
        }
        match kind {
            "response.completed" | "response.incomplete" => self.done = true,
            _ if fails => return Err(self.failed(name, &event, data)),
            "response.output_item.added" => report.output_bytes += event.item.map_or(0, visible),
            kind if shows(kind) => report.output_bytes += event.delta.text().map_or(0, |text| text.len() as u64),
            _ => {}
        }
        self.begun = true;
        Ok(Forward::AsIs)
    }

    /// A failure as the first event is as good as an error status: another target may still answer.
    fn failed(&self, name: &[u8], event: &Event<'_>, data: &[u8]) -> UpstreamError {
        let response = event.response.and_then(parse::<Response<'_>>);
        let failure = match response.and_then(|response| response.failure()) {
            Some(failure) => failure,
            None => failure(&event_error(data)),
        };
        if !self.begun {
            return failure;
        }
        let frame: Bytes = [b"event: ", name, b"\ndata: ", data, b"\n\n"].concat().into();
        match error::within(&failure) {
            UpstreamError::InStream { message, .. } => UpstreamError::InStream { message, frame: Some(frame) },
            other => other,
        }
    }
}

fn visible(item: &RawValue) -> u64 {
    parse::<Visible>(item).map_or(0, |visible| visible.0)
}

/// Whether the delta of such an event is something that the caller sees.
fn shows(kind: &str) -> bool {
    matches!(
        kind,
        "response.output_text.delta"
            | "response.refusal.delta"
            | "response.reasoning_summary_text.delta"
            | "response.reasoning_text.delta"
            | "response.function_call_arguments.delta"
            | "response.custom_tool_call_input.delta"
    )
}

impl StreamDecoder for EventDecoder {
    fn feed(&mut self, event: &WireEvent<'_>, report: &mut Report) -> Result<Forward, UpstreamError> {
        match event.data.trim_ascii() {
            // Anything after the end would only confuse the caller; some hosts add the end of chat completions.
            _ if self.done => Ok(Forward::Nothing),
            b"" | b"[DONE]" => Ok(Forward::Nothing),
            data => self.event(&event.name, data, report),
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&mut self, _: &mut Report) -> Result<Bytes, UpstreamError> {
        if self.done {
            return Ok(Bytes::new());
        }
        Err(UpstreamError::Truncated { message: "the stream ended before the response did".into() })
    }
}
