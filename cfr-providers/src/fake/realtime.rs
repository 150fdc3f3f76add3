//! Conversations with the fake provider, in OpenAI's events.
//!
//! It hears sound without understanding it: samples that are not zero are speech, and zeros after them end it. A user's
//! text may hold orders, see [`Script`](super::script::Script). A word of an answer costs a token of text, and one of sound
//! beside it where the answer is spoken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cfr_core::upstream::{RealtimeSocket, UpstreamError};
use serde_json::{Value, json};

use super::log::{Entry, FakeLog};

mod answer;
mod memory;

use memory::Memory;

/// Bytes of a millisecond of PCM.
const BYTES_PER_MS: usize = 48;

/// One conversation.
#[derive(Debug)]
pub(super) struct Talk {
    model: Box<str>,
    pace: Duration,
    log: Arc<FakeLog>,
    session: Value,
    memory: Memory,
    /// What is still to be said, in order.
    steps: VecDeque<Step>,
    running: Option<Running>,
    /// Milliseconds of sound that are not part of the conversation yet.
    buffered_ms: usize,
    /// The item that somebody is speaking.
    speaking: Option<String>,
    /// Makes ids.
    events: u64,
}

/// A response that is being made.
#[derive(Debug)]
struct Running {
    id: String,
    entry: Entry,
    /// What it reads.
    read: memory::Tokens,
    said: memory::Tokens,
    text: String,
    tool: Option<String>,
    spoken: bool,
    in_conversation: bool,
    reports: bool,
}

/// One thing to do.
#[derive(Debug)]
enum Step {
    /// Say it.
    Say(Value),
    /// Say a word.
    Word(String),
    /// End the response, for this reason.
    End(&'static str),
    /// Close the connection.
    Cut,
    /// Be silent for good.
    Hang,
}

impl Talk {
    pub(super) fn new(model: &str, pace: Duration, log: Arc<FakeLog>) -> Self {
        let turns = json!({ "type": "server_vad", "create_response": true, "interrupt_response": true });
        let session = json!({
            "type": "realtime", "object": "realtime.session", "id": "sess_fake", "model": model,
            "output_modalities": ["audio"], "instructions": "Be brief.", "tools": [], "max_output_tokens": "inf",
            "audio": { "input": { "turn_detection": turns }, "output": { "voice": "alloy" } },
        });
        let mut talk = Self {
            model: model.into(),
            pace,
            log,
            session,
            memory: Memory::default(),
            steps: VecDeque::new(),
            running: None,
            buffered_ms: 0,
            speaking: None,
            events: 0,
        };
        talk.say(json!({ "type": "session.created", "session": talk.session.clone() }));
        talk
    }

    fn say(&mut self, event: Value) {
        self.steps.push_back(Step::Say(event));
    }

    fn id(&mut self, prefix: &str) -> String {
        self.events += 1;
        format!("{prefix}_fake{}", self.events)
    }

    fn hear(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "session.update" => {
                merge(&mut self.session, &event["session"]);
                self.say(json!({ "type": "session.updated", "session": self.session.clone() }));
            }
            "input_audio_buffer.append" => self.listen(event["audio"].as_str().unwrap_or_default()),
            "input_audio_buffer.clear" => {
                self.buffered_ms = 0;
                self.say(json!({ "type": "input_audio_buffer.cleared" }));
            }
            "input_audio_buffer.commit" => {
                let id = self.id("item");
                self.commit(id);
            }
            "conversation.item.create" => {
                let mut item = event["item"].clone();
                if item["id"].is_null() {
                    item["id"] = self.id("item").into();
                }
                self.memory.add(&item);
                self.say(json!({ "type": "conversation.item.added", "item": item }));
                self.say(json!({ "type": "conversation.item.done", "item": item }));
            }
            "response.create" => self.respond(event),
            "response.cancel" => self.cancel(),
            other => self.refuse(event, "invalid_value", &format!("`{other}` is unknown")),
        }
    }

    fn refuse(&mut self, event: &Value, code: &str, message: &str) {
        let error = json!({
            "type": "invalid_request_error", "code": code, "message": message, "param": null, "event_id": event["event_id"],
        });
        self.say(json!({ "type": "error", "error": error }));
    }

    fn turns(&self) -> Value {
        self.session["audio"]["input"]["turn_detection"].clone()
    }

    fn listen(&mut self, base64: &str) {
        let sound = STANDARD.decode(base64).unwrap_or_default();
        let (is_loud, ms) = (sound.iter().any(|sample| *sample != 0), sound.len() / BYTES_PER_MS);
        let turns = self.turns();
        if turns.is_null() {
            self.buffered_ms += ms;
            return;
        }
        if is_loud && self.speaking.is_none() {
            let id = self.id("item");
            self.say(json!({ "type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": id }));
            self.speaking = Some(id);
            if turns["interrupt_response"] != false {
                self.cancel();
            }
        }
        if self.speaking.is_some() {
            self.buffered_ms += ms;
        }
        if is_loud {
            return;
        }
        if let Some(id) = self.speaking.take() {
            self.say(json!({ "type": "input_audio_buffer.speech_stopped", "audio_end_ms": ms, "item_id": id }));
            self.commit(id);
            if turns["create_response"] != false {
                self.respond(&json!({ "type": "response.create" }));
            }
        }
    }

    fn commit(&mut self, id: String) {
        self.memory.add_sound(std::mem::take(&mut self.buffered_ms));
        let item = json!({ "id": id, "type": "message", "role": "user", "content": [{ "type": "input_audio" }] });
        self.say(json!({ "type": "input_audio_buffer.committed", "item_id": id }));
        self.say(json!({ "type": "conversation.item.added", "item": item }));
    }

    fn cancel(&mut self) {
        if self.running.is_some() {
            self.steps.retain(|step| matches!(step, Step::Say(_)));
            self.steps.push_back(Step::End("cancelled"));
        }
    }
}

#[async_trait]
impl RealtimeSocket for Talk {
    async fn send(&mut self, event: String) -> Result<(), UpstreamError> {
        let read = serde_json::from_str(&event);
        let event = read.map_err(|error| UpstreamError::Malformed { message: error.to_string().into() })?;
        self.hear(&event);
        Ok(())
    }

    async fn receive(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        match self.steps.front() {
            None | Some(Step::Hang) => std::future::pending().await,
            Some(Step::Word(_)) if !self.pace.is_zero() => tokio::time::sleep(self.pace).await,
            Some(_) => {}
        }
        let mut event = match self.steps.pop_front()? {
            Step::Say(event) => event,
            Step::Word(word) => self.word(&word),
            Step::End(status) => self.end(status),
            Step::Cut | Step::Hang => return None,
        };
        event["event_id"] = self.id("event").into();
        Some(Ok(event.to_string().into()))
    }
}

/// Settings that were said take the place of those from before, each by itself.
fn merge(settings: &mut Value, said: &Value) {
    match (settings, said) {
        (Value::Object(settings), Value::Object(said)) => {
            for (name, value) in said {
                merge(settings.entry(name).or_insert(Value::Null), value);
            }
        }
        (settings, said) => *settings = said.clone(),
    }
}
