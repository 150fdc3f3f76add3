//! From Cohere's answer to what it says (providers.md §11, §15).

use cfr_core::upstream::{FinishReason, UpstreamError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{citation, error, usage};
use crate::dialog::{Answer, Choice, Citation, Part, Thought, ToolCall};

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    id: String,
    #[serde(default)]
    finish_reason: Option<String>,
    message: Message,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    logprobs: Value,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Vec<Content>>,
    #[serde(default)]
    tool_plan: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<WireCall>>,
    #[serde(default)]
    citations: Option<Vec<Value>>,
}

/// Words or a thought; of what is neither there is nothing to hand on.
#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
}

/// A call of a tool; in a stream one that begins.
#[derive(Deserialize)]
pub(super) struct WireCall {
    pub(super) id: String,
    pub(super) function: WireFunction,
}

#[derive(Deserialize)]
pub(super) struct WireFunction {
    pub(super) name: String,
    #[serde(default)]
    pub(super) arguments: Option<String>,
}

/// The meaning of a complete answer. One that failed after it had begun is still an answer, so that what it used is
/// settled.
pub(super) fn read(body: &[u8]) -> Result<Answer, UpstreamError> {
    let reply: Reply = serde_json::from_slice(body)
        .map_err(|cause| UpstreamError::Malformed { message: format!("not an answer: {cause}").into() })?;
    let has_calls = reply.message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
    let finish = finish(reply.finish_reason.as_deref(), has_calls);
    let (usage, logprobs) = (usage::read(&reply.usage), logprobs(&reply.logprobs));
    let parts = reply.message.parts();
    let is_free = usage.map_or(parts.is_empty(), |usage| usage.is_zero());
    if finish == FinishReason::Error && is_free {
        let reason = reply.finish_reason.unwrap_or_default();
        return Err(error::at_first(&reason, reason.as_str().into()));
    }
    let choice = Choice { parts, finish, stop_sequence: None, logprobs };
    Ok(Answer { id: reply.id, choices: vec![choice], usage, ..Answer::default() })
}

impl Message {
    /// Thoughts, words and calls. What the model plans to do with tools is a thought.
    fn parts(self) -> Vec<Part> {
        let content = self.content.unwrap_or_default();
        let citations = cited(&self.citations.unwrap_or_default(), &content);
        let thought = |text| Part::Thought(Thought { text, seal: None });
        let mut parts: Vec<Part> = said(self.tool_plan).map(thought).into_iter().collect();
        for part in content {
            parts.extend(said(part.thinking).map(thought));
            parts.extend(said(part.text).map(Part::text));
        }
        let last = parts.iter_mut().rev().find_map(|part| match part {
            Part::Text(text) => Some(text),
            _ => None,
        });
        if let Some(text) = last {
            text.citations = citations;
        }
        parts.extend(self.tool_calls.unwrap_or_default().into_iter().map(|call| Part::ToolCall(call.read())));
        parts
    }
}

/// Citations with their places in all words of the answer.
fn cited(citations: &[Value], content: &[Content]) -> Vec<Citation> {
    let before = |index: u64| {
        let parts = content.iter().zip(0..index);
        let lengths = parts.map(|(part, _)| part.text.as_deref().map_or(0, |text| text.chars().count() as u64));
        lengths.sum()
    };
    citations.iter().flat_map(|one| citation::of(one, before)).collect()
}

impl WireCall {
    fn read(self) -> ToolCall {
        let arguments = said(self.function.arguments).unwrap_or_else(|| "{}".to_owned());
        ToolCall { id: self.id, name: self.function.name, arguments, custom: false, seal: None, cache: None }
    }
}

fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Why an answer ended.
pub(super) fn finish(word: Option<&str>, has_calls: bool) -> FinishReason {
    match word {
        Some("TOOL_CALL") => FinishReason::ToolCalls,
        None if has_calls => FinishReason::ToolCalls,
        None | Some("COMPLETE" | "STOP_SEQUENCE") => FinishReason::Stop,
        Some("MAX_TOKENS") => FinishReason::Length,
        Some("ERROR" | "TIMEOUT") => FinishReason::Error,
        Some(other) => FinishReason::Other(other.into()),
    }
}

/// Probabilities in OpenAI's shape, of one piece of text or of several. Cohere does not say which token of a piece has
/// which letters: all letters stand at the first.
pub(super) fn logprobs(pieces: &Value) -> Option<Value> {
    let one = std::slice::from_ref(pieces);
    let pieces = pieces.as_array().map_or(one, Vec::as_slice);
    let tokens: Vec<Value> = pieces.iter().flat_map(tokens).collect();
    (!tokens.is_empty()).then(|| json!({"content": tokens, "refusal": null}))
}

fn tokens(piece: &Value) -> Vec<Value> {
    let text = piece.get("text").and_then(Value::as_str).unwrap_or_default();
    let chances = piece.get("logprobs").and_then(Value::as_array).into_iter().flatten();
    let letters = std::iter::once(text).chain(std::iter::repeat(""));
    chances.zip(letters).map(|(chance, letters)| token(letters, chance)).collect()
}

fn token(letters: &str, chance: &Value) -> Value {
    json!({"token": letters, "logprob": chance, "bytes": letters.as_bytes(), "top_logprobs": []})
}
