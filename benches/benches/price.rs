//! What a call costs, at the most and in the end.
#![expect(clippy::expect_used, reason = "a bench whose input is wrong has nothing to measure")]

use cfr_benches::body::{MODEL, Wish, chat};
use cfr_core::chat::{Envelope, Meter, Operation, Usage};
use cfr_core::price::{PriceTable, PriceTerms};
use cfr_core::time::{Clock, SystemClock};
use divan::{Bencher, black_box};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BUNDLED: &[u8] = include_bytes!("../../cfr-core/data/prices.json");

fn main() {
    divan::main();
}

/// The bundled table, from its bytes: a part of every start.
#[divan::bench]
fn load(bencher: Bencher<'_, '_>) {
    bencher.bench(|| PriceTable::from_json(black_box(BUNDLED)).expect("our own table"));
}

/// Its bytes as a tree, unchecked.
#[divan::bench]
fn load_value_tree(bencher: Bencher<'_, '_>) {
    bencher.bench(|| serde_json::from_slice::<serde_json::Value>(black_box(BUNDLED)).expect("our own table"));
}

#[divan::bench]
fn find(bencher: Bencher<'_, '_>) {
    let (table, now) = (PriceTable::bundled().expect("our own table"), SystemClock::new().now());
    bencher.bench(|| table.find("openai", black_box(MODEL), now));
}

#[divan::bench]
fn upper_bound(bencher: Bencher<'_, '_>) {
    let (table, now) = (PriceTable::bundled().expect("our own table"), SystemClock::new().now());
    let entry = table.find("openai", MODEL, now).expect("a priced model");
    let body = chat(1_000, Wish::default()).expect("JSON").into();
    let envelope = Envelope::parse(Operation::ChatCompletions, &body).expect("a chat");
    let terms = PriceTerms { at: Some(now), ..PriceTerms::default() };
    bencher.bench(|| entry.upper_bound(black_box(&envelope.input), envelope.choices, &terms));
}

#[divan::bench]
fn cost(bencher: Bencher<'_, '_>) {
    let (table, now) = (PriceTable::bundled().expect("our own table"), SystemClock::new().now());
    let entry = table.find("openai", MODEL, now).expect("a priced model");
    let usage = Usage::text(1_200, 300).with(Meter::CacheReadTokens, 800);
    let terms = PriceTerms { at: Some(now), ..PriceTerms::default() };
    bencher.bench(|| entry.cost(black_box(&usage), &terms));
}
