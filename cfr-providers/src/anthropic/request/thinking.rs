//! How much to think before the answer (providers.md §6.1, §13.2).

use serde_json::{Value, json};

use crate::anthropic::models::{Rules, ThinkingRule};
use crate::dialog::{Dialog, Drops, Effort, Part, Reasoning, Role, Seal, Turn};

/// The least that a model can be given to think.
const BUDGET_MIN: u64 = 1_024;
/// Tokens that must be left for the answer.
const ANSWER_MIN: u64 = 1_024;

/// What a request says of it.
#[derive(Debug, Default)]
pub(crate) struct Thinking {
    /// `thinking`.
    pub(crate) object: Option<Value>,
    /// `output_config.effort`.
    pub(crate) effort: Option<&'static str>,
    is_on: bool,
}

impl Thinking {
    pub(crate) fn of(dialog: &Dialog, rules: &Rules, tokens_max: u64, forced: bool, drops: &mut Drops) -> Self {
        let always = Self { is_on: rules.thinking == ThinkingRule::Always, ..Self::default() };
        let Some(wish) = dialog.reasoning else { return always };
        match (rules.thinking, wish) {
            (ThinkingRule::Never, Reasoning::Off) => Self::default(),
            (ThinkingRule::Never, _) => Self::left_out(drops),
            (ThinkingRule::Always, Reasoning::Off) => Self { effort: Some(effort(wish)), ..always },
            (ThinkingRule::Always, wish) => Self { object: Some(shown()), effort: Some(effort(wish)), ..always },
            (_, Reasoning::Off) => Self { object: Some(json!({"type": "disabled"})), ..Self::default() },
            // A call of a tool is forced: that cannot be had together with thoughts.
            (ThinkingRule::Adaptive, wish) if forced => Self { effort: Some(effort(wish)), ..Self::left_out(drops) },
            (ThinkingRule::Adaptive, wish) => Self { object: Some(shown()), effort: Some(effort(wish)), is_on: true },
            (ThinkingRule::Budget, _) if forced || goes_on_without_thoughts(&dialog.turns) => Self::left_out(drops),
            (ThinkingRule::Budget, wish) => Self::budget(wish, tokens_max, drops),
        }
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    fn left_out(drops: &mut Drops) -> Self {
        drops.harmless("reasoning_effort");
        Self::default()
    }

    fn budget(wish: Reasoning, tokens_max: u64, drops: &mut Drops) -> Self {
        let wished = match wish {
            Reasoning::Budget(tokens) => tokens.max(BUDGET_MIN),
            Reasoning::Effort(effort) => budget_of(effort),
            Reasoning::Off => 0,
        };
        let budget = wished.min(tokens_max.saturating_sub(ANSWER_MIN));
        if budget < BUDGET_MIN {
            return Self::left_out(drops);
        }
        let object = Some(json!({"type": "enabled", "budget_tokens": budget}));
        Self { object, effort: None, is_on: true }
    }
}

/// As much as the model sees fit, and told to the caller.
fn shown() -> Value {
    json!({"type": "adaptive", "display": "summarized"})
}

/// The word for an effort; a model that cannot be told not to think is told to think little.
fn effort(wish: Reasoning) -> &'static str {
    match wish.effort() {
        None | Some(Effort::Minimal) => Effort::Low.name(),
        Some(effort) => effort.name(),
    }
}

const fn budget_of(effort: Effort) -> u64 {
    match effort {
        Effort::Minimal | Effort::Low => 1_024,
        Effort::Medium => 4_096,
        Effort::High => 16_384,
        Effort::XHigh => 24_576,
        Effort::Max => 32_768,
    }
}

/// Whether the model is to go on with a turn of calls that it did not think before, as another model's turn looks: with a
/// budget to think that is refused.
fn goes_on_without_thoughts(turns: &[Turn]) -> bool {
    let Some([.., turn, results]) = Some(turns).filter(|turns| turns.len() >= 2) else { return false };
    let goes_on = results.role == Role::User && matches!(results.parts.first(), Some(Part::ToolResult(_)));
    goes_on && turn.role == Role::Assistant && !turn.parts.first().is_some_and(is_proven_thought)
}

fn is_proven_thought(part: &Part) -> bool {
    let Part::Thought(thought) = part else { return false };
    matches!(thought.seal, Some(Seal::Anthropic(_) | Seal::AnthropicRedacted(_)))
}
