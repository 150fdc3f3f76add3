//! One entry of our table, as JSON: made from the file, or renewed by it.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::model::Facts;
use super::{Omissions, malformed, tier};
use crate::chat::Meter;
use crate::price::load::{WireRate, rate};
use crate::price::{PriceTableError, Rate, UnitPrice};

pub(super) type Entry = Map<String, Value>;
type Rates = BTreeMap<(Meter, crate::price::Tier, u64), Rate>;

const VETTED: &str = "models that our table corrects: the file had a wrong or an old price";
const OTHER_KIND: &str = "models that are of another kind in our table";
const OFF_PEAK_GONE: &str = "models whose cheaper hours the file does not name any more: the ordinary price holds";

/// Its provider and model.
pub(super) fn names(entry: &Entry) -> Result<(Box<str>, Box<str>), PriceTableError> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).map(Box::from);
    text("provider").zip(text("model")).ok_or_else(|| malformed("an entry has no provider or no model"))
}

/// Whether its prices hold on a day.
pub(super) fn holds(entry: &Entry, day: &str) -> bool {
    let date = |name: &str| entry.get(name).and_then(Value::as_str);
    date("effective_from").is_none_or(|from| from <= day) && date("effective_to").is_none_or(|to| day < to)
}

/// Its rates.
pub(super) fn rates_of(entry: &Entry) -> Result<Vec<Rate>, PriceTableError> {
    let rates = entry.get("rates").and_then(Value::as_array).into_iter().flatten();
    let read = |wire: &Value| {
        let wire = WireRate::deserialize(wire).map_err(|error| malformed(error.to_string()))?;
        rate(wire).map_err(malformed)
    };
    rates.map(read).collect()
}

/// A model that the table did not have.
pub(super) fn new(provider: &str, model: &str, facts: &Facts) -> Result<Entry, PriceTableError> {
    let wire = json!({
        "id": format!("{provider}/{model}"),
        "provider": provider,
        "model": model,
        "mode": facts.mode,
        "currency": "USD",
        "effective_from": null,
        "effective_to": null,
        "rates": [],
        "limits": {},
        "flags": facts.flags,
        "capabilities": facts.capabilities,
    });
    let mut entry = if let Value::Object(entry) = wire { entry } else { Entry::new() };
    put_rates(&mut entry, provider, facts.rates.clone())?;
    put_terms(&mut entry, facts);
    Ok(entry)
}

/// What the file says replaces what the entry says; about the rest the entry is right.
pub(super) fn renew(entry: &mut Entry, facts: &Facts, omissions: &mut Omissions) -> Result<(), PriceTableError> {
    if entry.get("mode") != Some(&json!(facts.mode)) {
        omissions.add(OTHER_KIND, facts.key.clone());
        return Ok(());
    }
    if is_vetted(entry) {
        omissions.add(VETTED, facts.key.clone());
        return Ok(());
    }
    let (provider, _) = names(entry)?;
    let old = rates_of(entry)?;
    let mut rates: Rates = published(entry, &old).map(|rate| (place(&rate), rate)).collect();
    rates.extend(facts.rates.iter().map(|rate| (place(rate), *rate)));
    put_rates(entry, &provider, rates.into_values().collect())?;
    if rates_of(entry)? != old {
        entry.remove("cross_check"); // it compared the old prices
        if facts.off_peak.is_none() && entry.remove("off_peak").is_some() {
            omissions.add(OFF_PEAK_GONE, facts.key.clone());
        }
    }
    put_terms(entry, facts);
    Ok(())
}

/// Whether somebody looked at the prices of the file and took others.
fn is_vetted(entry: &Entry) -> bool {
    let corrected =
        entry.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.contains(&json!("corrected")));
    let status = entry.get("cross_check").and_then(|check| check.get("status"));
    corrected || status == Some(&json!("primary_stale_replaced"))
}

fn place(rate: &Rate) -> (Meter, crate::price::Tier, u64) {
    (rate.meter, rate.tier, rate.above)
}

/// The rates that somebody published; the assumed ones follow from them anew.
fn published(entry: &Entry, rates: &[Rate]) -> impl Iterator<Item = Rate> {
    let assumed = entry.get("assumed_rates").and_then(Value::as_array).cloned().unwrap_or_default();
    rates.iter().copied().filter(move |rate| !assumed.contains(&json!(label(rate)))).collect::<Vec<_>>().into_iter()
}

fn label(rate: &Rate) -> String {
    format!("{}/{}/{}", rate.meter.name(), rate.tier.name(), rate.above)
}

/// Sets the rates, those that follow from them, and what counts as a long prompt.
fn put_rates(entry: &mut Entry, provider: &str, mut rates: Vec<Rate>) -> Result<(), PriceTableError> {
    let assumed = tier::derived(&rates);
    let labels: Vec<_> = assumed.iter().map(label).collect();
    rates.extend(assumed);
    rates.sort_by_key(|rate| (rate.meter.name(), rate.tier.name(), rate.above));
    let wire = serde_json::to_value(&rates).map_err(|error| malformed(error.to_string()))?;
    entry.insert("rates".into(), wire);
    entry.remove("assumed_rates");
    if !labels.is_empty() {
        entry.insert("assumed_rates".into(), json!(labels));
    }
    if rates.iter().any(|rate| rate.above > 0) && !entry.contains_key("threshold_rule") {
        let compare = if provider == "xai" { "gte" } else { "gt" };
        let rule = json!({"basis": "total_prompt_tokens", "compare": compare, "scope": "whole_request"});
        entry.insert("threshold_rule".into(), rule);
    }
    Ok(())
}

/// Sets everything else that the file says.
fn put_terms(entry: &mut Entry, facts: &Facts) {
    entry.insert("source".into(), json!({"id": "litellm", "key": facts.key}));
    if let Some(limits) = entry.get_mut("limits").and_then(Value::as_object_mut) {
        let known = [("max_input_tokens", facts.max_input_tokens), ("max_output_tokens", facts.max_output_tokens)];
        limits.extend(known.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), json!(limit?)))));
    }
    put_fees(entry, &facts.fees);
    put_multipliers(entry, &facts.multipliers);
    if let Some(off_peak) = &facts.off_peak {
        entry.insert("off_peak".into(), off_peak.clone());
    }
    if let Some(day) = &facts.shutdown_date {
        entry.insert("shutdown_date".into(), json!(day));
    }
}

/// The file speaks of searches only: they replace the searches that the entry knows.
fn put_fees(entry: &mut Entry, fees: &[(Meter, UnitPrice)]) {
    if fees.is_empty() {
        return;
    }
    let known = entry.get("fees").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_search = |fee: &Value| fee["meter"].as_str().is_some_and(|meter| meter.starts_with("web_search_calls"));
    let others = known.into_iter().filter(|fee| !is_search(fee));
    let searches = fees.iter().map(|(meter, price)| json!({"meter": meter.name(), "price": price}));
    let all: Vec<_> = others.chain(searches).collect();
    entry.insert("fees".into(), json!(all));
}

/// A multiplier under the same condition is replaced.
fn put_multipliers(entry: &mut Entry, multipliers: &[Value]) {
    if multipliers.is_empty() {
        return;
    }
    let known = entry.get("multipliers").and_then(Value::as_array).cloned().unwrap_or_default();
    let renewed = |known: &Value| multipliers.iter().any(|multiplier| multiplier["when"] == known["when"]);
    let kept = known.into_iter().filter(|known| !renewed(known));
    let all: Vec<_> = kept.chain(multipliers.iter().cloned()).collect();
    entry.insert("multipliers".into(), json!(all));
}
