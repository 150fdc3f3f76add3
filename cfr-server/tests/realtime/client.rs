//! A client of the realtime API that speaks a WebSocket by itself.

use std::time::Duration;

use cfr_core::ledger::UsageRecord;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::Site;

/// A model of the fake provider, under OpenAI's prices.
pub(crate) const MODEL: &str = "gpt-realtime";
/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One session.
pub(crate) struct Talk {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// The request that opens a session.
pub(crate) fn request(site: &Site, path: &str, key: &str) -> Request {
    let address = site.url(path).replace("http://", "ws://");
    let mut request = address.into_client_request().expect("a request");
    if !key.is_empty() {
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().expect("a header"));
    }
    request
}

/// Opens a session, or returns the status and the error of the refusal.
pub(crate) async fn open(request: Request) -> Result<(Talk, Response), (u16, Value)> {
    match connect_async(request).await {
        Ok((socket, response)) => Ok((Talk { socket }, response)),
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            Err((response.status().as_u16(), serde_json::from_slice(body).unwrap_or_default()))
        }
        Err(error) => panic!("{error}"),
    }
}

impl Talk {
    /// A session that has begun.
    pub(crate) async fn with(site: &Site, key: &str) -> Self {
        let path = format!("/v1/realtime?model={MODEL}");
        let (mut talk, _) = open(request(site, &path, key)).await.expect("a session");
        let created = talk.next().await;
        assert_eq!(created["type"], "session.created", "{created}");
        talk
    }

    /// The same, answering in text alone.
    pub(crate) async fn in_text(site: &Site, key: &str) -> Self {
        let mut talk = Self::with(site, key).await;
        talk.say(json!({ "type": "session.update", "session": { "type": "realtime", "output_modalities": ["text"] } }))
            .await;
        talk.until("session.updated").await;
        talk
    }

    pub(crate) async fn say(&mut self, event: Value) {
        self.socket.send(Message::text(event.to_string())).await.expect("sent");
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Value {
        self.hear().await.expect("an event")
    }

    /// The next event; none when the session has ended.
    pub(crate) async fn hear(&mut self) -> Option<Value> {
        loop {
            return match tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("in time")? {
                Ok(Message::Text(text)) => Some(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(_)) | Err(_) => None,
                Ok(_) => continue,
            };
        }
    }

    /// Events up to one of this type; it is the last.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            assert!(kind == "error" || event["type"] != "error", "{event}");
            events.push(event);
            if events.last().expect("one")["type"] == kind {
                return events;
            }
        }
    }

    /// Says a text as the user.
    pub(crate) async fn text(&mut self, text: &str) {
        let item = json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] });
        self.say(json!({ "type": "conversation.item.create", "item": item })).await;
        self.until("conversation.item.done").await;
    }

    /// Says a text, and wants an answer.
    pub(crate) async fn ask(&mut self, text: &str) {
        self.text(text).await;
        self.say(json!({ "type": "response.create" })).await;
    }

    /// Says a text and returns the response in full.
    pub(crate) async fn answer(&mut self, text: &str) -> Value {
        self.ask(text).await;
        self.until("response.done").await.pop().expect("the end")["response"].clone()
    }

    /// The error that comes next.
    pub(crate) async fn error(&mut self) -> Value {
        self.until("error").await.pop().expect("an error")["error"].clone()
    }

    /// Leaves without a word, as a process does that is killed.
    pub(crate) fn vanish(self) {
        drop(self.socket);
    }

    /// Says goodbye.
    pub(crate) async fn leave(mut self) {
        self.socket.close(None).await.expect("closed");
        while self.hear().await.is_some() {}
    }
}

/// All records, the newest first.
pub(crate) async fn records(site: &Site) -> Vec<UsageRecord> {
    site.app.books.escrow.flush().await.expect("flushed");
    site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage").items
}

/// All records, when there are so many and nothing is held any more.
pub(crate) async fn settled(site: &Site, count: usize) -> Vec<UsageRecord> {
    let wait = async {
        loop {
            let records = records(site).await;
            if records.len() >= count && site.app.books.escrow.stats().open_holds == 0 {
                return records;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("settled in time")
}
