//! What we read of an answer. Everything borrows; what we do not need is skipped, not built.

use std::borrow::Cow;
use std::fmt;

use cfr_core::upstream::FinishReason;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::visible::Visible;

/// A completion, a chunk of one, or embeddings.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub(super) model: Word<'a>,
    #[serde(borrow, default)]
    pub(super) service_tier: Word<'a>,
    #[serde(borrow, default)]
    pub(super) choices: Option<Choices<'a>>,
    #[serde(default)]
    pub(super) data: Option<IgnoredAny>,
    #[serde(borrow, default)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) x_groq: Option<Extension<'a>>,
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// The usage, wherever the provider put it.
    pub(super) fn usage(&self) -> Option<&'a RawValue> {
        self.usage.or_else(|| self.x_groq.as_ref().and_then(|extension| extension.usage))
    }
}

/// Groq's own member, which may hold the usage.
#[derive(Deserialize)]
pub(super) struct Extension<'a> {
    #[serde(borrow, default)]
    pub(super) usage: Option<&'a RawValue>,
}

/// All choices in one: what they show, and whether they ended.
#[derive(Default)]
pub(super) struct Choices<'a> {
    pub(super) count: u32,
    /// Indices that occur, as bits.
    pub(super) seen: u128,
    /// Indices that have a finish reason, as bits.
    pub(super) finished: u128,
    pub(super) finish: Option<Cow<'a, str>>,
    pub(super) visible_bytes: u64,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(default)]
    delta: Visible,
    #[serde(default)]
    message: Visible,
    #[serde(default)]
    text: Visible,
}

/// A borrowed text where it stands without escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Fold)
    }
}

struct Fold;

impl<'de> Visitor<'de> for Fold {
    type Value = Choices<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of choices")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Choices<'de>, A::Error> {
        let mut all = Choices::default();
        while let Some(choice) = list.next_element::<Choice<'de>>()? {
            all.add(choice);
        }
        Ok(all)
    }
}

impl<'a> Choices<'a> {
    fn add(&mut self, choice: Choice<'a>) {
        let bit = 1_u128.checked_shl(choice.index.unwrap_or(self.count)).unwrap_or(0);
        self.count += 1;
        self.seen |= bit;
        self.visible_bytes += choice.delta.0 + choice.message.0 + choice.text.0;
        if let Some(Text(reason)) = choice.finish_reason.filter(|reason| !reason.0.is_empty()) {
            self.finished |= bit;
            self.finish = Some(reason);
        }
    }
}

/// Why an answer ended, in OpenAI's words also where a server has one of its own.
pub(super) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "eos" => FinishReason::Stop,
        "model_length" => FinishReason::Length,
        "insufficient_system_resource" => FinishReason::Error,
        word => FinishReason::from_name(word),
    }
}

/// A text where there is one; any other value is as good as none.
#[derive(Default)]
pub(crate) struct Word<'a>(Option<Cow<'a, str>>);

impl Word<'_> {
    pub(crate) fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }

    pub(crate) fn boxed(&self) -> Option<Box<str>> {
        self.0.as_deref().map(Into::into)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyWord)
    }
}

struct AnyWord;

impl<'de> Visitor<'de> for AnyWord {
    type Value = Word<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Word<'de>, E> {
        Ok(Word(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word<'de>, E> {
        Ok(Word(Some(Cow::Owned(text.into()))))
    }

    fn visit_unit<E: Error>(self) -> Result<Word<'de>, E> {
        Ok(Word(None))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Word<'de>, E> {
        Ok(Word(None))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Word<'de>, E> {
        Ok(Word(None))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Word<'de>, E> {
        Ok(Word(None))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Word<'de>, E> {
        Ok(Word(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Word<'de>, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Word(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Word<'de>, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Word(None))
    }
}
