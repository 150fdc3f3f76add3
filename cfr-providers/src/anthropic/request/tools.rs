//! Tools, and whether one must be called (providers.md §6.1, §13.2).

use cfr_core::chat::envelope::TOOL_SEARCHES_MAX;
use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::marks::Marks;
use crate::anthropic::models::{Rules, ThinkingRule};
use crate::anthropic::schema;
use crate::dialog::{Dialog, Drops, Tool, ToolChoice, WebSearch};

/// Anthropic's search of the web.
const WEB_SEARCH: &str = "web_search_20250305";

/// What the model may call.
pub(super) fn tools(dialog: &Dialog, marks: &mut Marks, drops: &mut Drops) -> Result<Vec<Value>, UpstreamError> {
    let mut tools = Vec::with_capacity(dialog.tools.len());
    for tool in dialog.tools.iter().filter(|tool| is_allowed(tool, dialog.tool_choice.as_ref())) {
        match tool {
            Tool::Function { name, description, parameters, strict, cache } => {
                let mut object = function(name, description.as_deref(), parameters, *strict == Some(true));
                marks.set(&mut object, *cache);
                tools.push(object.into());
            }
            Tool::Custom { name, .. } => drops.essential(format!("tools: `{name}`, whose input is free text"))?,
        }
    }
    tools.extend(dialog.web_search.as_ref().map(|search| web_search(search, drops)));
    Ok(tools)
}

/// Only some tools may be called: the others are not told of.
fn is_allowed(tool: &Tool, choice: Option<&ToolChoice>) -> bool {
    match choice {
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|name| name == tool.name()),
        _ => true,
    }
}

fn function(name: &str, description: Option<&str>, parameters: &Value, strict: bool) -> Map<String, Value> {
    let mut object = Map::from_iter([("name".to_owned(), Value::from(name))]);
    object.extend(description.map(|description| ("description".to_owned(), description.into())));
    let mut schema = if strict { schema::sanitized(parameters) } else { parameters.clone() };
    if let Some(members) = schema.as_object_mut() {
        members.entry("type").or_insert_with(|| "object".into());
    }
    object.insert("input_schema".into(), schema);
    if strict {
        object.insert("strict".into(), true.into());
    }
    object
}

/// The search, capped as the price of the call was bound.
fn web_search(search: &WebSearch, drops: &mut Drops) -> Value {
    if search.context.is_some() {
        drops.harmless("web_search_options.search_context_size");
    }
    let uses_max = search.uses_max.unwrap_or_else(|| TOOL_SEARCHES_MAX.into());
    let mut tool = json!({"type": WEB_SEARCH, "name": "web_search", "max_uses": uses_max});
    if let Some((tool, location)) = tool.as_object_mut().zip(search.location.as_ref().and_then(location)) {
        tool.insert("user_location".into(), location);
    }
    tool
}

/// OpenAI has the place in an object of its own inside, Anthropic beside the kind.
fn location(location: &Value) -> Option<Value> {
    let mut flat = location.as_object()?.clone();
    if let Some(Value::Object(place)) = flat.remove("approximate") {
        flat.extend(place);
    }
    flat.insert("type".into(), "approximate".into());
    Some(flat.into())
}

/// Whether the model must call a tool, and how many at once.
pub(super) fn choice(
    dialog: &Dialog,
    rules: &Rules,
    has_tools: bool,
    drops: &mut Drops,
) -> Result<Option<Value>, UpstreamError> {
    if !has_tools {
        return Ok(None);
    }
    let one_at_a_time = dialog.parallel_tools == Some(false);
    let mut choice = match dialog.tool_choice.as_ref().map(word) {
        Some(choice) if rules.thinking == ThinkingRule::Always && is_forced(Some(&choice)) => {
            drops.essential("tool_choice")?;
            json!({"type": "auto"})
        }
        Some(choice) => choice,
        None if one_at_a_time => json!({"type": "auto"}),
        None => return Ok(None),
    };
    if let Some(members) = choice.as_object_mut().filter(|_| one_at_a_time && choice_calls(dialog)) {
        members.insert("disable_parallel_tool_use".into(), true.into());
    }
    Ok(Some(choice))
}

fn choice_calls(dialog: &Dialog) -> bool {
    dialog.tool_choice != Some(ToolChoice::None)
}

/// Whether a call is forced.
pub(super) fn is_forced(choice: Option<&Value>) -> bool {
    matches!(choice.and_then(|choice| choice.get("type")).and_then(Value::as_str), Some("any" | "tool"))
}

fn word(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => json!({"type": "auto"}),
        ToolChoice::None => json!({"type": "none"}),
        ToolChoice::Required | ToolChoice::Allowed { required: true, .. } => json!({"type": "any"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
    }
}
