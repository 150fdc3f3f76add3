//! Tokens of Google's over real sockets: what our client sends to a server of tokens, and what it makes of the answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "reqwest")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::time::SystemClock;
use cfr_providers::sign::Signer;
use cfr_providers::sign::google::{GoogleToken, MetadataServer};
use cfr_providers::transport::{Endpoint, ReqwestTransport, WireRequest};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Long enough for any machine, short enough to fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers one request with a token; returns the request's head.
async fn serve_one(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut piece).await.unwrap();
        assert_ne!(read, 0, "the request ended in its head");
        head.extend_from_slice(&piece[..read]);
    }
    let body = r#"{"access_token":"ya29.machine","expires_in":3599,"token_type":"Bearer"}"#;
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

fn call() -> WireRequest {
    let endpoint = Arc::new(Endpoint::below("http://127.0.0.1", "/").unwrap());
    WireRequest { endpoint, headers: HeaderMap::new(), body: Bytes::from_static(b"{}"), dropped: Vec::new() }
}

#[tokio::test]
async fn the_metadata_server_is_asked_once_by_get_and_its_token_signs_every_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let source = MetadataServer::new(Some(&base), Arc::new(ReqwestTransport::new().unwrap())).unwrap();
    let signer = GoogleToken::new(Arc::new(source), Arc::new(SystemClock::new()), None).unwrap();
    let calls = async {
        for _ in 0..3 {
            let mut call = call();
            signer.sign(&mut call).await.unwrap();
            assert_eq!(call.headers["authorization"], "Bearer ya29.machine");
        }
    };
    let both = async { tokio::join!(serve_one(listener), calls) };
    let (head, ()) = tokio::time::timeout(PATIENCE, both).await.expect("a token in time");
    assert!(head.starts_with("get /computemetadata/v1/instance/service-accounts/default/token http/1.1\r\n"), "{head}");
    assert!(head.contains("metadata-flavor: google\r\n"), "{head}");
}
