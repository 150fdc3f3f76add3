//! Tools of a Messages request (providers.md §6.1, §14).

use cfr_core::upstream::UpstreamError;
use serde_json::{Value, json};

use super::read::cache_mark;
use crate::dialog::{Dialog, Fields, Tool, ToolChoice, WebSearch};

/// How the types of Anthropic's search of the web begin; a date follows.
const WEB_SEARCH: &str = "web_search_";
/// Fields of the search that bound what it may find.
const BOUNDS: [&str; 2] = ["allowed_domains", "blocked_domains"];

/// Takes `tools` and `tool_choice`.
pub(super) fn read(body: &mut Fields, drop_params: bool, dialog: &mut Dialog) -> Result<(), UpstreamError> {
    for tool in body.objects("tools")? {
        add(tool, drop_params, dialog)?;
    }
    let Some(mut choice) = body.object("tool_choice")? else { return Ok(()) };
    dialog.tool_choice = Some(match choice.required_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_text("name")?),
        _ => return Err(choice.wrong("type", "is not a choice of tools")),
    });
    dialog.parallel_tools = choice.flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
    Ok(())
}

fn add(mut tool: Fields, drop_params: bool, dialog: &mut Dialog) -> Result<(), UpstreamError> {
    let place = tool.at("type");
    match tool.text("type")?.as_deref() {
        None | Some("custom") => dialog.tools.push(function(&mut tool)?),
        Some(kind) if kind.starts_with(WEB_SEARCH) => dialog.web_search = Some(web_search(tool, drop_params, dialog)?),
        Some(kind) if drop_params => dialog.unread.push(format!("{place} `{kind}`").into()),
        Some(kind) => return Err(UpstreamError::Unsupported { message: format!("{place} `{kind}`").into() }),
    }
    Ok(())
}

fn function(tool: &mut Fields) -> Result<Tool, UpstreamError> {
    Ok(Tool::Function {
        name: tool.required_text("name")?,
        description: tool.text("description")?,
        parameters: tool.take("input_schema").unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        strict: tool.flag("strict")?,
        cache: cache_mark(tool)?,
    })
}

fn web_search(mut tool: Fields, drop_params: bool, dialog: &mut Dialog) -> Result<WebSearch, UpstreamError> {
    for name in BOUNDS {
        let place = tool.at(name);
        match tool.take(name) {
            None => {}
            Some(_) if drop_params => dialog.unread.push(place.into()),
            Some(_) => return Err(UpstreamError::Unsupported { message: place.into() }),
        }
    }
    let (uses_max, location) = (tool.integer("max_uses")?, tool.take("user_location"));
    Ok(WebSearch { context: None, location: location.map(in_openais_words), uses_max })
}

/// OpenAI has the place in an object of its own inside.
fn in_openais_words(location: Value) -> Value {
    let Value::Object(mut place) = location else { return location };
    place.remove("type");
    json!({"type": "approximate", "approximate": place})
}
