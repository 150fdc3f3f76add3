//! From pieces of an answer to the events of a stream (providers.md §6.3, §14).
//!
//! Blocks follow each other: whatever is of another kind than the open block ends it. Calls may grow at the same time;
//! those behind the first wait until it is complete, or until something else is said.

use std::fmt::Write as _;

use bytes::BytesMut;
use cfr_core::chat::{Call, Usage};
use cfr_core::upstream::FinishReason;
use serde_json::{Value, json};

use super::calls::{Growing, Queue};
use super::proof;
use super::whole::{Said, citation_object, head, input, stop_reason, usage_object};
use crate::dialog::{Piece, Seal, StreamWriter};

/// What is said of an answer that its provider broke off: no reason to stop says that.
const FAILED: &str = "the provider failed after it had begun to answer";

/// Writes one answer.
pub(super) struct EventWriter {
    call: Call,
    begun: bool,
    /// The index of the next block.
    next: u64,
    open: Option<Open>,
    calls: Queue,
    said: Said,
    finish: Option<(FinishReason, Option<String>)>,
    usage: Option<Usage>,
}

/// The block that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thought,
    /// The first of the calls.
    Call,
}

impl StreamWriter for EventWriter {
    fn write(&mut self, piece: Piece, out: &mut BytesMut) {
        match piece {
            Piece::Start { id, model } => self.begin(&id, &model, out),
            Piece::Text { choice: 0, text } => self.text(&text, out),
            Piece::Refusal { choice: 0, text } => {
                self.said.refusal = true;
                self.text(&text, out);
            }
            Piece::Thought { choice: 0, text } if !text.is_empty() => {
                self.change(Open::Thought, out);
                self.delta(json!({"type": "thinking_delta", "thinking": text}), out);
            }
            Piece::Seal { choice: 0, seal } => self.seal(&seal, out),
            Piece::ToolCall { choice: 0, call, id, name, custom } => {
                self.said.calls = true;
                self.add_call(Growing::new(call, id, name, custom), out);
            }
            Piece::Arguments { choice: 0, call, fragment } => self.arguments(call, &fragment, out),
            Piece::Citation { choice: 0, citation } if self.open == Some(Open::Text) => {
                self.delta(json!({"type": "citations_delta", "citation": citation_object(&citation)}), out);
            }
            Piece::Finish { choice: 0, finish, stop_sequence } => {
                self.said.stop_sequence = stop_sequence.is_some();
                self.finish = Some((finish, stop_sequence));
            }
            Piece::Usage(usage) => self.usage = Some(usage),
            _ => {} // the dialect has one answer, and no words for the rest
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.begin("", "", out);
        self.end_blocks(out);
        let (finish, stop_sequence) = self.finish.take().unwrap_or((FinishReason::Stop, None));
        if finish == FinishReason::Error {
            return event("error", json!({"type": "error", "error": {"type": "api_error", "message": FAILED}}), out);
        }
        let delta = json!({"stop_reason": stop_reason(&finish, self.said), "stop_sequence": stop_sequence});
        let usage = usage_object(&self.usage.unwrap_or_default());
        event("message_delta", json!({"type": "message_delta", "delta": delta, "usage": usage}), out);
        event("message_stop", json!({"type": "message_stop"}), out);
    }
}

impl EventWriter {
    pub(super) fn new(call: &Call) -> Self {
        Self {
            call: call.clone(),
            begun: false,
            next: 0,
            open: None,
            calls: Queue::new(),
            said: Said::default(),
            finish: None,
            usage: None,
        }
    }

    /// The first event. What was used is not known yet: clients take it from the end.
    fn begin(&mut self, id: &str, model: &str, out: &mut BytesMut) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let mut message = head(&self.call, id, model);
        message.insert("content".into(), json!([]));
        message.insert("stop_reason".into(), Value::Null);
        message.insert("stop_sequence".into(), Value::Null);
        message.insert("usage".into(), usage_object(&Usage::default()));
        event("message_start", json!({"type": "message_start", "message": message}), out);
    }

    /// Blocks without words are refused when they come back.
    fn text(&mut self, text: &str, out: &mut BytesMut) {
        if text.is_empty() {
            return;
        }
        self.change(Open::Text, out);
        self.delta(json!({"type": "text_delta", "text": text}), out);
    }

    /// Makes a block of words the open one.
    fn change(&mut self, kind: Open, out: &mut BytesMut) {
        if self.open == Some(kind) {
            return;
        }
        self.end_blocks(out);
        let block = match kind {
            Open::Thought => json!({"type": "thinking", "thinking": "", "signature": ""}),
            _ => json!({"type": "text", "text": ""}),
        };
        self.open_block(kind, block, out);
    }

    /// A proof ends the thought that it belongs to; any other stands in a block of its own.
    fn seal(&mut self, seal: &Seal, out: &mut BytesMut) {
        match (self.open, seal) {
            (Some(Open::Thought), Seal::AnthropicRedacted(_)) => self.block(proof::thought("", Some(seal)), out),
            (Some(Open::Thought), seal) => {
                self.delta(json!({"type": "signature_delta", "signature": proof::signature(Some(seal))}), out);
                self.stop_block(out);
            }
            (open, Seal::Gemini(_)) if self.next > 0 || open.is_some() => self.block(proof::before(seal), out),
            _ => self.block(proof::thought("", Some(seal)), out),
        }
    }

    /// A whole block.
    fn block(&mut self, block: Value, out: &mut BytesMut) {
        self.end_blocks(out);
        let mut opening = block;
        let signature = opening.get_mut("signature").map(Value::take);
        if let Some((opening, _)) = opening.as_object_mut().zip(signature.as_ref()) {
            opening.insert("signature".into(), "".into());
        }
        self.open_block(Open::Text, opening, out);
        if let Some(signature) = signature {
            self.delta(json!({"type": "signature_delta", "signature": signature}), out);
        }
        self.stop_block(out);
    }

    fn add_call(&mut self, call: Growing, out: &mut BytesMut) {
        if matches!(self.open, Some(Open::Text | Open::Thought)) {
            self.end_blocks(out);
        }
        self.calls.push_back(call);
        self.advance(out);
    }

    fn arguments(&mut self, call: u32, fragment: &str, out: &mut BytesMut) {
        let Some(growing) = self.calls.iter_mut().find(|growing| growing.call == call) else { return };
        growing.add(fragment);
        self.advance(out);
    }

    /// Writes what can be written of the calls: all of the first, and of the next as soon as the first is complete.
    fn advance(&mut self, out: &mut BytesMut) {
        self.write_first(out);
        while self.calls.len() > 1 && self.calls.front().is_some_and(Growing::is_complete) {
            self.end_call(out);
            self.write_first(out);
        }
    }

    fn write_first(&mut self, out: &mut BytesMut) {
        let Some(first) = self.calls.front_mut() else { return };
        if self.open.is_none() {
            let block = json!({"type": "tool_use", "id": first.id, "name": first.name, "input": {}});
            self.open_block(Open::Call, block, out);
        }
        // The input of a custom tool is text, which becomes a member of an object when all of it is there.
        let Some(first) = self.calls.front_mut().filter(|first| !first.custom) else { return };
        let fragment = std::mem::take(&mut first.unwritten);
        if !fragment.is_empty() {
            self.delta(json!({"type": "input_json_delta", "partial_json": fragment}), out);
        }
    }

    fn end_call(&mut self, out: &mut BytesMut) {
        let Some(first) = self.calls.pop_front() else { return };
        if first.custom {
            let whole = input(&first.unwritten, true).to_string();
            self.delta(json!({"type": "input_json_delta", "partial_json": whole}), out);
        }
        self.stop_block(out);
    }

    /// Ends whatever is open, and writes the calls that wait.
    fn end_blocks(&mut self, out: &mut BytesMut) {
        match self.open {
            Some(Open::Thought) => {
                let signature = proof::signature(None);
                self.delta(json!({"type": "signature_delta", "signature": signature}), out);
                self.stop_block(out);
            }
            Some(Open::Text) => self.stop_block(out),
            Some(Open::Call) | None => {}
        }
        while !self.calls.is_empty() {
            self.write_first(out);
            self.end_call(out);
        }
    }

    fn open_block(&mut self, kind: Open, block: Value, out: &mut BytesMut) {
        self.begin("", "", out);
        self.open = Some(kind);
        let start = json!({"type": "content_block_start", "index": self.next, "content_block": block});
        event("content_block_start", start, out);
    }

    fn delta(&self, delta: Value, out: &mut BytesMut) {
        event("content_block_delta", json!({"type": "content_block_delta", "index": self.next, "delta": delta}), out);
    }

    fn stop_block(&mut self, out: &mut BytesMut) {
        self.open = None;
        event("content_block_stop", json!({"type": "content_block_stop", "index": self.next}), out);
        self.next += 1;
    }
}

fn event(name: &str, data: Value, out: &mut BytesMut) {
    let _ = write!(out, "event: {name}\ndata: {data}\n\n"); // writing to memory
}
