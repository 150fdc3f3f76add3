//! From pieces of an answer to events in OpenAI's order (providers.md §3), and to the response that they add up to.

use std::collections::BTreeMap;

use bytes::BytesMut;
use cfr_core::chat::{self, Usage};
use cfr_core::upstream::FinishReason;
use serde_json::{Value, json};

use super::super::seal::{self, Proven};
use super::item::{Call, Events, Message, Place, Thought};
use super::response::{Head, status};
use crate::dialog::{Image, Piece, Seal, Source};

/// Writes one response. A message or a thought ends when something else begins; calls may grow side by side, and end
/// with the answer.
pub(super) struct Writer {
    head: Head,
    events: Events,
    begun: bool,
    /// Items by their place; `null` until they have ended.
    output: Vec<Value>,
    open: Option<Open>,
    /// Calls by their number.
    calls: BTreeMap<u32, Call>,
    finish: FinishReason,
    usage: Option<Usage>,
}

/// What is being told.
enum Open {
    Message(Message),
    Thought(Thought),
}

impl Writer {
    /// For an answer that is streamed, or that is `whole` and of which nobody reads the events.
    pub(super) fn new(call: &chat::Call, whole: bool) -> Self {
        Self {
            head: Head::new(call),
            events: Events::new(whole),
            begun: false,
            output: Vec::new(),
            open: None,
            calls: BTreeMap::new(),
            finish: FinishReason::Stop,
            usage: None,
        }
    }

    /// Takes the next piece. This dialect has one answer per call.
    pub(super) fn write(&mut self, piece: Piece, out: &mut BytesMut) {
        self.begin(&piece, out);
        match piece {
            Piece::Text { choice: 0, text } => {
                self.message(out, |message, events, out| message.text(&text, events, out))
            }
            Piece::Refusal { choice: 0, text } => {
                self.message(out, |message, events, out| message.refusal(&text, events, out));
            }
            Piece::Thought { choice: 0, text } => self.thought(&text, out),
            Piece::Seal { choice: 0, seal } => self.seal(&seal, out),
            Piece::ToolCall { choice: 0, call, id, name, custom } => {
                self.end_open(None, out);
                let place = self.place(if custom { "ctc" } else { "fc" });
                self.calls.insert(call, Call::begin(place, (id, name, custom), &mut self.events, out));
            }
            Piece::Arguments { choice: 0, call, fragment } => {
                if let Some(call) = self.calls.get_mut(&call).filter(|_| !fragment.is_empty()) {
                    call.input(&fragment, &mut self.events, out);
                }
            }
            Piece::Citation { choice: 0, citation } => {
                if let Some(Open::Message(message)) = &mut self.open {
                    message.cite(&citation, &mut self.events, out);
                }
            }
            Piece::Logprobs { choice: 0, mut logprobs } => {
                if let (Some(Open::Message(message)), Value::Array(list)) = (&mut self.open, logprobs["content"].take())
                {
                    message.add_logprobs(list);
                }
            }
            Piece::Image { choice: 0, image } => self.image(image, out),
            Piece::Finish { choice: 0, finish, .. } => {
                self.end_all(out);
                self.finish = finish;
            }
            Piece::Usage(usage) => self.usage = Some(usage),
            Piece::ServiceTier(tier) => self.head.set_service_tier(tier),
            _ => {} // of another answer, or nothing that the caller has a use for
        }
    }

    /// Ends the response.
    pub(super) fn end(&mut self, out: &mut BytesMut) {
        self.end_all(out);
        let response = self.ended();
        let kind = format!("response.{}", status(&self.finish));
        self.events.tell(&kind, || json!({"response": response}), out);
    }

    /// The response as a whole.
    pub(super) fn into_response(mut self) -> Value {
        self.end_all(&mut BytesMut::new());
        self.ended()
    }

    fn ended(&self) -> Value {
        self.head.ended(&self.finish, self.output.clone(), self.usage.as_ref())
    }

    fn begin(&mut self, piece: &Piece, out: &mut BytesMut) {
        if let Piece::Start { model, .. } = piece
            && !model.is_empty()
        {
            self.head.set_model(model.clone());
        }
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        for kind in ["response.created", "response.in_progress"] {
            let head = &self.head;
            self.events.tell(kind, || json!({"response": head.begun()}), out);
        }
    }

    /// The place of the next item.
    fn place(&mut self, prefix: &str) -> Place {
        let at = self.output.len();
        self.output.push(Value::Null);
        Place { at, id: format!("{prefix}_{}{at:04x}", self.head.hex) }
    }

    fn keep(&mut self, (at, item): (usize, Value)) {
        if let Some(place) = self.output.get_mut(at) {
            *place = item;
        }
    }

    /// Tells more of the message that is being told, or of a new one.
    fn message(&mut self, out: &mut BytesMut, more: impl FnOnce(&mut Message, &mut Events, &mut BytesMut)) {
        if !matches!(self.open, Some(Open::Message(_))) {
            self.end_open(None, out);
            let place = self.place("msg");
            self.open = Some(Open::Message(Message::begin(place, &mut self.events, out)));
        }
        if let Some(Open::Message(message)) = &mut self.open {
            more(message, &mut self.events, out);
        }
    }

    fn thought(&mut self, text: &str, out: &mut BytesMut) {
        if !matches!(self.open, Some(Open::Thought(_))) {
            self.end_open(None, out);
            let place = self.place("rs");
            self.open = Some(Open::Thought(Thought::begin(place, &mut self.events, out)));
        }
        if let Some(Open::Thought(thought)) = &mut self.open {
            thought.text(text, &mut self.events, out);
        }
    }

    /// A proof stands in the item of its thought, or in one of its own behind the words or the call that it proves.
    fn seal(&mut self, proof: &Seal, out: &mut BytesMut) {
        let of_before = matches!(proof, Seal::Gemini(_)) && !self.output.is_empty();
        let proven = match self.open {
            Some(Open::Thought(_)) => Proven::Thought,
            _ if of_before => Proven::Before,
            _ => Proven::Thought,
        };
        if let Some(encrypted) = seal::written(proof, proven) {
            self.thought("", out);
            self.end_open(Some(&encrypted), out);
        }
    }

    fn image(&mut self, image: Image, out: &mut BytesMut) {
        let Source::Inline { data, .. } = image.source else { return }; // this dialect has no pictures by address
        self.end_open(None, out);
        let Place { at, id } = self.place("ig");
        let item = json!({"id": id, "type": "image_generation_call", "status": "completed", "result": data});
        self.events.added(at, &json!({"id": id, "type": "image_generation_call", "status": "in_progress"}), out);
        self.events.done(at, &item, out);
        self.keep((at, item));
    }

    fn end_open(&mut self, proof: Option<&str>, out: &mut BytesMut) {
        let item = match self.open.take() {
            Some(Open::Message(message)) => message.end(&mut self.events, out),
            Some(Open::Thought(thought)) => thought.end(proof, &mut self.events, out),
            None => return,
        };
        self.keep(item);
    }

    fn end_all(&mut self, out: &mut BytesMut) {
        self.end_open(None, out);
        for call in std::mem::take(&mut self.calls).into_values() {
            let item = call.end(&mut self.events, out);
            self.keep(item);
        }
    }
}
