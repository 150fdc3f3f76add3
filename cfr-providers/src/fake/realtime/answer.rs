//! What the fake provider answers in a conversation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cfr_core::id::RequestId;
use serde_json::{Value, json};

use super::super::prompt::hash;
use super::super::script::Script;
use super::super::words::{self, Dice};
use super::memory::Tokens;
use super::{Running, Step, Talk};

/// Words of an answer when nothing else is ordered: from here …
const WORDS_MIN: u64 = 8;
/// … and so many more at the most.
const WORDS_SPREAD: u64 = 16;
/// Bytes of the 50 milliseconds of PCM that a token of sound stands for.
const TOKEN_BYTES: usize = 2_400;

impl Talk {
    pub(super) fn respond(&mut self, event: &Value) {
        if self.running.is_some() {
            return self.refuse(event, "conversation_already_has_active_response", "a response is being made");
        }
        let script = Script::read(&self.memory.last);
        if let Some(error) = &script.error {
            return self.refuse(event, error, "ordered by the prompt");
        }
        let wish = &event["response"];
        let setting = |name: &str| if wish[name].is_null() { &self.session[name] } else { &wish[name] };
        let spoken = setting("output_modalities") != &json!(["text"]);
        let cap = setting("max_output_tokens").as_u64();
        let tool = self.tool(&script);
        let read = self.memory.read(&self.session);
        let asked = event["event_id"].as_str().and_then(|id| id.parse().ok());
        let entry = self.log.open_response(asked.unwrap_or(RequestId::from_u128(0)), &self.model, cap, read.total());
        let words = self.words(&script, tool.as_ref().map(|(_, arguments)| arguments.as_str()));
        let id = self.id("resp");
        self.say(json!({ "type": "response.created", "response": self.response(&id, "in_progress") }));
        let spoken = spoken && tool.is_none();
        let cost = 1 + u64::from(spoken);
        let most = usize::try_from(cap.unwrap_or(u64::MAX) / cost).unwrap_or(usize::MAX);
        let status = if words.len() > most { "incomplete" } else { "completed" };
        let cut_at = if script.cut || script.hang { words.len() / 2 } else { words.len() };
        self.steps.extend(words.into_iter().take(most.min(cut_at)).map(Step::Word));
        self.steps.push_back(match &script {
            Script { cut: true, .. } => Step::Cut,
            Script { hang: true, .. } => Step::Hang,
            Script { stream_error: true, .. } => Step::End("failed"),
            _ => Step::End(status),
        });
        self.running = Some(Running {
            id,
            entry,
            read,
            said: Tokens::default(),
            text: String::new(),
            tool: tool.map(|(name, _)| name),
            spoken,
            in_conversation: wish["conversation"] != "none",
            reports: !script.no_usage,
        });
    }

    /// The tool that the last message orders to call, where it is offered.
    fn tool(&self, script: &Script) -> Option<(String, String)> {
        let (name, arguments) = script.call.as_ref().filter(|_| !self.memory.answered)?;
        let offered = self.session["tools"].as_array()?.iter().any(|tool| tool["name"] == **name);
        offered.then(|| (name.to_string(), arguments.to_string()))
    }

    fn words(&self, script: &Script, arguments: Option<&str>) -> Vec<String> {
        if let Some(arguments) = arguments {
            return words::pieces(arguments);
        }
        if script.echo {
            return self.memory.last.split_inclusive(' ').map(str::to_owned).collect();
        }
        let mut dice = Dice::new(hash([self.memory.last.as_str()].into_iter()));
        let count = script.tokens.unwrap_or_else(|| WORDS_MIN + dice.roll() % WORDS_SPREAD);
        words::tokens(&format!("This is {}, at your service.", self.model), &mut dice, count)
    }

    /// Says a word of the answer.
    pub(super) fn word(&mut self, word: &str) -> Value {
        let Some(running) = &mut self.running else { return json!({ "type": "error" }) };
        running.text.push_str(word);
        running.said.text += 1;
        running.entry.add(1 + u64::from(running.spoken));
        let mut event =
            json!({ "response_id": running.id, "item_id": "item_answer", "output_index": 0, "delta": word });
        event["type"] = match (&running.tool, running.spoken) {
            (Some(_), _) => "response.function_call_arguments.delta",
            (None, true) => "response.output_audio_transcript.delta",
            (None, false) => "response.output_text.delta",
        }
        .into();
        if running.spoken {
            running.said.audio += 1;
            let sound = STANDARD.encode([0; TOKEN_BYTES]);
            let sound = json!({
                "type": "response.output_audio.delta", "response_id": running.id, "item_id": "item_answer",
                "output_index": 0, "content_index": 0, "delta": sound,
            });
            self.steps.push_front(Step::Say(sound));
        }
        event
    }

    /// Ends the answer.
    pub(super) fn end(&mut self, status: &'static str) -> Value {
        let Some(running) = self.running.take() else { return json!({ "type": "error" }) };
        let mut response = self.response(&running.id, status);
        response["output"] = json!([output(&running)]);
        if running.in_conversation {
            self.memory.add_answer(running.said);
        }
        if running.reports {
            response["usage"] = self.memory.usage(running.read, running.said);
        }
        running.entry.finish();
        json!({ "type": "response.done", "response": response })
    }

    fn response(&self, id: &str, status: &str) -> Value {
        let details = match status {
            "incomplete" => json!({ "type": status, "reason": "max_output_tokens" }),
            "cancelled" => json!({ "type": status, "reason": "client_cancelled" }),
            _ => Value::Null,
        };
        json!({
            "object": "realtime.response", "id": id, "status": status, "status_details": details, "output": [],
            "usage": null, "model": self.model,
        })
    }
}

fn output(running: &Running) -> Value {
    match &running.tool {
        Some(name) => json!({
            "id": "item_answer", "type": "function_call", "call_id": format!("call_{}", running.id), "name": name,
            "arguments": running.text, "status": "completed",
        }),
        None => {
            let content = match running.spoken {
                true => json!({ "type": "output_audio", "transcript": running.text }),
                false => json!({ "type": "output_text", "text": running.text }),
            };
            json!({ "id": "item_answer", "type": "message", "role": "assistant", "content": [content] })
        }
    }
}
