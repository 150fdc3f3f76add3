//! What a call asks for.

use serde_json::{Map, Number, Value};

use super::part::{CacheMark, Part, Source, Text, Turn};
use crate::media::MediaKind;

/// A conversation that waits for its next answer, with everything that shapes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dialog {
    /// What the operator says before the conversation.
    pub system: Vec<Text>,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether and what it must call; nothing said is [`ToolChoice::Auto`].
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once; providers allow it when nothing is said.
    pub parallel_tools: Option<bool>,
    /// The cap on answer tokens: the caller's or ours, whichever is lower.
    pub output_tokens_max: Option<u64>,
    /// How many answers.
    pub choices: u32,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Whether probabilities are wanted with the answer.
    pub logprobs: Option<Logprobs>,
    /// The shape of the answer's text.
    pub format: Format,
    /// How much to think before it.
    pub reasoning: Option<Reasoning>,
    /// Search the web for it.
    pub web_search: Option<WebSearch>,
    /// Kinds of output other than text, with their settings, in OpenAI's words: `modalities` and `audio`.
    pub modalities: Option<Modalities>,
    /// The caller's own name for the person who asks.
    pub end_user: Option<String>,
    /// The caller's notes about the request.
    pub metadata: Map<String, Value>,
    /// The service tier, in OpenAI's words.
    pub service_tier: Option<String>,
    /// How many words to make: `low`, `medium`, `high`.
    pub verbosity: Option<String>,
    /// Requests with one key share the provider's cache.
    pub cache_key: Option<String>,
    /// An answer that the caller expects.
    pub prediction: Option<Value>,
    /// Whether the provider may keep the answer.
    pub store: Option<bool>,
    /// Whether the answer is wanted as a stream.
    pub stream: bool,
    /// Fields of the caller's dialect that none of the above stands for: a target that speaks another dialect cannot be
    /// told of them.
    pub unread: Vec<Box<str>>,
}

impl Dialog {
    /// Where the pictures and documents of the conversation are.
    pub(crate) fn sources(&mut self) -> impl Iterator<Item = (MediaKind, &mut Source)> {
        let parts = self.turns.iter_mut().flat_map(|turn| &mut turn.parts);
        let parts = parts.flat_map(|part| match part {
            Part::ToolResult(result) => result.content.iter_mut(),
            part => std::slice::from_mut(part).iter_mut(),
        });
        parts.filter_map(|part| match part {
            Part::Image(image) => Some((MediaKind::Image, &mut image.source)),
            Part::File(file) => Some((MediaKind::Pdf, &mut file.source)),
            _ => None,
        })
    }
}

/// How the next token is chosen. The numbers are the caller's own, as they stand in the body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0 to 2; some providers end at 1.
    pub temperature: Option<Number>,
    /// 0 to 1.
    pub top_p: Option<Number>,
    /// How many candidates.
    pub top_k: Option<Number>,
    /// -2 to 2.
    pub frequency_penalty: Option<Number>,
    /// -2 to 2.
    pub presence_penalty: Option<Number>,
    /// For answers that repeat, as far as that is possible.
    pub seed: Option<Number>,
    /// Token ids with what is added to their chance.
    pub logit_bias: Option<Value>,
}

/// Probabilities that are wanted with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logprobs {
    /// Of how many other candidates per token.
    pub top: u64,
}

/// What the model may call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Tool {
    /// A function of the caller's.
    Function {
        /// Its name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The JSON Schema of its arguments; an object without members when the caller gives none.
        parameters: Value,
        /// Whether arguments must follow the schema to the letter.
        strict: Option<bool>,
        /// A place to cache up to.
        cache: Option<CacheMark>,
    },
    /// A tool of the caller's that takes free text.
    Custom {
        /// Its name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The grammar of its input, in OpenAI's words.
        format: Option<Value>,
    },
}

impl Tool {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Function { name, .. } | Self::Custom { name, .. } => name,
        }
    }
}

/// Whether and what the model must call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it sees fit.
    Auto,
    /// Nothing.
    None,
    /// Something.
    Required,
    /// This tool.
    Named(String),
    /// One of these only.
    Allowed {
        /// It must call one.
        required: bool,
        /// The tools.
        names: Vec<String>,
    },
}

/// The shape of the answer's text.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Format {
    /// Words.
    #[default]
    Text,
    /// Some JSON.
    Json,
    /// JSON of one shape.
    Schema(SchemaFormat),
}

/// JSON of one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaFormat {
    /// Its name; `output` where the caller's dialect has none.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON Schema.
    pub schema: Value,
    /// Whether the answer must follow the schema to the letter.
    pub strict: Option<bool>,
}

/// How much to think before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reasoning {
    /// Not at all.
    Off,
    /// As much as this.
    Effort(Effort),
    /// At most so many tokens.
    Budget(u64),
}

/// How much to think, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// As usual.
    Medium,
    /// Much.
    High,
    /// Very much.
    XHigh,
    /// As much as the model can.
    Max,
}

impl Effort {
    /// OpenAI's word, which Anthropic shares from `low` on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort of a word.
    #[must_use]
    pub fn from_name(word: &str) -> Option<Self> {
        Some(match word {
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::XHigh,
            "max" => Self::Max,
            _ => return None,
        })
    }

    /// The effort that spends about so many tokens (providers.md §14).
    #[must_use]
    pub const fn of_budget(tokens: u64) -> Self {
        match tokens {
            0..=2_048 => Self::Low,
            2_049..=8_192 => Self::Medium,
            8_193..=24_576 => Self::High,
            _ => Self::XHigh,
        }
    }
}

impl Reasoning {
    /// The effort behind it; none when there is to be no thinking.
    #[must_use]
    pub const fn effort(self) -> Option<Effort> {
        match self {
            Self::Off => None,
            Self::Effort(effort) => Some(effort),
            Self::Budget(tokens) => Some(Effort::of_budget(tokens)),
        }
    }
}

/// A search of the web by the provider.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WebSearch {
    /// How much of what is found is read: `low`, `medium`, `high`.
    pub context: Option<String>,
    /// Where the person is, in OpenAI's words.
    pub location: Option<Value>,
    /// How often at the most.
    pub uses_max: Option<u64>,
}

/// Kinds of output other than text, in OpenAI's words.
#[derive(Debug, Clone, PartialEq)]
pub struct Modalities {
    /// Such as `text` and `audio`.
    pub kinds: Vec<String>,
    /// Voice and format of spoken output.
    pub audio: Option<Value>,
}
