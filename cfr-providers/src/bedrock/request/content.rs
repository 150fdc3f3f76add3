//! What is said, as blocks of one member each (providers.md §8.2, §13.3).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::document::{self, Names};
use crate::anthropic::Marks;
use crate::bedrock::S3;
use crate::bedrock::family::Family;
use crate::dialog::{
    CacheMark, Drops, File, Image, Part, Role, Seal, Source, Text, Thought, ToolCall, ToolResult, Turn, value_of,
};

/// Stands where words are wanted and there are none but blanks.
const EMPTY: &str = "(empty)";
/// Stands beside a document, which may not be alone.
const BESIDE_DOCUMENT: &str = "(document)";
/// The pictures that models see, by the word behind `image/`.
const IMAGE_FORMATS: [&str; 4] = ["png", "jpeg", "gif", "webp"];

/// Writes what is said.
pub(in crate::bedrock) struct Content<'a> {
    family: Family,
    /// Calls of tools and their results are told in words where no tools are named: blocks of them would be refused.
    has_tools: bool,
    names: Names,
    marks: &'a mut Marks,
    drops: &'a mut Drops,
}

impl<'a> Content<'a> {
    pub(in crate::bedrock) fn new(family: Family, has_tools: bool, marks: &'a mut Marks, drops: &'a mut Drops) -> Self {
        Self { family, has_tools, names: Names::default(), marks, drops }
    }

    /// `system`, with more words behind it.
    pub(super) fn system(&mut self, texts: &[Text], more: Option<&str>) -> Vec<Value> {
        let mut blocks = Vec::new();
        texts.iter().for_each(|text| self.words(text, &mut blocks));
        blocks.extend(more.map(words));
        blocks
    }

    /// `messages`.
    pub(in crate::bedrock) fn messages(&mut self, turns: &[Turn]) -> Result<Vec<Value>, UpstreamError> {
        let mut messages = Vec::with_capacity(turns.len());
        for (at, turn) in turns.iter().enumerate() {
            let (role, mut blocks) = match turn.role {
                Role::Assistant => ("assistant", self.assistant(&turn.parts)),
                Role::User | Role::System => ("user", self.user(&turn.parts)?),
            };
            if blocks.is_empty() {
                blocks.push(words(EMPTY));
            }
            if at + 1 == turns.len() && turn.role == Role::Assistant {
                blocks.last_mut().into_iter().for_each(trim_end);
            }
            messages.push(json!({"role": role, "content": blocks}));
        }
        Ok(messages)
    }

    fn assistant(&mut self, parts: &[Part]) -> Vec<Value> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Part::Text(text) => self.words(text, &mut blocks),
                Part::Refusal(refusal) => self.words(&Text::new(refusal), &mut blocks),
                Part::Thought(thought) => blocks.extend(self.thought(thought)),
                Part::ToolCall(call) if self.has_tools => {
                    let block = json!({"toolUseId": call.id, "name": call.name, "input": input(call)});
                    blocks.push(json!({ "toolUse": block }));
                    blocks.extend(self.cache_point(call.cache));
                }
                Part::ToolCall(call) => {
                    blocks.push(words(&format!("[tool call {}] {}", call.name, call.arguments)));
                }
                _ => self.drops.harmless("messages: a picture or a file of the assistant's"),
            }
        }
        blocks
    }

    fn user(&mut self, parts: &[Part]) -> Result<Vec<Value>, UpstreamError> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Part::ToolResult(result) => self.result(result, &mut blocks)?,
                part => self.block(part, &mut blocks)?,
            }
        }
        let has = |name: &str| blocks.iter().any(|block| block.get(name).is_some());
        if has("document") && !has("text") {
            blocks.push(words(BESIDE_DOCUMENT));
        }
        Ok(blocks)
    }

    /// What a user's turn and a tool's result are made of.
    fn block(&mut self, part: &Part, blocks: &mut Vec<Value>) -> Result<(), UpstreamError> {
        match part {
            Part::Text(text) => self.words(text, blocks),
            Part::Refusal(refusal) => self.words(&Text::new(refusal), blocks),
            Part::Image(picture) => {
                blocks.extend(self.image(picture)?);
                blocks.extend(self.cache_point(picture.cache));
            }
            Part::File(file) => {
                blocks.extend(self.document(file)?);
                blocks.extend(self.cache_point(file.cache));
            }
            Part::Audio { data, format } => blocks.extend(self.audio(data, format)?),
            Part::Thought(_) | Part::ToolCall(_) | Part::ToolResult(_) => {} // not in these places
        }
        Ok(())
    }

    /// Words; blanks alone are refused, and say nothing.
    fn words(&mut self, said: &Text, blocks: &mut Vec<Value>) {
        if said.text.trim().is_empty() {
            return;
        }
        blocks.push(words(&said.text));
        blocks.extend(self.cache_point(said.cache));
    }

    /// A place to cache up to is a block of its own here.
    fn cache_point(&mut self, mark: Option<CacheMark>) -> Option<Value> {
        cache_point(self.family, mark, self.marks, self.drops)
    }

    /// A thought with Anthropic's own proof goes back to its models; no other model wants its thoughts back.
    fn thought(&self, thought: &Thought) -> Option<Value> {
        let content = match &thought.seal {
            Some(Seal::Anthropic(signature)) => {
                json!({"reasoningText": {"text": thought.text, "signature": signature}})
            }
            Some(Seal::AnthropicRedacted(data)) => json!({ "redactedContent": data }),
            _ => return None,
        };
        (self.family == Family::Claude).then(|| json!({ "reasoningContent": content }))
    }

    fn result(&mut self, result: &ToolResult, blocks: &mut Vec<Value>) -> Result<(), UpstreamError> {
        let mut content = Vec::with_capacity(result.content.len());
        for part in &result.content {
            self.block(part, &mut content)?;
        }
        if !self.has_tools {
            let kind = if result.is_error { "error" } else { "result" };
            blocks.push(words(&format!("[tool {kind} {}]", result.name)));
            blocks.append(&mut content);
            return Ok(());
        }
        // A place to cache up to is none inside of a result.
        content.retain(|block| block.get("cachePoint").is_none());
        if content.is_empty() {
            content.push(words(EMPTY));
        }
        blocks.push(json!({ "toolResult": self.tool_result(result, content) }));
        blocks.extend(self.cache_point(result.cache));
        Ok(())
    }

    fn tool_result(&self, result: &ToolResult, mut content: Vec<Value>) -> Map<String, Value> {
        let mut block = Map::from_iter([("toolUseId".to_owned(), Value::from(result.id.as_str()))]);
        if result.is_error && self.family.knows_failed_tools() {
            block.insert("status".into(), "error".into());
        } else if result.is_error {
            content.insert(0, words("[error]"));
        }
        block.insert("content".into(), content.into());
        block
    }

    fn image(&mut self, picture: &Image) -> Result<Option<Value>, UpstreamError> {
        if picture.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.drops.harmless("image_url.detail");
        }
        let format = match &picture.source {
            Source::Inline { media_type, .. } => media_type.strip_prefix("image/").unwrap_or(media_type),
            Source::Url(url) => url.rsplit('.').next().unwrap_or_default(),
            Source::Uploaded(_) => "",
        };
        let format = if format == "jpg" { "jpeg" } else { format };
        let Some(source) = self.source(&picture.source, "image_url")? else { return Ok(None) };
        if !IMAGE_FORMATS.contains(&format) {
            self.drops.essential(format!("image_url of format `{format}`"))?;
            return Ok(None);
        }
        Ok(Some(json!({"image": {"format": format, "source": source}})))
    }

    fn document(&mut self, file: &File) -> Result<Option<Value>, UpstreamError> {
        let Some(source) = self.source(&file.source, "file")? else { return Ok(None) };
        let Some(format) = document::format(file) else {
            self.drops.essential("file of this type")?;
            return Ok(None);
        };
        let name = self.names.name(file.name.as_deref());
        Ok(Some(json!({"document": {"format": format, "name": name, "source": source}})))
    }

    /// Bytes, or a place in S3. Bedrock fetches from nowhere else.
    fn source(&mut self, source: &Source, field: &'static str) -> Result<Option<Value>, UpstreamError> {
        let missing = match source {
            Source::Inline { data, .. } => return Ok(Some(json!({ "bytes": data }))),
            Source::Url(url) if url.starts_with(S3) => return Ok(Some(json!({"s3Location": {"uri": url}}))),
            Source::Url(_) => format!("{field} with an address"),
            Source::Uploaded(_) => "file_id".to_owned(),
        };
        self.drops.essential(missing)?;
        Ok(None)
    }

    /// Only some models hear.
    fn audio(&mut self, data: &str, format: &str) -> Result<Option<Value>, UpstreamError> {
        if matches!(self.family, Family::Nova | Family::Mistral) {
            return Ok(Some(json!({"audio": {"format": format, "source": {"bytes": data}}})));
        }
        self.drops.essential("input_audio")?;
        Ok(None)
    }
}

/// The block that says: cache up to here. Models that keep no prompts refuse it.
pub(super) fn cache_point(
    family: Family,
    mark: Option<CacheMark>,
    marks: &mut Marks,
    drops: &mut Drops,
) -> Option<Value> {
    mark?;
    if !family.caches() {
        drops.harmless("cache_control");
        return None;
    }
    let mut point = Map::new();
    marks.set(&mut point, mark);
    let mut point = point.remove("cache_control")?;
    point["type"] = "default".into();
    Some(json!({ "cachePoint": point }))
}

fn words(text: &str) -> Value {
    json!({ "text": text })
}

/// An answer that is begun for the model may not end with a blank.
fn trim_end(block: &mut Value) {
    if let Some(Value::String(text)) = block.get_mut("text") {
        text.truncate(text.trim_end().len());
    }
}

/// Arguments are an object; whatever else a model wrote is kept inside of one.
fn input(call: &ToolCall) -> Value {
    if call.custom {
        return json!({"input": call.arguments});
    }
    match value_of(&call.arguments) {
        Value::Object(members) => members.into(),
        other => json!({ "_raw": other }),
    }
}
