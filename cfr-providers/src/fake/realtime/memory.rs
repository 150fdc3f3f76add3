//! What was said in a conversation, and what it costs to read it.

use serde_json::{Value, json};

use super::super::prompt::texts;

/// Bytes of text that count as one token.
const BYTES_PER_TOKEN: u64 = 4;
/// Milliseconds of a user's sound that count as one token.
const MS_PER_TOKEN: usize = 100;

/// Tokens of text and of sound.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tokens {
    pub(super) text: u64,
    pub(super) audio: u64,
}

impl Tokens {
    pub(super) const fn total(self) -> u64 {
        self.text + self.audio
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self { text: self.text + other.text, audio: self.audio + other.audio }
    }

    fn to_json(self) -> Value {
        json!({ "text_tokens": self.text, "audio_tokens": self.audio })
    }
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    tokens: Tokens,
    /// What the last response read, which is cached now.
    cached: Tokens,
    /// What a user, or a tool, said last.
    pub(super) last: String,
    /// Whether the last word was a tool's.
    pub(super) answered: bool,
}

impl Memory {
    pub(super) fn add(&mut self, item: &Value) {
        let text = texts(&item["content"]).concat() + item["output"].as_str().unwrap_or_default();
        self.tokens.text += (text.len() as u64).div_ceil(BYTES_PER_TOKEN);
        self.answered = item["type"] == "function_call_output";
        self.last = text;
    }

    pub(super) fn add_sound(&mut self, ms: usize) {
        self.tokens.audio += ms.div_ceil(MS_PER_TOKEN) as u64;
        (self.last, self.answered) = (String::new(), false);
    }

    pub(super) fn add_answer(&mut self, said: Tokens) {
        self.tokens = self.tokens.plus(said);
    }

    /// What the next response reads, with these settings.
    pub(super) fn read(&self, settings: &Value) -> Tokens {
        let instructions = settings["instructions"].as_str().unwrap_or_default().len();
        let tools = settings["tools"].as_array().filter(|tools| !tools.is_empty());
        let bytes = instructions + tools.map_or(0, |_| settings["tools"].to_string().len());
        self.tokens.plus(Tokens { text: (bytes as u64).div_ceil(BYTES_PER_TOKEN), audio: 0 })
    }

    /// The usage of a response, as it is reported; what it read is cached from now on.
    pub(super) fn usage(&mut self, read: Tokens, said: Tokens) -> Value {
        let cached = Tokens { text: self.cached.text.min(read.text), audio: self.cached.audio.min(read.audio) };
        self.cached = read;
        json!({
            "total_tokens": read.total() + said.total(),
            "input_tokens": read.total(),
            "output_tokens": said.total(),
            "input_token_details": {
                "text_tokens": read.text, "audio_tokens": read.audio, "image_tokens": 0,
                "cached_tokens": cached.total(),
                "cached_tokens_details": { "text_tokens": cached.text, "audio_tokens": cached.audio, "image_tokens": 0 },
            },
            "output_token_details": said.to_json(),
        })
    }
}
