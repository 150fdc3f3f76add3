//! From turns to chat messages (providers.md §13, §14).

use std::fmt::Write as _;

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::dialog::{
    CacheMark, Dialog, Drops, File, Image, Part, Role, Source, Text, Thought, ToolCall, ToolResult, Turn,
};
use crate::openai::models;
use crate::openai::quirks::Quirks;

/// Bytes of a name for who asks that OpenAI takes.
const END_USER_BYTES_MAX: usize = 128;
/// Stands before what a tool says when it failed.
pub(crate) const FAILED: &str = "[error] ";

/// All messages of a dialog that is in the provider's order.
///
/// # Errors
/// When a turn shows something that chat messages cannot.
pub(super) fn write(
    quirks: &Quirks,
    model: &str,
    dialog: &Dialog,
    drops: &mut Drops,
) -> Result<Vec<Value>, UpstreamError> {
    dialog.turns.iter().flat_map(|turn| &turn.parts).try_for_each(|part| check(part, drops))?;
    let words = &quirks.words;
    let marks = words.knows("cache_control");
    let developer = words.openai_models && models::is_reasoning(model);
    let operator = if developer { "developer" } else { "system" };
    let mut messages = Vec::with_capacity(dialog.turns.len() + 1);
    if !dialog.system.is_empty() {
        messages.push(json!({"role": operator, "content": system(&dialog.system, marks)}));
    }
    let question = last_question(&dialog.turns);
    for (at, turn) in dialog.turns.iter().enumerate() {
        match turn.role {
            Role::System => messages.push(json!({"role": operator, "content": words_of(&turn.parts)})),
            Role::User => user(turn, marks, &mut messages),
            Role::Assistant => {
                let thoughts = words.takes_thoughts && at > question;
                messages.push(assistant(turn, thoughts));
            }
        }
    }
    if words.marks_prefix {
        mark_prefix(&mut messages);
    }
    if !marks && has_cache_marks(dialog) {
        drops.harmless("cache_control");
    }
    Ok(messages)
}

/// Chat messages show pictures and files, but not files by address and not pictures by the id of an upload.
fn check(part: &Part, drops: &mut Drops) -> Result<(), UpstreamError> {
    match part {
        Part::File(File { source: Source::Url(_), .. }) => drops.essential("messages: a file by its address"),
        Part::Image(Image { source: Source::Uploaded(_), .. }) => {
            drops.essential("messages: an image by the id of an upload")
        }
        Part::ToolResult(result) => result.content.iter().try_for_each(|part| check(part, drops)),
        _ => Ok(()),
    }
}

/// Where the person last said something that is no result of a tool.
fn last_question(turns: &[Turn]) -> usize {
    let asks =
        |turn: &Turn| turn.role == Role::User && turn.parts.iter().any(|part| !matches!(part, Part::ToolResult(_)));
    turns.iter().rposition(asks).unwrap_or(0)
}

fn mark_prefix(messages: &mut [Value]) {
    if let Some(Value::Object(last)) = messages.last_mut()
        && last.get("role").is_some_and(|role| role == "assistant")
    {
        last.insert("prefix".to_owned(), true.into());
    }
}

/// Results of tools are messages of their own and stand before everything else; what is no text in them moves to the
/// words that follow.
fn user(turn: &Turn, marks: bool, messages: &mut Vec<Value>) {
    let (mut rest, mut said) = (Vec::new(), Vec::new());
    for part in &turn.parts {
        match part {
            Part::ToolResult(result) => {
                messages.push(tool_message(result, marks));
                rest.extend(
                    result
                        .content
                        .iter()
                        .filter(|part| !matches!(part, Part::Text(_)))
                        .filter_map(|part| content_part(part, marks)),
                );
            }
            part => said.push(part),
        }
    }
    if let ([Part::Text(text)], true) = (&said[..], rest.is_empty())
        && !(marks && text.cache.is_some())
    {
        return messages.push(json!({"role": "user", "content": text.text}));
    }
    rest.extend(said.into_iter().filter_map(|part| content_part(part, marks)));
    if !rest.is_empty() {
        messages.push(json!({"role": "user", "content": rest}));
    }
}

fn tool_message(result: &ToolResult, marks: bool) -> Value {
    let failed = if result.is_error { FAILED } else { "" };
    let text = format!("{failed}{}", result.text());
    let content = match result.cache.filter(|_| marks) {
        Some(mark) => json!([marked(json!({"type": "text", "text": text}), Some(mark))]),
        None => text.into(),
    };
    json!({"role": "tool", "tool_call_id": result.id, "content": content})
}

/// What the operator says: one text, or a list where a place to cache up to must be marked.
fn system(texts: &[Text], marks: bool) -> Value {
    if marks && texts.iter().any(|text| text.cache.is_some()) {
        return texts.iter().map(|text| marked(json!({"type": "text", "text": text.text}), text.cache)).collect();
    }
    joined(texts).into()
}

/// A part with its mark, in the words that gateways share with Anthropic.
fn marked(mut part: Value, mark: Option<CacheMark>) -> Value {
    match mark {
        None => {}
        Some(CacheMark::Usual) => part["cache_control"] = json!({"type": "ephemeral"}),
        Some(CacheMark::Hour | CacheMark::TwelveHours) => {
            part["cache_control"] = json!({"type": "ephemeral", "ttl": "1h"});
        }
    }
    part
}

fn assistant(turn: &Turn, thoughts: bool) -> Value {
    let mut message = Map::from_iter([("role".to_owned(), Value::from("assistant"))]);
    let (mut calls, mut refusal, mut thought) = (Vec::new(), String::new(), String::new());
    for part in &turn.parts {
        match part {
            Part::ToolCall(call) => calls.push(call_object(call)),
            Part::Refusal(words) => refusal.push_str(words),
            // A proven thought is another provider's.
            Part::Thought(Thought { text, seal: None }) if thoughts => thought.push_str(text),
            _ => {}
        }
    }
    let content = words_of(&turn.parts);
    let silent = content.is_empty() && !(calls.is_empty() && refusal.is_empty());
    message.insert("content".to_owned(), if silent { Value::Null } else { content.into() });
    for (field, text) in [("refusal", refusal), ("reasoning_content", thought)] {
        if !text.is_empty() {
            message.insert(field.to_owned(), text.into());
        }
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    message.into()
}

fn call_object(call: &ToolCall) -> Value {
    match call.custom {
        true => json!({"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}),
        false => {
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
        }
    }
}

/// What a person shows or says besides results of tools.
fn content_part(part: &Part, marks: bool) -> Option<Value> {
    let mark = |mark: Option<CacheMark>| mark.filter(|_| marks);
    match part {
        Part::Text(text) => Some(marked(json!({"type": "text", "text": text.text}), mark(text.cache))),
        Part::Refusal(words) => Some(json!({"type": "text", "text": words})),
        Part::Image(Image { source: Source::Uploaded(_), .. }) | Part::File(File { source: Source::Url(_), .. }) => {
            None
        }
        Part::Image(image) => Some(marked(image_part(image), mark(image.cache))),
        Part::Audio { data, format } => {
            Some(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
        }
        Part::File(file) => Some(marked(file_part(file), mark(file.cache))),
        Part::Thought(_) | Part::ToolCall(_) | Part::ToolResult(_) => None, // the model's, or written already
    }
}

fn image_part(image: &Image) -> Value {
    let mut inner = Map::from_iter([("url".to_owned(), Value::from(image.source.address()))]);
    if let Some(detail) = &image.detail {
        inner.insert("detail".to_owned(), detail.as_str().into());
    }
    json!({"type": "image_url", "image_url": inner})
}

fn file_part(file: &File) -> Value {
    let mut inner = Map::new();
    if let Some(name) = &file.name {
        inner.insert("filename".to_owned(), name.as_str().into());
    }
    let field = if matches!(file.source, Source::Uploaded(_)) { "file_id" } else { "file_data" };
    inner.insert(field.to_owned(), file.source.address().into());
    json!({"type": "file", "file": inner})
}

fn joined(texts: &[Text]) -> String {
    texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>().join("\n\n")
}

fn words_of(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// The caller's name for who asks; a long one by its digest.
pub(crate) fn end_user(name: &str) -> String {
    if name.len() <= END_USER_BYTES_MAX {
        return name.to_owned();
    }
    let mut digest = String::with_capacity(64);
    for byte in Sha256::digest(name.as_bytes()) {
        let _ = write!(digest, "{byte:02x}"); // a String takes all
    }
    digest
}

fn has_cache_marks(dialog: &Dialog) -> bool {
    let marked = |part: &Part| match part {
        Part::Text(text) => text.cache.is_some(),
        Part::Image(image) => image.cache.is_some(),
        Part::File(file) => file.cache.is_some(),
        Part::ToolCall(call) => call.cache.is_some(),
        Part::ToolResult(result) => result.cache.is_some(),
        Part::Audio { .. } | Part::Thought(_) | Part::Refusal(_) => false,
    };
    dialog.system.iter().any(|text| text.cache.is_some())
        || dialog.turns.iter().flat_map(|turn| &turn.parts).any(marked)
}
