//! From an answer to a GenerateContentResponse (providers.md §7.3).

use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::upstream::FinishReason;
use serde_json::{Map, Value, json};

use super::seal;
use crate::dialog::{Answer, Choice, Citation, Image, Part, Seal, Source, ToolCall};
use crate::gemini::{finish, logprobs};

pub(super) fn response(call: &Call, answer: Answer) -> Bytes {
    let mut response = Map::new();
    let candidates: Value = (0..).zip(answer.choices).map(|(index, choice)| candidate(index, choice)).collect();
    response.insert("candidates".into(), candidates);
    if let Some(usage) = &answer.usage {
        response.insert("usageMetadata".into(), usage_metadata(usage));
    }
    response.extend(head(call, &answer.id, &answer.model));
    Value::Object(response).to_string().into()
}

/// What every answer and every chunk of one ends with.
pub(super) fn head(call: &Call, id: &str, model: &str) -> Map<String, Value> {
    let id = if id.is_empty() { call.id.to_string() } else { id.to_owned() };
    let model = if model.is_empty() { &*call.envelope.model } else { model };
    Map::from_iter([("modelVersion".to_owned(), model.into()), ("responseId".to_owned(), id.into())])
}

fn candidate(index: u32, choice: Choice) -> Value {
    let mut citations = Vec::new();
    let mut parts = Vec::new();
    for part in choice.parts {
        if let Part::Text(text) = &part {
            citations.extend(text.citations.iter().map(source));
        }
        parts.extend(written(part));
    }
    let mut candidate = Map::from_iter([("content".to_owned(), json!({"parts": parts, "role": "model"}))]);
    candidate.insert("finishReason".into(), finish_reason(&choice.finish));
    candidate.insert("index".into(), index.into());
    if !citations.is_empty() {
        candidate.insert("groundingMetadata".into(), json!({ "groundingChunks": citations }));
    }
    if let Some(known) = &choice.logprobs {
        candidate.insert("logprobsResult".into(), logprobs::written(known));
    }
    candidate.into()
}

pub(super) fn finish_reason(finish: &FinishReason) -> Value {
    finish::word(finish).into()
}

fn written(part: Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => signed(json!({"text": text.text}), text.seal.as_ref()),
        Part::Thought(thought) => signed(json!({"text": thought.text, "thought": true}), thought.seal.as_ref()),
        Part::Refusal(text) => json!({ "text": text }),
        Part::ToolCall(call) => tool_call(&call),
        Part::Image(image) => picture(image),
        Part::Audio { .. } | Part::File(_) | Part::ToolResult(_) => return None, // no answer has them
    })
}

pub(super) fn signed(mut part: Value, seal: Option<&Seal>) -> Value {
    if let Some(seal) = seal {
        part["thoughtSignature"] = seal::opaque(seal).into();
    }
    part
}

/// Arguments that are no object are kept as they are under a name of our own: Google's clients take an object only.
pub(super) fn tool_call(call: &ToolCall) -> Value {
    let args = match serde_json::from_str(&call.arguments) {
        _ if call.custom => json!({"input": call.arguments}),
        Ok(Value::Object(args)) => Value::Object(args),
        _ if call.arguments.trim().is_empty() => json!({}),
        _ => json!({"_raw": call.arguments}),
    };
    signed(json!({"functionCall": {"id": call.id, "name": call.name, "args": args}}), call.seal.as_ref())
}

pub(super) fn picture(image: Image) -> Value {
    match image.source {
        Source::Inline { media_type, data } => json!({"inlineData": {"mimeType": media_type, "data": data}}),
        Source::Url(uri) | Source::Uploaded(uri) => json!({"fileData": {"fileUri": uri}}),
    }
}

pub(super) fn source(citation: &Citation) -> Value {
    json!({"web": {"uri": citation.url, "title": citation.title.as_deref().unwrap_or_default()}})
}

/// Usage in Google's words: the prompt has the cached tokens in it, the candidates have no thoughts in them.
pub(super) fn usage_metadata(usage: &Usage) -> Value {
    let (prompt, output) = (usage.input_total(), usage.output_total());
    let thoughts = usage.get(Meter::ReasoningTokens);
    let cached = [Meter::CacheReadTokens, Meter::CacheReadAudioTokens, Meter::CacheReadImageTokens];
    let cached = cached.into_iter().fold(0_u64, |sum, meter| sum.saturating_add(usage.get(meter)));
    let mut metadata = json!({
        "promptTokenCount": prompt,
        "candidatesTokenCount": output.saturating_sub(thoughts),
        "totalTokenCount": prompt.saturating_add(output),
    });
    for (name, tokens) in [("thoughtsTokenCount", thoughts), ("cachedContentTokenCount", cached)] {
        if tokens > 0 {
            metadata[name] = tokens.into();
        }
    }
    metadata
}
