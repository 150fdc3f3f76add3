//! From a dialog to a chat request (providers.md §2.1, §10, §13, §14).

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::message;
use crate::dialog::{Dialog, Drops, Effort, Format, Logprobs, Reasoning, Tool, ToolChoice};
use crate::openai::models;
use crate::openai::quirks::Quirks;
use crate::openai::words::EffortRule;

/// Texts that may end an answer.
const STOPS_MAX: usize = 4;

/// The body to send.
pub(super) fn body(quirks: &Quirks, dialog: &Dialog, model: &str, drops: &mut Drops) -> Result<Bytes, UpstreamError> {
    let mut request = Request { quirks, dialog, model, drops, body: Map::new() };
    request.put("model", model);
    let messages = message::write(quirks, model, dialog, request.drops)?;
    request.put("messages", messages);
    request.limits()?;
    request.sampling()?;
    request.tools()?;
    request.reasoning();
    request.extras()?;
    request.stream();
    request.take_out_what_is_refused()?;
    Ok(Value::Object(request.body).to_string().into())
}

struct Request<'a> {
    quirks: &'a Quirks,
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

    /// A field that only some servers know.
    fn put_known(&mut self, field: &'static str, value: Option<impl Into<Value>>) {
        match value {
            Some(value) if self.quirks.words.knows(field) => self.put(field, value),
            Some(_) => self.drops.harmless(field),
            None => {}
        }
    }

    fn follows_openai_models(&self) -> bool {
        self.quirks.words.openai_models
    }

    fn limits(&mut self) -> Result<(), UpstreamError> {
        self.put_some(self.quirks.cap_field.name(), self.dialog.output_tokens_max);
        if self.dialog.choices > 1 {
            self.put("n", self.dialog.choices);
        }
        if self.dialog.stop.len() > STOPS_MAX {
            self.drops.essential("stop: more than four texts")?;
        }
        let stop: Vec<&str> = self.dialog.stop.iter().take(STOPS_MAX).map(String::as_str).collect();
        if !stop.is_empty() {
            self.put("stop", stop);
        }
        self.put_some("response_format", response_format(&self.dialog.format));
        self.put_some(self.quirks.words.end_user, self.dialog.end_user.as_deref().map(message::end_user));
        Ok(())
    }

    /// Models that think take none of it.
    fn sampling(&mut self) -> Result<(), UpstreamError> {
        let sampling = &self.dialog.sampling;
        let fixed = self.follows_openai_models() && models::will_think(self.model, self.dialog.reasoning);
        self.put_some(self.quirks.words.seed, sampling.seed.clone());
        self.put_known("top_k", sampling.top_k.clone());
        for (field, value) in [
            ("temperature", sampling.temperature.clone().map(Value::from)),
            ("top_p", sampling.top_p.clone().map(Value::from)),
            ("frequency_penalty", sampling.frequency_penalty.clone().map(Value::from)),
            ("presence_penalty", sampling.presence_penalty.clone().map(Value::from)),
            ("logit_bias", sampling.logit_bias.clone()),
        ] {
            match value {
                Some(_) if fixed => self.drops.harmless(field),
                value => self.put_some(field, value),
            }
        }
        match self.dialog.logprobs {
            Some(_) if fixed => self.drops.essential("logprobs"),
            Some(Logprobs { top }) => {
                self.put("logprobs", true);
                self.put_some("top_logprobs", Some(top).filter(|top| *top > 0));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn tools(&mut self) -> Result<(), UpstreamError> {
        let mut tools = Vec::with_capacity(self.dialog.tools.len());
        for tool in &self.dialog.tools {
            match tool {
                Tool::Custom { .. } if !self.quirks.words.knows("custom") => {
                    self.drops.essential(format!("tools: `{}` takes free text", tool.name()))?;
                }
                tool if self.is_out_of_choice(tool) => {}
                tool => tools.push(tool_object(tool)),
            }
        }
        if tools.is_empty() {
            return Ok(()); // a choice of no tools is refused
        }
        self.put("tools", tools);
        self.put_some("parallel_tool_calls", self.dialog.parallel_tools);
        self.put_some("tool_choice", self.dialog.tool_choice.as_ref().map(|choice| self.tool_choice(choice)));
        Ok(())
    }

    /// Servers that cannot be told which of the tools may be called are told of these tools only.
    fn is_out_of_choice(&self, tool: &Tool) -> bool {
        match &self.dialog.tool_choice {
            Some(ToolChoice::Allowed { names, .. }) if !self.quirks.words.knows("allowed_tools") => {
                !names.iter().any(|name| name == tool.name())
            }
            _ => false,
        }
    }

    fn tool_choice(&self, choice: &ToolChoice) -> Value {
        let mode = |required: bool| if required { "required" } else { "auto" };
        match choice {
            ToolChoice::Auto => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Named(name) => self.named(name),
            ToolChoice::Allowed { required, names } if self.quirks.words.knows("allowed_tools") => {
                let tools: Vec<Value> = names.iter().map(|name| self.named(name)).collect();
                json!({"type": "allowed_tools", "allowed_tools": {"mode": mode(*required), "tools": tools}})
            }
            ToolChoice::Allowed { required, .. } => mode(*required).into(),
        }
    }

    fn named(&self, name: &str) -> Value {
        let custom = self.dialog.tools.iter().any(|tool| matches!(tool, Tool::Custom { .. }) && tool.name() == name);
        let kind = if custom { "custom" } else { "function" };
        json!({"type": kind, kind: {"name": name}})
    }

    fn reasoning(&mut self) {
        let Some(reasoning) = self.dialog.reasoning else { return };
        let three = three(reasoning);
        match self.quirks.words.effort {
            EffortRule::ByModel => match models::effort_word(self.model, reasoning) {
                Some(word) => self.put("reasoning_effort", word),
                None => self.drops.harmless("reasoning_effort"),
            },
            EffortRule::Three => self.put("reasoning_effort", three),
            EffortRule::ThreeBy(names) if names.iter().any(|name| self.model.contains(name)) => {
                self.put("reasoning_effort", if three == "none" { "low" } else { three });
            }
            EffortRule::HighOrNone => {
                self.put("reasoning_effort", if three == "none" { "none" } else { "high" });
            }
            EffortRule::Switch if three == "none" => self.put("thinking", json!({"type": "disabled"})),
            EffortRule::Switch => {
                self.put("thinking", json!({"type": "enabled"}));
                self.put("reasoning_effort", three);
            }
            EffortRule::Object => self.put("reasoning", reasoning_object(reasoning)),
            EffortRule::ThreeBy(_) | EffortRule::Unsaid => self.drops.harmless("reasoning_effort"),
        }
    }

    fn extras(&mut self) -> Result<(), UpstreamError> {
        let dialog = self.dialog;
        self.put_known("service_tier", dialog.service_tier.as_deref());
        self.put_known("verbosity", dialog.verbosity.as_deref());
        self.put_known("prompt_cache_key", dialog.cache_key.as_deref());
        self.put_known("prediction", dialog.prediction.clone());
        // Not to keep an answer is what servers do that do not know the field.
        let knows_store = self.quirks.words.knows("store");
        self.put_known("store", dialog.store.filter(|keep| *keep || knows_store));
        if !dialog.metadata.is_empty() {
            self.drops.harmless("metadata"); // it belongs to what is stored
        }
        self.web_search()?;
        match &dialog.modalities {
            Some(_) if !self.quirks.words.knows("modalities") => self.drops.essential("modalities"),
            Some(modalities) => {
                self.put("modalities", modalities.kinds.clone());
                self.put_some("audio", modalities.audio.clone());
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn web_search(&mut self) -> Result<(), UpstreamError> {
        let Some(search) = &self.dialog.web_search else { return Ok(()) };
        let model_searches = self.follows_openai_models() && models::searches(self.model);
        if !model_searches && !self.quirks.words.knows("web_search_options") {
            return self.drops.essential("web_search");
        }
        let mut options = Map::new();
        if let Some(context) = &search.context {
            options.insert("search_context_size".to_owned(), context.as_str().into());
        }
        if let Some(location) = &search.location {
            options.insert("user_location".to_owned(), location.clone());
        }
        self.put("web_search_options", options);
        Ok(())
    }

    /// A stream without usage could not be settled exactly.
    fn stream(&mut self) {
        if !self.dialog.stream {
            return;
        }
        self.put("stream", true);
        if self.quirks.accepts_stream_options {
            self.put("stream_options", json!({"include_usage": true}));
        }
    }

    fn take_out_what_is_refused(&mut self) -> Result<(), UpstreamError> {
        for field in self.quirks.drops {
            match self.body.shift_remove(*field) {
                None => {}
                Some(_) if matches!(*field, "logprobs" | "modalities") => self.drops.essential(*field)?,
                Some(_) => self.drops.harmless(*field),
            }
        }
        Ok(())
    }
}

fn response_format(format: &Format) -> Option<Value> {
    match format {
        Format::Text => None,
        Format::Json => Some(json!({"type": "json_object"})),
        Format::Schema(schema) => {
            let mut object = Map::from_iter([("name".to_owned(), Value::from(schema.name.as_str()))]);
            insert_some(&mut object, "description", schema.description.as_deref());
            insert_some(&mut object, "strict", schema.strict);
            object.insert("schema".to_owned(), schema.schema.clone());
            Some(json!({"type": "json_schema", "json_schema": object}))
        }
    }
}

fn tool_object(tool: &Tool) -> Value {
    let mut inner = Map::from_iter([("name".to_owned(), Value::from(tool.name()))]);
    match tool {
        Tool::Function { description, parameters, strict, .. } => {
            insert_some(&mut inner, "description", description.as_deref());
            inner.insert("parameters".to_owned(), parameters.clone());
            insert_some(&mut inner, "strict", *strict);
            json!({"type": "function", "function": inner})
        }
        Tool::Custom { description, format, .. } => {
            insert_some(&mut inner, "description", description.as_deref());
            insert_some(&mut inner, "format", format.clone());
            json!({"type": "custom", "custom": inner})
        }
    }
}

fn insert_some(object: &mut Map<String, Value>, field: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(field.to_owned(), value.into());
    }
}

/// The efforts that compatible servers share.
fn three(reasoning: Reasoning) -> &'static str {
    match reasoning.effort() {
        None => "none",
        Some(Effort::Minimal | Effort::Low) => "low",
        Some(Effort::Medium) => "medium",
        Some(Effort::High | Effort::XHigh | Effort::Max) => "high",
    }
}

/// OpenRouter's own object.
fn reasoning_object(reasoning: Reasoning) -> Value {
    match reasoning {
        Reasoning::Budget(tokens) => json!({"max_tokens": tokens}),
        reasoning => json!({"effort": reasoning.effort().map_or("none", Effort::name)}),
    }
}
