//! From ConverseStream's events to pieces (providers.md §8.4, §13.5).

use std::collections::HashMap;

use cfr_core::upstream::UpstreamError;
use serde_json::Value;

use super::answer::{citation, finish, stop_sequence, text_of, tier};
use super::{error, usage};
use crate::adapter::WireEvent;
use crate::dialog::{Piece, Seal, StreamReader};
use crate::framing::aws_event_stream::failure;

/// An answer of Bedrock has one choice.
const CHOICE: u32 = 0;

/// Reads one answer. The answer is told to begin with its first word rather than with the event that announces it: until
/// then an exception is as good as an error status.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    begun: bool,
    /// Calls by the index of their block.
    calls: HashMap<u64, u32>,
    thinking: Option<u64>,
    finished: bool,
    done: bool,
}

impl EventReader {
    fn event(&mut self, name: &[u8], event: &Value, pieces: &mut Vec<Piece>) {
        match name {
            b"contentBlockStart" => pieces.extend(self.block(event)),
            b"contentBlockDelta" => self.delta(event, pieces),
            b"messageStop" => pieces.push(self.stop(event)),
            b"metadata" => self.metadata(event, pieces),
            _ => {} // the role, ends of blocks, and what is new
        }
    }

    /// Only calls of tools are announced.
    fn block(&mut self, event: &Value) -> Option<Piece> {
        let tool = event.pointer("/start/toolUse")?;
        let call = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        let (id, name) = (text_of(tool, "toolUseId")?, text_of(tool, "name")?);
        self.calls.insert(index(event), call);
        Some(Piece::ToolCall { choice: CHOICE, call, id, name, custom: false })
    }

    fn delta(&self, event: &Value, pieces: &mut Vec<Piece>) {
        let Some(delta) = event.get("delta") else { return };
        pieces.extend(text_of(delta, "text").map(|text| Piece::Text { choice: CHOICE, text }));
        if let Some(fragment) = delta.get("toolUse").and_then(|tool| text_of(tool, "input")) {
            let call = self.calls.get(&index(event));
            pieces.extend(call.map(|call| Piece::Arguments { choice: CHOICE, call: *call, fragment }));
        }
        if let Some(thought) = delta.get("reasoningContent") {
            pieces.extend(text_of(thought, "text").map(|text| Piece::Thought { choice: CHOICE, text }));
            let seal = text_of(thought, "signature").map(Seal::Anthropic);
            let seal = seal.or_else(|| text_of(thought, "redactedContent").map(Seal::AnthropicRedacted));
            pieces.extend(seal.map(|seal| Piece::Seal { choice: CHOICE, seal }));
        }
        let citation = delta.get("citation").and_then(citation);
        pieces.extend(citation.map(|citation| Piece::Citation { choice: CHOICE, citation }));
    }

    fn stop(&mut self, event: &Value) -> Piece {
        self.finished = true;
        let fields = event.get("additionalModelResponseFields").unwrap_or(&Value::Null);
        self.thinking = usage::thinking_in(fields);
        let reason = text_of(event, "stopReason");
        let finish = finish(reason.as_deref().unwrap_or("end_turn"));
        Piece::Finish { choice: CHOICE, finish, stop_sequence: stop_sequence(fields) }
    }

    /// The last event: what was used.
    fn metadata(&mut self, event: &Value, pieces: &mut Vec<Piece>) {
        let part = |name: &str| event.get(name).cloned().unwrap_or(Value::Null);
        pieces.extend(tier(&part("serviceTier")).map(Piece::ServiceTier));
        pieces.extend(usage::read(part("usage"), self.thinking).map(Piece::Usage));
        self.done = self.finished;
    }
}

fn index(event: &Value) -> u64 {
    event.get("contentBlockIndex").and_then(Value::as_u64).unwrap_or(0)
}

impl StreamReader for EventReader {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        if let Some(kind) = failure(event) {
            let at_first = || error::at_first(kind, &event.data);
            return Err(if self.begun { error::in_stream(&event.data) } else { at_first() });
        }
        let value: Value = serde_json::from_slice(&event.data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("an event is not JSON: {cause}").into() })?;
        let at = pieces.len();
        self.event(&event.name, &value, pieces);
        if pieces.len() > at && !std::mem::replace(&mut self.begun, true) {
            pieces.insert(at, Piece::Start { id: String::new(), model: String::new() });
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }

    /// After its end an answer is complete also without the event that says what it used.
    fn finish(&mut self, _pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        if self.finished {
            return Ok(());
        }
        Err(UpstreamError::Truncated { message: "the stream ended before messageStop".into() })
    }
}
