//! Prices, their changes and findings about them as text for people.

use rust_decimal::Decimal;
use serde_json::{Map, Value};

use crate::cli::output::{Column, details, table};

const FIELDS: &[Column] = &[
    ("provider", "/provider"),
    ("model", "/model"),
    ("aliases", "/aliases"),
    ("mode", "/mode"),
    ("currency", "/currency"),
    ("from", "/effective_from"),
    ("to", "/effective_to"),
    ("shut down", "/shutdown_date"),
    ("input tokens at most", "/input_tokens_max"),
    ("output tokens at most", "/output_tokens_max"),
];

const RATE_COLUMNS: &[Column] = &[
    ("METER", "/meter"),
    ("TIER", "/tier"),
    ("ABOVE", "/above"),
    ("PRICE", "/price"),
    ("PER MILLION", "/per_million"),
];

/// How a table that is in force is described.
pub(super) const TABLE_FIELDS: &[Column] =
    &[("version", "/version"), ("as of", "/as_of"), ("entries", "/entries"), ("providers", "/providers")];

const MODEL_COLUMNS: &[Column] = &[("PROVIDER", "/provider"), ("MODEL", "/model"), ("FROM", "/effective_from")];

const PRICE_COLUMNS: &[Column] = &[
    ("PROVIDER", "/provider"),
    ("MODEL", "/model"),
    ("METER", "/meter"),
    ("TIER", "/tier"),
    ("ABOVE", "/above"),
    ("BEFORE", "/before"),
    ("AFTER", "/after"),
    ("CHANGE", "/percent"),
];

const OTHER_COLUMNS: &[Column] = &[
    ("PROVIDER", "/provider"),
    ("MODEL", "/model"),
    ("WHAT", "/change"),
    ("METER", "/meter"),
    ("TIER", "/tier"),
    ("ABOVE", "/above"),
    ("BEFORE", "/before"),
    ("AFTER", "/after"),
];

/// What a change means, its heading, and what is said of each.
const EFFECTS: [(&str, &str, &[Column]); 5] = [
    ("gone", "Gone: calls are refused from now on", MODEL_COLUMNS),
    ("dearer", "Dearer, in USD per million tokens or per unit", PRICE_COLUMNS),
    ("cheaper", "Cheaper, in USD per million tokens or per unit", PRICE_COLUMNS),
    ("other", "Other changes", OTHER_COLUMNS),
    ("new", "New", MODEL_COLUMNS),
];

const FINDING_COLUMNS: &[Column] =
    &[("SEVERITY", "/severity"), ("KIND", "/kind"), ("ABOUT", "/about"), ("WHAT", "/what")];

/// Models left out are named up to this many; `--json` has them all.
const NAMES_SHOWN_MAX: usize = 8;
const MILLION: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);

/// One price with its rates and fees.
pub(super) fn price(price: &Value) -> String {
    let mut rates = rows(price, "rates");
    for rate in &mut rates {
        rate["per_million"] = per_million(&rate["price"]).unwrap_or_default().into();
    }
    rates.extend(rows(price, "fees"));
    format!("{}\n{}", details(price, FIELDS), table(&rates, RATE_COLUMNS))
}

/// A difference of two tables: how many changes there are, then each.
pub(super) fn differences(diff: &Value) -> String {
    let changes = rows(diff, "changes");
    let mut text = match changes.len() {
        0 => "No price differs.\n".to_owned(),
        _ => format!("{}\n", counts(&diff["counts"])),
    };
    for (effect, heading, columns) in EFFECTS {
        let these: Vec<_> = changes.iter().filter(|change| change["effect"] == effect).map(readable).collect();
        if !these.is_empty() {
            text.push_str(&format!("\n{heading}\n{}", table(&these, columns)));
        }
    }
    text.push_str(&left_out(diff));
    text
}

fn counts(counts: &Value) -> String {
    let count = |name: &str| counts[name].as_u64().unwrap_or_default();
    let prices = format!("{} prices dearer, {} cheaper", count("dearer"), count("cheaper"));
    format!("{} models new, {} gone, {prices}, {} other changes", count("new"), count("gone"), count("other"))
}

/// Prices of tokens are those of a million, as price lists have them.
fn readable(change: &Value) -> Value {
    let mut change = change.clone();
    let (before, after) = (decimal(&change["before"]), decimal(&change["after"]));
    if let (Some(before), Some(after)) = (before, after)
        && let Some(percent) = percent(before, after)
    {
        change["percent"] = percent.into();
    }
    if change["meter"].as_str().is_some_and(|meter| meter.ends_with("_tokens")) {
        for name in ["before", "after"] {
            change[name] = per_million(&change[name]).map_or(Value::Null, Value::from);
        }
    }
    change
}

fn percent(before: Decimal, after: Decimal) -> Option<String> {
    let ratio = after.checked_sub(before)?.checked_mul(Decimal::ONE_HUNDRED)?.checked_div(before)?;
    let sign = if after > before { "+" } else { "" };
    Some(format!("{sign}{} %", ratio.round_dp(1).normalize()))
}

fn per_million(price: &Value) -> Option<String> {
    decimal(price)?.checked_mul(MILLION).map(|million| million.normalize().to_string())
}

fn decimal(text: &Value) -> Option<Decimal> {
    text.as_str()?.parse().ok()
}

fn left_out(diff: &Value) -> String {
    let mut text = String::new();
    for left in rows(diff, "left_out") {
        let names: Vec<_> = left["names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let shown = names.iter().take(NAMES_SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = if names.len() > NAMES_SHOWN_MAX { ", …" } else { "" };
        text.push_str(&format!("  {} {}: {shown}{more}\n", names.len(), left["reason"].as_str().unwrap_or_default()));
    }
    if !text.is_empty() {
        text.insert_str(0, "\nLeft out of the file\n");
    }
    match diff["not_mentioned"].as_u64() {
        None | Some(0) => text,
        Some(kept) => format!("{text}\n{kept} priced models are not in the file and keep their prices.\n"),
    }
}

/// What an audit found, and a last line that says how much.
pub(super) fn findings(audit: &Value) -> String {
    let mut findings = rows(audit, "findings");
    let count = |name: &str| audit[name].as_u64().unwrap_or_default();
    let verdict = format!("{} problems, {} notices\n", count("problems"), count("notices"));
    if findings.is_empty() {
        return verdict;
    }
    for finding in &mut findings {
        let name = |field: &str| finding[field].as_str().unwrap_or_default();
        let about = match finding["product"].as_str() {
            Some(product) => format!("product {product}"),
            None => format!("{}/{}", name("provider"), name("model")),
        };
        finding["about"] = about.into();
    }
    format!("{}\n{verdict}", table(&findings, FINDING_COLUMNS))
}

fn rows(of: &Value, name: &str) -> Vec<Value> {
    of.as_object().and_then(|of: &Map<String, Value>| of.get(name)?.as_array().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_says_how_many_first_and_then_what_a_million_tokens_cost() {
        let change = |effect: &str, before: &str, after: &str| {
            json!({"effect": effect, "provider": "p", "model": "m", "meter": "input_tokens", "tier": "standard",
                "above": 0, "before": before, "after": after})
        };
        let diff = json!({
            "counts": {"new": 0, "gone": 0, "dearer": 1, "cheaper": 1, "other": 0},
            "changes": [change("cheaper", "0.000003", "0.000002"), change("dearer", "0.000001", "0.0000015")],
            "left_out": [{"reason": "odd", "names": ["x", "y"]}], "not_mentioned": 3,
        });
        let text = differences(&diff);
        assert!(text.starts_with("0 models new, 0 gone, 1 prices dearer, 1 cheaper, 0 other changes\n"), "{text}");
        let row = |part: &str| {
            let row = text.lines().find(|line| line.contains(part)).expect("a row");
            row.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("+50"), "p m input_tokens standard 0 1 1.5 +50 %");
        assert_eq!(row("-33.3"), "p m input_tokens standard 0 3 2 -33.3 %");
        assert_eq!(row("odd"), "2 odd: x, y");
        assert!(text.find("Dearer") < text.find("Cheaper") && text.contains("3 priced models"), "{text}");
    }

    #[test]
    fn a_price_that_was_nothing_has_no_percentage() {
        assert_eq!(percent(Decimal::ZERO, Decimal::ONE), None);
    }
}
