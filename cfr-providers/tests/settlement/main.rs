//! Every way in which an answer can end, over every recorded answer of every provider, through the gateway and the real
//! ledger: what is charged, where its figures come from, and that the rest is free again, to the nano-dollar
//! (money.md §2.6).
//!
//! Drop a recording into `fixtures/PROVIDER/` and it is settled in every way. `CFR_FIXTURES=DIR` reads another folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod books;
mod frames;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cfr_core::chat::usage::tokens_estimated;
use cfr_core::chat::{Call, Meter, Operation, UsageSource};
use cfr_providers::transport::replay::Exchange;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use support::Spoken;

use books::{Listens, MODEL, Played, World, price};
use frames::{Framing, Rewrite};
use wire::{End, Script};

/// More tokens than any answer has.
const ABSURD: u64 = 2_000_000_000;
/// A prompt of this text is estimated where nobody counted it.
const PROMPT: &str = "Hi";
/// What a confused server sends after the end.
const MORE: &[u8] =
    b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"more\"}}],\"usage\":{\"prompt_tokens\":7}}\n\n";

/// What a row of the table expects of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The recorded usage, or the recorded cost of the provider, and nothing else.
    AsRecorded,
    /// Nobody counted: the answer that the caller has, and the prompt, counted by their bytes.
    Counted,
    /// The provider says that nothing was used.
    Zero,
    /// Nothing is charged.
    Nothing,
    /// What was delivered is charged, and not less than that. A cut behind the finish reason is the whole answer.
    Delivered,
}

/// A recorded conversation that succeeds.
struct Recorded {
    name: String,
    provider: String,
    exchange: Exchange,
    framing: Framing,
    expect: Value,
}

impl Recorded {
    fn read(file: &Path) -> Option<Self> {
        let recording: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let exchange = Exchange::read(file).unwrap();
        let path = &exchange.path;
        let talks =
            ["chat", "/messages", "/responses", "enerateContent", "/converse"].iter().any(|end| path.contains(end));
        let expect = recording["expect"].clone();
        let provider = support::provider_of(file);
        let name = format!("{provider}/{}", file.file_stem().unwrap().to_str().unwrap());
        let content_type = exchange.headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        let framing = Framing::of(content_type);
        let counts = !expect["input_tokens"].is_null();
        let good = talks && !counts && exchange.status.is_success() && expect["error"].is_null();
        good.then_some(Self { name, provider, exchange, framing, expect })
    }

    fn is_stream(&self) -> bool {
        self.framing != Framing::Whole
    }

    fn script(&self) -> Script {
        let body = &self.exchange.body;
        let ends = self.framing.ends(body);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let pieces = starts.zip(ends.iter().copied()).map(|(start, end)| body.slice(start..end)).collect();
        Script { status: StatusCode::OK, headers: self.exchange.headers.clone(), pieces, end: End::Clean }
    }

    /// With another usage.
    fn rewritten(&self, rewrite: Rewrite) -> Script {
        Script { pieces: vec![self.framing.rewritten(&self.exchange.body, rewrite)], ..self.script() }
    }

    /// Only so many frames, and then this.
    fn cut(&self, frames: usize, end: End) -> Script {
        let script = self.script();
        Script { pieces: script.pieces.into_iter().take(frames).collect(), end, ..script }
    }

    fn status(&self, status: u16) -> Script {
        let mut script = Script { status: StatusCode::from_u16(status).unwrap(), ..self.script() };
        script.headers.insert("content-type", "application/json".parse().unwrap());
        script.headers.insert("retry-after", "0".parse().unwrap());
        script.pieces = vec![Bytes::from_static(b"{\"error\":{\"message\":\"no\"}}")];
        script
    }

    fn followed_by_more(&self) -> Script {
        let mut script = self.script();
        script.pieces.push(Bytes::from_static(MORE));
        script
    }

    /// The ways in which it can end, each with what the books must say.
    fn table(&self) -> Vec<(String, Script, Listens, Expected)> {
        use Expected::{AsRecorded, Counted, Delivered, Nothing, Zero};
        let to_the_end = |name: &str, script, expected| (name.to_owned(), script, Listens::ToTheEnd, expected);
        let counted = !self.expect["usage"].is_null();
        let mut table = vec![
            to_the_end("complete", self.script(), if counted { AsRecorded } else { Counted }),
            to_the_end("without usage", self.rewritten(Rewrite::Leave), Counted),
            to_the_end("with a usage of zero", self.rewritten(Rewrite::Set(0)), if counted { Zero } else { Counted }),
            to_the_end("with an absurd usage", self.rewritten(Rewrite::Set(ABSURD)), Counted),
            to_the_end("refuses our key", self.status(401), Nothing),
            to_the_end("cannot be reached", self.cut(0, End::Unreachable), Nothing),
            to_the_end("never answers", self.cut(0, End::Mute), Nothing),
            to_the_end("is cut before the first byte", self.cut(0, End::Broken), Nothing),
            to_the_end("is empty", self.cut(0, End::Clean), Nothing),
        ];
        if self.is_stream() {
            let frames = self.script().pieces.len();
            table.push(to_the_end(
                "is followed by more",
                self.followed_by_more(),
                if counted { AsRecorded } else { Counted },
            ));
            table.push(to_the_end("falls silent at once", self.cut(0, End::Silent), Nothing));
            table.push(to_the_end("falls silent", self.cut(frames / 2, End::Silent), Delivered));
            for cut in 1..frames {
                table.push(to_the_end(&format!("ends after frame {cut}"), self.cut(cut, End::Clean), Delivered));
                table.push(to_the_end(&format!("breaks after frame {cut}"), self.cut(cut, End::Broken), Delivered));
            }
            for pieces in 0..3 {
                table.push((format!("caller is gone after {pieces}"), self.script(), Listens::For(pieces), Delivered));
            }
        }
        table
    }

    /// Failures that are tried again after a while: once for each provider is enough.
    fn failures(&self) -> Vec<(String, Script, Listens, Expected)> {
        let row = |name: &str, status| (name.to_owned(), self.status(status), Listens::ToTheEnd, Expected::Nothing);
        vec![row("fails before it begins", 500), row("is rate limited", 429)]
    }

    fn call(&self, operation: Operation) -> Call {
        let stream = self.is_stream();
        let messages = json!([{"role": "user", "content": PROMPT}]);
        let body = json!({"model": MODEL, "max_tokens": 900, "stream": stream, "messages": messages});
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        Call::parse(operation, body.to_string().into(), now).unwrap()
    }

    #[track_caller]
    fn check(&self, operation: Operation, played: &Played, expected: Expected) {
        let Played { record, charged, bytes, failed } = played;
        let (usage, source) = (&record.usage, record.source);
        assert_eq!(record.charged_nanos, *charged, "the record says what the budget lost");
        let said = if bytes.is_empty() { Spoken::default() } else { Spoken::of(operation.dialect(), bytes) };
        let delivered = tokens_estimated(said.bytes());
        match expected {
            Expected::AsRecorded => {
                assert!(!failed);
                return self.check_recorded(played);
            }
            Expected::Counted => {
                assert!(!failed && source == UsageSource::Estimated, "{source:?}");
                // Arguments that are an object to the caller may have been a text with spaces.
                let spaces = u64::from(!said.calls().is_empty() && operation == Operation::Messages);
                assert!((delivered..=delivered + spaces).contains(&usage.output_total()), "{delivered}: {usage:?}");
                assert!(usage.input_total() > 0, "the prompt was read");
            }
            Expected::Zero => {
                let (input, output) = (usage.input_total(), usage.output_total());
                assert!(matches!(source, UsageSource::Provider | UsageSource::ProviderCost), "{source:?}");
                return assert_eq!((input, output, *charged), (0, 0, 0), "zero is zero");
            }
            Expected::Nothing => assert_eq!((source, *charged), (UsageSource::None, 0)),
            Expected::Delivered => match source {
                UsageSource::None => assert_eq!(delivered, 0, "it was delivered"),
                UsageSource::ProviderCost => return self.check_cost_so_far(*charged),
                UsageSource::Provider => {} // its word, when nothing came after it
                _ => assert!(usage.output_total() >= delivered, "{delivered} were delivered: {usage:?}"),
            },
        }
        assert_eq!(*charged, price(usage), "{usage:?}");
    }

    #[track_caller]
    fn check_cost_so_far(&self, charged: i64) {
        let whole = nanos(self.expect["usage"]["provider_cost_usd"].as_str().unwrap());
        assert!((1..=whole).contains(&charged), "{charged} of {whole}");
    }

    #[track_caller]
    fn check_recorded(&self, Played { record, charged, .. }: &Played) {
        let recorded = &self.expect["usage"];
        let quantity = |name: &str| recorded[name].as_u64().unwrap_or(0);
        let usage = &record.usage;
        assert_eq!(
            (usage.input_total(), usage.get(Meter::CacheReadTokens), usage.output_total()),
            (quantity("input_total"), quantity("cache_read"), quantity("output_total"))
        );
        match recorded["provider_cost_usd"].as_str() {
            Some(usd) => assert_eq!((record.source, *charged), (UsageSource::ProviderCost, nanos(usd))),
            None => assert_eq!((record.source, *charged), (UsageSource::Provider, price(usage))),
        }
    }
}

/// Of the nearest nano-dollar.
fn nanos(usd: &str) -> i64 {
    let (whole, fraction) = usd.split_once('.').unwrap_or((usd, ""));
    let picos: i64 = format!("{whole}{fraction:0<12}").parse().unwrap();
    picos / 1_000 + i64::from(picos % 1_000 >= 500)
}

/// Recordings by provider.
fn recordings() -> BTreeMap<String, Vec<Recorded>> {
    let files: Vec<PathBuf> = support::recordings(|provider| support::adapter(provider).is_some());
    let mut providers = BTreeMap::<String, Vec<Recorded>>::new();
    for recorded in files.iter().filter_map(|file| Recorded::read(file)) {
        providers.entry(recorded.provider.clone()).or_default().push(recorded);
    }
    assert!(!providers.is_empty(), "no recordings");
    providers
}

/// Plays the whole table of every recording of every provider to callers of one dialect; says all that failed.
async fn settle_all(operation: Operation) {
    let recordings = recordings();
    let providers = recordings.iter().map(|(provider, recordings)| settle(operation, provider, recordings));
    let failed = join_all(providers).await.concat();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

async fn settle(operation: Operation, provider: &str, recordings: &[Recorded]) -> Vec<String> {
    let world = World::of(provider, support::adapter(provider).unwrap()).await;
    let mut failed = Vec::new();
    for (place, recorded) in recordings.iter().enumerate() {
        let failures = if place == 0 { recorded.failures() } else { Vec::new() };
        for (name, script, listens, expected) in recorded.table().into_iter().chain(failures) {
            let played = world.play(recorded.call(operation), script, listens).await;
            let check = std::panic::AssertUnwindSafe(|| recorded.check(operation, &played, expected));
            if let Err(cause) = std::panic::catch_unwind(check) {
                let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
                failed.push(format!("{} {name} ({expected:?}): {}", recorded.name, text.unwrap_or("?")));
            }
        }
    }
    world.close().await;
    failed
}

#[tokio::test]
async fn every_end_of_every_answer_is_charged_by_the_table_for_callers_of_openais_dialect() {
    settle_all(Operation::ChatCompletions).await;
}

#[tokio::test]
async fn every_end_of_every_answer_is_charged_by_the_table_for_callers_of_anthropics_dialect() {
    settle_all(Operation::Messages).await;
}
