//! From a request for a response to a dialog (providers.md §3).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::turns;
use crate::dialog::{
    Dialog, Effort, Fields, Format, Logprobs, Reasoning, Sampling, SchemaFormat, Tool, ToolChoice, WebSearch,
};

/// Fields that we act on ourselves.
const OURS: [&str; 2] = ["model", "stream_options"];
/// Fields that refer to what a provider of this dialect keeps, and no other does.
const KEPT: [&str; 3] = ["previous_response_id", "conversation", "prompt"];
/// What is included on request and changes the answer.
const LOGPROBS: &str = "message.output_text.logprobs";

pub(super) fn dialog(mut body: Fields, drop_params: bool) -> Result<Dialog, UpstreamError> {
    OURS.iter().for_each(|name| drop(body.take(name)));
    refuse_what_is_kept(&mut body)?;
    let (system, turns) = turns::read(&mut body)?;
    let (format, verbosity) = text(&mut body)?;
    let mut hosted = Vec::new();
    let (tools, web_search) = tools(&mut body, drop_params.then_some(&mut hosted))?;
    let mut dialog = Dialog {
        system,
        turns,
        tools,
        web_search,
        tool_choice: tool_choice(&mut body)?,
        parallel_tools: body.flag("parallel_tool_calls")?,
        output_tokens_max: body.integer("max_output_tokens")?,
        choices: 1,
        sampling: Sampling {
            temperature: body.number("temperature")?,
            top_p: body.number("top_p")?,
            ..Sampling::default()
        },
        logprobs: logprobs(&mut body)?,
        format,
        reasoning: reasoning(&mut body)?,
        end_user: end_user(&mut body)?,
        metadata: body.object("metadata")?.map(Fields::into_members).unwrap_or_default(),
        service_tier: body.text("service_tier")?,
        verbosity,
        cache_key: body.text("prompt_cache_key")?,
        store: body.flag("store")?,
        stream: body.flag("stream")?.unwrap_or(false),
        ..Dialog::default()
    };
    dialog.unread = body.left();
    dialog.unread.append(&mut hosted);
    Ok(dialog)
}

fn unsupported(message: impl Into<Box<str>>) -> UpstreamError {
    UpstreamError::Unsupported { message: message.into() }
}

fn refuse_what_is_kept(body: &mut Fields) -> Result<(), UpstreamError> {
    if let Some(field) = KEPT.into_iter().find(|field| body.take(field).is_some()) {
        return Err(unsupported(format!("{field}: nothing is kept between calls; send the conversation as `input`")));
    }
    if body.flag("background")? == Some(true) {
        return Err(unsupported("background"));
    }
    // What is usual says nothing.
    if let Some(truncation) = body.text("truncation")?.filter(|word| word != "disabled") {
        return Err(unsupported(format!("truncation `{truncation}`")));
    }
    Ok(())
}

fn end_user(body: &mut Fields) -> Result<Option<String>, UpstreamError> {
    let (newer, older) = (body.text("safety_identifier")?, body.text("user")?);
    Ok(newer.or(older))
}

fn logprobs(body: &mut Fields) -> Result<Option<Logprobs>, UpstreamError> {
    let (include, top) = (body.texts("include")?, body.integer("top_logprobs")?);
    let wanted = include.iter().any(|wish| wish == LOGPROBS) || top.is_some_and(|top| top > 0);
    Ok(wanted.then(|| Logprobs { top: top.unwrap_or(0) }))
}

fn reasoning(body: &mut Fields) -> Result<Option<Reasoning>, UpstreamError> {
    let Some(mut reasoning) = body.object("reasoning")? else { return Ok(None) };
    match reasoning.text("effort")?.as_deref() {
        None => Ok(None),
        Some("none") => Ok(Some(Reasoning::Off)),
        Some(word) => {
            let effort = Effort::from_name(word).ok_or_else(|| reasoning.wrong("effort", "is not an effort"))?;
            Ok(Some(Reasoning::Effort(effort)))
        }
    }
}

fn text(body: &mut Fields) -> Result<(Format, Option<String>), UpstreamError> {
    let Some(mut text) = body.object("text")? else { return Ok((Format::Text, None)) };
    let verbosity = text.text("verbosity")?;
    let Some(mut format) = text.object("format")? else { return Ok((Format::Text, verbosity)) };
    let format = match format.required_text("type")?.as_str() {
        "text" => Format::Text,
        "json_object" => Format::Json,
        "json_schema" => Format::Schema(SchemaFormat {
            name: format.required_text("name")?,
            description: format.text("description")?,
            schema: format.take("schema").unwrap_or_else(|| Value::Object(Map::new())),
            strict: format.flag("strict")?,
        }),
        other => return Err(unsupported(format!("text.format of type `{other}`"))),
    };
    Ok((format, verbosity))
}

/// A tool that only this dialect's provider has is left out where the caller allows that, and noted as `hosted`.
fn tools(
    body: &mut Fields,
    mut hosted: Option<&mut Vec<Box<str>>>,
) -> Result<(Vec<Tool>, Option<WebSearch>), UpstreamError> {
    let (mut tools, mut search) = (Vec::new(), None);
    for mut tool in body.objects("tools")? {
        match tool.required_text("type")?.as_str() {
            "function" => tools.push(function(tool)?),
            "custom" => tools.push(custom(tool)?),
            kind if kind.starts_with("web_search") => search = Some(web_search(tool)?),
            other => match &mut hosted {
                Some(hosted) => hosted.push(format!("{}: {other}", tool.at("type")).into()),
                None => return Err(unsupported(format!("{} `{other}`", tool.at("type")))),
            },
        }
    }
    if let Some(search) = &mut search {
        search.uses_max = body.integer("max_tool_calls")?;
    }
    Ok((tools, search))
}

/// Here, unlike in chat completions, tools are strict unless they say that they are not. Where a tool says nothing the
/// provider's own usage holds: a schema that was not written to be strict could be refused.
fn function(mut tool: Fields) -> Result<Tool, UpstreamError> {
    Ok(Tool::Function {
        name: tool.required_text("name")?,
        description: tool.text("description")?,
        parameters: tool.take("parameters").unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        strict: tool.flag("strict")?,
        cache: None,
    })
}

fn custom(mut tool: Fields) -> Result<Tool, UpstreamError> {
    let (name, description) = (tool.required_text("name")?, tool.text("description")?);
    let format = tool.take("format").map(|format| nested(format, "grammar"));
    Ok(Tool::Custom { name, description, format })
}

fn web_search(mut tool: Fields) -> Result<WebSearch, UpstreamError> {
    let location = tool.take("user_location").map(|location| nested(location, "approximate"));
    Ok(WebSearch { context: tool.text("search_context_size")?, location, uses_max: None })
}

/// What this dialect has in an object of type `inner`, chat completions nest in a member of that name.
fn nested(object: Value, inner: &str) -> Value {
    match object {
        Value::Object(mut members) if members.get("type").is_some_and(|kind| kind == inner) => {
            members.remove("type");
            json!({"type": inner, inner: members})
        }
        other => other,
    }
}

fn tool_choice(body: &mut Fields) -> Result<Option<ToolChoice>, UpstreamError> {
    let Some(choice) = body.take("tool_choice") else { return Ok(None) };
    let wrong = || body.wrong("tool_choice", "is not a choice of tools");
    if let Value::String(word) = &choice {
        return Ok(Some(match word.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => return Err(wrong()),
        }));
    }
    let name = |choice: &Value| choice["name"].as_str().map(str::to_owned);
    match choice["type"].as_str() {
        Some("function" | "custom") => name(&choice).map(|name| Some(ToolChoice::Named(name))).ok_or_else(wrong),
        Some("allowed_tools") => {
            let tools = choice["tools"].as_array().ok_or_else(wrong)?;
            let (required, names) = (choice["mode"] == "required", tools.iter().filter_map(name).collect());
            Ok(Some(ToolChoice::Allowed { required, names }))
        }
        Some(other) => Err(unsupported(format!("tool_choice of type `{other}`"))),
        None => Err(wrong()),
    }
}
