//! From messages and their blocks to turns and their parts (providers.md §6.1, §14).

use cfr_core::upstream::UpstreamError;
use serde_json::Value;

use super::proof::{self, Proof};
use super::read::cache_mark;
use crate::dialog::{
    CacheMark, Fields, File, Image, Part, Role, Seal, Source, Text, Thought, ToolCall, ToolResult, Turn,
};

/// Reads `system` and `messages`. Blocks that nobody else has words for are left out where that is allowed.
pub(super) struct Reader {
    pub(super) drop_params: bool,
    /// Places of blocks that were left out.
    pub(super) unread: Vec<Box<str>>,
}

impl Reader {
    pub(super) fn conversation(&mut self, body: &mut Fields) -> Result<(Vec<Text>, Vec<Turn>), UpstreamError> {
        let system = self.texts(body, "system")?;
        let mut turns = Vec::new();
        for mut message in body.objects("messages")? {
            let role = match message.required_text("role")?.as_str() {
                "user" => Role::User,
                "assistant" => Role::Assistant,
                "system" => Role::System,
                _ => return Err(message.wrong("role", "is not a role")),
            };
            turns.push(Turn { role, parts: self.content(&mut message, "content")? });
        }
        Ok((system, turns))
    }

    fn texts(&mut self, body: &mut Fields, name: &str) -> Result<Vec<Text>, UpstreamError> {
        let parts = self.content(body, name)?;
        let text = |part| match part {
            Part::Text(text) => Ok(text),
            _ => Err(body.wrong(name, "must be text")),
        };
        parts.into_iter().map(text).collect()
    }

    /// Takes a text or a list of blocks.
    fn content(&mut self, fields: &mut Fields, name: &str) -> Result<Vec<Part>, UpstreamError> {
        let list = match fields.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => return Ok(vec![Part::text(text)]),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(fields.wrong(name, "must be a string or a list of blocks")),
        };
        let path = fields.at(name);
        let mut parts = Vec::with_capacity(list.len());
        for (index, block) in list.into_iter().enumerate() {
            self.add(Fields::of(block, format!("{path}[{index}]"))?, &mut parts)?;
        }
        Ok(parts)
    }

    /// Adds what a block says; often one part.
    fn add(&mut self, mut block: Fields, parts: &mut Vec<Part>) -> Result<(), UpstreamError> {
        let (kind, cache) = (block.required_text("type")?, cache_mark(&mut block)?);
        match kind.as_str() {
            "text" => parts.push(Part::Text(Text { text: block.required_text("text")?, cache, ..Text::default() })),
            "image" => parts.push(Part::Image(Image { source: source(&mut block)?, detail: None, cache })),
            "document" => self.document(&mut block, cache, parts)?,
            "search_result" => {
                let text = self.search_result(&mut block)?;
                parts.push(Part::Text(Text { text, cache, ..Text::default() }));
            }
            "thinking" => thinking(&mut block, parts)?,
            "redacted_thinking" => {
                let seal = Some(Seal::AnthropicRedacted(block.required_text("data")?));
                parts.push(Part::Thought(Thought { text: String::new(), seal }));
            }
            "tool_use" => parts.push(tool_use(&mut block, cache)?),
            "tool_result" => parts.push(self.tool_result(&mut block, cache)?),
            "compaction" => parts.extend(block.text("content")?.map(Part::text)),
            // What Anthropic's own tools did, in words that only Anthropic can read.
            kind if kind == "server_tool_use" || kind.ends_with("_tool_result") => {}
            other => self.unknown(format!("{} `{other}`", block.at("type")))?,
        }
        Ok(())
    }

    fn unknown(&mut self, place: String) -> Result<(), UpstreamError> {
        if !self.drop_params {
            return Err(UpstreamError::Unsupported { message: place.into() });
        }
        self.unread.push(place.into());
        Ok(())
    }

    fn tool_result(&mut self, block: &mut Fields, cache: Option<CacheMark>) -> Result<Part, UpstreamError> {
        let (id, is_error) = (block.required_text("tool_use_id")?, block.flag("is_error")?.unwrap_or(false));
        let content = self.content(block, "content")?;
        Ok(Part::ToolResult(ToolResult { id, name: String::new(), content, is_error, custom: false, cache }))
    }

    /// A document: a file, or words that every provider can read.
    fn document(
        &mut self,
        block: &mut Fields,
        cache: Option<CacheMark>,
        parts: &mut Vec<Part>,
    ) -> Result<(), UpstreamError> {
        let (title, context) = (block.text("title")?, block.text("context")?);
        let (kind, mut source) = typed_source(block)?;
        parts.extend(context.map(Part::text));
        if kind == "text" || kind == "content" {
            parts.extend(title.map(Part::text));
            let words = if kind == "text" { "data" } else { "content" };
            parts.extend(self.content(&mut source, words)?);
            if let Some(Part::Text(text)) = parts.last_mut() {
                text.cache = cache;
            }
            return Ok(());
        }
        let source = source_of(&kind, &mut source)?;
        parts.push(Part::File(File { source, name: title, cache }));
        Ok(())
    }

    fn search_result(&mut self, block: &mut Fields) -> Result<String, UpstreamError> {
        let mut lines: Vec<String> = [block.text("title")?, block.text("source")?].into_iter().flatten().collect();
        for text in self.texts(block, "content")? {
            lines.push(text.text);
        }
        Ok(lines.join("\n"))
    }
}

/// A thought, or a proof of what came before it.
fn thinking(block: &mut Fields, parts: &mut Vec<Part>) -> Result<(), UpstreamError> {
    let text = block.text("thinking")?.unwrap_or_default();
    let seal = match proof::read(block.text("signature")?.unwrap_or_default()) {
        Proof::Thought(seal) => seal,
        Proof::Before(seal) => {
            match parts.last_mut() {
                Some(Part::Text(said)) => said.seal = Some(seal),
                Some(Part::ToolCall(call)) => call.seal = Some(seal),
                _ => {}
            }
            return Ok(());
        }
    };
    parts.push(Part::Thought(Thought { text, seal }));
    Ok(())
}

fn tool_use(block: &mut Fields, cache: Option<CacheMark>) -> Result<Part, UpstreamError> {
    let (id, name) = (block.required_text("id")?, block.required_text("name")?);
    let arguments = block.take("input").map_or_else(|| "{}".to_owned(), |input| input.to_string());
    Ok(Part::ToolCall(ToolCall { id, name, arguments, custom: false, seal: None, cache }))
}

/// Where the bytes of a picture or a document are.
fn source(block: &mut Fields) -> Result<Source, UpstreamError> {
    let (kind, mut source) = typed_source(block)?;
    source_of(&kind, &mut source)
}

fn typed_source(block: &mut Fields) -> Result<(String, Fields), UpstreamError> {
    let mut source = block.object("source")?.ok_or_else(|| block.wrong("source", "is required"))?;
    Ok((source.required_text("type")?, source))
}

fn source_of(kind: &str, source: &mut Fields) -> Result<Source, UpstreamError> {
    Ok(match kind {
        "base64" => {
            Source::Inline { media_type: source.required_text("media_type")?, data: source.required_text("data")? }
        }
        "url" => Source::Url(source.required_text("url")?),
        "file" => Source::Uploaded(source.required_text("file_id")?),
        other => {
            return Err(UpstreamError::Unsupported { message: format!("{} `{other}`", source.at("type")).into() });
        }
    })
}
