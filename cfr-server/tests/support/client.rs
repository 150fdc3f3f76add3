//! A client that writes down exactly what it saw.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::oracle::Script;

/// A caller with a key.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    server: SocketAddr,
    key: String,
}

/// What the client saw of an answer.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The status; zero when no head arrived.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// Every byte of the body that arrived.
    pub body: Vec<u8>,
    /// Whether the body came to its regular end.
    pub whole: bool,
}

impl Seen {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The text of the body.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `error.code` of an error body.
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether a user would call this a complete answer.
    pub fn complete(&self, streamed: bool) -> bool {
        self.status == 200 && self.whole && (!streamed || self.body.ends_with(b"data: [DONE]\n\n"))
    }

    /// The gateway's id of the request.
    pub fn request_id(&self) -> Option<&str> {
        self.headers.get("x-request-id").and_then(|value| value.to_str().ok())
    }
}

impl Client {
    /// A client of a server.
    pub fn new(server: SocketAddr, key: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Self { pool, server, key: key.to_owned() }
    }

    /// Sends a chat by a script and reads the answer as far as it comes.
    pub async fn chat(&self, script: &Script, streamed: bool) -> Seen {
        self.chat_with(script, streamed, json!({})).await
    }

    /// The same with more fields in the body.
    pub async fn chat_with(&self, script: &Script, streamed: bool, more: Value) -> Seen {
        self.post("/v1/chat/completions", &chat_body(script, streamed, more)).await
    }

    /// Starts a chat and leaves the answer's body to the caller.
    pub async fn open_chat(&self, script: &Script, streamed: bool) -> http::Response<Incoming> {
        let body = chat_body(script, streamed, json!({}));
        self.send("POST", "/v1/chat/completions", body.to_string().into()).await.expect("an answer")
    }

    /// Sends JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Seen {
        self.exchange("POST", path, body.to_string().into()).await
    }

    /// Replaces something by JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Seen {
        self.exchange("PUT", path, body.to_string().into()).await
    }

    /// `PATCH` with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Seen {
        self.exchange("PATCH", path, body.to_string().into()).await
    }

    /// Fetches JSON.
    pub async fn get(&self, path: &str) -> Seen {
        self.exchange("GET", path, Bytes::new()).await
    }

    async fn exchange(&self, method: &str, path: &str, body: Bytes) -> Seen {
        let Ok(response) = self.send(method, path, body).await else { return Seen::default() };
        let mut seen =
            Seen { status: response.status().as_u16(), headers: response.headers().clone(), ..Seen::default() };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return seen };
            seen.body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        seen.whole = true;
        seen
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>, hyper_util::client::legacy::Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("a request");
        self.pool.request(request).await
    }
}

/// A chat whose cap is what the script will use, so that the hold is tight.
fn chat_body(script: &Script, streamed: bool, more: Value) -> Value {
    let mut body = json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Say some words."}],
        "user": script.id,
        "max_tokens": script.output.max(1),
        "oracle": script,
    });
    if streamed {
        body["stream"] = json!(true);
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

/// Fails with the whole answer when the status is another one.
#[track_caller]
pub fn expect_status(seen: &Seen, status: StatusCode) {
    assert_eq!(seen.status, status.as_u16(), "{}", seen.text());
}
