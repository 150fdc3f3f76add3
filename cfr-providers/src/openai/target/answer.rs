//! From a chat completion to an answer.

use bytes::Bytes;
use cfr_core::upstream::{FinishReason, UpstreamError};
use http::HeaderMap;
use serde_json::Value;

use super::said::{self, Completion, Words};
use crate::dialog::{Answer, Choice, Citation, Part, Text, Thought, ToolCall};
use crate::openai::quirks::Quirks;
use crate::openai::{decode, error};

/// The meaning of a complete answer.
pub(super) fn read(quirks: &Quirks, headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
    let completion: Completion<'_> =
        serde_json::from_slice(body).map_err(|cause| decode::malformed(headers, &cause))?;
    if completion.error.is_some() && completion.choices.is_none() {
        return Err(super::without_body(error::read_in_success(headers, body)));
    }
    let choices = completion.choices.as_deref().unwrap_or_default();
    if choices.is_empty() {
        return Err(UpstreamError::Malformed { message: "the answer has no content".into() });
    }
    let (usage, cost) = completion.usage(quirks);
    let id = completion.id.text().unwrap_or_default().to_owned();
    let mut choices: Vec<Choice> = (0..).zip(choices).map(|(index, one)| choice(&id, index, one)).collect();
    choices.iter_mut().for_each(|choice| cite(&mut choice.parts, completion.sources()));
    let model = completion.model.text().unwrap_or_default().to_owned();
    let service_tier = completion.service_tier.text().map(str::to_owned);
    Ok(Answer { id, model, choices, usage, cost, service_tier, geo: None })
}

fn choice(answer: &str, index: u32, choice: &Value) -> Choice {
    let said = &choice["message"];
    let mut parts: Vec<Part> = said::words(said).into_iter().map(part).collect();
    cite(&mut parts, said::citations(said));
    parts.extend(said::images(said).map(Part::Image));
    let calls = said::calls(said).enumerate();
    let calls: Vec<Part> = calls.filter_map(|(at, call)| tool_call(answer, index, at, call)).collect();
    let finish = said::finish(choice, !calls.is_empty()).unwrap_or(FinishReason::Stop);
    parts.extend(calls);
    let logprobs = Some(choice["logprobs"].clone()).filter(|logprobs| !logprobs.is_null());
    Choice { parts, finish, stop_sequence: None, logprobs }
}

fn part(words: Words) -> Part {
    match words {
        Words::Thought(text) => Part::Thought(Thought { text, seal: None }),
        Words::Text(text) => Part::text(text),
        Words::Refusal(words) => Part::Refusal(words),
    }
}

/// Citations count characters from the beginning of all text, which stands in one part.
fn cite(parts: &mut [Part], sources: impl Iterator<Item = Citation>) {
    let text = parts.iter_mut().rev().find_map(|part| match part {
        Part::Text(Text { citations, .. }) => Some(citations),
        _ => None,
    });
    if let Some(citations) = text {
        citations.extend(sources);
    }
}

fn tool_call(answer: &str, choice: u32, at: usize, call: said::Call) -> Option<Part> {
    let id = call.id.unwrap_or_else(|| said::made_id(answer, choice, at));
    let arguments = match call.arguments {
        none if none.trim().is_empty() && !call.custom => "{}".to_owned(),
        arguments => arguments,
    };
    Some(Part::ToolCall(ToolCall { id, name: call.name?, arguments, custom: call.custom, seal: None, cache: None }))
}
