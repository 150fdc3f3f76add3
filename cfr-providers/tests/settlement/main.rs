//! Every way in which an answer can end, over every recorded answer of every provider, through the gateway and the real
//! ledger: what is charged, where its figures come from, and that the rest is free again, to the nano-dollar
//! (money.md §2.6).
//!
//! Drop a recording into `fixtures/PROVIDER/` and it is settled in every way. `CFR_FIXTURES=DIR` reads another folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod books;
mod frames;
mod heard;
mod recorded;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use cfr_core::chat::usage::tokens_estimated;
use cfr_core::chat::{Call, Meter, Operation, UsageSource};
use cfr_providers::registry::Kind;
use futures_util::future::join_all;

use books::{Listens, Played, World, price};
use frames::Rewrite;
use heard::Count;
use recorded::{Recorded, recordings};
use support::Spoken;
use wire::{End, Script};

/// More tokens than any answer has.
const ABSURD: u64 = 2_000_000_000;

/// What a row of the table expects of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The recorded usage, or the recorded cost of the provider, and nothing else.
    AsRecorded,
    /// Nobody counted: the answer and the prompt, counted by their bytes.
    Counted,
    /// The provider says that nothing was used.
    Zero,
    /// Nothing is charged.
    Nothing,
    /// What arrived is charged, to the token: the provider's count so far, and by its bytes what came after that.
    Arrived,
}

/// A way in which a call can go.
struct Row {
    name: String,
    /// What each account at the provider answers; the next one is asked when one fails before its answer began.
    scripts: Vec<Script>,
    listens: Listens,
    expected: Expected,
    /// How often a provider is asked; where one account fails, it may be asked several times.
    requests: Option<usize>,
}

impl Row {
    fn new(name: impl Into<String>, script: Script, expected: Expected) -> Self {
        let (scripts, listens) = (vec![script], Listens::ToTheEnd);
        Self { name: name.into(), scripts, listens, expected, requests: None }
    }

    /// One account fails like that; another one answers, if it is asked.
    fn replaced(name: impl Into<String>, script: Script, recorded: &Recorded, expected: Expected) -> Self {
        let asked = if expected == Expected::Arrived { 1 } else { 2 };
        let scripts = vec![script, recorded.script()];
        Self { scripts, requests: Some(asked), ..Self::new(name, recorded.script(), expected) }
    }
}

/// How a recorded answer can end, each with what the books must say.
fn table(recorded: &Recorded) -> Vec<Row> {
    use Expected::{AsRecorded, Counted, Nothing, Zero};
    let counted = recorded.is_counted();
    let mut table = vec![
        Row::new("complete", recorded.script(), if counted { AsRecorded } else { Counted }),
        Row::new("without usage", recorded.rewritten(Rewrite::Leave), Counted),
        Row::new("a usage of zero", recorded.rewritten(Rewrite::Set(0)), if counted { Zero } else { Counted }),
        Row::new("an absurd usage", recorded.rewritten(Rewrite::Set(ABSURD)), Counted),
        Row::new("refuses our key", recorded.status(401), Nothing),
        Row::new("cannot be reached", recorded.cut(0, End::Unreachable), Nothing),
        Row::new("never answers", recorded.cut(0, End::Mute), Nothing),
        Row::new("is cut before the first byte", recorded.cut(0, End::Broken), Nothing),
        Row::new("is empty", recorded.cut(0, End::Clean), Nothing),
        Row::new("is cut inside of the first frame", recorded.torn(0, End::Broken), Nothing),
    ];
    if recorded.is_stream() {
        table.extend(ends_of_a_stream(recorded));
    }
    table
}

fn ends_of_a_stream(recorded: &Recorded) -> Vec<Row> {
    use Expected::{Arrived, AsRecorded, Counted, Nothing};
    let frames = recorded.script().pieces.len();
    let whole = if recorded.is_counted() { AsRecorded } else { Counted };
    let mut rows = vec![
        Row::new("is followed by more", recorded.followed_by_more(), whole),
        Row::new("falls silent at once", recorded.cut(0, End::Silent), Nothing),
        Row::new("falls silent", recorded.cut(frames / 2, End::Silent), Arrived),
    ];
    for cut in 1..frames {
        rows.push(Row::new(format!("ends after frame {cut}"), recorded.cut(cut, End::Clean), Arrived));
        rows.push(Row::new(format!("breaks after frame {cut}"), recorded.cut(cut, End::Broken), Arrived));
        rows.push(Row::new(format!("ends inside of frame {cut}"), recorded.torn(cut, End::Clean), Arrived));
        rows.push(Row::new(format!("breaks inside of frame {cut}"), recorded.torn(cut, End::Broken), Arrived));
        rows.push(Row::new(format!("reports a failure after frame {cut}"), recorded.failing(cut), Arrived));
    }
    let gone = (0..frames).map(|pieces| {
        let row = Row::new(format!("caller is gone after {pieces}"), recorded.script(), Arrived);
        Row { listens: Listens::For(pieces), ..row }
    });
    rows.extend(gone);
    rows
}

/// Failures that are tried again, at the same account or another one.
fn failures(recorded: &Recorded) -> Vec<Row> {
    use Expected::{Arrived, AsRecorded, Counted, Nothing};
    let whole = if recorded.is_counted() { AsRecorded } else { Counted };
    let replaced = |name: &str, script| Row::replaced(name, script, recorded, whole);
    let mut rows = vec![
        Row::new("fails before it begins", recorded.status(500), Nothing),
        Row::new("is rate limited", recorded.status(429), Nothing),
        replaced("another account answers for one that fails", recorded.status(500)),
        replaced("another account answers for one that is rate limited", recorded.status(429)),
        replaced("another account answers for one whose key is refused", recorded.status(401)),
        replaced("another account answers for one that is not reached", recorded.cut(0, End::Unreachable)),
        replaced("another account answers for one that never answers", recorded.cut(0, End::Mute)),
        replaced("another account answers for one that is cut", recorded.cut(0, End::Broken)),
    ];
    if recorded.is_stream() {
        let half = recorded.cut(recorded.script().pieces.len() / 2, End::Broken);
        rows.extend([
            replaced("another account answers for one that reports a failure", recorded.failing(0)),
            replaced("another account answers for one that falls silent", recorded.cut(0, End::Silent)),
            Row::replaced("nobody answers for one that has begun", half, recorded, Arrived),
        ]);
    }
    rows
}

#[track_caller]
fn check(recorded: &Recorded, call: &Call, played: &Played, row: &Row) {
    let Played { record, charged, bytes, failed, .. } = played;
    let (usage, source) = (&record.usage, record.source);
    assert_eq!(record.charged_nanos, *charged, "the record says what the budget lost");
    let spoken = if bytes.is_empty() { Spoken::default() } else { Spoken::of(call.operation.dialect(), bytes) };
    match row.expected {
        Expected::AsRecorded => {
            assert_eq!(*failed, None);
            check_recorded(recorded, played);
        }
        Expected::Counted => {
            assert_eq!((failed, source, usage.input_total()), (&None, UsageSource::Estimated, prompt(call)));
            let said = recorded.heard(&played.taken).bytes;
            // A refusal that the provider has no words for gets words of ours.
            let wordless = said == 0 && recorded.expect["finish_reason"] == "content_filter";
            let said_most = if wordless { spoken.bytes() } else { said };
            let output = usage.output_total();
            assert!(
                (tokens_estimated(said)..=tokens_estimated(said_most)).contains(&output),
                "{output} for {said} bytes"
            );
        }
        Expected::Zero => {
            let (input, output) = (usage.input_total(), usage.output_total());
            assert!(matches!(source, UsageSource::Provider | UsageSource::ProviderCost), "{source:?}");
            assert_eq!((input, output, *charged), (0, 0, 0), "zero is zero");
        }
        Expected::Nothing => assert_eq!((source, *charged), (UsageSource::None, 0)),
        Expected::Arrived => check_arrived(recorded, call, played),
    }
    if source != UsageSource::ProviderCost {
        assert_eq!(*charged, price(usage), "{usage:?}");
    }
    if matches!(source, UsageSource::Partial | UsageSource::Estimated) {
        // Arguments that are an object to the caller may have been a text with spaces, or without them.
        let spaces = u64::from(spoken.has_called());
        assert!(usage.output_total() + spaces >= tokens_estimated(spoken.bytes()), "the caller has more: {usage:?}");
    }
    if let Some(requests) = row.requests {
        assert_eq!((played.requests, record.attempts.len()), (requests, requests - 1), "{:?}", record.attempts);
    }
}

/// Tokens that the prompt is taken for.
fn prompt(call: &Call) -> u64 {
    tokens_estimated(call.body.len() as u64).min(call.envelope.input.text_tokens)
}

#[track_caller]
fn check_arrived(recorded: &Recorded, call: &Call, played: &Played) {
    let (record, heard) = (&played.record, recorded.heard(&played.taken));
    let used = Count {
        input: record.usage.input_total(),
        cached: record.usage.get(Meter::CacheReadTokens),
        output: record.usage.output_total(),
    };
    let (source, is_broken) = (record.source, record.status >= 500);
    match heard.count() {
        // Its word, and nothing came after it.
        Some((count, 0)) => {
            assert!(matches!(source, UsageSource::Provider | UsageSource::ProviderCost), "{source:?}");
            assert_eq!(used, count);
        }
        Some((count, _)) => {
            assert!(matches!(source, UsageSource::Partial | UsageSource::Estimated), "{source:?}");
            assert_eq!(used, count);
        }
        None if heard.bytes == 0 && is_broken => assert_eq!((source, played.charged), (UsageSource::None, 0)),
        None => {
            assert!(matches!(source, UsageSource::Partial | UsageSource::Estimated), "{source:?}");
            assert_eq!(used, Count { input: prompt(call), cached: 0, output: tokens_estimated(heard.bytes) });
        }
    }
    if source == UsageSource::ProviderCost {
        let whole = nanos(recorded.expect["usage"]["provider_cost_usd"].as_str().unwrap());
        assert!((1..=whole).contains(&played.charged), "{} of {whole}", played.charged);
    }
}

#[track_caller]
fn check_recorded(recorded: &Recorded, Played { record, charged, .. }: &Played) {
    let recorded = &recorded.expect["usage"];
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

/// Of the nearest nano-dollar.
fn nanos(usd: &str) -> i64 {
    let (whole, fraction) = usd.split_once('.').unwrap_or((usd, ""));
    let picos: i64 = format!("{whole}{fraction:0<12}").parse().unwrap();
    picos / 1_000 + i64::from(picos % 1_000 >= 500)
}

/// Plays the whole table of every recording of every provider to callers of one dialect; says all that failed.
async fn settle_all(operation: Operation) {
    let recordings = recordings(&support::folder_of_recordings());
    let providers = recordings.iter().map(|(provider, recordings)| settle(operation, provider, recordings));
    let failed = join_all(providers).await.concat();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

async fn settle(operation: Operation, provider: &str, recordings: &[Recorded]) -> Vec<String> {
    let world = World::of(provider, support::adapter(provider).unwrap()).await;
    let mut failed = Vec::new();
    for (place, recorded) in recordings.iter().enumerate() {
        // Once for an answer and once for a stream.
        let is_first = recordings[..place].iter().all(|earlier| earlier.is_stream() != recorded.is_stream());
        let failures = if is_first { failures(recorded) } else { Vec::new() };
        for row in table(recorded).into_iter().chain(failures) {
            let call = recorded.call(operation);
            let played = world.play(recorded.call(operation), row.scripts.clone(), row.listens).await;
            let checked = std::panic::AssertUnwindSafe(|| check(recorded, &call, &played, &row));
            if let Err(cause) = std::panic::catch_unwind(checked) {
                let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
                let (name, expected) = (&row.name, row.expected);
                failed.push(format!("{} {name} ({expected:?}): {}", recorded.name, text.unwrap_or("?")));
            }
        }
    }
    world.close().await;
    failed
}

#[test]
fn every_provider_of_the_registry_has_an_answer_and_a_stream_in_the_table() {
    let recordings = recordings(&support::own_folder());
    for kind in Kind::all() {
        for stream in [false, true] {
            let has = |recorded: &Recorded| recorded.is_stream() == stream;
            let found = recordings.get(kind.name()).is_some_and(|recordings| recordings.iter().any(has));
            assert!(found, "no recording of {} with stream: {stream}", kind.name());
        }
    }
}

#[tokio::test]
async fn every_end_of_every_answer_is_charged_by_the_table_for_callers_of_chat_completions() {
    settle_all(Operation::ChatCompletions).await;
}

#[tokio::test]
async fn every_end_of_every_answer_is_charged_by_the_table_for_callers_of_messages() {
    settle_all(Operation::Messages).await;
}

#[tokio::test]
async fn every_end_of_every_answer_is_charged_by_the_table_for_callers_of_responses() {
    settle_all(Operation::Responses).await;
}

#[tokio::test]
async fn every_end_of_every_answer_is_charged_by_the_table_for_callers_of_generate_content() {
    settle_all(Operation::GenerateContent).await;
}
