//! What the fake provider reads of a request.

use cfr_core::chat::Operation;
use cfr_core::upstream::{Order, UpstreamError};
use serde_json::Value;

use super::script::Script;

/// Bytes of prompt that count as one token.
const PROMPT_BYTES_PER_TOKEN: u64 = 4;
/// Choices that are made at the most, as OpenAI does.
const CHOICES_MAX: u64 = 128;

/// A request as the fake provider understands it.
pub(super) struct Prompt {
    /// The whole request, for the rarer fields.
    pub(super) body: Value,
    /// The last thing that was said, or the texts to embed.
    pub(super) last: String,
    /// What the answer is made from: same prompt, same seed.
    pub(super) seed: u64,
    /// What the prompt costs.
    pub(super) tokens: u64,
    /// Cap on answer tokens, the lower of the caller's and the router's.
    pub(super) cap: Option<u64>,
    /// Answers wanted.
    pub(super) choices: u32,
    /// Texts that end an answer.
    pub(super) stops: Vec<String>,
    /// Orders in the last message.
    pub(super) script: Script,
}

impl Prompt {
    pub(super) fn read(order: &Order<'_>) -> Result<Self, UpstreamError> {
        let body: Value = serde_json::from_slice(&order.call.body)
            .map_err(|cause| UpstreamError::Malformed { message: format!("not a request: {cause}").into() })?;
        let said = said(order.call.operation, &body);
        let about = [&body["tools"], &body["functions"], &body["response_format"]];
        let bytes = said.iter().map(String::len).chain(about.map(json_bytes)).sum::<usize>() as u64;
        let asked = asked(&body).map(|message| texts(&message["content"]).concat());
        let last = asked.or_else(|| said.last().cloned()).unwrap_or_default();
        let caps = [&body["max_tokens"], &body["max_completion_tokens"]].map(Value::as_u64);
        Ok(Self {
            seed: hash(said.iter().map(String::as_str)),
            tokens: bytes.div_ceil(PROMPT_BYTES_PER_TOKEN),
            cap: caps.into_iter().flatten().chain(order.output_tokens_max).min(),
            choices: u32::try_from(body["n"].as_u64().unwrap_or(1).clamp(1, CHOICES_MAX)).unwrap_or(1),
            stops: texts(&body["stop"]).into_iter().filter(|stop| !stop.is_empty()).collect(),
            script: Script::read(&last),
            last,
            body,
        })
    }

    /// The id of the answer and the second it was made, both from the request's id.
    pub(super) fn identity(&self, order: &Order<'_>) -> (String, u64) {
        let id = order.call.id;
        let created = u64::try_from(id.as_u128() >> 80).unwrap_or(0) / 1_000;
        let prefix = if order.call.operation == Operation::Completions { "cmpl" } else { "chatcmpl" };
        (format!("{prefix}-{}", id.to_string().trim_start_matches("req_")), created)
    }
}

/// Everything that was said, in order.
fn said(operation: Operation, body: &Value) -> Vec<String> {
    match operation {
        Operation::ChatCompletions => {
            messages(body).iter().map(|message| texts(&message["content"]).concat()).collect()
        }
        Operation::Completions
        | Operation::ImageGenerations
        | Operation::ImageEdits
        | Operation::Transcriptions
        | Operation::Translations => texts(&body["prompt"]),
        Operation::Rerank => [texts(&body["query"]), texts(&body["documents"])].concat(),
        _ => texts(&body["input"]),
    }
}

/// The last message that is not the system's: agents remind a model of its rules after the question.
pub(super) fn asked(body: &Value) -> Option<&Value> {
    let is_system = |message: &Value| matches!(message["role"].as_str(), Some("system" | "developer"));
    messages(body).iter().rev().find(|message| !is_system(message))
}

fn messages(body: &Value) -> &[Value] {
    body["messages"].as_array().map_or(&[], Vec::as_slice)
}

/// The texts of a text, a list of texts, a list of parts, or lists of token numbers.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) if items.first().is_some_and(Value::is_number) => vec![value.to_string()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(part) => part.get("text").map(texts).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn json_bytes(value: &Value) -> usize {
    if value.is_null() { 0 } else { value.to_string().len() }
}

/// FNV-1a.
pub(super) fn hash<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    let bytes = texts.flat_map(|text| text.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
