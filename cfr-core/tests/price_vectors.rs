//! Bills that were worked out by hand from the providers' price pages, and what they add up to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cfr_core::chat::{Meter, Usage};
use cfr_core::price::{PriceTable, PriceTerms, UnitPrice};
use cfr_core::time::Timestamp;
use serde_json::{Map, Value};

/// The day that the vectors are from.
const AS_OF: &str = "2026-11-21T12:00:00Z";

#[test]
fn every_bill_adds_up() {
    let table = PriceTable::bundled().unwrap();
    let vectors = vectors();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(!vectors.is_empty(), "no bills");
    for vector in vectors {
        check(&table, vector);
    }
}

fn vectors() -> Value {
    let bundled = include_str!("fixtures/cost_vectors.json").to_owned();
    let text = std::env::var("CFR_COST_VECTORS").map_or(bundled, |path| std::fs::read_to_string(path).unwrap());
    serde_json::from_str(&text).unwrap()
}

fn check(table: &PriceTable, vector: &Value) {
    let text = |field: &str| vector[field].as_str().unwrap();
    let context = vector["context"].as_object().unwrap();
    let word = |field: &str| context.get(field).map(|value| value.as_str().unwrap());
    let at: Timestamp = word("when").map_or(AS_OF.into(), |when| format!("{when}Z")).parse().unwrap();
    let terms = PriceTerms {
        tier: word("tier").or(word("speed")),
        region: word("region").or(word("location")),
        geo: word("inference_geo"),
        at: Some(at),
        ..PriceTerms::default()
    };
    let entry = table.find(text("provider"), text("model"), at).unwrap();
    let usage = usage(vector["usage"].as_object().unwrap(), word("search_context_size"));
    let note = text("note");
    assert_eq!(entry.cost(&usage, &terms).unwrap().0, pico(text("total_usd")), "{note}");
    let lines = entry.cost_lines(&usage, &terms).unwrap();
    let expected = vector["lines"].as_array().unwrap();
    assert_eq!(lines.len(), expected.len(), "{note}");
    for line in expected {
        let amount = pico(line["amount"].as_str().unwrap());
        let quantity = line["quantity"].as_u64().unwrap();
        assert!(lines.iter().any(|ours| ours.amount.0 == amount && ours.quantity == quantity), "{note}: {line}");
    }
}

fn pico(usd: &str) -> i128 {
    usd.parse::<UnitPrice>().unwrap().pico_usd().into()
}

/// From the totals of the vectors to disjoint buckets.
fn usage(fields: &Map<String, Value>, search_size: Option<&str>) -> Usage {
    let count = |field: &str| fields.get(field).and_then(Value::as_u64).unwrap_or(0);
    let media_in = ["input_audio", "input_image", "input_video"].map(count).iter().sum::<u64>();
    let media_out = ["output_audio", "output_image", "output_video"].map(count).iter().sum::<u64>();
    let searches = match search_size {
        Some("low") => Meter::WebSearchCallsLow,
        _ => Meter::WebSearchCalls,
    };
    let quantities = [
        (Meter::InputTokens, count("input_uncached") - media_in),
        (Meter::InputAudioTokens, count("input_audio")),
        (Meter::CacheReadTokens, count("cache_read")),
        (Meter::CacheWriteTokens, count("cache_write")),
        (Meter::CacheWrite1hTokens, count("cache_write_1h")),
        (Meter::CacheWrite12hTokens, count("cache_write_12h")),
        (Meter::OutputTokens, count("output_total") - count("reasoning") - media_out),
        (Meter::ReasoningTokens, count("reasoning")),
        (Meter::OutputImageTokens, count("output_image")),
        (Meter::InputSeconds, count("seconds")),
        (Meter::InputCharacters, count("characters")),
        (Meter::RerankQueries, count("search_units")),
        (searches, count("web_search_calls")),
    ];
    quantities.into_iter().fold(Usage::default(), |usage, (meter, quantity)| usage.with(meter, quantity))
}
