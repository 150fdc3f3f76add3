//! The public suite over the provider, with a parrot in place of the network.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_providers::HttpUpstream;
use cfr_providers::transport::{Body, Transport, TransportError, WireRequest};
use custom_provider::Parrot;
use futures_util::{StreamExt, stream};
use http::Response;
use serde_json::{Value, json};

/// What it can say.
const WORDS: [&str; 6] = ["Hello ", "and ", "welcome ", "to ", "my ", "cage."];

/// Answers requests by itself.
#[derive(Debug)]
struct Cage;

#[async_trait]
impl Transport for Cage {
    async fn send(&self, request: WireRequest, _timeout: Duration) -> Result<Response<Body>, TransportError> {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let heard = asked["prompt"].as_str().unwrap().split_whitespace().count();
        let words_max = asked["words_max"].as_u64().map_or(WORDS.len(), |max| usize::try_from(max).unwrap());
        let said = &WORDS[..words_max.min(WORDS.len())];
        let why = if said.len() < WORDS.len() { "tired" } else { "done" };
        let end = json!({"why": why, "heard": heard, "spoken": said.len()});
        if asked["live"] != true {
            let mut whole = end;
            whole["words"] = said.concat().into();
            return Ok(response("application/json", vec![whole.to_string()]));
        }
        let mut lines: Vec<String> = said.iter().map(|word| format!("{}\n", json!({"word": word}))).collect();
        lines.push(format!("{end}\n"));
        Ok(response("application/x-ndjson", lines))
    }
}

fn response(content_type: &str, pieces: Vec<String>) -> Response<Body> {
    let body: Body = stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece)))).boxed();
    Response::builder().header("content-type", content_type).body(body).unwrap()
}

fn parrot() -> HttpUpstream {
    Parrot::new("http://127.0.0.1:9").unwrap().upstream(Arc::new(Cage))
}

cfr_providers::upstream_conformance!((parrot(), "grey"));
