//! What is sent to a provider with a dialect of its own, against every recorded request: path, headers and every member of the
//! body; and that its answer is then read.
//!
//! `recorded` does the same for servers that speak OpenAI's dialect. `CFR_FIXTURES=DIR` reads another folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod asked;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::chat::{Call, Envelope, EnvelopeError, Operation};
use cfr_core::secret::Secret;
use cfr_core::time::{ManualClock, Timestamp};
use cfr_core::upstream::{Order, Upstream, UpstreamError};
use cfr_providers::HttpUpstream;
use cfr_providers::registry::{Account, Kind, Probe};
use cfr_providers::sign::Bearer;
use cfr_providers::transport::replay::{Exchange, Replay};
use futures_util::FutureExt as _;
use serde_json::Value;

use asked::{Asked, Work};

const PATIENCE: Duration = Duration::from_secs(5);
/// Forms have parts, which no JSON says: `images_and_sound` looks at what is sent there.
const FORMS: [&str; 3] = ["/audio/transcriptions", "/audio/translations", "/images/edits"];

/// A recording and the provider that it is of.
struct Recorded {
    name: String,
    kind: Kind,
    exchange: Exchange,
    expect: Value,
}

impl Recorded {
    fn read(file: &Path) -> Self {
        let provider = support::provider_of(file);
        let recording: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let name = format!("{provider}/{}", file.file_stem().unwrap().to_str().unwrap());
        let mut exchange = Exchange::read(file).unwrap_or_else(|cause| panic!("{name}: {cause}"));
        // Who signs each request anew has no signature to compare; `sign` proves it with vectors.
        let signed = exchange.request_headers.get("authorization").and_then(|value| value.to_str().ok());
        if signed.is_some_and(|value| value.starts_with("AWS4-")) {
            exchange.request_headers.remove("authorization");
        }
        exchange.request_body = with_what_we_add(&exchange.path, exchange.request_body.take());
        let kind = Kind::by_name(if provider == "openai_responses" { "openai" } else { &provider });
        let kind = kind.unwrap_or_else(|| panic!("{name}: no provider of that name"));
        Self { name, kind, exchange, expect: recording["expect"].clone() }
    }

    fn asked(&self) -> Option<Asked> {
        Asked::of(&self.exchange.path, &self.exchange.request_body)
    }

    fn account(&self) -> Account {
        let sent = |name: &str| self.exchange.request_headers.get(name).map(|value| value.to_str().unwrap());
        let key = ["x-api-key", "x-goog-api-key", "api-key", "authorization"].into_iter().find_map(sent);
        let key = key.map(|key| Secret::new(key.trim_start_matches("Bearer ")));
        let path = &self.exchange.path;
        let part = |name: &str| path.split_once(name).and_then(|(_, rest)| rest.split('/').next()).map(str::to_owned);
        let region = part("/locations/").or_else(|| Some("eu-central-1".to_owned()));
        let base_url = match self.kind {
            Kind::AzureAnthropic => Some("https://resource.services.ai.azure.com/anthropic".to_owned()),
            _ => None,
        };
        Account { base_url, key, region, project: part("/projects/"), ..Account::default() }
    }

    fn upstream(&self) -> HttpUpstream {
        let (account, replay) = (self.account(), Arc::new(Replay::new(self.exchange.clone())));
        if self.kind == Kind::Vertex {
            // The token is one that was fetched before.
            let token = Arc::new(Bearer::new(account.key.as_ref().unwrap()).unwrap());
            return HttpUpstream::new(self.kind.adapter(&account).unwrap(), token, replay);
        }
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        self.kind.upstream(&account, replay, clock).unwrap()
    }

    /// Asks as a caller does, and says what came of it.
    async fn ask(&self, asked: &Asked) -> Result<(), UpstreamError> {
        let (Work::Answer(operation) | Work::Count(operation)) = asked.work;
        let call = match call(operation, asked) {
            Err(_) if self.expect["error"].is_object() => return Ok(()), // what the provider refused is not even sent
            call => call.unwrap_or_else(|cause| panic!("{}: {cause}", self.name)),
        };
        let order = Order {
            call: &call,
            model: &asked.model,
            output_tokens_max: None,
            timeout: PATIENCE,
            idle_timeout: PATIENCE,
        };
        let upstream = self.upstream();
        if let Work::Count(_) = asked.work {
            let counted = upstream.count(order).await?.unwrap_or_else(|| panic!("{}: not counted", self.name));
            assert_eq!(Some(counted.tokens), self.expect["input_tokens"].as_u64(), "{}", self.name);
            return Ok(());
        }
        let outcome = support::collect(upstream.send(order).await?).await;
        if let Some(error) = outcome.error {
            return Err(error);
        }
        assert!(self.expect["error"].is_null(), "{}: expected an error", self.name);
        if operation.is_chat() || self.expect["usage"].is_object() {
            support::check_usage(&self.name, &self.expect["usage"], &outcome.report);
        }
        if let Some(expected) = self.expect["vector"].as_array() {
            let answer: Value = serde_json::from_slice(&outcome.bytes).unwrap();
            assert_eq!(answer["data"][0]["embedding"].as_array(), Some(expected), "{}", self.name);
        }
        Ok(())
    }
}

/// The recorded request with what the gateway says besides, because the bound of a call relies on it.
fn with_what_we_add(path: &str, mut body: Value) -> Value {
    let absent = |body: &Value, place: &str| body.pointer(place).is_none();
    if path.ends_with("/v2/rerank") && absent(&body, "/max_tokens_per_doc") {
        body["max_tokens_per_doc"] = 4_096.into(); // Cohere's own default
    }
    if path.contains("/converse") && absent(&body, "/inferenceConfig/maxTokens") {
        body["inferenceConfig"]["maxTokens"] = 64.into(); // callers here name it, else the model's maximum is sent
    }
    if path.ends_with(":countTokens") && absent(&body, "/generateContentRequest") {
        let model = path.rsplit_once("/models/").unwrap().1.trim_end_matches(":countTokens");
        body["model"] = format!("models/{model}").into();
        body = serde_json::json!({"generateContentRequest": body}); // the form that counts tools and instructions, too
    }
    body
}

fn call(operation: Operation, asked: &Asked) -> Result<Call, EnvelopeError> {
    let body = bytes::Bytes::from(asked.body.to_string());
    let envelope = Envelope::parse_named(operation, &asked.model, asked.stream, &body)?;
    let any = support::call(Operation::Embeddings, &serde_json::json!({"model": "m", "input": "x"}));
    Ok(Call { operation, envelope, body, ..any })
}

fn all() -> Vec<Recorded> {
    support::recordings(|_| true).iter().map(|file| Recorded::read(file)).collect()
}

#[tokio::test]
async fn every_recorded_request_is_what_we_send_and_its_answer_is_read() {
    let mut failed = Vec::new();
    for recorded in all() {
        let Some(asked) = recorded.asked() else { continue }; // of the others the tests below
        let asking = std::panic::AssertUnwindSafe(recorded.ask(&asked)).catch_unwind();
        let checked = asking.await.map_err(|cause| {
            let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
            text.unwrap_or("?").to_owned()
        });
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let expected = &recorded.expect["error"];
                let as_expected = || support::check_error(&recorded.name, expected, &error);
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(as_expected)).is_err() {
                    failed.push(format!("{}: {error}", recorded.name));
                }
            }
            Err(text) => failed.push(format!("{}: {text}", recorded.name)),
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn a_recorded_list_of_models_says_that_an_account_works() {
    for recorded in all().iter().filter(|recorded| recorded.exchange.path.ends_with("/models")) {
        let transport = Arc::new(Replay::new(recorded.exchange.clone())) as _;
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let probe = recorded.kind.probe(&recorded.account(), &transport, clock, PATIENCE).await.unwrap();
        assert_eq!(probe, Probe::Works, "{}", recorded.name);
    }
}

#[test]
fn every_expected_word_of_an_error_is_in_what_was_recorded() {
    for recorded in all() {
        let Exchange { headers, body, .. } = &recorded.exchange;
        let said = format!("{headers:?} {}", String::from_utf8_lossy(body));
        let words = ["type", "code"].into_iter().filter_map(|word| recorded.expect["error"][word].as_str());
        for word in words {
            assert!(said.contains(word), "{}: nobody said {word}", recorded.name);
        }
    }
}

#[test]
fn every_recording_is_somebodys() {
    for recorded in all() {
        let path = recorded.exchange.path.split('?').next().unwrap();
        let listed = path.ends_with("/models") || FORMS.iter().any(|form| path.ends_with(form));
        let compatible = matches!(recorded.kind, Kind::Compatible(_)) && support::operation_of(path).is_some();
        assert!(listed || compatible || recorded.asked().is_some(), "{}: nobody asks for {path}", recorded.name);
    }
}
