//! What a message, or a piece of one, says; every compatible server has its own ways to say it (providers.md §10).

use cfr_core::chat::{Operation, Usage};
use cfr_core::price::PicoUsd;
use cfr_core::upstream::FinishReason;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::dialog::{Citation, Image, Source};
use crate::openai::quirks::Quirks;
use crate::openai::usage;
use crate::openai::wire::{self, Extension, Word};

/// A completion, or a chunk of one.
#[derive(Deserialize)]
pub(super) struct Completion<'a> {
    #[serde(borrow, default)]
    pub(super) id: Word<'a>,
    #[serde(borrow, default)]
    pub(super) model: Word<'a>,
    #[serde(borrow, default)]
    pub(super) service_tier: Word<'a>,
    #[serde(default)]
    pub(super) choices: Option<Vec<Value>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    x_groq: Option<Extension<'a>>,
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
    /// What a search model read, as Perplexity says it.
    #[serde(default)]
    search_results: Option<Value>,
}

impl Completion<'_> {
    pub(super) fn usage(&self, quirks: &Quirks) -> (Option<Usage>, Option<PicoUsd>) {
        let raw = self.usage.or_else(|| self.x_groq.as_ref().and_then(|extension| extension.usage));
        let (usage, cost) = raw.and_then(|raw| usage::read(quirks, Operation::ChatCompletions, raw)).unzip();
        (usage, cost.flatten())
    }

    /// What the whole answer rests on.
    pub(super) fn sources(&self) -> impl Iterator<Item = Citation> + '_ {
        let results = self.search_results.as_ref().and_then(Value::as_array);
        results.into_iter().flatten().filter_map(|result| {
            let (url, title) = (text(&result["url"])?, text(&result["title"]));
            Some(Citation { url, title, start: None, end: None })
        })
    }
}

/// Words of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Words {
    Thought(String),
    Text(String),
    Refusal(String),
}

/// The words of a message or of a delta, in order. Empty ones say nothing.
pub(super) fn words(said: &Value) -> Vec<Words> {
    let mut words = Vec::new();
    let thoughts = ["reasoning_content", "reasoning"].into_iter().filter_map(|field| text(&said[field]));
    words.extend(thoughts.take(1).map(Words::Thought)); // servers in transition send both
    match &said["content"] {
        Value::Array(chunks) => words.extend(chunks.iter().flat_map(chunk)),
        content => words.extend(text(content).map(Words::Text)),
    }
    words.extend(text(&said["refusal"]).map(Words::Refusal));
    words
}

/// A piece of a content list, as Mistral's models that think have it.
fn chunk(chunk: &Value) -> Vec<Words> {
    let thinking = match &chunk["thinking"] {
        Value::Array(list) => list.iter().filter_map(|piece| text(&piece["text"])).collect(),
        thinking => text(thinking).unwrap_or_default(),
    };
    let thought = Some(thinking).filter(|thought| !thought.is_empty()).map(Words::Thought);
    let refusal = text(&chunk["refusal"]).map(Words::Refusal);
    [thought, text(&chunk["text"]).map(Words::Text), refusal].into_iter().flatten().collect()
}

/// A text that says something.
pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A wish to call a tool, or a fragment of one.
pub(super) struct Call {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: String,
    pub(super) custom: bool,
}

pub(super) fn calls(said: &Value) -> impl Iterator<Item = Call> + '_ {
    said["tool_calls"].as_array().into_iter().flatten().map(call)
}

fn call(call: &Value) -> Call {
    let custom = call["custom"].is_object();
    let (inner, input) = if custom { (&call["custom"], "input") } else { (&call["function"], "arguments") };
    let arguments = match &inner[input] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        object => object.to_string(), // some servers give the object itself
    };
    Call { index: call["index"].as_u64(), id: text(&call["id"]), name: text(&inner["name"]), arguments, custom }
}

/// An id for a call of a server that gives none: the same whenever the answer is read.
pub(super) fn made_id(answer: &str, choice: u32, call: usize) -> String {
    let letters: String = answer.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("call_{letters}_{choice}_{call}")
}

pub(super) fn citations(said: &Value) -> impl Iterator<Item = Citation> + '_ {
    let citation = |annotation: &Value| {
        let cited = &annotation["url_citation"];
        let url = cited["url"].as_str()?.to_owned();
        let (title, at) = (text(&cited["title"]), |field: &str| cited[field].as_u64());
        Some(Citation { url, title, start: at("start_index"), end: at("end_index") })
    };
    said["annotations"].as_array().into_iter().flatten().filter_map(citation)
}

pub(super) fn images(said: &Value) -> impl Iterator<Item = Image> + '_ {
    let image = |image: &Value| {
        let source = Source::of_address(text(&image["image_url"]["url"])?);
        Some(Image { source, detail: None, cache: None })
    };
    said["images"].as_array().into_iter().flatten().filter_map(image)
}

/// Why an answer ended; none while it goes on. Some servers say `stop` where they want tools to be called.
pub(super) fn finish(choice: &Value, calls: bool) -> Option<FinishReason> {
    let reason = wire::finish_reason(&text(&choice["finish_reason"])?);
    Some(if calls && reason == FinishReason::Stop { FinishReason::ToolCalls } else { reason })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reasoning_under_two_names_is_one_thought() {
        let said = json!({"content": "", "reasoning": "a", "reasoning_content": "a"});
        assert_eq!(words(&said), [Words::Thought("a".into())]);
    }

    #[test]
    fn a_list_of_content_is_read_in_order() {
        let said = json!({"content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Add"}, {"type": "text", "text": "."}]},
            {"type": "text", "text": "4"},
            {"type": "reference", "reference_ids": [1]},
        ]});
        assert_eq!(words(&said), [Words::Thought("Add.".into()), Words::Text("4".into())]);
    }

    #[test]
    fn arguments_that_are_an_object_become_text() {
        let said = json!({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]});
        let call = calls(&said).next().unwrap();
        assert_eq!((call.arguments.as_str(), call.id), (r#"{"a":1}"#, None));
    }
}
