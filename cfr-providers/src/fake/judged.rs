//! Moderations and reranks of the fake provider: what has bad words in it is flagged, and documents that share words with
//! the query come first.

use cfr_core::chat::{Meter, Operation, Usage};
use cfr_core::upstream::{Order, Reply, Report, WholeReply};
use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::log::Entry;
use super::prompt::{self, Prompt};
use super::words::Dice;

/// OpenAI's categories.
const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];
/// Words that are taken for violence.
const VIOLENT: [&str; 4] = ["kill", "murder", "attack", "shoot"];
/// Tokens of a query and a document that count as one.
const PIECE_TOKENS: usize = 500;
/// Documents that one search pays for.
const SEARCH_DOCUMENTS: usize = 100;
const BYTES_PER_TOKEN: usize = 4;
/// Scores are made in millionths.
const SCORE_ONE: u64 = 1_000_000;
/// Of the score, what chance decides among documents that fit alike.
const SCORE_CHANCE: u64 = 100_000;

pub(super) fn reply(prompt: &Prompt, order: &Order<'_>, entry: Entry) -> Reply {
    let (body, usage) = match order.call.operation {
        Operation::Rerank => ranking(prompt, order),
        _ => judgement(prompt, order),
    };
    entry.finish();
    let usage = usage.filter(|_| !prompt.script.no_usage);
    let report = Report { usage, model: Some(order.model.into()), ..Report::default() };
    let content_type = HeaderValue::from_static("application/json");
    Reply::Whole(WholeReply {
        content_type,
        body: body.to_string().into(),
        report,
        upstream_id: None,
        dropped: Vec::new(),
    })
}

/// As OpenAI judges: without a word on what was used.
fn judgement(prompt: &Prompt, order: &Order<'_>) -> (Value, Option<Usage>) {
    let input = &prompt.body["input"];
    let results: Vec<Value> = match input {
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(|text| judged(&prompt::texts(text))).collect()
        }
        whole => vec![judged(&prompt::texts(whole))],
    };
    let id = format!("modr-{}", order.call.id);
    (json!({"id": id, "model": order.model, "results": results}), None)
}

fn judged(texts: &[String]) -> Value {
    let is_violent = texts.iter().any(|text| VIOLENT.iter().any(|word| text.to_lowercase().contains(word)));
    let of = |value: &dyn Fn(bool) -> Value| {
        let categories = CATEGORIES.iter().map(|name| ((*name).to_owned(), value(is_violent && *name == "violence")));
        Value::Object(categories.collect::<Map<_, _>>())
    };
    json!({
        "flagged": is_violent,
        "categories": of(&Value::Bool),
        "category_scores": of(&|hit| if hit { json!(0.97) } else { json!(0.0001) }),
        "category_applied_input_types": of(&|_| json!(["text"])),
    })
}

/// As Cohere ranks and charges, with the tokens beside it.
fn ranking(prompt: &Prompt, order: &Order<'_>) -> (Value, Option<Usage>) {
    let query = prompt.body["query"].as_str().unwrap_or_default();
    let documents: Vec<String> = prompt.body["documents"].as_array().into_iter().flatten().map(text).collect();
    let mut places: Vec<(u64, usize)> =
        documents.iter().enumerate().map(|(index, document)| (score(query, document), index)).collect();
    places.sort_by_key(|(score, index)| (std::cmp::Reverse(*score), *index));
    places.truncate(prompt.body["top_n"].as_u64().and_then(|places| places.try_into().ok()).unwrap_or(usize::MAX));
    let with_documents = prompt.body["return_documents"] == true;
    let results: Vec<Value> = places
        .iter()
        .map(|(score, index)| place(*score, *index, with_documents.then(|| &*documents[*index])))
        .collect();
    let (searches, tokens) = (searches(query, &documents), prompt.tokens);
    let mut body = json!({"id": order.call.id.to_string(), "model": order.model, "results": results});
    if !prompt.script.no_usage {
        body["meta"] = json!({"api_version": {"version": "2"}, "billed_units": {"search_units": searches}});
        body["usage"] = json!({ "total_tokens": tokens });
    }
    (body, Some(Usage::text(tokens, 0).with(Meter::RerankQueries, searches)))
}

fn text(document: &Value) -> String {
    prompt::texts(document).concat()
}

/// The share of the query's words that the document has, and some chance.
fn score(query: &str, document: &str) -> u64 {
    let (query, document) = (query.to_lowercase(), document.to_lowercase());
    let words: Vec<&str> =
        query.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let found = words.iter().filter(|word| document.contains(**word)).count() as u64;
    let share = (SCORE_ONE - SCORE_CHANCE) * found / (words.len() as u64).max(1);
    share + Dice::new(prompt::hash([&*query, &*document].into_iter())).roll() % SCORE_CHANCE
}

fn place(score: u64, index: usize, document: Option<&str>) -> Value {
    let score: Value = format!("0.{score:06}").parse().unwrap_or_default();
    let mut place = json!({"index": index, "relevance_score": score});
    if let Some(text) = document {
        place["document"] = json!({ "text": text });
    }
    place
}

fn searches(query: &str, documents: &[String]) -> u64 {
    let room = PIECE_TOKENS.saturating_sub(query.len() / BYTES_PER_TOKEN).max(1);
    let pieces = |document: &String| (document.len() / BYTES_PER_TOKEN).div_ceil(room).max(1);
    documents.iter().map(pieces).sum::<usize>().div_ceil(SEARCH_DOCUMENTS) as u64
}
