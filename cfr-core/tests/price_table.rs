//! What the loader refuses, what the table finds, and what two tables differ in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cfr_core::chat::Usage;
use cfr_core::price::{
    Change, Limits, Mode, OwnPrice, PriceTable, PriceTableError, PriceTerms, PriceVersion, Tier, UnitPrice,
};
use cfr_core::time::Timestamp;
use serde_json::{Value, json};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rate(meter: &str, price: &str) -> Value {
    json!({"meter": meter, "tier": "standard", "above": 0, "price": price})
}

fn model(name: &str) -> Value {
    json!({
        "provider": "acme", "model": name, "mode": "chat", "currency": "USD",
        "rates": [rate("input_tokens", "0.000001"), rate("output_tokens", "0.000002")],
    })
}

fn with(mut model: Value, field: &str, value: Value) -> Value {
    model[field] = value;
    model
}

fn load(entries: Vec<Value>) -> Result<PriceTable, PriceTableError> {
    let table = json!({"schema": "cfr.prices/1", "as_of": "2026-11-21", "currency": "USD", "entries": entries});
    PriceTable::from_json(table.to_string().as_bytes())
}

#[track_caller]
fn refuses(entries: Vec<Value>, reason: &str) {
    let error = load(entries).unwrap_err();
    assert!(matches!(&error, PriceTableError::Entry { entry, .. } if entry.starts_with("acme/")), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn the_bundled_table_loads_and_every_entry_is_found_by_each_of_its_names() {
    let table = PriceTable::bundled().unwrap();
    assert_eq!(table.entries().len(), 572);
    for entry in table.entries() {
        let during = entry.effective_from().or(entry.effective_to().map(|to| to - jiff::SignedDuration::from_secs(1)));
        let during = during.unwrap_or(at("2026-11-21T00:00:00Z"));
        for name in entry.aliases().chain([entry.model()]) {
            let found = table.find(entry.provider(), name, during).unwrap();
            assert_eq!((found.model(), found.effective_from()), (entry.model(), entry.effective_from()));
        }
    }
}

#[test]
fn what_is_no_table_is_refused() {
    for json in [
        "",
        "{}",
        "[]",
        r#"{"schema":"cfr.prices/2","as_of":"","currency":"USD","entries":[]}"#,
        r#"{"schema":"cfr.prices/1","as_of":"","currency":"EUR","entries":[]}"#,
        r#"{"schema":"cfr.prices/1","as_of":"","currency":"USD","entries":[],"surprise":1}"#,
        r#"{"schema":"cfr.prices/1","schema":"cfr.prices/1","as_of":"","currency":"USD","entries":[]}"#,
    ] {
        let error = PriceTable::from_json(json.as_bytes()).unwrap_err();
        assert!(matches!(error, PriceTableError::Malformed { .. }), "{json}: {error}");
    }
    let huge = vec![b' '; cfr_core::price::PRICE_TABLE_BYTES_MAX + 1];
    assert_eq!(PriceTable::from_json(&huge).unwrap_err(), PriceTableError::TooLarge);
}

#[test]
fn prices_are_plain_decimals() {
    for price in ["1e-6", "-0.1", "0.0000000000001", "", "free", "+1", "0,1"] {
        refuses(vec![with(model("a"), "rates", json!([rate("input_tokens", price)]))], "plain decimal");
    }
}

#[test]
fn an_entry_must_not_contradict_itself() {
    let twice = json!([rate("input_tokens", "0.000001"), rate("input_tokens", "0.000002")]);
    refuses(vec![with(model("a"), "rates", twice)], "input_tokens/standard/0 is given twice");
    refuses(vec![with(model("a"), "rates", json!([rate("wishes", "1")]))], "unknown meter `wishes`");
    let mut tier = rate("input_tokens", "0.000001");
    tier["tier"] = json!("warp");
    refuses(vec![with(model("a"), "rates", json!([tier]))], "unknown tier `warp`");
    let mut band = rate("input_tokens", "0.000001");
    band["above"] = json!(1_000);
    refuses(vec![with(model("a"), "rates", json!([band]))], "threshold_rule");
    let fee = json!({"meter": "web_search_calls", "price": "0.01"});
    refuses(vec![with(model("a"), "fees", json!([fee, fee]))], "fee `web_search_calls` is given twice");
    let multiplier = json!([{"when": {"moon": "full"}, "factor": "2", "applies_to": "all_token_meters"}]);
    refuses(vec![with(model("a"), "multipliers", multiplier)], "unknown condition `moon`");
    refuses(vec![with(model("a"), "effective_from", json!("soon"))], "not a day");
    refuses(vec![with(model("a"), "currency", json!("EUR"))], "USD");
}

#[test]
fn entries_must_not_overlap() {
    refuses(vec![model("a"), model("a")], "same time");
    let until = |name, day: &str| with(model(name), "effective_to", json!(day));
    let from = |name, day: &str| with(model(name), "effective_from", json!(day));
    refuses(vec![from("a", "2026-06-30"), until("a", "2026-07-01")], "same time");
    load(vec![from("a", "2026-07-01"), until("a", "2026-07-01")]).unwrap();
    refuses(vec![with(from("a", "2026-07-01"), "effective_to", json!("2026-07-01"))], "ends before");
}

#[test]
fn an_alias_must_not_be_the_name_of_another_model() {
    let alias = |name, alias: &str| with(model(name), "aliases", json!([alias]));
    refuses(vec![alias("a", "b"), model("b")], "alias `b`");
    refuses(vec![alias("a", "x"), alias("b", "x")], "alias `x`");
    load(vec![alias("a", "x"), model("b")]).unwrap();
}

#[test]
fn a_price_that_looks_like_a_typing_error_needs_a_waiver() {
    let dear = vec![with(model("a"), "rates", json!([rate("input_tokens", "0.001000000001")]))];
    refuses(dear.clone(), "dollar per thousand");
    let table = json!({"schema": "cfr.prices/1", "as_of": "2026-11-21", "currency": "USD", "entries": dear});
    PriceTable::from_json_waived(table.to_string().as_bytes()).unwrap();
}

#[test]
fn scheduled_prices_change_at_midnight_utc() {
    let cheap = with(model("a"), "effective_to", json!("2026-07-01"));
    let dear = with(
        with(model("a"), "effective_from", json!("2026-07-01")),
        "rates",
        json!([rate("input_tokens", "0.000009")]),
    );
    let table = load(vec![cheap, dear]).unwrap();
    let price = |moment| {
        table.find("acme", "a", at(moment)).unwrap().cost(&Usage::text(1, 0), &PriceTerms::default()).unwrap().0
    };
    assert_eq!(price("2026-06-30T23:59:59Z"), 1_000_000);
    assert_eq!(price("2026-07-01T00:00:00Z"), 9_000_000);
}

#[test]
fn a_record_names_its_price_table_by_the_first_eight_bytes_of_the_hash() {
    let mut hash = [0xff; 32];
    hash[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(PriceVersion(hash).short(), 0x0102_0304_0506_0708);
}

#[test]
fn the_providers_of_a_model_are_listed() {
    let table = PriceTable::bundled().unwrap();
    let providers: Vec<_> = table.providers_of("gpt-4o").collect();
    assert!(providers.contains(&"openai"), "{providers:?}");
    assert!(providers.is_sorted());
    assert_eq!(table.providers_of("no-such-model").count(), 0);
}

fn own(model: &str, price: &str) -> OwnPrice {
    OwnPrice {
        provider: "openai".into(),
        model: model.into(),
        mode: Mode::Chat,
        input: UnitPrice::from_usd_per_million(price).unwrap(),
        output: UnitPrice::from_usd_per_million(price).unwrap(),
        cache_read: None,
        piece: None,
        limits: Limits { max_input_tokens: Some(8_192), max_output_tokens: Some(1_024) },
    }
}

#[test]
fn an_operators_price_replaces_the_tables_and_changes_its_version() {
    let bundled = PriceTable::bundled().unwrap();
    let table = bundled.with_own_prices(&[own("gpt-4o", "7"), own("house-model", "0")]).unwrap();
    assert_ne!(table.version(), bundled.version());
    let cost = |model| {
        let entry = table.find("openai", model, at("2026-11-21T00:00:00Z")).unwrap();
        entry
            .cost(&Usage::text(1_000, 1_000), &PriceTerms { tier: Some("priority"), ..PriceTerms::default() })
            .unwrap()
            .0
    };
    assert_eq!(cost("gpt-4o"), 2_000 * 7_000_000);
    assert_eq!(cost("house-model"), 0);
    assert!(bundled.with_own_prices(&[own("x", "1"), own("x", "1")]).is_err());
}

#[test]
fn two_tables_are_compared_entry_by_entry() {
    let old = load(vec![model("a"), model("b")]).unwrap();
    let dearer = json!([rate("input_tokens", "0.000003"), rate("output_tokens", "0.000002")]);
    let limited = with(with(model("b"), "rates", dearer), "limits", json!({"max_input_tokens": 10}));
    let new = load(vec![limited, model("c")]).unwrap();
    let changes = PriceTable::diff(&old, &new);
    let of = |name: &str| {
        changes.iter().filter(|change| &*change.model == name).map(|change| &change.change).collect::<Vec<_>>()
    };
    assert_eq!(of("a"), [&Change::Removed]);
    assert_eq!(of("c"), [&Change::Added]);
    let (old_price, new_price) = ("0.000001".parse().ok(), "0.000003".parse().ok());
    let rate = Change::Rate { meter: "input_tokens", tier: Tier::Standard, above: 0, old: old_price, new: new_price };
    let limits =
        Change::Limits { old: Limits::default(), new: Limits { max_input_tokens: Some(10), max_output_tokens: None } };
    assert_eq!(of("b"), [&rate, &limits]);
    assert_eq!(PriceTable::diff(&old, &old), []);
    let line = serde_json::to_value(&changes[1]).unwrap();
    assert_eq!((&line["change"], &line["new"]), (&json!("rate"), &json!("0.000003")));
}
