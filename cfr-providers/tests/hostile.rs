//! What a hostile or broken provider can do to the money: nothing but lose us its own answer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::chat::{Call, Operation, UsageSource};
use cfr_core::gateway::{Answer, Caller, Gateway, GatewayConfig, Offer};
use cfr_core::id::{BudgetId, TenantId};
use cfr_core::ledger::{BudgetLedger, BudgetSpec, LimitPolicy, MemoryLedger, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::price::PriceTable;
use cfr_core::route::{Routes, Target};
use cfr_core::time::{Clock, Period, SystemClock, TimeZone};
use cfr_providers::HttpUpstream;
use cfr_providers::openai::OpenAi;
use cfr_providers::openai::quirks::OPENAI;
use cfr_providers::sign::Unsigned;
use cfr_providers::transport::{Body, Transport, TransportError, WireRequest};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

const MODEL: &str = "gpt-5.4-mini";
const INCLUDED_NANOS: i64 = 1_000_000_000;
const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

/// Answers everything with the same bytes, which may never end.
#[derive(Debug, Clone)]
struct Hostile {
    status: StatusCode,
    headers: HeaderMap,
    pieces: Vec<Bytes>,
    endless: bool,
}

#[async_trait]
impl Transport for Hostile {
    async fn send(&self, _: WireRequest, _: Duration) -> Result<Response<Body>, TransportError> {
        let pieces = stream::iter(self.pieces.clone());
        let last = self.pieces.last().cloned().filter(|_| self.endless);
        let forever = stream::iter(last).cycle().then(async |piece| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            piece
        });
        let mut response = Response::new(pieces.chain(forever).map(Ok).boxed() as Body);
        (*response.status_mut(), *response.headers_mut()) = (self.status, self.headers.clone());
        Ok(response)
    }
}

impl Hostile {
    fn says(content_type: &'static str, pieces: &[&str]) -> Self {
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect();
        Self { status: StatusCode::OK, headers, pieces, endless: false }
    }

    fn with_status(self, status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), ..self }
    }
}

/// What came of one call.
struct Outcome {
    delivered: Vec<u8>,
    /// Whether the caller was told of an error.
    failed: bool,
    record: UsageRecord,
}

/// Asks once, reads to the end, and checks what must hold whatever the provider said.
async fn outcome(hostile: Hostile, streamed: bool) -> Outcome {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let budget = BudgetId::generate(clock.now());
    let ledger = Arc::new(MemoryLedger::new(Arc::clone(&clock)).with_budget(BudgetSpec {
        id: budget,
        scope: Scope::Tenant,
        currency: Currency::USD,
        included_nanos: INCLUDED_NANOS,
        policy: LimitPolicy::Hard,
        period: Period::Never,
        zone: TimeZone::UTC,
    }));
    let upstream =
        HttpUpstream::new(Arc::new(OpenAi::new(&OPENAI, None).unwrap()), Arc::new(Unsigned), Arc::new(hostile));
    let offer = Offer {
        routes: Arc::new(Routes::default().with(MODEL, vec![Target::new("hostile", "openai", MODEL)])),
        prices: PriceTable::bundled().unwrap(),
        fx: Arc::new([]),
    };
    let config = GatewayConfig { hold_max: Duration::from_secs(60), ..GatewayConfig::default() };
    let books: Arc<dyn BudgetLedger> = Arc::clone(&ledger) as _;
    let gateway = Gateway::builder(books, offer, Arc::clone(&clock))
        .config(config)
        .upstream("hostile", Arc::new(upstream))
        .build();
    let caller = Arc::new(Caller::new(TenantId::generate(clock.now()), [budget], Currency::USD));
    let body = format!(
        r#"{{"model":"{MODEL}","max_tokens":100,"stream":{streamed},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    let call = Call::parse(Operation::ChatCompletions, body.into(), clock.now()).unwrap();

    let (mut delivered, mut failed) = (Vec::new(), false);
    match gateway.answer(&caller, call).await {
        Ok(Answer::Whole { body, .. }) => delivered.extend_from_slice(&body),
        Ok(Answer::Stream { mut body, .. }) => {
            while let Some(piece) = body.next().await {
                piece.map_or_else(|_| failed = true, |bytes| delivered.extend_from_slice(&bytes));
            }
        }
        Ok(other) => panic!("{other:?}"),
        Err(_) => failed = true,
    }

    let balance = ledger.balance(budget).await.unwrap();
    assert_eq!(balance.held.nanos(), 0, "no hold is stranded");
    assert!(balance.settled.nanos() <= INCLUDED_NANOS, "no budget is overspent");
    let [record] = ledger.records().try_into().unwrap();
    let record: UsageRecord = record;
    assert_eq!(record.charged_nanos, balance.settled.nanos());
    assert_eq!(record.charged_nanos + record.overrun_nanos, record.price_nanos);
    Outcome { delivered, failed, record }
}

fn whole(usage: &str) -> Hostile {
    let answer = r#"{"choices":[{"index":0,"message":{"content":"0123456789"},"finish_reason":"stop"}]"#;
    Hostile::says(JSON, &[&format!(r#"{answer}{usage}}}"#)])
}

fn chunk(choices: &str, rest: &str) -> String {
    format!("data: {{\"choices\":[{choices}]{rest}}}\n\n")
}

const TEXT: &str = r#"{"index":0,"delta":{"content":"0123456789"},"finish_reason":null}"#;
const STOP: &str = r#"{"index":0,"delta":{},"finish_reason":"stop"}"#;
const DONE: &str = "data: [DONE]\n\n";

/// Ten bytes of answer are four tokens when nobody says otherwise.
#[track_caller]
fn assert_counted_from_bytes(outcome: &Outcome, what: &str) {
    let record = &outcome.record;
    assert_eq!((record.source, record.usage.output_total()), (UsageSource::Estimated, 4), "{what}");
    assert!(record.charged_nanos > 0 && record.overrun_nanos == 0, "{what}");
}

#[tokio::test]
async fn a_usage_that_is_none_is_counted_from_bytes() {
    for usage in [
        "",
        r#","usage":null"#,
        r#","usage":7"#,
        r#","usage":"12""#,
        r#","usage":[1,2]"#,
        r#","usage":{"prompt_tokens":-1,"completion_tokens":-1}"#,
        r#","usage":{"prompt_tokens":"9","completion_tokens":"9"}"#,
        r#","usage":{"prompt_tokens":1e400,"completion_tokens":1}"#,
        r#","usage":{"prompt_tokens":{"a":[{"b":1}]},"completion_tokens":1}"#,
        r#","usage":{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":"much"}"#,
    ] {
        let outcome = outcome(whole(usage), false).await;
        assert_counted_from_bytes(&outcome, usage);
    }
}

#[tokio::test]
async fn a_usage_that_no_call_can_have_is_counted_from_bytes() {
    for number in ["18446744073709551615", "9223372036854775807", "36893488147419103232", "1e18", "10000000000"] {
        for usage in [
            format!(r#","usage":{{"prompt_tokens":{number},"completion_tokens":1}}"#),
            format!(r#","usage":{{"prompt_tokens":1,"completion_tokens":{number}}}"#),
            format!(r#","usage":{{"prompt_tokens":{number},"completion_tokens":{number},"total_tokens":{number}}}"#),
            format!(
                r#","usage":{{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{{"cached_tokens":{number}}}}}"#
            ),
        ] {
            assert_counted_from_bytes(&outcome(whole(&usage), false).await, &usage);
            let body = [chunk(TEXT, ""), chunk(STOP, ""), chunk("", &usage), DONE.into()].concat();
            assert_counted_from_bytes(&outcome(Hostile::says(SSE, &[&body]), true).await, &usage);
        }
    }
}

#[tokio::test]
async fn usage_in_the_middle_does_not_hide_what_follows() {
    let early = chunk(TEXT, r#","usage":{"prompt_tokens":100,"completion_tokens":3}"#);
    for end in [chunk(STOP, "") + DONE, String::new()] {
        let pieces = [early.clone(), chunk(TEXT, ""), end.clone()];
        let outcome = outcome(Hostile::says(SSE, &pieces.each_ref().map(String::as_str)), true).await;
        assert_eq!(outcome.record.usage.output_total(), 3 + 4, "{end}");
        assert_eq!(outcome.failed, end.is_empty());
    }
}

#[tokio::test]
async fn of_two_usages_the_later_one_counts_and_of_two_in_one_object_none() {
    let usage = |output: u64| format!(r#","usage":{{"prompt_tokens":5,"completion_tokens":{output}}}"#);
    let body = [chunk(TEXT, &usage(1)), chunk(STOP, &usage(2)), chunk("", &usage(9)), DONE.into()].concat();
    assert_eq!(outcome(Hostile::says(SSE, &[&body]), true).await.record.usage.output_total(), 9);
    let twice = outcome(whole(&format!("{}{}", usage(1), usage(2))), false).await;
    assert!(twice.failed && twice.delivered.is_empty() && twice.record.charged_nanos == 0);
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_and_costs_nothing() {
    let error = r#"{"error":{"message":"no","type":"server_error","code":null}}"#;
    for (hostile, what) in [
        (Hostile::says(JSON, &[error]), "an error under a success status"),
        (Hostile::says(JSON, &[]).with_status(204), "no content"),
        (Hostile::says(SSE, &[]).with_status(204), "no stream"),
        (Hostile::says(JSON, &[error]).with_status(302), "a redirect"),
        (Hostile::says(JSON, &[error]).with_status(999), "no status that anybody knows"),
        (Hostile::says(JSON, &["\u{1f}\u{8b}\u{8}\0\0\0"]), "a compressed body"),
        (Hostile::says(JSON, &[r#"{"choices":[]}"#]), "no choice"),
        (Hostile::says(JSON, &[&"[".repeat(100_000)]), "deep nesting"),
        (Hostile::says(SSE, &[&format!("data: {}\n\n", "{\"a\":".repeat(100_000))]), "a deeply nested chunk"),
        (Hostile::says(SSE, &[DONE]), "an end without an answer"),
        (Hostile::says(SSE, &[&format!("event: error\ndata: {error}\n\n")]), "an error as the first frame"),
        (Hostile::says("text/html", &["<html>"]), "a page"),
    ] {
        for streamed in [false, true] {
            let outcome = outcome(hostile.clone(), streamed).await;
            assert!(outcome.failed, "{what}");
            assert_eq!((outcome.record.charged_nanos, outcome.record.source), (0, UsageSource::None), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_is_cut_whatever_it_is_made_of() {
    for piece in [": keep-alive\n\n", "data:\n\n", "x", "\n", "data: {\"choices\":[]}\n\n"] {
        let text = chunk(TEXT, "");
        let begun = Hostile { endless: true, ..Hostile::says(SSE, &[&text, piece]) };
        let outcome_begun = outcome(begun, true).await;
        assert!(outcome_begun.failed, "{piece:?}");
        assert_eq!(outcome_begun.record.usage.output_total(), 4, "{piece:?}");
        let silent = Hostile { endless: true, ..Hostile::says(SSE, &[piece]) };
        assert!(outcome(silent, true).await.failed, "{piece:?}");
    }
    let trickle = Hostile { endless: true, ..Hostile::says(JSON, &["{", " "]) };
    assert!(outcome(trickle, false).await.failed);
}

#[tokio::test]
async fn words_of_any_length_leave_short_records() {
    let word = "w".repeat(1_000_000);
    let answer = format!(
        r#"{{"model":"{word}","service_tier":"{word}","choices":[{{"index":0,"message":{{"content":"hi"}},"finish_reason":"{word}"}}]}}"#
    );
    let mut hostile = Hostile::says(JSON, &[&answer]);
    hostile.headers.insert("x-request-id", HeaderValue::from_str(&"i".repeat(300_000)).unwrap());
    let record = outcome(hostile, false).await.record;
    let bytes = serde_json::to_vec(&record).unwrap().len();
    assert!(bytes < 4_096, "{bytes} bytes");
}
