//! What the terms of a call change, in its bill and in the bound that is held for it: the length of the prompt, the tier,
//! the region, the speed and the hour.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cfr_core::chat::envelope::InputBound;
use cfr_core::chat::{Meter, Usage};
use cfr_core::price::{Factor, PriceEntry, PriceError, PriceTable, PriceTerms};
use cfr_core::time::Timestamp;
use serde_json::{Value, json};

/// Pico-USD of one prompt token and one answer token, in prompts of ordinary length and in long ones.
const INPUT: i128 = 1_000_000;
const OUTPUT: i128 = 2_000_000;
const INPUT_LONG: i128 = 3_000_000;
const OUTPUT_LONG: i128 = 5_000_000;
/// Where long prompts begin.
const LONG: u64 = 1_000;
/// Answer tokens beyond the cap that a bound allows for.
const OVERSHOOT: i128 = 8;

fn rate(meter: &str, above: u64, pico_usd: i128) -> Value {
    let price = format!("0.{pico_usd:012}");
    json!({"meter": meter, "tier": "standard", "above": above, "price": price})
}

/// The one model of a table, with these fields beside its ordinary rates.
#[track_caller]
fn entry(fields: Value) -> PriceEntry {
    let mut model = json!({
        "provider": "acme", "model": "a", "mode": "chat", "currency": "USD",
        "rates": [rate("input_tokens", 0, INPUT), rate("output_tokens", 0, OUTPUT)],
    });
    for (field, value) in fields.as_object().unwrap() {
        model[field] = value.clone();
    }
    let table = json!({"schema": "cfr.prices/1", "as_of": "2026-11-21", "currency": "USD", "entries": [model]});
    PriceTable::from_json(table.to_string().as_bytes()).unwrap().entries()[0].clone()
}

/// With rates for long prompts, which begin above [`LONG`] (`gt`) or at it (`gte`).
fn banded(compare: &str) -> PriceEntry {
    let rates = [("input_tokens", INPUT, INPUT_LONG), ("output_tokens", OUTPUT, OUTPUT_LONG)];
    let rates: Vec<_> =
        rates.into_iter().flat_map(|(meter, short, long)| [rate(meter, 0, short), rate(meter, LONG, long)]).collect();
    let rule = json!({"basis": "total_prompt_tokens", "compare": compare, "scope": "whole_request"});
    entry(json!({"rates": rates, "threshold_rule": rule}))
}

fn cost(entry: &PriceEntry, usage: &Usage, terms: &PriceTerms<'_>) -> i128 {
    entry.cost(usage, terms).unwrap().0
}

/// The fixed part and the part of one answer token.
fn bound(entry: &PriceEntry, text_tokens: u64, terms: &PriceTerms<'_>) -> (i128, i128) {
    let input = InputBound { text_tokens, ..InputBound::default() };
    let bound = entry.upper_bound(&input, 1, terms).unwrap();
    (bound.fixed.0, bound.per_output_token.0)
}

fn held(text_tokens: u64, input: i128, output: i128) -> (i128, i128) {
    (i128::from(text_tokens) * input + OVERSHOOT * output, output)
}

#[test]
fn a_long_prompt_begins_above_its_threshold_or_at_it() {
    for (compare, first_long) in [("gt", LONG + 1), ("gte", LONG)] {
        let entry = banded(compare);
        let cost = |tokens| cost(&entry, &Usage::text(tokens, 1), &PriceTerms::default());
        let tokens = i128::from(first_long);
        assert_eq!(cost(first_long - 1), (tokens - 1) * INPUT + OUTPUT, "{compare}");
        assert_eq!(cost(first_long), tokens * INPUT_LONG + OUTPUT_LONG, "{compare}");
    }
}

#[test]
fn a_prompt_that_can_reach_the_threshold_is_held_as_a_long_one() {
    let entry = banded("gte");
    assert_eq!(bound(&entry, LONG - 1, &PriceTerms::default()), held(LONG - 1, INPUT, OUTPUT));
    assert_eq!(bound(&entry, LONG, &PriceTerms::default()), held(LONG, INPUT_LONG, OUTPUT_LONG));
}

#[test]
fn a_higher_figure_of_another_source_raises_the_bound_of_its_meter_and_band_and_no_bill() {
    let (input, input_long, other) = (4_000_000, 7_000_000, 9_000_000);
    let reserve =
        [rate("input_tokens", 0, input), rate("input_tokens", LONG, input_long), rate("citation_tokens", 0, other)];
    let entry = entry(json!({"reserve_rates": reserve}));
    assert_eq!(bound(&entry, LONG - 1, &PriceTerms::default()), held(LONG - 1, input, OUTPUT));
    assert_eq!(bound(&entry, LONG, &PriceTerms::default()), held(LONG, input_long, OUTPUT));
    assert_eq!(cost(&entry, &Usage::text(LONG, 0), &PriceTerms::default()), i128::from(LONG) * INPUT);
}

/// A factor of 1.5 on the bill and of 1.5 on the bound, or of one.
#[track_caller]
fn check_multiplier(when: Value, terms: PriceTerms<'_>, on_bill: bool, on_bound: bool) {
    let multiplier = json!([{"when": when, "factor": "1.5", "applies_to": "all_token_meters"}]);
    let entry = entry(json!({"multipliers": multiplier}));
    let times = |applies: bool, amount: i128| if applies { amount * 3 / 2 } else { amount };
    assert_eq!(cost(&entry, &Usage::text(1, 1), &terms), times(on_bill, INPUT + OUTPUT), "the bill");
    assert_eq!(bound(&entry, 10, &terms), held(10, times(on_bound, INPUT), times(on_bound, OUTPUT)), "the bound");
}

#[test]
fn the_operators_factor_multiplies_the_bill_and_the_bound() {
    let entry = entry(json!({}));
    let terms = PriceTerms { factor: "1.1".parse().unwrap(), ..PriceTerms::default() };
    assert_eq!(cost(&entry, &Usage::text(10, 10), &terms), (INPUT + OUTPUT) * 11);
    assert_eq!(bound(&entry, 10, &terms), held(10, INPUT * 11 / 10, OUTPUT * 11 / 10));
    for text in ["0", "-1", "1,1", "1001", "1.0000001", ""] {
        assert!(text.parse::<Factor>().is_err(), "{text}");
    }
}

#[test]
fn a_geography_multiplies_the_bill_and_the_bound() {
    let geo = |geo| PriceTerms { geo, ..PriceTerms::default() };
    let us = || json!({"inference_geo": "us"});
    check_multiplier(us(), geo(Some("us")), true, true);
    check_multiplier(us(), geo(Some("global")), false, false);
    check_multiplier(us(), PriceTerms { region: Some("us"), ..PriceTerms::default() }, true, true);
}

/// The provider's own default for an account may be the dearer one.
#[test]
fn a_geography_that_the_caller_does_not_name_is_held_as_the_dearer_one() {
    let region = |region| PriceTerms { region, ..PriceTerms::default() };
    let us = || json!({"inference_geo": "us"});
    check_multiplier(us(), region(Some("eu")), false, true);
    check_multiplier(us(), region(None), false, true);
}

/// A discount may not be given in the end.
#[test]
fn a_discount_lowers_the_bill_and_never_the_bound() {
    for (when, tier) in [(json!({"inference_geo": "us"}), None), (json!({"speed": "fast"}), Some("fast"))] {
        let multiplier = json!([{"when": when, "factor": "0.1", "applies_to": "all_token_meters"}]);
        let entry = entry(json!({"multipliers": multiplier}));
        let terms = PriceTerms { tier, ..PriceTerms::default() };
        assert_eq!(bound(&entry, 10, &terms), held(10, INPUT, OUTPUT), "{when}");
    }
}

#[test]
fn a_region_that_nobody_knows_is_held_as_the_dearer_one() {
    let region = |region| PriceTerms { region, ..PriceTerms::default() };
    let elsewhere = || json!({"location_not": "global"});
    check_multiplier(elsewhere(), region(Some("europe-west4")), true, true);
    check_multiplier(elsewhere(), region(Some("global")), false, false);
    check_multiplier(elsewhere(), region(None), false, true);
}

#[test]
fn a_speed_multiplies_the_bill_and_the_bound() {
    let tier = |tier| PriceTerms { tier, ..PriceTerms::default() };
    check_multiplier(json!({"speed": "fast"}), tier(Some("fast")), true, true);
    check_multiplier(json!({"speed": "fast"}), tier(Some("standard")), false, false);
    check_multiplier(json!({"speed": "fast"}), tier(None), false, false);
}

#[test]
fn multipliers_multiply_each_other_and_no_fees() {
    let multiplier = |when: Value| json!({"when": when, "factor": "1.5", "applies_to": "all_token_meters"});
    let entry = entry(json!({
        "multipliers": [multiplier(json!({"speed": "fast"})), multiplier(json!({"region": "us"}))],
        "fees": [{"meter": "web_search_calls", "price": "0.01"}],
    }));
    let usage = Usage::text(4, 0).with(Meter::WebSearchCalls, 1);
    let terms = PriceTerms { tier: Some("fast"), region: Some("us"), ..PriceTerms::default() };
    assert_eq!(cost(&entry, &usage, &terms), 9 * INPUT + 10_000_000_000);
}

#[test]
fn a_meter_without_a_price_costs_what_its_stand_in_costs() {
    let priced = ["input_tokens", "output_tokens", "cache_write_tokens", "input_audio_tokens", "input_image_tokens"];
    let rates: Vec<_> = priced.iter().zip(1..).map(|(meter, pico_usd)| rate(meter, 0, pico_usd)).collect();
    let entry = entry(json!({"rates": rates, "fees": [{"meter": "web_search_calls", "price": "0.000000000006"}]}));
    for (stand_in_costs, meters) in [
        (1, &[Meter::CacheReadTokens, Meter::InputVideoTokens][..]),
        (2, &[Meter::ReasoningTokens, Meter::OutputAudioTokens, Meter::OutputImageTokens, Meter::OutputVideoTokens]),
        (2, &[Meter::CitationTokens]),
        (3, &[Meter::CacheWrite1hTokens, Meter::CacheWrite12hTokens]),
        (4, &[Meter::CacheReadAudioTokens]),
        (5, &[Meter::CacheReadImageTokens]),
        (6, &[Meter::WebSearchCallsLow, Meter::WebSearchCallsMedium, Meter::WebSearchCallsHigh]),
    ] {
        for meter in meters {
            let usage = Usage::default().with(*meter, 1);
            assert_eq!(cost(&entry, &usage, &PriceTerms::default()), stand_in_costs, "{meter:?}");
        }
    }
    let unpriced = entry.cost(&Usage::default().with(Meter::RerankQueries, 1), &PriceTerms::default());
    assert!(matches!(unpriced, Err(PriceError::UnpricedMeter { meter: Meter::RerankQueries, .. })), "{unpriced:?}");
}

#[test]
fn words_for_the_ordinary_service_cost_the_standard_rates() {
    let entry = entry(json!({}));
    for word in ["auto", "default", "on_demand", "scale", "", "standard", "batch", "flex"] {
        let terms = PriceTerms { tier: Some(word), ..PriceTerms::default() };
        assert_eq!(cost(&entry, &Usage::text(1, 0), &terms), INPUT, "{word}");
    }
    for word in ["priority", "fast", "ultrafast", "warp"] {
        let terms = PriceTerms { tier: Some(word), ..PriceTerms::default() };
        let refused = entry.cost(&Usage::text(1, 0), &terms);
        assert!(matches!(refused, Err(PriceError::UnpricedTier { .. })), "{word}: {refused:?}");
    }
}

#[test]
fn hours_off_the_peak_cost_less_and_are_held_like_all_others() {
    let cheap = 100_000;
    let windows = json!([
        {"utc_hours": ["00:00-01:00", "10:30-12:15"], "weekdays": [1, 2, 3, 4, 5]},
        {"utc_hours": ["00:00-00:00"], "weekdays": [6, 7]},
    ]);
    let entry = entry(json!({"off_peak": {"windows": windows, "rates": [rate("input_tokens", 0, cheap)]}}));
    // The 16th of November 2026 is a Monday.
    for (moment, input) in [
        ("2026-11-16T00:59:59Z", cheap),
        ("2026-11-16T01:00:00Z", INPUT),
        ("2026-11-16T10:29:59Z", INPUT),
        ("2026-11-16T10:30:00Z", cheap),
        ("2026-11-16T12:14:59Z", cheap),
        ("2026-11-16T12:15:00Z", INPUT),
        ("2026-11-20T23:59:59Z", INPUT),
        ("2026-11-21T23:59:59Z", cheap),
    ] {
        let at: Timestamp = moment.parse().unwrap();
        let terms = PriceTerms { at: Some(at), ..PriceTerms::default() };
        assert_eq!(cost(&entry, &Usage::text(1, 1), &terms), input + OUTPUT, "{moment}");
        assert_eq!(bound(&entry, 10, &terms), held(10, INPUT, OUTPUT), "{moment}");
    }
    assert_eq!(cost(&entry, &Usage::text(1, 0), &PriceTerms::default()), INPUT, "at no known hour");
}
