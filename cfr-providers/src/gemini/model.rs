//! What differs between generations of models, by their names (providers.md §7.2, §13.2).
//!
//! The names are Google's own. A name that says nothing is taken for a model of the current generation.

use crate::dialog::{Effort, Reasoning};

/// A generation of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    thinking: Thinking,
    /// Whether the first call of each turn must carry a signature, results of tools may carry pictures, and functions
    /// may stand beside Google's own tools: all three came with the third generation.
    pub(super) is_current: bool,
}

/// How a model is told how much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thinking {
    /// By one of a few words.
    Level { least: &'static str, most: &'static str },
    /// By a number of tokens; `off` switches it off, or comes as close to that as the model can.
    Budget { off: u64, min: u64, max: u64 },
    /// It does not think.
    Never,
}

/// What a request says of thinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoughts {
    Level(&'static str),
    Budget(u64),
}

const OLD: Family = Family { thinking: Thinking::Never, is_current: false };
const OLD_NAMES: [&str; 7] = ["gemini-1", "gemini-2.0", "gemma", "learnlm", "imagen", "embedding", "gemini-pro-vision"];

impl Family {
    /// The generation of a model.
    pub(super) fn of(model: &str) -> Self {
        let budget = |off, min, max| Self { thinking: Thinking::Budget { off, min, max }, is_current: false };
        if OLD_NAMES.iter().any(|name| model.contains(name)) {
            OLD
        } else if model.contains("gemini-2.5-flash-lite") {
            budget(0, 512, 24_576)
        } else if model.contains("gemini-2.5-flash") {
            budget(0, 1, 24_576)
        } else if model.contains("gemini-2.5") {
            budget(128, 128, 32_768)
        } else {
            let least = if model.contains("pro") { "LOW" } else { "MINIMAL" };
            let most = if model.contains("gemini-4") { "XHIGH" } else { "HIGH" };
            Self { thinking: Thinking::Level { least, most }, is_current: true }
        }
    }

    /// What to tell the model; none where it cannot be told anything.
    pub(super) const fn thoughts(self, wanted: Reasoning) -> Option<Thoughts> {
        match (self.thinking, wanted) {
            (Thinking::Never, _) => None,
            (Thinking::Level { least, .. }, Reasoning::Off) => Some(Thoughts::Level(least)),
            (Thinking::Level { least, most }, wanted) => Some(Thoughts::Level(level(wanted, least, most))),
            (Thinking::Budget { off, .. }, Reasoning::Off) => Some(Thoughts::Budget(off)),
            (Thinking::Budget { min, max, .. }, Reasoning::Budget(tokens)) => {
                Some(Thoughts::Budget(within(tokens, min, max)))
            }
            (Thinking::Budget { min, max, .. }, Reasoning::Effort(effort)) => {
                Some(Thoughts::Budget(within(budget(effort), min, max)))
            }
        }
    }
}

const fn level(wanted: Reasoning, least: &'static str, most: &'static str) -> &'static str {
    match wanted.effort() {
        None | Some(Effort::Minimal) => least,
        Some(Effort::Low) => "LOW",
        Some(Effort::Medium) => "MEDIUM",
        Some(Effort::High) => "HIGH",
        Some(Effort::XHigh | Effort::Max) => most,
    }
}

const fn budget(effort: Effort) -> u64 {
    match effort {
        Effort::Minimal | Effort::Low => 1_024,
        Effort::Medium => 8_192,
        Effort::High | Effort::XHigh | Effort::Max => 24_576,
    }
}

const fn within(tokens: u64, min: u64, max: u64) -> u64 {
    if tokens < min {
        min
    } else if tokens > max {
        max
    } else {
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(model: &str, wanted: Reasoning, expected: Option<Thoughts>) {
        assert_eq!(Family::of(model).thoughts(wanted), expected, "{model} {wanted:?}");
    }

    #[test]
    fn the_second_generation_is_told_a_number_and_the_third_a_word() {
        let high = Reasoning::Effort(Effort::High);
        check("gemini-2.5-pro", high, Some(Thoughts::Budget(24_576)));
        check("gemini-2.5-pro", Reasoning::Off, Some(Thoughts::Budget(128)));
        check("gemini-2.5-flash", Reasoning::Off, Some(Thoughts::Budget(0)));
        check("gemini-2.5-flash-lite", Reasoning::Budget(7), Some(Thoughts::Budget(512)));
        check("gemini-2.5-flash", Reasoning::Budget(99_999), Some(Thoughts::Budget(24_576)));
        check("gemini-3.8-flash", high, Some(Thoughts::Level("HIGH")));
        check("gemini-3.8-flash", Reasoning::Off, Some(Thoughts::Level("MINIMAL")));
        check("gemini-3.1-pro-preview", Reasoning::Off, Some(Thoughts::Level("LOW")));
        check("gemini-3.8-flash", Reasoning::Effort(Effort::Max), Some(Thoughts::Level("HIGH")));
        check("gemini-4-argon", Reasoning::Effort(Effort::Max), Some(Thoughts::Level("XHIGH")));
        check("gemini-3.8-flash", Reasoning::Budget(4_096), Some(Thoughts::Level("MEDIUM")));
        check("gemini-2.0-flash", high, None);
    }
}
