//! Complete answers: handed on untouched, read from the side.

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::error;
use super::quirks::Quirks;
use super::usage;
use super::wire::{self, Answer};

/// The meaning of a complete answer.
pub(super) fn whole(
    quirks: &Quirks,
    call: &Call,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<WholeReply, UpstreamError> {
    let answer = crate::json::parse::<Answer<'_>>(&body).map_err(|cause| malformed(headers, &cause))?;
    if answer.error.is_some() && answer.choices.is_none() {
        return Err(error::read_in_success(headers, &body));
    }
    if !has_content(call.operation, &answer) {
        return Err(UpstreamError::Malformed { message: "the answer has no content".into() });
    }
    let report = report(quirks, call.operation, &answer);
    let content_type = headers.get(header::CONTENT_TYPE).cloned();
    let content_type = content_type.unwrap_or_else(|| HeaderValue::from_static("application/json"));
    Ok(WholeReply { content_type, report, upstream_id: None, body, dropped: Vec::new() })
}

pub(crate) fn malformed(headers: &HeaderMap, cause: &serde_json::Error) -> UpstreamError {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no type");
    UpstreamError::Malformed { message: format!("not an answer in JSON ({content_type}): {cause}").into() }
}

fn has_content(operation: Operation, answer: &Answer<'_>) -> bool {
    match operation {
        Operation::Embeddings => answer.data.is_some(),
        _ => answer.choices.as_ref().is_some_and(|choices| choices.count > 0),
    }
}

/// What a complete answer says of itself; nothing where it cannot be read.
pub(super) fn report_of(quirks: &Quirks, operation: Operation, body: &Bytes) -> Report {
    let answer = crate::json::parse::<Answer<'_>>(body);
    answer.map(|answer| report(quirks, operation, &answer)).unwrap_or_default()
}

fn report(quirks: &Quirks, operation: Operation, answer: &Answer<'_>) -> Report {
    let (usage, provider_cost) = answer.usage().and_then(|raw| usage::read(quirks, operation, raw)).unzip();
    let choices = answer.choices.as_ref();
    Report {
        usage,
        provider_cost: provider_cost.flatten(),
        output_bytes: choices.map_or(0, |choices| choices.visible_bytes),
        output_audio_tokens: 0,
        finish: choices.and_then(|choices| choices.finish.as_deref()).map(wire::finish_reason),
        model: answer.model.boxed(),
        service_tier: answer.service_tier.boxed(),
        geo: None,
        kept_as: None,
    }
}

/// The status that an error under a success status stands for.
pub(super) const ERROR_IN_SUCCESS: StatusCode = StatusCode::BAD_GATEWAY;
