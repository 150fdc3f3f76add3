//! What a client says.

use cfr_core::chat::envelope::Heard;
use serde_json::Value;

use super::context::sum;
use super::{Conversation, FromClient, Object, Wish, rules};

/// Bytes of a client's own id of an event.
const EVENT_ID_BYTES_MAX: usize = 512;

/// Why an event of a client's is not handed on. The session lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// A stable word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The field.
    pub param: Option<String>,
    /// The client's own id of the event.
    pub event_id: Option<Box<str>>,
}

impl Refused {
    pub(super) fn field(place: &str, why: &str) -> Self {
        let (code, message) = ("invalid_value", format!("{place}: {why}"));
        Self { code, message, param: Some(place.into()), event_id: None }
    }

    fn event(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, event_id: None }
    }
}

impl Conversation {
    /// Reads an event of the client's.
    ///
    /// # Errors
    /// [`Refused`] for what is no event, or not one that has a price.
    pub fn from_client(&mut self, text: &str) -> Result<FromClient, Refused> {
        let event: Object = serde_json::from_str(text)
            .map_err(|error| Refused::event("invalid_json", format!("an event is an object of JSON: {error}")))?;
        let event_id = own_id(&event)?;
        self.read(event, event_id.clone()).map_err(|refused| Refused { event_id, ..refused })
    }

    fn read(&mut self, mut event: Object, event_id: Option<Box<str>>) -> Result<FromClient, Refused> {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(known) = fields_of(&kind) else {
            return Err(Refused::event("unsupported_event", format!("`{kind}` is no event that is available here")));
        };
        let unknown =
            |name: &&String| !(known.contains(&name.as_str()) || matches!(name.as_str(), "type" | "event_id"));
        if let Some(name) = event.keys().find(unknown) {
            return Err(Refused::field(name, &format!("is no field of `{kind}`")));
        }
        match kind.as_str() {
            "session.update" => self.update(&mut event)?,
            "input_audio_buffer.append" => {
                let sound = event.get("audio").and_then(Value::as_str);
                let wrong = || Refused::field("audio", "must be a text");
                self.context.appended(sound.ok_or_else(wrong)?.len());
            }
            "input_audio_buffer.clear" => self.context.cleared(),
            "conversation.item.create" => {
                let item = event.get("item").unwrap_or(&Value::Null);
                rules::item(item, "item")?;
                self.context.added(item);
            }
            "response.create" => return self.wished(event, event_id).map(FromClient::Respond),
            _ => {}
        }
        Ok(FromClient::Pass(Value::Object(event).to_string()))
    }

    fn update(&mut self, event: &mut Object) -> Result<(), Refused> {
        let Some(Value::Object(session)) = event.get_mut("session") else {
            return Err(Refused::field("session", "must be an object"));
        };
        let answers_by_itself = rules::session(session, &self.model)?;
        let cap = session.get(rules::CAP).map(|cap| cap_of(cap, "session")).transpose()?;
        self.context.configured(session);
        self.answers_by_itself = answers_by_itself.unwrap_or(self.answers_by_itself);
        self.output_tokens_max = cap.unwrap_or(self.output_tokens_max);
        Ok(())
    }

    fn wished(&self, mut event: Object, event_id: Option<Box<str>>) -> Result<Wish, Refused> {
        if self.is_answering() {
            let code = "conversation_already_has_active_response";
            return Err(Refused::event(code, "a response is being made: wait for `response.done`, or cancel it"));
        }
        match event.get("response") {
            None => {}
            Some(Value::Null) => drop(event.shift_remove("response")),
            Some(Value::Object(response)) => {
                rules::response(response)?;
                response.get(rules::CAP).map(|cap| cap_of(cap, "response")).transpose()?;
            }
            Some(_) => return Err(Refused::field("response", "must be an object")),
        }
        event.shift_remove("event_id");
        Ok(Wish { client_event_id: event_id, ..self.wish(event) })
    }

    /// A wish by this event, under the cap of the session where it has none of its own.
    pub(super) fn wish(&self, mut event: Object) -> Wish {
        let response = event.entry("response").or_insert_with(|| Object::new().into());
        if let (Some(cap), Value::Object(response)) = (self.output_tokens_max, response) {
            response.entry(rules::CAP).or_insert_with(|| cap.into());
        }
        let response = event.get("response").unwrap_or(&Value::Null);
        let in_conversation = response["conversation"] != "none" && response["input"].is_null();
        let own = self.context.length_of(&response["input"]);
        let earlier = if response["input"].is_null() { self.context.heard() } else { Heard::default() };
        let heard = sum(sum(earlier, own), self.context.length_of(&response["instructions"]));
        Wish { body: Value::Object(event).to_string().into(), heard, client_event_id: None, in_conversation }
    }
}

/// The client's own id of an event.
fn own_id(event: &Object) -> Result<Option<Box<str>>, Refused> {
    match event.get("event_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if id.len() <= EVENT_ID_BYTES_MAX => Ok(Some(id.as_str().into())),
        Some(_) => Err(Refused::field("event_id", "must be a text of at most 512 bytes")),
    }
}

/// A cap on answer tokens; none where it says that there is none.
fn cap_of(cap: &Value, place: &str) -> Result<Option<u64>, Refused> {
    match cap {
        Value::Null => Ok(None),
        Value::String(word) if word == "inf" => Ok(None),
        cap => match cap.as_u64().filter(|cap| *cap > 0) {
            Some(cap) => Ok(Some(cap)),
            None => Err(Refused::field(&format!("{place}.{}", rules::CAP), "must be a number above 0, or `inf`")),
        },
    }
}

/// The fields of an event that clients may send, beside its type and id.
fn fields_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "session.update" => &["session"],
        "input_audio_buffer.append" => &["audio"],
        "input_audio_buffer.commit" | "input_audio_buffer.clear" => &[],
        "conversation.item.create" => &["previous_item_id", "item"],
        "conversation.item.retrieve" | "conversation.item.delete" => &["item_id"],
        "conversation.item.truncate" => &["item_id", "content_index", "audio_end_ms"],
        "response.create" => &["response"],
        "response.cancel" => &["response_id"],
        _ => return None,
    })
}
