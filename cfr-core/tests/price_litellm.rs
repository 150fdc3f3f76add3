//! LiteLLM's file as an update of our table: what it replaces, what it adds, and what it must not touch.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cfr_core::chat::{Meter, Usage};
use cfr_core::price::{BUNDLED_JSON, Change, PriceChange, PriceTable, PriceTableError, PriceTerms, PriceUpdate};
use cfr_core::time::Timestamp;
use serde_json::{Value, json};

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn updated(base: &[u8], file: &str) -> PriceUpdate {
    PriceUpdate::from_litellm(base, file.as_bytes(), now()).unwrap()
}

fn table(update: &PriceUpdate) -> PriceTable {
    PriceTable::from_json(&update.json).unwrap()
}

/// A table of ours with these entries.
fn base(entries: Value) -> Vec<u8> {
    json!({"schema": "cfr.prices/1", "as_of": "2026-01-01", "currency": "USD", "entries": entries}).to_string().into()
}

fn entry(provider: &str, model: &str, rates: Value) -> Value {
    json!({"provider": provider, "model": model, "mode": "chat", "currency": "USD", "rates": rates, "limits": {}})
}

fn rate(meter: &str, tier: &str, above: u64, price: &str) -> Value {
    json!({"meter": meter, "tier": tier, "above": above, "price": price})
}

/// The price of one unit in pico-USD.
#[track_caller]
fn pico_usd(table: &PriceTable, (provider, model): (&str, &str), meter: Meter, tier: &str, input_tokens: u64) -> i128 {
    let entry = table.find(provider, model, now()).unwrap();
    let terms = PriceTerms { tier: Some(tier), at: Some(now()), ..PriceTerms::default() };
    let others = Usage::default().with(Meter::InputTokens, input_tokens);
    let with = others.with(meter, others.get(meter) + 1);
    entry.cost(&with, &terms).unwrap().0 - entry.cost(&others, &terms).unwrap().0
}

fn changes(base: &[u8], update: &PriceUpdate) -> Vec<PriceChange> {
    PriceTable::diff(&PriceTable::from_json(base).unwrap(), &table(update))
}

#[track_caller]
fn left_out(update: &PriceUpdate, reason: &str) -> Vec<String> {
    let found = update.left_out.iter().find(|left| left.reason.contains(reason));
    let names = found.unwrap_or_else(|| panic!("nothing is left out as `{reason}`: {:?}", update.left_out));
    names.names.iter().map(ToString::to_string).collect()
}

/// In the words of the file of November 2026, with prices that our table has.
const UNCHANGED: &str = r#"{
    "sample_spec": {"litellm_provider": "one of https://docs.litellm.ai/docs/providers", "input_cost_per_token": 0.0},
    "gpt-4o": {
        "litellm_provider": "openai", "mode": "chat", "max_input_tokens": 128000, "max_output_tokens": 16384,
        "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06,
        "input_cost_per_token_batches": 1.25e-06, "output_cost_per_token_batches": 5e-06, "supports_vision": true
    },
    "claude-haiku-5-5": {
        "litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 1e-07, "output_cost_per_token": 5e-07,
        "cache_read_input_token_cost_above_100k_tokens": 5e-08, "provider_specific_entry": {"us": 1.1}
    },
    "deepseek/deepseek-v4-pro": {
        "litellm_provider": "deepseek", "mode": "chat", "input_cost_per_token": 1.32e-06,
        "input_cost_per_token_cache_hit": 4.4e-08, "output_cost_per_token": 3.96e-06, "off_peak_pricing": {
            "cache_read_input_token_cost": 2.2e-08, "input_cost_per_token": 6.6e-07, "output_cost_per_token": 1.98e-06,
            "windows": [
                {"hours_utc": ["00:00-01:00", "04:00-06:00", "10:00-00:00"], "weekdays": [1, 2, 3, 4, 5]},
                {"hours_utc": "00:00-00:00", "weekdays": [6, 7]}
            ]
        }
    }
}"#;

#[test]
fn a_file_with_the_same_prices_changes_nothing() {
    let update = updated(BUNDLED_JSON, UNCHANGED);
    assert_eq!(changes(BUNDLED_JSON, &update), []);
    let known = PriceTable::bundled().unwrap();
    assert_eq!(update.not_mentioned.len(), known.entries().len() - 3);
    assert_eq!(table(&update).as_of(), "2026-11-21");
}

#[test]
fn a_file_is_told_from_a_table_of_ours_by_what_is_in_it() {
    assert!(PriceUpdate::is_litellm(UNCHANGED.as_bytes()));
    assert!(!PriceUpdate::is_litellm(BUNDLED_JSON));
    assert!(!PriceUpdate::is_litellm(b"[]") && !PriceUpdate::is_litellm(b"{}") && !PriceUpdate::is_litellm(b"x"));
}

#[test]
fn a_new_price_replaces_the_old_one_and_what_the_file_does_not_say_stays() {
    let dearer = UNCHANGED.replacen("\"output_cost_per_token\": 1e-05", "\"output_cost_per_token\": 1.1e-05", 1);
    let update = updated(BUNDLED_JSON, &dearer);
    let changes = changes(BUNDLED_JSON, &update);
    let [PriceChange { model, change: Change::Rate { meter, old, new, .. }, .. }] = changes.as_slice() else {
        panic!("one rate: {changes:?}")
    };
    assert_eq!((&**model, *meter), ("gpt-4o", "output_tokens"));
    assert_eq!((old.unwrap().pico_usd(), new.unwrap().pico_usd()), (10_000_000, 11_000_000));
    let after = table(&update);
    let aliases = |table: &PriceTable| table.find("openai", "gpt-4o", now()).unwrap().aliases().count();
    assert_eq!(aliases(&after), aliases(&PriceTable::bundled().unwrap()));
}

#[test]
fn what_looks_free_or_cannot_be_read_is_left_out_and_named() {
    let file = r#"{
        "free": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0},
        "half": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06},
        "odd": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": -1e-06, "output_cost_per_token": 1e-06},
        "flat": {"litellm_provider": "mistral", "mode": "chat", "input_cost_per_request": 0.1, "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
        "absurd": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5, "output_cost_per_token": 1e-06},
        "film": {"litellm_provider": "openai", "mode": "video_generation", "output_cost_per_second": 0.1},
        "old": {"litellm_provider": "openai", "mode": "chat", "deprecation_date": "2026-11-21", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
        "elsewhere/x": {"litellm_provider": "elsewhere", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
        "together_ai/new": {"litellm_provider": "together_ai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
        "azure/eu/gpt-4o": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
        "list": [],
        "gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0},
        "good": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06, "input_cost_per_token_decisions": 9e-06}
    }"#;
    let update = updated(BUNDLED_JSON, file);
    assert_eq!(left_out(&update, "a price of 0"), ["free", "gpt-4o", "half", "odd"]);
    assert_eq!(left_out(&update, "hold no price"), ["odd: input_cost_per_token"]);
    assert_eq!(left_out(&update, "by the request"), ["flat"]);
    assert_eq!(left_out(&update, "a dollar per thousand"), ["absurd"]);
    assert_eq!(left_out(&update, "of a kind that"), ["film"]);
    assert_eq!(left_out(&update, "shut down"), ["old"]);
    assert_eq!(left_out(&update, "do not reach"), ["elsewhere"]);
    assert_eq!(left_out(&update, "nothing else confirms"), ["together_ai/new"]);
    assert_eq!(left_out(&update, "one region"), ["azure/eu/gpt-4o"]);
    assert_eq!(left_out(&update, "not a model"), ["list"]);
    assert_eq!(left_out(&update, "without a meaning"), ["good: input_cost_per_token_decisions"]);
    let changes = changes(BUNDLED_JSON, &update);
    assert_eq!(changes.iter().map(|change| &*change.model).collect::<Vec<_>>(), ["good"], "and gpt-4o keeps its price");
}

#[test]
fn a_new_model_has_its_bands_tiers_searches_and_date() {
    let file = r#"{"xai/grok-9": {
        "litellm_provider": "xai", "mode": "responses", "max_input_tokens": 500000, "max_tokens": 1000,
        "input_cost_per_token": 2e-06, "output_cost_per_token": 6e-06, "cache_read_input_token_cost": 5e-07,
        "input_cost_per_token_above_200k_tokens": 4e-06, "input_cost_per_token_priority": 5e-06,
        "search_context_cost_per_query": {"search_context_size_low": 0.005, "search_context_size_high": 0.01},
        "deprecation_date": "2027-05-01", "supports_vision": true, "supports_web_search": false
    }}"#;
    let update = updated(&base(json!([])), file);
    let table = table(&update);
    let name = ("xai", "grok-9");
    assert_eq!(pico_usd(&table, name, Meter::OutputTokens, "default", 1), 6_000_000);
    assert_eq!(pico_usd(&table, name, Meter::InputTokens, "default", 300_000), 4_000_000);
    // The ratio of the tier that is known, 2.5, for what is not.
    assert_eq!(pico_usd(&table, name, Meter::OutputTokens, "priority", 1), 15_000_000);
    assert_eq!(pico_usd(&table, name, Meter::CacheReadTokens, "priority", 1), 1_250_000);
    assert_eq!(pico_usd(&table, name, Meter::InputTokens, "priority", 300_000), 10_000_000);
    assert_eq!(pico_usd(&table, name, Meter::WebSearchCalls, "default", 1), 10_000_000_000, "the dearest size");
    let entry = table.find("xai", "grok-9", now()).unwrap();
    assert_eq!((entry.limits().max_input_tokens, entry.limits().max_output_tokens), (Some(500_000), Some(1_000)));
    assert_eq!(entry.shutdown_date(), Some("2027-05-01"));
    assert!(entry.has_flag("responses_api_only"));
    assert_eq!(entry.capabilities().collect::<Vec<_>>(), ["vision"]);
}

#[test]
fn assumed_rates_follow_the_published_ones() {
    let mut known = entry(
        "openai",
        "m",
        json!([
            rate("input_tokens", "standard", 0, "0.000001"),
            rate("output_tokens", "standard", 0, "0.000002"),
            rate("input_tokens", "priority", 0, "0.000002"),
            rate("output_tokens", "priority", 0, "0.000004"),
            rate("cache_write_tokens", "standard", 0, "0.00000125"),
            rate("cache_write_tokens", "priority", 0, "0.0000025"),
        ]),
    );
    known["assumed_rates"] = json!(["cache_write_tokens/priority/0"]);
    let file = r#"{"m": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06, "input_cost_per_token_priority": 3e-06}}"#;
    let table = table(&updated(&base(json!([known])), file));
    assert_eq!(pico_usd(&table, ("openai", "m"), Meter::CacheWriteTokens, "priority", 0), 3_750_000);
    assert_eq!(pico_usd(&table, ("openai", "m"), Meter::CacheWriteTokens, "default", 0), 1_250_000);
}

#[test]
fn an_alias_with_a_price_of_its_own_becomes_a_model() {
    let rates =
        json!([rate("input_tokens", "standard", 0, "0.000001"), rate("output_tokens", "standard", 0, "0.000002")]);
    let mut known = entry("openai", "m", rates);
    known["aliases"] = json!(["m-1", "m-2"]);
    let file = r#"{
        "m": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 2e-06},
        "m-1": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 2e-06},
        "m-2": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}
    }"#;
    let table = table(&updated(&base(json!([known])), file));
    assert_eq!(table.entries().len(), 2);
    let input = |model| pico_usd(&table, ("openai", model), Meter::InputTokens, "default", 0);
    assert_eq!((input("m"), input("m-1"), input("m-2")), (3_000_000, 3_000_000, 1_000_000));
}

#[test]
fn what_is_corrected_scheduled_or_of_another_kind_is_not_touched() {
    let rates =
        || json!([rate("input_tokens", "standard", 0, "0.000001"), rate("output_tokens", "standard", 0, "0.000002")]);
    let mut corrected = entry("openai", "corrected", rates());
    corrected["flags"] = json!(["corrected"]);
    let mut other = entry("openai", "other", rates());
    other["mode"] = json!("embedding");
    let (mut before, mut after) = (entry("openai", "dated", rates()), entry("openai", "dated", rates()));
    before["effective_to"] = json!("2026-12-01");
    after["effective_from"] = json!("2026-12-01");
    let model = r#"{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 9e-06, "output_cost_per_token": 2e-06}"#;
    let file = format!(r#"{{"corrected": {model}, "other": {model}, "dated": {model}}}"#);
    let base = base(json!([corrected, other, before, after]));
    let update = updated(&base, &file);
    assert_eq!(left_out(&update, "our table corrects"), ["corrected"]);
    assert_eq!(left_out(&update, "of another kind"), ["other"]);
    let changes = changes(&base, &update);
    let [PriceChange { model, effective_from: None, .. }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(&**model, "dated", "the price that holds now, not the scheduled one");
}

#[test]
fn cheaper_hours_end_when_prices_change_and_the_file_does_not_name_them() {
    let mut known = entry(
        "deepseek",
        "m",
        json!([rate("input_tokens", "standard", 0, "0.000001"), rate("output_tokens", "standard", 0, "0.000002")]),
    );
    known["off_peak"] = json!({
        "windows": [{"utc_hours": ["00:00-00:00"], "weekdays": [1, 2, 3, 4, 5, 6, 7]}],
        "rates": [rate("input_tokens", "standard", 0, "0.0000001")],
    });
    let base = base(json!([known]));
    let file = |price: &str| {
        format!(
            r#"{{"m": {{"litellm_provider": "deepseek", "mode": "chat", "input_cost_per_token": {price}, "output_cost_per_token": 2e-06}}}}"#
        )
    };
    let input = |update: &PriceUpdate| pico_usd(&table(update), ("deepseek", "m"), Meter::InputTokens, "default", 0);
    assert_eq!(input(&updated(&base, &file("1e-06"))), 100_000);
    let dearer = updated(&base, &file("3e-06"));
    assert_eq!(input(&dearer), 3_000_000);
    assert_eq!(left_out(&dearer, "cheaper hours"), ["m"]);
}

#[test]
fn what_is_neither_format_is_refused() {
    let refused = |base: &[u8], file: &[u8]| {
        let update = PriceUpdate::from_litellm(base, file, now());
        assert!(matches!(update, Err(PriceTableError::Malformed { .. })), "{update:?}");
    };
    refused(BUNDLED_JSON, b"[1]");
    refused(BUNDLED_JSON, b"not JSON");
    refused(b"{}", UNCHANGED.as_bytes());
    refused(br#"{"entries": [1]}"#, UNCHANGED.as_bytes());
    let too_many: Vec<_> = (0..=cfr_core::price::LITELLM_MODELS_MAX).map(|place| format!("\"{place}\":0")).collect();
    refused(BUNDLED_JSON, format!("{{{}}}", too_many.join(",")).as_bytes());
}
