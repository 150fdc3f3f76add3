//! What a client of each dialect makes of an answer's bytes; written without the code that is tested.

use std::collections::BTreeMap;

use cfr_core::chat::Dialect;
use serde_json::{Value, json};

/// What a client makes of the bytes.
#[derive(Default, Debug)]
pub struct Spoken {
    pub text: String,
    pub reasoning: String,
    pub refusal: String,
    /// Why it ended, in OpenAI's words.
    pub finish: Option<String>,
    pub usage: Value,
    /// The answer came to its end.
    pub done: bool,
    /// By choice, and by index in it.
    calls: BTreeMap<(u64, u64), Call>,
    begun: std::collections::BTreeSet<u64>,
    ended: std::collections::BTreeSet<u64>,
}

#[derive(Default, Debug)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl Spoken {
    pub fn of(dialect: Dialect, bytes: &[u8]) -> Self {
        let whole = bytes.starts_with(b"{");
        let mut spoken = Self::default();
        let frames: Vec<Value> = if whole { vec![serde_json::from_slice(bytes).unwrap()] } else { frames(bytes) };
        spoken.done = whole || data_lines(bytes).any(|data| data == "[DONE]");
        for frame in &frames {
            match dialect {
                Dialect::Anthropic if whole => spoken.message(frame),
                Dialect::Anthropic => spoken.message_event(frame),
                Dialect::Responses if whole => spoken.response(frame),
                Dialect::Responses => spoken.response_event(frame),
                Dialect::Gemini => spoken.generated(frame),
                _ => spoken.chunk(frame, if whole { "message" } else { "delta" }),
            }
        }
        spoken
    }

    /// Whether every choice that began has an end.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty() && self.begun == self.ended
    }

    /// Bytes of everything that the model said: words, thoughts, refusals, names and arguments of calls.
    pub fn bytes(&self) -> u64 {
        let calls = self.calls.values().map(|call| call.name.len() + call.arguments.len());
        (self.text.len() + self.reasoning.len() + self.refusal.len() + calls.sum::<usize>()) as u64
    }

    /// Whether the model called a tool, to the end of the call or not.
    pub fn has_called(&self) -> bool {
        !self.calls.is_empty()
    }

    /// The calls of tools, with their arguments as JSON.
    pub fn calls(&self) -> Vec<Value> {
        let value = |call: &Call| {
            let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
            let arguments: Value =
                serde_json::from_str(arguments).unwrap_or_else(|cause| panic!("{cause}: {arguments}"));
            json!({"id": call.id, "name": call.name, "arguments": arguments})
        };
        self.calls.values().map(value).collect()
    }

    fn chunk(&mut self, chunk: &Value, part: &str) {
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].clone();
        }
        for choice in list(&chunk["choices"]) {
            let (index, said) = (number(&choice["index"]), &choice[part]);
            self.begun.insert(index);
            self.text += text(&choice["text"]);
            self.text += text(&said["content"]);
            for piece in list(&said["content"]) {
                self.text += text(&piece["text"]);
                self.reasoning += text(&piece["thinking"][0]["text"]);
            }
            self.reasoning += said["reasoning"].as_str().or(said["reasoning_content"].as_str()).unwrap_or("");
            self.refusal += text(&said["refusal"]);
            for (at, call) in list(&said["tool_calls"]).iter().enumerate() {
                let entry = self.calls.entry((index, call["index"].as_u64().unwrap_or(at as u64))).or_default();
                entry.id += text(&call["id"]);
                entry.name += text(&call["function"]["name"]);
                entry.arguments += text(&call["function"]["arguments"]);
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.ended.insert(index);
                self.finish = Some(reason.into());
            }
        }
    }

    fn message(&mut self, message: &Value) {
        self.begun.insert(0);
        for (at, block) in (0..).zip(list(&message["content"])) {
            self.block(at, block);
        }
        self.stopped(&message["stop_reason"]);
        self.usage = message["usage"].clone();
    }

    fn block(&mut self, at: u64, block: &Value) {
        match text(&block["type"]) {
            "text" => self.text += text(&block["text"]),
            "thinking" => self.reasoning += text(&block["thinking"]),
            "tool_use" => {
                let input = &block["input"];
                let arguments = if input.as_object().is_none_or(serde_json::Map::is_empty) {
                    String::new()
                } else {
                    input.to_string()
                };
                let call = Call { id: text(&block["id"]).into(), name: text(&block["name"]).into(), arguments };
                self.calls.insert((0, at), call);
            }
            _ => {}
        }
    }

    fn message_event(&mut self, event: &Value) {
        let index = number(&event["index"]);
        match text(&event["type"]) {
            "message_start" => {
                self.begun.insert(0);
                self.usage = event["message"]["usage"].clone();
            }
            "content_block_start" => self.block(index, &event["content_block"]),
            "content_block_delta" => {
                let delta = &event["delta"];
                self.text += text(&delta["text"]);
                self.reasoning += text(&delta["thinking"]);
                if let Some(json) = delta["partial_json"].as_str() {
                    self.calls.get_mut(&(0, index)).unwrap().arguments += json;
                }
            }
            "message_delta" => {
                self.stopped(&event["delta"]["stop_reason"]);
                for (name, quantity) in event["usage"].as_object().into_iter().flatten() {
                    self.usage[name] = quantity.clone();
                }
            }
            "message_stop" => self.done = true,
            _ => {}
        }
    }

    fn stopped(&mut self, reason: &Value) {
        let Some(reason) = reason.as_str() else { return };
        self.ended.insert(0);
        let word = match reason {
            "end_turn" | "stop_sequence" => "stop",
            "tool_use" => "tool_calls",
            "max_tokens" | "model_context_window_exceeded" => "length",
            "refusal" => "content_filter",
            other => other,
        };
        self.finish = Some(word.into());
    }

    fn response_event(&mut self, event: &Value) {
        match text(&event["type"]) {
            "response.created" => drop(self.begun.insert(0)),
            // The last event says everything once more.
            "response.completed" | "response.incomplete" => self.response(&event["response"]),
            _ => {}
        }
    }

    fn response(&mut self, response: &Value) {
        self.begun.insert(0);
        self.done = true;
        for (at, item) in (0..).zip(list(&response["output"])) {
            for part in list(&item["content"]) {
                match text(&part["type"]) {
                    "output_text" => self.text += text(&part["text"]),
                    "refusal" => self.refusal += text(&part["refusal"]),
                    _ => {}
                }
            }
            for part in list(&item["summary"]) {
                self.reasoning += text(&part["text"]);
            }
            if item["type"] == "function_call" {
                let (id, name) = (text(&item["call_id"]).into(), text(&item["name"]).into());
                self.calls.insert((0, at), Call { id, name, arguments: text(&item["arguments"]).into() });
            }
        }
        self.usage = response["usage"].clone();
        let reason = match (text(&response["status"]), text(&response["incomplete_details"]["reason"])) {
            ("completed", _) if !self.calls.is_empty() => "tool_calls",
            ("completed", _) => "stop",
            (_, "content_filter") => "content_filter",
            ("incomplete", _) => "length",
            (other, _) => other,
        };
        self.ended.insert(0);
        self.finish = Some(reason.into());
    }

    fn generated(&mut self, chunk: &Value) {
        for candidate in list(&chunk["candidates"]) {
            let index = number(&candidate["index"]);
            self.begun.insert(index);
            for part in list(&candidate["content"]["parts"]) {
                let said = if part["thought"] == true { &mut self.reasoning } else { &mut self.text };
                *said += text(&part["text"]);
                if let Some(call) = part.get("functionCall") {
                    let (id, name) = (text(&call["id"]).into(), text(&call["name"]).into());
                    let at = self.calls.len() as u64;
                    self.calls.insert((index, at), Call { id, name, arguments: call["args"].to_string() });
                }
            }
            if let Some(reason) = candidate["finishReason"].as_str() {
                self.ended.insert(index);
                self.finish = Some(self.generated_finish(reason).into());
                self.done = true;
            }
        }
        if chunk["promptFeedback"]["blockReason"].is_string() {
            self.begun.insert(0);
            self.ended.insert(0);
            self.finish = Some("content_filter".into());
            self.done = true;
        }
        if chunk["usageMetadata"].is_object() {
            self.usage = chunk["usageMetadata"].clone();
        }
    }

    fn generated_finish<'a>(&self, reason: &'a str) -> &'a str {
        match reason {
            "STOP" if !self.calls.is_empty() => "tool_calls",
            "STOP" => "stop",
            "MAX_TOKENS" => "length",
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => "content_filter",
            other => other,
        }
    }
}

fn frames(bytes: &[u8]) -> Vec<Value> {
    let json = data_lines(bytes).filter(|data| *data != "[DONE]");
    json.map(|data| serde_json::from_str(data).unwrap_or_else(|cause| panic!("{cause}: {data}"))).collect()
}

fn data_lines(stream: &[u8]) -> impl Iterator<Item = &str> {
    str::from_utf8(stream).unwrap().lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
