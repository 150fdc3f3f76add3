//! The promise behind every hold: no usage that a call can have costs more than its bound.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use cfr_core::chat::envelope::InputBound;
use cfr_core::chat::{Meter, Usage};
use cfr_core::money::{Currency, FxRate, Margin};
use cfr_core::price::{Bound, Mode, OwnPrice, PicoUsd, PriceEntry, PriceError, PriceTable, PriceTerms, UnitPrice};
use cfr_core::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

const CASES: u32 = 5_000;
const NOW: &str = "2026-11-21T12:00:00Z";

fn table() -> Arc<PriceTable> {
    PriceTable::bundled().unwrap()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

#[track_caller]
fn entry<'a>(table: &'a PriceTable, provider: &str, model: &str) -> &'a PriceEntry {
    table.find(provider, model, now()).unwrap()
}

fn text(tokens: u64) -> InputBound {
    InputBound { text_tokens: tokens, ..InputBound::default() }
}

fn at_now() -> PriceTerms<'static> {
    PriceTerms { at: Some(now()), ..PriceTerms::default() }
}

const TIERS: [Option<&str>; 9] = [
    None,
    Some("auto"),
    Some("default"),
    Some("flex"),
    Some("priority"),
    Some("batch"),
    Some("fast"),
    Some("ultrafast"),
    Some("standard"),
];
const REGIONS: [Option<&str>; 5] = [None, Some("eu"), Some("us"), Some("global"), Some("europe-west4")];
const GEOS: [Option<&str>; 3] = [None, Some("us"), Some("global")];
const INPUT: [Meter; 3] = [Meter::InputTokens, Meter::CacheReadTokens, Meter::CacheWriteTokens];
const OUTPUT: [Meter; 2] = [Meter::OutputTokens, Meter::ReasoningTokens];

/// How a number of tokens is split over meters.
fn split(usage: Usage, meters: &[Meter], tokens: u64, cuts: &[u64]) -> Usage {
    let mut left = tokens;
    let mut usage = usage;
    for (meter, cut) in meters.iter().zip(cuts) {
        let taken = if meters.last() == Some(meter) { left } else { left.min(*cut) };
        usage = usage.with(*meter, taken);
        left -= taken;
    }
    usage
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_usage_costs_more_than_its_bound(
        which in any::<Index>(), tier in proptest::sample::select(&TIERS[..]),
        served in proptest::sample::select(&TIERS[..]), region in proptest::sample::select(&REGIONS[..]),
        input_max in 0..2_000_000_u64, input_used in 0.0..=1.0_f32, cuts in proptest::collection::vec(0..1_000_000_u64, 3),
        cap in 1..200_000_u64, output_used in 0.0..=1.0_f32, choices in 1..4_u32, images in 0..3_u32,
        unbounded in any::<bool>(), marked in any::<bool>(), hour in 0..336_i64,
        geo in proptest::sample::select(&GEOS[..]), served_geo in proptest::sample::select(&GEOS[..]),
    ) {
        let table = table();
        let entries: Vec<_> = table.entries().iter().filter(|entry| matches!(entry.mode(), Mode::Chat | Mode::Embedding)).collect();
        let entry = which.get(&entries);
        let at = now() + jiff::SignedDuration::from_hours(hour);
        let asked = PriceTerms { tier, region, geo, at: Some(at), ..PriceTerms::default() };
        let input = InputBound { text_tokens: input_max, images, unbounded, cache_markers: marked, ..InputBound::default() };
        let bound = match entry.upper_bound(&input, choices, &asked) {
            Ok(bound) => bound,
            Err(PriceError::UnboundedInput { .. } | PriceError::UnpricedTier { .. } | PriceError::UnpricedMeter { .. } | PriceError::UnpricedGeo { .. }) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        // The provider keeps to the bound on the input, to its own context, and to the cap.
        let context = entry.limits().max_input_tokens.unwrap_or(u64::MAX);
        let input_most = if unbounded { context } else if entry.mode() == Mode::Chat { input_max.min(context) } else { input_max };
        let meters: &[Meter] = if marked { &[Meter::InputTokens, Meter::CacheWrite1hTokens, Meter::CacheWrite12hTokens] } else { &INPUT };
        let usage = split(Usage::default(), meters, share(input_most, input_used), &cuts);
        let answer = cap.max(bound.output_tokens_floor).saturating_mul(u64::from(choices));
        let output = if entry.mode() == Mode::Chat { share(answer, output_used) } else { 0 };
        let usage = split(usage, &OUTPUT, output, &cuts);
        // It serves on the tier that was asked for, or on the standard one.
        let served = if served == tier { tier } else { None };
        // It answers where it was asked to, and where it likes when nobody says.
        let served_geo = geo.or(served_geo);
        let cost = match entry.cost(&usage, &PriceTerms { tier: served, geo: served_geo, ..asked }) {
            Err(PriceError::UnpricedGeo { .. }) => return Ok(()), // charged with the whole hold
            cost => cost.unwrap(),
        };
        prop_assert!(bound.total(cap) >= cost, "{} {usage:?}: {cost:?} > {bound:?}", entry.model());
        prop_assert!(bound.total(u64::MAX) >= bound.total(cap));
    }

    #[test]
    fn a_cost_grows_with_each_meter(
        which in any::<Index>(), meter in proptest::sample::select(&[Meter::InputTokens, Meter::OutputTokens][..]),
        quantity in 0..1_000_000_000_u64, more in 0..1_000_000_u64,
    ) {
        let table = table();
        let entries: Vec<_> = table.entries().iter().filter(|entry| entry.mode() == Mode::Chat).collect();
        let entry = which.get(&entries);
        let cost = |quantity| entry.cost(&Usage::default().with(meter, quantity), &at_now()).unwrap();
        prop_assert!(cost(quantity) <= cost(quantity + more));
    }

    #[test]
    fn no_quantity_makes_pricing_panic(which in any::<Index>(), quantity in any::<u64>(), text_tokens in any::<u64>(), choices in any::<u32>()) {
        let table = table();
        let entry = which.get(table.entries());
        let usage = Meter::ALL.iter().fold(Usage::default(), |usage, meter| usage.with(*meter, quantity));
        let _ = entry.cost(&usage, &at_now());
        let input = InputBound { text_tokens, images: choices, web_searches: choices, ..InputBound::default() };
        if let Ok(bound) = entry.upper_bound(&input, choices, &at_now()) {
            prop_assert!(bound.total(quantity) >= bound.fixed);
        }
    }

    #[test]
    fn the_cap_that_fits_is_the_largest_one(fixed in 0..1_i64 << 60, per_token in 0..1_i64 << 40, floor in 0..1_000_u64, cost in any::<i64>()) {
        let bound = Bound { fixed: PicoUsd(fixed.into()), per_output_token: PicoUsd(per_token.into()), output_tokens_floor: floor, output_tokens_model_max: None };
        let cost = PicoUsd(cost.into());
        match bound.output_tokens_within(cost) {
            Some(u64::MAX) => prop_assert!(per_token == 0 || bound.total(u64::MAX >> 1) <= cost),
            Some(tokens) => prop_assert!(bound.total(tokens) <= cost && bound.total(tokens + 1) > cost),
            None => prop_assert!(bound.total(0) > cost),
        }
    }

    #[test]
    fn a_hold_covers_the_charge_of_the_same_cost(cost in 0..i128::from(u64::MAX), rate in 1..1_000_000_000_000_i64, bps in 0..=100_000_u32) {
        let fx = FxRate::new(Currency::EUR, rate).unwrap();
        let margin = Margin::from_bps(bps).unwrap();
        if let Ok(hold) = fx.hold(PicoUsd(cost), margin) {
            let charge = fx.charge(PicoUsd(cost), margin).unwrap();
            prop_assert!(hold.nanos() >= charge.price.nanos());
            prop_assert_eq!(charge.cost.checked_add(charge.margin).unwrap(), charge.price);
        }
    }
}

#[expect(
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a test's range"
)]
fn share(most: u64, part: f32) -> u64 {
    ((most as f64 * f64::from(part)) as u64).min(most)
}

#[track_caller]
fn check(provider: &str, model: &str, input: &InputBound, tier: Option<&str>, fixed: i128, per_token: i128) {
    let table = table();
    let bound = entry(&table, provider, model).upper_bound(input, 1, &PriceTerms { tier, ..at_now() }).unwrap();
    assert_eq!((bound.fixed.0, bound.per_output_token.0), (fixed, per_token), "{bound:?}");
}

#[test]
fn a_plain_call_is_bounded_by_input_output_and_the_overshoot() {
    check("openai", "gpt-4o", &text(1_000), None, 1_000 * 2_500_000 + 8 * 10_000_000, 10_000_000);
}

#[test]
fn a_cache_write_that_the_provider_may_charge_is_the_input_rate() {
    check("openai", "gpt-6-sol", &text(1_000), None, 1_000 * 2_500_000 + 8 * 10_000_000, 10_000_000);
}

#[test]
fn a_prompt_that_may_be_long_pays_the_long_band() {
    check("openai", "gpt-5.5", &text(272_001), None, 272_001 * 10_000_000 + 8 * 45_000_000, 45_000_000);
}

#[test]
fn auto_may_be_served_with_priority() {
    let table = table();
    let bound = |tier| {
        entry(&table, "openai", "gpt-5.5")
            .upper_bound(&text(10), 1, &PriceTerms { tier, ..at_now() })
            .unwrap()
            .per_output_token
    };
    assert_eq!(bound(Some("auto")), bound(Some("priority")));
    assert!(bound(Some("auto")) > bound(Some("default")));
    assert_eq!(bound(Some("flex")), bound(None));
}

#[test]
fn a_dear_tier_without_a_rate_is_refused() {
    let table = table();
    let entry = entry(&table, "mistral", "mistral-large-4");
    let terms = PriceTerms { tier: Some("priority"), ..at_now() };
    let refused = Err(PriceError::UnpricedTier { model: "mistral-large-4".into(), tier: "priority".into() });
    assert_eq!(entry.upper_bound(&text(10), 1, &terms).map(|_| ()), refused);
    assert_eq!(entry.cost(&Usage::text(1, 1), &terms).map(|_| ()), refused);
    assert!(entry.cost(&Usage::text(1, 1), &PriceTerms { tier: Some("warp"), ..at_now() }).is_err());
}

#[test]
fn the_models_context_caps_the_input() {
    let table = table();
    let bound = |tokens| entry(&table, "openai", "gpt-4o").upper_bound(&text(tokens), 1, &at_now()).unwrap();
    assert_eq!(bound(128_000), bound(900_000));
}

#[test]
fn the_limit_of_one_text_does_not_cap_many_embeddings() {
    let table = table();
    let entry = entry(&table, "openai", "text-embedding-3-small");
    let bound = |tokens| entry.upper_bound(&text(tokens), 1, &at_now()).unwrap();
    assert_eq!(bound(1_000_000).fixed.0, 1_000_000 * 20_000);
    assert_eq!(bound(10).per_output_token.0, 0);
}

#[test]
fn answers_multiply_the_output_and_not_the_input() {
    let table = table();
    let entry = entry(&table, "openai", "gpt-4o");
    let bound = |choices| entry.upper_bound(&text(0), choices, &at_now()).unwrap();
    assert_eq!(bound(3).per_output_token.0, 3 * bound(1).per_output_token.0);
}

#[test]
fn images_count_by_family_and_unknown_families_fill_the_context() {
    let table = table();
    let image = InputBound { images: 2, ..InputBound::default() };
    let bound = |model| entry(&table, "openai", model).upper_bound(&image, 1, &at_now()).unwrap().fixed.0;
    assert_eq!(bound("gpt-4o"), 2 * 1_445 * 2_500_000 + 8 * 10_000_000);
    let full = text(u64::MAX);
    assert_eq!(
        bound("gpt-6-sol"),
        entry(&table, "openai", "gpt-6-sol").upper_bound(&full, 1, &at_now()).unwrap().fixed.0
    );
}

#[test]
fn hosted_tools_fill_the_context_for_every_search_and_pay_its_fee() {
    let table = table();
    let tool = InputBound { unbounded: true, web_searches: 2, ..InputBound::default() };
    let bound = entry(&table, "openai", "gpt-4o").upper_bound(&tool, 1, &at_now()).unwrap();
    assert_eq!(bound.fixed.0, 3 * 128_000 * 2_500_000 + 2 * 10_000_000_000 + 8 * 10_000_000);
}

#[test]
fn models_of_googles_are_bound_by_the_searches_that_nothing_keeps_them_from() {
    let table = table();
    let searching = |provider: &str, model: &str, web_searches: u32| {
        let tool = InputBound { unbounded: true, web_searches, hosted_calls: web_searches, ..InputBound::default() };
        entry(&table, provider, model).upper_bound(&tool, 1, &at_now()).unwrap().fixed
    };
    assert_eq!(searching("gemini", "gemini-2.5-flash", 1), searching("gemini", "gemini-2.5-flash", 10));
    assert!(searching("gemini", "gemini-2.5-flash", 11) > searching("gemini", "gemini-2.5-flash", 10));
    assert!(searching("openai", "gpt-4o", 1) < searching("openai", "gpt-4o", 2));
}

#[test]
fn each_call_of_a_hosted_tool_reads_the_context_anew_and_costs_its_fee() {
    let context = 128_000 * 2_500_000;
    let overshoot = 8 * 10_000_000;
    let tool = InputBound { unbounded: true, hosted_calls: 3, ..InputBound::default() };
    check("openai", "gpt-4o", &tool, None, 4 * context + overshoot, 10_000_000);
    let files = InputBound { file_searches: 3, ..tool };
    check("openai", "gpt-4o", &files, None, 4 * context + 3 * 2_500_000_000 + overshoot, 10_000_000);
    let code = InputBound { code_sessions: 1, ..tool };
    check("openai", "gpt-4o", &code, None, 4 * context + 30_000_000_000 + overshoot, 10_000_000);
    let maps = InputBound { maps_queries: 1, ..tool };
    let refused = entry(&table(), "openai", "gpt-4o").upper_bound(&maps, 1, &at_now());
    assert!(
        matches!(refused, Err(PriceError::UnpricedMeter { meter: Meter::MapsGroundingQueries, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_geography_raises_the_price_and_an_unknown_one_has_none() {
    let table = table();
    let bound = |model, geo| {
        let terms = PriceTerms { geo, ..at_now() };
        entry(&table, "anthropic", model).upper_bound(&text(1_000), 1, &terms).map(|bound| bound.per_output_token.0)
    };
    let plain = bound("claude-haiku-5-5", None).unwrap();
    assert_eq!(bound("claude-haiku-5-5", Some("global")).unwrap() * 11 / 10, plain);
    assert_eq!(
        bound("claude-haiku-5-5", Some("us")).unwrap(),
        plain,
        "the settings of the workspace may say so as well"
    );
    assert!(matches!(bound("claude-haiku-5-5", Some("moon")), Err(PriceError::UnpricedGeo { .. })));
    assert!(matches!(bound("claude-haiku-4-5", Some("us")), Err(PriceError::UnpricedGeo { .. })));
    let elsewhere = PriceTerms { geo: Some("moon"), ..at_now() };
    assert!(entry(&table, "openai", "gpt-4o").upper_bound(&text(1), 1, &elsewhere).is_ok());
}

#[test]
fn reasoning_outside_the_cap_is_bounded_by_the_models_maximum() {
    let table = table();
    let bound = |model| entry(&table, "xai", model).upper_bound(&text(10), 1, &at_now()).unwrap();
    let grok = bound("grok-4.7");
    assert!(grok.output_tokens_floor > 0);
    assert_eq!(grok.total(1), grok.total(grok.output_tokens_floor));
    assert_eq!(bound("grok-4.20-non-reasoning").output_tokens_floor, 0);
}

#[test]
fn a_provider_that_always_searches_is_held_for_the_dearest_search() {
    check("perplexity", "sonar-pro", &text(0), None, 14_000_000_000 + 8 * 15_000_000, 15_000_000);
}

/// A model of the operator's own whose prompts are free.
fn own(provider: &str, model: &str, output: UnitPrice) -> OwnPrice {
    OwnPrice {
        provider: provider.into(),
        model: model.into(),
        mode: Mode::Chat,
        input: UnitPrice::FREE,
        output,
        cache_read: None,
        piece: None,
        limits: cfr_core::price::Limits::default(),
    }
}

#[test]
fn deep_research_is_refused_while_its_citations_have_no_price() {
    let own = own("perplexity", "sonar-deep-research", UnitPrice::FREE);
    let table = table().with_own_prices(&[own]).unwrap();
    let refused = entry(&table, "perplexity", "sonar-deep-research").upper_bound(&text(1), 1, &at_now());
    assert!(matches!(refused, Err(PriceError::UnpricedMeter { meter: Meter::CitationTokens, .. })));
}

#[test]
fn a_price_rise_within_the_hour_counts_as_well() {
    let table = table();
    let change: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    let bound = |seconds_before: i64| {
        let at = change - jiff::SignedDuration::from_secs(seconds_before);
        let entry = table.find("gemini", "gemini-4-argon", at).unwrap();
        entry.upper_bound(&text(1_000), 1, &PriceTerms { at: Some(at), ..PriceTerms::default() }).unwrap()
    };
    assert!(bound(3_599).fixed > bound(3_601).fixed);
    assert_eq!(bound(1), bound(-1));
}

#[test]
fn gemini_may_overshoot_by_one_token_in_a_hundred_rounded_up_and_by_64() {
    let own = ["0.0000000001", "0.00000000015"].map(|price| own("gemini", price, price.parse().unwrap()));
    let table = table().with_own_prices(&own).unwrap();
    for (model, per_token) in [("0.0000000001", 101), ("0.00000000015", 152)] {
        let bound = entry(&table, "gemini", model).upper_bound(&text(0), 1, &at_now()).unwrap();
        assert_eq!((bound.fixed.0, bound.per_output_token.0), (64 * per_token, per_token), "{model}");
    }
}

#[test]
fn only_media_and_documents_can_be_counted_in_a_dearer_kind_of_input_than_text() {
    let (text_rate, audio_rate, output) = (300_000, 1_000_000, 2_525_000);
    let image = InputBound { images: 1, ..text(1_000) };
    let document = InputBound { unbounded: true, ..text(1_000) };
    check("gemini", "gemini-2.5-flash", &text(1_000), None, 1_000 * text_rate + 64 * output, output);
    check("gemini", "gemini-2.5-flash", &image, None, (1_000 + 4_128) * audio_rate + 64 * output, output);
    check("gemini", "gemini-2.5-flash", &document, None, 1_048_576 * audio_rate + 64 * output, output);
}

#[test]
fn predictions_are_held_at_the_output_rate() {
    let predicted = InputBound { predicted_tokens: 100, ..InputBound::default() };
    check("openai", "gpt-4o", &predicted, None, 108 * 10_000_000, 10_000_000);
}
