//! Images and speech of Google's models, for callers of OpenAI's (providers.md §7.6).
//!
//! Google makes both in answers of a conversation: one image at a time, and sound as bare samples, of which a WAV file is
//! made. What a model made is told from what it thought by its own count.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::{Call, Operation, Usage};
use cfr_core::upstream::{Capabilities, Order, Rejection, Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::place::Place;
use super::{error, usage};
use crate::adapter::{Adapter, StreamDecoder};
use crate::dialog::Drops;
use crate::no_stream::NoStream;
use crate::transport::WireRequest;

mod images;
mod speech;

/// Google's images and speech at one of its hosts.
#[derive(Debug, Clone)]
pub(super) struct Media {
    place: Arc<Place>,
}

impl Media {
    pub(super) fn new(place: &Arc<Place>) -> Self {
        Self { place: Arc::clone(place) }
    }
}

impl Adapter for Media {
    fn name(&self) -> &'static str {
        self.place.site.name()
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        if order.call.envelope.stream {
            return Err(UpstreamError::Unsupported { message: "stream: Google makes images and sound whole".into() });
        }
        let mut drops = Drops::new(order.call.drop_params);
        let body = match order.call.operation {
            Operation::Speech => speech::body(order.call, &mut drops)?,
            _ => images::body(order.call, &mut drops)?,
        };
        let request = self.place.generate(order.model, false, body.to_string().into())?;
        Ok(WireRequest { dropped: drops.into_names(), ..request })
    }

    fn decode(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let answer = Answer::read(headers, &body)?;
        match call.operation {
            Operation::Speech => speech::reply(call, &answer),
            _ => images::reply(call, &answer),
        }
    }

    fn decode_error(&self, _call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body, false)
    }

    fn stream_decoder(&self, _call: &Call) -> Box<dyn StreamDecoder> {
        Box::new(NoStream("images or sound"))
    }

    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        self.decode(call, headers, body)
    }
}

/// What an answer holds that is not words.
struct Answer {
    made: Vec<Inline>,
    usage: Option<Usage>,
    service_tier: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAnswer<'a> {
    #[serde(default)]
    candidates: Vec<Candidate>,
    #[serde(borrow, default)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(default)]
    prompt_feedback: Option<Value>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(default)]
    inline_data: Option<Inline>,
    /// Drafts of an image are shown among the thoughts.
    #[serde(default)]
    thought: bool,
}

/// Bytes that stand in an answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inline {
    mime_type: String,
    data: String,
}

impl Answer {
    fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, UpstreamError> {
        let wire = crate::json::parse::<WireAnswer<'_>>(body)
            .map_err(|cause| UpstreamError::Malformed { message: format!("not an answer: {cause}").into() })?;
        if wire.error.is_some() {
            return Err(error::read_in_success(headers, body, false));
        }
        let reason = wire.candidates.iter().find_map(|candidate| candidate.finish_reason.clone());
        let parts =
            wire.candidates.into_iter().filter_map(|candidate| candidate.content).flat_map(|content| content.parts);
        let made: Vec<Inline> = parts.filter(|part| !part.thought).filter_map(|part| part.inline_data).collect();
        if made.is_empty() {
            return Err(refusal(reason, wire.prompt_feedback));
        }
        let reported = wire.usage_metadata.and_then(usage::read);
        let (usage, tier) = reported.map(|reported| (reported.usage, reported.service_tier)).unzip();
        Ok(Self { made, usage, service_tier: tier.flatten().map(Into::into) })
    }

    fn report(&self, usage: Option<Usage>) -> Report {
        Report { usage, service_tier: self.service_tier.clone(), ..Report::default() }
    }
}

/// Google answers with success where a filter held back what was made.
fn refusal(reason: Option<String>, feedback: Option<Value>) -> UpstreamError {
    let blocked = feedback.and_then(|feedback| feedback["blockReason"].as_str().map(str::to_owned));
    let message = blocked.or(reason).unwrap_or_else(|| "no reason given".to_owned());
    UpstreamError::Rejected {
        status: StatusCode::BAD_REQUEST,
        kind: Rejection::ContentPolicy,
        message: format!("the model made nothing: {message}").into(),
        body: None,
    }
}

fn whole(content_type: HeaderValue, body: Bytes, report: Report) -> WholeReply {
    WholeReply { content_type, body, report, upstream_id: None, dropped: Vec::new() }
}
