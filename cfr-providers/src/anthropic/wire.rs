//! What we read of an answer and of the events of a stream (providers.md §6.2, §6.3). Texts are borrowed where they stand
//! without escapes; what we do not need is skipped.

use std::borrow::Cow;

use cfr_core::upstream::FinishReason;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A borrowed text where it stands without escapes.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A short text that is kept; anything else is as good as none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word(Option<Box<str>>);

impl Word {
    pub(super) fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }

    pub(super) fn replaced_by(self, later: Self) -> Self {
        Self(later.0.or(self.0))
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

/// A complete answer, or the beginning of a streamed one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    pub(super) id: Word,
    pub(super) model: Word,
    #[serde(borrow)]
    pub(super) content: Option<Vec<Block<'a>>>,
    pub(super) stop_reason: Word,
    pub(super) stop_sequence: Word,
    #[serde(borrow)]
    pub(super) stop_details: Option<StopDetails<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// A block of content, of any kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Block<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) data: Option<Text<'a>>,
    pub(super) id: Word,
    pub(super) name: Word,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citations: Option<Vec<WireCitation<'a>>>,
}

/// One event of a stream, of any kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    pub(super) index: u64,
    #[serde(borrow)]
    pub(super) message: Option<Message<'a>>,
    #[serde(borrow)]
    pub(super) content_block: Option<Block<'a>>,
    #[serde(borrow)]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// More of a block, or of the message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) partial_json: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) citation: Option<WireCitation<'a>>,
    pub(super) stop_reason: Word,
    pub(super) stop_sequence: Word,
    #[serde(borrow)]
    pub(super) stop_details: Option<StopDetails<'a>>,
}

/// Why an answer was refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StopDetails<'a> {
    #[serde(borrow)]
    pub(super) explanation: Option<Text<'a>>,
}

/// Where words come from: a page, a search result, or a place in a document.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireCitation<'a> {
    #[serde(borrow)]
    pub(super) url: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) source: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) title: Option<Text<'a>>,
}

impl Block<'_> {
    /// Bytes that a reader of the answer sees.
    pub(super) fn visible_bytes(&self) -> u64 {
        let texts = [&self.text, &self.thinking].into_iter().flatten().map(|text| text.0.len()).sum::<usize>();
        let called = self.name.text().map_or(0, str::len);
        let input = self.input.map(RawValue::get).filter(|input| *input != NO_INPUT).map_or(0, str::len);
        (texts + called + input) as u64
    }
}

impl Delta<'_> {
    /// Bytes that a reader of the answer sees.
    pub(super) fn visible_bytes(&self) -> u64 {
        let texts = [&self.text, &self.thinking, &self.partial_json];
        texts.into_iter().flatten().map(|text| text.0.len() as u64).sum()
    }
}

/// The input of a call that has none, or whose input is still to come.
pub(super) const NO_INPUT: &str = "{}";

/// Why an answer ended, in OpenAI's words (providers.md §15).
pub(super) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "end_turn" | "stop_sequence" | "pause_turn" | "compaction" => FinishReason::Stop,
        "tool_use" => FinishReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "refusal" => FinishReason::ContentFilter,
        word => FinishReason::Other(word.into()),
    }
}
