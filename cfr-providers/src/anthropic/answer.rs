//! Complete answers (providers.md §6.2, §13.4).

use bytes::Bytes;
use cfr_core::upstream::{FinishReason, UpstreamError};
use http::HeaderMap;

use super::error;
use super::usage::WireUsage;
use super::wire::{self, Block, Message, NO_INPUT, Text, WireCitation};
use crate::dialog::{self, Answer, Choice, Citation, Part, Seal, Thought, ToolCall};

/// What stands for the words of a refusal that has none.
pub(super) const REFUSED: &str = "refused";

/// The meaning of a complete answer.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
    let mut message = message(headers, body)?;
    let usage = message.usage.and_then(WireUsage::read);
    let stop = message.stop_reason.text();
    let refused = stop == Some("refusal");
    let parts: Vec<Part> = message.content.take().unwrap_or_default().into_iter().filter_map(part).collect();
    let parts = if refused { refusal(parts, &message) } else { parts };
    let choice = Choice {
        parts,
        finish: stop.map_or(FinishReason::Stop, wire::finish_reason),
        stop_sequence: message.stop_sequence.text().map(str::to_owned),
        logprobs: None,
    };
    Ok(Answer {
        id: message.id.text().unwrap_or_default().into(),
        model: message.model.text().unwrap_or_default().into(),
        choices: vec![choice],
        service_tier: usage.as_ref().and_then(WireUsage::service_tier).map(str::to_owned),
        geo: usage.as_ref().and_then(WireUsage::geo).map(str::to_owned),
        usage: usage.as_ref().and_then(WireUsage::buckets),
        cost: None,
    })
}

/// The answer as Anthropic words it.
pub(super) fn message<'a>(headers: &HeaderMap, body: &'a Bytes) -> Result<Message<'a>, UpstreamError> {
    let message: Message<'_> = crate::json::parse(body)
        .map_err(|cause| UpstreamError::Malformed { message: format!("not an answer in JSON: {cause}").into() })?;
    if message.error.is_some() && message.content.is_none() {
        return Err(error::in_success(headers, body));
    }
    if message.content.is_none() {
        return Err(UpstreamError::Malformed { message: "the answer has no content".into() });
    }
    Ok(message)
}

/// What is said in a refused answer is the refusal.
fn refusal(parts: Vec<Part>, message: &Message<'_>) -> Vec<Part> {
    let (words, mut rest): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| matches!(part, Part::Text(_)));
    let texts = words.into_iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.text),
        _ => None,
    });
    let said = texts.collect::<String>();
    let explained = || explanation(message.stop_details.as_ref()).unwrap_or_else(|| REFUSED.to_owned());
    rest.push(Part::Refusal(if said.is_empty() { explained() } else { said }));
    rest
}

pub(super) fn explanation(details: Option<&wire::StopDetails<'_>>) -> Option<String> {
    details?.explanation.as_ref().map(|text| text.0.clone().into_owned())
}

/// A block of content; blocks of the provider's own tools say nothing to callers of other dialects.
fn part(block: Block<'_>) -> Option<Part> {
    let text = |text: Option<Text<'_>>| text.map(|text| text.0.into_owned()).unwrap_or_default();
    Some(match &*block.kind {
        "text" => {
            let citations = block.citations.unwrap_or_default().into_iter().filter_map(citation).collect();
            Part::Text(dialog::Text { citations, ..dialog::Text::new(text(block.text)) })
        }
        "thinking" => {
            let proof = text(block.signature);
            let seal = Some(proof).filter(|proof| !proof.is_empty()).map(Seal::Anthropic);
            Part::Thought(Thought { text: text(block.thinking), seal })
        }
        "redacted_thinking" => {
            let seal = Some(Seal::AnthropicRedacted(text(block.data)));
            Part::Thought(Thought { text: String::new(), seal })
        }
        "tool_use" => Part::ToolCall(ToolCall {
            id: block.id.text()?.into(),
            name: block.name.text()?.into(),
            arguments: block.input.map_or(NO_INPUT, |input| input.get()).into(),
            custom: false,
            seal: None,
            cache: None,
        }),
        _ => return None,
    })
}

/// A citation of something that has an address.
pub(super) fn citation(citation: WireCitation<'_>) -> Option<Citation> {
    let url = citation.url.or(citation.source)?.0.into_owned();
    Some(Citation { url, title: citation.title.map(|title| title.0.into_owned()), start: None, end: None })
}
