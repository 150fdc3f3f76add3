//! What turns and answers are made of.

use serde_json::Value;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The person, or the program that acts for them; results of tools are theirs.
    User,
    /// The model.
    Assistant,
    /// The operator, in the middle of the conversation. What they say before it is [`Dialog::system`](super::Dialog).
    System,
}

/// What one side says before the other does.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// Words.
    Text(Text),
    /// A picture.
    Image(Image),
    /// Sound: base64 in one of the formats `wav` and `mp3`.
    Audio {
        /// The bytes as base64.
        data: String,
        /// `wav` or `mp3`.
        format: String,
    },
    /// A document.
    File(File),
    /// What the model thought before it spoke.
    Thought(Thought),
    /// The model wants a tool to be called.
    ToolCall(ToolCall),
    /// What a tool answered.
    ToolResult(ToolResult),
    /// The model's refusal, in its own words.
    Refusal(String),
}

/// Words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    /// The words.
    pub text: String,
    /// Everything up to here is worth keeping in the provider's prompt cache.
    pub cache: Option<CacheMark>,
    /// Where the words come from; in answers only.
    pub citations: Vec<Citation>,
    /// The provider's proof that the words are the model's own, where it gives one for words.
    pub seal: Option<Seal>,
}

impl Text {
    /// Words alone.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// How long a prompt is worth keeping in the provider's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMark {
    /// The provider's usual time: five minutes or half an hour.
    Usual,
    /// An hour.
    Hour,
    /// Twelve hours.
    TwelveHours,
}

/// Where bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Here, as base64.
    Inline {
        /// The media type, such as `image/png`.
        media_type: String,
        /// The bytes as base64.
        data: String,
    },
    /// At an address that the provider, or we, would have to fetch from.
    Url(String),
    /// Uploaded to the provider before.
    Uploaded(String),
}

impl Source {
    /// What an address of OpenAI's stands for: a data URL carries its bytes, any other address is one.
    #[must_use]
    pub fn of_address(address: String) -> Self {
        match address.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
            Some((media_type, data)) => Self::Inline { media_type: media_type.to_owned(), data: data.to_owned() },
            None => Self::Url(address),
        }
    }

    /// The address that stands for it, or the id of an upload.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Inline { media_type, data } => format!("data:{media_type};base64,{data}"),
            Self::Url(address) | Self::Uploaded(address) => address.clone(),
        }
    }
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Where its bytes are.
    pub source: Source,
    /// How closely to look, in OpenAI's words.
    pub detail: Option<String>,
    /// A place to cache up to.
    pub cache: Option<CacheMark>,
}

/// A document.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Where its bytes are.
    pub source: Source,
    /// The file's name.
    pub name: Option<String>,
    /// A place to cache up to.
    pub cache: Option<CacheMark>,
}

/// What the model thought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thought {
    /// The thought, or a summary of it; empty where the provider shows none.
    pub text: String,
    /// The provider's proof that the thought is the model's own.
    pub seal: Option<Seal>,
}

/// What a provider adds to the model's own words so that it can trust them when they come back. It means nothing to
/// anybody else, and is sent back to its own provider only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seal {
    /// Anthropic's signature of a thought.
    Anthropic(String),
    /// A thought that Anthropic shows to nobody.
    AnthropicRedacted(String),
    /// Gemini's signature of a part, as base64.
    Gemini(String),
    /// OpenAI's reasoning item.
    OpenAi {
        /// The item's id.
        id: String,
        /// The encrypted thought.
        encrypted: Option<String>,
    },
}

/// A wish to call a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The id that its result refers to. Never empty.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments: JSON text, as the model wrote it. Never empty: a call without arguments says `{}`.
    pub arguments: String,
    /// The input is free text for a custom tool rather than JSON.
    pub custom: bool,
    /// The provider's proof that the call is the model's own.
    pub seal: Option<Seal>,
    /// A place to cache up to.
    pub cache: Option<CacheMark>,
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    /// The id of the call.
    pub id: String,
    /// The tool's name, looked up from the call.
    pub name: String,
    /// The answer: texts and pictures.
    pub content: Vec<Part>,
    /// The tool failed.
    pub is_error: bool,
    /// The call was of a custom tool.
    pub custom: bool,
    /// A place to cache up to.
    pub cache: Option<CacheMark>,
}

impl ToolResult {
    /// All words of the answer.
    #[must_use]
    pub fn text(&self) -> String {
        let texts = self.content.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// Where words of an answer come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation {
    /// The address of the source.
    pub url: String,
    /// Its title.
    pub title: Option<String>,
    /// The cited words begin here in the text of the answer, in characters.
    pub start: Option<u64>,
    /// And end here.
    pub end: Option<u64>,
}

impl Part {
    /// Words alone.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Text::new(text))
    }

    /// Bytes that a reader of the answer sees, as cut answers are charged by: words, thoughts, names and arguments.
    #[must_use]
    pub fn visible_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Text(text) => text.text.len(),
            Self::Thought(thought) => thought.text.len(),
            Self::ToolCall(call) => call.name.len() + call.arguments.len(),
            Self::Refusal(words) => words.len(),
            Self::Image(_) | Self::Audio { .. } | Self::File(_) | Self::ToolResult(_) => 0,
        };
        bytes as u64
    }
}

/// JSON text as a value; text that is none becomes a string, so that nothing is lost.
#[must_use]
pub fn value_of(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| Value::from(json))
}
