//! What is said, as blocks (providers.md §6.1, §13.1, §13.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::marks::Marks;
use crate::dialog::{
    CacheMark, Dialog, Drops, File, Image, Part, Role, Seal, Source, Text, Thought, ToolCall, ToolResult, Turn,
    invalid, value_of,
};

/// Stands where words are wanted and there are none but blanks.
const EMPTY: &str = "(empty)";
/// The pictures that the provider can see.
const IMAGE_TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";

/// `system`: a text, or blocks where one is marked or there are several.
pub(super) fn system(dialog: &Dialog, more: Option<&str>, marks: &mut Marks) -> Option<Value> {
    let said = dialog.system.iter().filter(|text| !text.text.trim().is_empty());
    let mut blocks: Vec<Value> = said.map(|said| text(&said.text, said.cache, marks).into()).collect();
    blocks.extend(more.map(|words| json!({"type": "text", "text": words})));
    plain(blocks)
}

/// `messages`.
pub(super) fn messages(
    turns: &[Turn],
    fetches: bool,
    marks: &mut Marks,
    drops: &mut Drops,
) -> Result<Vec<Value>, UpstreamError> {
    let mut writer = Writer { fetches, marks, drops };
    let mut messages = Vec::with_capacity(turns.len());
    for (index, turn) in turns.iter().enumerate() {
        let is_last = index + 1 == turns.len();
        let (role, blocks) = match turn.role {
            Role::Assistant => ("assistant", writer.assistant(turn, is_last)),
            Role::User | Role::System => ("user", writer.user(turn)?),
        };
        messages.extend(plain(blocks).map(|content| json!({"role": role, "content": content})));
    }
    Ok(messages)
}

/// Words alone are a text rather than a list of one block.
fn plain(mut blocks: Vec<Value>) -> Option<Value> {
    let is_plain = |block: &Value| block["type"] == "text" && block.get("cache_control").is_none();
    match &mut blocks[..] {
        [] => None,
        [block] if is_plain(block) => Some(block["text"].take()),
        _ => Some(blocks.into()),
    }
}

fn text(words: &str, cache: Option<CacheMark>, marks: &mut Marks) -> Map<String, Value> {
    let mut block = Map::from_iter([("type".to_owned(), "text".into()), ("text".to_owned(), Value::from(words))]);
    marks.set(&mut block, cache);
    block
}

struct Writer<'a> {
    fetches: bool,
    marks: &'a mut Marks,
    drops: &'a mut Drops,
}

impl Writer<'_> {
    /// The model's own turn. Where the answer is begun by the caller, it may not end with a blank.
    fn assistant(&mut self, turn: &Turn, is_last: bool) -> Vec<Value> {
        let mut blocks: Vec<Value> = turn.parts.iter().filter_map(|part| self.own_block(part)).collect();
        if let Some(Value::String(words)) =
            blocks.last_mut().filter(|_| is_last).and_then(|block| block.get_mut("text"))
        {
            words.truncate(words.trim_end().len());
        }
        blocks
    }

    fn own_block(&mut self, part: &Part) -> Option<Value> {
        match part {
            Part::Text(said) => self.words(said).map(Value::Object),
            Part::Refusal(words) => self.words(&Text::new(words)).map(Value::Object),
            Part::Thought(thought) => proven(thought),
            Part::ToolCall(call) => Some(self.call(call)),
            _ => {
                self.drops.harmless("messages: a picture or a file of the assistant's");
                None
            }
        }
    }

    fn user(&mut self, turn: &Turn) -> Result<Vec<Value>, UpstreamError> {
        let mut blocks = Vec::with_capacity(turn.parts.len());
        for part in &turn.parts {
            blocks.extend(self.block(part)?);
        }
        if blocks.is_empty() {
            blocks.push(json!({"type": "text", "text": EMPTY}));
        }
        Ok(blocks)
    }

    fn block(&mut self, part: &Part) -> Result<Option<Value>, UpstreamError> {
        Ok(match part {
            Part::Text(said) => self.words(said).map(Value::Object),
            Part::Image(picture) => Some(self.image(picture)?),
            Part::File(file) => Some(self.document(file)?),
            Part::ToolResult(result) => Some(self.result(result)?),
            Part::Audio { .. } => {
                self.drops.essential("messages: input_audio")?;
                None
            }
            Part::Refusal(words) => self.words(&Text::new(words)).map(Value::Object),
            Part::Thought(_) | Part::ToolCall(_) => None, // nobody but the model has them
        })
    }

    /// Words; blanks alone are refused, and say nothing.
    fn words(&mut self, said: &Text) -> Option<Map<String, Value>> {
        (!said.text.trim().is_empty()).then(|| text(&said.text, said.cache, self.marks))
    }

    fn marked(&mut self, block: Value, cache: Option<CacheMark>) -> Value {
        let Value::Object(mut block) = block else { return block };
        self.marks.set(&mut block, cache);
        block.into()
    }

    fn image(&mut self, picture: &Image) -> Result<Value, UpstreamError> {
        if picture.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.drops.harmless("image_url.detail");
        }
        let source = match &picture.source {
            Source::Inline { media_type, data } => inline(image_type(media_type)?, data),
            Source::Url(url) => self.url("image_url", url)?,
            Source::Uploaded(_) => return Err(unsupported("file_id")),
        };
        Ok(self.marked(json!({"type": "image", "source": source}), picture.cache))
    }

    fn document(&mut self, file: &File) -> Result<Value, UpstreamError> {
        let source = match &file.source {
            Source::Inline { media_type, data } if media_type == PDF => inline(PDF, data),
            Source::Inline { media_type, data } if media_type.starts_with("text/") => plain_text(data)?,
            Source::Inline { media_type, .. } => return Err(unsupported(&format!("file of type `{media_type}`"))),
            Source::Url(url) => self.url("file", url)?,
            Source::Uploaded(_) => return Err(unsupported("file_id")),
        };
        let mut block = json!({"type": "document", "source": source});
        if let Some((block, name)) = block.as_object_mut().zip(file.name.as_deref()) {
            block.insert("title".into(), name.into());
        }
        Ok(self.marked(block, file.cache))
    }

    fn url(&self, field: &str, url: &str) -> Result<Value, UpstreamError> {
        if !self.fetches {
            return Err(unsupported(&format!("{field} with an address")));
        }
        Ok(json!({"type": "url", "url": url}))
    }

    fn call(&mut self, call: &ToolCall) -> Value {
        let block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input(call)});
        self.marked(block, call.cache)
    }

    fn result(&mut self, result: &ToolResult) -> Result<Value, UpstreamError> {
        let mut content = Vec::with_capacity(result.content.len());
        for part in &result.content {
            content.extend(self.block(part)?);
        }
        let mut block = Map::from_iter([
            ("type".to_owned(), Value::from("tool_result")),
            ("tool_use_id".to_owned(), result.id.as_str().into()),
        ]);
        block.extend(plain(content).map(|content| ("content".to_owned(), content)));
        if result.is_error {
            block.insert("is_error".into(), true.into());
        }
        Ok(self.marked(block.into(), result.cache))
    }
}

/// Arguments are an object; whatever else a model wrote is kept inside of one.
fn input(call: &ToolCall) -> Value {
    if call.custom {
        return json!({"input": call.arguments});
    }
    match value_of(&call.arguments) {
        Value::Object(members) => members.into(),
        other => json!({"_raw": other}),
    }
}

/// A thought with Anthropic's own proof; no other is trusted.
fn proven(thought: &Thought) -> Option<Value> {
    match &thought.seal {
        Some(Seal::Anthropic(signature)) => {
            Some(json!({"type": "thinking", "thinking": thought.text, "signature": signature}))
        }
        Some(Seal::AnthropicRedacted(data)) => Some(json!({"type": "redacted_thinking", "data": data})),
        _ => None,
    }
}

fn inline(media_type: &str, data: &str) -> Value {
    json!({"type": "base64", "media_type": media_type, "data": data})
}

fn image_type(media_type: &str) -> Result<&str, UpstreamError> {
    let name = if media_type == "image/jpg" { IMAGE_TYPES[0] } else { media_type };
    if IMAGE_TYPES.contains(&name) { Ok(name) } else { Err(unsupported(&format!("image of type `{media_type}`"))) }
}

fn plain_text(data: &str) -> Result<Value, UpstreamError> {
    let bytes = STANDARD.decode(data).map_err(|cause| invalid(format!("file_data: {cause}")))?;
    let words = String::from_utf8(bytes).map_err(|cause| invalid(format!("file_data: {cause}")))?;
    Ok(json!({"type": "text", "media_type": "text/plain", "data": words}))
}

fn unsupported(field: &str) -> UpstreamError {
    UpstreamError::Unsupported { message: field.into() }
}
