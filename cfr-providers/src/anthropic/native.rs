//! Clients of Anthropic's own dialect: bytes stay bytes, and what we want to know is read from the side.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::envelope::{CapField, Edit, splice};
use cfr_core::chat::{Call, Envelope, Operation};
use cfr_core::upstream::{Capabilities, Order, Report, TokenCount, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::Hosting;
use super::stream::{self, Progress};
use super::surface::{MESSAGES_SURFACE, strip_foreign};
use super::usage::WireUsage;
use super::wire::{self, Block, Delta, Event, Message};
use super::{CAPABILITIES, answer, count, error, models};
use crate::adapter::{Adapter, Forward, StreamDecoder, WireEvent};
use crate::dialog::Surface;
use crate::transport::{BadAddress, Endpoint, WireRequest, event_headers, path_segment};

const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const VERSION_VALUE: HeaderValue = HeaderValue::from_static("2023-06-01");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// The least that a model can be given to think, and the least that must be left for its answer.
const BUDGET_MIN: u64 = 1_024;
const NO_THINKING: &[u8] = br#"{"type":"disabled"}"#;
/// The frame that ends a stream.
const STOP_FRAME: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// Serves clients of the Messages dialect by handing their bytes on.
#[derive(Debug, Clone)]
pub struct Native {
    hosting: Hosting,
    headers: HeaderMap,
    messages: Arc<Endpoint>,
    tokens: Arc<Endpoint>,
}

impl Native {
    pub(super) fn new(base_url: &str) -> Result<Self, BadAddress> {
        let base = base_url.trim_end_matches('/').trim_end_matches("/v1");
        let mut headers = event_headers();
        headers.insert(VERSION, VERSION_VALUE);
        Ok(Self {
            hosting: Hosting::Anthropic,
            headers,
            messages: Endpoint::below(base, "/v1/messages").map(Arc::new)?,
            tokens: Endpoint::below(base, "/v1/messages/count_tokens").map(Arc::new)?,
        })
    }

    pub(super) fn on_vertex(publisher: &Endpoint) -> Result<Self, BadAddress> {
        Ok(Self {
            hosting: Hosting::Vertex,
            headers: event_headers(),
            messages: publisher.join("/models").map(Arc::new)?,
            tokens: publisher.join("/models/count-tokens:rawPredict").map(Arc::new)?,
        })
    }

    pub(super) fn with_betas(mut self, betas: HeaderValue) -> Self {
        self.headers.insert(BETA, betas);
        self
    }

    pub(super) const fn hosting(&self) -> Hosting {
        self.hosting
    }

    /// The request with this body.
    pub(super) fn request(&self, model: &str, stream: bool, body: Bytes) -> Result<WireRequest, UpstreamError> {
        Ok(self.to(self.endpoint(model, stream)?, body))
    }

    /// The request that has the tokens of this body counted.
    pub(super) fn token_request(&self, body: Bytes) -> WireRequest {
        self.to(Arc::clone(&self.tokens), body)
    }

    /// The request in the version of the dialect that the caller speaks, with the features in trial that they ask for.
    fn as_wished(&self, call: &Call, mut request: WireRequest) -> Result<WireRequest, UpstreamError> {
        if let Some(betas) = &call.betas {
            request.headers.insert(BETA, joined(self.headers.get(BETA), betas)?);
        }
        if let (Some(version), None) = (&call.dialect_version, self.hosting.version_in_body()) {
            let unsupported = |_| UpstreamError::Unsupported { message: "anthropic-version".into() };
            request.headers.insert(VERSION, HeaderValue::from_str(version).map_err(unsupported)?);
        }
        Ok(request)
    }

    fn to(&self, endpoint: Arc<Endpoint>, body: Bytes) -> WireRequest {
        WireRequest { endpoint, headers: self.headers.clone(), body, dropped: Vec::new() }
    }

    fn endpoint(&self, model: &str, stream: bool) -> Result<Arc<Endpoint>, UpstreamError> {
        if self.hosting.version_in_body().is_none() {
            return Ok(Arc::clone(&self.messages));
        }
        let verb = if stream { "streamRawPredict" } else { "rawPredict" };
        let joined = self.messages.join(&format!("/{}:{verb}", path_segment(model)));
        let unsupported = |_| UpstreamError::Unsupported { message: format!("model `{model}`").into() };
        joined.map(Arc::new).map_err(unsupported)
    }
}

/// The operator's features in trial, and the caller's.
fn joined(ours: Option<&HeaderValue>, callers: &str) -> Result<HeaderValue, UpstreamError> {
    let ours = ours.and_then(|ours| ours.to_str().ok());
    let both = ours.map_or_else(|| Cow::Borrowed(callers), |ours| format!("{ours},{callers}").into());
    HeaderValue::from_str(&both).map_err(|_| UpstreamError::Unsupported { message: "anthropic-beta".into() })
}

impl Adapter for Native {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        let body = body(self.hosting, order)?;
        self.as_wished(order.call, self.request(order.model, order.call.envelope.stream, body)?)
    }

    fn decode(&self, _: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let report = report(&answer::message(headers, &body)?);
        let content_type = headers.get(header::CONTENT_TYPE).cloned();
        let content_type = content_type.unwrap_or_else(|| HeaderValue::from_static("application/json"));
        Ok(WholeReply { content_type, body, report, upstream_id: None, dropped: Vec::new() })
    }

    fn decode_error(&self, _: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }

    fn stream_decoder(&self, _: &Call) -> Box<dyn StreamDecoder> {
        Box::new(Watcher::default())
    }

    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let answer = answer::read(headers, &body)?;
        let report = report(&answer::message(headers, &body)?);
        let (mut writer, mut out) = (MESSAGES_SURFACE.stream(call), BytesMut::new());
        answer.into_pieces().into_iter().for_each(|piece| writer.write(piece, &mut out));
        writer.end(&mut out);
        let content_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
        Ok(WholeReply { content_type, body: out.freeze(), report, upstream_id: None, dropped: Vec::new() })
    }

    fn encode_count(&self, order: &Order<'_>) -> Result<Option<WireRequest>, UpstreamError> {
        let request = count::of_body(self, order.model, &order.call.body)?;
        self.as_wished(order.call, request).map(Some)
    }

    fn decode_count(&self, _: &Call, headers: &HeaderMap, body: Bytes) -> Result<TokenCount, UpstreamError> {
        Ok(TokenCount { tokens: count::counted(headers, &body)?, body: Some(body) })
    }
}

/// The caller's bytes, changed only where the provider needs it.
fn body(hosting: Hosting, order: &Order<'_>) -> Result<Bytes, UpstreamError> {
    let call = order.call;
    let Some(stripped) = strip_foreign(&call.body) else {
        return edited(hosting, order, &call.envelope, &call.body);
    };
    // Thoughts of another provider's, which this one would refuse. Places have moved.
    let envelope = Envelope::parse(Operation::Messages, &stripped)
        .map_err(|error| UpstreamError::Unsupported { message: error.to_string().into() })?;
    edited(hosting, order, &envelope, &stripped)
}

fn edited(hosting: Hosting, order: &Order<'_>, envelope: &Envelope, body: &Bytes) -> Result<Bytes, UpstreamError> {
    let name = serde_json::Value::from(order.model).to_string();
    let cap = cap(order, envelope);
    let tokens = cap.map(|cap| cap.to_string());
    let mut edits: Vec<Edit<'_>> = model(hosting, order, envelope, body, &name).into_iter().collect();
    if let Some(json) = tokens.as_deref().map(str::as_bytes) {
        edits.push(match &envelope.output_cap {
            Some(caller) => Edit::Replace { span: caller.span.clone(), json: json.into() },
            None => envelope.cap_edit(CapField::MaxTokens, json),
        });
    }
    let budget = cap.and_then(|cap| budget(body, cap));
    for edit in envelope.hosted_edits().chain(budget) {
        edits.push(edit);
    }
    Ok(splice(body, &edits))
}

/// The model's own name, or in its place the version where the path names the model.
fn model<'a>(hosting: Hosting, order: &Order<'_>, envelope: &Envelope, body: &[u8], name: &'a str) -> Option<Edit<'a>> {
    let value = envelope.model_span.clone()?;
    match hosting.version_in_body() {
        None if order.model == &*envelope.model => None,
        None => Some(Edit::Replace { span: value, json: name.as_bytes().into() }),
        Some(version) => {
            let json = format!(r#""anthropic_version":"{version}""#).into_bytes();
            Some(Edit::Replace { span: name_start(body, value.start)?..value.end, json: json.into() })
        }
    }
}

/// Where the name of the field begins whose value begins at `value`.
fn name_start(body: &[u8], value: usize) -> Option<usize> {
    let before = body.get(..value)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    memchr::memrchr(b'"', before.strip_suffix(b"\"")?)
}

/// The cap to set: ours where the caller's is higher, and one in any case.
fn cap(order: &Order<'_>, envelope: &Envelope) -> Option<u64> {
    match (&envelope.output_cap, order.output_tokens_max) {
        (Some(caller), ours) => ours.filter(|ours| *ours < caller.tokens),
        (None, Some(ours)) => Some(ours),
        (None, None) => Some(models::rules(order.model).output_tokens_max),
    }
}

#[derive(Deserialize)]
struct ThinkingField<'a> {
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Budget<'a> {
    #[serde(borrow)]
    budget_tokens: &'a RawValue,
}

/// A number of tokens to think that our cap leaves no room for is lowered with it: the provider would refuse it.
fn budget(body: &Bytes, cap: u64) -> Option<Edit<'static>> {
    memchr::memmem::find(body, b"\"budget_tokens\"")?;
    let thinking = crate::json::parse::<ThinkingField<'_>>(body).ok()?.thinking?;
    let tokens = serde_json::from_str::<Budget<'_>>(thinking.get()).ok()?.budget_tokens;
    if tokens.get().parse::<u64>().ok()? < cap {
        return None;
    }
    let (span, json) = match cap.saturating_sub(BUDGET_MIN) {
        lower if lower >= BUDGET_MIN => (span_in(body, tokens), Cow::Owned(lower.to_string().into_bytes())),
        _ => (span_in(body, thinking), Cow::Borrowed(NO_THINKING)),
    };
    Some(Edit::Replace { span, json })
}

fn span_in(body: &Bytes, raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + raw.get().len()
}

fn report(message: &Message<'_>) -> Report {
    let usage = message.usage.and_then(WireUsage::read);
    Report {
        usage: usage.as_ref().and_then(WireUsage::buckets),
        output_bytes: message.content.iter().flatten().map(Block::visible_bytes).sum(),
        finish: message.stop_reason.text().map(wire::finish_reason),
        model: message.model.text().map(Box::from),
        service_tier: usage.as_ref().and_then(WireUsage::service_tier).map(Box::from),
        geo: usage.as_ref().and_then(WireUsage::geo).map(Box::from),
        ..Report::default()
    }
}

/// Watches one stream.
#[derive(Debug, Default)]
struct Watcher {
    progress: Progress,
}

impl Watcher {
    fn watch(&mut self, event: Event<'_>, report: &mut Report) {
        match &*event.kind {
            "message_start" => self.start(event.message.unwrap_or_default(), report),
            "content_block_start" => {
                report.output_bytes += event.content_block.map_or(0, |block| block.visible_bytes())
            }
            "content_block_delta" => report.output_bytes += event.delta.map_or(0, |delta| delta.visible_bytes()),
            "message_delta" => self.stop(event.usage, &event.delta.unwrap_or_default(), report),
            "message_stop" => self.progress.done = true,
            _ => {} // pings, and what is new
        }
    }

    fn start(&mut self, message: Message<'_>, report: &mut Report) {
        self.progress.begun = true;
        report.model = message.model.text().map(Box::from);
        self.usage(message.usage, report);
    }

    fn stop(&mut self, usage: Option<&RawValue>, delta: &Delta<'_>, report: &mut Report) {
        self.usage(usage, report);
        if let Some(reason) = delta.stop_reason.text() {
            self.progress.stopped = true;
            report.finish = Some(wire::finish_reason(reason));
        }
    }

    fn usage(&mut self, raw: Option<&RawValue>, report: &mut Report) {
        let Some(usage) = self.progress.usage(raw) else { return };
        report.usage = usage.buckets().or(report.usage);
        report.service_tier = usage.service_tier().map(Box::from).or(report.service_tier.take());
        report.geo = usage.geo().map(Box::from).or(report.geo.take());
    }
}

impl StreamDecoder for Watcher {
    fn feed(&mut self, event: &WireEvent<'_>, report: &mut Report) -> Result<Forward, UpstreamError> {
        // Anything after the end would only confuse the caller.
        if self.progress.done || event.data.trim_ascii().is_empty() {
            return Ok(Forward::Nothing);
        }
        let wire = stream::event(event)?;
        if wire.kind == "error" {
            return Err(self.progress.failure(&event.data));
        }
        self.watch(wire, report);
        Ok(Forward::AsIs)
    }

    fn is_done(&self) -> bool {
        self.progress.done
    }

    fn finish(&mut self, _: &mut Report) -> Result<Bytes, UpstreamError> {
        if self.progress.done {
            return Ok(Bytes::new());
        }
        self.progress.finish()?;
        Ok(Bytes::from_static(STOP_FRAME))
    }
}
