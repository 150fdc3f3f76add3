//! What is said, as Cohere's messages (providers.md §11, §13.3).

use cfr_core::upstream::UpstreamError;
use serde_json::{Value, json};

use crate::dialog::{Dialog, Drops, Image, Part, Role, Source, Thought, ToolCall, ToolResult, Turn, value_of};

/// Stands between texts that were apart and are one text here.
const BREAK: &str = "\n\n";
/// How closely a picture can be looked at.
const DETAILS: [&str; 3] = ["auto", "low", "high"];

pub(super) fn messages(dialog: &Dialog, drops: &mut Drops) -> Result<Vec<Value>, UpstreamError> {
    let mut messages = Vec::with_capacity(dialog.turns.len() + 1);
    let system: Vec<&str> = dialog.system.iter().map(|text| text.text.as_str()).collect();
    if !system.is_empty() {
        messages.push(json!({"role": "system", "content": system.join(BREAK)}));
    }
    for turn in &dialog.turns {
        match turn.role {
            Role::Assistant => messages.push(assistant(turn, drops)),
            Role::User => user(turn, &mut messages, drops)?,
            Role::System => messages.push(json!({"role": "system", "content": content(said(&turn.parts, drops)?)})),
        }
    }
    Ok(messages)
}

/// A turn of the model's. What it thought before it called tools is its plan for them.
fn assistant(turn: &Turn, drops: &mut Drops) -> Value {
    let (mut parts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for part in &turn.parts {
        match part {
            Part::Text(text) => parts.push(text_part(&text.text)),
            Part::Refusal(words) => parts.push(text_part(words)),
            // Cohere gives no proofs: a thought that has one is another provider's.
            Part::Thought(Thought { text, seal: None }) if !text.is_empty() => thoughts.push(text.as_str()),
            Part::Thought(_) => {}
            Part::ToolCall(call) => calls.push(tool_call(call)),
            _ => drops.harmless("messages: a picture or a file of the assistant's"),
        }
    }
    let mut message = json!({"role": "assistant"});
    if !thoughts.is_empty() && !calls.is_empty() {
        message["tool_plan"] = thoughts.join(BREAK).into();
    } else if !thoughts.is_empty() {
        parts.insert(0, json!({"type": "thinking", "thinking": thoughts.join(BREAK)}));
    }
    if !parts.is_empty() || calls.is_empty() {
        message["content"] = content(parts);
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

/// Arguments are an object, written as text; whatever else a model wrote is kept inside of one.
fn tool_call(call: &ToolCall) -> Value {
    let arguments = match value_of(&call.arguments) {
        Value::Object(_) if !call.custom => call.arguments.clone(),
        other => json!({ "_raw": other }).to_string(),
    };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

/// A turn of the user's: a message for the result of each tool, and one for what they say themselves.
fn user(turn: &Turn, messages: &mut Vec<Value>, drops: &mut Drops) -> Result<(), UpstreamError> {
    for part in &turn.parts {
        if let Part::ToolResult(result) = part {
            messages.push(tool_result(result, drops)?);
        }
    }
    let parts = said(&turn.parts, drops)?;
    if !parts.is_empty() {
        messages.push(json!({"role": "user", "content": content(parts)}));
    }
    Ok(())
}

fn tool_result(result: &ToolResult, drops: &mut Drops) -> Result<Value, UpstreamError> {
    if result.content.iter().any(|part| !matches!(part, Part::Text(_))) {
        drops.essential("messages: a picture or a file of a tool's")?;
    }
    let mark = if result.is_error { "[error] " } else { "" };
    Ok(json!({"role": "tool", "tool_call_id": result.id, "content": format!("{mark}{}", result.text())}))
}

/// What a message says, part by part. Results of tools are messages of their own.
fn said(parts: &[Part], drops: &mut Drops) -> Result<Vec<Value>, UpstreamError> {
    let mut said = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Text(text) => said.push(text_part(&text.text)),
            Part::Refusal(words) => said.push(text_part(words)),
            Part::Image(picture) => said.extend(image(picture, drops)?),
            Part::Audio { .. } => drops.essential("input_audio")?,
            Part::File(_) => drops.essential("file")?,
            Part::Thought(_) | Part::ToolCall(_) | Part::ToolResult(_) => {} // not in these places
        }
    }
    Ok(said)
}

fn text_part(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn image(picture: &Image, drops: &mut Drops) -> Result<Option<Value>, UpstreamError> {
    if matches!(picture.source, Source::Uploaded(_)) {
        drops.essential("file_id")?;
        return Ok(None);
    }
    let mut image = json!({"url": picture.source.address()});
    match picture.detail.as_deref() {
        Some(detail) if DETAILS.contains(&detail) => image["detail"] = detail.into(),
        Some(_) => drops.harmless("image_url.detail"),
        None => {}
    }
    Ok(Some(json!({"type": "image_url", "image_url": image})))
}

/// One text is a text; everything else is a list.
fn content(mut parts: Vec<Value>) -> Value {
    match &mut parts[..] {
        [] => "".into(),
        [only] if only["type"] == "text" => only["text"].take(),
        _ => parts.into(),
    }
}
