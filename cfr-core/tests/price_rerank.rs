//! Reranks never cost more than their bound, whether searches or tokens are charged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use cfr_core::chat::{Envelope, Meter, Operation, Usage};
use cfr_core::price::{Mode, PicoUsd, PriceEntry, PriceError, PriceTable, PriceTerms};
use cfr_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

const CASES: u32 = 100;
const NOW: &str = "2026-11-21T12:00:00Z";
const UNIT_PIECES: usize = 100;
/// What Cohere adds around a query and a document.
const SPECIAL_TOKENS: usize = 8;

fn table() -> Arc<PriceTable> {
    PriceTable::bundled().unwrap()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn at_now() -> PriceTerms<'static> {
    PriceTerms { at: Some(now()), ..PriceTerms::default() }
}

fn envelope(operation: Operation, body: &Value) -> Envelope {
    Envelope::parse(operation, &body.to_string().into()).unwrap()
}

fn bound(entry: &PriceEntry, envelope: &Envelope) -> Result<PicoUsd, PriceError> {
    entry.upper_bound(&envelope.input, envelope.choices, &at_now()).map(|bound| bound.total(0))
}

fn cost(entry: &PriceEntry, usage: &Usage) -> Result<PicoUsd, PriceError> {
    entry.cost(usage, &at_now())
}

/// What a provider may count: its pieces have this many tokens with the query, and a text this share of its bytes.
struct Counting {
    piece: usize,
    tokens_in_100_bytes: usize,
    cut_at: Option<usize>,
}

impl Counting {
    fn tokens(&self, text: &str) -> usize {
        (text.len() * self.tokens_in_100_bytes).div_ceil(100)
    }

    fn usage(&self, query: &str, documents: &[String]) -> Usage {
        let query = self.tokens(query);
        let read = |text: &String| self.tokens(text).min(self.cut_at.unwrap_or(usize::MAX));
        let room = self.piece.saturating_sub(query).max(1);
        let pieces: usize = documents.iter().map(|text| read(text).div_ceil(room).max(1)).sum();
        let tokens: usize = documents.iter().map(|text| read(text) + query + SPECIAL_TOKENS).sum();
        Usage::text(tokens as u64, 0).with(Meter::RerankQueries, pieces.div_ceil(UNIT_PIECES) as u64)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_rerank_costs_more_than_its_bound(
        which in any::<proptest::sample::Index>(), query in 0..700_usize,
        lengths in proptest::collection::vec(0..6_000_usize, 1..300), piece in 500..513_usize,
        tokens_in_100_bytes in 1..=100_usize, cut in proptest::option::of(1..5_000_usize),
    ) {
        let table = table();
        let entries: Vec<_> = table.entries().iter().filter(|entry| entry.mode() == Mode::Rerank).collect();
        let entry = which.get(&entries);
        let documents: Vec<String> = lengths.iter().map(|bytes| "d".repeat(*bytes)).collect();
        let query = "q".repeat(query);
        let mut body = json!({"model": entry.model(), "query": query, "documents": documents});
        if let Some(cut) = cut {
            body["max_tokens_per_doc"] = cut.into();
        }
        let cuts = entry.provider() == "cohere" || entry.model().contains("cohere.");
        let cut_at = cuts.then_some(cut.unwrap_or(4_096));
        let used = Counting { piece, tokens_in_100_bytes, cut_at }.usage(&query, &documents);
        let bound = bound(entry, &envelope(Operation::Rerank, &body)).unwrap();
        let cost = cost(entry, &used).unwrap();
        prop_assert!(PicoUsd(0) < cost && cost <= bound, "{cost:?} {bound:?} {used:?}");
    }
}

#[track_caller]
fn check(model: &str, usage: Usage, expected: Option<i128>) {
    let table = table();
    let found = cost(table.find("cohere", model, now()).unwrap(), &usage);
    match expected {
        Some(pico) => assert_eq!(found, Ok(PicoUsd(pico))),
        None => assert!(matches!(found, Err(PriceError::UnpricedMeter { .. })), "{found:?}"),
    }
}

#[test]
fn searches_are_charged_or_tokens_whichever_has_a_price() {
    let searches = Usage::default().with(Meter::RerankQueries, 3);
    let tokens = Usage::text(1_000, 0);
    let both = tokens.with(Meter::RerankQueries, 3);
    check("rerank-v3.5", searches, Some(6_000_000_000));
    check("rerank-v3.5", both, Some(6_000_000_000));
    check("rerank-v3.5", tokens, None);
    check("rerank-v5.0-fast", tokens, Some(20_000_000));
    check("rerank-v5.0-fast", both, Some(20_000_000));
    check("rerank-v5.0-fast", searches, None);
}

#[test]
fn a_model_that_is_charged_by_searches_has_no_price_for_a_chat() {
    let table = table();
    let entry = table.find("cohere", "rerank-v3.5", now()).unwrap();
    let chat = envelope(Operation::ChatCompletions, &json!({"model": "rerank-v3.5", "messages": []}));
    let refused = bound(entry, &chat);
    assert!(matches!(refused, Err(PriceError::UnpricedMeter { .. })), "{refused:?}");
}

#[test]
fn a_moderation_is_free_and_not_unpriced() {
    let table = table();
    let entry = table.find("openai", "omni-moderation-latest", now()).unwrap();
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    for input in [json!("a text"), json!(["a", "b"]), json!([image])] {
        let envelope = envelope(Operation::Moderations, &json!({ "input": input }));
        assert_eq!(bound(entry, &envelope), Ok(PicoUsd(0)));
    }
}
