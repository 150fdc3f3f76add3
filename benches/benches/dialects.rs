//! What it costs to bring a conversation from a client's dialect to a provider's, and the answer back.
#![expect(clippy::expect_used, reason = "a bench whose input is wrong has nothing to measure")]

use cfr_benches::pairs::{PAIRS, Pair, relay};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use hyper::HeaderMap;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

const WORDS: u32 = 1_000;

/// A question of a kilobyte, read and written for the provider.
#[divan::bench(args = PAIRS)]
fn ask_short(bencher: Bencher<'_, '_>, pair: Pair) {
    ask(bencher, pair, 1_000);
}

/// A conversation of 100 KB.
#[divan::bench(args = PAIRS)]
fn ask_long(bencher: Bencher<'_, '_>, pair: Pair) {
    ask(bencher, pair, 100_000);
}

fn ask(bencher: Bencher<'_, '_>, pair: Pair, bytes: usize) {
    let adapter = pair.adapter().expect("a provider");
    let body = pair.body(pair.model(), bytes, false).expect("JSON");
    bencher.counter(BytesCount::of_slice(&body)).bench(|| {
        let call = pair.call(black_box(&body).clone(), false).expect("a call");
        adapter.encode(&pair.order(&call)).expect("a request").body.len()
    });
}

/// A complete answer of a kilobyte.
#[divan::bench(args = PAIRS)]
fn answer_whole(bencher: Bencher<'_, '_>, pair: Pair) {
    let adapter = pair.adapter().expect("a provider");
    let call = pair.call(pair.body(pair.model(), 1_000, false).expect("JSON"), false).expect("a call");
    let answer = pair.provider.whole();
    bencher
        .bench(|| adapter.decode(&call, &HeaderMap::new(), black_box(&answer).clone()).expect("an answer").body.len());
}

/// A stream, one event per network read; the figure is that of one event.
#[divan::bench(args = PAIRS)]
fn answer_streamed(bencher: Bencher<'_, '_>, pair: Pair) {
    let adapter = pair.adapter().expect("a provider");
    let call = pair.call(pair.body(pair.model(), 1_000, true).expect("JSON"), true).expect("a call");
    let events = pair.provider.stream(WORDS);
    bencher
        .counter(ItemsCount::new(events.len()))
        .with_inputs(|| events.clone())
        .bench_values(|events| relay(&*adapter, &call, events).expect("a stream"));
}
