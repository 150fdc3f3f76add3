//! What is said, as Ollama's messages: a text each, pictures beside it (providers.md §9.1, §13.3).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use crate::dialog::{Dialog, Drops, Image, Part, Role, Source, Thought, ToolCall, ToolResult, Turn, value_of};

/// Stands between texts that were apart and are one text here.
const BREAK: &str = "\n\n";

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
            Role::System => messages.push(Said::of(&turn.parts, drops)?.message("system")),
        }
    }
    Ok(messages)
}

/// A turn of the model's: its words with its thoughts and calls beside them.
fn assistant(turn: &Turn, drops: &mut Drops) -> Value {
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for part in &turn.parts {
        match part {
            Part::Text(text) => texts.push(text.text.as_str()),
            Part::Refusal(words) => texts.push(words),
            // Ollama gives no proofs: a thought that has one is another provider's.
            Part::Thought(Thought { text, seal: None }) => thoughts.push(text.as_str()),
            Part::Thought(_) => {}
            Part::ToolCall(call) => calls.push(tool_call(call)),
            _ => drops.harmless("messages: a picture or a file of the assistant's"),
        }
    }
    let mut message = json!({"role": "assistant", "content": texts.join(BREAK)});
    if !thoughts.is_empty() {
        message["thinking"] = thoughts.join(BREAK).into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

/// Arguments are an object; whatever else a model wrote is kept inside of one.
fn tool_call(call: &ToolCall) -> Value {
    let arguments = match value_of(&call.arguments) {
        Value::Object(members) if !call.custom => members,
        other => Map::from_iter([("_raw".to_owned(), other)]),
    };
    json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}})
}

/// A turn of the user's: a message for the result of each tool, and one for what they say themselves.
fn user(turn: &Turn, messages: &mut Vec<Value>, drops: &mut Drops) -> Result<(), UpstreamError> {
    let mut own = Vec::new();
    for part in &turn.parts {
        match part {
            Part::ToolResult(result) => messages.push(tool_result(result, drops)?),
            part => own.push(part.clone()),
        }
    }
    if !own.is_empty() {
        messages.push(Said::of(&own, drops)?.message("user"));
    }
    Ok(())
}

fn tool_result(result: &ToolResult, drops: &mut Drops) -> Result<Value, UpstreamError> {
    let mut said = Said::of(&result.content, drops)?;
    if result.is_error {
        said.text.insert_str(0, "[error] ");
    }
    let mut message = said.message("tool");
    message["tool_name"] = result.name.as_str().into();
    message["tool_call_id"] = result.id.as_str().into();
    Ok(message)
}

/// What one message says.
struct Said {
    text: String,
    images: Vec<Value>,
}

impl Said {
    fn of(parts: &[Part], drops: &mut Drops) -> Result<Self, UpstreamError> {
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Part::Text(text) => texts.push(text.text.as_str()),
                Part::Refusal(words) => texts.push(words),
                Part::Image(picture) => images.extend(image(picture, drops)?),
                Part::Audio { .. } => drops.essential("input_audio")?,
                Part::File(_) => drops.essential("file")?,
                Part::Thought(_) | Part::ToolCall(_) | Part::ToolResult(_) => {} // not in these places
            }
        }
        Ok(Self { text: texts.join(BREAK), images })
    }

    fn message(self, role: &str) -> Value {
        let mut message = json!({"role": role, "content": self.text});
        if !self.images.is_empty() {
            message["images"] = self.images.into();
        }
        message
    }
}

/// Bytes alone: Ollama sees of what type they are, and fetches nothing.
fn image(picture: &Image, drops: &mut Drops) -> Result<Option<Value>, UpstreamError> {
    if picture.detail.as_deref().is_some_and(|detail| detail != "auto") {
        drops.harmless("image_url.detail");
    }
    let missing = match &picture.source {
        Source::Inline { data, .. } => return Ok(Some(data.as_str().into())),
        Source::Url(_) => "image_url with an address",
        Source::Uploaded(_) => "file_id",
    };
    drops.essential(missing)?;
    Ok(None)
}
