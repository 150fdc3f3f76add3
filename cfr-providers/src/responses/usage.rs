//! Usage of a response in disjoint buckets (providers.md §3, §12, §16.3).

use cfr_core::chat::{Meter, Usage};
use cfr_core::price::PicoUsd;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::Response;
use crate::openai::Quirks;
use crate::openai::usage::{self, Count, count};

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage {
    input_tokens: Option<Count>,
    input_tokens_details: Option<InputDetails>,
    output_tokens: Option<Count>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Option<Count>,
    cache_write_tokens: Option<Count>,
    cache_write_tokens_details: Option<WriteDetails>,
    audio_tokens: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WriteDetails {
    ttl_12h_tokens: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Option<Count>,
    audio_tokens: Option<Count>,
}

/// What a response used, and what the provider says it charges; none where it does not say.
pub(super) fn read(quirks: &Quirks, response: &Response<'_>) -> (Option<Usage>, Option<PicoUsd>) {
    let Some(raw) = response.usage else { return (None, None) };
    let usage = tokens(raw).map(|usage| with_tools(usage, response)).and_then(usage::plausible);
    (usage, usage.and_then(|_| usage::cost(quirks, raw)))
}

fn tokens(raw: &RawValue) -> Option<Usage> {
    let object = Some(raw.get()).filter(|raw| raw.starts_with('{'))?; // serde takes a list for an object
    let wire: WireUsage = serde_json::from_str(object).ok()?;
    let (input, output) = (wire.input_tokens?.0, wire.output_tokens?.0);
    let mut usage = Usage::default();
    fill_input(&mut usage, input, &wire.input_tokens_details.unwrap_or_default());
    fill_output(&mut usage, output, &wire.output_tokens_details.unwrap_or_default());
    Some(usage)
}

fn fill_input(usage: &mut Usage, input: u64, details: &InputDetails) {
    let (read, written) = (count(details.cached_tokens), count(details.cache_write_tokens));
    let half_day = details.cache_write_tokens_details.as_ref().map_or(0, |details| count(details.ttl_12h_tokens));
    usage.set(Meter::CacheWrite12hTokens, half_day.min(written));
    usage.set(Meter::CacheWriteTokens, written.saturating_sub(half_day));
    let Some(rest) = input.checked_sub(read.saturating_add(written)) else {
        // The provider has changed what its words mean: the larger reading, and nothing at the price of a cache.
        tracing::warn!(input, read, written, "usage reports more cached tokens than input tokens");
        return usage.set(Meter::InputTokens, input.saturating_sub(written).max(read));
    };
    let audio = count(details.audio_tokens).min(rest);
    usage.set(Meter::CacheReadTokens, read);
    usage.set(Meter::InputAudioTokens, audio);
    usage.set(Meter::InputTokens, rest - audio);
}

fn fill_output(usage: &mut Usage, output: u64, details: &OutputDetails) {
    let reasoning = count(details.reasoning_tokens).min(output);
    let audio = count(details.audio_tokens).min(output - reasoning);
    usage.set(Meter::ReasoningTokens, reasoning);
    usage.set(Meter::OutputAudioTokens, audio);
    usage.set(Meter::OutputTokens, output - reasoning - audio);
}

/// Tools of the provider's own are charged by the use: as it counts them, else one for each item.
fn with_tools(mut usage: Usage, response: &Response<'_>) -> Usage {
    let kinds = response.kinds();
    let items = |kind: &str| kinds.iter().filter(|item| *item == kind).count() as u64;
    let counted = response.tool_usage.as_ref().and_then(|tools| tools["web_search"]["num_requests"].as_u64());
    usage.set(Meter::WebSearchCalls, counted.unwrap_or_else(|| items("web_search_call")));
    usage.set(Meter::FileSearchCalls, items("file_search_call"));
    usage.set(Meter::CodeInterpreterSessions, items("code_interpreter_call"));
    usage
}
