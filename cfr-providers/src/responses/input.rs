//! From turns to input items.

use serde_json::{Map, Value, json};

use crate::dialog::{File, Image, Part, Role, Seal, Source, Thought, ToolCall, ToolResult, Turn};
use crate::openai::FAILED;

/// All turns, in order. A thought stands before the words and the calls that it led to.
pub(super) fn items(turns: &[Turn]) -> Vec<Value> {
    let mut items = Vec::with_capacity(turns.len());
    for turn in turns {
        let mut message = Message { role: role(turn.role), content: Vec::new() };
        for part in &turn.parts {
            match part {
                Part::ToolCall(call) => message.end_before(call_item(call), &mut items),
                Part::ToolResult(result) => message.end_before(result_item(result), &mut items),
                Part::Thought(thought) => {
                    if let Some(item) = reasoning_item(thought) {
                        message.end_before(item, &mut items);
                    }
                }
                part => message.content.extend(content_part(part, turn.role)),
            }
        }
        message.end(&mut items);
    }
    items
}

fn role(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "developer",
    }
}

/// The message that is being collected.
struct Message {
    role: &'static str,
    content: Vec<Value>,
}

impl Message {
    fn end_before(&mut self, item: Value, items: &mut Vec<Value>) {
        self.end(items);
        items.push(item);
    }

    fn end(&mut self, items: &mut Vec<Value>) {
        let content = std::mem::take(&mut self.content);
        if !content.is_empty() {
            items.push(json!({"role": self.role, "content": content}));
        }
    }
}

fn content_part(part: &Part, role: Role) -> Option<Value> {
    let text = if role == Role::Assistant { "output_text" } else { "input_text" };
    match part {
        Part::Text(words) => Some(json!({"type": text, "text": words.text})),
        Part::Refusal(words) if role == Role::Assistant => Some(json!({"type": "refusal", "refusal": words})),
        Part::Refusal(words) => Some(json!({"type": text, "text": words})),
        Part::Image(image) => Some(image_part(image)),
        Part::Audio { data, format } => {
            Some(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
        }
        Part::File(file) => Some(file_part(file)),
        Part::Thought(_) | Part::ToolCall(_) | Part::ToolResult(_) => None, // items of their own
    }
}

fn image_part(image: &Image) -> Value {
    let field = if matches!(image.source, Source::Uploaded(_)) { "file_id" } else { "image_url" };
    let mut part = Map::from_iter([
        ("type".to_owned(), Value::from("input_image")),
        (field.to_owned(), image.source.address().into()),
    ]);
    if let Some(detail) = &image.detail {
        part.insert("detail".to_owned(), detail.as_str().into());
    }
    part.into()
}

fn file_part(file: &File) -> Value {
    let field = match file.source {
        Source::Inline { .. } => "file_data",
        Source::Url(_) => "file_url",
        Source::Uploaded(_) => "file_id",
    };
    let mut part = Map::from_iter([("type".to_owned(), Value::from("input_file"))]);
    if let Some(name) = &file.name {
        part.insert("filename".to_owned(), name.as_str().into());
    }
    part.insert(field.to_owned(), file.source.address().into());
    part.into()
}

fn call_item(call: &ToolCall) -> Value {
    let (kind, input) = if call.custom { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
    json!({"type": kind, "call_id": call.id, "name": call.name, input: call.arguments})
}

/// Words alone are a text; with pictures they are a list of parts.
fn result_item(result: &ToolResult) -> Value {
    let failed = if result.is_error { FAILED } else { "" };
    let words_only = result.content.iter().all(|part| matches!(part, Part::Text(_)));
    let output = if words_only {
        Value::from(format!("{failed}{}", result.text()))
    } else {
        let failed = result.is_error.then(|| json!({"type": "input_text", "text": FAILED.trim()}));
        failed.into_iter().chain(result.content.iter().filter_map(|part| content_part(part, Role::User))).collect()
    };
    let kind = if result.custom { "custom_tool_call_output" } else { "function_call_output" };
    json!({"type": kind, "call_id": result.id, "output": output})
}

/// A thought of this provider's own that can be read again; any other is left out.
fn reasoning_item(thought: &Thought) -> Option<Value> {
    let Some(Seal::OpenAi { id, encrypted: Some(encrypted) }) = &thought.seal else { return None };
    let text = Some(&thought.text).filter(|text| !text.is_empty());
    let summary: Vec<Value> = text.map(|text| json!({"type": "summary_text", "text": text})).into_iter().collect();
    Some(json!({"type": "reasoning", "id": id, "summary": summary, "encrypted_content": encrypted}))
}
