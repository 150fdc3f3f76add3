//! From a chat request to a dialog (providers.md §2.1, §13).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::message;
use crate::dialog::{
    CacheMark, Dialog, Effort, Fields, Format, Logprobs, Modalities, Reasoning, Sampling, SchemaFormat, Tool,
    ToolChoice, WebSearch,
};

/// Fields that we act on ourselves.
const OURS: [&str; 3] = ["model", "stream_options", "drop_params"];

pub(super) fn dialog(mut body: Fields) -> Result<Dialog, UpstreamError> {
    OURS.iter().for_each(|name| drop(body.take(name)));
    let (system, turns) = message::read(&mut body)?;
    let mut dialog = Dialog {
        system,
        turns,
        tools: tools(&mut body)?,
        tool_choice: tool_choice(&mut body)?,
        parallel_tools: body.flag("parallel_tool_calls")?,
        output_tokens_max: body.integer("max_completion_tokens")?.or(body.integer("max_tokens")?),
        choices: body.integer("n")?.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        sampling: sampling(&mut body)?,
        stop: body.texts("stop")?,
        logprobs: logprobs(&mut body)?,
        format: format(&mut body)?,
        reasoning: reasoning(&mut body)?,
        web_search: web_search(&mut body)?,
        modalities: modalities(&mut body)?,
        end_user: end_user(&mut body)?,
        metadata: body.object("metadata")?.map(Fields::into_members).unwrap_or_default(),
        service_tier: body.text("service_tier")?,
        verbosity: body.text("verbosity")?,
        cache_key: body.text("prompt_cache_key")?,
        prediction: body.take("prediction"),
        store: body.flag("store")?,
        stream: body.flag("stream")?.unwrap_or(false),
        unread: Vec::new(),
    };
    dialog.unread = body.left();
    Ok(dialog)
}

fn sampling(body: &mut Fields) -> Result<Sampling, UpstreamError> {
    Ok(Sampling {
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        top_k: body.number("top_k")?,
        frequency_penalty: body.number("frequency_penalty")?,
        presence_penalty: body.number("presence_penalty")?,
        seed: body.number("seed")?,
        logit_bias: body.take("logit_bias"),
    })
}

fn logprobs(body: &mut Fields) -> Result<Option<Logprobs>, UpstreamError> {
    let (wanted, top) = (body.flag("logprobs")?, body.integer("top_logprobs")?);
    Ok(wanted.filter(|wanted| *wanted).map(|_| Logprobs { top: top.unwrap_or(0) }))
}

fn end_user(body: &mut Fields) -> Result<Option<String>, UpstreamError> {
    let (newer, older) = (body.text("safety_identifier")?, body.text("user")?);
    Ok(newer.or(older))
}

/// `reasoning_effort`, or `thinking` as clients of other gateways write it.
fn reasoning(body: &mut Fields) -> Result<Option<Reasoning>, UpstreamError> {
    let effort = body.text("reasoning_effort")?;
    let thinking = body.object("thinking")?;
    if let Some(word) = effort {
        if word == "none" {
            return Ok(Some(Reasoning::Off));
        }
        let effort = Effort::from_name(&word).ok_or_else(|| body.wrong("reasoning_effort", "is not an effort"))?;
        return Ok(Some(Reasoning::Effort(effort)));
    }
    let Some(mut thinking) = thinking else { return Ok(None) };
    let budget = thinking.integer("budget_tokens")?;
    Ok(match thinking.text("type")?.as_deref() {
        Some("disabled") => Some(Reasoning::Off),
        _ => budget.map(Reasoning::Budget).or(Some(Reasoning::Effort(Effort::Medium))),
    })
}

fn tools(body: &mut Fields) -> Result<Vec<Tool>, UpstreamError> {
    let mut tools = body.objects("tools")?.into_iter().map(tool).collect::<Result<Vec<_>, _>>()?;
    // What functions were called before they were tools.
    for legacy in body.objects("functions")? {
        tools.push(function(legacy, None)?);
    }
    Ok(tools)
}

fn tool(mut tool: Fields) -> Result<Tool, UpstreamError> {
    let cache = cache_mark(&mut tool)?;
    match tool.required_text("type")?.as_str() {
        "function" => {
            let function_fields = tool.object("function")?.ok_or_else(|| tool.wrong("function", "is required"))?;
            function(function_fields, cache)
        }
        "custom" => {
            let mut custom = tool.object("custom")?.ok_or_else(|| tool.wrong("custom", "is required"))?;
            let (name, description) = (custom.required_text("name")?, custom.text("description")?);
            Ok(Tool::Custom { name, description, format: custom.take("format") })
        }
        other => Err(UpstreamError::Unsupported { message: format!("{} `{other}`", tool.at("type")).into() }),
    }
}

fn function(mut function: Fields, cache: Option<CacheMark>) -> Result<Tool, UpstreamError> {
    Ok(Tool::Function {
        name: function.required_text("name")?,
        description: function.text("description")?,
        parameters: function.take("parameters").unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        strict: function.flag("strict")?,
        cache,
    })
}

fn tool_choice(body: &mut Fields) -> Result<Option<ToolChoice>, UpstreamError> {
    let (newer, older) = (body.take("tool_choice"), body.take("function_call"));
    let Some(choice) = newer.or(older) else { return Ok(None) };
    let wrong = || body.wrong("tool_choice", "is not a choice of tools");
    if let Value::String(word) = &choice {
        return Ok(Some(match word.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" | "any" => ToolChoice::Required,
            _ => return Err(wrong()),
        }));
    }
    if let Some(allowed) = choice.get("allowed_tools") {
        let required = allowed.get("mode").and_then(Value::as_str) == Some("required");
        let tools = allowed.get("tools").and_then(Value::as_array).ok_or_else(wrong)?;
        return Ok(Some(ToolChoice::Allowed { required, names: tools.iter().filter_map(name_in).collect() }));
    }
    name_in(&choice).map(|name| Some(ToolChoice::Named(name))).ok_or_else(wrong)
}

fn name_in(choice: &Value) -> Option<String> {
    let inner = choice.get("function").or_else(|| choice.get("custom")).unwrap_or(choice);
    inner.get("name").and_then(Value::as_str).map(str::to_owned)
}

fn format(body: &mut Fields) -> Result<Format, UpstreamError> {
    let Some(mut wanted) = body.object("response_format")? else { return Ok(Format::Text) };
    match wanted.required_text("type")?.as_str() {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" => {
            let mut schema = wanted.object("json_schema")?.ok_or_else(|| wanted.wrong("json_schema", "is required"))?;
            Ok(Format::Schema(SchemaFormat {
                name: schema.required_text("name")?,
                description: schema.text("description")?,
                schema: schema.take("schema").unwrap_or_else(|| Value::Object(Map::new())),
                strict: schema.flag("strict")?,
            }))
        }
        other => Err(UpstreamError::Unsupported { message: format!("response_format of type `{other}`").into() }),
    }
}

/// Searches that the option stands for: one, which is what OpenAI's own models make of it and what is held for it.
const SEARCHES: u64 = 1;

fn web_search(body: &mut Fields) -> Result<Option<WebSearch>, UpstreamError> {
    let Some(mut options) = body.object("web_search_options")? else { return Ok(None) };
    let (context, location) = (options.text("search_context_size")?, options.take("user_location"));
    Ok(Some(WebSearch { context, location, uses_max: Some(SEARCHES) }))
}

fn modalities(body: &mut Fields) -> Result<Option<Modalities>, UpstreamError> {
    let (kinds, audio) = (body.texts("modalities")?, body.take("audio"));
    let more_than_text = kinds.iter().any(|kind| kind != "text");
    Ok((more_than_text || audio.is_some()).then_some(Modalities { kinds, audio }))
}

/// `cache_control` on a part, a tool or a message: an extension that gateways share with Anthropic; or OpenAI's own.
pub(super) fn cache_mark(fields: &mut Fields) -> Result<Option<CacheMark>, UpstreamError> {
    let (shared, own) = (fields.object("cache_control")?, fields.object("prompt_cache_breakpoint")?);
    let Some(mut mark) = shared.or(own) else { return Ok(None) };
    Ok(Some(match mark.text("ttl")?.as_deref() {
        Some("1h") => CacheMark::Hour,
        Some("12h") => CacheMark::TwelveHours,
        _ => CacheMark::Usual,
    }))
}
