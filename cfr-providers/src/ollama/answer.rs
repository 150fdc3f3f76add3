//! From Ollama's answer, or a line of one, to what it says (providers.md §9.1, §15).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_core::chat::Usage;
use cfr_core::upstream::{FinishReason, UpstreamError};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::dialog::{Answer, Choice, Part, Thought, ToolCall};

/// More than any call can use.
const QUANTITY_MAX: u64 = 1_000_000_000;
/// Letters of an id that is made for a call without one.
const ID_LETTERS: usize = 20;

/// A complete answer, or a line of a stream: they differ in `done` alone.
#[derive(Deserialize)]
pub(super) struct Line {
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    pub(super) message: Option<Message>,
    #[serde(default)]
    pub(super) done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    /// Why nothing follows.
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(default, alias = "status_code")]
    pub(super) status: Value,
}

#[derive(Default, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    pub(super) content: Option<String>,
    #[serde(default)]
    pub(super) thinking: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<WireCall>>,
}

#[derive(Deserialize)]
struct WireCall {
    #[serde(default)]
    id: String,
    function: WireFunction,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// The meaning of a complete answer.
pub(super) fn read(body: &[u8]) -> Result<Answer, UpstreamError> {
    let mut line = Line::parse(body)?;
    let mut message = line.message.take().ok_or_else(|| malformed("it has no message"))?;
    let calls = line.calls(&mut message, 0);
    let (finish, usage, logprobs) = (line.finish(!calls.is_empty()), line.usage(), line.take_logprobs());
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    let thought = said(message.thinking).map(|text| Part::Thought(Thought { text, seal: None }));
    let parts = thought.into_iter().chain(said(message.content).map(Part::text));
    let parts = parts.chain(calls.into_iter().map(Part::ToolCall)).collect();
    let choices = vec![Choice { parts, finish, stop_sequence: None, logprobs }];
    Ok(Answer { model: line.model, choices, usage, ..Answer::default() })
}

impl Line {
    pub(super) fn parse(json: &[u8]) -> Result<Self, UpstreamError> {
        serde_json::from_slice(json).map_err(|cause| malformed(&cause.to_string()))
    }

    /// The calls of tools in its message, `made` being the number of those that came before.
    pub(super) fn calls(&self, message: &mut Message, made: usize) -> Vec<ToolCall> {
        let calls = message.tool_calls.take().unwrap_or_default();
        calls.into_iter().zip(made..).map(|(call, at)| call.read(&self.created_at, at)).collect()
    }

    /// Probabilities in OpenAI's shape; the members of a token are the same.
    pub(super) fn take_logprobs(&mut self) -> Option<Value> {
        let tokens = self.logprobs.take().filter(|tokens| tokens.as_array().is_some_and(|list| !list.is_empty()))?;
        Some(json!({"content": tokens, "refusal": null}))
    }

    /// Why the answer ended. Ollama has no word of its own for calls of tools.
    pub(super) fn finish(&self, has_calls: bool) -> FinishReason {
        match self.done_reason.as_deref() {
            Some("length") => FinishReason::Length,
            _ if has_calls => FinishReason::ToolCalls,
            None | Some("stop" | "load" | "unload") => FinishReason::Stop,
            Some(other) => FinishReason::Other(other.into()),
        }
    }

    /// What was used. A count that is missing is not zero: old servers leave it out.
    pub(super) fn usage(&self) -> Option<Usage> {
        let counts = self.prompt_eval_count.zip(self.eval_count);
        let (input, output) = counts.filter(|(input, output)| (*input).max(*output) <= QUANTITY_MAX)?;
        Some(Usage::text(input, output))
    }
}

impl WireCall {
    fn read(self, created_at: &str, at: usize) -> ToolCall {
        let WireFunction { name, arguments } = self.function;
        let arguments = match arguments {
            Value::Null => "{}".to_owned(),
            Value::String(text) => text,
            arguments => arguments.to_string(),
        };
        let id = if self.id.is_empty() { made_id(&[created_at, &at.to_string(), &name, &arguments]) } else { self.id };
        ToolCall { id, name, arguments, custom: false, seal: None, cache: None }
    }
}

fn malformed(why: &str) -> UpstreamError {
    UpstreamError::Malformed { message: format!("not an answer: {why}").into() }
}

/// An id for a call without one: of its own, because no two answers begin in the same instant.
fn made_id(of: &[&str]) -> String {
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(of.join("\n")));
    let letters = digest.chars().filter(char::is_ascii_alphanumeric).take(ID_LETTERS);
    format!("call_{}", letters.collect::<String>())
}
