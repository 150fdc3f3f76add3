//! Usage: from Google's counts to disjoint buckets, each token once (providers.md §7.3, §12, §16.3).

use std::collections::HashSet;

use cfr_core::chat::{Meter, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Candidate, Response, str_of};

/// More than any call can use of one meter: two thousand prompts that fill the largest contexts.
const QUANTITY_MAX: u64 = 1_000_000_000;
/// Searches of one answer that are told from each other; more than any answer makes.
const SEARCHES_MAX: usize = 1_000;

/// What a usage object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) usage: Usage,
    /// The tier that served: `serviceTier` of AI Studio or `trafficType` of Vertex, in Google's words.
    pub(super) service_tier: Option<String>,
}

/// What `usageMetadata` says; `None` where it cannot be read, says nothing of the prompt or is absurd: that is not the
/// same as zero.
pub(super) fn read(raw: &RawValue) -> Option<Reported> {
    let object = Some(raw.get()).filter(|raw| raw.starts_with('{'))?; // serde takes a list for an object
    let wire: WireUsage = serde_json::from_str(object).ok()?;
    let usage = wire.buckets()?;
    if usage.used().any(|(_, quantity)| quantity > QUANTITY_MAX) {
        tracing::warn!(?usage, "usage that no call can have");
        return None;
    }
    let tier =
        wire.service_tier.or(wire.traffic_type).filter(|tier| !tier.to_ascii_uppercase().ends_with("UNSPECIFIED"));
    Some(Reported { usage, service_tier: tier })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireUsage {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    total_token_count: Option<u64>,
    prompt_tokens_details: Option<Vec<Detail>>,
    cache_tokens_details: Option<Vec<Detail>>,
    candidates_tokens_details: Option<Vec<Detail>>,
    tool_use_prompt_tokens_details: Option<Vec<Detail>>,
    service_tier: Option<String>,
    traffic_type: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    modality: Option<String>,
    token_count: Option<u64>,
}

fn of_modality(details: Option<&Vec<Detail>>, modality: &str) -> u64 {
    let matching = details.into_iter().flatten().filter(|detail| detail.modality.as_deref() == Some(modality));
    matching.fold(0, |sum, detail| sum.saturating_add(detail.token_count.unwrap_or(0)))
}

/// Takes as much of `wanted` as is left.
const fn take(left: &mut u64, wanted: u64) -> u64 {
    let taken = if wanted < *left { wanted } else { *left };
    *left -= taken;
    taken
}

impl WireUsage {
    fn buckets(&self) -> Option<Usage> {
        let prompt = self.prompt_token_count?.saturating_add(self.tool_use_prompt_token_count.unwrap_or(0));
        let mut usage = Usage::default();
        self.fill_input(&mut usage, prompt);
        self.fill_output(&mut usage, prompt);
        Some(usage)
    }

    /// The prompt's count has the cached tokens in it, and not those of tool use.
    fn fill_input(&self, usage: &mut Usage, prompt: u64) {
        let cached = self.cached_content_token_count.unwrap_or(0);
        let Some(mut fresh) = prompt.checked_sub(cached) else {
            // Google has changed what its words mean: the larger reading, and nothing at the price of a cache.
            tracing::warn!(prompt, cached, "usage reports more cached tokens than prompt tokens");
            usage.set(Meter::InputTokens, cached);
            return;
        };
        let cached_of = |modality| of_modality(self.cache_tokens_details.as_ref(), modality);
        let fresh_of = |modality| {
            let (prompt, tools) = (&self.prompt_tokens_details, &self.tool_use_prompt_tokens_details);
            let all = of_modality(prompt.as_ref(), modality).saturating_add(of_modality(tools.as_ref(), modality));
            all.saturating_sub(cached_of(modality))
        };
        let mut read = cached;
        usage.set(Meter::CacheReadAudioTokens, take(&mut read, cached_of("AUDIO")));
        usage.set(Meter::CacheReadImageTokens, take(&mut read, cached_of("IMAGE")));
        usage.set(Meter::CacheReadTokens, read);
        usage.set(Meter::InputAudioTokens, take(&mut fresh, fresh_of("AUDIO")));
        usage.set(Meter::InputImageTokens, take(&mut fresh, fresh_of("IMAGE")));
        usage.set(Meter::InputVideoTokens, take(&mut fresh, fresh_of("VIDEO")));
        usage.set(Meter::InputTokens, fresh);
    }

    /// Thoughts are charged as output and are not in the count of the candidates, which some models leave out.
    fn fill_output(&self, usage: &mut Usage, prompt: u64) {
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let by_total = || self.total_token_count.unwrap_or(0).saturating_sub(prompt.saturating_add(thoughts));
        let mut words = self.candidates_token_count.unwrap_or_else(by_total);
        let of = |modality| of_modality(self.candidates_tokens_details.as_ref(), modality);
        usage.set(Meter::ReasoningTokens, thoughts);
        usage.set(Meter::OutputAudioTokens, take(&mut words, of("AUDIO")));
        usage.set(Meter::OutputImageTokens, take(&mut words, of("IMAGE")));
        usage.set(Meter::OutputVideoTokens, take(&mut words, of("VIDEO")));
        usage.set(Meter::OutputTokens, words);
    }
}

/// What an answer used so far, piece by piece: the last count holds, and searches are added up.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counted: Option<Usage>,
    queries: HashSet<Box<str>>,
    /// Each prompt that searched is charged, rather than each search: the second generation.
    per_prompt: bool,
    maps: bool,
    /// The tier that served, as far as it is known.
    pub(super) service_tier: Option<String>,
}

impl Tally {
    /// Takes a piece of the answer in; returns the usage so far when the piece changed it.
    pub(super) fn note(&mut self, response: &Response<'_>) -> Option<Usage> {
        self.per_prompt |= str_of(response.model_version.as_ref()).contains("gemini-2");
        let before = self.total();
        self.note_searches(response);
        if let Some(reported) = response.usage_metadata.and_then(read) {
            self.counted = Some(reported.usage);
            self.service_tier = reported.service_tier.or_else(|| self.service_tier.take());
        }
        let now = self.total();
        now.filter(|_| now != before)
    }

    /// Searches are charged apart.
    fn total(&self) -> Option<Usage> {
        let queries = self.queries.len() as u64;
        let charged = if self.per_prompt { queries.min(1) } else { queries };
        let usage = self.counted?.with(Meter::WebSearchCalls, charged);
        Some(usage.with(Meter::MapsGroundingQueries, u64::from(self.maps)))
    }

    /// Pieces may say the same searches again.
    fn note_searches(&mut self, response: &Response<'_>) {
        for grounding in response.candidates().iter().filter_map(Candidate::grounding) {
            let room = SEARCHES_MAX.saturating_sub(self.queries.len());
            self.queries.extend(grounding.queries().take(room).map(Box::from));
            let mut chunks = grounding.grounding_chunks.iter().flatten();
            self.maps |=
                chunks.any(|chunk| chunk.maps.as_ref().is_some_and(|site| !str_of(site.uri.as_ref()).is_empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(json: &str) -> Option<Reported> {
        read(&RawValue::from_string(json.into()).expect("JSON"))
    }

    #[track_caller]
    fn check(json: &str, expected: &[(Meter, u64)]) {
        let usage = read_json(json).expect("usage").usage;
        assert_eq!(usage.used().collect::<Vec<_>>(), expected, "{json}");
    }

    #[test]
    fn cached_tokens_are_in_the_prompt_and_thoughts_and_tool_use_are_on_top() {
        let json = r#"{"promptTokenCount":5000,"totalTokenCount":5112,"candidatesTokenCount":2,"thoughtsTokenCount":10,
            "cachedContentTokenCount":4096,"toolUsePromptTokenCount":100}"#;
        check(
            json,
            &[
                (Meter::InputTokens, 1_004),
                (Meter::CacheReadTokens, 4_096),
                (Meter::OutputTokens, 2),
                (Meter::ReasoningTokens, 10),
            ],
        );
    }

    #[test]
    fn each_modality_has_its_own_bucket() {
        let json = r#"{"promptTokenCount":100,"candidatesTokenCount":1300,"cachedContentTokenCount":30,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":20},{"modality":"AUDIO","tokenCount":50},
                {"modality":"IMAGE","tokenCount":20},{"modality":"VIDEO","tokenCount":10}],
            "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":25},{"modality":"TEXT","tokenCount":5}],
            "candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":1290},{"modality":"NEW","tokenCount":1}]}"#;
        check(
            json,
            &[
                (Meter::InputTokens, 15),
                (Meter::InputAudioTokens, 25),
                (Meter::InputImageTokens, 20),
                (Meter::InputVideoTokens, 10),
                (Meter::CacheReadTokens, 5),
                (Meter::CacheReadAudioTokens, 25),
                (Meter::OutputTokens, 10),
                (Meter::OutputImageTokens, 1_290),
            ],
        );
    }

    #[test]
    fn a_missing_count_of_the_answer_follows_from_the_total() {
        check(r#"{"promptTokenCount":7,"totalTokenCount":7}"#, &[(Meter::InputTokens, 7)]);
        check(
            r#"{"promptTokenCount":7,"totalTokenCount":20,"thoughtsTokenCount":3}"#,
            &[(Meter::InputTokens, 7), (Meter::OutputTokens, 10), (Meter::ReasoningTokens, 3)],
        );
    }

    #[test]
    fn absent_and_absurd_usage_is_not_zero_usage() {
        for json in [
            "{}",
            "[]",
            "null",
            r#"{"trafficType":"ON_DEMAND"}"#,
            r#"{"promptTokenCount":-1}"#,
            r#"{"promptTokenCount":1,"candidatesTokenCount":1000000001}"#,
        ] {
            assert_eq!(read_json(json), None, "{json}");
        }
        let zero = read_json(r#"{"promptTokenCount":0,"candidatesTokenCount":0}"#).map(|reported| reported.usage);
        assert_eq!(zero, Some(Usage::default()));
    }

    #[test]
    fn more_cached_than_prompt_is_never_cheaper_than_the_prompt() {
        check(r#"{"promptTokenCount":10,"cachedContentTokenCount":30}"#, &[(Meter::InputTokens, 30)]);
    }

    #[test]
    fn searches_are_counted_once_each_and_per_prompt_in_the_second_generation() {
        let chunk = |json: &'static str| crate::json::parse::<Response<'_>>(json.as_bytes()).expect("a chunk");
        let found = || chunk(r#"{"candidates":[{"groundingMetadata":{"webSearchQueries":["a","b"]}}]}"#);
        let third = r#"{"modelVersion":"gemini-3.8-flash","usageMetadata":{"promptTokenCount":3}}"#;
        let second = r#"{"modelVersion":"gemini-2.5-pro","usageMetadata":{"promptTokenCount":3}}"#;
        for (counted, searches) in [(third, 2), (second, 1)] {
            let mut tally = Tally::default();
            assert_eq!(tally.note(&found()), None);
            let usage = tally.note(&chunk(counted));
            assert_eq!(usage.map(|usage| usage.get(Meter::WebSearchCalls)), Some(searches), "{counted}");
            assert_eq!(tally.note(&found()), None, "said twice");
            let more = chunk(r#"{"candidates":[{"groundingMetadata":{"groundingChunks":[{"maps":{"uri":"u"}}]}}]}"#);
            let usage = tally.note(&more);
            assert_eq!(usage.map(|usage| usage.get(Meter::MapsGroundingQueries)), Some(1), "known after the count");
        }
    }

    #[test]
    fn a_tier_that_nobody_named_is_none() {
        let json = r#"{"promptTokenCount":1,"trafficType":"TRAFFIC_TYPE_UNSPECIFIED"}"#;
        assert_eq!(read_json(json).and_then(|reported| reported.service_tier), None);
    }
}
