//! Output items, each with the events that tell it (providers.md §3).

use bytes::{BufMut, BytesMut};
use serde_json::{Map, Value, json};

use crate::dialog::Citation;

/// The numbered events of one response.
#[derive(Debug)]
pub(super) struct Events {
    /// Nobody reads them: the answer is handed on as a whole.
    pub(super) silent: bool,
    sequence: u64,
}

impl Events {
    pub(super) const fn new(silent: bool) -> Self {
        Self { silent, sequence: 0 }
    }

    /// Writes an event with its type, its number and these members, an object.
    pub(super) fn tell(&mut self, kind: &str, members: impl FnOnce() -> Value, out: &mut BytesMut) {
        if self.silent {
            return;
        }
        let mut event = Map::from_iter([
            ("type".to_owned(), Value::from(kind)),
            ("sequence_number".to_owned(), self.sequence.into()),
        ]);
        if let Value::Object(members) = members() {
            event.extend(members);
        }
        self.sequence += 1;
        for piece in ["event: ", kind, "\ndata: ", &Value::Object(event).to_string(), "\n\n"] {
            out.put_slice(piece.as_bytes());
        }
    }

    pub(super) fn added(&mut self, at: usize, item: &Value, out: &mut BytesMut) {
        self.tell("response.output_item.added", || json!({"output_index": at, "item": item}), out);
    }

    pub(super) fn done(&mut self, at: usize, item: &Value, out: &mut BytesMut) {
        self.tell("response.output_item.done", || json!({"output_index": at, "item": item}), out);
    }
}

/// Where an item stands in the output, and its id.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) id: String,
}

/// A message that is being told.
#[derive(Debug)]
pub(super) struct Message {
    place: Place,
    /// Parts that have ended.
    told: Vec<Value>,
    part: Option<Part>,
}

/// The part that is being told.
#[derive(Debug)]
enum Part {
    Text { text: String, annotations: Vec<Value>, logprobs: Vec<Value> },
    Refusal(String),
}

impl Message {
    pub(super) fn begin(place: Place, events: &mut Events, out: &mut BytesMut) -> Self {
        let message = Self { place, told: Vec::new(), part: None };
        events.added(message.place.at, &message.value("in_progress"), out);
        message
    }

    fn value(&self, status: &str) -> Value {
        let id = &self.place.id;
        json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": self.told})
    }

    pub(super) fn text(&mut self, delta: &str, events: &mut Events, out: &mut BytesMut) {
        if !matches!(self.part, Some(Part::Text { .. })) {
            let part = Part::Text { text: String::new(), annotations: Vec::new(), logprobs: Vec::new() };
            self.begin_part(part, events, out);
        }
        if let Some(Part::Text { text, .. }) = &mut self.part {
            text.push_str(delta);
        }
        self.tell("response.output_text.delta", json!({"delta": delta, "logprobs": []}), events, out);
    }

    pub(super) fn refusal(&mut self, delta: &str, events: &mut Events, out: &mut BytesMut) {
        if !matches!(self.part, Some(Part::Refusal(_))) {
            self.begin_part(Part::Refusal(String::new()), events, out);
        }
        if let Some(Part::Refusal(words)) = &mut self.part {
            words.push_str(delta);
        }
        self.tell("response.refusal.delta", json!({"delta": delta}), events, out);
    }

    pub(super) fn cite(&mut self, citation: &Citation, events: &mut Events, out: &mut BytesMut) {
        let Some(Part::Text { annotations, .. }) = &mut self.part else { return };
        let (index, annotation) = (annotations.len(), annotation(citation));
        annotations.push(annotation.clone());
        let members = json!({"annotation_index": index, "annotation": annotation});
        self.tell("response.output_text.annotation.added", members, events, out);
    }

    /// Probabilities come with the words when these have ended.
    pub(super) fn add_logprobs(&mut self, list: Vec<Value>) {
        if let Some(Part::Text { logprobs, .. }) = &mut self.part {
            logprobs.extend(list);
        }
    }

    pub(super) fn end(mut self, events: &mut Events, out: &mut BytesMut) -> (usize, Value) {
        self.end_part(events, out);
        let value = self.value("completed");
        events.done(self.place.at, &value, out);
        (self.place.at, value)
    }

    fn begin_part(&mut self, part: Part, events: &mut Events, out: &mut BytesMut) {
        self.end_part(events, out);
        self.tell("response.content_part.added", json!({"part": part.value()}), events, out);
        self.part = Some(part);
    }

    fn end_part(&mut self, events: &mut Events, out: &mut BytesMut) {
        let Some(part) = self.part.take() else { return };
        let (kind, members) = match &part {
            Part::Text { text, logprobs, .. } => {
                ("response.output_text.done", json!({"text": text, "logprobs": logprobs}))
            }
            Part::Refusal(words) => ("response.refusal.done", json!({"refusal": words})),
        };
        self.tell(kind, members, events, out);
        self.tell("response.content_part.done", json!({"part": part.value()}), events, out);
        self.told.push(part.value());
    }

    /// An event about the part that is being told, or about to be.
    fn tell(&self, kind: &str, members: Value, events: &mut Events, out: &mut BytesMut) {
        let place = json!({
            "item_id": self.place.id,
            "output_index": self.place.at,
            "content_index": self.told.len(),
        });
        events.tell(kind, || merged(place, members), out);
    }
}

impl Part {
    fn value(&self) -> Value {
        match self {
            Self::Text { text, annotations, logprobs } => {
                json!({"type": "output_text", "annotations": annotations, "logprobs": logprobs, "text": text})
            }
            Self::Refusal(words) => json!({"type": "refusal", "refusal": words}),
        }
    }
}

/// A thought that is being told, as a summary.
#[derive(Debug)]
pub(super) struct Thought {
    place: Place,
    text: String,
}

impl Thought {
    pub(super) fn begin(place: Place, events: &mut Events, out: &mut BytesMut) -> Self {
        let thought = Self { place, text: String::new() };
        events.added(thought.place.at, &thought.value(None), out);
        thought
    }

    pub(super) fn text(&mut self, delta: &str, events: &mut Events, out: &mut BytesMut) {
        if delta.is_empty() {
            return; // a thought that is not shown has no summary
        }
        if self.text.is_empty() {
            self.tell("response.reasoning_summary_part.added", json!({"part": summary("")}), events, out);
        }
        self.text.push_str(delta);
        self.tell("response.reasoning_summary_text.delta", json!({"delta": delta}), events, out);
    }

    pub(super) fn end(self, proof: Option<&str>, events: &mut Events, out: &mut BytesMut) -> (usize, Value) {
        if !self.text.is_empty() {
            self.tell("response.reasoning_summary_text.done", json!({"text": self.text}), events, out);
            self.tell("response.reasoning_summary_part.done", json!({"part": summary(&self.text)}), events, out);
        }
        let value = self.value(proof);
        events.done(self.place.at, &value, out);
        (self.place.at, value)
    }

    fn value(&self, proof: Option<&str>) -> Value {
        let text = Some(&self.text).filter(|text| !text.is_empty());
        let summary: Vec<Value> = text.map(|text| summary(text)).into_iter().collect();
        let mut item = json!({"id": self.place.id, "type": "reasoning", "summary": summary});
        if let Some(proof) = proof {
            item["encrypted_content"] = proof.into();
        }
        item
    }

    fn tell(&self, kind: &str, members: Value, events: &mut Events, out: &mut BytesMut) {
        let place = json!({"item_id": self.place.id, "output_index": self.place.at, "summary_index": 0});
        events.tell(kind, || merged(place, members), out);
    }
}

/// A call that is being told.
#[derive(Debug)]
pub(super) struct Call {
    place: Place,
    id: String,
    name: String,
    custom: bool,
    input: String,
}

impl Call {
    pub(super) fn begin(
        place: Place,
        (id, name, custom): (String, String, bool),
        events: &mut Events,
        out: &mut BytesMut,
    ) -> Self {
        let call = Self { place, id, name, custom, input: String::new() };
        events.added(call.place.at, &call.value("in_progress"), out);
        call
    }

    pub(super) fn input(&mut self, delta: &str, events: &mut Events, out: &mut BytesMut) {
        self.input.push_str(delta);
        let kind = match self.custom {
            true => "response.custom_tool_call_input.delta",
            false => "response.function_call_arguments.delta",
        };
        self.tell(kind, json!({"delta": delta}), events, out);
    }

    pub(super) fn end(mut self, events: &mut Events, out: &mut BytesMut) -> (usize, Value) {
        if self.input.is_empty() && !self.custom {
            self.input.push_str("{}");
        }
        let (kind, members) = match self.custom {
            true => ("response.custom_tool_call_input.done", json!({"input": self.input})),
            false => ("response.function_call_arguments.done", json!({"name": self.name, "arguments": self.input})),
        };
        self.tell(kind, members, events, out);
        let value = self.value("completed");
        events.done(self.place.at, &value, out);
        (self.place.at, value)
    }

    fn value(&self, status: &str) -> Value {
        let (kind, field) = if self.custom { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
        let (item, call) = (&self.place.id, &self.id);
        json!({"id": item, "type": kind, "status": status, field: self.input, "call_id": call, "name": self.name})
    }

    fn tell(&self, kind: &str, members: Value, events: &mut Events, out: &mut BytesMut) {
        let place = json!({"item_id": self.place.id, "output_index": self.place.at});
        events.tell(kind, || merged(place, members), out);
    }
}

fn merged(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn summary(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

fn annotation(citation: &Citation) -> Value {
    json!({
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title.as_deref().unwrap_or_default(),
        "start_index": citation.start.unwrap_or(0),
        "end_index": citation.end.unwrap_or(0),
    })
}
