//! From `contents` to turns.

use std::collections::VecDeque;

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value};

use super::seal;
use crate::dialog::{Fields, File, Image, Part, Role, Seal, Source, Text, Thought, ToolCall, ToolResult, Turn};

/// Takes `systemInstruction`.
pub(super) fn system(body: &mut Fields) -> Result<Vec<Text>, UpstreamError> {
    let Some(mut system) = body.object("systemInstruction")? else { return Ok(Vec::new()) };
    let texts = system.objects("parts")?.into_iter().map(|mut part| part.required_text("text"));
    texts.map(|text| text.map(Text::new)).collect()
}

/// Takes `contents`. Clients keep a streamed answer as they got it, chunk by chunk: one turn here.
pub(super) fn turns(body: &mut Fields) -> Result<Vec<Turn>, UpstreamError> {
    let (mut calls, mut turns) = (Calls::default(), Vec::<Turn>::new());
    for mut content in body.objects("contents")? {
        let role = role(&mut content)?;
        if turns.last().is_none_or(|turn| turn.role != role) {
            turns.push(Turn { role, parts: Vec::new() });
        }
        for sent in content.objects("parts")? {
            let part = part(sent, &mut calls)?;
            if let Some(turn) = turns.last_mut() {
                add(turn, part);
            }
        }
    }
    turns.retain(|turn| turn.role == Role::User || !turn.parts.is_empty());
    Ok(turns)
}

/// Whoever says nothing of who speaks is the user.
fn role(content: &mut Fields) -> Result<Role, UpstreamError> {
    match content.text("role")?.as_deref() {
        Some("model") => Ok(Role::Assistant),
        None | Some("" | "user" | "function" | "tool") => Ok(Role::User),
        Some(_) => Err(content.wrong("role", "is neither `user` nor `model`")),
    }
}

/// The model's words and thoughts come in pieces when they were streamed. A signature ends what it proves.
fn add(turn: &mut Turn, part: Part) {
    match (turn.parts.last_mut(), part) {
        (Some(Part::Thought(open)), Part::Thought(more)) if open.seal.is_none() => {
            open.text.push_str(&more.text);
            open.seal = more.seal;
        }
        (Some(Part::Text(open)), Part::Text(more)) if turn.role == Role::Assistant && open.seal.is_none() => {
            open.text.push_str(&more.text);
            open.seal = more.seal;
        }
        (_, Part::Text(text)) if turn.role == Role::Assistant && text.text.is_empty() => {}
        (_, part) => turn.parts.push(part),
    }
}

/// Calls that wait for their results. Google's older models give them no ids; then results follow in the order of
/// calls.
#[derive(Debug, Default)]
struct Calls {
    made: usize,
    waiting: VecDeque<(String, String)>,
}

impl Calls {
    fn made(&mut self, id: Option<String>, name: &str) -> String {
        self.made += 1;
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{name}_{}", self.made));
        self.waiting.push_back((name.to_owned(), id.clone()));
        id
    }

    fn answered(&mut self, id: Option<String>, name: &str) -> String {
        let id = id.filter(|id| !id.is_empty());
        let is_it = |(called, waiting): &(String, String)| id.as_ref().map_or(called == name, |id| id == waiting);
        let found = self.waiting.iter().position(is_it).and_then(|at| self.waiting.remove(at));
        id.or_else(|| found.map(|(_, id)| id)).unwrap_or_else(|| format!("call_{name}"))
    }
}

fn part(mut part: Fields, calls: &mut Calls) -> Result<Part, UpstreamError> {
    let seal = part.text("thoughtSignature")?.map(seal::of_opaque);
    let is_thought = part.flag("thought")? == Some(true);
    if let Some(text) = part.text("text")? {
        return Ok(words(text, is_thought, seal));
    }
    if let Some(call) = part.object("functionCall")? {
        return tool_call(call, seal, calls);
    }
    if let Some(response) = part.object("functionResponse")? {
        return tool_result(response, calls);
    }
    let video = part.take("videoMetadata");
    match media(&mut part)? {
        Some(media) if video.is_none() => Ok(media),
        _ if video.is_some() => Err(UpstreamError::Unsupported { message: part.at("videoMetadata").into() }),
        _ if is_thought || seal.is_some() => Ok(Part::Thought(Thought { text: String::new(), seal })),
        _ => Err(unknown(part)),
    }
}

/// A signature of a thought of another provider's stands on a part of its own without words.
fn words(text: String, is_thought: bool, seal: Option<Seal>) -> Part {
    let is_proof = text.is_empty() && seal.is_some();
    match is_thought || is_proof {
        true => Part::Thought(Thought { text, seal }),
        false => Part::Text(Text { seal, ..Text::new(text) }),
    }
}

fn unknown(part: Fields) -> UpstreamError {
    let path = part.at("");
    let path = path.trim_end_matches('.');
    match part.left().into_iter().next() {
        Some(kind) => UpstreamError::Unsupported { message: kind },
        None => crate::dialog::invalid(format!("{path}: says nothing")),
    }
}

fn tool_call(mut call: Fields, seal: Option<Seal>, calls: &mut Calls) -> Result<Part, UpstreamError> {
    let (id, name) = (call.text("id")?, call.required_text("name")?);
    let arguments = call.take("args").unwrap_or_else(|| Map::new().into()).to_string();
    let id = calls.made(id, &name);
    Ok(Part::ToolCall(ToolCall { id, name, arguments, custom: false, seal, cache: None }))
}

/// `response` is an object of the caller's making; Google's own words in it are `output` and `error`.
fn tool_result(mut result: Fields, calls: &mut Calls) -> Result<Part, UpstreamError> {
    let (id, name) = (result.text("id")?, result.required_text("name")?);
    let response = result.object("response")?.map(Fields::into_members).unwrap_or_default();
    let (outcome, is_error) = outcome(response);
    let mut content = vec![Part::text(outcome)];
    for mut part in result.objects("parts")? {
        content.extend(media(&mut part)?);
    }
    let id = calls.answered(id, &name);
    Ok(Part::ToolResult(ToolResult { id, name, content, is_error, custom: false, cache: None }))
}

fn outcome(mut response: Map<String, Value>) -> (String, bool) {
    let only = |name: &str, response: &mut Map<String, Value>| {
        if response.len() == 1 { response.remove(name) } else { None }
    };
    if let Some(error) = only("error", &mut response) {
        return (text_of(error), true);
    }
    let output = only("output", &mut response).or_else(|| only("result", &mut response));
    (output.map_or_else(|| Value::from(response).to_string(), text_of), false)
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

/// `inlineData` or `fileData`.
fn media(part: &mut Fields) -> Result<Option<Part>, UpstreamError> {
    if let Some(mut blob) = part.object("inlineData")? {
        let (media_type, data) = (blob.required_text("mimeType")?, blob.required_text("data")?);
        return Ok(Some(inline(media_type, data, blob.text("displayName")?)));
    }
    let Some(mut file) = part.object("fileData")? else { return Ok(None) };
    let (url, media_type) = (file.required_text("fileUri")?, file.text("mimeType")?.unwrap_or_default());
    if !url.starts_with("https://") || url.starts_with("https://generativelanguage.googleapis.com/") {
        return Err(UpstreamError::Unsupported {
            message: format!("{}: a file that only Google has", file.at("fileUri")).into(),
        });
    }
    let (source, name) = (Source::Url(url), file.text("displayName")?);
    Ok(Some(match media_type.starts_with("image/") {
        true => Part::Image(Image { source, detail: None, cache: None }),
        false => Part::File(File { source, name, cache: None }),
    }))
}

fn inline(media_type: String, data: String, name: Option<String>) -> Part {
    let format = match media_type.as_str() {
        "audio/wav" | "audio/x-wav" | "audio/wave" => Some("wav"),
        "audio/mp3" | "audio/mpeg" => Some("mp3"),
        _ => None,
    };
    if let Some(format) = format {
        return Part::Audio { data, format: format.to_owned() };
    }
    let is_image = media_type.starts_with("image/");
    let source = Source::Inline { media_type, data };
    match is_image {
        true => Part::Image(Image { source, detail: None, cache: None }),
        false => Part::File(File { source, name, cache: None }),
    }
}
