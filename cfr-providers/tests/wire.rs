//! The bundled transport against real sockets: what a provider and a network do to us.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "reqwest")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use cfr_core::chat::Operation;
use cfr_core::secret::Secret;
use cfr_core::upstream::{Reply, Upstream, UpstreamError};
use cfr_providers::openai::quirks::OPENAI;
use cfr_providers::{HttpUpstream, Quirks};
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::{call, collect, order};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for any machine, short enough to fail.
const PATIENCE: Duration = Duration::from_secs(20);
/// Short enough to be waited for.
const SHORT: Duration = Duration::from_millis(60);

const ANSWER: &str = r#"{"model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":1}}"#;
const FIRST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n";
const LAST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// A provider that takes connections one after another.
struct Provider {
    listener: TcpListener,
    address: SocketAddr,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    fn upstream(&self) -> HttpUpstream {
        upstream_at(self.address)
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

fn upstream_at(address: SocketAddr) -> HttpUpstream {
    HttpUpstream::openai_family(&OPENAI, Some(&format!("http://{address}/v1/")), &Secret::new("sk-1")).unwrap()
}

/// Reads one request: its head in lower case, and its body.
async fn request(socket: &mut TcpStream) -> (String, Value) {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = socket.read(&mut piece).await.unwrap();
        assert!(count > 0, "the connection ended inside a request");
        read.extend_from_slice(&piece[..count]);
        let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") else { continue };
        let head = str::from_utf8(&read[..end]).unwrap().to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse::<usize>().unwrap();
        if read.len() == end + 4 + length {
            return (head, serde_json::from_slice(&read[end + 4..]).unwrap());
        }
    }
}

async fn answer_with(socket: &mut TcpStream, status: &str, content_type: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

async fn begin_stream(socket: &mut TcpStream) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
}

async fn write_chunk(socket: &mut TcpStream, text: &str) {
    socket.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
}

fn body(stream: bool) -> Value {
    json!({"model": "m", "messages": [], "stream": stream})
}

async fn ask(upstream: &HttpUpstream, stream: bool, timeout: Duration) -> Result<Reply, UpstreamError> {
    let call = call(Operation::ChatCompletions, &body(stream));
    upstream.send(order(&call, timeout)).await
}

#[tokio::test]
async fn a_call_and_its_answer_cross_the_wire() {
    let provider = Provider::start().await;
    let served = async {
        let mut socket = provider.accept().await;
        let (head, body) = request(&mut socket).await;
        answer_with(&mut socket, "200 OK", "application/json", ANSWER).await;
        (head, body)
    };
    let upstream = provider.upstream();
    let (reply, (head, sent)) = tokio::join!(ask(&upstream, false, PATIENCE), served);
    let outcome = collect(reply.unwrap()).await;
    assert_eq!(outcome.bytes, ANSWER);
    assert_eq!(outcome.report.model.as_deref(), Some("m-1"));
    assert!(head.starts_with("post /v1/chat/completions http/1.1"), "{head}");
    assert!(head.contains("authorization: bearer sk-1"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(sent, body(false));
}

#[tokio::test]
async fn connections_are_used_again_after_whole_answers_and_after_streams() {
    let provider = Provider::start().await;
    let upstream = provider.upstream();
    let calls = async {
        for stream in [false, true, false, true] {
            let outcome = collect(ask(&upstream, stream, PATIENCE).await.unwrap()).await;
            assert!(outcome.error.is_none(), "{:?}", outcome.error);
        }
    };
    let served = async {
        let mut socket = provider.accept().await;
        for stream in [false, true, false, true] {
            request(&mut socket).await;
            if stream {
                begin_stream(&mut socket).await;
                write_chunk(&mut socket, FIRST).await;
                write_chunk(&mut socket, LAST).await;
                socket.write_all(b"0\r\n\r\n").await.unwrap();
            } else {
                answer_with(&mut socket, "200 OK", "application/json", ANSWER).await;
            }
        }
        socket
    };
    let (_socket, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(served, calls) }).await.unwrap();
}

#[tokio::test]
async fn the_first_frame_arrives_before_the_second_is_sent() {
    let provider = Provider::start().await;
    let upstream = provider.upstream();
    let (first_seen, seen) = tokio::sync::oneshot::channel();
    let served = async {
        let mut socket = provider.accept().await;
        request(&mut socket).await;
        begin_stream(&mut socket).await;
        write_chunk(&mut socket, FIRST).await;
        seen.await.unwrap();
        write_chunk(&mut socket, LAST).await;
        socket
    };
    let read = async {
        let Reply::Stream(mut reply) = ask(&upstream, true, PATIENCE).await.unwrap() else { panic!("not a stream") };
        let first = reply.events.next().await.unwrap().unwrap();
        assert_eq!(first.bytes, FIRST);
        first_seen.send(()).unwrap();
        assert_eq!(reply.events.next().await.unwrap().unwrap().bytes, LAST);
        assert!(reply.events.next().await.is_none(), "the end is the end, though the connection stays open");
    };
    tokio::join!(served, read);
}

#[tokio::test]
async fn dropping_a_stream_closes_the_connection() {
    let provider = Provider::start().await;
    let upstream = provider.upstream();
    let served = async {
        let mut socket = provider.accept().await;
        request(&mut socket).await;
        begin_stream(&mut socket).await;
        write_chunk(&mut socket, FIRST).await;
        socket.read(&mut [0; 16]).await
    };
    let read = async {
        let Reply::Stream(mut reply) = ask(&upstream, true, PATIENCE).await.unwrap() else { panic!("not a stream") };
        reply.events.next().await.unwrap().unwrap();
        drop(reply);
    };
    let (end, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(served, read) }).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn dropping_a_call_closes_the_connection() {
    let provider = Provider::start().await;
    let upstream = provider.upstream();
    let mut asked = Box::pin(ask(&upstream, false, PATIENCE));
    let mut socket = tokio::select! {
        socket = async { let mut socket = provider.accept().await; request(&mut socket).await; socket } => socket,
        _ = &mut asked => panic!("there is no answer yet"),
    };
    drop(asked);
    let end = tokio::time::timeout(PATIENCE, socket.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let address = Provider::start().await.address; // dropped: the port is closed again
    let error = ask(&upstream_at(address), false, PATIENCE).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_provider_that_does_not_answer_times_out() {
    let provider = Provider::start().await;
    let upstream = provider.upstream();
    let served = async {
        let mut socket = provider.accept().await;
        request(&mut socket).await;
        socket
    };
    let (error, _socket) = tokio::join!(ask(&upstream, false, SHORT), served);
    let error = error.unwrap_err();
    assert!(matches!(error, UpstreamError::Timeout { after } if after == SHORT), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_with_a_timeout() {
    let provider = Provider::start().await;
    let upstream = provider.upstream();
    let served = async {
        let mut socket = provider.accept().await;
        request(&mut socket).await;
        begin_stream(&mut socket).await;
        write_chunk(&mut socket, FIRST).await;
        socket
    };
    let read = async {
        let call = call(Operation::ChatCompletions, &body(true));
        let order = cfr_core::upstream::Order { idle_timeout: SHORT, ..order(&call, PATIENCE) };
        collect(upstream.send(order).await.unwrap()).await
    };
    let (outcome, _socket) = tokio::join!(read, served);
    assert_eq!(outcome.bytes, FIRST);
    let error = outcome.error;
    assert!(matches!(error, Some(UpstreamError::Timeout { after }) if after == SHORT), "{error:?}");
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_truncated() {
    let provider = Provider::start().await;
    let upstream = provider.upstream();
    let served = async {
        let mut socket = provider.accept().await;
        request(&mut socket).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n";
        socket.write_all(format!("{head}{ANSWER}").as_bytes()).await.unwrap();
    };
    let (error, ()) = tokio::join!(ask(&upstream, false, PATIENCE), served);
    assert!(matches!(error, Err(UpstreamError::Truncated { .. })), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let provider = Provider::start().await;
    let upstream = provider.upstream();
    let served = async {
        let mut socket = provider.accept().await;
        request(&mut socket).await;
        let answer =
            format!("HTTP/1.1 308 Gone\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", provider.address);
        socket.write_all(answer.as_bytes()).await.unwrap();
    };
    let (error, ()) = tokio::join!(ask(&upstream, false, PATIENCE), served);
    assert!(matches!(error, Err(UpstreamError::Malformed { .. })), "{error:?}");
}

#[tokio::test]
async fn a_server_without_a_key_gets_none() {
    let provider = Provider::start().await;
    let quirks = Quirks::by_name("ollama").unwrap();
    let upstream =
        HttpUpstream::openai_family(quirks, Some(&format!("http://{}", provider.address)), &Secret::new("")).unwrap();
    let served = async {
        let mut socket = provider.accept().await;
        let (head, _) = request(&mut socket).await;
        answer_with(&mut socket, "200 OK", "application/json", ANSWER).await;
        head
    };
    let (reply, head) = tokio::join!(ask(&upstream, false, PATIENCE), served);
    reply.unwrap();
    assert!(!head.contains("authorization"), "{head}");
}
