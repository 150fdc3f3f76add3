//! From a dialog to a request for a response (providers.md §3, §13.6). Nothing is kept by the provider.

use bytes::Bytes;
use cfr_core::chat::envelope::TOOL_SEARCHES_MAX;
use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::input;
use crate::dialog::{Dialog, Drops, Format, Tool, ToolChoice, WebSearch};
use crate::openai::{end_user, models};

/// The smallest cap that is taken. A lower one is not raised: nothing is held for what would come on top.
const OUTPUT_TOKENS_MIN: u64 = 16;

/// The body to send.
///
/// # Errors
/// [`UpstreamError::Unsupported`] with what cannot be asked for here.
pub(crate) fn body(dialog: &Dialog, model: &str, drops: &mut Drops) -> Result<Bytes, UpstreamError> {
    let mut request = Request { dialog, model, drops, body: Map::new() };
    request.put("model", model);
    request.conversation();
    request.limits()?;
    request.tools();
    request.reasoning();
    request.text();
    request.sampling()?;
    request.rest()?;
    Ok(Value::Object(request.body).to_string().into())
}

struct Request<'a> {
    dialog: &'a Dialog,
    model: &'a str,
    drops: &'a mut Drops,
    body: Map<String, Value>,
}

impl Request<'_> {
    fn put(&mut self, field: &str, value: impl Into<Value>) {
        self.body.insert(field.to_owned(), value.into());
    }

    fn put_some(&mut self, field: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(field, value);
        }
    }

    fn drop_said(&mut self, field: &'static str, said: bool) {
        if said {
            self.drops.harmless(field);
        }
    }

    fn conversation(&mut self) {
        let system: Vec<&str> = self.dialog.system.iter().map(|text| text.text.as_str()).collect();
        if !system.is_empty() {
            self.put("instructions", system.join("\n\n"));
        }
        self.put("input", input::items(&self.dialog.turns));
        self.put("store", false);
        self.drop_said("store", self.dialog.store == Some(true));
    }

    fn limits(&mut self) -> Result<(), UpstreamError> {
        let cap = self.dialog.output_tokens_max;
        if cap.is_some_and(|cap| cap < OUTPUT_TOKENS_MIN) {
            let message = format!("a cap below {OUTPUT_TOKENS_MIN} answer tokens (the model is reached by /responses)");
            return Err(UpstreamError::Unsupported { message: message.into() });
        }
        self.put_some("max_output_tokens", cap);
        if self.dialog.choices > 1 {
            self.drops.essential("n")?;
        }
        self.drop_said("stop", !self.dialog.stop.is_empty());
        Ok(())
    }

    fn tools(&mut self) {
        let mut tools: Vec<Value> = self.dialog.tools.iter().map(tool_object).collect();
        if let Some(search) = &self.dialog.web_search {
            tools.push(search_tool(search));
            // What is held covers so many searches.
            self.put("max_tool_calls", search.uses_max.unwrap_or(u64::from(TOOL_SEARCHES_MAX)));
        }
        if tools.is_empty() {
            return;
        }
        self.put("tools", tools);
        self.put_some("tool_choice", self.dialog.tool_choice.as_ref().map(|choice| self.tool_choice(choice)));
        self.put_some("parallel_tool_calls", self.dialog.parallel_tools);
    }

    fn tool_choice(&self, choice: &ToolChoice) -> Value {
        match choice {
            ToolChoice::Auto => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Named(name) => self.named(name),
            ToolChoice::Allowed { required, names } => {
                let mode = if *required { "required" } else { "auto" };
                let tools: Vec<Value> = names.iter().map(|name| self.named(name)).collect();
                json!({"type": "allowed_tools", "mode": mode, "tools": tools})
            }
        }
    }

    fn named(&self, name: &str) -> Value {
        let custom = self.dialog.tools.iter().any(|tool| matches!(tool, Tool::Custom { .. }) && tool.name() == name);
        json!({"type": if custom { "custom" } else { "function" }, "name": name})
    }

    /// Thoughts come back encrypted, so that the caller can carry them to the next turn.
    fn reasoning(&mut self) {
        if models::is_reasoning(self.model) {
            self.put("include", vec!["reasoning.encrypted_content"]);
        }
        let Some(reasoning) = self.dialog.reasoning else { return };
        match models::effort_word(self.model, reasoning) {
            Some("none") => self.put("reasoning", json!({"effort": "none"})),
            Some(effort) => self.put("reasoning", json!({"effort": effort, "summary": "auto"})),
            None => self.drops.harmless("reasoning_effort"),
        }
    }

    fn text(&mut self) {
        let mut text = Map::new();
        if let Some(format) = format_object(&self.dialog.format) {
            text.insert("format".to_owned(), format);
        }
        if let Some(verbosity) = &self.dialog.verbosity {
            text.insert("verbosity".to_owned(), verbosity.as_str().into());
        }
        if !text.is_empty() {
            self.put("text", text);
        }
    }

    fn sampling(&mut self) -> Result<(), UpstreamError> {
        let sampling = &self.dialog.sampling;
        let fixed = models::will_think(self.model, self.dialog.reasoning);
        for (field, value) in [("temperature", &sampling.temperature), ("top_p", &sampling.top_p)] {
            match value {
                Some(_) if fixed => self.drops.harmless(field),
                value => self.put_some(field, value.clone()),
            }
        }
        self.drop_said("top_k", sampling.top_k.is_some());
        self.drop_said("seed", sampling.seed.is_some());
        self.drop_said("frequency_penalty", sampling.frequency_penalty.is_some());
        self.drop_said("presence_penalty", sampling.presence_penalty.is_some());
        self.drop_said("logit_bias", sampling.logit_bias.is_some());
        match self.dialog.logprobs {
            Some(_) if fixed => self.drops.essential("logprobs"),
            Some(logprobs) => {
                self.put("top_logprobs", logprobs.top);
                let include = self.body.entry("include").or_insert_with(|| json!([]));
                if let Value::Array(list) = include {
                    list.push("message.output_text.logprobs".into());
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn rest(&mut self) -> Result<(), UpstreamError> {
        let dialog = self.dialog;
        self.put_some("service_tier", dialog.service_tier.as_deref());
        self.put_some("prompt_cache_key", dialog.cache_key.as_deref());
        self.put_some("safety_identifier", dialog.end_user.as_deref().map(end_user));
        self.put_some("metadata", Some(dialog.metadata.clone()).filter(|notes| !notes.is_empty()));
        self.drop_said("prediction", dialog.prediction.is_some());
        if dialog.stream {
            self.put("stream", true);
        }
        if dialog.modalities.is_some() {
            self.drops.essential("modalities")?;
        }
        Ok(())
    }
}

/// Tools are strict here unless they say that they are not.
fn tool_object(tool: &Tool) -> Value {
    let (kind, description) = match tool {
        Tool::Function { description, .. } => ("function", description),
        Tool::Custom { description, .. } => ("custom", description),
    };
    let mut object = Map::from_iter([("type".to_owned(), kind.into()), ("name".to_owned(), tool.name().into())]);
    if let Some(description) = description {
        object.insert("description".to_owned(), description.as_str().into());
    }
    match tool {
        Tool::Function { parameters, strict, .. } => {
            object.insert("parameters".to_owned(), parameters.clone());
            object.insert("strict".to_owned(), strict.unwrap_or(false).into());
        }
        Tool::Custom { format: Some(format), .. } => drop(object.insert("format".to_owned(), flat(format, "grammar"))),
        Tool::Custom { .. } => {}
    }
    object.into()
}

fn search_tool(search: &WebSearch) -> Value {
    let mut tool = Map::from_iter([("type".to_owned(), Value::from("web_search"))]);
    if let Some(context) = &search.context {
        tool.insert("search_context_size".to_owned(), context.as_str().into());
    }
    if let Some(location) = &search.location {
        tool.insert("user_location".to_owned(), flat(location, "approximate"));
    }
    tool.into()
}

fn format_object(format: &Format) -> Option<Value> {
    let schema = match format {
        Format::Text => return None,
        Format::Json => return Some(json!({"type": "json_object"})),
        Format::Schema(schema) => schema,
    };
    let mut object = Map::from_iter([
        ("type".to_owned(), Value::from("json_schema")),
        ("name".to_owned(), schema.name.as_str().into()),
    ]);
    if let Some(description) = &schema.description {
        object.insert("description".to_owned(), description.as_str().into());
    }
    if let Some(strict) = schema.strict {
        object.insert("strict".to_owned(), strict.into());
    }
    object.insert("schema".to_owned(), schema.schema.clone());
    Some(object.into())
}

/// What chat completions nest in a member of the object's own name, this dialect has in the object itself.
fn flat(object: &Value, inner: &str) -> Value {
    match (object, object.get(inner)) {
        (Value::Object(outer), Some(Value::Object(members))) => {
            let rest = outer.iter().filter(|(name, _)| *name != inner);
            Value::Object(rest.chain(members).map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        _ => object.clone(),
    }
}
