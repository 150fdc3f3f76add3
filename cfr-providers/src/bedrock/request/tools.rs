//! Tools, and whether one must be called (providers.md §8.2, §13.2).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::content::cache_point;
use crate::anthropic::{Marks, Rules, ThinkingRule};
use crate::bedrock::family::Family;
use crate::dialog::{Dialog, Drops, Tool, ToolChoice};

/// What a request says of tools.
pub(super) struct Tools {
    /// `toolConfig`; `None` when the model is to call nothing, for which the dialect has no word.
    pub(super) config: Option<Map<String, Value>>,
    /// The choice in Anthropic's words, where it says more than the dialect can: it then stands in place of the
    /// dialect's.
    pub(super) native_choice: Option<Value>,
    /// Whether a call is forced.
    pub(super) is_forced: bool,
}

impl Tools {
    pub(super) fn of(
        dialog: &Dialog,
        family: Family,
        rules: &Rules,
        marks: &mut Marks,
        drops: &mut Drops,
    ) -> Result<Self, UpstreamError> {
        let tools = tools(dialog, family, marks, drops)?;
        if tools.is_empty() || dialog.tool_choice == Some(ToolChoice::None) {
            return Ok(Self { config: None, native_choice: None, is_forced: false });
        }
        let choice = choice(dialog.tool_choice.as_ref(), family, rules, drops)?;
        let is_forced = choice.is_some_and(Choice::is_forced);
        let mut config = Map::from_iter([("tools".to_owned(), Value::from(tools))]);
        let one_at_a_time = dialog.parallel_tools == Some(false);
        if one_at_a_time && family == Family::Claude {
            let native_choice = Some(choice.unwrap_or(Choice::Auto).in_anthropics_words());
            return Ok(Self { config: Some(config), native_choice, is_forced });
        }
        if one_at_a_time {
            drops.harmless("parallel_tool_calls");
        }
        config.extend(choice.map(|choice| ("toolChoice".to_owned(), choice.in_bedrocks_words())));
        Ok(Self { config: Some(config), native_choice: None, is_forced })
    }
}

/// What the model may call.
fn tools(dialog: &Dialog, family: Family, marks: &mut Marks, drops: &mut Drops) -> Result<Vec<Value>, UpstreamError> {
    let mut tools = Vec::with_capacity(dialog.tools.len());
    for tool in dialog.tools.iter().filter(|tool| is_allowed(tool, dialog.tool_choice.as_ref())) {
        match tool {
            Tool::Function { name, description, parameters, strict, cache } => {
                let spec = spec(name, description.as_deref(), parameters, *strict);
                tools.push(json!({ "toolSpec": spec }));
                tools.extend(cache_point(family, *cache, marks, drops));
            }
            Tool::Custom { name, .. } => drops.essential(format!("tools: `{name}`, whose input is free text"))?,
        }
    }
    Ok(tools)
}

/// Only some tools may be called: the others are not told of.
fn is_allowed(tool: &Tool, choice: Option<&ToolChoice>) -> bool {
    match choice {
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|name| name == tool.name()),
        _ => true,
    }
}

fn spec(name: &str, description: Option<&str>, parameters: &Value, strict: Option<bool>) -> Map<String, Value> {
    let mut spec = Map::from_iter([("name".to_owned(), Value::from(name))]);
    let description = description.filter(|description| !description.is_empty());
    spec.extend(description.map(|description| ("description".to_owned(), description.into())));
    let mut schema = parameters.clone();
    if let Some(members) = schema.as_object_mut() {
        members.entry("type").or_insert_with(|| "object".into());
    }
    spec.insert("inputSchema".into(), json!({ "json": schema }));
    if strict == Some(true) {
        spec.insert("strict".into(), true.into());
    }
    spec
}

/// A choice that the dialect has a word for.
#[derive(Debug, Clone, Copy)]
enum Choice<'a> {
    Auto,
    Any,
    Named(&'a str),
}

impl Choice<'_> {
    const fn is_forced(self) -> bool {
        !matches!(self, Self::Auto)
    }

    fn in_bedrocks_words(self) -> Value {
        match self {
            Self::Auto => json!({"auto": {}}),
            Self::Any => json!({"any": {}}),
            Self::Named(name) => json!({"tool": {"name": name}}),
        }
    }

    /// One call at a time: Claude can be told so, in its own words.
    fn in_anthropics_words(self) -> Value {
        match self {
            Self::Auto => json!({"type": "auto", "disable_parallel_tool_use": true}),
            Self::Any => json!({"type": "any", "disable_parallel_tool_use": true}),
            Self::Named(name) => json!({"type": "tool", "name": name, "disable_parallel_tool_use": true}),
        }
    }
}

fn choice<'a>(
    wish: Option<&'a ToolChoice>,
    family: Family,
    rules: &Rules,
    drops: &mut Drops,
) -> Result<Option<Choice<'a>>, UpstreamError> {
    let choice = match wish {
        None | Some(ToolChoice::None) => return Ok(None),
        Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => Choice::Auto,
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => Choice::Any,
        Some(ToolChoice::Named(name)) => Choice::Named(name),
    };
    if choice.is_forced() && family == Family::Claude && rules.thinking == ThinkingRule::Always {
        drops.essential("tool_choice")?;
        return Ok(Some(Choice::Auto));
    }
    Ok(Some(choice))
}
