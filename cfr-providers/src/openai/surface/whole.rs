//! From an answer to a chat completion (providers.md §13.4).

use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Usage};
use serde_json::{Map, Value, json};

use crate::dialog::{Answer, Choice, Citation, Image, Part, Seal, Thought, ToolCall};

/// Milliseconds stand in the upper 48 bits of a request's id.
const MILLIS_SHIFT: u32 = 80;

pub(super) fn completion(call: &Call, answer: Answer) -> Bytes {
    let usage = answer.usage.map(|usage| usage_object(&usage));
    let mut completion = head(call, &answer.id, &answer.model, "chat.completion");
    let choices: Vec<Value> = (0..).zip(answer.choices).map(|(index, one)| choice(index, one)).collect();
    completion.insert("choices".into(), choices.into());
    if let Some(usage) = usage {
        completion.insert("usage".into(), usage);
    }
    if let Some(tier) = answer.service_tier {
        completion.insert("service_tier".into(), tier.into());
    }
    Value::Object(completion).to_string().into()
}

/// What every completion and every chunk of one begins with.
pub(super) fn head(call: &Call, id: &str, model: &str, object: &str) -> Map<String, Value> {
    let id = if id.is_empty() { format!("chatcmpl-{}", call.id) } else { id.to_owned() };
    let model = if model.is_empty() { &*call.envelope.model } else { model };
    let created = created_at(call);
    Map::from_iter([
        ("id".to_owned(), id.into()),
        ("object".to_owned(), object.into()),
        ("created".to_owned(), created.into()),
        ("model".to_owned(), model.into()),
    ])
}

/// When a call began, in seconds.
pub(crate) fn created_at(call: &Call) -> u64 {
    u64::try_from(call.id.as_u128() >> MILLIS_SHIFT).unwrap_or(0) / 1_000
}

fn choice(index: u32, choice: Choice) -> Value {
    let message = message(choice.parts);
    json!({
        "index": index,
        "message": message,
        "logprobs": choice.logprobs,
        "finish_reason": choice.finish.name(),
    })
}

/// Everything that parts of one kind say stands in one member.
fn message(parts: Vec<Part>) -> Map<String, Value> {
    let mut said = Said::default();
    parts.into_iter().for_each(|part| said.add(part));
    let mut message = Map::from_iter([("role".to_owned(), Value::from("assistant"))]);
    let content = said.content.map_or(Value::Null, Value::from);
    message.insert("content".into(), content);
    message.insert("refusal".into(), said.refusal.map_or(Value::Null, Value::from));
    let mut insert = |name: &str, list: Vec<Value>| {
        if !list.is_empty() {
            message.insert(name.to_owned(), list.into());
        }
    };
    insert("tool_calls", said.calls);
    insert("annotations", said.annotations);
    insert("images", said.images);
    insert("thinking_blocks", said.blocks);
    if !said.thoughts.is_empty() {
        message.insert("reasoning_content".into(), said.thoughts.into());
    }
    message
}

#[derive(Default)]
struct Said {
    content: Option<String>,
    refusal: Option<String>,
    thoughts: String,
    blocks: Vec<Value>,
    calls: Vec<Value>,
    annotations: Vec<Value>,
    images: Vec<Value>,
}

impl Said {
    fn add(&mut self, part: Part) {
        match part {
            Part::Text(text) => {
                self.content.get_or_insert_default().push_str(&text.text);
                self.annotations.extend(text.citations.iter().map(annotation));
                self.blocks.extend(text.seal.as_ref().and_then(|seal| block("", seal)));
            }
            Part::Thought(Thought { text, seal }) => {
                self.blocks.extend(seal.as_ref().and_then(|seal| block(&text, seal)));
                self.thoughts.push_str(&text);
            }
            Part::Refusal(words) => self.refusal.get_or_insert_default().push_str(&words),
            Part::ToolCall(call) => self.calls.push(tool_call(call)),
            Part::Image(image) => self.images.push(image_object(&image)),
            Part::Audio { .. } | Part::File(_) | Part::ToolResult(_) => {} // no answer has them
        }
    }
}

fn tool_call(call: ToolCall) -> Value {
    let mut object = call_object(&call.id, &call.name, call.arguments, call.custom);
    if let Some(Seal::Gemini(signature)) = call.seal {
        object.insert("thought_signature".into(), signature.into());
    }
    object.into()
}

/// A call as messages and first fragments of calls have it.
pub(super) fn call_object(id: &str, name: &str, arguments: String, custom: bool) -> Map<String, Value> {
    let (kind, inner) = match custom {
        true => ("custom", json!({"name": name, "input": arguments})),
        false => ("function", json!({"name": name, "arguments": arguments})),
    };
    Map::from_iter([("id".to_owned(), Value::from(id)), ("type".to_owned(), kind.into()), (kind.to_owned(), inner)])
}

/// A proof with what it proves, for the caller to send back; see `thinking_blocks` in the reader of messages.
pub(super) fn block(thought: &str, seal: &Seal) -> Option<Value> {
    Some(match seal {
        Seal::Anthropic(signature) => json!({"type": "thinking", "thinking": thought, "signature": signature}),
        Seal::AnthropicRedacted(data) => json!({"type": "redacted_thinking", "data": data}),
        Seal::Gemini(data) => json!({"type": "gemini_signature", "thinking": thought, "data": data}),
        Seal::OpenAi { id, encrypted } => {
            json!({"type": "openai_reasoning", "id": id, "thinking": thought, "encrypted_content": encrypted})
        }
    })
}

pub(super) fn annotation(citation: &Citation) -> Value {
    json!({
        "type": "url_citation",
        "url_citation": {
            "url": citation.url,
            "title": citation.title.as_deref().unwrap_or_default(),
            "start_index": citation.start.unwrap_or(0),
            "end_index": citation.end.unwrap_or(0),
        },
    })
}

pub(super) fn image_object(image: &Image) -> Value {
    json!({"type": "image_url", "image_url": {"url": image.source.address()}})
}

/// Usage in OpenAI's words: totals, and of them what is cached, written, thought and heard (providers.md §12).
pub(super) fn usage_object(usage: &Usage) -> Value {
    let (input, output) = (usage.input_total(), usage.output_total());
    let sum = |meters: &[Meter]| meters.iter().fold(0_u64, |sum, &meter| sum.saturating_add(usage.get(meter)));
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": {
            "cached_tokens": sum(&[Meter::CacheReadTokens, Meter::CacheReadAudioTokens, Meter::CacheReadImageTokens]),
            "cache_write_tokens": sum(&[Meter::CacheWriteTokens, Meter::CacheWrite1hTokens, Meter::CacheWrite12hTokens]),
            "audio_tokens": sum(&[Meter::InputAudioTokens, Meter::CacheReadAudioTokens]),
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.get(Meter::ReasoningTokens),
            "audio_tokens": usage.get(Meter::OutputAudioTokens),
        },
    })
}
