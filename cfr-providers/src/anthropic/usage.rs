//! Usage: from Anthropic's counters to disjoint buckets (providers.md §6.2, §12, §16.3).

use cfr_core::chat::{Meter, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::Word;

/// More than any call can use of one meter.
const QUANTITY_MAX: u64 = 1_000_000_000;
/// What is said of models whose geography cannot be chosen: they cost the same everywhere.
const NO_GEO: &str = "not_available";
/// Work that the totals leave out although it is charged.
const BESIDE_TOTALS: [&str; 2] = ["compaction", "advisor_message"];

/// The usage of an answer, as far as it is known. A stream tells it twice, and the second time not all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens_details: Option<OutputDetails>,
    server_tool_use: Option<ServerToolUse>,
    service_tier: Word,
    speed: Word,
    inference_geo: Word,
    iterations: Option<Vec<Iteration>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct ServerToolUse {
    web_search_requests: Option<u64>,
}

/// One pass of the model over the prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Iteration {
    #[serde(rename = "type")]
    kind: Word,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
}

impl WireUsage {
    /// What a usage object says; nothing when it cannot be read.
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        let object = Some(raw.get()).filter(|raw| raw.starts_with('{'))?; // serde takes a list for an object
        serde_json::from_str(object).ok()
    }

    /// Takes in what the end of a stream says: counters replace, they never add up.
    pub(super) fn overwrite(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation.take());
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details.take());
        self.server_tool_use = later.server_tool_use.or(self.server_tool_use.take());
        self.service_tier = std::mem::take(&mut self.service_tier).replaced_by(later.service_tier);
        self.speed = std::mem::take(&mut self.speed).replaced_by(later.speed);
        self.inference_geo = std::mem::take(&mut self.inference_geo).replaced_by(later.inference_geo);
        self.iterations = later.iterations.or(self.iterations.take());
    }

    /// Each token once. `None` when input or output is not told, or when no call can use so much.
    pub(super) fn buckets(&self) -> Option<Usage> {
        let mut usage = Usage::default();
        add_input(&mut usage, self.input_tokens?, self.cache_read_input_tokens);
        add_written(&mut usage, self.cache_creation_input_tokens, self.cache_creation.as_ref());
        let thinking = self.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens);
        add_output(&mut usage, self.output_tokens?, thinking);
        for iteration in self.iterations.iter().flatten().filter(|iteration| iteration.is_beside_totals()) {
            iteration.add_to(&mut usage);
        }
        let searches = self.server_tool_use.as_ref().and_then(|tools| tools.web_search_requests);
        usage.set(Meter::WebSearchCalls, searches.unwrap_or(0));
        if usage.used().any(|(_, quantity)| quantity > QUANTITY_MAX) {
            tracing::warn!(?usage, "usage that no call can have");
            return None;
        }
        Some(usage)
    }

    /// The word that the price depends on: a speed that is charged for, else the tier.
    pub(super) fn service_tier(&self) -> Option<&str> {
        self.speed.text().filter(|speed| *speed != "standard").or(self.service_tier.text())
    }

    /// The geography in which the answer was made: the caller's, or the workspace's where the caller named none.
    pub(super) fn geo(&self) -> Option<&str> {
        self.inference_geo.text().filter(|geo| *geo != NO_GEO)
    }
}

impl Iteration {
    fn is_beside_totals(&self) -> bool {
        self.kind.text().is_some_and(|kind| BESIDE_TOTALS.contains(&kind))
    }

    fn add_to(&self, usage: &mut Usage) {
        add_input(usage, self.input_tokens.unwrap_or(0), self.cache_read_input_tokens);
        add_written(usage, self.cache_creation_input_tokens, self.cache_creation.as_ref());
        add_output(usage, self.output_tokens.unwrap_or(0), None);
    }
}

/// `input_tokens` leaves out what was read from a cache and what was written to one.
fn add_input(usage: &mut Usage, uncached: u64, read: Option<u64>) {
    add(usage, Meter::InputTokens, uncached);
    add(usage, Meter::CacheReadTokens, read.unwrap_or(0));
}

/// The sum of writes is told, and how much of it is for an hour.
fn add_written(usage: &mut Usage, sum: Option<u64>, parts: Option<&CacheCreation>) {
    let hour = parts.and_then(|parts| parts.ephemeral_1h_input_tokens).unwrap_or(0);
    let short = parts.and_then(|parts| parts.ephemeral_5m_input_tokens).unwrap_or(0);
    let rest = sum.map_or(short, |sum| sum.saturating_sub(hour));
    add(usage, Meter::CacheWriteTokens, rest);
    add(usage, Meter::CacheWrite1hTokens, hour);
}

/// `output_tokens` holds the thinking too.
fn add_output(usage: &mut Usage, output: u64, thinking: Option<u64>) {
    let thinking = thinking.unwrap_or(0).min(output);
    add(usage, Meter::OutputTokens, output - thinking);
    add(usage, Meter::ReasoningTokens, thinking);
}

fn add(usage: &mut Usage, meter: Meter, quantity: u64) {
    usage.set(meter, usage.get(meter).saturating_add(quantity));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> WireUsage {
        WireUsage::read(&RawValue::from_string(json.into()).unwrap()).unwrap()
    }

    #[track_caller]
    fn check(usage: &WireUsage, expected: &[(Meter, u64)]) {
        assert_eq!(usage.buckets().unwrap().used().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn each_token_is_in_one_bucket() {
        let usage = read(
            r#"{"input_tokens":14,"cache_creation_input_tokens":2700,"cache_read_input_tokens":3000,"output_tokens":9,
            "cache_creation":{"ephemeral_5m_input_tokens":700,"ephemeral_1h_input_tokens":2000},
            "output_tokens_details":{"thinking_tokens":5},"server_tool_use":{"web_search_requests":2}}"#,
        );
        check(
            &usage,
            &[
                (Meter::InputTokens, 14),
                (Meter::CacheReadTokens, 3000),
                (Meter::CacheWriteTokens, 700),
                (Meter::CacheWrite1hTokens, 2000),
                (Meter::OutputTokens, 4),
                (Meter::ReasoningTokens, 5),
                (Meter::WebSearchCalls, 2),
            ],
        );
    }

    #[test]
    fn the_end_of_a_stream_replaces_what_its_beginning_said_and_keeps_what_it_does_not_say() {
        let mut usage = read(
            r#"{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":1,"service_tier":"standard",
            "cache_creation_input_tokens":8,"cache_creation":{"ephemeral_1h_input_tokens":8}}"#,
        );
        usage.overwrite(read(r#"{"input_tokens":12,"output_tokens":9,"cache_creation_input_tokens":8}"#));
        check(
            &usage,
            &[
                (Meter::InputTokens, 12),
                (Meter::CacheReadTokens, 5),
                (Meter::CacheWrite1hTokens, 8),
                (Meter::OutputTokens, 9),
            ],
        );
        assert_eq!(usage.service_tier(), Some("standard"));
    }

    #[test]
    fn compactions_and_advice_are_charged_beside_the_totals_and_other_passes_are_in_them() {
        let usage = read(
            r#"{"input_tokens":10,"output_tokens":1,"iterations":[
            {"type":"message","input_tokens":10,"output_tokens":1},
            {"type":"compaction","input_tokens":100,"output_tokens":20,"cache_read_input_tokens":7},
            {"type":"advisor_message","input_tokens":1000,"output_tokens":300}]}"#,
        );
        check(&usage, &[(Meter::InputTokens, 1110), (Meter::CacheReadTokens, 7), (Meter::OutputTokens, 321)]);
    }

    #[test]
    fn half_a_usage_and_an_absurd_one_are_none() {
        for json in ["{}", r#"{"input_tokens":1}"#, r#"{"output_tokens":1}"#, r#"{"input_tokens":null}"#] {
            assert_eq!(read(json).buckets(), None, "{json}");
        }
        assert_eq!(read(r#"{"input_tokens":1000000001,"output_tokens":1}"#).buckets(), None);
        assert_eq!(read(r#"{"input_tokens":0,"output_tokens":0}"#).buckets(), Some(Usage::default()));
    }

    #[test]
    fn the_geography_is_told_where_the_model_has_one() {
        let geo = |json| read(json).geo().map(str::to_owned);
        assert_eq!(geo(r#"{"inference_geo":"us"}"#).as_deref(), Some("us"));
        assert_eq!(geo(r#"{"inference_geo":"not_available"}"#), None);
        assert_eq!(geo(r#"{"inference_geo":null}"#), None);
        assert_eq!(geo("{}"), None);
        let mut usage = read(r#"{"inference_geo":"us"}"#);
        usage.overwrite(read(r#"{"output_tokens":1}"#));
        assert_eq!(usage.geo(), Some("us"), "the end of a stream does not repeat it");
    }

    #[test]
    fn a_dearer_speed_is_the_tier_that_counts() {
        let usage = |speed| read(&format!(r#"{{"service_tier":"standard","speed":{speed}}}"#));
        assert_eq!(usage(r#""fast""#).service_tier(), Some("fast"));
        assert_eq!(usage(r#""standard""#).service_tier(), Some("standard"));
        assert_eq!(usage("null").service_tier(), Some("standard"));
    }
}
