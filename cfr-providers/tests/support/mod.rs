//! Cases, and what a client understands of an answer; written without the code that is tested.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "each test binary uses a part"
)]

pub mod loopback;
pub mod spoken;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::{Call, Dialect, Envelope, Meter, Operation, Usage};
use cfr_core::id::RequestId;
use cfr_core::price::PicoUsd;
use cfr_core::secret::Secret;
use cfr_core::time::{ManualClock, Timestamp};
use cfr_core::upstream::{Order, Reply, Report, Retry, Upstream, UpstreamError};
use cfr_providers::adapter::{Adapter, Framing};
use cfr_providers::framing::Relay;
use cfr_providers::openai::OpenAi;
use cfr_providers::registry::{Account, Kind};
use cfr_providers::transport::replay::{Exchange, Replay};
use cfr_providers::{HttpUpstream, Quirks};
use futures_util::StreamExt;
use serde_json::Value;

pub use spoken::Spoken;

/// Evidence that is no recording, as of signatures.
const OTHER_EVIDENCE: &str = "_vectors.json";
/// Not a provider's: one request in the words of every provider.
const MAPPING: &str = "mapping";

/// OpenAI without its other dialect, so that nothing is brought over to it.
pub static CHAT_ALONE: Quirks = Quirks { responses: false, ..cfr_providers::openai::quirks::OPENAI };

pub fn own_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Our own folder, or the one that `CFR_FIXTURES` names.
pub fn folder_of_recordings() -> PathBuf {
    std::env::var_os("CFR_FIXTURES").map_or_else(own_folder, PathBuf::from)
}

/// The recordings of some providers.
pub fn recordings(of: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    recordings_in(&folder_of_recordings(), of)
}

/// The recordings of some providers in a folder.
pub fn recordings_in(root: &Path, of: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let is_providers = |path: &Path| path.is_dir() && !path.ends_with(MAPPING);
    let mut files: Vec<PathBuf> = folder(root)
        .filter(|path| is_providers(path))
        .flat_map(|provider| folder(&provider))
        .filter(|file| {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap();
            name.ends_with(".json") && !name.ends_with(OTHER_EVIDENCE) && of(&provider_of(file))
        })
        .collect();
    files.sort();
    files
}

/// Whose recording a file is, by our name: its folder's. Ollama speaks two dialects, and other collections name the folder
/// of its own one after it.
pub fn provider_of(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap();
    let native = || Exchange::read(file).is_ok_and(|exchange| exchange.path.starts_with("/api/"));
    match folder {
        "ollama_openai" => "ollama".to_owned(),
        "ollama" if native() => "ollama_native".to_owned(),
        own => own.to_owned(),
    }
}

pub fn folder(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    entries.map(|entry| entry.unwrap().path())
}

/// A recording and what is to be understood of it.
pub struct Case {
    pub name: String,
    pub quirks: &'static Quirks,
    base_url: Option<&'static str>,
    /// Of Azure's older API, which has an address for each deployment.
    api_version: Option<String>,
    operation: Operation,
    /// What the caller sends.
    caller: Value,
    call: Call,
    pub exchange: Exchange,
    expect: Value,
}

impl Case {
    pub fn read(file: &Path) -> Self {
        let recording: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let provider = provider_of(file);
        let name = format!("{provider}/{}", file.file_stem().unwrap().to_str().unwrap());
        let mut exchange = Exchange::read(file).unwrap();
        let caller = recording["request"].get("caller_body").unwrap_or(&exchange.request_body).clone();
        let quirks = Quirks::by_name(&provider).unwrap_or_else(|| panic!("{name}: no provider of that name"));
        for field in quirks.drops {
            exchange.request_body.as_object_mut().unwrap().remove(*field);
        }
        let api_version = exchange.path.split_once("api-version=").map(|(_, version)| version.to_owned());
        let base_url = match provider.as_str() {
            "azure" if api_version.is_some() => Some("https://resource.openai.azure.com"),
            "azure" => Some("https://resource.openai.azure.com/openai/v1"),
            "custom" => Some("http://127.0.0.1:9/v1"),
            _ => None,
        };
        // What is recorded here is never sent: the call is brought to where it can be answered.
        let quirks = if recording["expect"]["error"]["switch_to"] == "responses" { &CHAT_ALONE } else { quirks };
        let operation = operation_of(&exchange.path).unwrap_or_else(|| panic!("{name}: no such operation"));
        let (call, expect) = (call(operation, &caller), recording["expect"].clone());
        Self { name, quirks, base_url, api_version, operation, caller, call, exchange, expect }
    }

    /// Whether the answer is recorded as a stream.
    pub fn is_stream(&self) -> bool {
        self.exchange.status.is_success() && !self.is_synthetic() && self.caller["stream"] == true
    }

    /// Whether the caller wanted a stream and the server sent a complete answer.
    pub fn is_synthetic(&self) -> bool {
        let content_type = self.exchange.headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        self.caller["stream"] == true && content_type.contains("json")
    }

    /// Whether an error is to be found in it.
    pub fn is_broken(&self) -> bool {
        !self.expect["error"].is_null()
    }

    pub fn asks_for_usage(&self) -> bool {
        self.caller["stream_options"]["include_usage"] == true
    }

    /// The same call by a caller who does not want usage; the provider must get the same request.
    pub fn without_asking_for_usage(&self) -> Self {
        let mut caller = self.caller.clone();
        caller["stream_options"]["include_usage"] = false.into();
        let (name, exchange, expect) = (self.name.clone(), self.exchange.clone(), self.expect.clone());
        let (call, api_version) = (call(self.operation, &caller), self.api_version.clone());
        Self { name, exchange, expect, caller, call, api_version, ..*self }
    }

    pub fn upstream(&self, replay: Replay) -> HttpUpstream {
        let sent = |name: &str| self.exchange.request_headers.get(name).map(|value| value.to_str().unwrap());
        let key = sent("api-key").or(sent("authorization")).unwrap_or_default().trim_start_matches("Bearer ");
        let (base_url, key) = (self.base_url.map(str::to_owned), Some(Secret::new(key)));
        let account = Account { base_url, key, api_version: self.api_version.clone(), ..Account::default() };
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        Kind::Compatible(self.quirks).upstream(&account, Arc::new(replay), clock).unwrap()
    }

    /// What our decoder makes of the stream when the network brings it in these pieces, without all that is around it.
    pub fn relay<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let decoder = OpenAi::new(self.quirks, self.base_url).unwrap().stream_decoder(&self.call);
        let (mut relay, mut bytes, mut outcome) =
            (Relay::new(Framing::Sse, decoder), BytesMut::new(), Outcome::default());
        for piece in pieces.into_iter().map(Some).chain([None]) {
            if outcome.error.is_some() || relay.is_done() {
                break;
            }
            let relayed = match piece {
                Some(piece) => relay.push(Bytes::copy_from_slice(piece)),
                None => relay.finish(),
            };
            bytes.extend_from_slice(&relayed.event.bytes);
            outcome.report.absorb(relayed.event.report);
            outcome.error = relayed.error;
        }
        Outcome { bytes: bytes.freeze(), ..outcome }
    }

    #[track_caller]
    pub fn check(&self, outcome: &Outcome) {
        let name = &self.name;
        match &outcome.error {
            Some(error) => self.check_error(error),
            None => assert!(!self.is_broken(), "{name}: expected an error"),
        }
        let spoken = Spoken::of(Dialect::OpenAi, &outcome.bytes);
        for (field, said) in [
            ("text", &spoken.text),
            ("partial_text", &spoken.text),
            ("reasoning_text", &spoken.reasoning),
            ("refusal", &spoken.refusal),
        ] {
            if let Some(expected) = self.expect[field].as_str() {
                assert_eq!(said, expected, "{name}: {field}");
            }
        }
        if let Some(expected) = self.expect["finish_reason"].as_str() {
            assert_eq!(outcome.report.finish.as_ref().map(|finish| finish.name()), Some(expected), "{name}");
            assert_eq!(spoken.finish.as_deref(), Some(expected), "{name}");
        }
        if let Some(expected) = self.expect["tool_calls"].as_array() {
            assert_eq!(&spoken.calls(), expected, "{name}");
        }
        if let Some(expected) = self.expect["output_bytes"].as_u64() {
            assert_eq!(outcome.report.output_bytes, expected, "{name}");
        }
        if !self.is_broken() || self.expect["usage"].is_object() {
            check_usage(name, &self.expect["usage"], &outcome.report);
        }
    }

    /// An error, in the words of the caller's dialect where the provider speaks it.
    #[track_caller]
    fn check_error(&self, error: &UpstreamError) {
        let (name, expected) = (&self.name, &self.expect["error"]);
        check_error(name, expected, error);
        if expected["in_stream"] == true {
            assert!(matches!(error, UpstreamError::InStream { frame: Some(_), .. }), "{name}: {error:?}");
        }
        if let Some(code) = expected["code"].as_str()
            && let UpstreamError::Rejected { body: Some(body), .. } = error
        {
            let body: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(body["error"]["code"], code, "{name}");
        }
    }
}

#[track_caller]
pub fn check_error(name: &str, expected: &Value, error: &UpstreamError) {
    assert!(!expected.is_null(), "{name}: {error:?}");
    if let Some(word) = expected["name"].as_str() {
        assert_eq!(error.name(), word, "{name}: {error:?}");
    }
    if expected["in_stream"] == true {
        assert!(matches!(error, UpstreamError::InStream { .. }), "{name}: {error:?}");
        return;
    }
    if let (Some(status), Some(said)) = (expected["status"].as_u64(), status_of(error)) {
        assert_eq!(u64::from(said), status, "{name}: {error:?}");
    }
    if let Some(retryable) = expected["retryable"].as_bool() {
        assert_eq!(matches!(error.retry(), Retry::SameTarget { .. }), retryable, "{name}: {error:?}");
    }
    if let Some(millis) = expected["retry_after_ms"].as_u64() {
        assert_eq!(error.retry(), Retry::SameTarget { after: Duration::from_millis(millis) }, "{name}");
    }
}

/// The provider's status, where an error has one.
fn status_of(error: &UpstreamError) -> Option<u16> {
    match error {
        UpstreamError::Rejected { status, .. }
        | UpstreamError::Account { status, .. }
        | UpstreamError::Failed { status, .. } => Some(status.as_u16()),
        UpstreamError::RateLimited { .. } => Some(429),
        _ => None,
    }
}

/// The adapter of a provider, at its usual address or one that stands for it.
pub fn adapter(provider: &str) -> Option<Arc<dyn Adapter>> {
    // Recordings of OpenAI's other dialect have a folder of their own.
    let provider = if provider == "openai_responses" { "openai" } else { provider };
    let base_url = match provider {
        "azure" => Some("https://resource.openai.azure.com/openai/v1"),
        "azure_anthropic" => Some("https://resource.services.ai.azure.com/anthropic"),
        "custom" => Some("http://127.0.0.1:9/v1"),
        _ => None,
    };
    let (region, project) = (Some("eu-central-1".to_owned()), Some("project-1".to_owned()));
    let account = Account { base_url: base_url.map(str::to_owned), region, project, ..Account::default() };
    // OpenAI's other dialect.
    let kind = if provider == "openai_responses" { "openai" } else { provider };
    Some(Kind::by_name(kind)?.adapter(&account).unwrap())
}

/// What a path below OpenAI's address asks for, where that is JSON.
pub fn operation_of(path: &str) -> Option<Operation> {
    let path = path.split('?').next().unwrap();
    if path.ends_with("/chat/completions") {
        return Some(Operation::ChatCompletions);
    }
    let ends = [
        (Operation::Completions, "/completions"),
        (Operation::Embeddings, "/embeddings"),
        (Operation::Moderations, "/moderations"),
        (Operation::Rerank, "/rerank"),
        (Operation::ImageGenerations, "/images/generations"),
    ];
    ends.into_iter().find_map(|(operation, end)| path.ends_with(end).then_some(operation))
}

#[track_caller]
pub fn check_usage(name: &str, expected: &Value, report: &Report) {
    let Some(expected) = expected.as_object() else { return assert_eq!(report.usage, None, "{name}") };
    let usage: Usage = report.usage.unwrap_or_else(|| panic!("{name}: no usage"));
    let reads = usage.get(Meter::CacheReadTokens);
    let (writes, hour) = (usage.get(Meter::CacheWriteTokens), usage.get(Meter::CacheWrite1hTokens));
    let half_day = usage.get(Meter::CacheWrite12hTokens);
    let found = [
        ("input_total", usage.input_total()),
        ("input_uncached", usage.input_total() - reads - writes - hour - half_day),
        ("cache_read", reads),
        ("cache_write", writes),
        ("cache_write_1h", hour),
        ("cache_write_12h", half_day),
        ("output_total", usage.output_total()),
        ("reasoning", usage.get(Meter::ReasoningTokens)),
        ("search_units", usage.get(Meter::RerankQueries)),
    ];
    for (field, quantity) in found {
        assert_eq!(expected.get(field).and_then(Value::as_u64).unwrap_or(0), quantity, "{name}: {field}");
    }
    let cost = expected.get("provider_cost_usd").and_then(Value::as_str).map(|usd| {
        let (whole, fraction) = usd.split_once('.').unwrap_or((usd, ""));
        PicoUsd(format!("{whole}{fraction:0<12}").parse().unwrap())
    });
    assert_eq!(report.provider_cost, cost, "{name}: provider cost");
}

/// How a call went.
#[derive(Default)]
pub struct Outcome {
    pub bytes: Bytes,
    pub report: Report,
    pub error: Option<UpstreamError>,
}

pub fn call(operation: Operation, body: &Value) -> Call {
    let body = Bytes::from(body.to_string());
    let envelope = Envelope::parse(operation, &body).unwrap_or_else(|cause| panic!("{cause}: {body:?}"));
    let (tags, cache) = (cfr_core::chat::Tags::default(), cfr_core::cache::CacheUse::default());
    Call {
        id: RequestId::from_u128(1),
        operation,
        envelope,
        body,
        files: Vec::new(),
        tags,
        cache,
        drop_params: false,
        betas: None,
        dialect_version: None,
    }
}

pub fn order<'a>(call: &'a Call, timeout: Duration) -> Order<'a> {
    Order { call, model: &call.envelope.model, output_tokens_max: None, timeout, idle_timeout: timeout }
}

pub async fn send(upstream: &dyn Upstream, case: &Case) -> Result<Reply, UpstreamError> {
    upstream.send(order(&case.call, Duration::from_secs(5))).await
}

pub async fn run(case: &Case, replay: Replay) -> Outcome {
    match send(&case.upstream(replay), case).await {
        Ok(reply) => collect(reply).await,
        Err(error) => Outcome { error: Some(error), ..Outcome::default() },
    }
}

/// Everything that a reply brings, to its end.
pub async fn collect(reply: Reply) -> Outcome {
    let mut stream = match reply {
        Reply::Whole(whole) => return Outcome { bytes: whole.body, report: whole.report, error: None },
        Reply::Stream(stream) => stream.events,
        other => panic!("unknown reply {other:?}"),
    };
    let (mut bytes, mut outcome) = (BytesMut::new(), Outcome::default());
    while let Some(event) = stream.next().await {
        assert!(outcome.error.is_none(), "an event after the error");
        match event {
            Ok(event) => {
                bytes.extend_from_slice(&event.bytes);
                outcome.report.absorb(event.report);
            }
            Err(error) => outcome.error = Some(error),
        }
    }
    Outcome { bytes: bytes.freeze(), ..outcome }
}
