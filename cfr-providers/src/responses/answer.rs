//! From a response to an answer (providers.md §13.6, §15).

use bytes::Bytes;
use cfr_core::upstream::{FinishReason, UpstreamError};
use http::HeaderMap;
use serde_json::{Value, json};

use super::usage;
use super::wire::{Response, parse};
use crate::dialog::{Answer, Choice, Citation, Image, Part, Seal, Source, Text, Thought, ToolCall};
use crate::openai::{Quirks, decode, without_body};

/// The meaning of a complete response.
pub(crate) fn read(quirks: &Quirks, headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
    let response: Response<'_> = serde_json::from_slice(body).map_err(|cause| decode::malformed(headers, &cause))?;
    let text = |word: Option<&str>| word.unwrap_or_default().to_owned();
    let (usage, cost) = usage::read(quirks, &response);
    if let Some(failure) = response.failure().filter(|_| usage.is_none()) {
        return Err(without_body(failure));
    }
    let items = response.items().unwrap_or_default().into_iter().filter_map(parse::<Value>);
    let mut said = Said::default();
    items.for_each(|item| said.item(item));
    let finish = response.finish().unwrap_or(FinishReason::Stop);
    let choice = Choice { parts: said.parts, finish, stop_sequence: None, logprobs: said.logprobs };
    Ok(Answer {
        id: text(response.id.text()),
        model: text(response.model.text()),
        choices: vec![choice],
        usage,
        cost,
        service_tier: response.service_tier.text().map(str::to_owned),
        geo: None,
    })
}

#[derive(Default)]
struct Said {
    parts: Vec<Part>,
    logprobs: Option<Value>,
}

impl Said {
    /// Items of the provider's own tools say nothing that the caller's dialect has words for.
    fn item(&mut self, item: Value) {
        match item["type"].as_str() {
            Some("message") => item["content"].as_array().into_iter().flatten().for_each(|part| self.content(part)),
            Some("reasoning") => self.parts.push(Part::Thought(thought(&item))),
            Some("function_call" | "custom_tool_call") => self.parts.extend(tool_call(&item).map(Part::ToolCall)),
            Some("image_generation_call") => self.parts.extend(image(&item).map(Part::Image)),
            _ => {}
        }
    }

    fn content(&mut self, part: &Value) {
        if let Some(words) = part["refusal"].as_str() {
            self.parts.push(Part::Refusal(words.to_owned()));
        }
        if let Some(text) = part["text"].as_str() {
            let citations = part["annotations"].as_array().into_iter().flatten().filter_map(citation).collect();
            self.parts.push(Part::Text(Text { text: text.to_owned(), citations, ..Text::default() }));
            self.logprobs = logprobs(&part["logprobs"]).or(self.logprobs.take());
        }
    }
}

/// Summaries of a thought, or the thought itself where the model shows it.
fn thought(item: &Value) -> Thought {
    let words = |field: &str| {
        let parts = item[field].as_array().into_iter().flatten();
        parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n\n")
    };
    let (summary, content) = (words("summary"), words("content"));
    Thought { text: if summary.is_empty() { content } else { summary }, seal: seal(item) }
}

/// The proof of a reasoning item, without which it is of no use to the next turn.
pub(super) fn seal(item: &Value) -> Option<Seal> {
    let encrypted = item["encrypted_content"].as_str()?.to_owned();
    Some(Seal::OpenAi { id: item["id"].as_str().unwrap_or_default().to_owned(), encrypted: Some(encrypted) })
}

fn tool_call(item: &Value) -> Option<ToolCall> {
    let custom = item["type"] == "custom_tool_call";
    let arguments = item[if custom { "input" } else { "arguments" }].as_str().unwrap_or_default();
    let arguments = if arguments.trim().is_empty() && !custom { "{}" } else { arguments };
    let (id, name) = (item["call_id"].as_str()?.to_owned(), item["name"].as_str()?.to_owned());
    Some(ToolCall { id, name, arguments: arguments.to_owned(), custom, seal: None, cache: None })
}

pub(super) fn image(item: &Value) -> Option<Image> {
    let data = item["result"].as_str().filter(|data| !data.is_empty())?.to_owned();
    let media_type = format!("image/{}", item["output_format"].as_str().unwrap_or("png"));
    Some(Image { source: Source::Inline { media_type, data }, detail: None, cache: None })
}

pub(super) fn citation(annotation: &Value) -> Option<Citation> {
    if annotation["type"] != "url_citation" {
        return None;
    }
    let (url, at) = (annotation["url"].as_str()?.to_owned(), |field: &str| annotation[field].as_u64());
    let title = annotation["title"].as_str().map(str::to_owned);
    Some(Citation { url, title, start: at("start_index"), end: at("end_index") })
}

/// Probabilities in the words of chat completions; none where the list is empty.
pub(super) fn logprobs(list: &Value) -> Option<Value> {
    let list = list.as_array().filter(|list| !list.is_empty())?;
    Some(json!({"content": list, "refusal": null}))
}
