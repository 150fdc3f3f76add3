//! What an audit finds in the prices of the models that are offered.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cfr_core::price::{PriceFindingKind, PriceTable, Severity};
use cfr_core::route::{Routes, Target};
use cfr_core::time::Timestamp;
use serde_json::{Value, json};

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn entry(model: &str, extra: Value) -> Value {
    let rate = |meter: &str, price: &str| json!({"meter": meter, "tier": "standard", "above": 0, "price": price});
    let mut entry = json!({
        "provider": "p", "model": model, "mode": "chat", "currency": "USD",
        "rates": [rate("input_tokens", "0.000001"), rate("output_tokens", "0.000002")],
    });
    for (name, value) in extra.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry
}

/// What is found of the models of a table, all of them offered, as `name severity`.
fn found(entries: Vec<Value>) -> Vec<String> {
    let names: Vec<_> = entries.iter().map(|entry| entry["model"].as_str().unwrap().to_owned()).collect();
    let table = json!({"schema": "cfr.prices/1", "as_of": "2026-11-21", "currency": "USD", "entries": entries});
    let table = PriceTable::from_json(table.to_string().as_bytes()).unwrap();
    let target = |name: &String| vec![Target::new("up", "p", name.as_str())];
    let offered = names.iter().fold(Routes::default(), |routes, name| routes.with(name.as_str(), target(name)));
    let found = table.audit(&offered, now());
    found.iter().map(|finding| format!("{} {:?}", finding.kind.name(), finding.kind.severity())).collect()
}

#[track_caller]
fn check(extra: Value, expected: &[&str]) {
    assert_eq!(found(vec![entry("m", extra)]), expected);
}

#[test]
fn a_model_with_its_prices_is_fine() {
    check(json!({}), &[]);
    check(json!({"shutdown_date": "2027-01-01", "effective_to": "2027-01-01"}), &[]);
    let fees = json!([{"meter": "web_search_calls", "price": "0.01"}]);
    check(json!({"capabilities": ["web_search"], "fees": fees}), &[]);
}

#[test]
fn prices_that_lack_what_a_call_needs_are_a_problem() {
    let input_only = json!([{"meter": "input_tokens", "tier": "standard", "above": 0, "price": "0.000001"}]);
    check(json!({"rates": input_only}), &["unusable Problem"]);
    check(json!({"mode": "stt", "rates": []}), &["unusable Problem"]);
    check(json!({"capabilities": ["web_search"]}), &["search_unpriced Notice"]);
}

#[test]
fn the_end_of_a_model_is_a_notice_before_and_a_problem_after() {
    check(json!({"shutdown_date": "2026-12-21"}), &["shuts_down Notice"]);
    check(json!({"shutdown_date": "2026-12-22"}), &[]);
    check(json!({"shutdown_date": "2026-11-21"}), &["shuts_down Problem"]);
}

#[test]
fn prices_that_change_soon_are_named_and_prices_that_end_are_a_problem() {
    check(json!({"effective_to": "2026-12-01"}), &["ends Problem"]);
    let before = entry("m", json!({"effective_to": "2026-12-01"}));
    let after = entry("m", json!({"effective_from": "2026-12-01", "limits": {"max_output_tokens": 5}}));
    assert_eq!(found(vec![before.clone(), after]), ["changes Notice"]);
    let gap = entry("m", json!({"effective_from": "2026-12-02"}));
    assert_eq!(found(vec![before, gap]), ["ends Problem"]);
}

#[test]
fn a_model_without_a_price_is_found_by_all_its_names_and_an_alias_is_its_model() {
    let table = PriceTable::bundled().unwrap();
    let target = |model: &str| vec![Target::new("up", "openai", model)];
    let offered =
        Routes::default().with("gpt-4o", target("gpt-4o")).with("b", target("nothing")).with("a", target("nothing"));
    let found = table.audit(&offered, now());
    let unpriced: Vec<_> = found.iter().filter(|finding| finding.kind == PriceFindingKind::Unpriced).collect();
    let [finding] = unpriced.as_slice() else { panic!("{found:?}") };
    assert_eq!((&*finding.provider, &*finding.model, finding.names.len()), ("openai", "nothing", 2));
    assert_eq!((&*finding.names[0], finding.kind.severity()), ("a", Severity::Problem));

    let gemini = Routes::default().with("argon", vec![Target::new("up", "gemini", "gemini-4-argon")]);
    let found = table.audit(&gemini, now());
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    let PriceFindingKind::Changes { at, changes } = &finding.kind else { panic!("{finding:?}") };
    assert_eq!((*at, changes.is_empty()), ("2026-12-01T00:00:00Z".parse().unwrap(), false));
}
