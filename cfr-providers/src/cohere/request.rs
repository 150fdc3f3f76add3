//! From a dialog to a request of Cohere's (providers.md §11, §13).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Number, Value, json};

use crate::dialog::{Dialog, Drops, Effort, Format, Reasoning, Sampling};

mod messages;
mod tools;

/// Texts that may end an answer.
const STOPS_MAX: usize = 5;
/// Tokens of an answer that thoughts leave for its words.
const WORDS_TOKENS_MIN: u64 = 1_024;
/// Tokens below which thinking is not worth it.
const THOUGHT_TOKENS_MIN: u64 = 1_024;

/// The body that asks `model` for the next turn of a dialog.
pub(super) fn body(dialog: &Dialog, model: &str, drops: &mut Drops) -> Result<Value, UpstreamError> {
    let messages = messages::messages(dialog, drops)?;
    let mut body = Map::from_iter([
        ("model".to_owned(), Value::from(model)),
        ("messages".to_owned(), messages.into()),
        ("stream".to_owned(), dialog.stream.into()),
    ]);
    tools::add(dialog, &mut body, drops)?;
    body.extend(dialog.output_tokens_max.map(|tokens| ("max_tokens".to_owned(), tokens.into())));
    sampling(&dialog.sampling, &mut body);
    let stops = stops(dialog, drops)?;
    if !stops.is_empty() {
        body.insert("stop_sequences".into(), json!(stops));
    }
    body.extend(format(dialog, drops)?.map(|format| ("response_format".to_owned(), format)));
    let thinking = dialog.reasoning.map(|wish| thinking(wish, dialog.output_tokens_max, drops));
    body.extend(thinking.map(|thinking| ("thinking".to_owned(), thinking)));
    body.extend(dialog.logprobs.map(|_| ("logprobs".to_owned(), true.into())));
    leave_out(dialog, drops)?;
    Ok(body.into())
}

/// How tokens are chosen, each number within what Cohere takes.
fn sampling(wish: &Sampling, body: &mut Map<String, Value>) {
    let numbers = [
        ("temperature", &wish.temperature, 0.0, 1.0),
        ("p", &wish.top_p, 0.01, 0.99),
        ("k", &wish.top_k, 0.0, 500.0),
        ("frequency_penalty", &wish.frequency_penalty, 0.0, 1.0),
        ("presence_penalty", &wish.presence_penalty, 0.0, 1.0),
    ];
    for (name, number, low, high) in numbers {
        body.extend(number.as_ref().map(|number| (name.to_owned(), within(number, low, high))));
    }
    body.extend(wish.seed.clone().map(|seed| ("seed".to_owned(), seed.into())));
}

/// A number of the caller's as it stands, or the end of the range that it is nearest to.
fn within(number: &Number, low: f64, high: f64) -> Value {
    match number.as_f64() {
        Some(value) if value < low => low.into(),
        Some(value) if value > high => high.into(),
        _ => number.clone().into(),
    }
}

fn stops<'a>(dialog: &'a Dialog, drops: &mut Drops) -> Result<&'a [String], UpstreamError> {
    if dialog.stop.len() > STOPS_MAX {
        drops.essential(format!("stop: more than {STOPS_MAX} texts"))?;
    }
    Ok(&dialog.stop[..dialog.stop.len().min(STOPS_MAX)])
}

/// The shape of the answer. Cohere shapes none for which tools may be called.
fn format(dialog: &Dialog, drops: &mut Drops) -> Result<Option<Value>, UpstreamError> {
    let format = match &dialog.format {
        Format::Text => return Ok(None),
        Format::Json => json!({"type": "json_object"}),
        Format::Schema(format) => json!({"type": "json_object", "json_schema": format.schema}),
    };
    if dialog.tools.is_empty() {
        return Ok(Some(format));
    }
    drops.essential("response_format beside tools")?;
    Ok(None)
}

/// Thoughts are part of the answer's tokens: where the cap leaves no room for them beside words there are none.
fn thinking(wish: Reasoning, tokens_max: Option<u64>, drops: &mut Drops) -> Value {
    let budget = match wish {
        Reasoning::Off => return json!({"type": "disabled"}),
        Reasoning::Budget(tokens) => Some(tokens),
        Reasoning::Effort(effort) => budget_of(effort),
    };
    let room = tokens_max.map_or(u64::MAX, |tokens| tokens.saturating_sub(WORDS_TOKENS_MIN));
    if room < THOUGHT_TOKENS_MIN {
        drops.harmless("reasoning_effort");
        return json!({"type": "disabled"});
    }
    match budget {
        Some(tokens) => json!({"type": "enabled", "token_budget": tokens.min(room)}),
        None => json!({"type": "enabled"}),
    }
}

/// Tokens for an effort; from much effort on as many as the model likes (providers.md §13.2).
const fn budget_of(effort: Effort) -> Option<u64> {
    match effort {
        Effort::Minimal | Effort::Low => Some(1_024),
        Effort::Medium => Some(4_096),
        Effort::High | Effort::XHigh | Effort::Max => None,
    }
}

/// What Cohere has no words for.
fn leave_out(dialog: &Dialog, drops: &mut Drops) -> Result<(), UpstreamError> {
    drops.essential_said(&[
        ("n", dialog.choices > 1),
        ("top_logprobs", dialog.logprobs.is_some_and(|logprobs| logprobs.top > 0)),
        ("modalities", dialog.modalities.is_some()),
        ("web_search_options", dialog.web_search.is_some()),
    ])?;
    drops.wishes_of_openai(dialog);
    drops.harmless_said(&[
        ("parallel_tool_calls", dialog.parallel_tools == Some(false)),
        ("metadata", !dialog.metadata.is_empty()),
        ("service_tier", dialog.service_tier.is_some()),
    ]);
    Ok(())
}
