//! What OpenAI's own models refuse (providers.md §2.2).
//!
//! The price table's `flags` say some of it as well, but a wire format sees no price table, and a model that is newer
//! than the table is known by its family's name. A wrong guess costs a refusal, never money.

use crate::dialog::{Effort, Reasoning};

/// Generation and step of a model: `gpt-5.4-mini` is of 5.4.
type Version = (u32, u32);

/// The first that refuses tools on chat completions when it is to think.
const TOOLS_REFUSED: Version = (5, 4);
/// The first that thinks when nothing is said.
const THINKS_UNASKED: Version = (5, 6);
/// The first that can be told not to think.
const CAN_BE_STILL: Version = (5, 1);
/// The first that knows `xhigh`.
const KNOWS_XHIGH: Version = (5, 2);
/// The first that knows `max`.
const KNOWS_MAX: Version = (5, 6);

/// Whether the model answers on `/responses` only: the `-pro` models, Codex and deep research.
pub(crate) fn is_responses_only(model: &str) -> bool {
    let family = version(model).is_some() || is_o_series(model);
    let pro = family && model.split('-').any(|word| word == "pro");
    pro || model.contains("codex") || model.contains("deep-research")
}

/// Whether the model may refuse tools on chat completions, depending on how much it is to think.
pub(crate) fn may_refuse_tools(model: &str) -> bool {
    version(model).is_some_and(|version| version >= TOOLS_REFUSED)
}

/// Whether the model refuses tools on chat completions when it is to think as much as this.
pub(crate) fn refuses_tools(model: &str, reasoning: Option<Reasoning>) -> bool {
    match version(model) {
        Some(version) if version >= TOOLS_REFUSED => match reasoning {
            None => version >= THINKS_UNASKED,
            Some(Reasoning::Off) => !can_be_still(model),
            Some(_) => true,
        },
        _ => false,
    }
}

/// Whether the model thinks at all.
pub(crate) fn is_reasoning(model: &str) -> bool {
    match version(model) {
        Some(version) => version >= (5, 0) && !model.starts_with("gpt-5-chat") && !searches(model),
        None => is_o_series(model) || is_responses_only(model) || model == "chat-latest",
    }
}

/// Whether the model searches the web on chat completions.
pub(crate) fn searches(model: &str) -> bool {
    model.contains("search")
}

/// Whether the model will think for this answer, and so takes no temperature.
pub(crate) fn will_think(model: &str, reasoning: Option<Reasoning>) -> bool {
    let still = match reasoning {
        Some(Reasoning::Off) => can_be_still(model),
        Some(_) => false,
        None => version(model).is_some_and(|version| (CAN_BE_STILL..THINKS_UNASKED).contains(&version)),
    };
    is_reasoning(model) && !still
}

/// The word for how much to think: the nearest that the model knows; none for models that do not think.
pub(crate) fn effort_word(model: &str, reasoning: Reasoning) -> Option<&'static str> {
    if !is_reasoning(model) {
        return None;
    }
    let version = version(model);
    let knows = |first| version.is_some_and(|version| version >= first);
    let least = if version.is_some_and(|version| version < CAN_BE_STILL) { "minimal" } else { "low" };
    Some(match reasoning.effort() {
        None if can_be_still(model) => "none",
        None | Some(Effort::Minimal) => least,
        Some(Effort::Max) if knows(KNOWS_MAX) => "max",
        Some(Effort::Max | Effort::XHigh) if knows(KNOWS_XHIGH) => "xhigh",
        Some(Effort::Max | Effort::XHigh) => "high",
        Some(effort) => effort.name(),
    })
}

/// Whether the model can be told not to think.
fn can_be_still(model: &str) -> bool {
    let always = model.starts_with("gpt-6-astra") || model.starts_with("gpt-6.1-sol") || is_responses_only(model);
    !always && version(model).is_some_and(|version| version >= CAN_BE_STILL)
}

fn is_o_series(model: &str) -> bool {
    model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The version in `gpt-VERSION…`, tuned or not; none for other names, such as that of a deployment.
fn version(model: &str) -> Option<Version> {
    let rest = model.strip_prefix("ft:").unwrap_or(model).strip_prefix("gpt-")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    let (generation, step) = rest[..end].split_once('.').unwrap_or((&rest[..end], "0"));
    Some((generation.parse().ok()?, step.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: Option<Reasoning> = Some(Reasoning::Effort(Effort::High));

    #[test]
    fn pro_codex_and_deep_research_answer_on_responses_only() {
        for model in
            ["gpt-5-pro", "gpt-5.4-pro-2026-03-05", "o3-pro", "gpt-5.3-codex", "o3-deep-research", "codex-mini"]
        {
            assert!(is_responses_only(model), "{model}");
        }
        for model in ["gpt-5.4", "gpt-4o", "o3", "my-pro-deployment", "gpt-4.1-mini", "profile"] {
            assert!(!is_responses_only(model), "{model}");
        }
    }

    #[test]
    fn newer_models_refuse_tools_when_they_think() {
        for (model, reasoning, refuses) in [
            ("gpt-5.4", HIGH, true),
            ("gpt-5.4", None, false),
            ("gpt-5.5", Some(Reasoning::Off), false),
            ("gpt-5.6-sol", None, true),
            ("gpt-5.6-sol", Some(Reasoning::Off), false),
            ("gpt-6-astra", Some(Reasoning::Off), true),
            ("gpt-6.1-sol-2026-10-01", Some(Reasoning::Off), true),
            ("gpt-6.1-terra", Some(Reasoning::Off), false),
            ("gpt-5.2", HIGH, false),
            ("gpt-4.1", HIGH, false),
            ("ft:gpt-5.6-luna:org::1", None, true),
            ("my-deployment", HIGH, false),
        ] {
            assert_eq!(refuses_tools(model, reasoning), refuses, "{model} {reasoning:?}");
        }
    }

    #[test]
    fn an_effort_that_a_model_does_not_know_becomes_the_nearest() {
        let word = |model, effort| effort_word(model, Reasoning::Effort(effort));
        assert_eq!(word("gpt-5", Effort::Minimal), Some("minimal"));
        assert_eq!(word("gpt-5.4", Effort::Minimal), Some("low"));
        assert_eq!(word("gpt-5.1", Effort::Max), Some("high"));
        assert_eq!(word("gpt-5.4", Effort::Max), Some("xhigh"));
        assert_eq!(word("gpt-6-sol", Effort::Max), Some("max"));
        assert_eq!(effort_word("gpt-5", Reasoning::Off), Some("minimal"));
        assert_eq!(effort_word("o3", Reasoning::Off), Some("low"));
        assert_eq!(effort_word("gpt-5.1", Reasoning::Off), Some("none"));
        assert_eq!(effort_word("gpt-4o", Reasoning::Off), None);
    }

    #[test]
    fn a_model_that_will_not_think_takes_a_temperature() {
        assert!(!will_think("gpt-4.1", HIGH) && !will_think("gpt-5.2", None));
        assert!(will_think("gpt-5", None) && will_think("gpt-6-sol", None) && will_think("gpt-5.2", HIGH));
    }
}
