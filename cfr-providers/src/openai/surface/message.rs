//! From chat messages to turns.

use cfr_core::upstream::UpstreamError;
use serde_json::Value;

use super::read::cache_mark;
use crate::dialog::{
    CacheMark, Fields, File, Image, Part, Role, Seal, Source, Text, Thought, ToolCall, ToolResult, Turn,
};

/// Takes `messages`: what the operator says at the beginning, and the turns.
pub(super) fn read(body: &mut Fields) -> Result<(Vec<Text>, Vec<Turn>), UpstreamError> {
    let (mut system, mut turns) = (Vec::new(), Vec::new());
    let mut legacy_calls = LegacyCalls::default();
    for mut message in body.objects("messages")? {
        match message.required_text("role")?.as_str() {
            "system" | "developer" if turns.is_empty() => system.extend(texts(&mut message)?),
            "system" | "developer" => {
                let parts = texts(&mut message)?.into_iter().map(Part::Text).collect();
                turns.push(Turn { role: Role::System, parts });
            }
            "user" => turns.push(Turn { role: Role::User, parts: content(&mut message)? }),
            "assistant" => turns.push(assistant(&mut message, &mut legacy_calls)?),
            "tool" => {
                let id = message.required_text("tool_call_id")?;
                turns.push(result(&mut message, id)?);
            }
            "function" => {
                let name = message.required_text("name")?;
                let id = legacy_calls.answered(&name);
                turns.push(result(&mut message, id)?);
            }
            _ => return Err(message.wrong("role", "is not a role")),
        }
    }
    Ok((system, turns))
}

/// Calls from before calls had ids: they are numbered.
#[derive(Debug, Default)]
struct LegacyCalls {
    made: usize,
    answered: usize,
}

impl LegacyCalls {
    fn made(&mut self, name: &str) -> String {
        self.made += 1;
        format!("call_{name}_{}", self.made)
    }

    fn answered(&mut self, name: &str) -> String {
        self.answered += 1;
        format!("call_{name}_{}", self.answered)
    }
}

fn result(message: &mut Fields, id: String) -> Result<Turn, UpstreamError> {
    let (content, cache) = (content(message)?, cache_mark(message)?);
    let result = ToolResult { id, name: String::new(), content, is_error: false, custom: false, cache };
    Ok(Turn { role: Role::User, parts: vec![Part::ToolResult(result)] })
}

fn assistant(message: &mut Fields, legacy_calls: &mut LegacyCalls) -> Result<Turn, UpstreamError> {
    let mut parts = thoughts(message)?;
    parts.extend(content(message)?);
    parts.extend(message.text("refusal")?.map(Part::Refusal));
    for call in message.objects("tool_calls")? {
        parts.push(Part::ToolCall(tool_call(call)?));
    }
    if let Some(mut call) = message.object("function_call")? {
        let (name, arguments) = (call.required_text("name")?, arguments(call.text("arguments")?));
        let id = legacy_calls.made(&name);
        parts.push(Part::ToolCall(ToolCall { id, name, arguments, custom: false, seal: None, cache: None }));
    }
    Ok(Turn { role: Role::Assistant, parts })
}

fn tool_call(mut call: Fields) -> Result<ToolCall, UpstreamError> {
    let (id, cache) = (call.required_text("id")?, cache_mark(&mut call)?);
    let seal = call.text("thought_signature")?.map(Seal::Gemini);
    if let Some(mut custom) = call.object("custom")? {
        let (name, arguments) = (custom.required_text("name")?, custom.text("input")?.unwrap_or_default());
        return Ok(ToolCall { id, name, arguments, custom: true, seal, cache });
    }
    let mut function = call.object("function")?.ok_or_else(|| call.wrong("function", "is required"))?;
    let (name, arguments) = (function.required_text("name")?, arguments(function.text("arguments")?));
    Ok(ToolCall { id, name, arguments, custom: false, seal, cache })
}

fn arguments(text: Option<String>) -> String {
    text.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "{}".to_owned())
}

/// `thinking_blocks`, as we write them, or `reasoning_content`, which no provider can check and all but a few leave out.
fn thoughts(message: &mut Fields) -> Result<Vec<Part>, UpstreamError> {
    let blocks = message.objects("thinking_blocks")?;
    let text = message.text("reasoning_content")?;
    if blocks.is_empty() {
        let unproven = text.filter(|text| !text.is_empty()).map(|text| Thought { text, seal: None });
        return Ok(unproven.map(Part::Thought).into_iter().collect());
    }
    blocks.into_iter().map(thinking_block).collect()
}

fn thinking_block(mut block: Fields) -> Result<Part, UpstreamError> {
    let kind = block.required_text("type")?;
    let text = block.text("thinking")?.unwrap_or_default();
    let seal = match kind.as_str() {
        "thinking" => block.text("signature")?.map(Seal::Anthropic),
        "redacted_thinking" => block.text("data")?.map(Seal::AnthropicRedacted),
        "gemini_signature" => block.text("data")?.map(Seal::Gemini),
        "openai_reasoning" => {
            Some(Seal::OpenAi { id: block.required_text("id")?, encrypted: block.text("encrypted_content")? })
        }
        _ => None,
    };
    Ok(Part::Thought(Thought { text, seal }))
}

fn texts(message: &mut Fields) -> Result<Vec<Text>, UpstreamError> {
    let parts = content(message)?;
    let text = |part| match part {
        Part::Text(text) => Ok(text),
        _ => Err(message.wrong("content", "must be text")),
    };
    parts.into_iter().map(text).collect()
}

/// Takes `content`: a text or a list of parts.
fn content(message: &mut Fields) -> Result<Vec<Part>, UpstreamError> {
    let cache = cache_mark(message)?;
    let mut parts = match message.take("content") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![Part::text(text)],
        Some(Value::Array(list)) => {
            let path = message.at("content");
            let part = |(index, value)| part(Fields::of(value, format!("{path}[{index}]"))?);
            list.into_iter().enumerate().map(part).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(message.wrong("content", "must be a string or a list of parts")),
    };
    if let (Some(mark), Some(last)) = (cache, parts.last_mut()) {
        mark_part(last, mark);
    }
    Ok(parts)
}

fn mark_part(part: &mut Part, mark: CacheMark) {
    match part {
        Part::Text(Text { cache, .. }) | Part::Image(Image { cache, .. }) | Part::File(File { cache, .. }) => {
            *cache = Some(mark);
        }
        _ => {}
    }
}

fn part(mut part: Fields) -> Result<Part, UpstreamError> {
    let (kind, cache) = (part.required_text("type")?, cache_mark(&mut part)?);
    Ok(match kind.as_str() {
        "text" => Part::Text(Text { text: part.required_text("text")?, cache, ..Text::default() }),
        "refusal" => Part::Refusal(part.required_text("refusal")?),
        "image_url" => Part::Image(Image { cache, ..image(&mut part)? }),
        "input_audio" => {
            let mut audio = part.object("input_audio")?.ok_or_else(|| part.wrong("input_audio", "is required"))?;
            Part::Audio { data: audio.required_text("data")?, format: audio.required_text("format")? }
        }
        "file" => Part::File(File { cache, ..file(&mut part)? }),
        other => {
            return Err(UpstreamError::Unsupported { message: format!("{} `{other}`", part.at("type")).into() });
        }
    })
}

/// Some servers take the address itself in place of the object around it, and so do we.
fn image(part: &mut Fields) -> Result<Image, UpstreamError> {
    let (url, detail) = match part.take("image_url") {
        Some(Value::String(url)) => (url, None),
        Some(object) => {
            let mut image = Fields::of(object, part.at("image_url"))?;
            (image.required_text("url")?, image.text("detail")?)
        }
        None => return Err(part.wrong("image_url", "is required")),
    };
    Ok(Image { source: Source::of_address(url), detail, cache: None })
}

fn file(part: &mut Fields) -> Result<File, UpstreamError> {
    let mut file = part.object("file")?.ok_or_else(|| part.wrong("file", "is required"))?;
    let (data, id, name) = (file.text("file_data")?, file.text("file_id")?, file.text("filename")?);
    let source = data.map(Source::of_address).or(id.map(Source::Uploaded));
    let source = source.ok_or_else(|| file.wrong("file_data", "is required"))?;
    Ok(File { source, name, cache: None })
}
