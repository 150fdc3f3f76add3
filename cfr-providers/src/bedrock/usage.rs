//! Usage: from Bedrock's counters to disjoint buckets (providers.md §8.3, §12). Its input leaves cached tokens out.

use cfr_core::chat::{Meter, Usage};
use serde::Deserialize;
use serde_json::Value;

/// More than any call can use of one meter.
const QUANTITY_MAX: u64 = 1_000_000_000;
/// The time for which a cache is kept that is charged apart.
const HOUR: &str = "1h";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUsage {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_write_input_tokens: Option<u64>,
    #[serde(default)]
    cache_details: Option<Vec<Written>>,
}

/// What was written to the cache for one length of time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    ttl: Option<String>,
    #[serde(default)]
    input_tokens: Option<u64>,
}

/// What a usage object says; `None` where it cannot be read or is absurd: that is not the same as zero. `thinking` is
/// what the model itself says it thought, where it was asked: part of the output.
pub(super) fn read(usage: Value, thinking: Option<u64>) -> Option<Usage> {
    let wire: WireUsage = serde_json::from_value(usage).ok()?;
    let read = wire.cache_read_input_tokens.unwrap_or(0);
    let (write, hour) = written(&wire);
    let thinking = thinking.unwrap_or(0).min(wire.output_tokens);
    let usage = Usage::text(wire.input_tokens, wire.output_tokens - thinking)
        .with(Meter::ReasoningTokens, thinking)
        .with(Meter::CacheReadTokens, read)
        .with(Meter::CacheWriteTokens, write)
        .with(Meter::CacheWrite1hTokens, hour);
    if usage.used().any(|(_, quantity)| quantity > QUANTITY_MAX) {
        tracing::warn!(?usage, "usage that no call can have");
        return None;
    }
    Some(usage)
}

/// Tokens written for the usual time and for an hour. The total counts where the details say less, and they where it
/// does.
fn written(wire: &WireUsage) -> (u64, u64) {
    let (mut usual, mut hour) = (0_u64, 0_u64);
    for detail in wire.cache_details.iter().flatten() {
        let bucket = if detail.ttl.as_deref() == Some(HOUR) { &mut hour } else { &mut usual };
        *bucket = bucket.saturating_add(detail.input_tokens.unwrap_or(0));
    }
    (wire.cache_write_input_tokens.unwrap_or(0).saturating_sub(hour).max(usual), hour)
}

/// What the model says it thought, in the fields that Bedrock hands on from it.
pub(super) fn thinking_in(fields: &Value) -> Option<u64> {
    fields.pointer("/usage/output_tokens_details/thinking_tokens")?.as_u64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(usage: Value, expected: &[(Meter, u64)]) {
        assert_eq!(read(usage, None).expect("usage").used().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn cached_tokens_come_on_top_of_the_input_and_those_for_an_hour_apart() {
        let usage = json!({
            "inputTokens": 14, "outputTokens": 4, "totalTokens": 5718,
            "cacheReadInputTokens": 3000, "cacheWriteInputTokens": 2700,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 700}, {"ttl": "1h", "inputTokens": 2000}],
        });
        let expected = [
            (Meter::InputTokens, 14),
            (Meter::CacheReadTokens, 3_000),
            (Meter::CacheWriteTokens, 700),
            (Meter::CacheWrite1hTokens, 2_000),
            (Meter::OutputTokens, 4),
        ];
        check(usage, &expected);
    }

    #[test]
    fn writes_are_counted_whichever_member_tells_of_them() {
        let tokens = json!({"inputTokens": 1, "outputTokens": 1});
        let with = |name: &str, value: Value| {
            let mut usage = tokens.clone();
            usage[name] = value;
            usage
        };
        let rest = [(Meter::InputTokens, 1), (Meter::CacheWriteTokens, 9), (Meter::OutputTokens, 1)];
        check(with("cacheWriteInputTokens", 9.into()), &rest);
        check(with("cacheDetails", json!([{"ttl": "5m", "inputTokens": 9}])), &rest);
        check(with("cacheDetails", json!([{"inputTokens": 9}, {"ttl": "7d"}])), &rest);
    }

    #[test]
    fn thoughts_are_part_of_the_output() {
        let usage = read(json!({"inputTokens": 1, "outputTokens": 10}), Some(7)).expect("usage");
        assert_eq!((usage.get(Meter::OutputTokens), usage.get(Meter::ReasoningTokens)), (3, 7));
        let usage = read(json!({"inputTokens": 1, "outputTokens": 10}), Some(70)).expect("usage");
        assert_eq!(usage.output_total(), 10);
    }

    #[test]
    fn nothing_readable_is_not_zero() {
        for usage in [
            json!({}),
            json!(null),
            json!([]),
            json!({"inputTokens": 1}),
            json!({"inputTokens": -1, "outputTokens": 1}),
        ] {
            assert_eq!(read(usage.clone(), None), None, "{usage}");
        }
        let absurd = json!({"inputTokens": u64::MAX, "outputTokens": 1});
        assert_eq!(read(absurd, None), None);
        assert_eq!(read(json!({"inputTokens": 0, "outputTokens": 0}), None), Some(Usage::default()));
    }
}
