//! From events of a response to pieces of an answer (providers.md §3, §13.6).

use std::collections::BTreeMap;

use cfr_core::upstream::{FinishReason, UpstreamError};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::{citation, image, logprobs, seal};
use super::usage;
use super::wire::{Event, Response, event_error, failure, parse};
use crate::adapter::WireEvent;
use crate::dialog::{Piece, StreamReader};
use crate::openai::{Quirks, error, without_body};

/// A response has one answer.
const CHOICE: u32 = 0;

/// Whether an event is one of a response rather than a chunk of a chat completion.
pub(crate) fn is_event(event: &WireEvent<'_>) -> bool {
    let names = |kind: &[u8]| kind.starts_with(b"response.");
    let kind = || serde_json::from_slice::<Event<'_>>(&event.data).ok();
    names(&event.name) || kind().is_some_and(|event| names(event.kind.text().unwrap_or_default().as_bytes()))
}

/// Reads one streamed response.
pub(crate) struct EventReader {
    quirks: &'static Quirks,
    started: bool,
    id: String,
    model: String,
    /// Calls by the index of their items.
    calls: BTreeMap<u64, Call>,
    /// Whether the thought that is being told has words.
    thinks: bool,
    done: bool,
}

struct Call {
    number: u32,
    /// Whether some of its arguments came.
    told: bool,
}

impl EventReader {
    pub(crate) fn new(quirks: &'static Quirks) -> Self {
        let (id, model) = (String::new(), String::new());
        Self { quirks, started: false, id, model, calls: BTreeMap::new(), thinks: false, done: false }
    }

    fn event(&mut self, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        let event: Event<'_> = serde_json::from_slice(data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("an event is not JSON: {cause}").into() })?;
        let kind = event.kind.text().unwrap_or_default().to_owned();
        match kind.as_str() {
            "response.created" | "response.in_progress" | "response.queued" => self.created(event.response),
            "response.completed" | "response.incomplete" => self.ended(event.response, pieces),
            "response.failed" | "error" => return Err(self.failed(&event, data, pieces)),
            _ => self.said(&kind, event, pieces),
        }
        Ok(())
    }

    fn created(&mut self, response: Option<&RawValue>) {
        let Some(response) = response.and_then(parse::<Response<'_>>) else { return };
        self.id = response.id.text().unwrap_or_default().to_owned();
        self.model = response.model.text().unwrap_or_default().to_owned();
    }

    /// The answer begins with the first thing that it says, so that a failure before it is not one of an answer.
    fn start(&mut self, pieces: &mut Vec<Piece>) {
        if !std::mem::replace(&mut self.started, true) {
            pieces.push(Piece::Start { id: self.id.clone(), model: self.model.clone() });
        }
    }

    fn said(&mut self, kind: &str, event: Event<'_>, pieces: &mut Vec<Piece>) {
        let choice = CHOICE;
        let text = event.delta.text().unwrap_or_default().to_owned();
        let index = event.output_index();
        let before = pieces.len();
        match kind {
            "response.output_item.added" => self.item_added(index, event.item, pieces),
            "response.output_item.done" => self.item_done(index, event.item, pieces),
            "response.output_text.delta" => {
                pieces.push(Piece::Text { choice, text });
                let logprobs = event.logprobs.as_ref().and_then(logprobs);
                pieces.extend(logprobs.map(|logprobs| Piece::Logprobs { choice, logprobs }));
            }
            "response.refusal.delta" => pieces.push(Piece::Refusal { choice, text }),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.thinks = true;
                pieces.push(Piece::Thought { choice, text });
            }
            "response.reasoning_summary_part.added" if event.summary_index() > 0 => {
                pieces.push(Piece::Thought { choice, text: "\n\n".to_owned() });
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.arguments(index, text, pieces);
            }
            "response.output_text.annotation.added" => {
                let citation = event.annotation.as_ref().and_then(citation);
                pieces.extend(citation.map(|citation| Piece::Citation { choice, citation }));
            }
            _ => {}
        }
        if pieces.len() > before && !self.started {
            let said = pieces.split_off(before);
            self.start(pieces);
            pieces.extend(said);
        }
    }

    fn item_added(&mut self, index: u64, item: Option<&RawValue>, pieces: &mut Vec<Piece>) {
        let Some(item) = item.and_then(parse::<Value>) else { return };
        self.thinks = false;
        let custom = match item["type"].as_str() {
            Some("function_call") => false,
            Some("custom_tool_call") => true,
            _ => return,
        };
        let (Some(id), Some(name)) = (item["call_id"].as_str(), item["name"].as_str()) else { return };
        let number = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        self.calls.insert(index, Call { number, told: false });
        pieces.push(Piece::ToolCall { choice: CHOICE, call: number, id: id.to_owned(), name: name.to_owned(), custom });
    }

    fn arguments(&mut self, index: u64, fragment: String, pieces: &mut Vec<Piece>) {
        if let Some(call) = self.calls.get_mut(&index) {
            call.told = true;
            pieces.push(Piece::Arguments { choice: CHOICE, call: call.number, fragment });
        }
    }

    /// What an item says only when it is complete.
    fn item_done(&mut self, index: u64, item: Option<&RawValue>, pieces: &mut Vec<Piece>) {
        let Some(item) = item.and_then(parse::<Value>) else { return };
        let choice = CHOICE;
        match item["type"].as_str() {
            Some("reasoning") => {
                if let Some(seal) = seal(&item) {
                    let unseen = (!self.thinks).then(|| Piece::Thought { choice, text: String::new() });
                    pieces.extend(unseen);
                    pieces.push(Piece::Seal { choice, seal });
                }
            }
            Some("function_call" | "custom_tool_call") => {
                let untold = self.calls.get(&index).is_some_and(|call| !call.told);
                let arguments = item["arguments"].as_str().or(item["input"].as_str()).filter(|_| untold);
                if let Some(arguments) = arguments.filter(|arguments| !arguments.is_empty()) {
                    self.arguments(index, arguments.to_owned(), pieces);
                }
            }
            Some("image_generation_call") => {
                pieces.extend(image(&item).map(|image| Piece::Image { choice, image }));
            }
            _ => {}
        }
    }

    fn ended(&mut self, response: Option<&RawValue>, pieces: &mut Vec<Piece>) {
        self.start(pieces);
        self.done = true;
        let response = response.and_then(parse::<Response<'_>>);
        let finish = response.as_ref().and_then(Response::finish).unwrap_or(FinishReason::Stop);
        let tier = response.as_ref().and_then(|response| response.service_tier.text());
        pieces.extend(tier.map(|tier| Piece::ServiceTier(tier.to_owned())));
        pieces.push(Piece::Finish { choice: CHOICE, finish, stop_sequence: None });
        self.usage(response.as_ref(), pieces);
    }

    fn usage(&self, response: Option<&Response<'_>>, pieces: &mut Vec<Piece>) {
        let (usage, cost) = response.map_or((None, None), |response| usage::read(self.quirks, response));
        pieces.extend(usage.map(Piece::Usage));
        pieces.extend(cost.map(Piece::Cost));
    }

    /// A failure before the answer began is as good as an error status: another target may still answer.
    fn failed(&self, event: &Event<'_>, data: &[u8], pieces: &mut Vec<Piece>) -> UpstreamError {
        let response = event.response.and_then(parse::<Response<'_>>);
        self.usage(response.as_ref(), pieces);
        let failure = match response.and_then(|response| response.failure()) {
            Some(failure) => failure,
            None => failure(&event_error(data)),
        };
        if self.started { error::within(&failure) } else { without_body(failure) }
    }
}

impl StreamReader for EventReader {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        match event.data.trim_ascii() {
            b"" | b"[DONE]" => Ok(()),
            _ if self.done => Ok(()),
            data => self.event(data, pieces),
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&mut self, _: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        if self.done {
            return Ok(());
        }
        Err(UpstreamError::Truncated { message: "the stream ended before the response did".into() })
    }
}
