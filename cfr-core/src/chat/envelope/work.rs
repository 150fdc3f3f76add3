//! What a call asks for that is not measured in tokens of text: it decides about the price beside them.

use super::InputBound;
use crate::chat::{Meter, Usage};

/// What a call asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// Answers in words, or vectors.
    #[default]
    Text,
    /// Images, so many as [`super::Envelope::choices`] says; those given are [`super::InputBound::images`].
    Images(ImageOrder),
    /// A text read aloud.
    Speech(Script),
    /// Speech written down.
    Transcript(Recording),
    /// The next response in a conversation, which the provider has and the body has not.
    Conversation(Heard),
}

/// What a conversation is taken for where the provider does not say what it used: by its last word, and by the length of
/// what came since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Tokens of text.
    pub text_tokens: u64,
    /// Tokens of sound.
    pub audio_tokens: u64,
}

/// How images are to be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageOrder {
    /// Width and height in pixels; `None` where the provider chooses.
    pub size: Option<(u32, u32)>,
    /// How much care is asked for.
    pub quality: ImageQuality,
    /// Unfinished images that a stream shows on the way to each.
    pub partial_images: u32,
}

/// How much care an image is worth, in OpenAI's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImageQuality {
    /// `low`.
    Low,
    /// `medium`.
    Medium,
    /// `high`.
    High,
    /// `xhigh`.
    ExtraHigh,
    /// `max`.
    Max,
    /// `auto`, nothing, or a word that we do not know: the provider chooses.
    #[default]
    Auto,
}

/// A text to be read aloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Script {
    /// Its characters: code points of Unicode.
    pub characters: u64,
}

/// Speech to be written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recording {
    /// It is not longer than so many seconds, by what its bytes say.
    pub seconds: u64,
    /// Whether that follows from the samples themselves, and not from what a file says about them.
    pub counted: bool,
    /// Whether the caller lets the provider cut it into pieces, each of which is a prompt of its own.
    pub in_pieces: bool,
}

impl ImageQuality {
    pub(super) fn from_word(word: &str) -> Self {
        match word {
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::ExtraHigh,
            "max" => Self::Max,
            _ => Self::Auto,
        }
    }
}

/// Width and height of `1024x1536`; `None` for `auto` and for what is no size.
pub(super) fn size_of(word: &str) -> Option<(u32, u32)> {
    let (width, height) = word.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

impl InputBound {
    /// What work other than text is taken for when a provider does not say what it used: all that was asked for.
    pub(crate) fn pieces(&self, choices: u32) -> Option<Usage> {
        let choices = u64::from(choices);
        let usage = Usage::default();
        Some(match self.work {
            Work::Text | Work::Conversation(_) => return None,
            Work::Images(_) => usage
                .with(Meter::OutputImages, choices)
                .with(Meter::InputImages, u64::from(self.images).saturating_mul(choices)),
            Work::Speech(script) => usage.with(Meter::InputCharacters, script.characters),
            Work::Transcript(recording) => usage.with(Meter::InputSeconds, recording.seconds),
        })
    }
}
