//! The grammar of LiteLLM's price fields: a base name, a band of prompt length and a tier, the last two in any order.

use crate::chat::Meter;
use crate::price::Tier;

/// What a field prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) meter: Meter,
    pub(super) tier: Tier,
    pub(super) above: u64,
    /// The price is that of ten to this power of units.
    pub(super) per_power_of_ten: u32,
}

/// What the price field is about; `None` when we do not know.
pub(super) fn place(field: &str) -> Option<Place> {
    let (rest, tier) = without_tier(field);
    let (rest, above) = without_band(rest)?;
    let (rest, tier) = tier.map_or_else(|| without_tier(rest), |tier| (rest, Some(tier)));
    let (meter, per_power_of_ten) = meter(rest)?;
    Some(Place { meter, tier: tier.unwrap_or(Tier::Standard), above, per_power_of_ten })
}

/// Whether the field repeats another one, or prices the same usage a second time.
pub(super) fn is_redundant(field: &str) -> bool {
    const REDUNDANT: [&str; 3] = ["input_cost_per_token_cache_hit", "output_cost_per_second", "code_interpreter_cost"];
    REDUNDANT.contains(&field) || field.contains("_dbu_cost_")
}

fn without_tier(field: &str) -> (&str, Option<Tier>) {
    const TIERS: [(&str, Tier); 4] = [
        ("_batches", Tier::Batch),
        ("_flex", Tier::Flex),
        ("_priority", Tier::Priority),
        ("_ultrafast", Tier::Ultrafast),
    ];
    let found = TIERS.into_iter().find_map(|(suffix, tier)| Some((field.strip_suffix(suffix)?, Some(tier))));
    found.unwrap_or((field, None))
}

/// `_above_200k_tokens`; not `_above_1hr`, which is another meter.
fn without_band(field: &str) -> Option<(&str, u64)> {
    let Some((rest, number)) = field.strip_suffix("_tokens").and_then(|field| field.rsplit_once("_above_")) else {
        return Some((field, 0));
    };
    let (digits, thousand) = number.strip_suffix('k').map_or((number, 1), |digits| (digits, 1_000));
    Some((rest, digits.parse::<u64>().ok()?.checked_mul(thousand)?))
}

fn meter(base: &str) -> Option<(Meter, u32)> {
    let meter = match base {
        "input_cost_per_token" => Meter::InputTokens,
        "output_cost_per_token" => Meter::OutputTokens,
        "output_cost_per_reasoning_token" => Meter::ReasoningTokens,
        "cache_read_input_token_cost" => Meter::CacheReadTokens,
        "cache_creation_input_token_cost" => Meter::CacheWriteTokens,
        "cache_creation_input_token_cost_above_1hr" => Meter::CacheWrite1hTokens,
        "cache_creation_input_token_cost_above_12hr" => Meter::CacheWrite12hTokens,
        "input_cost_per_audio_token" => Meter::InputAudioTokens,
        "output_cost_per_audio_token" => Meter::OutputAudioTokens,
        "cache_read_input_audio_token_cost" => Meter::CacheReadAudioTokens,
        "input_cost_per_image_token" => Meter::InputImageTokens,
        "output_cost_per_image_token" => Meter::OutputImageTokens,
        "cache_read_input_image_token_cost" => Meter::CacheReadImageTokens,
        "input_cost_per_video_token" => Meter::InputVideoTokens,
        "output_cost_per_video_token" => Meter::OutputVideoTokens,
        "citation_cost_per_token" => Meter::CitationTokens,
        "input_cost_per_character" => Meter::InputCharacters,
        "input_cost_per_second" => Meter::InputSeconds,
        "input_cost_per_audio_per_second" => Meter::InputAudioSeconds,
        "input_cost_per_video_per_second" => Meter::InputVideoSeconds,
        "input_cost_per_image" => Meter::InputImages,
        "output_cost_per_image" => Meter::OutputImages,
        "input_cost_per_query" => Meter::RerankQueries,
        "google_maps_grounding_cost_per_query" => Meter::MapsGroundingQueries,
        "code_interpreter_cost_per_session" => Meter::CodeInterpreterSessions,
        "file_search_cost_per_1k_calls" => return Some((Meter::FileSearchCalls, 3)),
        _ => return None,
    };
    Some((meter, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &str, expected: Option<(Meter, Tier, u64)>) {
        assert_eq!(place(field).map(|place| (place.meter, place.tier, place.above)), expected, "{field}");
    }

    #[test]
    fn band_and_tier_stand_in_any_order() {
        let expected = Some((Meter::InputTokens, Tier::Priority, 272_000));
        check("input_cost_per_token_above_272k_tokens_priority", expected);
        check("input_cost_per_token_priority_above_272k_tokens", expected);
        check("input_cost_per_token", Some((Meter::InputTokens, Tier::Standard, 0)));
        check("output_cost_per_token_batches", Some((Meter::OutputTokens, Tier::Batch, 0)));
    }

    #[test]
    fn the_time_that_a_cache_lives_is_no_band() {
        check("cache_creation_input_token_cost_above_1hr", Some((Meter::CacheWrite1hTokens, Tier::Standard, 0)));
        let both = "cache_creation_input_token_cost_above_12hr_above_272k_tokens_flex";
        check(both, Some((Meter::CacheWrite12hTokens, Tier::Flex, 272_000)));
    }

    #[test]
    fn unknown_words_have_no_place() {
        for field in [
            "input_cost_per_token_decisions",
            "input_cost_per_token_balanced",
            "input_cost_per_token_above_many_tokens",
            "output_cost_per_pixel",
            "input_cost_per_request",
            "",
        ] {
            check(field, None);
        }
    }
}
