//! From a dialog to a GenerateContentRequest (providers.md §7.2, §13.2, §14).

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::model::{Family, Thoughts};
use super::place::Site;
use super::schema;
use crate::dialog::{Dialog, Drops, Format, Modalities, Reasoning, Tool, ToolChoice};

mod contents;

use contents::Content;
pub(super) use contents::{NOT_GOOGLES, media_type_of};

/// Texts that may end an answer.
const STOPS_MAX: usize = 5;
/// Answers to one request.
const CHOICES_MAX: u32 = 8;

/// How Vertex is asked for a tier.
const VERTEX_TIER: HeaderName = HeaderName::from_static("x-vertex-ai-llm-shared-request-type");

/// The body of a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(flatten)]
    prompt: Prompt,
    #[serde(skip_serializing_if = "Map::is_empty")]
    generation_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

/// What the model reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Prompt {
    contents: Vec<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Value>,
}

impl Prompt {
    /// Whether there is anything but the conversation itself.
    pub(super) const fn has_more_than_contents(&self) -> bool {
        self.system_instruction.is_some() || !self.tools.is_empty()
    }
}

/// The body that asks for an answer.
pub(super) fn body(site: Site, dialog: &Dialog, model: &str, drops: &mut Drops) -> Result<Bytes, UpstreamError> {
    let family = Family::of(model);
    drop_what_has_no_words(dialog, drops);
    let request = Request {
        prompt: prompt(site, family, dialog, drops)?,
        generation_config: generation_config(family, dialog, drops)?,
        service_tier: if site == Site::Studio { tier(dialog, drops) } else { None },
    };
    written(&request)
}

/// What the model reads, as every method of Google's takes it.
pub(super) fn prompt(site: Site, family: Family, dialog: &Dialog, drops: &mut Drops) -> Result<Prompt, UpstreamError> {
    let system: Vec<Value> = dialog.system.iter().map(|text| json!({"text": text.text})).collect();
    Ok(Prompt {
        contents: contents::of(site, family, dialog, drops)?,
        system_instruction: (!system.is_empty()).then(|| json!({ "parts": system })),
        tools: tools(family, dialog, drops)?,
        tool_config: tool_config(dialog),
    })
}

/// A body as bytes.
pub(super) fn written(body: &impl Serialize) -> Result<Bytes, UpstreamError> {
    let written = serde_json::to_vec(body).map(Bytes::from);
    written.map_err(|cause| UpstreamError::Unsupported { message: cause.to_string().into() })
}

fn drop_what_has_no_words(dialog: &Dialog, drops: &mut Drops) {
    drops.wishes_of_openai(dialog);
    drops.harmless_said(&[
        ("metadata", !dialog.metadata.is_empty()),
        ("parallel_tool_calls", dialog.parallel_tools == Some(false) && !dialog.tools.is_empty()),
    ]);
}

fn tools(family: Family, dialog: &Dialog, drops: &mut Drops) -> Result<Vec<Value>, UpstreamError> {
    let mut declarations = Vec::new();
    for tool in callable(dialog) {
        match tool {
            Tool::Function { name, description, parameters, .. } => {
                declarations.push(declaration(name, description.as_deref(), parameters));
            }
            _ => drops.essential(format!("tools: `{}` is no function", tool.name()))?,
        }
    }
    let mut tools = Vec::new();
    if !declarations.is_empty() {
        tools.push(json!({ "functionDeclarations": declarations }));
    }
    if let Some(search) = &dialog.web_search {
        if !tools.is_empty() && !family.is_current {
            drops.essential("web_search_options: this model searches only where there are no tools")?;
        } else {
            tools.push(json!({"googleSearch": {}}));
        }
        let more = search.uses_max.is_some_and(|uses| uses > 1); // one is what OpenAI's option stands for
        if search.context.is_some() || search.location.is_some() || more {
            drops.harmless("web_search_options");
        }
    }
    Ok(tools)
}

/// The tools that may be called. A choice of some that need not be called leaves only those.
fn callable(dialog: &Dialog) -> impl Iterator<Item = &Tool> {
    let allowed = match &dialog.tool_choice {
        Some(ToolChoice::Allowed { required: false, names }) => Some(names),
        _ => None,
    };
    dialog.tools.iter().filter(move |tool| allowed.is_none_or(|names| names.iter().any(|name| name == tool.name())))
}

fn declaration(name: &str, description: Option<&str>, parameters: &Value) -> Value {
    let mut declaration = Map::from_iter([("name".to_owned(), Value::from(name))]);
    declaration.extend(description.map(|description| ("description".to_owned(), description.into())));
    declaration.insert("parametersJsonSchema".into(), schema::sent(parameters));
    declaration.into()
}

fn tool_config(dialog: &Dialog) -> Option<Value> {
    let (mode, names) = match dialog.tool_choice.as_ref().filter(|_| !dialog.tools.is_empty())? {
        ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Named(name) => ("ANY", Some(json!([name]))),
        ToolChoice::Allowed { required: true, names } => ("ANY", Some(json!(names))),
    };
    let mut config = json!({ "mode": mode });
    if let Some(names) = names {
        config["allowedFunctionNames"] = names;
    }
    Some(json!({ "functionCallingConfig": config }))
}

/// The members of `generationConfig`, in the order of Google's reference.
struct Config(Map<String, Value>);

impl Config {
    fn set(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }
}

fn generation_config(family: Family, dialog: &Dialog, drops: &mut Drops) -> Result<Map<String, Value>, UpstreamError> {
    let (mut config, sampling) = (Config(Map::new()), &dialog.sampling);
    config.set("maxOutputTokens", dialog.output_tokens_max);
    config.set("temperature", sampling.temperature.clone());
    config.set("topP", sampling.top_p.clone());
    config.set("topK", sampling.top_k.clone());
    config.set("candidateCount", choices(dialog, drops)?);
    config.set("stopSequences", stops(dialog, drops)?);
    config.set("seed", sampling.seed.clone());
    config.set("presencePenalty", sampling.presence_penalty.clone());
    config.set("frequencyPenalty", sampling.frequency_penalty.clone());
    config.set("responseLogprobs", dialog.logprobs.map(|_| true));
    config.set("logprobs", dialog.logprobs.map(|logprobs| logprobs.top).filter(|top| *top > 0));
    let (media_type, shape) = format(&dialog.format);
    config.set("responseMimeType", media_type);
    config.set("responseJsonSchema", shape);
    config.set("responseModalities", modalities(dialog.modalities.as_ref(), drops)?);
    config.set("thinkingConfig", dialog.reasoning.and_then(|wanted| thinking_config(family, wanted, drops)));
    Ok(config.0)
}

fn choices(dialog: &Dialog, drops: &mut Drops) -> Result<Option<u32>, UpstreamError> {
    if dialog.choices > CHOICES_MAX {
        drops.essential(format!("n: more than {CHOICES_MAX}"))?;
    }
    Ok(Some(dialog.choices.min(CHOICES_MAX)).filter(|choices| *choices > 1))
}

fn stops(dialog: &Dialog, drops: &mut Drops) -> Result<Option<Vec<String>>, UpstreamError> {
    if dialog.stop.len() > STOPS_MAX {
        drops.essential(format!("stop: more than {STOPS_MAX} texts"))?;
    }
    let stops: Vec<String> = dialog.stop.iter().take(STOPS_MAX).cloned().collect();
    Ok(Some(stops).filter(|stops| !stops.is_empty()))
}

fn format(format: &Format) -> (Option<&'static str>, Option<Value>) {
    match format {
        Format::Text => (None, None),
        Format::Json => (Some("application/json"), None),
        Format::Schema(wanted) => (Some("application/json"), Some(schema::sent(&wanted.schema))),
    }
}

/// Pictures come as parts of the answer. Speech does not: no dialect but Google's own has words for it.
fn modalities(wanted: Option<&Modalities>, drops: &mut Drops) -> Result<Option<Vec<String>>, UpstreamError> {
    let Some(wanted) = wanted else { return Ok(None) };
    let (known, unknown): (Vec<&String>, Vec<&String>) =
        wanted.kinds.iter().partition(|kind| matches!(kind.as_str(), "text" | "image"));
    if !unknown.is_empty() || wanted.audio.is_some() {
        drops.essential("modalities: audio")?;
    }
    let kinds: Vec<String> = known.into_iter().map(|kind| kind.to_ascii_uppercase()).collect();
    Ok(Some(kinds).filter(|kinds| !kinds.is_empty()))
}

/// Thoughts are shown where the caller asked for them.
fn thinking_config(family: Family, wanted: Reasoning, drops: &mut Drops) -> Option<Value> {
    let Some(thoughts) = family.thoughts(wanted) else {
        if wanted != Reasoning::Off {
            drops.harmless("reasoning_effort");
        }
        return None;
    };
    let mut config = match thoughts {
        Thoughts::Level(level) => json!({ "thinkingLevel": level }),
        Thoughts::Budget(tokens) => json!({ "thinkingBudget": tokens }),
    };
    if wanted != Reasoning::Off {
        config["includeThoughts"] = true.into();
    }
    Some(config)
}

/// OpenAI's word for a tier in Google's; none where Google chooses.
fn tier(dialog: &Dialog, drops: &mut Drops) -> Option<&'static str> {
    match dialog.service_tier.as_deref()? {
        "default" | "standard" => Some("standard"),
        "flex" => Some("flex"),
        "priority" => Some("priority"),
        "auto" => None,
        _ => {
            drops.harmless("service_tier");
            None
        }
    }
}

/// The tier as Vertex is asked for it. Its standard tier goes without saying.
pub(super) fn tier_headers(dialog: &Dialog, headers: &mut HeaderMap, drops: &mut Drops) {
    if let Some(tier) = tier(dialog, drops).filter(|tier| *tier != "standard") {
        headers.insert(VERTEX_TIER, HeaderValue::from_static(tier));
    }
}
