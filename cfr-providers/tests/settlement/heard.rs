//! What a provider said until its answer was cut: words, and its own count of them; read without the code that is tested.

use cfr_core::chat::usage::tokens_estimated;
use serde_json::Value;

use crate::frames::Framing;

/// Whose frames they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tongue {
    Chat,
    Messages,
    Responses,
    Generate,
    Converse,
    Cohere,
    Ollama,
}

/// What arrived of an answer.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Heard {
    /// Bytes of words, thoughts and refusals, and of the names and arguments of calls.
    pub(crate) bytes: u64,
    /// Of these, what came before the provider's last count.
    counted: u64,
    usage: Option<Count>,
}

/// Tokens by the provider's last word.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) output: u64,
}

impl Tongue {
    pub(crate) fn of(path: &str) -> Self {
        let parts = [
            ("/v2/chat", Self::Cohere),
            ("/api/chat", Self::Ollama),
            ("/messages", Self::Messages),
            ("/responses", Self::Responses),
            ("enerateContent", Self::Generate),
            ("/converse", Self::Converse),
        ];
        // Several compatible servers keep theirs below `/api/`.
        let is_chat = path.contains("/chat/completions");
        let found = parts.into_iter().find(|(part, _)| !is_chat && path.contains(part));
        found.map_or(Self::Chat, |(_, tongue)| tongue)
    }

    /// Everything that the frames say which arrived whole.
    pub(crate) fn heard(self, framing: Framing, bytes: &[u8]) -> Heard {
        let mut heard = Heard::default();
        for frame in framing.values(bytes) {
            heard.bytes += self.said(&frame);
            // A count that does not move has not counted what was said since.
            if let Some(count) = self.count(&frame, heard.usage).filter(|count| heard.usage != Some(*count)) {
                (heard.usage, heard.counted) = (Some(count), heard.bytes);
            }
        }
        heard
    }

    fn said(self, frame: &Value) -> u64 {
        match self {
            Self::Chat => list(&frame["choices"]).map(|choice| chat(&choice["message"]) + chat(&choice["delta"])).sum(),
            Self::Messages => {
                let blocks = list(&frame["content"]).chain(frame.get("content_block")).map(block);
                blocks.sum::<u64>() + texts(&frame["delta"], &["text", "thinking", "partial_json"])
            }
            Self::Responses => match frame["type"].as_str() {
                Some("response.output_item.added") => item(&frame["item"]),
                Some(kind) if kind.ends_with(".delta") => length(&frame["delta"]),
                _ => list(&frame["output"]).map(item).sum(),
            },
            Self::Generate => {
                let parts = list(&frame["candidates"]).flat_map(|candidate| list(&candidate["content"]["parts"]));
                parts.map(|part| length(&part["text"]) + call(&part["functionCall"], "args")).sum()
            }
            Self::Converse => {
                let blocks = list(&frame["output"]["message"]["content"]);
                blocks.chain(frame.get("delta")).chain(frame.get("start")).map(converse).sum()
            }
            Self::Cohere => cohere(&frame["message"]) + cohere(&frame["delta"]["message"]),
            Self::Ollama => {
                let message = &frame["message"];
                let calls = list(&message["tool_calls"]).map(|tool| call(&tool["function"], "arguments"));
                texts(message, &["content", "thinking"]) + calls.sum::<u64>()
            }
        }
    }

    /// The provider's count after a frame: what it leaves out stays as it was.
    fn count(self, frame: &Value, before: Option<Count>) -> Option<Count> {
        let usage = self.usage(frame)?;
        let before = before.unwrap_or_default();
        let sum = |names: &[&str]| names.iter().filter_map(|name| whole(usage.pointer(name)?)).reduce(|a, b| a + b);
        let (input, output) = match self {
            Self::Chat => (sum(&["/prompt_tokens"]), chat_output(usage)),
            Self::Generate => (
                sum(&["/promptTokenCount", "/toolUsePromptTokenCount"]),
                Some(sum(&["/candidatesTokenCount", "/thoughtsTokenCount"]).unwrap_or(0)),
            ),
            Self::Converse => {
                (sum(&["/inputTokens", "/cacheReadInputTokens", "/cacheWriteInputTokens"]), sum(&["/outputTokens"]))
            }
            Self::Cohere => (sum(&["/billed_units/input_tokens"]), sum(&["/billed_units/output_tokens"])),
            Self::Ollama => (sum(&["/prompt_eval_count"]), sum(&["/eval_count"])),
            Self::Responses => (sum(&["/input_tokens"]), sum(&["/output_tokens"])),
            Self::Messages => (
                sum(&["/input_tokens", "/cache_read_input_tokens", "/cache_creation_input_tokens"]),
                sum(&["/output_tokens"]),
            ),
        };
        let cached = sum(&CACHED).map(|cached| cached.min(input.unwrap_or(cached)));
        Some(Count {
            input: input.unwrap_or(before.input),
            cached: cached.unwrap_or(before.cached),
            output: output.unwrap_or(before.output),
        })
    }

    fn usage(self, frame: &Value) -> Option<&Value> {
        let places: &[&str] = match self {
            Self::Chat => &["/usage", "/x_groq/usage"],
            Self::Messages => &["/usage", "/message/usage"],
            Self::Responses => &["/usage", "/response/usage"],
            Self::Generate => &["/usageMetadata"],
            Self::Converse => &["/usage"],
            Self::Cohere => &["/usage", "/delta/usage"],
            Self::Ollama => return frame.get("eval_count").map(|_| frame),
        };
        places.iter().filter_map(|place| frame.pointer(place)).find(|usage| usage.is_object())
    }
}

/// Where providers say how much of a prompt was in a cache.
const CACHED: [&str; 5] = [
    "/prompt_tokens_details/cached_tokens",
    "/input_tokens_details/cached_tokens",
    "/cache_read_input_tokens",
    "/cachedContentTokenCount",
    "/cacheReadInputTokens",
];

/// Some servers count thoughts beside the answer: there the total says so.
fn chat_output(usage: &Value) -> Option<u64> {
    let quantity = |name: &str| usage.pointer(name).and_then(Value::as_u64);
    let (input, output) = (quantity("/prompt_tokens")?, quantity("/completion_tokens")?);
    let thought = quantity("/completion_tokens_details/reasoning_tokens").unwrap_or(0);
    let beside = quantity("/total_tokens") == Some(input + output + thought);
    Some(if beside { output + thought } else { output })
}

impl Heard {
    /// What the provider counted, and what came after that in tokens of our own count; nothing without its count.
    pub(crate) fn count(self) -> Option<(Count, u64)> {
        let uncounted = tokens_estimated(self.bytes - self.counted);
        self.usage.map(|count| (Count { output: count.output + uncounted, ..count }, uncounted))
    }
}

fn chat(message: &Value) -> u64 {
    let pieces = list(&message["content"]).map(|piece| {
        length(&piece["text"]) + list(&piece["thinking"]).map(|thought| length(&thought["text"])).sum::<u64>()
    });
    // Where both names are used they say the same.
    let thought = length(&message["reasoning"]).max(length(&message["reasoning_content"]));
    let calls = list(&message["tool_calls"]).map(|tool| call(&tool["function"], "arguments"));
    texts(message, &["content", "refusal"]) + thought + pieces.sum::<u64>() + calls.sum::<u64>()
}

fn block(block: &Value) -> u64 {
    let begun = block["input"].as_object().is_some_and(|input| !input.is_empty());
    let input = if begun { block["input"].to_string().len() as u64 } else { 0 };
    texts(block, &["text", "thinking", "name"]) + input
}

fn item(item: &Value) -> u64 {
    let parts = list(&item["content"]).chain(list(&item["summary"]));
    let said: u64 = parts.map(|part| texts(part, &["text", "refusal"])).sum();
    said + texts(item, &["name", "arguments"])
}

fn converse(block: &Value) -> u64 {
    let thought = &block["reasoningContent"];
    texts(block, &["text"])
        + texts(thought, &["text"])
        + texts(&thought["reasoningText"], &["text"])
        + call(&block["toolUse"], "input")
}

fn cohere(message: &Value) -> u64 {
    let content = &message["content"];
    let pieces = list(content).chain(content.as_object().map(|_| content));
    let calls = &message["tool_calls"];
    let calls = list(calls).chain(calls.as_object().map(|_| calls));
    texts(message, &["tool_plan"])
        + pieces.map(|piece| texts(piece, &["text", "thinking"])).sum::<u64>()
        + calls.map(|tool| call(&tool["function"], "arguments")).sum::<u64>()
}

/// A name, and arguments as a text or as an object.
fn call(call: &Value, arguments: &str) -> u64 {
    let input = match &call[arguments] {
        Value::Object(object) => Value::Object(object.clone()).to_string().len() as u64,
        other => length(other),
    };
    length(&call["name"]) + input
}

/// A quantity; Cohere writes them with a point.
fn whole(quantity: &Value) -> Option<u64> {
    quantity.to_string().trim_end_matches(".0").parse().ok()
}

fn texts(object: &Value, names: &[&str]) -> u64 {
    names.iter().map(|name| length(&object[*name])).sum()
}

fn length(text: &Value) -> u64 {
    text.as_str().map_or(0, str::len) as u64
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
