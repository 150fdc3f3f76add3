//! A provider that remembers what it really served: the truth that the gateway's books are compared with.
//!
//! It lives in the test's process, so its memory survives the gateway's death. A request tells it how to behave, in a
//! field `oracle` that the gateway does not know and passes on. The first segment of the path names the upstream that
//! was called: some behaviours befall only `primary`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What a request asks the oracle to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Script {
    /// The client's own name of the request; also its `user` field, and so the tag of its usage record.
    pub id: String,
    /// How the answer goes.
    pub plan: Plan,
    /// Prompt tokens that the usage claims.
    pub input: u64,
    /// Answer tokens: words of an answer or chunks of a stream, and what the usage claims.
    pub output: u64,
    /// Milliseconds before an answer, and before every chunk of a stream.
    pub gap_ms: u64,
    /// With `Refuse`: the status of the primary upstream.
    pub status: u16,
}

/// How an answer goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// To its end, with usage.
    #[default]
    Complete,
    /// To its end, without a word of usage.
    NoUsage,
    /// To its end, with a usage of zeros.
    ZeroUsage,
    /// The primary upstream refuses with `status`; any other one answers.
    Refuse,
    /// A stream whose connection breaks after `output` chunks.
    Cut,
    /// A stream that falls silent after `output` chunks and stays open.
    Stall,
    /// A stream with an error event after `output` chunks.
    ErrorInStream,
    /// A plain JSON answer, even when a stream was asked for.
    PlainJson,
    /// Bytes that are not JSON, under the right content type.
    Garbage,
    /// A web page.
    WebPage,
    /// A stream with one line of ten megabytes.
    HugeLine,
    /// A stream without an end.
    Endless,
}

/// Bytes of the line that [`Plan::HugeLine`] sends.
const HUGE_LINE_BYTES: usize = 10 * 1024 * 1024;
/// Words of all streams are this long, so that text can be counted back into chunks.
pub const WORD: &str = " word";

/// What was served to one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Calls that arrived, on all upstreams together.
    pub calls: u64,
    /// Prompt tokens of the last one.
    pub input: u64,
    /// Answer tokens that left, whether or not anybody read them.
    pub output: u64,
    /// Whether the answer left completely.
    pub complete: bool,
    /// Whether the caller hung up before the end.
    pub abandoned: bool,
}

type Books = Arc<Mutex<BTreeMap<String, Served>>>;
type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The running provider. Dropping it hangs up on everybody.
#[derive(Debug)]
pub struct Oracle {
    address: SocketAddr,
    books: Books,
    _server: JoinSet<()>,
}

impl Oracle {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let books = Books::default();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, books.clone()));
        Self { address, books, _server: server }
    }

    /// The base URL of one of its upstreams.
    pub fn base_url(&self, upstream: &str) -> String {
        format!("http://{}/{upstream}/v1", self.address)
    }

    /// What it served, by request.
    pub fn served(&self) -> BTreeMap<String, Served> {
        self.books.lock().expect("no handler panics").clone()
    }

    /// What it served to one request.
    pub fn served_to(&self, id: &str) -> Served {
        self.served().get(id).copied().unwrap_or_default()
    }

    /// Waits until what was served to a request is as wanted.
    pub async fn served_until(&self, id: &str, wanted: impl Fn(&Served) -> bool) -> Served {
        loop {
            let served = self.served_to(id);
            if wanted(&served) {
                return served;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn serve(listener: TcpListener, books: Books) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("accepting goes on");
        socket.set_nodelay(true).expect("a socket");
        let books = books.clone();
        let service = service_fn(move |request| answer(request, books.clone()));
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, books: Books) -> Result<Response<Body>, hyper::Error> {
    let primary = request.uri().path().starts_with("/primary/");
    let body = request.into_body().collect().await?.to_bytes();
    let ask: Value = serde_json::from_slice(&body).expect("the gateway sends JSON");
    let script: Script = serde_json::from_value(ask["oracle"].clone()).expect("unknown fields arrive");
    let entry = Entry { books, id: script.id.clone().into(), finished: false };
    entry.note(|served| {
        served.calls += 1;
        served.input = script.input;
    });
    if script.plan == Plan::Refuse && primary {
        return Ok(entry.refuse(script.status));
    }
    let streamed = ask["stream"] == true && script.plan != Plan::PlainJson;
    let usage = ask["stream_options"]["include_usage"] == true;
    Ok(match script.plan {
        Plan::Garbage => raw("application/json", "\u{1}not json{{{"),
        Plan::WebPage => raw("text/html", "<html><body>Welcome to nginx!</body></html>"),
        _ if streamed => stream_answer(script, usage, entry),
        _ => whole_answer(&script, entry).await,
    })
}

/// One line in the books; a stream that is dropped before its end notes that the caller hung up.
struct Entry {
    books: Books,
    id: Box<str>,
    finished: bool,
}

impl Entry {
    fn note(&self, change: impl FnOnce(&mut Served)) {
        change(self.books.lock().expect("no handler panics").entry(self.id.to_string()).or_default());
    }

    fn finish(&mut self, complete: bool) {
        self.finished = true;
        self.note(|served| served.complete = complete);
    }

    fn refuse(mut self, status: u16) -> Response<Body> {
        self.finish(false);
        let error = json!({"error": {"message": "refused by the oracle", "type": "error", "code": null}});
        let mut response = raw("application/json", &error.to_string());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        if status == 429 {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("7"));
        }
        response
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.finished {
            self.note(|served| served.abandoned = true);
        }
    }
}

fn raw(content_type: &str, text: &str) -> Response<Body> {
    let body = Full::from(text.to_owned()).map_err(|never: Infallible| match never {});
    Response::builder().header(header::CONTENT_TYPE, content_type).body(body.boxed_unsync()).expect("a response")
}

async fn whole_answer(script: &Script, mut entry: Entry) -> Response<Body> {
    tokio::time::sleep(Duration::from_millis(script.gap_ms)).await;
    let words = usize::try_from(script.output).expect("a small number");
    let mut answer = json!({
        "id": "chatcmpl-oracle", "object": "chat.completion", "created": 1_763_700_000, "model": "gpt-4o-mini",
        "choices": [{
            "index": 0, "finish_reason": "stop", "logprobs": null,
            "message": {"role": "assistant", "content": WORD.repeat(words)},
        }],
    });
    if let Some(usage) = usage_of(script) {
        answer["usage"] = usage;
    }
    entry.note(|served| served.output = script.output);
    entry.finish(true);
    raw("application/json", &answer.to_string())
}

fn usage_of(script: &Script) -> Option<Value> {
    let (input, output) = match script.plan {
        Plan::NoUsage => return None,
        Plan::ZeroUsage => (0, 0),
        _ => (script.input, script.output),
    };
    Some(json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}))
}

fn stream_answer(script: Script, usage: bool, entry: Entry) -> Response<Body> {
    let events = Events { script, usage, entry, sent: 0 };
    let frames = StreamBody::new(frames(events).map(|event| event.map(Frame::data)));
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .body(frames.boxed_unsync())
        .expect("a response")
}

/// The script of a stream, played event by event.
struct Events {
    script: Script,
    usage: bool,
    entry: Entry,
    sent: u64,
}

fn frames(events: Events) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((event.map(Bytes::from), events))
    })
}

impl Events {
    async fn next(&mut self) -> Option<Result<String, std::io::Error>> {
        tokio::time::sleep(Duration::from_millis(self.script.gap_ms)).await;
        if self.sent < self.script.output || self.script.plan == Plan::Endless {
            self.sent += 1;
            self.entry.note(|served| served.output += 1);
            return Some(Ok(self.chunk(json!({"content": WORD}), Value::Null)));
        }
        let step = self.sent - self.script.output;
        self.sent += 1;
        match (self.script.plan, step) {
            (Plan::Cut, _) => {
                self.entry.finish(false);
                Some(Err(std::io::Error::other("the connection breaks")))
            }
            (Plan::Stall, _) => std::future::pending().await,
            (Plan::ErrorInStream, 0) => {
                self.entry.finish(false);
                let error = json!({"error": {"message": "the model crashed", "type": "server_error", "code": null}});
                Some(Ok(format!("data: {error}\n\n")))
            }
            (Plan::ErrorInStream, _) => None,
            (Plan::HugeLine, 0) => Some(Ok(format!("data: {}\n\n", "x".repeat(HUGE_LINE_BYTES)))),
            (_, 0) => Some(Ok(self.chunk(json!({}), json!("stop")))),
            (plan, 1) if self.usage && plan != Plan::NoUsage => Some(Ok(self.usage_chunk())),
            _ if self.entry.finished => None,
            _ => {
                self.entry.finish(true);
                Some(Ok("data: [DONE]\n\n".to_owned()))
            }
        }
    }

    fn chunk(&self, delta: Value, finish: Value) -> String {
        format!("data: {}\n\n", envelope(json!([{"index": 0, "delta": delta, "finish_reason": finish}])))
    }

    fn usage_chunk(&self) -> String {
        let mut chunk = envelope(json!([]));
        chunk["usage"] = usage_of(&self.script).unwrap_or(Value::Null);
        format!("data: {chunk}\n\n")
    }
}

fn envelope(choices: Value) -> Value {
    json!({
        "id": "chatcmpl-oracle", "object": "chat.completion.chunk", "created": 1_763_700_000, "model": "gpt-4o-mini",
        "choices": choices,
    })
}
