//! What sets compatible servers apart in what they understand. It is read only where a request is written from another
//! dialect: a caller of OpenAI's dialect has found the server's words himself. Evidence is in providers.md §10.

use crate::dialog::{Manners, SystemTurns, ToolIds};

/// What one server understands beyond what all do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// Its models are OpenAI's, whose rules are known by their names; see `models.rs`.
    pub openai_models: bool,
    /// Parts of the names of models that answer on `/responses` only, besides those of OpenAI's that do.
    pub responses_only: &'static [&'static str],
    /// The field for who asks.
    pub end_user: &'static str,
    /// The field for answers that repeat.
    pub seed: &'static str,
    /// How it is told how much to think.
    pub effort: EffortRule,
    /// Fields that it knows and others do not.
    pub extras: &'static [&'static str],
    /// Whether it wants its thoughts back while it still calls tools. Nobody takes them later.
    pub takes_thoughts: bool,
    /// Whether an answer that is begun for the model must be marked as one.
    pub marks_prefix: bool,
    /// What it demands of the order of turns.
    pub manners: Manners,
}

/// How a server is told how much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffortRule {
    /// It is not.
    Unsaid,
    /// By `reasoning_effort` with the efforts that OpenAI's model of that name has.
    ByModel,
    /// By `reasoning_effort`: `low`, `medium` or `high`, and `none` for not at all.
    Three,
    /// As [`EffortRule::Three`], by models whose names contain one of these; others refuse the field.
    ThreeBy(&'static [&'static str]),
    /// By `reasoning_effort`: `high` or `none`.
    HighOrNone,
    /// By `thinking`, which is on or off, and `reasoning_effort`.
    Switch,
    /// By `reasoning`, an object with an effort or a number of tokens.
    Object,
}

/// Calls are answered at once and completely; apart from that the conversation is taken as it comes.
const FREE: Manners = Manners {
    system_turns: SystemTurns::Anywhere,
    begins_with_user: false,
    merges_turns: true,
    prefill: true,
    answers_every_call: true,
    tool_ids: ToolIds::Any,
};

/// OpenAI and Azure.
pub(super) const OPENAI: Words = Words {
    openai_models: true,
    responses_only: &[],
    end_user: "safety_identifier",
    seed: "seed",
    effort: EffortRule::ByModel,
    extras: &[
        "service_tier",
        "verbosity",
        "prompt_cache_key",
        "prediction",
        "store",
        "modalities",
        "custom",
        "allowed_tools",
    ],
    takes_thoughts: false,
    marks_prefix: false,
    manners: FREE,
};

/// Any compatible server: nothing that one of them is known to refuse.
pub(super) const COMPATIBLE: Words =
    Words { openai_models: false, end_user: "user", effort: EffortRule::Three, extras: &["top_k"], ..OPENAI };

/// Mistral.
pub(super) const MISTRAL: Words = Words {
    seed: "random_seed",
    effort: EffortRule::HighOrNone,
    extras: &["prompt_cache_key", "prediction", "service_tier"],
    marks_prefix: true,
    manners: Manners { tool_ids: ToolIds::Nine, ..FREE },
    ..COMPATIBLE
};

/// Groq.
pub(super) const GROQ: Words =
    Words { effort: EffortRule::ThreeBy(&["gpt-oss"]), extras: &["service_tier"], ..COMPATIBLE };

/// DeepSeek.
pub(super) const DEEPSEEK: Words =
    Words { effort: EffortRule::Switch, extras: &[], takes_thoughts: true, ..COMPATIBLE };

/// xAI.
pub(super) const XAI: Words = Words {
    responses_only: &["multi-agent"],
    effort: EffortRule::ThreeBy(&["grok-3-mini"]),
    extras: &["prompt_cache_key"],
    ..COMPATIBLE
};

/// OpenRouter.
pub(super) const OPENROUTER: Words = Words {
    effort: EffortRule::Object,
    extras: &["top_k", "web_search_options", "modalities", "cache_control"],
    ..COMPATIBLE
};

/// Cerebras.
pub(super) const CEREBRAS: Words = Words { effort: EffortRule::ThreeBy(&["gpt-oss"]), extras: &[], ..COMPATIBLE };

/// Perplexity, whose models search by themselves.
pub(super) const PERPLEXITY: Words = Words {
    effort: EffortRule::ThreeBy(&["deep-research"]),
    extras: &["top_k", "web_search_options"],
    manners: Manners { system_turns: SystemTurns::First, begins_with_user: true, prefill: false, ..FREE },
    ..COMPATIBLE
};

impl Words {
    /// Whether it knows a field that not all know.
    #[must_use]
    pub fn knows(&self, field: &str) -> bool {
        self.extras.contains(&field)
    }
}
