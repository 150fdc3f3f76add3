//! Recorded exchanges are the evidence: what we send, and what we understand, against files that anyone can add to.
//!
//! Every `fixtures/PROVIDER/*.json` is a case. Here are those of servers that speak OpenAI's dialect, PROVIDER being a row
//! of the table of quirks, for callers who speak it too; `across` has all of them for callers of every dialect. Drop a
//! file in and it is tested. `CFR_FIXTURES=DIR cargo test -p cfr-providers` reads another folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;

use bytes::Bytes;
use cfr_core::chat::Dialect;
use cfr_core::upstream::{Reply, UpstreamError};
use cfr_providers::Quirks;
use cfr_providers::transport::replay::{Exchange, Replay};
use support::{Case, run};

/// One of our own cases, whatever folder the others are read from.
fn own(name: &str) -> Case {
    Case::read(&support::own_folder().join(name).with_extension("json"))
}

fn cases() -> Vec<Case> {
    let speaks = |provider: &str| Quirks::by_name(provider).is_some();
    // `requests` has what is no JSON, and OpenAI's other dialect.
    let ours = |file: &&PathBuf| support::operation_of(&Exchange::read(file).unwrap().path).is_some();
    let cases: Vec<Case> = support::recordings(speaks).iter().filter(ours).map(|file| Case::read(file)).collect();
    assert!(!cases.is_empty(), "no cases");
    cases
}

fn streams() -> Vec<Case> {
    cases().into_iter().filter(Case::is_stream).collect()
}

#[tokio::test]
async fn every_recorded_exchange_is_understood() {
    for case in cases() {
        let outcome = run(&case, Replay::new(case.exchange.clone())).await;
        case.check(&outcome);
        let outcome = run(&case, Replay::new(case.exchange.clone()).in_pieces(7)).await;
        case.check(&outcome);
    }
}

#[tokio::test]
async fn bytes_of_an_answer_are_handed_on_untouched() {
    for case in cases()
        .into_iter()
        .filter(|case| case.exchange.status.is_success() && !case.is_broken() && !case.is_synthetic())
    {
        let outcome = run(&case, Replay::new(case.exchange.clone())).await;
        assert_eq!(outcome.bytes, case.exchange.body, "{}", case.name);
    }
}

#[test]
fn a_stream_torn_anywhere_says_the_same() {
    for case in streams() {
        let body = &case.exchange.body;
        let whole = case.relay([&body[..]]);
        for at in 1..body.len() {
            let torn = case.relay([&body[..at], &body[at..]]);
            // Nothing after the end is waited for, the last line end neither.
            assert_eq!(torn.bytes.trim_ascii_end(), whole.bytes.trim_ascii_end(), "{} torn at {at}", case.name);
            assert_eq!(torn.report, whole.report, "{} torn at {at}", case.name);
        }
    }
}

#[tokio::test]
async fn a_stream_cut_before_its_finish_reason_is_truncated_and_after_it_is_whole() {
    for case in streams().into_iter().filter(|case| !case.is_broken()) {
        for at in frame_ends(&case.exchange.body) {
            let mut exchange = case.exchange.clone();
            exchange.body.truncate(at);
            let finished = support::Spoken::of(Dialect::OpenAi, &exchange.body).has_ended();
            let cut = run(&case, Replay::new(exchange)).await;
            match &cut.error {
                None => {
                    assert!(finished && cut.bytes.trim_ascii_end().ends_with(b"[DONE]"), "{} cut at {at}", case.name)
                }
                Some(error) => {
                    assert!(
                        !finished && matches!(error, UpstreamError::Truncated { .. }),
                        "{} at {at}: {error}",
                        case.name
                    );
                }
            }
        }
    }
}

#[test]
fn a_stream_cut_inside_a_frame_is_whole_or_truncated_and_never_half_a_frame() {
    for case in streams().into_iter().filter(|case| !case.is_broken()) {
        for at in 1..case.exchange.body.len() {
            let cut = case.relay([&case.exchange.body[..at]]);
            let spoken = support::Spoken::of(Dialect::OpenAi, &cut.bytes);
            match &cut.error {
                None => assert!(spoken.done && spoken.finish.is_some(), "{} cut at {at}: {:?}", case.name, cut.bytes),
                Some(error) => {
                    assert!(matches!(error, UpstreamError::Truncated { .. }), "{} cut at {at}: {error}", case.name)
                }
            }
        }
    }
}

#[tokio::test]
async fn an_error_as_the_first_frame_is_as_good_as_an_error_status() {
    let mut case = own("openrouter/stream_error");
    case.exchange.body = Bytes::from_static(b": wait\n\ndata: {\"error\":{\"code\":429,\"message\":\"busy\"}}\n\n");
    let outcome = run(&case, Replay::new(case.exchange.clone())).await;
    assert!(matches!(outcome.error, Some(UpstreamError::RateLimited { exhausted: false, .. })), "{:?}", outcome.error);
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_stream_is_truncated_whatever_was_seen() {
    for case in streams().into_iter().filter(|case| !case.is_broken()) {
        let first = frame_ends(&case.exchange.body)[0];
        let mut exchange = case.exchange.clone();
        exchange.body.truncate(first);
        let broken = run(&case, Replay::new(exchange).then_broken()).await;
        assert!(matches!(broken.error, Some(UpstreamError::Truncated { .. })), "{}: {:?}", case.name, broken.error);
    }
}

#[tokio::test]
async fn a_caller_who_does_not_ask_for_usage_sees_none_and_we_still_do() {
    for case in streams().into_iter().filter(|case| !case.is_broken() && case.asks_for_usage()) {
        let silent = case.without_asking_for_usage();
        let outcome = run(&silent, Replay::new(silent.exchange.clone())).await;
        assert_eq!(outcome.error.as_ref().map(ToString::to_string), None, "{}", case.name);
        let lines: Vec<_> = outcome.bytes.split(|byte| *byte == b'\n').collect();
        let has_usage_chunk = lines.iter().any(|line| {
            let chunk =
                line.strip_prefix(b"data: ").and_then(|json| serde_json::from_slice::<serde_json::Value>(json).ok());
            chunk.is_some_and(|chunk| chunk["choices"] == serde_json::json!([]) && chunk["usage"].is_object())
        });
        assert!(!has_usage_chunk, "{}", case.name);
        assert_eq!(
            outcome.report.usage,
            run(&case, Replay::new(case.exchange.clone())).await.report.usage,
            "{}",
            case.name
        );
        assert!(outcome.report.usage.is_some(), "{}", case.name);
    }
}

#[tokio::test]
async fn what_is_not_an_answer_is_malformed() {
    let case = own("openai/plain");
    for body in [
        "",
        "<html>busy</html>",
        "[]",
        "7",
        "{}",
        r#"{"choices":[]}"#,
        r#"{"choices":null}"#,
        "{\"choices\":[{}",
        "\u{0}",
    ] {
        let mut exchange = case.exchange.clone();
        exchange.body = Bytes::copy_from_slice(body.as_bytes());
        let outcome = run(&case, Replay::new(exchange)).await;
        assert!(matches!(outcome.error, Some(UpstreamError::Malformed { .. })), "{body}: {:?}", outcome.error);
    }
}

#[tokio::test]
async fn an_answer_without_usage_reports_none() {
    let mut case = own("openai/plain");
    let mut body: serde_json::Value = serde_json::from_slice(&case.exchange.body).unwrap();
    body.as_object_mut().unwrap().remove("usage");
    case.exchange.body = body.to_string().into();
    let outcome = run(&case, Replay::new(case.exchange.clone())).await;
    assert_eq!(outcome.report.usage, None);
    assert_eq!(outcome.report.output_bytes, "Lisbon.".len() as u64);
}

#[tokio::test]
async fn an_error_body_that_is_a_page_keeps_its_status() {
    let mut case = own("openai/plain");
    case.exchange.body = Bytes::from_static(b"<html>bad gateway</html>");
    case.exchange.status = http::StatusCode::BAD_GATEWAY;
    let outcome = run(&case, Replay::new(case.exchange.clone())).await;
    assert_eq!(outcome.error.unwrap().to_string(), "upstream failed with 502 Bad Gateway: a page instead of an answer");
}

#[tokio::test]
async fn the_providers_request_id_is_kept() {
    let case = own("openai/plain");
    let upstream = case.upstream(Replay::new(case.exchange.clone()));
    let Reply::Whole(reply) = support::send(&upstream, &case).await.unwrap() else { panic!("not whole") };
    assert_eq!(reply.upstream_id.as_deref(), Some("req_fx0000000000000000000000000000001"));
}

fn frame_ends(body: &[u8]) -> Vec<usize> {
    let ends = |end: &'static [u8]| memchr::memmem::find_iter(body, end).map(|at| at + end.len());
    ends(b"\n\n").chain(ends(b"\r\n\r\n")).collect()
}
