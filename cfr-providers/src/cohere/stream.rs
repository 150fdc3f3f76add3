//! From events to pieces (providers.md §11, §13.5). The last event that says anything says what was used, too.

use std::collections::{BTreeMap, HashMap};

use cfr_core::upstream::{FinishReason, UpstreamError};
use serde_json::Value;

use super::answer::{WireCall, finish, logprobs};
use super::{citation, error, usage};
use crate::adapter::WireEvent;
use crate::dialog::{Piece, StreamReader};

/// An answer of Cohere has one choice.
const CHOICE: u32 = 0;
/// The line behind the last event.
const END: &[u8] = b"[DONE]";

/// Reads one answer. It is told to begin with its first word rather than with the event that announces it: until then
/// an error is as good as an error status.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    id: String,
    begun: bool,
    /// Calls by the index that Cohere gives them.
    calls: HashMap<u64, u32>,
    /// Characters of text by the index of the content: citations count them apart.
    texts: BTreeMap<u64, u64>,
    done: bool,
}

impl EventReader {
    fn event(&mut self, event: &Value, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        match text_at(event, "/type").unwrap_or_default() {
            "message-start" => self.id = text_at(event, "/id").unwrap_or_default().to_owned(),
            "content-start" | "content-delta" => self.content(event, pieces),
            "tool-plan-delta" => pieces.extend(thought(event, "/delta/message/tool_plan")),
            "tool-call-start" => self.call(event, pieces)?,
            "tool-call-delta" => pieces.extend(self.arguments(event)),
            "citation-start" => self.citations(event, pieces),
            "message-end" => self.end(event, pieces)?,
            _ => {} // ends of parts, and what is new
        }
        Ok(())
    }

    fn content(&mut self, event: &Value, pieces: &mut Vec<Piece>) {
        pieces.extend(thought(event, "/delta/message/content/thinking"));
        if let Some(text) = text_at(event, "/delta/message/content/text") {
            *self.texts.entry(index(event)).or_default() += text.chars().count() as u64;
            pieces.push(Piece::Text { choice: CHOICE, text: text.to_owned() });
        }
        let logprobs = event.get("logprobs").and_then(logprobs);
        pieces.extend(logprobs.map(|logprobs| Piece::Logprobs { choice: CHOICE, logprobs }));
    }

    fn call(&mut self, event: &Value, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        let wire = event.pointer("/delta/message/tool_calls").cloned().unwrap_or_default();
        let WireCall { id, function } = serde_json::from_value(wire)
            .map_err(|cause| UpstreamError::Malformed { message: format!("not a call of a tool: {cause}").into() })?;
        let call = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        self.calls.insert(index(event), call);
        pieces.push(Piece::ToolCall { choice: CHOICE, call, id, name: function.name, custom: false });
        let fragment = function.arguments.filter(|fragment| !fragment.is_empty());
        pieces.extend(fragment.map(|fragment| Piece::Arguments { choice: CHOICE, call, fragment }));
        Ok(())
    }

    fn arguments(&self, event: &Value) -> Option<Piece> {
        let fragment = text_at(event, "/delta/message/tool_calls/function/arguments")?.to_owned();
        Some(Piece::Arguments { choice: CHOICE, call: *self.calls.get(&index(event))?, fragment })
    }

    fn citations(&self, event: &Value, pieces: &mut Vec<Piece>) {
        let before = |index| self.texts.range(..index).map(|(_, characters)| characters).sum();
        let cited = event.pointer("/delta/message/citations").unwrap_or(&Value::Null);
        let citations = citation::of(cited, before);
        pieces.extend(citations.into_iter().map(|citation| Piece::Citation { choice: CHOICE, citation }));
    }

    fn end(&mut self, event: &Value, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        pieces.extend(event.pointer("/delta/usage").and_then(usage::read).map(Piece::Usage));
        let reason = text_at(event, "/delta/finish_reason");
        let finish = finish(reason, !self.calls.is_empty());
        if finish == FinishReason::Error {
            let reason = reason.unwrap_or_default();
            let message = text_at(event, "/delta/error").unwrap_or(reason).into();
            let in_stream = |message| UpstreamError::InStream { message, frame: None };
            return Err(if self.begun { in_stream(message) } else { error::at_first(reason, message) });
        }
        pieces.push(Piece::Finish { choice: CHOICE, finish, stop_sequence: None });
        self.done = true;
        Ok(())
    }
}

fn thought(event: &Value, pointer: &str) -> Option<Piece> {
    Some(Piece::Thought { choice: CHOICE, text: text_at(event, pointer)?.to_owned() })
}

fn text_at<'a>(event: &'a Value, pointer: &str) -> Option<&'a str> {
    event.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

fn index(event: &Value) -> u64 {
    event.get("index").and_then(Value::as_u64).unwrap_or(0)
}

impl StreamReader for EventReader {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        if *event.data == *END {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(&event.data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("an event is not JSON: {cause}").into() })?;
        let at = pieces.len();
        self.event(&value, pieces)?;
        if pieces.len() > at && !std::mem::replace(&mut self.begun, true) {
            pieces.insert(at, Piece::Start { id: std::mem::take(&mut self.id), model: String::new() });
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&mut self, _pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        Err(UpstreamError::Truncated { message: "the stream ended before message-end".into() })
    }
}
