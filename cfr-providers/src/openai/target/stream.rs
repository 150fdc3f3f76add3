//! From chunks of a chat completion to pieces of an answer (providers.md §2.4, §10).

use std::collections::BTreeMap;

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use http::HeaderMap;
use serde_json::Value;

use super::said::{self, Completion, Words};
use super::without_body;
use crate::adapter::WireEvent;
use crate::dialog::{Citation, Piece, StreamReader};
use crate::openai::error;
use crate::openai::quirks::Quirks;

const DONE: &[u8] = b"[DONE]";

/// Reads one streamed answer.
pub(super) struct ChunkReader {
    quirks: &'static Quirks,
    id: String,
    tier: bool,
    cited: bool,
    choices: BTreeMap<u32, Progress>,
    done: bool,
}

/// How far one of the answers has come.
#[derive(Default)]
struct Progress {
    calls: Vec<Begun>,
    finished: bool,
}

/// A call that began.
struct Begun {
    /// Its index in the chunks.
    index: u64,
    /// Its id in the chunks; none when the server gives none.
    id: Option<String>,
}

impl ChunkReader {
    pub(super) fn new(quirks: &'static Quirks) -> Self {
        Self { quirks, id: String::new(), tier: false, cited: false, choices: BTreeMap::new(), done: false }
    }

    fn chunk(&mut self, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        let chunk: Completion<'_> = serde_json::from_slice(data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("a chunk is not JSON: {cause}").into() })?;
        let (usage, cost) = chunk.usage(self.quirks);
        if chunk.error.is_some() {
            pieces.extend(usage.map(Piece::Usage));
            return Err(self.failure(data));
        }
        let choices = chunk.choices.as_deref().unwrap_or_default();
        if self.choices.is_empty() && !choices.is_empty() {
            self.id = chunk.id.text().unwrap_or_default().to_owned();
            pieces.push(Piece::Start { id: self.id.clone(), model: chunk.model.text().unwrap_or_default().to_owned() });
        }
        if let Some(tier) = chunk.service_tier.text().filter(|_| !self.tier) {
            self.tier = true;
            pieces.push(Piece::ServiceTier(tier.to_owned()));
        }
        for (at, choice) in (0..).zip(choices) {
            self.choice(at, choice, pieces);
        }
        self.cite(chunk.sources(), pieces);
        pieces.extend(usage.map(Piece::Usage));
        pieces.extend(cost.map(Piece::Cost));
        Ok(())
    }

    /// Sources of the whole answer come with every chunk and are told once, with the first words.
    fn cite(&mut self, sources: impl Iterator<Item = Citation>, pieces: &mut Vec<Piece>) {
        let speaks = pieces.iter().any(|piece| matches!(piece, Piece::Text { .. }));
        let ends = pieces.iter().any(|piece| matches!(piece, Piece::Finish { .. }));
        if speaks && !ends && !self.cited {
            let citations = sources.map(|citation| Piece::Citation { choice: 0, citation });
            let before = pieces.len();
            pieces.extend(citations);
            self.cited = pieces.len() > before;
        }
    }

    fn choice(&mut self, at: u32, said: &Value, pieces: &mut Vec<Piece>) {
        let choice = said["index"].as_u64().and_then(|index| u32::try_from(index).ok()).unwrap_or(at);
        let (progress, delta) = (self.choices.entry(choice).or_default(), &said["delta"]);
        pieces.extend(said::words(delta).into_iter().map(|words| match words {
            Words::Thought(text) => Piece::Thought { choice, text },
            Words::Text(text) => Piece::Text { choice, text },
            Words::Refusal(text) => Piece::Refusal { choice, text },
        }));
        pieces.extend(said::citations(delta).map(|citation| Piece::Citation { choice, citation }));
        pieces.extend(said::images(delta).map(|image| Piece::Image { choice, image }));
        for (at, call) in (0..).zip(said::calls(delta)) {
            progress.call(&self.id, choice, at, call, pieces);
        }
        let logprobs = Some(said["logprobs"].clone()).filter(|logprobs| !logprobs.is_null());
        pieces.extend(logprobs.map(|logprobs| Piece::Logprobs { choice, logprobs }));
        let finish = said::finish(said, !progress.calls.is_empty()).filter(|_| !progress.finished);
        if let Some(finish) = finish {
            progress.finished = true;
            pieces.push(Piece::Finish { choice, finish, stop_sequence: None });
        }
    }

    /// An error before the answer began is as good as an error status: another target may still answer.
    fn failure(&self, data: &[u8]) -> UpstreamError {
        without_body(if self.choices.is_empty() {
            error::read_in_success(&HeaderMap::new(), &Bytes::copy_from_slice(data))
        } else {
            error::in_stream(data)
        })
    }

    fn is_complete(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|progress| progress.finished)
    }
}

impl Progress {
    /// A fragment of a call: of one that began, or the beginning of another. Fragments of several calls may interleave.
    fn call(&mut self, answer: &str, choice: u32, at: u64, said: said::Call, pieces: &mut Vec<Piece>) {
        let index = said.index.unwrap_or(at);
        let same = |begun: &Begun| begun.index == index && (said.id.is_none() || said.id == begun.id);
        let call = match (self.calls.iter().rposition(same), said.name) {
            (Some(call), _) => call,
            (None, None) => return, // arguments of nothing
            (None, Some(name)) => {
                let call = self.calls.len();
                self.calls.push(Begun { index, id: said.id.clone() });
                let id = said.id.unwrap_or_else(|| said::made_id(answer, choice, call));
                pieces.push(Piece::ToolCall { choice, call: number(call), id, name, custom: said.custom });
                call
            }
        };
        if !said.arguments.is_empty() {
            pieces.push(Piece::Arguments { choice, call: number(call), fragment: said.arguments });
        }
    }
}

fn number(call: usize) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

impl StreamReader for ChunkReader {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        if *event.name == *b"error" {
            return Err(self.failure(&event.data));
        }
        match event.data.trim_ascii() {
            b"" => Ok(()),
            DONE if self.choices.values().any(|progress| progress.finished) => {
                self.done = true;
                Ok(())
            }
            DONE => Err(truncated("[DONE] came before a finish reason")),
            data => self.chunk(data, pieces),
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    /// Without `[DONE]` the answer is complete when every choice that began has ended.
    fn finish(&mut self, _: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        if self.done || self.is_complete() {
            self.done = true;
            return Ok(());
        }
        Err(truncated("the stream ended before a finish reason"))
    }
}

fn truncated(message: &str) -> UpstreamError {
    UpstreamError::Truncated { message: message.into() }
}
