//! OpenAI's realtime API: JSON events in both directions over a WebSocket, in the words of the API that came out of beta.
//!
//! A provider that hears somebody stop speaking would answer by itself, and that answer would run without a hold. So
//! `create_response` is always off at the provider: [`Conversation`] remembers whether the client wants it, and says when a
//! response is due. What the client may say is a list; all else is refused by its name, since nobody knows what it costs.
//!
//! Nothing here touches a socket or a budget: events are fed, and what is to be done comes back.

use bytes::Bytes;
use cfr_core::upstream::{Report, UpstreamError};
use serde_json::{Map, Value, json};

mod client;
mod context;
mod provider;
mod rules;
#[cfg(test)]
mod tests;
mod usage;

use context::Context;

pub use client::Refused;

/// An object of JSON.
pub(crate) type Object = Map<String, Value>;

/// The conversation of one session, as far as money depends on it.
#[derive(Debug)]
pub struct Conversation {
    /// The model by the name that the client knows.
    model: Box<str>,
    /// Whether the client wants an answer whenever somebody stops speaking.
    answers_by_itself: bool,
    /// The cap on answer tokens that the client set for all responses.
    output_tokens_max: Option<u64>,
    /// What somebody said last, where the provider noticed the end of it by itself.
    spoken_item: Option<Box<str>>,
    running: Option<Running>,
    context: Context,
}

/// A response that was asked for and has not ended.
#[derive(Debug)]
struct Running {
    /// The id of the event that asked for it: ours, which no client can know.
    event_id: String,
    /// The client's own id of that event.
    client_event_id: Option<Box<str>>,
    /// Whether it becomes part of the conversation, and is made from it.
    in_conversation: bool,
    /// Whether any of it was delivered.
    delivered: bool,
}

/// What becomes of an event of the client's.
#[derive(Debug)]
pub enum FromClient {
    /// It goes to the provider like this.
    Pass(String),
    /// A response is wanted.
    Respond(Wish),
}

/// A wish for a response: it needs a hold before it goes anywhere.
#[derive(Debug)]
pub struct Wish {
    /// The event `response.create`, with the cap that holds for it where there is one.
    pub body: Bytes,
    /// What the response is taken for where the provider does not say what it used.
    pub heard: cfr_core::chat::envelope::Heard,
    client_event_id: Option<Box<str>>,
    in_conversation: bool,
}

/// What becomes of an event of the provider's.
#[derive(Debug)]
pub enum FromProvider {
    /// It goes to the client like this.
    Pass(Bytes),
    /// It goes to the client, and a response is due, because somebody stopped speaking.
    Turn(Bytes),
    /// It is for us alone.
    Keep,
    /// The response began, under this id.
    Began(Bytes, Option<Box<str>>),
    /// A piece of the response, and what it says.
    Piece(Bytes, Report),
    /// The response ended, and what it used. The error is there when it failed at the provider.
    Done(Bytes, Report, Option<UpstreamError>),
    /// The provider refused to make the response.
    Rejected(Bytes, UpstreamError),
}

impl Wish {
    /// The client's own id of the event that wishes it.
    #[must_use]
    pub fn event_id(&self) -> Option<&str> {
        self.client_event_id.as_deref()
    }
}

impl Conversation {
    /// A conversation with a model, by its public name, that has just begun.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Self {
            model: model.into(),
            answers_by_itself: false,
            output_tokens_max: None,
            spoken_item: None,
            running: None,
            context: Context::default(),
        }
    }

    /// Whether a response was asked for and has not ended.
    #[must_use]
    pub const fn is_answering(&self) -> bool {
        self.running.is_some()
    }

    /// The event that asks the provider for a response: `body` is the wish's, or what hooks made of it, and `cap` is set where
    /// the caller set none. The id must be one that clients cannot guess.
    ///
    /// # Errors
    /// When the body is no object.
    pub fn ask(
        &mut self,
        wish: Wish,
        body: &[u8],
        event_id: String,
        cap: Option<u64>,
    ) -> Result<String, serde_json::Error> {
        let mut event: Object = serde_json::from_slice(body)?;
        event.insert("event_id".into(), event_id.clone().into());
        if let Some(cap) = cap {
            match event.get_mut("response") {
                Some(Value::Object(response)) => drop(response.insert(rules::CAP.into(), cap.into())),
                _ => drop(event.insert("response".into(), json!({ (rules::CAP): cap }))),
            }
        }
        let Wish { client_event_id, in_conversation, .. } = wish;
        self.running = Some(Running { event_id, client_event_id, in_conversation, delivered: false });
        Ok(Value::Object(event).to_string())
    }

    /// A wish for a response as the provider would have made one by itself.
    #[must_use]
    pub fn own_wish(&self) -> Wish {
        self.wish(Object::from_iter([("type".to_owned(), "response.create".into())]))
    }
}

/// The event that stops a response.
pub const CANCEL: &str = r#"{"type":"response.cancel"}"#;
