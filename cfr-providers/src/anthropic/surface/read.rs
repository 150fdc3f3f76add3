//! From a Messages request to a dialog (providers.md §6.1, §14).

use cfr_core::upstream::UpstreamError;
use serde_json::Value;

use super::blocks::Reader;
use super::tools;
use crate::dialog::{CacheMark, Dialog, Effort, Fields, Format, Part, Reasoning, Sampling, SchemaFormat};

/// Fields that we act on ourselves.
const OURS: [&str; 2] = ["model", "drop_params"];
/// Fields without which the answer would be another: no other provider has words for them.
const ESSENTIAL: [&str; 2] = ["mcp_servers", "container"];
/// The geography that is no wish.
const ANYWHERE: &str = "global";
/// The name of a shape of answer, which the dialect has none for.
const SCHEMA_NAME: &str = "output";

pub(super) fn dialog(mut body: Fields, drop_params: bool) -> Result<Dialog, UpstreamError> {
    OURS.iter().for_each(|name| drop(body.take(name)));
    refuse_essential(&mut body, drop_params)?;
    let marked = cache_mark(&mut body)?;
    let mut reader = Reader { drop_params, unread: Vec::new() };
    let (system, turns) = reader.conversation(&mut body)?;
    let (effort, format) = output(&mut body)?;
    let mut dialog = Dialog {
        system,
        turns,
        output_tokens_max: body.integer("max_tokens")?,
        choices: 1,
        sampling: sampling(&mut body)?,
        stop: body.texts("stop_sequences")?,
        format,
        reasoning: reasoning(&mut body, effort)?,
        end_user: end_user(&mut body)?,
        service_tier: service_tier(&mut body)?,
        stream: body.flag("stream")?.unwrap_or(false),
        unread: reader.unread,
        ..Dialog::default()
    };
    tools::read(&mut body, drop_params, &mut dialog)?;
    if let Some(last) = dialog.turns.last_mut().and_then(|turn| turn.parts.last_mut()) {
        mark(last, marked);
    }
    dialog.unread.extend(body.left());
    Ok(dialog)
}

fn refuse_essential(body: &mut Fields, drop_params: bool) -> Result<(), UpstreamError> {
    if drop_params {
        return Ok(()); // they are left over, and reported as such
    }
    let said = |value: &Value| value.as_array().is_none_or(|list| !list.is_empty());
    let named = ESSENTIAL.into_iter().find(|name| body.take(name).as_ref().is_some_and(said));
    let elsewhere = body.text("inference_geo")?.filter(|geo| geo != ANYWHERE).map(|_| "inference_geo");
    match named.or(elsewhere) {
        Some(name) => Err(UpstreamError::Unsupported { message: name.into() }),
        None => Ok(()),
    }
}

fn sampling(body: &mut Fields) -> Result<Sampling, UpstreamError> {
    Ok(Sampling {
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        top_k: body.number("top_k")?,
        ..Sampling::default()
    })
}

/// `output_config`, and `output_format` as it was called before.
fn output(body: &mut Fields) -> Result<(Option<Effort>, Format), UpstreamError> {
    let older = body.object("output_format")?;
    let Some(mut config) = body.object("output_config")? else { return Ok((None, format(older)?)) };
    let effort = config.text("effort")?;
    let wrong = |_: &String| config.wrong("effort", "is not an effort");
    let effort = effort.map(|word| Effort::from_name(&word).ok_or(word)).transpose().map_err(|word| wrong(&word))?;
    Ok((effort, format(config.object("format")?.or(older))?))
}

fn format(wanted: Option<Fields>) -> Result<Format, UpstreamError> {
    let Some(mut wanted) = wanted else { return Ok(Format::Text) };
    match wanted.required_text("type")?.as_str() {
        "json_schema" => {
            let schema = wanted.take("schema").ok_or_else(|| wanted.wrong("schema", "is required"))?;
            Ok(Format::Schema(SchemaFormat { name: SCHEMA_NAME.into(), description: None, schema, strict: None }))
        }
        other => Err(UpstreamError::Unsupported { message: format!("{} `{other}`", wanted.at("type")).into() }),
    }
}

fn reasoning(body: &mut Fields, effort: Option<Effort>) -> Result<Option<Reasoning>, UpstreamError> {
    let said = effort.map(Reasoning::Effort);
    let Some(mut thinking) = body.object("thinking")? else { return Ok(said) };
    Ok(match thinking.required_text("type")?.as_str() {
        "disabled" => Some(Reasoning::Off),
        "enabled" => thinking.integer("budget_tokens")?.map(Reasoning::Budget).or(said),
        _ => said.or(Some(Reasoning::Effort(Effort::Medium))),
    })
}

fn end_user(body: &mut Fields) -> Result<Option<String>, UpstreamError> {
    body.object("metadata")?.map_or(Ok(None), |mut metadata| metadata.text("user_id"))
}

/// In OpenAI's words.
fn service_tier(body: &mut Fields) -> Result<Option<String>, UpstreamError> {
    let tier = body.text("service_tier")?;
    Ok(tier.map(|tier| if tier == "standard_only" { "default".into() } else { tier }))
}

/// `cache_control`.
pub(super) fn cache_mark(fields: &mut Fields) -> Result<Option<CacheMark>, UpstreamError> {
    let Some(mut mark) = fields.object("cache_control")? else { return Ok(None) };
    let hour = mark.text("ttl")?.as_deref() == Some("1h");
    Ok(Some(if hour { CacheMark::Hour } else { CacheMark::Usual }))
}

/// Sets a mark on a part that can have one and has none.
fn mark(part: &mut Part, mark: Option<CacheMark>) {
    let cache = match part {
        Part::Text(text) => &mut text.cache,
        Part::Image(image) => &mut image.cache,
        Part::File(file) => &mut file.cache,
        Part::ToolCall(call) => &mut call.cache,
        Part::ToolResult(result) => &mut result.cache,
        _ => return,
    };
    *cache = cache.or(mark);
}
