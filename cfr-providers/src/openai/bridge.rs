//! Chat completions that only Responses can answer (providers.md §13.6): when a call is one, and whether an answer is.
//!
//! An answer says by itself in which of the two dialects it is, so that nothing about a call needs to be remembered.

use bytes::Bytes;
use cfr_core::chat::Operation;
use cfr_core::upstream::{Order, Report, UpstreamError};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::host::Host;
use super::models;
use super::wire::Word;
use crate::adapter::{Forward, StreamDecoder, WireEvent};
use crate::dialog::{Effort, Reasoning};
use crate::responses;

/// What of a call decides.
#[derive(Deserialize)]
struct Wish<'a> {
    #[serde(default)]
    tools: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    functions: Option<Vec<IgnoredAny>>,
    #[serde(borrow, default)]
    reasoning_effort: Word<'a>,
    #[serde(borrow, default)]
    thinking: Option<Thinking<'a>>,
}

#[derive(Deserialize)]
struct Thinking<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
}

/// Whether the model of an order answers this call of chat completions on `/responses` only. Bodies are looked into for
/// models that are known to refuse tools, and for no others.
pub(super) fn is_needed(host: &Host, order: &Order<'_>) -> bool {
    if host.is_responses_only(order.model) {
        return true;
    }
    if !host.bridges() || !models::may_refuse_tools(order.model) {
        return false;
    }
    let Ok(wish) = serde_json::from_slice::<Wish<'_>>(&order.call.body) else { return false };
    wish.has_tools() && models::refuses_tools(order.model, wish.reasoning())
}

impl Wish<'_> {
    fn has_tools(&self) -> bool {
        [&self.tools, &self.functions].into_iter().flatten().any(|list| !list.is_empty())
    }

    fn reasoning(&self) -> Option<Reasoning> {
        let effort = self.reasoning_effort.text().map(|word| match word {
            "none" => Reasoning::Off,
            word => Reasoning::Effort(Effort::from_name(word).unwrap_or(Effort::Medium)),
        });
        let thinking = self.thinking.as_ref().map(|thinking| match thinking.kind.text() {
            Some("disabled") => Reasoning::Off,
            _ => Reasoning::Effort(Effort::Medium),
        });
        effort.or(thinking)
    }
}

/// Whether a complete answer is a response rather than a completion. A quick look spares most completions a reading.
pub(super) fn is_response(body: &Bytes) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow, default)]
        object: Word<'a>,
    }
    memchr::memmem::find(body, b"\"response\"").is_some()
        && serde_json::from_slice::<Kind<'_>>(body).is_ok_and(|kind| kind.object.text() == Some("response"))
}

/// Watches a stream, or translates it, as its first event says.
pub(super) struct EitherDecoder {
    operation: Operation,
    /// The one that the stream is for; until an event has told, the caller's own.
    chosen: Box<dyn StreamDecoder>,
    foreign: Option<Box<dyn StreamDecoder>>,
}

impl EitherDecoder {
    /// For a caller of `operation`: `own` watches answers in the caller's dialect, `foreign` translates those in the
    /// other of OpenAI's.
    pub(super) fn new(operation: Operation, own: Box<dyn StreamDecoder>, foreign: Box<dyn StreamDecoder>) -> Self {
        Self { operation, chosen: own, foreign: Some(foreign) }
    }

    fn choose(&mut self, event: &WireEvent<'_>) {
        if event.data.trim_ascii().is_empty() {
            return; // it says nothing
        }
        let is_own = responses::stream::is_event(event) == (self.operation == Operation::Responses);
        if let Some(foreign) = self.foreign.take().filter(|_| !is_own) {
            self.chosen = foreign;
        }
    }
}

impl StreamDecoder for EitherDecoder {
    fn feed(&mut self, event: &WireEvent<'_>, report: &mut Report) -> Result<Forward, UpstreamError> {
        if self.foreign.is_some() {
            self.choose(event);
        }
        self.chosen.feed(event, report)
    }

    fn is_done(&self) -> bool {
        self.chosen.is_done()
    }

    fn finish(&mut self, report: &mut Report) -> Result<Bytes, UpstreamError> {
        self.chosen.finish(report)
    }
}
