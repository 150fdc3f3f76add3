//! Usage: from what a provider reports to disjoint buckets, each token once.

use std::fmt;

use cfr_core::chat::{Meter, Operation, Usage};
use cfr_core::price::PicoUsd;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use super::quirks::{Quirks, UsageRule};
use super::wire::Text;

/// One tick of xAI in pico-USD: ten billion ticks are a dollar.
const PICO_USD_PER_TICK: i128 = 100;

/// More than any call can use of one meter: 128 answers, or two thousand prompts, that fill the largest contexts.
const QUANTITY_MAX: u64 = 1_000_000_000;
/// More than any call can cost: a million dollars.
const COST_MAX: PicoUsd = PicoUsd(1_000_000_000_000_000_000);

/// What a usage object says; `None` where it cannot be read, says nothing or is absurd: that is not the same as zero.
pub(crate) fn read(quirks: &Quirks, operation: Operation, raw: &RawValue) -> Option<(Usage, Option<PicoUsd>)> {
    let object = Some(raw.get()).filter(|raw| raw.starts_with('{'))?; // serde takes a list for an object
    let wire: WireUsage<'_> = serde_json::from_str(object).ok()?;
    let usage = plausible(buckets(quirks.usage_rule, operation, &wire)?)?;
    Some((usage, wire.charged(quirks)))
}

/// The same usage, unless no call can have it.
pub(crate) fn plausible(usage: Usage) -> Option<Usage> {
    if usage.used().any(|(_, quantity)| quantity > QUANTITY_MAX) {
        tracing::warn!(?usage, "usage that no call can have");
        return None;
    }
    Some(usage)
}

/// What the provider charges by the word of a usage object of any of its dialects, where its word counts.
pub(crate) fn cost(quirks: &Quirks, raw: &RawValue) -> Option<PicoUsd> {
    serde_json::from_str::<WireUsage<'_>>(raw.get()).ok()?.charged(quirks)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage<'a> {
    prompt_tokens: Option<Count>,
    completion_tokens: Option<Count>,
    total_tokens: Option<Count>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    prompt_cache_hit_tokens: Option<Count>,
    num_cached_tokens: Option<Count>,
    cached_tokens: Option<Count>,
    reasoning_tokens: Option<Count>,
    citation_tokens: Option<Count>,
    num_search_queries: Option<Count>,
    #[serde(borrow)]
    search_context_size: Option<Text<'a>>,
    #[serde(borrow)]
    cost: Option<&'a RawValue>,
    #[serde(borrow)]
    cost_details: Option<CostDetails<'a>>,
    is_byok: Option<bool>,
    cost_in_usd_ticks: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<Count>,
    cache_write_tokens: Option<Count>,
    audio_tokens: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Option<Count>,
    audio_tokens: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CostDetails<'a> {
    #[serde(borrow)]
    upstream_inference_cost: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TotalCost<'a> {
    #[serde(borrow)]
    total_cost: &'a RawValue,
}

/// A number of tokens. Some servers write `12.0`.
#[derive(Clone, Copy)]
pub(crate) struct Count(pub(crate) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number that is not negative")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number))
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
            fn visit_f64<E: Error>(self, number: f64) -> Result<Count, E> {
                let whole = number.round();
                if (0.0..9e15).contains(&whole) { Ok(Count(whole as u64)) } else { Err(E::custom("out of range")) }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

pub(crate) fn count(count: Option<Count>) -> u64 {
    count.map_or(0, |count| count.0)
}

fn buckets(rule: UsageRule, operation: Operation, wire: &WireUsage<'_>) -> Option<Usage> {
    let prompt = wire.prompt_tokens?.0;
    let output = output_total(rule, operation, wire)?;
    let mut usage = Usage::default();
    fill_input(&mut usage, prompt, wire);
    fill_output(&mut usage, output, wire);
    if rule == UsageRule::Search {
        fill_search(&mut usage, wire);
    }
    Some(usage)
}

/// All that is charged as output.
fn output_total(rule: UsageRule, operation: Operation, wire: &WireUsage<'_>) -> Option<u64> {
    let by_total = wire.total_tokens.zip(wire.prompt_tokens).map(|(total, prompt)| total.0.saturating_sub(prompt.0));
    let reported = wire.completion_tokens.map(|count| count.0).or(by_total);
    let reported = if operation == Operation::Embeddings { Some(reported.unwrap_or(0)) } else { reported }?;
    Some(match rule {
        UsageRule::Inclusive | UsageRule::HitAndMiss => reported,
        UsageRule::ReasoningOnTop | UsageRule::Search => {
            let on_top = by_total.unwrap_or_else(|| reported.saturating_add(wire.reasoning()));
            reported.max(on_top).max(wire.reasoning())
        }
    })
}

fn fill_input(usage: &mut Usage, prompt: u64, wire: &WireUsage<'_>) {
    let written = wire.prompt_tokens_details.as_ref().map_or(0, |details| count(details.cache_write_tokens));
    let cached = wire.cached();
    let Some(rest) = prompt.checked_sub(cached.saturating_add(written)) else {
        // The provider has changed what its words mean: the larger reading, and nothing at the price of a cache.
        tracing::warn!(prompt, cached, written, "usage reports more cached tokens than prompt tokens");
        usage.set(Meter::InputTokens, prompt.saturating_sub(written).max(cached));
        usage.set(Meter::CacheWriteTokens, written);
        return;
    };
    let audio = wire.prompt_tokens_details.as_ref().map_or(0, |details| count(details.audio_tokens)).min(rest);
    usage.set(Meter::CacheReadTokens, cached);
    usage.set(Meter::CacheWriteTokens, written);
    usage.set(Meter::InputAudioTokens, audio);
    usage.set(Meter::InputTokens, rest - audio);
}

fn fill_output(usage: &mut Usage, output: u64, wire: &WireUsage<'_>) {
    let reasoning = wire.reasoning().min(output);
    let audio = wire.completion_tokens_details.as_ref().map_or(0, |details| count(details.audio_tokens));
    let audio = audio.min(output - reasoning);
    usage.set(Meter::ReasoningTokens, reasoning);
    usage.set(Meter::OutputAudioTokens, audio);
    usage.set(Meter::OutputTokens, output - reasoning - audio);
}

/// A search model charges a fee per request by the size of its context, and deep research one per query.
fn fill_search(usage: &mut Usage, wire: &WireUsage<'_>) {
    usage.set(Meter::CitationTokens, count(wire.citation_tokens));
    match wire.search_context_size.as_ref().map(|size| &*size.0) {
        Some("low") => usage.set(Meter::WebSearchCallsLow, 1),
        Some("medium") => usage.set(Meter::WebSearchCallsMedium, 1),
        Some("high") => usage.set(Meter::WebSearchCallsHigh, 1),
        _ => usage.set(Meter::WebSearchCalls, count(wire.num_search_queries)),
    }
}

impl WireUsage<'_> {
    fn cached(&self) -> u64 {
        let details = self.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens);
        let elsewhere = self.prompt_cache_hit_tokens.or(self.num_cached_tokens).or(self.cached_tokens);
        count(details.or(elsewhere))
    }

    fn reasoning(&self) -> u64 {
        let details = self.completion_tokens_details.as_ref().and_then(|details| details.reasoning_tokens);
        count(details.or(self.reasoning_tokens))
    }

    fn charged(&self, quirks: &Quirks) -> Option<PicoUsd> {
        let cost = if quirks.provider_cost_authoritative { self.cost() } else { None };
        cost.filter(|cost| *cost <= COST_MAX)
    }

    /// The provider's own charge: a number, an object with a total, or ticks; with a key of the operator's own at a
    /// router, also what the provider behind it charges.
    fn cost(&self) -> Option<PicoUsd> {
        if let Some(ticks) = self.cost_in_usd_ticks {
            return Some(PicoUsd(i128::from(ticks.0) * PICO_USD_PER_TICK));
        }
        let raw = self.cost?;
        let total = serde_json::from_str::<TotalCost<'_>>(raw.get()).map_or(raw, |cost| cost.total_cost);
        let charged = pico_usd(total.get())?;
        let behind = self.cost_details.as_ref().and_then(|details| details.upstream_inference_cost);
        let behind = behind.filter(|_| self.is_byok == Some(true)).map_or(Some(0), |raw| pico_usd(raw.get()))?;
        Some(PicoUsd(charged.checked_add(behind)?))
    }
}

/// Pico-USD from the text of a JSON number in dollars, exact; digits beyond a pico round up, so that no cost is lost.
/// `None` for anything else, a negative number included.
fn pico_usd(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok().filter(|digits| *digits >= 0)?;
    let shift = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(12)?;
    let scale = 10_i128.checked_pow(shift.unsigned_abs());
    match (shift >= 0, scale) {
        (true, scale) => digits.checked_mul(scale?),
        (false, Some(scale)) => Some(digits / scale + i128::from(digits % scale > 0)), // up: never below cost
        (false, None) => Some(i128::from(digits > 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::quirks;

    fn read_json(quirks: &Quirks, operation: Operation, json: &str) -> Option<(Usage, Option<PicoUsd>)> {
        read(quirks, operation, &RawValue::from_string(json.into()).unwrap())
    }

    #[track_caller]
    fn check(quirks: &Quirks, json: &str, expected: &[(Meter, u64)]) {
        let (usage, _) = read_json(quirks, Operation::ChatCompletions, json).unwrap();
        assert_eq!(usage.used().collect::<Vec<_>>(), expected);
    }

    #[track_caller]
    fn check_cost(quirks: &Quirks, json: &str, pico: i128) {
        let (_, cost) = read_json(quirks, Operation::ChatCompletions, json).unwrap();
        assert_eq!(cost, Some(PicoUsd(pico)));
    }

    #[test]
    fn each_token_is_in_one_bucket() {
        let json = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
            "prompt_tokens_details":{"cached_tokens":40,"cache_write_tokens":10,"audio_tokens":5},
            "completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":10}}"#;
        check(
            &quirks::OPENAI,
            json,
            &[
                (Meter::InputTokens, 45),
                (Meter::InputAudioTokens, 5),
                (Meter::CacheReadTokens, 40),
                (Meter::CacheWriteTokens, 10),
                (Meter::OutputTokens, 20),
                (Meter::ReasoningTokens, 20),
                (Meter::OutputAudioTokens, 10),
            ],
        );
    }

    #[test]
    fn fractions_of_zero_and_missing_details_are_tolerated() {
        check(
            &quirks::OPENAI,
            r#"{"prompt_tokens":12.0,"completion_tokens":3,"prompt_tokens_details":null}"#,
            &[(Meter::InputTokens, 12), (Meter::OutputTokens, 3)],
        );
    }

    #[test]
    fn absent_usage_is_not_zero_usage() {
        for json in ["{}", r#"{"prompt_tokens":null}"#, r#"{"prompt_tokens":3}"#, "[]", "7", r#"{"prompt_tokens":-1}"#]
        {
            assert_eq!(read_json(&quirks::OPENAI, Operation::ChatCompletions, json), None, "{json}");
        }
        let zero =
            read_json(&quirks::OPENAI, Operation::ChatCompletions, r#"{"prompt_tokens":0,"completion_tokens":0}"#);
        assert_eq!(zero, Some((Usage::default(), None)));
    }

    #[test]
    fn embeddings_have_no_output() {
        let read = read_json(&quirks::OPENAI, Operation::Embeddings, r#"{"prompt_tokens":5}"#);
        assert_eq!(read, Some((Usage::text(5, 0), None)));
    }

    #[test]
    fn xai_reasoning_is_on_top_whether_or_not_a_total_says_so() {
        let expected = [(Meter::InputTokens, 32), (Meter::OutputTokens, 9), (Meter::ReasoningTokens, 100)];
        let details = r#""completion_tokens_details":{"reasoning_tokens":100}"#;
        check(
            &quirks::XAI,
            &format!(r#"{{"prompt_tokens":32,"completion_tokens":9,"total_tokens":141,{details}}}"#),
            &expected,
        );
        check(&quirks::XAI, &format!(r#"{{"prompt_tokens":32,"completion_tokens":9,{details}}}"#), &expected);
        check(
            &quirks::XAI,
            &format!(r#"{{"prompt_tokens":32,"completion_tokens":109,"total_tokens":141,{details}}}"#),
            &expected,
        );
    }

    #[test]
    fn more_cached_than_prompt_is_never_cheaper_than_the_prompt() {
        check(
            &quirks::OPENAI,
            r#"{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":30}}"#,
            &[(Meter::InputTokens, 30), (Meter::OutputTokens, 1)],
        );
    }

    #[test]
    fn reported_cost_is_exact() {
        let tokens = r#""prompt_tokens":1,"completion_tokens":1"#;
        check_cost(&quirks::OPENROUTER, &format!(r#"{{{tokens},"cost":0.000508}}"#), 508_000_000);
        check_cost(&quirks::OPENROUTER, &format!(r#"{{{tokens},"cost":0}}"#), 0);
        check_cost(
            &quirks::PERPLEXITY,
            &format!(r#"{{{tokens},"cost":{{"a":1,"total_cost":6.126e-3}}}}"#),
            6_126_000_000,
        );
        check_cost(&quirks::XAI, &format!(r#"{{{tokens},"cost_in_usd_ticks":37}}"#), 3_700);
        let own_key = r#""cost":0.5,"is_byok":true,"cost_details":{"upstream_inference_cost":0.25}"#;
        check_cost(&quirks::OPENROUTER, &format!("{{{tokens},{own_key}}}"), 750_000_000_000);
    }

    #[test]
    fn a_fraction_of_a_pico_dollar_is_never_free() {
        assert_eq!(pico_usd("1e-13"), Some(1));
        assert_eq!(pico_usd("1e-99"), Some(1));
        assert_eq!(pico_usd("1E2"), Some(100_000_000_000_000));
        assert_eq!(pico_usd("1.0000000000001"), Some(1_000_000_000_001));
        assert_eq!(pico_usd("0.0"), Some(0));
        for bad in ["-1", "null", "\"1\"", "1e99", "NaN", "{}"] {
            assert_eq!(pico_usd(bad), None, "{bad}");
        }
    }
}
