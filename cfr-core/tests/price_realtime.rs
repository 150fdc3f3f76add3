//! Conversations: what is held for a response covers whatever a provider may report of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cfr_core::chat::envelope::{Heard, InputBound, Work};
use cfr_core::chat::{Meter, Usage};
use cfr_core::price::{Mode, PriceEntry, PriceTable, PriceTerms};
use cfr_core::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

const CASES: u32 = 3_000;
/// Every meter that a response of the realtime API is counted in.
const INPUT: [Meter; 6] = [
    Meter::InputTokens,
    Meter::InputAudioTokens,
    Meter::InputImageTokens,
    Meter::CacheReadTokens,
    Meter::CacheReadAudioTokens,
    Meter::CacheReadImageTokens,
];

fn now() -> PriceTerms<'static> {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    PriceTerms { at: Some(now), ..PriceTerms::default() }
}

fn input() -> InputBound {
    InputBound { unbounded: true, work: Work::Conversation(Heard::default()), ..InputBound::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_usage_of_a_response_costs_more_than_its_bound(
        which in any::<Index>(), cap in 1..40_000_u64, parts in proptest::array::uniform6(0..1_000_u64), spoken in 0..=1_000_u64,
    ) {
        let table = PriceTable::bundled().unwrap();
        let entries: Vec<_> = table.entries().iter().filter(|entry| entry.mode() == Mode::Realtime).collect();
        let entry = which.get(&entries);
        let said = cap.min(entry.limits().max_output_tokens.unwrap());
        let bound = entry.upper_bound(&input(), 1, &now()).unwrap().total(said);
        let whole = parts.iter().sum::<u64>().max(1);
        let context = entry.limits().max_input_tokens.unwrap();
        let heard = INPUT.iter().zip(parts).fold(Usage::default(), |usage, (meter, part)| usage.with(*meter, context * part / whole));
        let audio = said * spoken / 1_000;
        let usage = heard.with(Meter::OutputAudioTokens, audio).with(Meter::OutputTokens, said - audio);
        let cost = entry.cost(&usage, &now()).unwrap();
        prop_assert!(bound >= cost, "{} {usage:?}: {cost:?} > {bound:?}", entry.model());
    }
}

fn cost(model: &str, usage: &Usage) -> i128 {
    let table = PriceTable::bundled().unwrap();
    let entry: &PriceEntry = table.find("openai", model, now().at.unwrap()).unwrap();
    entry.cost(usage, &now()).unwrap().0
}

#[test]
fn a_response_costs_what_the_published_prices_say() {
    let million = 1_000_000;
    let dollars = |dollars: i128| dollars * 1_000_000_000_000;
    let usage = Usage::default()
        .with(Meter::InputTokens, million)
        .with(Meter::InputAudioTokens, million)
        .with(Meter::InputImageTokens, million)
        .with(Meter::OutputTokens, million)
        .with(Meter::OutputAudioTokens, million);
    assert_eq!(cost("gpt-realtime", &usage), dollars(4 + 32 + 5 + 16 + 64));
    assert_eq!(cost("gpt-realtime-2.1", &usage), dollars(4 + 32 + 5 + 24 + 64));
    let cached = Usage::default()
        .with(Meter::CacheReadTokens, million)
        .with(Meter::CacheReadAudioTokens, million)
        .with(Meter::CacheReadImageTokens, million);
    assert_eq!(cost("gpt-realtime", &cached), dollars(13) / 10);
    assert_eq!(cost("gpt-realtime-mini-2025-12-15", &cached), dollars(44) / 100);
}
