//! What sets one compatible server apart from another: a row each. Evidence and dates are in providers.md §10.

pub use cfr_core::chat::envelope::CapField;
use cfr_core::upstream::Capabilities;

use super::words::{self, Words};

/// One compatible server. A row of your own is `Quirks { name: "…", base_url: "…", ..CUSTOM }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// The name in configurations, logs and metrics.
    pub name: &'static str,
    /// Its usual address; empty when there is none and the operator must give one.
    pub base_url: &'static str,
    /// Its name in the price table; `None` when it has no list prices.
    pub price_provider: Option<&'static str>,
    /// The environment variable that usually holds its key; `None` when it needs no key.
    pub key_variable: Option<&'static str>,
    /// The field that caps answer tokens of chat completions.
    pub cap_field: CapField,
    /// Whether it refuses or overlooks a cap in the other field, so that the caller's must be renamed.
    pub cap_field_only: bool,
    /// Fields that are taken out of every request: it refuses them, or a caller could undo with them what was priced.
    pub drops: &'static [&'static str],
    /// Whether it takes `stream_options.include_usage`. Where it does not, it reports usage without being asked.
    pub accepts_stream_options: bool,
    /// How it counts.
    pub usage_rule: UsageRule,
    /// Whether the cost that it reports is what it charges.
    pub provider_cost_authoritative: bool,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Whether it keeps files of requests and works on batches as OpenAI does.
    pub batches: bool,
    /// Whether it serves `/responses` too. Where it does not, callers of Responses are served by chat completions.
    pub responses: bool,
    /// Whether it counts the tokens of a prompt for nothing, at `/responses/input_tokens`.
    pub counts_tokens: bool,
    /// Whether it takes images to edit as addresses in JSON only, and no forms.
    pub edits_in_json: bool,
    /// In whose words it speaks of speech and transcripts.
    pub speech: SpeechWords,
    /// What it understands of calls that were made in another dialect.
    pub words: Words,
}

/// How a server's usage is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageRule {
    /// Cached tokens are part of the prompt, reasoning is part of the completion.
    Inclusive,
    /// Reasoning comes on top of the completion. The larger reading is taken when the total leaves a doubt.
    ReasoningOnTop,
    /// As [`UsageRule::Inclusive`]; cached tokens are in `prompt_cache_hit_tokens`.
    HitAndMiss,
    /// As [`UsageRule::ReasoningOnTop`], with citations and searches as meters of their own.
    Search,
}

/// In whose words a server speaks of speech and transcripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechWords {
    /// OpenAI's.
    OpenAi,
    /// Mistral's: other names of a few fields and events, and sound in JSON.
    Mistral,
}

const CHAT_ONLY: Capabilities = {
    let mut can = Capabilities::TEXT;
    can.completions = false;
    can.embeddings = false;
    can
};

const CHAT_AND_EMBEDDINGS: Capabilities = {
    let mut can = Capabilities::TEXT;
    can.completions = false;
    can
};

const TEXT_AND_RERANK: Capabilities = {
    let mut can = Capabilities::TEXT;
    can.rerank = true;
    can
};

/// The same with images, speech and transcripts.
const fn with_media(can: Capabilities) -> Capabilities {
    let mut can = with_sound(can);
    can.images = true;
    can
}

/// The same with speech and transcripts.
const fn with_sound(mut can: Capabilities) -> Capabilities {
    can.speech = true;
    can.transcriptions = true;
    can
}

/// OpenAI itself. Its reasoning models think unseen.
pub const OPENAI: Quirks = Quirks {
    name: "openai",
    base_url: "https://api.openai.com/v1",
    price_provider: Some("openai"),
    key_variable: Some("OPENAI_API_KEY"),
    batches: true,
    cap_field: CapField::MaxCompletionTokens,
    cap_field_only: false,
    drops: &[],
    accepts_stream_options: true,
    usage_rule: UsageRule::Inclusive,
    provider_cost_authoritative: false,
    capabilities: {
        let mut can = Capabilities::TEXT;
        can.moderations = true;
        can.visible_output = false;
        can.realtime = true;
        with_media(can)
    },
    responses: true,
    counts_tokens: true,
    edits_in_json: false,
    speech: SpeechWords::OpenAi,
    words: words::OPENAI,
};

/// Azure OpenAI by its v1 API, at `https://RESOURCE.openai.azure.com/openai/v1`; a model is a deployment.
pub const AZURE: Quirks = Quirks {
    name: "azure",
    base_url: "",
    price_provider: Some("azure"),
    key_variable: Some("AZURE_OPENAI_API_KEY"),
    batches: false,
    capabilities: {
        let mut can = OPENAI.capabilities;
        can.moderations = false;
        can
    },
    counts_tokens: false,
    ..OPENAI
};

/// Any server that speaks the dialect, at an address of the operator's. `max_tokens` is what all of them know; behind
/// some of them is llama.cpp, where `n_predict` wins over it.
pub const CUSTOM: Quirks = Quirks {
    name: "custom",
    batches: false,
    base_url: "",
    price_provider: None,
    key_variable: None,
    cap_field: CapField::MaxTokens,
    cap_field_only: true,
    drops: &["n_predict"],
    capabilities: {
        let mut can = TEXT_AND_RERANK;
        can.moderations = true;
        can.realtime = true;
        with_media(can)
    },
    responses: false,
    counts_tokens: false,
    words: words::COMPATIBLE,
    ..OPENAI
};

/// Mistral answers 422 to fields that it does not know; usage is always on the last content chunk.
pub const MISTRAL: Quirks = Quirks {
    name: "mistral",
    base_url: "https://api.mistral.ai/v1",
    price_provider: Some("mistral"),
    key_variable: Some("MISTRAL_API_KEY"),
    drops: &[
        "stream_options",
        "user",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "store",
        "seed",
        "safety_identifier",
        "verbosity",
        "modalities",
    ],
    accepts_stream_options: false,
    capabilities: {
        let mut can = CHAT_AND_EMBEDDINGS;
        can.moderations = true;
        with_sound(can)
    },
    speech: SpeechWords::Mistral,
    words: words::MISTRAL,
    ..CUSTOM
};

/// Groq answers 400 to log probabilities and biases; usage comes twice and counts once.
pub const GROQ: Quirks = Quirks {
    name: "groq",
    batches: true,
    base_url: "https://api.groq.com/openai/v1",
    price_provider: Some("groq"),
    key_variable: Some("GROQ_API_KEY"),
    cap_field: CapField::MaxCompletionTokens,
    cap_field_only: false,
    drops: &["logit_bias", "logprobs", "top_logprobs"],
    capabilities: with_sound(CHAT_ONLY),
    words: words::GROQ,
    ..CUSTOM
};

/// DeepSeek tells cache hits from misses.
pub const DEEPSEEK: Quirks = Quirks {
    name: "deepseek",
    base_url: "https://api.deepseek.com",
    price_provider: Some("deepseek"),
    key_variable: Some("DEEPSEEK_API_KEY"),
    usage_rule: UsageRule::HitAndMiss,
    capabilities: CHAT_ONLY,
    words: words::DEEPSEEK,
    ..CUSTOM
};

/// xAI counts reasoning on top of the completion and reports its cost in ticks. A deferred answer would be charged and
/// never seen, and what a larger image costs has no price.
pub const XAI: Quirks = Quirks {
    name: "xai",
    base_url: "https://api.x.ai/v1",
    price_provider: Some("xai"),
    key_variable: Some("XAI_API_KEY"),
    cap_field: CapField::MaxCompletionTokens,
    cap_field_only: false,
    drops: &["deferred", "resolution"],
    usage_rule: UsageRule::ReasoningOnTop,
    provider_cost_authoritative: true,
    capabilities: {
        let mut can = CHAT_ONLY;
        can.visible_output = false;
        can.images = true;
        can
    },
    edits_in_json: true,
    responses: true,
    words: words::XAI,
    ..CUSTOM
};

/// Together.
pub const TOGETHER: Quirks = Quirks {
    name: "together",
    base_url: "https://api.together.xyz/v1",
    price_provider: Some("together"),
    key_variable: Some("TOGETHER_API_KEY"),
    capabilities: with_media(TEXT_AND_RERANK),
    ..CUSTOM
};

/// Fireworks.
pub const FIREWORKS: Quirks = Quirks {
    name: "fireworks",
    base_url: "https://api.fireworks.ai/inference/v1",
    price_provider: Some("fireworks"),
    key_variable: Some("FIREWORKS_API_KEY"),
    capabilities: Capabilities::TEXT,
    ..CUSTOM
};

/// OpenRouter reports what it charges. It would answer with other models, and add what plugins cost, at the caller's word.
pub const OPENROUTER: Quirks = Quirks {
    name: "openrouter",
    base_url: "https://openrouter.ai/api/v1",
    key_variable: Some("OPENROUTER_API_KEY"),
    drops: &["models", "preset", "plugins"],
    provider_cost_authoritative: true,
    capabilities: {
        let mut can = Capabilities::TEXT;
        can.visible_output = false;
        can
    },
    words: words::OPENROUTER,
    ..CUSTOM
};

/// Cerebras answers 400 to penalties and biases.
pub const CEREBRAS: Quirks = Quirks {
    name: "cerebras",
    base_url: "https://api.cerebras.ai/v1",
    price_provider: Some("cerebras"),
    key_variable: Some("CEREBRAS_API_KEY"),
    cap_field: CapField::MaxCompletionTokens,
    cap_field_only: false,
    drops: &["frequency_penalty", "presence_penalty", "logit_bias"],
    capabilities: CHAT_ONLY,
    words: words::CEREBRAS,
    ..CUSTOM
};

/// Perplexity charges searches and citations, and reports what it charges.
pub const PERPLEXITY: Quirks = Quirks {
    name: "perplexity",
    base_url: "https://api.perplexity.ai",
    price_provider: Some("perplexity"),
    key_variable: Some("PERPLEXITY_API_KEY"),
    accepts_stream_options: false,
    usage_rule: UsageRule::Search,
    provider_cost_authoritative: true,
    capabilities: {
        let mut can = CHAT_AND_EMBEDDINGS;
        can.visible_output = false;
        can
    },
    words: words::PERPLEXITY,
    ..CUSTOM
};

/// A vLLM server.
pub const VLLM: Quirks = Quirks {
    name: "vllm",
    base_url: "http://127.0.0.1:8000/v1",
    cap_field_only: false,
    capabilities: with_media(TEXT_AND_RERANK),
    responses: true,
    ..CUSTOM
};

/// A llama.cpp server.
pub const LLAMACPP: Quirks = Quirks {
    name: "llamacpp",
    base_url: "http://127.0.0.1:8080/v1",
    capabilities: TEXT_AND_RERANK,
    responses: true,
    ..CUSTOM
};

/// LM Studio.
pub const LMSTUDIO: Quirks = Quirks {
    name: "lmstudio",
    base_url: "http://127.0.0.1:1234/v1",
    capabilities: Capabilities::TEXT,
    responses: true,
    ..CUSTOM
};

/// Ollama by its compatible endpoint.
pub const OLLAMA: Quirks = Quirks {
    name: "ollama",
    base_url: "http://127.0.0.1:11434/v1",
    capabilities: Capabilities::TEXT,
    responses: true,
    ..CUSTOM
};

static ALL: [Quirks; 16] = [
    OPENAI, AZURE, MISTRAL, GROQ, DEEPSEEK, XAI, TOGETHER, FIREWORKS, OPENROUTER, CEREBRAS, PERPLEXITY, VLLM, LLAMACPP,
    LMSTUDIO, OLLAMA, CUSTOM,
];

impl Quirks {
    /// Every server that we know.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &ALL
    }

    /// The server with this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|row| row.name == name)
    }

    /// Whether callers of any dialect reach its models that answer on `/responses` only.
    #[must_use]
    pub const fn reaches_responses_models(&self) -> bool {
        self.responses && (self.words.openai_models || !self.words.responses_only.is_empty())
    }

    /// The names of all servers that we know.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|row| row.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::OpenAi;

    #[test]
    fn every_row_has_its_own_name_and_is_found_by_it() {
        for row in Quirks::all() {
            assert_eq!(Quirks::by_name(row.name), Some(row));
        }
        assert_eq!(Quirks::names().collect::<std::collections::BTreeSet<_>>().len(), ALL.len());
    }

    #[test]
    fn every_usual_address_is_one() {
        for row in Quirks::all().iter().filter(|row| !row.base_url.is_empty()) {
            OpenAi::new(row, None).unwrap();
        }
        OpenAi::new(&CUSTOM, None).unwrap_err();
        OpenAi::new(&CUSTOM, Some("http://localhost:9/v1/")).unwrap();
    }
}
