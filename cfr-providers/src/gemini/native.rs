//! Clients of Google's dialect at Google: bytes stay bytes, and what we want to know is read from the side.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::Call;
use cfr_core::chat::envelope::{CapField, Edit, splice};
use cfr_core::upstream::{Capabilities, Order, Report, TokenCount, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::finish::{self, Said};
use super::place::{Place, bare};
use super::request::NOT_GOOGLES;
use super::stream::Progress;
use super::surface::seal;
use super::usage::Tally;
use super::wire::{Candidate, Part, Response, str_of};
use super::{answer, count, error};
use crate::adapter::{Adapter, Forward, StreamDecoder, WireEvent};
use crate::transport::WireRequest;

/// Google's dialect for those who speak it.
#[derive(Debug, Clone)]
pub(super) struct Native {
    place: Arc<Place>,
}

impl Native {
    pub(super) fn new(place: &Arc<Place>) -> Self {
        Self { place: Arc::clone(place) }
    }
}

impl Adapter for Native {
    fn name(&self) -> &'static str {
        self.place.site.name()
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        self.place.generate(order.model, order.call.envelope.stream, body(order))
    }

    fn decode(&self, _call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let report = report(headers, &answer::parse(headers, &body, true)?);
        let content_type = headers.get(header::CONTENT_TYPE).cloned();
        let content_type = content_type.unwrap_or_else(|| HeaderValue::from_static("application/json"));
        Ok(WholeReply { content_type, body, report, upstream_id: None, dropped: Vec::new() })
    }

    fn decode_error(&self, _call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body, true)
    }

    fn stream_decoder(&self, _call: &Call) -> Box<dyn StreamDecoder> {
        Box::new(Watcher::default())
    }

    /// A complete answer is a stream of one chunk, but for the line breaks in it.
    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let reply = self.decode(call, headers, body)?;
        let value: Value = serde_json::from_slice(&reply.body)
            .map_err(|cause| UpstreamError::Malformed { message: cause.to_string().into() })?;
        let mut frame = BytesMut::with_capacity(reply.body.len());
        frame.extend_from_slice(b"data: ");
        frame.extend_from_slice(value.to_string().as_bytes());
        frame.extend_from_slice(b"\r\n\r\n");
        Ok(WholeReply { content_type: HeaderValue::from_static("text/event-stream"), body: frame.freeze(), ..reply })
    }

    fn encode_count(&self, order: &Order<'_>) -> Result<Option<WireRequest>, UpstreamError> {
        count::of_body(&self.place, &body(order), order.model).map(Some)
    }

    fn decode_count(&self, _: &Call, _: &HeaderMap, body: Bytes) -> Result<TokenCount, UpstreamError> {
        Ok(TokenCount { tokens: count::counted(&body)?, body: Some(body) })
    }
}

/// The caller's bytes with our cap, the model's name where the body says one too, and without signatures that we made
/// up for another provider's.
fn body(order: &Order<'_>) -> Bytes {
    let (envelope, body) = (&order.call.envelope, &order.call.body);
    let model = Value::from(format!("models/{}", bare(order.model))).to_string();
    let cap = order.output_tokens_max.map(|tokens| tokens.to_string());
    let replace = |span, json| Edit::Replace { span, json };
    let mut edits = Vec::new();
    let named = envelope.model_span.clone().filter(|_| order.model != &*envelope.model);
    edits.extend(named.map(|span| replace(span, model.as_bytes().into())));
    edits.extend(cap.as_ref().and_then(|json| cap_edit(order, json.as_bytes())));
    edits.extend(seal::foreign_spans(body).map(|span| replace(span, NOT_GOOGLES.as_bytes().into())));
    splice(body, &edits)
}

/// Our cap where the caller set none or a higher one.
fn cap_edit<'a>(order: &Order<'_>, json: &'a [u8]) -> Option<Edit<'a>> {
    let envelope = &order.call.envelope;
    match &envelope.output_cap {
        None => Some(envelope.cap_edit(CapField::GenerationConfig, json)),
        Some(caller) if order.output_tokens_max.is_some_and(|ours| ours < caller.tokens) => {
            Some(Edit::Replace { span: caller.span.clone(), json: json.into() })
        }
        Some(_) => None,
    }
}

fn report(headers: &HeaderMap, response: &Response<'_>) -> Report {
    let model = str_of(response.model_version.as_ref());
    let (usage, service_tier) = answer::used(headers, response);
    let (mut finish, mut output_bytes) = (answer::blocked(response).map(|choice| choice.finish), 0);
    for candidate in response.candidates() {
        let mut seen = Seen::default();
        output_bytes += seen.add(candidate);
        finish = Some(finish::read(candidate.finish_reason().unwrap_or("STOP"), seen.said));
    }
    Report {
        usage,
        output_bytes,
        finish,
        model: (!model.is_empty()).then(|| model.into()),
        service_tier: service_tier.map(Into::into),
        ..Report::default()
    }
}

/// What one answer said so far.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    said: Said,
}

impl Seen {
    /// Takes a piece in; returns its visible bytes.
    fn add(&mut self, candidate: &Candidate<'_>) -> u64 {
        let parts = candidate.parts();
        self.said.something |= !parts.is_empty();
        self.said.calls |= parts.iter().any(|part| part.function_call.is_some());
        parts.iter().map(Part::visible_bytes).sum()
    }
}

/// Watches one stream.
#[derive(Debug, Default)]
struct Watcher {
    progress: Progress,
    tally: Tally,
    seen: Vec<(u32, Seen)>,
    told_model: bool,
    told_tier: bool,
}

impl Watcher {
    fn chunk(&mut self, data: &[u8], report: &mut Report) -> Result<Forward, UpstreamError> {
        let chunk = crate::json::parse::<Response<'_>>(data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("a chunk is not JSON: {cause}").into() })?;
        self.tell_usage(&chunk, report);
        if chunk.error.is_some() {
            return Err(self.failure(data));
        }
        for candidate in chunk.candidates() {
            self.candidate(candidate, report);
        }
        if !self.progress.has_begun()
            && let Some(choice) = answer::blocked(&chunk)
        {
            self.progress.block();
            report.finish = Some(choice.finish);
        }
        Ok(Forward::AsIs)
    }

    /// An error before the answer began is as good as an error status: another target may still answer.
    fn failure(&self, data: &[u8]) -> UpstreamError {
        if self.progress.has_begun() {
            return error::in_stream(data, true);
        }
        error::read_in_success(&HeaderMap::new(), &Bytes::copy_from_slice(data), true)
    }

    fn tell_usage(&mut self, chunk: &Response<'_>, report: &mut Report) {
        let model = str_of(chunk.model_version.as_ref());
        if !self.told_model && !model.is_empty() {
            self.told_model = true;
            report.model = Some(model.into());
        }
        report.usage = self.tally.note(chunk).or(report.usage);
        if !self.told_tier {
            report.service_tier = self.tally.service_tier.as_deref().map(Into::into);
            self.told_tier = report.service_tier.is_some();
        }
    }

    fn candidate(&mut self, candidate: &Candidate<'_>, report: &mut Report) {
        self.progress.note(candidate);
        let index = candidate.index.unwrap_or(0);
        let at = self.seen.iter().position(|(known, _)| *known == index).unwrap_or_else(|| {
            self.seen.push((index, Seen::default()));
            self.seen.len() - 1
        });
        let Some((_, seen)) = self.seen.get_mut(at) else { return };
        report.output_bytes += seen.add(candidate);
        if let Some(word) = candidate.finish_reason() {
            report.finish = Some(finish::read(word, seen.said));
        }
    }
}

impl StreamDecoder for Watcher {
    fn feed(&mut self, event: &WireEvent<'_>, report: &mut Report) -> Result<Forward, UpstreamError> {
        match event.data.trim_ascii() {
            b"" => Ok(Forward::Nothing),
            data => self.chunk(data, report),
        }
    }

    /// Never before the wire ends: usage may follow a finish reason.
    fn is_done(&self) -> bool {
        false
    }

    fn finish(&mut self, _: &mut Report) -> Result<Bytes, UpstreamError> {
        self.progress.ended().map(|()| Bytes::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemini::tests::{call, order};

    fn sent(body: &str, model: &str, cap: Option<u64>) -> String {
        let call = call("m", false, body);
        let mut order = order(&call);
        (order.model, order.output_tokens_max) = (model, cap);
        String::from_utf8(super::body(&order).to_vec()).expect("text")
    }

    #[test]
    fn without_a_reason_no_byte_changes() {
        let body =
            r#"{ "contents" : [{"parts":[{"text":"a"}]}], "new": 1.50, "generationConfig":{"maxOutputTokens":5} }"#;
        assert_eq!(sent(body, "other", None), body);
        assert_eq!(sent(body, "other", Some(7)), body);
    }

    #[test]
    fn our_cap_stands_in_the_generation_config() {
        let contents = r#""contents":[{"parts":[{"text":"a"}]}]"#;
        let capped = sent(&format!("{{{contents}}}"), "m", Some(7));
        assert_eq!(capped, format!(r#"{{"generationConfig":{{"maxOutputTokens":7}},{contents}}}"#));
        let lowered = sent(&format!(r#"{{{contents},"generationConfig":{{"maxOutputTokens":9}}}}"#), "m", Some(7));
        assert_eq!(lowered, format!(r#"{{{contents},"generationConfig":{{"maxOutputTokens":7}}}}"#));
    }

    #[test]
    fn signatures_of_other_providers_are_not_shown_to_google() {
        let foreign = seal::opaque(&crate::dialog::Seal::Anthropic("sig".into()));
        let body = |signature: &str| {
            let part = format!(r#"{{"functionCall":{{"name":"f","args":{{}}}},"thoughtSignature":"{signature}"}}"#);
            format!(r#"{{"contents":[{{"role":"model","parts":[{part}]}}]}}"#)
        };
        assert_eq!(sent(&body(&foreign), "m", None), body(NOT_GOOGLES));
        assert_eq!(sent(&body("Z29vZ2xl"), "m", None), body("Z29vZ2xl"));
    }
}
