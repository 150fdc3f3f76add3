//! Whose request a recorded one is: the caller's body that must lead to it.

use cfr_core::chat::Operation;
use serde_json::{Map, Value, json};

/// What a caller asks for.
pub(crate) struct Asked {
    pub(crate) work: Work,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) body: Value,
}

/// What is to be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Answer(Operation),
    /// The tokens of the prompt are counted.
    Count(Operation),
}

impl Asked {
    /// Callers of the provider's own dialect where clients speak it too, else of OpenAI's. None when nobody asks for that.
    pub(crate) fn of(path: &str, sent: &Value) -> Option<Self> {
        use Operation::{ChatCompletions, Embeddings, GenerateContent, Messages, Rerank, Responses};
        let path = path.split('?').next().unwrap();
        let in_path = model_in(path);
        let named = |body: &Value| in_path.clone().or_else(|| Some(body["model"].as_str()?.to_owned()));
        let (work, body) = match path {
            _ if path.ends_with("/messages/count_tokens") => (Work::Count(Messages), sent.clone()),
            _ if path.ends_with(":countTokens") => {
                let mut body = sent["generateContentRequest"].clone();
                body.as_object_mut()?.remove("model");
                (Work::Count(GenerateContent), body)
            }
            _ if path.ends_with("/messages") => (Work::Answer(Messages), sent.clone()),
            _ if path.ends_with("/responses") => (Work::Answer(Responses), sent.clone()),
            _ if path.ends_with("enerateContent") => (Work::Answer(GenerateContent), sent.clone()),
            _ if path.ends_with("/v2/chat") => (Work::Answer(ChatCompletions), sent.clone()),
            _ if path.ends_with("/api/chat") => (Work::Answer(ChatCompletions), of_ollama(sent)),
            _ if path.contains("/converse") => (Work::Answer(ChatCompletions), of_converse(sent)),
            _ if path.ends_with("/v2/embed") => (Work::Answer(Embeddings), of_cohere_embed(sent)),
            _ if path.ends_with("/api/embed") => (Work::Answer(Embeddings), sent.clone()),
            _ if path.ends_with(":batchEmbedContents") => (Work::Answer(Embeddings), of_gemini_embed(sent)),
            _ if path.ends_with("/v2/rerank") => (Work::Answer(Rerank), sent.clone()),
            _ => return None,
        };
        let stream = path.contains(":stream") || path.ends_with("-stream") || sent["stream"] == true;
        let model = named(&body)?;
        let mut asked = Self { work, model, stream, body };
        if work != Work::Answer(GenerateContent) && work != Work::Count(GenerateContent) {
            asked.body["model"] = asked.model.clone().into();
        }
        if work == Work::Answer(ChatCompletions) && stream {
            asked.body["stream"] = true.into();
        }
        Some(asked)
    }
}

/// The model of `…/models/MODEL:verb` and `/model/MODEL/verb`.
fn model_in(path: &str) -> Option<String> {
    let after = |part: &str| path.split_once(part).map(|(_, rest)| rest);
    let found = after("/models/").and_then(|rest| rest.split(':').next());
    found.or(after("/model/").and_then(|rest| rest.split('/').next())).map(str::to_owned)
}

fn of_ollama(sent: &Value) -> Value {
    let mut body = sent.clone();
    let object = body.as_object_mut().unwrap();
    for (theirs, ours) in [("num_predict", "max_tokens"), ("temperature", "temperature")] {
        if let Some(value) = sent["options"].get(theirs) {
            object.insert(ours.into(), value.clone());
        }
    }
    if let Some(effort) = sent["think"].as_str() {
        object.insert("reasoning_effort".into(), effort.into());
    }
    object.retain(|name, _| !["options", "think"].contains(&&**name));
    body
}

fn of_converse(sent: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let system = list(&sent["system"]).into_iter().map(|part| json!({"role": "system", "content": part["text"]}));
    let turns = list(&sent["messages"]).into_iter().map(|turn| {
        let mut parts: Vec<Value> = Vec::new();
        for block in list(&turn["content"]) {
            match (block.get("cachePoint"), parts.last_mut()) {
                (Some(point), Some(part)) => {
                    part["cache_control"] = json!({"type": "ephemeral"});
                    if let Some(ttl) = point.get("ttl") {
                        part["cache_control"]["ttl"] = ttl.clone();
                    }
                }
                _ => parts.push(json!({"type": "text", "text": block["text"]})),
            }
        }
        json!({"role": turn["role"], "content": parts})
    });
    let mut body = Map::from_iter([("messages".to_owned(), system.chain(turns).collect())]);
    if let Some(most) = sent["inferenceConfig"].get("maxTokens") {
        body.insert("max_tokens".into(), most.clone());
    }
    let tools = list(&sent["toolConfig"]["tools"]).into_iter().map(|tool| {
        let spec = &tool["toolSpec"];
        let schema = &spec["inputSchema"]["json"];
        json!({"type": "function", "function": {"name": spec["name"], "description": spec["description"], "parameters": schema}})
    });
    let tools: Vec<Value> = tools.collect();
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
        body.insert("tool_choice".into(), "auto".into());
    }
    body.into()
}

fn of_cohere_embed(sent: &Value) -> Value {
    json!({"model": sent["model"], "input": sent["texts"], "input_type": sent["input_type"]})
}

fn of_gemini_embed(sent: &Value) -> Value {
    let requests = sent["requests"].as_array().unwrap();
    let input: Vec<&Value> = requests.iter().map(|request| &request["content"]["parts"][0]["text"]).collect();
    json!({"input": input, "dimensions": requests[0]["outputDimensionality"]})
}
