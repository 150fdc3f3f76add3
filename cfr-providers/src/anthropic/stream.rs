//! Streamed answers (providers.md §6.3, §13.5).

use cfr_core::upstream::UpstreamError;
use http::HeaderMap;

use super::usage::WireUsage;
use super::wire::{self, Block, Delta, Event, NO_INPUT, Text};
use super::{answer, error};
use crate::adapter::WireEvent;
use crate::dialog::{Piece, Seal, StreamReader};

/// All pieces are of the one answer there is.
const CHOICE: u32 = 0;

/// Reads one stream.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    progress: Progress,
    /// Blocks that are calls, by their index in the stream, with the input that came with their beginning.
    calls: Vec<Call>,
    /// Whether words were said.
    spoke: bool,
}

#[derive(Debug)]
struct Call {
    block: u64,
    whole_input: Option<String>,
}

/// How far a stream has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) begun: bool,
    /// The text is complete.
    pub(super) stopped: bool,
    pub(super) done: bool,
    usage: WireUsage,
}

impl Progress {
    /// Takes in the usage of an event; what is known after it.
    pub(super) fn usage(&mut self, raw: Option<&serde_json::value::RawValue>) -> Option<&WireUsage> {
        self.usage.overwrite(raw.and_then(WireUsage::read)?);
        Some(&self.usage)
    }

    /// An error before the answer began is as good as an error status: another target may still answer.
    pub(super) fn failure(&self, data: &[u8]) -> UpstreamError {
        if self.begun { error::in_stream(data) } else { error::in_success(&HeaderMap::new(), data) }
    }

    /// The wire ended. A reason to stop means that nothing is missing but the formal end.
    pub(super) fn finish(&mut self) -> Result<(), UpstreamError> {
        if self.done || self.stopped {
            self.done = true;
            return Ok(());
        }
        Err(UpstreamError::Truncated { message: "the stream ended before a stop reason".into() })
    }
}

/// An event as Anthropic words it. One that is named an error is one, whatever its data.
pub(super) fn event<'a>(event: &'a WireEvent<'_>) -> Result<Event<'a>, UpstreamError> {
    if *event.name == *b"error" {
        return Ok(Event { kind: "error".into(), ..Event::default() });
    }
    crate::json::parse(&event.data)
        .map_err(|cause| UpstreamError::Malformed { message: format!("an event is not JSON: {cause}").into() })
}

impl StreamReader for EventReader {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        if self.progress.done || event.data.trim_ascii().is_empty() {
            return Ok(());
        }
        let wire = self::event(event)?;
        match &*wire.kind {
            "error" => return Err(without_frame(self.progress.failure(&event.data))),
            "message_start" => self.start(wire, pieces),
            "content_block_start" => self.open(wire.index, wire.content_block.unwrap_or_default(), pieces),
            "content_block_delta" => self.more(wire.index, wire.delta.unwrap_or_default(), pieces),
            "content_block_stop" => self.close(wire.index, pieces),
            "message_delta" => self.stop(wire, pieces),
            "message_stop" => self.progress.done = true,
            _ => {} // pings, and what is new
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.progress.done
    }

    fn finish(&mut self, _: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        self.progress.finish()
    }
}

fn without_frame(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::InStream { message, .. } => UpstreamError::InStream { message, frame: None },
        error => error::without_body(error),
    }
}

impl EventReader {
    fn start(&mut self, event: Event<'_>, pieces: &mut Vec<Piece>) {
        let message = event.message.unwrap_or_default();
        self.progress.begun = true;
        let (id, model) = (message.id.text().unwrap_or_default(), message.model.text().unwrap_or_default());
        pieces.push(Piece::Start { id: id.into(), model: model.into() });
        self.usage(message.usage, pieces);
    }

    fn open(&mut self, index: u64, block: Block<'_>, pieces: &mut Vec<Piece>) {
        match &*block.kind {
            "tool_use" => self.open_call(index, &block, pieces),
            "redacted_thinking" => {
                let data = block.data.map(|data| data.0.into_owned()).unwrap_or_default();
                pieces.push(Piece::Seal { choice: CHOICE, seal: Seal::AnthropicRedacted(data) });
            }
            "text" | "thinking" => {
                self.text(block.text, pieces);
                thought(block.thinking, pieces);
                seal(block.signature, pieces);
            }
            _ => {} // the provider's own tools
        }
    }

    fn open_call(&mut self, index: u64, block: &Block<'_>, pieces: &mut Vec<Piece>) {
        let whole_input = block.input.map(|input| input.get().to_owned()).filter(|input| input != NO_INPUT);
        let call = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        self.calls.push(Call { block: index, whole_input });
        let (id, name) = (block.id.text().unwrap_or_default(), block.name.text().unwrap_or_default());
        let id = if id.is_empty() { format!("toolu_{call}") } else { id.to_owned() };
        pieces.push(Piece::ToolCall { choice: CHOICE, call, id, name: name.into(), custom: false });
    }

    fn more(&mut self, index: u64, delta: Delta<'_>, pieces: &mut Vec<Piece>) {
        self.text(delta.text, pieces);
        thought(delta.thinking, pieces);
        seal(delta.signature, pieces);
        if let Some(citation) = delta.citation.and_then(answer::citation) {
            pieces.push(Piece::Citation { choice: CHOICE, citation });
        }
        let fragment = delta.partial_json.map(|fragment| fragment.0.into_owned()).filter(|json| !json.is_empty());
        if let Some((fragment, (call, open))) = fragment.zip(self.call(index)) {
            open.whole_input = None; // what came with the beginning was a part of this
            pieces.push(Piece::Arguments { choice: CHOICE, call, fragment });
        }
    }

    fn close(&mut self, index: u64, pieces: &mut Vec<Piece>) {
        if let Some((call, open)) = self.call(index)
            && let Some(fragment) = open.whole_input.take()
        {
            pieces.push(Piece::Arguments { choice: CHOICE, call, fragment });
        }
    }

    fn call(&mut self, block: u64) -> Option<(u32, &mut Call)> {
        (0..).zip(&mut self.calls).find(|(_, call)| call.block == block)
    }

    fn stop(&mut self, event: Event<'_>, pieces: &mut Vec<Piece>) {
        self.usage(event.usage, pieces);
        let delta = event.delta.unwrap_or_default();
        let Some(reason) = delta.stop_reason.text() else { return };
        self.progress.stopped = true;
        if reason == "refusal" && !self.spoke {
            let text = answer::explanation(delta.stop_details.as_ref());
            pieces.push(Piece::Refusal { choice: CHOICE, text: text.unwrap_or_else(|| answer::REFUSED.into()) });
        }
        let stop_sequence = delta.stop_sequence.text().map(str::to_owned);
        pieces.push(Piece::Finish { choice: CHOICE, finish: wire::finish_reason(reason), stop_sequence });
    }

    fn usage(&mut self, raw: Option<&serde_json::value::RawValue>, pieces: &mut Vec<Piece>) {
        let Some(usage) = self.progress.usage(raw) else { return };
        pieces.extend(usage.buckets().map(Piece::Usage));
        pieces.extend(usage.service_tier().map(|tier| Piece::ServiceTier(tier.into())));
        pieces.extend(usage.geo().map(|geo| Piece::Geo(geo.into())));
    }

    fn text(&mut self, text: Option<Text<'_>>, pieces: &mut Vec<Piece>) {
        if let Some(text) = said(text) {
            self.spoke = true;
            pieces.push(Piece::Text { choice: CHOICE, text });
        }
    }
}

fn thought(text: Option<Text<'_>>, pieces: &mut Vec<Piece>) {
    pieces.extend(said(text).map(|text| Piece::Thought { choice: CHOICE, text }));
}

fn seal(signature: Option<Text<'_>>, pieces: &mut Vec<Piece>) {
    pieces.extend(said(signature).map(|proof| Piece::Seal { choice: CHOICE, seal: Seal::Anthropic(proof) }));
}

fn said(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.0.into_owned()).filter(|text| !text.is_empty())
}
