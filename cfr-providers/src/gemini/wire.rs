//! What we read of a GenerateContentResponse, whole or a chunk of one (providers.md §7.3, §7.4). Everything borrows;
//! what we do not need is skipped, not built.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// An answer, or a piece of one.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow)]
    prompt_feedback: Option<PromptFeedback<'a>>,
    #[serde(borrow)]
    pub(super) usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) response_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// One of the answers.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Candidate<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) finish_message: Option<Text<'a>>,
    #[serde(borrow)]
    grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    citation_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) logprobs_result: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<Part<'a>>>,
}

/// A piece of what is said.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Part<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    thought: Option<bool>,
    #[serde(borrow)]
    pub(super) thought_signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
    #[serde(borrow)]
    pub(super) inline_data: Option<Blob<'a>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FunctionCall<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_args: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Blob<'a> {
    #[serde(borrow)]
    pub(super) mime_type: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) data: Option<Text<'a>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PromptFeedback<'a> {
    #[serde(borrow)]
    block_reason: Option<Text<'a>>,
    #[serde(borrow)]
    block_reason_message: Option<Text<'a>>,
}

/// What a search found, and what of the answer rests on it.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Grounding<'a> {
    #[serde(borrow)]
    web_search_queries: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    image_search_queries: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub(super) grounding_chunks: Option<Vec<Chunk<'a>>>,
    pub(super) grounding_supports: Option<Vec<Support>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) web: Option<Site<'a>>,
    #[serde(borrow)]
    pub(super) maps: Option<Site<'a>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Site<'a> {
    #[serde(borrow)]
    pub(super) uri: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) title: Option<Text<'a>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Support {
    pub(super) segment: Option<Segment>,
    pub(super) grounding_chunk_indices: Option<Vec<usize>>,
}

/// A place in the answer, in bytes of the part of that number.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Segment {
    pub(super) part_index: Option<usize>,
    pub(super) start_index: Option<usize>,
    pub(super) end_index: Option<usize>,
}

/// Texts that the answer repeats: `citations` at Vertex, `citationSources` at AI Studio.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Citations<'a> {
    #[serde(borrow)]
    citations: Option<Vec<Cited<'a>>>,
    #[serde(borrow)]
    citation_sources: Option<Vec<Cited<'a>>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Cited<'a> {
    pub(super) start_index: Option<usize>,
    pub(super) end_index: Option<usize>,
    #[serde(borrow)]
    pub(super) uri: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) title: Option<Text<'a>>,
}

/// A borrowed text where it stands without escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The text, empty where there is none.
pub(super) fn str_of<'t>(text: Option<&'t Text<'_>>) -> &'t str {
    text.map_or("", |text| &text.0)
}

impl<'a> Response<'a> {
    /// The answers in it.
    pub(super) fn candidates(&self) -> &[Candidate<'a>] {
        self.candidates.as_deref().unwrap_or_default()
    }

    /// Why the prompt itself was blocked, if it was, and Google's words for it, often none.
    pub(super) fn blocked(&self) -> Option<(&str, &str)> {
        let feedback = self.prompt_feedback.as_ref()?;
        let (reason, words) = (&feedback.block_reason, &feedback.block_reason_message);
        Some((str_of(reason.as_ref()), str_of(words.as_ref()))).filter(|(reason, _)| !reason.is_empty())
    }
}

impl<'a> Candidate<'a> {
    /// What is said.
    pub(super) fn parts(&self) -> &[Part<'a>] {
        self.content.as_ref().and_then(|content| content.parts.as_deref()).unwrap_or_default()
    }

    /// Why it ended, if it did.
    pub(super) fn finish_reason(&self) -> Option<&str> {
        let reason = str_of(self.finish_reason.as_ref());
        (!matches!(reason, "" | "FINISH_REASON_UNSPECIFIED")).then_some(reason)
    }

    /// What a search found. Where it cannot be read, the answer stands all the same.
    pub(super) fn grounding(&self) -> Option<Grounding<'a>> {
        serde_json::from_str(self.grounding_metadata?.get()).ok()
    }

    /// The texts that the answer repeats.
    pub(super) fn cited(&self) -> Vec<Cited<'a>> {
        let raw = self.citation_metadata.map_or("", RawValue::get);
        let citations: Citations<'a> = serde_json::from_str(raw).unwrap_or_default();
        citations.citations.or(citations.citation_sources).unwrap_or_default()
    }
}

impl Grounding<'_> {
    /// What was searched for, among texts and among pictures.
    pub(super) fn queries(&self) -> impl Iterator<Item = &str> {
        [&self.web_search_queries, &self.image_search_queries].into_iter().flatten().flatten().map(|query| &*query.0)
    }
}

impl Part<'_> {
    /// Whether it is a summary of what the model thought.
    pub(super) fn is_thought(&self) -> bool {
        self.thought == Some(true)
    }

    /// Bytes that a reader of the answer sees: words, names and arguments.
    pub(super) fn visible_bytes(&self) -> u64 {
        let raw = |raw: Option<&RawValue>| raw.map_or(0, |raw| raw.get().len());
        let call = self.function_call.as_ref();
        let call = call.map_or(0, |call| str_of(call.name.as_ref()).len() + raw(call.args) + raw(call.partial_args));
        (str_of(self.text.as_ref()).len() + call) as u64
    }
}
