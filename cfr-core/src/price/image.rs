//! How many tokens an image can be at the most, by model family (providers.md §17.3).

use super::PriceEntry;

/// Prefixes of OpenAI's names, the longer ones first. Tiles: base + 8 · tile; patches: the cap times the factor.
/// GPT Image 1 at high fidelity: 65, 129 for each of 8 tiles, and 6,240 for what it keeps; its successors count less.
const OPENAI: [(&str, u64); 19] = [
    ("gpt-image", 65 + 8 * 129 + 6_240),
    ("chatgpt-image", 65 + 8 * 129 + 6_240),
    ("gpt-4o-mini", 2_833 + 8 * 5_667),
    ("gpt-4o", 85 + 8 * 170),
    ("chatgpt-4o", 85 + 8 * 170),
    ("gpt-4.1-mini", 2_489),
    ("gpt-4.1-nano", 3_779),
    ("gpt-4.1", 85 + 8 * 170),
    ("gpt-4.5", 85 + 8 * 170),
    ("gpt-5.1", 70 + 8 * 140),
    ("gpt-5.4", 12_000),
    ("gpt-5.5", 12_000),
    ("gpt-5-mini", 3_779),
    ("gpt-5-nano", 3_779),
    ("gpt-5", 70 + 8 * 140),
    ("o4-mini", 2_642),
    ("o1", 75 + 8 * 150),
    ("o3", 75 + 8 * 150),
    ("codex-mini", 2_642),
];

/// Parts of other vendors' names, which hosts put prefixes and suffixes around; the more specific ones first.
const OTHERS: [(&str, u64); 5] = [
    ("claude", 4_784),
    ("gemini-2", 258 * 16), // scaled to 3072 × 3072, in tiles of 768
    ("gemini-1", 258 * 16),
    ("gemini", 2_240),
    ("nova", 1_700),
];

impl PriceEntry {
    /// The most tokens of one image that is given; `None` when the family is unknown.
    pub(super) fn image_tokens_max(&self) -> Option<u64> {
        image_tokens_max(self.provider(), self.model()).or(self.limits.max_input_tokens)
    }
}

/// The most tokens of one image; `None` when the family is unknown, and only the model's context bounds it.
pub(super) fn image_tokens_max(provider: &str, model: &str) -> Option<u64> {
    if provider == "cohere" {
        return Some(2_048);
    }
    if matches!(provider, "openai" | "azure") {
        let name = model.rsplit('/').next().unwrap_or(model);
        return OPENAI.iter().find(|(family, _)| is_of(name, family)).map(|(_, tokens)| *tokens);
    }
    OTHERS.iter().find(|(part, _)| model.contains(part)).map(|(_, tokens)| *tokens)
}

/// Whether a name is the family's, or a variant or snapshot of it.
fn is_of(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(provider: &str, model: &str, expected: Option<u64>) {
        assert_eq!(image_tokens_max(provider, model), expected);
    }

    #[test]
    fn families_are_told_apart() {
        check("openai", "gpt-4o", Some(1_445));
        check("openai", "gpt-4o-2024-08-06", Some(1_445));
        check("openai", "gpt-4o-mini", Some(48_169));
        check("openai", "gpt-5", Some(1_190));
        check("azure", "eu/gpt-5-mini-2025-08-07", Some(3_779));
        check("anthropic", "claude-opus-5-5", Some(4_784));
        check("bedrock", "eu.anthropic.claude-sonnet-5-5", Some(4_784));
        check("gemini", "gemini-2.5-pro", Some(4_128));
        check("vertex", "gemini-4-argon", Some(2_240));
    }

    #[test]
    fn unknown_families_are_bounded_by_the_context_alone() {
        check("openai", "gpt-6-astra", None);
        check("openai", "gpt-5.6-sol", None);
        check("mistral", "pixtral-large", None);
    }
}
