//! From input items to turns.

use cfr_core::upstream::UpstreamError;
use serde_json::Value;

use super::super::seal::{self, Proven};
use crate::dialog::{Fields, File, Image, Part, Role, Seal, Source, Text, Thought, ToolCall, ToolResult, Turn};

/// Takes `instructions` and `input`: what the operator says at the beginning, and the turns.
pub(super) fn read(body: &mut Fields) -> Result<(Vec<Text>, Vec<Turn>), UpstreamError> {
    let mut conversation = Conversation::default();
    conversation.system.extend(body.text("instructions")?.map(Text::new));
    match body.take("input") {
        None => return Err(body.wrong("input", "is required")),
        Some(Value::String(text)) => conversation.say(Role::User, vec![Part::text(text)]),
        Some(Value::Array(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                conversation.item(Fields::of(item, format!("input[{index}]"))?)?;
            }
        }
        Some(_) => return Err(body.wrong("input", "must be a string or a list of items")),
    }
    Ok((conversation.system, conversation.turns))
}

#[derive(Default)]
struct Conversation {
    system: Vec<Text>,
    turns: Vec<Turn>,
}

impl Conversation {
    fn item(&mut self, mut item: Fields) -> Result<(), UpstreamError> {
        let kind = item.text("type")?;
        match kind.as_deref() {
            None | Some("message") => self.message(item),
            Some("function_call") => self.call(item, false),
            Some("custom_tool_call") => self.call(item, true),
            Some("function_call_output") => self.result(item, false),
            Some("custom_tool_call_output") => self.result(item, true),
            Some("reasoning") => self.reasoning(item),
            Some(other) => Err(UpstreamError::Unsupported { message: format!("{} `{other}`", item.at("type")).into() }),
        }
    }

    fn message(&mut self, mut item: Fields) -> Result<(), UpstreamError> {
        let role = item.required_text("role")?;
        let parts = content(&mut item, "content")?;
        match role.as_str() {
            "user" => self.say(Role::User, parts),
            "assistant" => self.answered(parts),
            "system" | "developer" => self.operator(parts, &item)?,
            _ => return Err(item.wrong("role", "is not a role")),
        }
        Ok(())
    }

    fn operator(&mut self, parts: Vec<Part>, item: &Fields) -> Result<(), UpstreamError> {
        if !self.turns.is_empty() {
            self.say(Role::System, parts);
            return Ok(());
        }
        for part in parts {
            match part {
                Part::Text(text) => self.system.push(text),
                _ => return Err(item.wrong("content", "must be text")),
            }
        }
        Ok(())
    }

    fn call(&mut self, mut item: Fields, custom: bool) -> Result<(), UpstreamError> {
        let (id, name) = (item.required_text("call_id")?, item.required_text("name")?);
        let input = item.text(if custom { "input" } else { "arguments" })?.unwrap_or_default();
        let arguments = if input.trim().is_empty() && !custom { "{}".to_owned() } else { input };
        self.answered(vec![Part::ToolCall(ToolCall { id, name, arguments, custom, seal: None, cache: None })]);
        Ok(())
    }

    fn result(&mut self, mut item: Fields, custom: bool) -> Result<(), UpstreamError> {
        let (id, content) = (item.required_text("call_id")?, content(&mut item, "output")?);
        let result = ToolResult { id, name: String::new(), content, is_error: false, custom, cache: None };
        let part = Part::ToolResult(result);
        match self.turns.last_mut() {
            Some(turn)
                if turn.role == Role::User && turn.parts.iter().all(|part| matches!(part, Part::ToolResult(_))) =>
            {
                turn.parts.push(part);
            }
            _ => self.say(Role::User, vec![part]),
        }
        Ok(())
    }

    fn reasoning(&mut self, mut item: Fields) -> Result<(), UpstreamError> {
        let id = item.text("id")?.unwrap_or_default();
        let (summary, whole) = (words(&mut item, "summary")?, words(&mut item, "content")?);
        let text = if summary.is_empty() { whole } else { summary };
        let sealed = item.text("encrypted_content")?.map(|encrypted| seal::read(&id, encrypted));
        match sealed {
            Some((seal, Proven::Before)) => self.prove(seal),
            Some((seal, Proven::Thought)) => self.answered(vec![Part::Thought(Thought { text, seal: Some(seal) })]),
            None if text.is_empty() => {}
            None => self.answered(vec![Part::Thought(Thought { text, seal: None })]),
        }
        Ok(())
    }

    fn say(&mut self, role: Role, parts: Vec<Part>) {
        self.turns.push(Turn { role, parts });
    }

    /// Everything that the model said before somebody else did is one turn.
    fn answered(&mut self, parts: Vec<Part>) {
        match self.turns.last_mut() {
            Some(turn) if turn.role == Role::Assistant => turn.parts.extend(parts),
            _ => self.say(Role::Assistant, parts),
        }
    }

    /// Puts a proof to the words or the call that it proves.
    fn prove(&mut self, proof: Seal) {
        let last = self.turns.last_mut().filter(|turn| turn.role == Role::Assistant);
        let part = last.and_then(|turn| turn.parts.last_mut());
        if let Some(Part::Text(Text { seal, .. }) | Part::ToolCall(ToolCall { seal, .. })) = part {
            *seal = Some(proof);
        }
    }
}

/// All words of a list of texts.
fn words(item: &mut Fields, field: &str) -> Result<String, UpstreamError> {
    let mut words = Vec::new();
    for mut part in item.objects(field)? {
        words.extend(part.text("text")?);
    }
    Ok(words.join("\n\n"))
}

/// A text or a list of parts.
fn content(item: &mut Fields, field: &str) -> Result<Vec<Part>, UpstreamError> {
    match item.take(field) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(list)) => {
            let path = item.at(field);
            let part = |(index, value)| part(Fields::of(value, format!("{path}[{index}]"))?);
            list.into_iter().enumerate().map(part).collect()
        }
        Some(_) => Err(item.wrong(field, "must be a string or a list of parts")),
    }
}

fn part(mut part: Fields) -> Result<Part, UpstreamError> {
    Ok(match part.required_text("type")?.as_str() {
        "input_text" | "output_text" | "text" => Part::text(part.required_text("text")?),
        "refusal" => Part::Refusal(part.required_text("refusal")?),
        "input_image" => Part::Image(image(&mut part)?),
        "input_file" => Part::File(file(&mut part)?),
        "input_audio" => {
            let mut audio = part.object("input_audio")?.ok_or_else(|| part.wrong("input_audio", "is required"))?;
            Part::Audio { data: audio.required_text("data")?, format: audio.required_text("format")? }
        }
        other => return Err(UpstreamError::Unsupported { message: format!("{} `{other}`", part.at("type")).into() }),
    })
}

fn image(part: &mut Fields) -> Result<Image, UpstreamError> {
    let (url, id) = (part.text("image_url")?, part.text("file_id")?);
    let source = url.map(Source::of_address).or(id.map(Source::Uploaded));
    let source = source.ok_or_else(|| part.wrong("image_url", "is required"))?;
    Ok(Image { source, detail: part.text("detail")?.filter(|detail| detail != "auto"), cache: None })
}

fn file(part: &mut Fields) -> Result<File, UpstreamError> {
    let (data, url, id) = (part.text("file_data")?, part.text("file_url")?, part.text("file_id")?);
    let address = data.or(url).map(Source::of_address);
    let source = address.or(id.map(Source::Uploaded)).ok_or_else(|| part.wrong("file_data", "is required"))?;
    Ok(File { source, name: part.text("filename")?, cache: None })
}
