//! Bedrock over real sockets: what is signed is what goes over the wire, and a stream comes through.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "reqwest")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::chat::{Meter, Operation};
use cfr_core::secret::Secret;
use cfr_core::time::ManualClock;
use cfr_core::upstream::{Order, Upstream};
use cfr_providers::HttpUpstream;
use cfr_providers::bedrock::{self, Bedrock};
use cfr_providers::dialog::Translated;
use cfr_providers::sign::SigV4;
use cfr_providers::sign::aws::{AwsKeys, StaticKeys};
use cfr_providers::transport::ReqwestTransport;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::{Digest, Sha256};
use support::spoken::Spoken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for any machine, short enough to fail.
const PATIENCE: Duration = Duration::from_secs(20);
const MODEL: &str = "eu.anthropic.claude-haiku-4-5-20251001-v1:0";
const SECRET: &str = "fixture/secret/key";
const REGION: &str = "eu-central-1";

#[tokio::test]
async fn a_signature_proves_what_arrives_and_the_stream_comes_through() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream_at(&format!("http://{}", listener.local_addr().unwrap()));
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi \u{e4}"}]});
    let call = support::call(Operation::ChatCompletions, &body);
    let order =
        Order { call: &call, model: MODEL, output_tokens_max: Some(9), timeout: PATIENCE, idle_timeout: PATIENCE };
    let provider = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = Received::read(&mut socket).await;
        answer(&mut socket).await;
        request
    };
    let (reply, request) = tokio::join!(upstream.send(order), provider);
    let outcome = support::collect(reply.unwrap()).await;

    let path = "/model/eu.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream";
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", path));
    let signed = "content-type;host;x-amz-date;x-amz-security-token";
    assert!(request.headers["authorization"].contains(&format!("SignedHeaders={signed}, ")));
    let claimed = request.headers["authorization"].rsplit_once("Signature=").unwrap().1.to_owned();
    assert_eq!(claimed, request.signature(signed));
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(Spoken::of(cfr_core::chat::Dialect::OpenAi, &outcome.bytes).text, "Hi there \u{2014} \u{1F44B}");
    assert_eq!(outcome.report.usage.unwrap().get(Meter::OutputTokens), 9);
}

fn upstream_at(base_url: &str) -> HttpUpstream {
    let keys = AwsKeys {
        access_key_id: "AKIAFIXTURE".into(),
        secret_access_key: Secret::new(SECRET),
        session_token: Some(Secret::new("session/token==")),
    };
    let clock = Arc::new(ManualClock::new("2026-11-21T08:30:00Z".parse().unwrap()));
    let signer = SigV4::new(Arc::new(StaticKeys::new(keys)), REGION, bedrock::SIGNING_NAME, clock);
    let adapter = Translated(Bedrock::at(base_url).unwrap());
    HttpUpstream::new(Arc::new(adapter), Arc::new(signer), Arc::new(ReqwestTransport::new().unwrap()))
}

/// The recorded stream, in chunks that tear its frames.
async fn answer(socket: &mut TcpStream) {
    let recording = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bedrock/stream.eventstream.bin");
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    for piece in std::fs::read(recording).unwrap().chunks(50) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        socket.write_all(&chunk).await.unwrap();
        socket.flush().await.unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
}

/// A request as it arrived.
struct Received {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Received {
    async fn read(socket: &mut TcpStream) -> Self {
        let mut read = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let count = socket.read(&mut piece).await.unwrap();
            assert!(count > 0, "the connection ended inside a request");
            read.extend_from_slice(&piece[..count]);
            let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") else { continue };
            let received = Self::of(str::from_utf8(&read[..end]).unwrap(), &read[end + 4..]);
            if received.headers["content-length"] == received.body.len().to_string() {
                return received;
            }
        }
    }

    fn of(head: &str, body: &[u8]) -> Self {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { method, path, headers, body: body.to_vec() }
    }

    /// The signature as AWS computes it from what arrives; written without the code that is tested.
    fn signature(&self, signed: &str) -> String {
        let lines: String = signed.split(';').map(|name| format!("{name}:{}\n", self.headers[name])).collect();
        let path = self.path.replace('%', "%25");
        let canonical = format!("{}\n{path}\n\n{lines}\n{signed}\n{}", self.method, hex(&Sha256::digest(&self.body)));
        let date = &self.headers["x-amz-date"];
        let scope = format!("{}/{REGION}/bedrock/aws4_request", &date[..8]);
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let start = format!("AWS4{SECRET}").into_bytes();
        let key = scope.split('/').fold(start, |key, part| hmac(&key, part.as_bytes()));
        hex(&hmac(&key, text.as_bytes()))
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
