//! What a conversation is taken for where the provider does not say what a response used: its last word, and the length of
//! what came since (money.md §2.6). An estimate, and never a bound.

use cfr_core::chat::envelope::Heard;
use cfr_core::chat::usage::tokens_estimated;
use cfr_core::chat::{Meter, Usage};
use serde_json::Value;

use super::Object;

/// Bytes of a second of `audio/pcm`: 24,000 samples of two bytes.
const PCM_BYTES: u64 = 48_000;
/// Bytes of a second of `audio/pcmu` and `audio/pcma`.
const G711_BYTES: u64 = 8_000;
/// Tokens of a second that a person speaks: one for 100 ms.
const HEARD_TOKENS: u64 = 10;
/// Tokens of a second that the model speaks: one for 50 ms.
const SPOKEN_TOKENS: u64 = 20;

#[derive(Debug, Default)]
pub(super) struct Context {
    heard: Heard,
    /// Bytes of base64 that were appended and not committed yet.
    buffered: u64,
    input: Format,
    output: Format,
}

/// How sound is written.
#[derive(Debug, Clone, Copy, Default)]
enum Format {
    #[default]
    Pcm,
    G711,
}

impl Format {
    fn of(format: &Value) -> Option<Self> {
        match format["type"].as_str()? {
            "audio/pcm" => Some(Self::Pcm),
            _ => Some(Self::G711),
        }
    }

    const fn second(self) -> u64 {
        match self {
            Self::Pcm => PCM_BYTES,
            Self::G711 => G711_BYTES,
        }
    }
}

impl Context {
    pub(super) const fn heard(&self) -> Heard {
        self.heard
    }

    /// The provider's own count of a response that became part of the conversation.
    pub(super) fn counted(&mut self, usage: &Usage) {
        let sound = [Meter::InputAudioTokens, Meter::CacheReadAudioTokens, Meter::OutputAudioTokens];
        let audio_tokens = sound.iter().fold(0_u64, |sum, meter| sum.saturating_add(usage.get(*meter)));
        let all = usage.input_total().saturating_add(usage.output_total());
        self.heard = Heard { text_tokens: all.saturating_sub(audio_tokens), audio_tokens };
    }

    /// Settings that the model reads, or that say how sound is written.
    pub(super) fn configured(&mut self, session: &Object) {
        let audio = session.get("audio").unwrap_or(&Value::Null);
        self.input = Format::of(&audio["input"]["format"]).unwrap_or(self.input);
        self.output = Format::of(&audio["output"]["format"]).unwrap_or(self.output);
        for field in ["instructions", "tools"] {
            self.heard = sum(self.heard, self.length_of(session.get(field).unwrap_or(&Value::Null)));
        }
    }

    pub(super) fn added(&mut self, item: &Value) {
        self.heard = sum(self.heard, self.length_of(item));
    }

    pub(super) fn appended(&mut self, base64_bytes: usize) {
        self.buffered = self.buffered.saturating_add(base64_bytes as u64);
    }

    pub(super) fn cleared(&mut self) {
        self.buffered = 0;
    }

    pub(super) fn committed(&mut self) {
        let audio_tokens = tokens(std::mem::take(&mut self.buffered), self.input, HEARD_TOKENS);
        self.heard = sum(self.heard, Heard { text_tokens: 0, audio_tokens });
    }

    /// Tokens of a piece of sound that the model speaks.
    pub(super) fn spoken(&self, base64_bytes: usize) -> u64 {
        tokens(base64_bytes as u64, self.output, SPOKEN_TOKENS)
    }

    /// The length of whatever stands in a value; sound stands under `audio`.
    pub(super) fn length_of(&self, value: &Value) -> Heard {
        match value {
            Value::String(text) => Heard { text_tokens: tokens_estimated(text.len() as u64), audio_tokens: 0 },
            Value::Array(values) => values.iter().fold(Heard::default(), |all, value| sum(all, self.length_of(value))),
            Value::Object(members) => members.iter().fold(Heard::default(), |all, (name, value)| {
                let sound = value.as_str().filter(|_| name == "audio");
                let part = sound.map_or_else(|| self.length_of(value), |sound| self.sound(sound.len()));
                sum(all, part)
            }),
            _ => Heard::default(),
        }
    }

    fn sound(&self, base64_bytes: usize) -> Heard {
        Heard { text_tokens: 0, audio_tokens: tokens(base64_bytes as u64, self.input, HEARD_TOKENS) }
    }
}

pub(super) const fn sum(left: Heard, right: Heard) -> Heard {
    Heard {
        text_tokens: left.text_tokens.saturating_add(right.text_tokens),
        audio_tokens: left.audio_tokens.saturating_add(right.audio_tokens),
    }
}

/// Tokens of so many bytes of base64, rounded up.
const fn tokens(base64_bytes: u64, format: Format, per_second: u64) -> u64 {
    (base64_bytes / 4).saturating_mul(3).saturating_mul(per_second).div_ceil(format.second())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sound_is_counted_by_its_length_and_all_else_by_its_bytes() {
        let mut context = Context::default();
        context.appended(64_000); // a second of PCM
        assert_eq!(context.heard().audio_tokens, 0, "not part of the conversation yet");
        context.committed();
        context.added(&json!({"content": [{"audio": "A".repeat(128_000)}, {"text": "hello"}]}));
        assert_eq!(context.heard(), Heard { text_tokens: 2, audio_tokens: 30 });
        assert_eq!(context.spoken(64_000), 20);
        let phone = json!({"audio": {"output": {"format": {"type": "audio/pcmu"}}}});
        context.configured(phone.as_object().expect("an object"));
        assert_eq!(context.spoken(64_000), 120);
    }

    #[test]
    fn the_providers_word_takes_the_place_of_the_estimate() {
        let mut context = Context::default();
        context.added(&json!("a long text that was counted by its bytes"));
        let usage = Usage::text(100, 10).with(Meter::CacheReadAudioTokens, 7).with(Meter::OutputAudioTokens, 20);
        context.counted(&usage);
        assert_eq!(context.heard(), Heard { text_tokens: 110, audio_tokens: 27 });
    }
}
