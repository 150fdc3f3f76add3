//! Where words of an answer come from: documents and what tools answered (providers.md §11).

use serde_json::Value;

use crate::dialog::Citation;

/// The citations of one place in the answer's words: one for each source that has an address. `before` is how many
/// characters of text came before a part of the content.
pub(super) fn of(cited: &Value, before: impl Fn(u64) -> u64) -> Vec<Citation> {
    let kind = cited.get("type").and_then(Value::as_str).unwrap_or("TEXT_CONTENT");
    if kind != "TEXT_CONTENT" {
        return Vec::new(); // plans and thoughts have no citations elsewhere
    }
    let number = |name: &str| cited.get(name).and_then(Value::as_u64);
    let offset = number("content_index").map_or(0, before);
    let place = |name: &str| number(name)?.checked_add(offset);
    let sources = cited.get("sources").and_then(Value::as_array).into_iter().flatten();
    sources.filter_map(|source| citation(source, place("start"), place("end"))).collect()
}

fn citation(source: &Value, start: Option<u64>, end: Option<u64>) -> Option<Citation> {
    let source = source.get("document").or_else(|| source.get("tool_output"))?;
    let text = |name: &str| source.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Citation { url: text("url")?, title: text("title"), start, end })
}
