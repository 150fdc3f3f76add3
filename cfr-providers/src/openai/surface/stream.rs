//! From pieces of an answer to chunks of a chat completion (providers.md §13.5).

use std::collections::HashSet;
use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use cfr_core::chat::{Call, Usage};
use serde_json::{Map, Value, json};

use super::whole::{annotation, block, call_object, head, image_object, usage_object};
use crate::dialog::{Piece, StreamWriter};

/// Writes one answer.
pub(super) struct ChunkWriter {
    call: Call,
    head: Map<String, Value>,
    /// The head as it stands before the choices of every chunk.
    opening: String,
    begun: bool,
    include_usage: bool,
    usage: Option<Usage>,
    /// The thought that a proof may follow.
    thought: String,
    /// Calls with free text, by answer and number.
    custom: HashSet<(u32, u32)>,
}

impl ChunkWriter {
    pub(super) fn new(call: &Call) -> Self {
        let head = head(call, "", "", "chat.completion.chunk");
        Self {
            opening: opening(&head),
            head,
            include_usage: call.envelope.include_usage,
            call: call.clone(),
            begun: false,
            usage: None,
            thought: String::new(),
            custom: HashSet::new(),
        }
    }

    fn delta(&mut self, choice: u32, delta: Value, out: &mut BytesMut) {
        self.begin(choice, out);
        self.choice(json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null}), out);
    }

    /// The first chunk says who speaks. Every client takes it for all choices.
    fn begin(&mut self, choice: u32, out: &mut BytesMut) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let delta = json!({"role": "assistant", "content": ""});
        self.choice(json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null}), out);
    }

    fn choice(&self, choice: Value, out: &mut BytesMut) {
        self.chunk(&json!([choice]), &Value::Null, out);
    }

    /// A client that asked for usage finds the member in every chunk.
    fn chunk(&self, choices: &Value, usage: &Value, out: &mut BytesMut) {
        let usage = if self.include_usage { format!(",\"usage\":{usage}") } else { String::new() };
        let _ = write!(out, "data: {}\"choices\":{choices}{usage}}}\n\n", self.opening); // writing to memory
    }
}

impl StreamWriter for ChunkWriter {
    fn write(&mut self, piece: Piece, out: &mut BytesMut) {
        match piece {
            Piece::Start { id, model } => {
                self.head = head(&self.call, &id, &model, "chat.completion.chunk");
                self.opening = opening(&self.head);
                self.begin(0, out);
            }
            Piece::Text { choice, text } => self.delta(choice, json!({"content": text}), out),
            Piece::Thought { choice, text } => {
                self.thought.push_str(&text);
                self.delta(choice, json!({"reasoning_content": text}), out);
            }
            Piece::Seal { choice, seal } => {
                let thought = std::mem::take(&mut self.thought);
                let blocks: Vec<Value> = block(&thought, &seal).into_iter().collect();
                self.delta(choice, json!({"thinking_blocks": blocks}), out);
            }
            Piece::Refusal { choice, text } => self.delta(choice, json!({"refusal": text}), out),
            Piece::ToolCall { choice, call, id, name, custom } => {
                let mut first = call_object(&id, &name, String::new(), custom);
                first.insert("index".to_owned(), call.into());
                if custom {
                    self.custom.insert((choice, call));
                }
                self.delta(choice, json!({"tool_calls": [first]}), out);
            }
            Piece::Arguments { choice, call, fragment } => {
                let more = match self.custom.contains(&(choice, call)) {
                    true => json!({"index": call, "custom": {"input": fragment}}),
                    false => json!({"index": call, "function": {"arguments": fragment}}),
                };
                self.delta(choice, json!({"tool_calls": [more]}), out);
            }
            Piece::Citation { choice, citation } => {
                self.delta(choice, json!({"annotations": [annotation(&citation)]}), out);
            }
            Piece::Image { choice, image } => self.delta(choice, json!({"images": [image_object(&image)]}), out),
            Piece::Logprobs { choice, logprobs } => {
                self.begin(choice, out);
                self.choice(json!({"index": choice, "delta": {}, "logprobs": logprobs, "finish_reason": null}), out);
            }
            Piece::Finish { choice, finish, .. } => {
                self.begin(choice, out);
                let finish = finish.name();
                self.choice(json!({"index": choice, "delta": {}, "logprobs": null, "finish_reason": finish}), out);
            }
            Piece::Usage(usage) => self.usage = Some(usage),
            Piece::Cost(_) | Piece::Geo(_) => {} // the caller has no use for it
            Piece::ServiceTier(tier) => {
                self.head.insert("service_tier".to_owned(), tier.into());
                self.opening = opening(&self.head);
            }
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        if let Some(usage) = self.usage.filter(|_| self.include_usage) {
            self.chunk(&json!([]), &usage_object(&usage), out);
        }
        out.put_slice(b"data: [DONE]\n\n");
    }
}

/// An object that is still open, for the members that follow.
fn opening(head: &Map<String, Value>) -> String {
    let members = head.iter().map(|(name, value)| format!("{}:{value},", Value::from(name.as_str())));
    std::iter::once("{".to_owned()).chain(members).collect()
}
