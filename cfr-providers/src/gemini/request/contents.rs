//! From turns to `contents`: who said what, with the signatures that Google wants to see again (providers.md §7.2,
//! §13.3).

use cfr_core::upstream::UpstreamError;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::dialog::{Dialog, Drops, Part, Role, Seal, Source, Text, ToolCall, ToolResult, Turn};
use crate::gemini::model::Family;
use crate::gemini::place::Site;

/// Stands for the signature of a call that another model made: base64 of `skip_thought_signature_validator`.
pub(in crate::gemini) const NOT_GOOGLES: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// One turn.
#[derive(Debug, Serialize)]
pub(super) struct Content {
    role: &'static str,
    parts: Vec<Sent>,
}

/// A part with its signature.
#[derive(Debug, Serialize)]
struct Sent {
    #[serde(flatten)]
    said: Said,
    #[serde(rename = "thoughtSignature", skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Said {
    Text(String),
    InlineData(Blob),
    FileData(Place),
    FunctionCall(Call),
    FunctionResponse(Response),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    mime_type: String,
    data: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    mime_type: &'static str,
    file_uri: String,
}

#[derive(Debug, Serialize)]
struct Call {
    id: String,
    name: String,
    args: Box<RawValue>,
}

#[derive(Debug, Serialize)]
struct Response {
    id: String,
    name: String,
    response: Outcome,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Said>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Output(Box<RawValue>),
    Error(Box<RawValue>),
}

/// The conversation. Turns of which nothing is left are left out.
pub(super) fn of(
    site: Site,
    family: Family,
    dialog: &Dialog,
    drops: &mut Drops,
) -> Result<Vec<Content>, UpstreamError> {
    let mut writer = Writer { site, family, drops };
    let contents = dialog.turns.iter().map(|turn| writer.turn(turn)).collect::<Result<Vec<_>, _>>()?;
    Ok(contents.into_iter().filter(|content| !content.parts.is_empty()).collect())
}

struct Writer<'a> {
    site: Site,
    family: Family,
    drops: &'a mut Drops,
}

impl Writer<'_> {
    fn turn(&mut self, turn: &Turn) -> Result<Content, UpstreamError> {
        let mut parts = Vec::with_capacity(turn.parts.len());
        for part in &turn.parts {
            self.part(part, &mut parts)?;
        }
        if turn.role != Role::Assistant {
            return Ok(Content { role: "user", parts });
        }
        self.sign(&mut parts, loose_signatures(turn));
        Ok(Content { role: "model", parts })
    }

    fn part(&mut self, part: &Part, out: &mut Vec<Sent>) -> Result<(), UpstreamError> {
        match part {
            Part::Text(Text { text, seal, .. }) => {
                out.push(Sent { said: Said::Text(text.clone()), signature: of_google(seal) })
            }
            Part::Refusal(text) => out.push(Said::Text(text.clone()).into()),
            Part::ToolCall(call) => out.push(self.call(call)?),
            Part::ToolResult(result) => self.result(result, out)?,
            Part::Thought(_) => {} // its signature, if it is Google's, goes where it belongs
            part => out.extend(self.media(part)?.map(Sent::from)),
        }
        Ok(())
    }

    fn call(&mut self, call: &ToolCall) -> Result<Sent, UpstreamError> {
        let args = match call.custom {
            true => raw(json!({"input": call.arguments}).to_string()),
            false => object(&call.arguments).map_or_else(|| raw(json!({"_raw": call.arguments}).to_string()), Ok),
        }?;
        let said = Said::FunctionCall(Call { id: call.id.clone(), name: call.name.clone(), args });
        Ok(Sent { said, signature: of_google(&call.seal) })
    }

    /// Pictures of a result stand in it where the model can read them there, and behind it otherwise.
    fn result(&mut self, result: &ToolResult, out: &mut Vec<Sent>) -> Result<(), UpstreamError> {
        let outcome = output(&result.text())?;
        let response = if result.is_error { Outcome::Error(outcome) } else { Outcome::Output(outcome) };
        let mut media = Vec::new();
        for part in result.content.iter().filter(|part| !matches!(part, Part::Text(_))) {
            media.extend(self.media(part)?);
        }
        let (parts, behind) = if self.family.is_current { (media, Vec::new()) } else { (Vec::new(), media) };
        let (id, name) = (result.id.clone(), result.name.clone());
        out.push(Said::FunctionResponse(Response { id, name, response, parts }).into());
        out.extend(behind.into_iter().map(Sent::from));
        Ok(())
    }

    fn media(&mut self, part: &Part) -> Result<Option<Said>, UpstreamError> {
        match part {
            Part::Image(image) => {
                if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.drops.harmless("image_url.detail");
                }
                self.source(&image.source, "image_url")
            }
            Part::File(file) => self.source(&file.source, "file"),
            Part::Audio { data, format } => {
                Ok(Some(Said::InlineData(Blob { mime_type: format!("audio/{format}"), data: data.clone() })))
            }
            _ => Ok(None),
        }
    }

    /// Vertex fetches what has an address; AI Studio wants the bytes.
    fn source(&mut self, source: &Source, field: &'static str) -> Result<Option<Said>, UpstreamError> {
        match source {
            Source::Inline { media_type, data } => {
                return Ok(Some(Said::InlineData(Blob { mime_type: media_type.clone(), data: data.clone() })));
            }
            Source::Url(url) if self.site == Site::Vertex => {
                if let Some(mime_type) = media_type_of(url) {
                    return Ok(Some(Said::FileData(Place { mime_type, file_uri: url.clone() })));
                }
                self.drops.essential(format!("{field}: an address whose end does not say what it is"))?;
            }
            Source::Url(_) => self.drops.essential(format!("{field}: an address in place of the bytes"))?,
            Source::Uploaded(_) => self.drops.essential(format!("{field}: an uploaded file"))?,
        }
        Ok(None)
    }

    /// Puts signatures that came apart from their parts back: the last one on the first call, which must have one, the
    /// others on words. A call of another model's says that it is one.
    fn sign(&self, parts: &mut Vec<Sent>, mut loose: Vec<String>) {
        let first_call = parts.iter_mut().find(|part| matches!(part.said, Said::FunctionCall(_)));
        if let Some(call) = first_call.filter(|call| call.signature.is_none()) {
            call.signature = loose.pop();
            if call.signature.is_none() && self.family.is_current {
                call.signature = Some(NOT_GOOGLES.to_owned());
            }
        }
        let mut loose = loose.into_iter();
        let words = parts.iter_mut().filter(|part| matches!(part.said, Said::Text(_)) && part.signature.is_none());
        for (part, signature) in words.zip(loose.by_ref()) {
            part.signature = Some(signature);
        }
        parts.extend(loose.map(|signature| Sent { said: Said::Text(String::new()), signature: Some(signature) }));
    }
}

/// Signatures that dialects without a place for them on words and calls bring with thoughts.
fn loose_signatures(turn: &Turn) -> Vec<String> {
    let thoughts = turn.parts.iter().filter_map(|part| match part {
        Part::Thought(thought) => of_google(&thought.seal),
        _ => None,
    });
    thoughts.collect()
}

fn of_google(seal: &Option<Seal>) -> Option<String> {
    match seal {
        Some(Seal::Gemini(signature)) => Some(signature.clone()),
        _ => None,
    }
}

impl From<Said> for Sent {
    fn from(said: Said) -> Self {
        Self { said, signature: None }
    }
}

/// What a tool answered: an object or a list as it is, everything else as a text.
fn output(text: &str) -> Result<Box<RawValue>, UpstreamError> {
    let has_form = matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'['));
    let json = has_form.then(|| serde_json::from_str::<Box<RawValue>>(text).ok()).flatten();
    json.map_or_else(|| raw(json!(text).to_string()), Ok)
}

fn object(json: &str) -> Option<Box<RawValue>> {
    let json = json.trim();
    json.starts_with('{').then(|| serde_json::from_str(json).ok()).flatten()
}

fn raw(json: String) -> Result<Box<RawValue>, UpstreamError> {
    RawValue::from_string(json).map_err(|cause| UpstreamError::Unsupported { message: cause.to_string().into() })
}

/// What an address leads to, by its end.
pub(in crate::gemini) fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, end) = path.rsplit_once('.')?;
    Some(match end.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        _ => return None,
    })
}
