//! From a GenerateContentRequest to a dialog (providers.md §7.2). Google takes every name in two forms; so do we.

use cfr_core::chat::Call;
use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::contents;
use crate::dialog::{
    Dialog, Effort, Fields, Format, Logprobs, Modalities, Reasoning, Sampling, SchemaFormat, Tool, ToolChoice,
    WebSearch,
};
use crate::gemini::schema;

/// Members whose values are the caller's own: their names stay as they are.
const OPAQUE: [&str; 7] =
    ["args", "response", "labels", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"];
/// Tools that search the web, as all generations name them.
const SEARCHES: [&str; 3] = ["googleSearch", "googleSearchRetrieval", "enterpriseWebSearch"];

pub(super) fn dialog(call: &Call) -> Result<Dialog, UpstreamError> {
    let body = Fields::of_body(&call.body)?.into_members();
    let mut body = Fields::of(camel_cased(body.into()), "")?;
    drop(body.take("model"));
    let mut config = match body.object("generationConfig")? {
        Some(config) => config,
        None => Fields::of(json!({}), "generationConfig")?,
    };
    let mut refused = Refused { allowed: call.drop_params, names: Vec::new() };
    refused.note(&mut body, "cachedContent")?;
    let (tools, web_search) = tools(&mut body, &mut refused)?;
    let mut dialog = Dialog {
        system: contents::system(&mut body)?,
        turns: contents::turns(&mut body)?,
        tools,
        tool_choice: tool_choice(&mut body, &mut refused.names)?,
        output_tokens_max: config.integer("maxOutputTokens")?,
        choices: config.integer("candidateCount")?.and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
        sampling: sampling(&mut config)?,
        stop: config.texts("stopSequences")?,
        logprobs: logprobs(&mut config)?,
        format: format(&mut config)?,
        reasoning: reasoning(&mut config)?,
        web_search,
        modalities: modalities(&mut config)?,
        metadata: body.object("labels")?.map(Fields::into_members).unwrap_or_default(),
        service_tier: body.text("serviceTier")?.map(|tier| service_tier(&tier)),
        store: body.flag("store")?,
        stream: call.envelope.stream,
        ..Dialog::default()
    };
    dialog.unread = refused.names;
    dialog.unread.extend(config.left());
    dialog.unread.extend(body.left());
    Ok(dialog)
}

/// What only Google can do and an answer depends on.
struct Refused {
    allowed: bool,
    names: Vec<Box<str>>,
}

impl Refused {
    /// Takes a member out that only Google understands.
    fn note(&mut self, fields: &mut Fields, name: &str) -> Result<(), UpstreamError> {
        if fields.take(name).is_none() {
            return Ok(());
        }
        if !self.allowed {
            return Err(UpstreamError::Unsupported { message: fields.at(name).into() });
        }
        self.names.push(fields.at(name).into());
        Ok(())
    }
}

/// The body with all of Google's own names in `camelCase`.
fn camel_cased(value: Value) -> Value {
    match value {
        Value::Object(members) => members.into_iter().map(named).collect::<Map<_, _>>().into(),
        Value::Array(list) => list.into_iter().map(camel_cased).collect(),
        value => value,
    }
}

fn named((name, value): (String, Value)) -> (String, Value) {
    let name = schema::camel(&name);
    let value = if OPAQUE.contains(&name.as_str()) { value } else { camel_cased(value) };
    (name, value)
}

fn sampling(config: &mut Fields) -> Result<Sampling, UpstreamError> {
    Ok(Sampling {
        temperature: config.number("temperature")?,
        top_p: config.number("topP")?,
        top_k: config.number("topK")?,
        frequency_penalty: config.number("frequencyPenalty")?,
        presence_penalty: config.number("presencePenalty")?,
        seed: config.number("seed")?,
        logit_bias: None,
    })
}

fn logprobs(config: &mut Fields) -> Result<Option<Logprobs>, UpstreamError> {
    let (wanted, top) = (config.flag("responseLogprobs")?, config.integer("logprobs")?);
    Ok(wanted.filter(|wanted| *wanted).map(|_| Logprobs { top: top.unwrap_or(0) }))
}

/// JSON of a shape that is Google's own schema, or a JSON Schema.
fn format(config: &mut Fields) -> Result<Format, UpstreamError> {
    let own = config.take("responseSchema").map(|own| schema::read(&own));
    let shape = config.take("responseJsonSchema").or(own);
    match (config.text("responseMimeType")?.as_deref(), shape) {
        (None | Some("text/plain"), _) => Ok(Format::Text),
        (Some("application/json"), None) => Ok(Format::Json),
        (Some("application/json"), Some(schema)) => {
            Ok(Format::Schema(SchemaFormat { name: "output".to_owned(), description: None, schema, strict: None }))
        }
        (Some(other), _) => {
            Err(UpstreamError::Unsupported { message: format!("{} `{other}`", config.at("responseMimeType")).into() })
        }
    }
}

/// `thinkingLevel` is a word and `thinkingBudget` a number, of which -1 leaves it to the model.
fn reasoning(config: &mut Fields) -> Result<Option<Reasoning>, UpstreamError> {
    let Some(mut thinking) = config.object("thinkingConfig")? else { return Ok(None) };
    let (level, budget) = (thinking.text("thinkingLevel")?, thinking.number("thinkingBudget")?);
    let shown = thinking.flag("includeThoughts")? == Some(true);
    let level = level.map(|level| level.to_ascii_lowercase());
    if let Some(level) = level.filter(|level| level != "thinking_level_unspecified") {
        let effort = Effort::from_name(&level);
        return effort
            .map(|effort| Some(Reasoning::Effort(effort)))
            .ok_or_else(|| thinking.wrong("thinkingLevel", "is no level"));
    }
    let dynamic = shown.then_some(Reasoning::Effort(Effort::Medium));
    let Some(budget) = budget else { return Ok(dynamic) };
    match (budget.as_u64(), budget.as_i64()) {
        (Some(0), _) => Ok(Some(Reasoning::Off)),
        (Some(tokens), _) => Ok(Some(Reasoning::Budget(tokens))),
        (None, Some(-1)) => Ok(Some(Reasoning::Effort(Effort::Medium))),
        _ => Err(thinking.wrong("thinkingBudget", "must be a whole number from -1")),
    }
}

fn modalities(config: &mut Fields) -> Result<Option<Modalities>, UpstreamError> {
    let kinds: Vec<String> = config.texts("responseModalities")?.iter().map(|kind| kind.to_ascii_lowercase()).collect();
    let voice = config.take("speechConfig");
    let more_than_text = kinds.iter().any(|kind| kind != "text");
    let audio = voice.map(|config| json!({"voice": config.pointer("/voiceConfig/prebuiltVoiceConfig/voiceName")}));
    Ok(more_than_text.then_some(Modalities { kinds, audio }))
}

/// Google's word for a tier in OpenAI's.
fn service_tier(tier: &str) -> String {
    match tier.to_ascii_lowercase().as_str() {
        "standard" => "default".to_owned(),
        "unspecified" | "service_tier_unspecified" => "auto".to_owned(),
        other => other.to_owned(),
    }
}

fn tools(body: &mut Fields, refused: &mut Refused) -> Result<(Vec<Tool>, Option<WebSearch>), UpstreamError> {
    let (mut tools, mut search) = (Vec::new(), None);
    for mut tool in body.objects("tools")? {
        for declared in tool.objects("functionDeclarations")? {
            tools.push(function(declared)?);
        }
        if SEARCHES.into_iter().filter(|name| tool.take(name).is_some()).count() > 0 {
            search = Some(WebSearch::default());
        }
        // Everything else is run by Google.
        for hosted in tool.left_names() {
            refused.note(&mut tool, &hosted)?;
        }
    }
    Ok((tools, search))
}

fn function(mut declared: Fields) -> Result<Tool, UpstreamError> {
    let own = declared.take("parameters").map(|own| schema::read(&own));
    let parameters = declared.take("parametersJsonSchema").or(own);
    Ok(Tool::Function {
        name: declared.required_text("name")?,
        description: declared.text("description")?,
        parameters: parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        strict: None,
        cache: None,
    })
}

fn tool_choice(body: &mut Fields, unread: &mut Vec<Box<str>>) -> Result<Option<ToolChoice>, UpstreamError> {
    let Some(mut config) = body.object("toolConfig")? else { return Ok(None) };
    let calling = config.object("functionCallingConfig")?;
    unread.extend(config.left());
    let Some(mut calling) = calling else { return Ok(None) };
    let mut names = calling.texts("allowedFunctionNames")?;
    let mode = calling.text("mode")?.unwrap_or_default().to_ascii_uppercase();
    Ok(Some(match (mode.as_str(), names.len()) {
        ("NONE", _) => ToolChoice::None,
        ("ANY", 0) => ToolChoice::Required,
        ("ANY", 1) => ToolChoice::Named(names.remove(0)),
        ("ANY", _) => ToolChoice::Allowed { required: true, names },
        ("AUTO" | "VALIDATED", 1..) => ToolChoice::Allowed { required: false, names },
        ("AUTO" | "VALIDATED" | "" | "MODE_UNSPECIFIED", _) => ToolChoice::Auto,
        _ => return Err(calling.wrong("mode", "is no mode")),
    }))
}
