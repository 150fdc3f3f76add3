//! From an answer to a message (providers.md §14, §15).

use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::upstream::FinishReason;
use serde_json::{Map, Value, json};

use super::proof;
use crate::dialog::{Answer, Citation, Part, Seal, Text, ToolCall};

pub(super) fn message(call: &Call, answer: Answer) -> Bytes {
    let choice = answer.choices.into_iter().next();
    let (parts, finish, stop_sequence) = match choice {
        Some(choice) => (choice.parts, choice.finish, choice.stop_sequence),
        None => (Vec::new(), FinishReason::Stop, None),
    };
    let has = |wanted: fn(&Part) -> bool| parts.iter().any(wanted);
    let said = Said {
        calls: has(|part| matches!(part, Part::ToolCall(_))),
        refusal: has(|part| matches!(part, Part::Refusal(_))),
        stop_sequence: stop_sequence.is_some(),
    };
    let mut message = head(call, &answer.id, &answer.model);
    let content: Vec<Value> = parts.into_iter().flat_map(blocks).collect();
    message.insert("content".into(), content.into());
    message.insert("stop_reason".into(), stop_reason(&finish, said).into());
    message.insert("stop_sequence".into(), stop_sequence.into());
    message.insert("usage".into(), usage_object(&answer.usage.unwrap_or_default()));
    Value::Object(message).to_string().into()
}

/// What every message begins with.
pub(super) fn head(call: &Call, id: &str, model: &str) -> Map<String, Value> {
    let id = if id.is_empty() { format!("msg_{}", call.id) } else { id.to_owned() };
    let model = if model.is_empty() { &*call.envelope.model } else { model };
    Map::from_iter([
        ("id".to_owned(), id.into()),
        ("type".to_owned(), "message".into()),
        ("role".to_owned(), "assistant".into()),
        ("model".to_owned(), model.into()),
    ])
}

fn blocks(part: Part) -> Vec<Value> {
    match part {
        Part::Text(text) => with_proof(text_block(&text), text.seal.as_ref()),
        Part::Refusal(words) => vec![text_block(&Text::new(words))],
        Part::Thought(thought) => vec![proof::thought(&thought.text, thought.seal.as_ref())],
        Part::ToolCall(call) => {
            let seal = call.seal.clone();
            with_proof(tool_use(call), seal.as_ref())
        }
        // The dialect has no other content in answers.
        Part::Image(_) | Part::Audio { .. } | Part::File(_) | Part::ToolResult(_) => Vec::new(),
    }
}

fn with_proof(block: Value, seal: Option<&Seal>) -> Vec<Value> {
    let mut blocks = vec![block];
    blocks.extend(seal.map(proof::before));
    blocks
}

fn text_block(text: &Text) -> Value {
    let mut block = json!({"type": "text", "text": text.text});
    if let Some(members) = block.as_object_mut().filter(|_| !text.citations.is_empty()) {
        let citations: Vec<Value> = text.citations.iter().map(citation_object).collect();
        members.insert("citations".into(), citations.into());
    }
    block
}

pub(super) fn citation_object(citation: &Citation) -> Value {
    json!({
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": "",
        "encrypted_index": "",
    })
}

fn tool_use(call: ToolCall) -> Value {
    json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input(&call.arguments, call.custom)})
}

/// The input of a call is an object. What a model wrote that is none is kept inside of one.
pub(super) fn input(arguments: &str, custom: bool) -> Value {
    if custom {
        return json!({"input": arguments});
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(members)) => members.into(),
        _ if arguments.trim().is_empty() => json!({}),
        _ => json!({"_raw": arguments}),
    }
}

/// What the reason of an end depends on besides the provider's word.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    pub(super) calls: bool,
    pub(super) refusal: bool,
    pub(super) stop_sequence: bool,
}

/// Why the answer ended, in Anthropic's words. Not every provider says that it waits for its calls.
pub(super) fn stop_reason(finish: &FinishReason, said: Said) -> &'static str {
    match finish {
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
        _ if said.refusal => "refusal",
        _ if said.calls => "tool_use",
        _ if said.stop_sequence => "stop_sequence",
        _ => "end_turn",
    }
}

/// Usage in Anthropic's words: what was read from a cache or written to one stands apart (providers.md §12).
pub(super) fn usage_object(usage: &Usage) -> Value {
    let sum = |meters: &[Meter]| meters.iter().fold(0_u64, |sum, &meter| sum.saturating_add(usage.get(meter)));
    let read = sum(&[Meter::CacheReadTokens, Meter::CacheReadAudioTokens, Meter::CacheReadImageTokens]);
    let short = usage.get(Meter::CacheWriteTokens);
    let long = sum(&[Meter::CacheWrite1hTokens, Meter::CacheWrite12hTokens]);
    let written = short.saturating_add(long);
    let uncached = usage.input_total().saturating_sub(read.saturating_add(written));
    json!({
        "input_tokens": uncached,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": usage.output_total(),
    })
}
