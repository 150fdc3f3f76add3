//! From a dialog to a request of Ollama's (providers.md §9.1, §13).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use crate::dialog::{Dialog, Drops, Effort, Format, Reasoning, Tool, ToolChoice};

mod messages;

/// The body that asks `model` for the next turn of a dialog.
pub(super) fn body(dialog: &Dialog, model: &str, drops: &mut Drops) -> Result<Value, UpstreamError> {
    let messages = messages::messages(dialog, drops)?;
    // Ollama streams unless it is told not to.
    let mut body = Map::from_iter([
        ("model".to_owned(), Value::from(model)),
        ("messages".to_owned(), messages.into()),
        ("stream".to_owned(), dialog.stream.into()),
    ]);
    let tools = tools(dialog, drops)?;
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    let options = options(dialog);
    if !options.is_empty() {
        body.insert("options".into(), options.into());
    }
    body.extend(format(&dialog.format).map(|format| ("format".to_owned(), format)));
    body.extend(dialog.reasoning.map(|wish| ("think".to_owned(), think(wish))));
    if let Some(logprobs) = dialog.logprobs {
        body.insert("logprobs".into(), true.into());
        body.insert("top_logprobs".into(), logprobs.top.into());
    }
    leave_out(dialog, drops)?;
    Ok(body.into())
}

/// How long the answer may be, how its tokens are chosen, and what ends it.
fn options(dialog: &Dialog) -> Map<String, Value> {
    let wish = &dialog.sampling;
    let mut options = Map::new();
    options.extend(dialog.output_tokens_max.map(|tokens| ("num_predict".to_owned(), tokens.into())));
    let numbers = [
        ("temperature", &wish.temperature),
        ("top_p", &wish.top_p),
        ("top_k", &wish.top_k),
        ("frequency_penalty", &wish.frequency_penalty),
        ("presence_penalty", &wish.presence_penalty),
        ("seed", &wish.seed),
    ];
    let said = numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), number.clone()?.into())));
    options.extend(said);
    if !dialog.stop.is_empty() {
        options.insert("stop".into(), json!(dialog.stop));
    }
    options
}

fn format(format: &Format) -> Option<Value> {
    match format {
        Format::Text => None,
        Format::Json => Some("json".into()),
        Format::Schema(format) => Some(format.schema.clone()),
    }
}

fn think(wish: Reasoning) -> Value {
    match wish.effort() {
        None => false.into(),
        Some(Effort::Minimal) => Effort::Low.name().into(),
        Some(Effort::XHigh) => Effort::High.name().into(),
        Some(effort) => effort.name().into(),
    }
}

/// What the model may call. It cannot be forced to; that it may not is said by naming nothing.
fn tools(dialog: &Dialog, drops: &mut Drops) -> Result<Vec<Value>, UpstreamError> {
    let choice = dialog.tool_choice.as_ref();
    if matches!(choice, Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. })) {
        drops.essential("tool_choice")?;
    }
    let mut tools = Vec::with_capacity(dialog.tools.len());
    for tool in dialog.tools.iter().filter(|tool| is_allowed(tool, choice)) {
        match tool {
            Tool::Function { name, description, parameters, strict, .. } => {
                let mut function = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
                function.extend(description.as_deref().map(|words| ("description".to_owned(), words.into())));
                function.insert("parameters".into(), parameters.clone());
                if *strict == Some(true) {
                    drops.harmless("tools.function.strict");
                }
                tools.push(json!({"type": "function", "function": function}));
            }
            Tool::Custom { name, .. } => drops.essential(format!("tools: `{name}`, whose input is free text"))?,
        }
    }
    Ok(tools)
}

fn is_allowed(tool: &Tool, choice: Option<&ToolChoice>) -> bool {
    match choice {
        Some(ToolChoice::None) => false,
        Some(ToolChoice::Named(name)) => name == tool.name(),
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|name| name == tool.name()),
        None | Some(ToolChoice::Auto | ToolChoice::Required) => true,
    }
}

/// What Ollama has no words for.
fn leave_out(dialog: &Dialog, drops: &mut Drops) -> Result<(), UpstreamError> {
    drops.essential_said(&[
        ("n", dialog.choices > 1),
        ("modalities", dialog.modalities.is_some()),
        ("web_search_options", dialog.web_search.is_some()),
    ])?;
    drops.wishes_of_openai(dialog);
    drops.harmless_said(&[
        ("parallel_tool_calls", dialog.parallel_tools == Some(false)),
        ("metadata", !dialog.metadata.is_empty()),
        ("service_tier", dialog.service_tier.is_some()),
    ]);
    Ok(())
}
