//! What Anthropic's models allow, by their names, wherever they are hosted (providers.md §6.1, §6.6).

/// What a model allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What may be said about how the next token is chosen.
    pub(crate) sampling: SamplingRule,
    /// How it thinks.
    pub(crate) thinking: ThinkingRule,
    /// Whether its answer may be begun for it.
    pub(crate) prefill: bool,
    /// Tokens of its longest answer: the cap where nobody sets one.
    pub(crate) output_tokens_max: u64,
}

/// What may be said about how the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SamplingRule {
    /// Anything.
    Free,
    /// `temperature` or `top_p`, not both.
    OneOf,
    /// Nothing.
    Nothing,
}

/// How a model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThinkingRule {
    /// Not at all.
    Never,
    /// When it is given a number of tokens for it.
    Budget,
    /// When it is told to, as much as it sees fit.
    Adaptive,
    /// Always, as much as it sees fit. Such a model cannot be forced to call a tool.
    Always,
}

/// The lines of models. Those of one family are told apart by their version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Haiku,
    Sonnet,
    Opus,
    Fable,
    Mythos,
}

const FAMILIES: [(&str, Family); 5] = [
    ("haiku", Family::Haiku),
    ("sonnet", Family::Sonnet),
    ("opus", Family::Opus),
    ("fable", Family::Fable),
    ("mythos", Family::Mythos),
];

const THINKS_ALWAYS: Rules = Rules {
    sampling: SamplingRule::Nothing,
    thinking: ThinkingRule::Always,
    prefill: false,
    output_tokens_max: 128_000,
};
const UNSAMPLED: Rules = Rules { thinking: ThinkingRule::Adaptive, ..THINKS_ALWAYS };
const ADAPTIVE: Rules = Rules { sampling: SamplingRule::OneOf, ..UNSAMPLED };
const BUDGETED: Rules =
    Rules { sampling: SamplingRule::OneOf, thinking: ThinkingRule::Budget, prefill: true, output_tokens_max: 64_000 };
const EARLY_BUDGETED: Rules = Rules { sampling: SamplingRule::Free, ..BUDGETED };
const THOUGHTLESS: Rules = Rules { thinking: ThinkingRule::Never, output_tokens_max: 4_096, ..EARLY_BUDGETED };
/// A model of another maker behind the same dialect.
const FOREIGN: Rules = Rules { output_tokens_max: 4_096, ..EARLY_BUDGETED };
/// A model of Anthropic's that is newer than this table.
const UNKNOWN: Rules = Rules { output_tokens_max: 4_096, ..UNSAMPLED };

/// From which version on which rules hold; the first row that fits counts.
const ROWS: &[(Family, (u8, u8), Rules)] = &[
    (Family::Fable, (0, 0), THINKS_ALWAYS),
    (Family::Mythos, (0, 0), THINKS_ALWAYS),
    (Family::Opus, (5, 5), THINKS_ALWAYS),
    (Family::Opus, (4, 7), UNSAMPLED),
    (Family::Opus, (4, 6), ADAPTIVE),
    (Family::Opus, (4, 5), BUDGETED),
    (Family::Opus, (4, 1), Rules { output_tokens_max: 32_000, ..BUDGETED }),
    (Family::Opus, (4, 0), Rules { output_tokens_max: 32_000, ..EARLY_BUDGETED }),
    (Family::Sonnet, (5, 5), THINKS_ALWAYS),
    (Family::Sonnet, (5, 0), UNSAMPLED),
    (Family::Sonnet, (4, 6), ADAPTIVE),
    (Family::Sonnet, (4, 1), BUDGETED),
    (Family::Sonnet, (3, 7), EARLY_BUDGETED),
    (Family::Haiku, (5, 0), UNSAMPLED),
    (Family::Haiku, (4, 1), BUDGETED),
    (Family::Haiku, (0, 0), THOUGHTLESS),
    (Family::Sonnet, (0, 0), THOUGHTLESS),
    (Family::Opus, (0, 0), THOUGHTLESS),
];

/// The rules of a model by any of its names: `claude-opus-4-5-20251101`, `us.anthropic.claude-3-5-sonnet-20241022-v2:0`,
/// `claude-sonnet-5@20260301`.
pub(crate) fn rules(model: &str) -> Rules {
    let name = model.to_ascii_lowercase();
    let Some((_, name)) = name.split_once("claude") else { return FOREIGN };
    let words: Vec<&str> = name.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let Some((family, version)) = family(&words) else { return UNKNOWN };
    let row = ROWS.iter().find(|(known, since, _)| *known == family && version >= *since);
    row.map_or(UNKNOWN, |(_, _, rules)| *rules)
}

/// The version stands behind the family, before it in older names.
fn family(words: &[&str]) -> Option<(Family, (u8, u8))> {
    let at = |(at, word): (usize, &&str)| Some((at, FAMILIES.iter().find(|(name, _)| name == word)?.1));
    let (at, family) = words.iter().enumerate().find_map(at)?;
    let behind = version(words.get(at + 1..).unwrap_or_default());
    let before = || version(words.get(..at).unwrap_or_default().strip_prefix(&[""]).unwrap_or_default());
    Some((family, behind.or_else(before).unwrap_or((0, 0))))
}

/// Up to two numbers; a date is none.
fn version(words: &[&str]) -> Option<(u8, u8)> {
    let number = |word: Option<&&str>| word.filter(|word| word.len() <= 2).and_then(|word| word.parse().ok());
    let major = number(words.first())?;
    Some((major, number(words.get(1)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(model: &str, expected: Rules) {
        assert_eq!(rules(model), expected, "{model}");
    }

    #[test]
    fn a_model_has_one_set_of_rules_under_all_of_its_names() {
        check("claude-opus-4-5-20251101", BUDGETED);
        check("us.anthropic.claude-opus-4-5-20251101-v1:0", BUDGETED);
        check("claude-opus-4-5@20251101", BUDGETED);
        check("anthropic/claude-opus-4.5", BUDGETED);
    }

    #[test]
    fn versions_are_read_in_both_orders_and_dates_are_none() {
        check("claude-3-5-sonnet-20241022", THOUGHTLESS);
        check("claude-3-7-sonnet-20250219", EARLY_BUDGETED);
        check("claude-sonnet-4-20250514", EARLY_BUDGETED);
        check("claude-sonnet-4-6", ADAPTIVE);
        check("claude-3-opus-20240229", THOUGHTLESS);
    }

    #[test]
    fn newer_models_are_told_neither_how_to_sample_nor_how_long_to_think() {
        check("claude-opus-4-7-20260416", UNSAMPLED);
        check("claude-sonnet-5", UNSAMPLED);
        check("claude-haiku-5-5", UNSAMPLED);
        check("claude-opus-5-5", THINKS_ALWAYS);
        check("claude-fable-5-2", THINKS_ALWAYS);
        check("claude-opus-6-1", THINKS_ALWAYS);
    }

    #[test]
    fn a_model_beyond_the_table_gets_a_small_cap() {
        check("claude-zephyr-7", UNKNOWN);
        check("claude-2.1", UNKNOWN);
        check("glm-5", FOREIGN);
    }
}
