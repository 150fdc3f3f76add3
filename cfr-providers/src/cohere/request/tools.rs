//! What the model may call, and whether it must (providers.md §11, §13.2).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use crate::dialog::{Dialog, Drops, Tool, ToolChoice};

/// Adds `tools`, `tool_choice` and `strict_tools` to a body. One tool is chosen by naming no other.
pub(super) fn add(dialog: &Dialog, body: &mut Map<String, Value>, drops: &mut Drops) -> Result<(), UpstreamError> {
    let choice = dialog.tool_choice.as_ref();
    let mut tools = Vec::with_capacity(dialog.tools.len());
    for tool in dialog.tools.iter().filter(|tool| is_allowed(tool, choice)) {
        match tool {
            Tool::Function { name, description, parameters, .. } => {
                let mut function = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
                function.extend(description.as_deref().map(|words| ("description".to_owned(), words.into())));
                function.insert("parameters".into(), parameters.clone());
                tools.push(json!({"type": "function", "function": function}));
            }
            Tool::Custom { name, .. } => drops.essential(format!("tools: `{name}`, whose input is free text"))?,
        }
    }
    if tools.is_empty() {
        return Ok(());
    }
    body.insert("tools".into(), tools.into());
    body.extend(choice.and_then(word).map(|word| ("tool_choice".to_owned(), word.into())));
    if is_strict(&dialog.tools, drops) {
        body.insert("strict_tools".into(), true.into());
    }
    Ok(())
}

fn is_allowed(tool: &Tool, choice: Option<&ToolChoice>) -> bool {
    match choice {
        Some(ToolChoice::Named(name)) => name == tool.name(),
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|name| name == tool.name()),
        None | Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Required) => true,
    }
}

/// Cohere has no word for a model that is free to choose.
const fn word(choice: &ToolChoice) -> Option<&'static str> {
    match choice {
        ToolChoice::None => Some("NONE"),
        ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Allowed { required: true, .. } => Some("REQUIRED"),
        ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => None,
    }
}

/// Cohere is strict with all tools or with none.
fn is_strict(tools: &[Tool], drops: &mut Drops) -> bool {
    let strict = |tool: &Tool| matches!(tool, Tool::Function { strict: Some(true), .. });
    let all = tools.iter().all(strict);
    if !all && tools.iter().any(strict) {
        drops.harmless("tools.function.strict");
    }
    all
}
