//! What images, speech and transcripts report of themselves (providers.md §4).

use std::fmt;

use cfr_core::chat::{Meter, Usage};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::openai::usage::{Count, count, plausible};

/// Usage by whichever names there are: tokens by kind, or a length.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MediaUsage {
    #[serde(rename = "type")]
    kind: Option<Box<str>>,
    seconds: Option<Seconds>,
    /// Mistral's length of a recording.
    prompt_audio_seconds: Option<Seconds>,
    #[serde(alias = "prompt_tokens")]
    input_tokens: Option<Tokens>,
    #[serde(alias = "completion_tokens")]
    output_tokens: Option<Tokens>,
    #[serde(alias = "input_token_details", alias = "prompt_tokens_details")]
    input_tokens_details: Option<Details>,
    #[serde(alias = "output_token_details", alias = "completion_tokens_details")]
    output_tokens_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    image_tokens: Option<Tokens>,
    audio_tokens: Option<Tokens>,
    text_tokens: Option<Tokens>,
    /// Of the input, by kind; where a provider does not say the kind, nothing is taken for cached.
    cached_tokens_details: Option<CachedDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CachedDetails {
    image_tokens: Option<Tokens>,
    text_tokens: Option<Tokens>,
}

/// A number of tokens.
#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
struct Tokens(Count);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

fn tokens(number: Option<Tokens>) -> u64 {
    count(number.map(|tokens| tokens.0))
}

/// A length in whole seconds, rounded up, whether it stands as a number or, as in older answers, as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) u64);

/// What is made, where tokens of output do not say their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Makes {
    Images,
    Sound,
    Words,
}

impl MediaUsage {
    /// `None` where nothing is said, which is not the same as nothing.
    pub(super) fn read(&self, makes: Makes) -> Option<Usage> {
        let length = self.prompt_audio_seconds.or(self.seconds.filter(|_| self.kind.as_deref() != Some("tokens")));
        if let Some(Seconds(seconds)) = length {
            return plausible(Usage::default().with(Meter::InputSeconds, seconds));
        }
        let (input, output) = (self.input_tokens?, self.output_tokens?);
        let usage = self.input(tokens(Some(input)), Usage::default());
        plausible(self.output(tokens(Some(output)), makes, usage))
    }

    fn input(&self, total: u64, usage: Usage) -> Usage {
        let Some(details) = &self.input_tokens_details else { return usage.with(Meter::InputTokens, total) };
        let cached = details.cached_tokens_details.as_ref();
        let cached_images = cached.map_or(0, |cached| tokens(cached.image_tokens)).min(tokens(details.image_tokens));
        let images = tokens(details.image_tokens).min(total);
        let audio = tokens(details.audio_tokens).min(total - images);
        let text = total - images - audio;
        let cached_text = cached.map_or(0, |cached| tokens(cached.text_tokens)).min(text);
        usage
            .with(Meter::InputImageTokens, images.saturating_sub(cached_images))
            .with(Meter::CacheReadImageTokens, cached_images.min(images))
            .with(Meter::InputAudioTokens, audio)
            .with(Meter::InputTokens, text - cached_text)
            .with(Meter::CacheReadTokens, cached_text)
    }

    /// Without details all of it is what was made.
    fn output(&self, total: u64, makes: Makes, usage: Usage) -> Usage {
        let text = self.output_tokens_details.as_ref().map_or(0, |details| tokens(details.text_tokens)).min(total);
        match makes {
            Makes::Images => usage.with(Meter::OutputImageTokens, total - text).with(Meter::OutputTokens, text),
            Makes::Sound => usage.with(Meter::OutputAudioTokens, total - text).with(Meter::OutputTokens, text),
            Makes::Words => usage.with(Meter::OutputTokens, total),
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Length;
        impl Visitor<'_> for Length {
            type Value = Seconds;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }
            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Seconds, E> {
                Ok(Seconds(seconds))
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Seconds, E> {
                let whole = seconds.ceil();
                if (0.0..9e15).contains(&whole) { Ok(Seconds(whole as u64)) } else { Err(E::custom("out of range")) }
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Seconds, E> {
                self.visit_f64(text.parse().map_err(E::custom)?)
            }
        }
        deserializer.deserialize_any(Length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(makes: Makes, json: &str, expected: Option<&[(Meter, u64)]>) {
        let usage = serde_json::from_str::<MediaUsage>(json).unwrap().read(makes);
        assert_eq!(usage.map(|usage| usage.used().collect::<Vec<_>>()).as_deref(), expected, "{json}");
    }

    #[test]
    fn tokens_of_images_are_told_from_text() {
        let json = r#"{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},
            "output_tokens":300,"output_tokens_details":{"image_tokens":272,"text_tokens":28},"total_tokens":350}"#;
        check(
            Makes::Images,
            json,
            Some(&[
                (Meter::InputTokens, 10),
                (Meter::InputImageTokens, 40),
                (Meter::OutputTokens, 28),
                (Meter::OutputImageTokens, 272),
            ]),
        );
    }

    #[test]
    fn what_was_cached_is_believed_where_its_kind_is_said() {
        let json = r#"{"input_tokens":50,"output_tokens":0,"input_tokens_details":{"text_tokens":10,"image_tokens":40,
            "cached_tokens":24,"cached_tokens_details":{"text_tokens":4,"image_tokens":20}}}"#;
        check(
            Makes::Images,
            json,
            Some(&[
                (Meter::InputTokens, 6),
                (Meter::InputImageTokens, 20),
                (Meter::CacheReadTokens, 4),
                (Meter::CacheReadImageTokens, 20),
            ]),
        );
    }

    #[test]
    fn a_transcript_reports_tokens_or_seconds_and_fractions_count_up() {
        let json = r#"{"type":"tokens","input_tokens":34,"input_token_details":{"text_tokens":4,"audio_tokens":30},"output_tokens":3}"#;
        check(
            Makes::Words,
            json,
            Some(&[(Meter::InputTokens, 4), (Meter::InputAudioTokens, 30), (Meter::OutputTokens, 3)]),
        );
        check(Makes::Words, r#"{"type":"duration","seconds":8.47}"#, Some(&[(Meter::InputSeconds, 9)]));
        let mistral = r#"{"prompt_audio_seconds":203,"prompt_tokens":4,"completion_tokens":635}"#;
        check(Makes::Words, mistral, Some(&[(Meter::InputSeconds, 203)]));
    }

    #[test]
    fn speech_makes_sound() {
        let json = r#"{"input_tokens":14,"output_tokens":101,"total_tokens":115}"#;
        check(Makes::Sound, json, Some(&[(Meter::InputTokens, 14), (Meter::OutputAudioTokens, 101)]));
    }

    #[test]
    fn absent_usage_is_not_zero_usage() {
        for json in ["{}", r#"{"input_tokens":3}"#, r#"{"type":"tokens","seconds":3}"#] {
            check(Makes::Images, json, None);
        }
        check(Makes::Images, r#"{"input_tokens":0,"output_tokens":0}"#, Some(&[]));
    }
}
