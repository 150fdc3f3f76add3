//! Pictures and documents by their addresses: who gets the bytes, who fetches by itself, and what is refused.
#![expect(clippy::expect_used, reason = "a test ends where it fails")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::Upstream;
use cfr_core::chat::{Call, Operation};
use cfr_core::time::Timestamp;
use cfr_core::upstream::{Order, UpstreamError};
use cfr_providers::HttpUpstream;
use cfr_providers::media::{FetchError, FetchMedia, Media, MediaKind, Wanted};
use cfr_providers::registry::{Account, Kind};
use cfr_providers::sign::Unsigned;
use cfr_providers::transport::{Body, Transport, TransportError, WireRequest};
use serde_json::{Value, json};

const PICTURE: &str = "https://pictures.example/a";
const DOCUMENT: &str = "https://papers.example/b";
/// `png!` and `pdf!` as base64.
const PICTURE_BYTES: &str = "cG5nIQ==";
const DOCUMENT_BYTES: &str = "cGRmIQ==";

/// Has two things, and writes down what it was asked for.
#[derive(Debug, Default)]
struct Shelf(Mutex<Vec<String>>);

#[async_trait]
impl FetchMedia for Shelf {
    async fn fetch(&self, wanted: &Wanted) -> Result<Media, FetchError> {
        self.0.lock().expect("not poisoned").push(wanted.address.clone());
        match (wanted.kind, wanted.address.as_str()) {
            (MediaKind::Image, PICTURE) => Ok(Media { media_type: "image/png", bytes: "png!".into() }),
            (MediaKind::Pdf, DOCUMENT) => Ok(Media { media_type: "application/pdf", bytes: "pdf!".into() }),
            _ => Err(FetchError::NotPublic),
        }
    }
}

/// Sends nothing, and keeps what should have been sent.
#[derive(Debug, Default)]
struct Kept(Mutex<Option<WireRequest>>);

#[async_trait]
impl Transport for Kept {
    async fn send(&self, request: WireRequest, _: Duration) -> Result<http::Response<Body>, TransportError> {
        *self.0.lock().expect("not poisoned") = Some(request);
        Err(TransportError::Unreachable { message: "nothing is sent".into() })
    }
}

/// What a provider is sent, and from where was fetched for it.
async fn sent(kind: &str, operation: Operation, body: &Value, may_fetch: bool) -> Result<(Value, Vec<String>), String> {
    let (kept, shelf) = (Arc::new(Kept::default()), Arc::new(Shelf::default()));
    let account = Account { region: Some("eu-central-1".into()), project: Some("p".into()), ..Account::default() };
    let adapter = Kind::by_name(kind).expect("a kind").adapter(&account).expect("an adapter");
    let upstream = HttpUpstream::new(adapter, Arc::new(Unsigned), Arc::clone(&kept) as _);
    let upstream = if may_fetch { upstream.with_media(Arc::clone(&shelf) as _) } else { upstream };
    let call = Call::parse(operation, Bytes::from(body.to_string()), Timestamp::UNIX_EPOCH).expect("a call");
    let (timeout, idle_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    let order = Order { call: &call, model: "m-claude", output_tokens_max: None, timeout, idle_timeout };
    match upstream.send(order).await.expect_err("nothing is sent") {
        UpstreamError::Unreachable { .. } => {}
        error => return Err(error.to_string()),
    }
    let request = kept.0.lock().expect("not poisoned").take().expect("a request");
    let fetched = std::mem::take(&mut *shelf.0.lock().expect("not poisoned"));
    Ok((serde_json::from_slice(&request.body).expect("JSON"), fetched))
}

fn chat(parts: Value) -> Value {
    json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": parts}]})
}

/// A picture in the words of each dialect.
fn pictures(address: &str) -> [(Operation, Value); 4] {
    let source = json!({"type": "url", "url": address});
    let inside = json!([{"role": "user", "content": "look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "see", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1",
            "content": [{"type": "image", "source": source}]}]}]);
    let tools = json!([{"name": "see", "input_schema": {"type": "object"}}]);
    [
        (Operation::ChatCompletions, chat(json!([{"type": "image_url", "image_url": {"url": address}}]))),
        (Operation::Messages, chat(json!([{"type": "image", "source": source}]))),
        (Operation::Messages, json!({"model": "m", "max_tokens": 50, "tools": tools, "messages": inside})),
        (
            Operation::Responses,
            json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": address}]}]}),
        ),
    ]
}

#[tokio::test]
async fn providers_that_want_bytes_get_them_whatever_the_callers_dialect() {
    for kind in ["bedrock", "gemini", "vertex", "ollama_native"] {
        for (operation, body) in pictures(PICTURE) {
            let (sent, fetched) = sent(kind, operation, &body, true).await.expect("a request");
            let sent = sent.to_string();
            assert!(sent.contains(PICTURE_BYTES) && !sent.contains(PICTURE), "{kind}: {sent}");
            assert_eq!(fetched, [PICTURE], "{kind}");
        }
    }
}

#[tokio::test]
async fn providers_that_fetch_get_the_address() {
    for (kind, operation, body) in [
        ("anthropic", Operation::ChatCompletions, &pictures(PICTURE)[0].1),
        ("openai", Operation::ChatCompletions, &pictures(PICTURE)[0].1),
        ("openai", Operation::Messages, &pictures(PICTURE)[1].1),
        ("cohere", Operation::ChatCompletions, &pictures(PICTURE)[0].1),
    ] {
        let (sent, fetched) = sent(kind, operation, body, true).await.expect("a request");
        assert!(sent.to_string().contains(PICTURE), "{kind}: {sent}");
        assert!(fetched.is_empty(), "{kind}");
    }
    let typed = "https://pictures.example/a.png";
    let (request, fetched) =
        sent("vertex", Operation::ChatCompletions, &pictures(typed)[0].1, true).await.expect("a request");
    assert!(request.to_string().contains(typed) && fetched.is_empty(), "{request}");
}

#[tokio::test]
async fn a_document_is_fetched_where_it_has_no_address() {
    let body = chat(json!([{"type": "document", "source": {"type": "url", "url": DOCUMENT}}]));
    for kind in ["bedrock", "gemini", "openai"] {
        let (sent, fetched) = sent(kind, Operation::Messages, &body, true).await.expect("a request");
        assert!(sent.to_string().contains(DOCUMENT_BYTES), "{kind}: {sent}");
        assert_eq!(fetched, [DOCUMENT], "{kind}");
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_with_its_address_and_nothing_is_fetched_unasked() {
    for (operation, body) in pictures("https://inside.example/") {
        let error = sent("bedrock", operation, &body, true).await.expect_err("nothing there");
        assert!(error.contains("image_url: `https://inside.example/`: the host has no public address"), "{error}");
    }
    for kind in ["bedrock", "gemini", "ollama_native"] {
        let (operation, body) = &pictures(PICTURE)[0];
        let error = sent(kind, *operation, body, false).await.expect_err("bytes are wanted");
        assert!(error.contains("image_url"), "{kind}: {error}");
    }
    let words = chat(json!("no picture at https://pictures.example/a"));
    let (_, fetched) = sent("bedrock", Operation::ChatCompletions, &words, true).await.expect("a request");
    assert!(fetched.is_empty());
}
