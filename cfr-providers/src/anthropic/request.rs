//! From a dialog to a request of the Messages dialect (providers.md §6.1, §13).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

use super::models::{self, Rules, SamplingRule};
use super::schema;
use crate::dialog::{Dialog, Drops, Format, Sampling};

mod content;
mod marks;
mod thinking;
mod tools;

pub(crate) use marks::Marks;
pub(crate) use thinking::Thinking;

/// What the model is told where any JSON is wanted: the dialect has no word for it.
pub(crate) const JSON_ONLY: &str = "Respond with one JSON object and nothing else.";

/// Where Messages are served, and what that changes of a body (providers.md §6.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hosting {
    /// By Anthropic, or by a server that speaks its dialect at an address of its own.
    #[default]
    Anthropic,
    /// By Vertex: the path names the model.
    Vertex,
    /// By Bedrock's invoke operations: the path names the model and says whether the answer streams.
    Bedrock,
}

impl Hosting {
    /// The version that stands in the body, where it stands there and the model does not.
    #[must_use]
    pub const fn version_in_body(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => None,
            Self::Vertex => Some("vertex-2023-10-16"),
            Self::Bedrock => Some("bedrock-2023-05-31"),
        }
    }

    /// Whether the server fetches pictures and documents from addresses.
    pub(super) const fn fetches(self) -> bool {
        matches!(self, Self::Anthropic)
    }

    /// Whether the body says that the answer is to stream.
    const fn says_stream(self) -> bool {
        !matches!(self, Self::Bedrock)
    }
}

/// The body that asks `model` for the next turn of a dialog. The dialog is in Anthropic's order; see `MANNERS`.
pub(crate) fn body(
    dialog: &Dialog,
    model: &str,
    hosting: Hosting,
    drops: &mut Drops,
) -> Result<Map<String, Value>, UpstreamError> {
    let rules = models::rules(model);
    let tokens_max = dialog.output_tokens_max.unwrap_or(rules.output_tokens_max);
    let mut marks = Marks::of(dialog);
    let tools = tools::tools(dialog, &mut marks, drops)?;
    let choice = tools::choice(dialog, &rules, !tools.is_empty(), drops)?;
    let thinking = Thinking::of(dialog, &rules, tokens_max, tools::is_forced(choice.as_ref()), drops);
    let system = content::system(dialog, (dialog.format == Format::Json).then_some(JSON_ONLY), &mut marks);
    let messages = content::messages(&dialog.turns, hosting.fetches(), &mut marks, drops)?;

    let mut body = head(model, hosting);
    body.insert("max_tokens".into(), tokens_max.into());
    body.extend(system.map(|system| ("system".to_owned(), system)));
    body.insert("messages".into(), messages.into());
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    sampling(&dialog.sampling, rules.sampling, thinking.is_on(), &mut body, drops);
    let stop: Vec<&String> = dialog.stop.iter().filter(|stop| !stop.trim().is_empty()).collect();
    if !stop.is_empty() {
        body.insert("stop_sequences".into(), json!(stop));
    }
    output(dialog, thinking, &mut body);
    caller(dialog, &mut body, drops)?;
    if dialog.stream && hosting.says_stream() {
        body.insert("stream".into(), true.into());
    }
    marks.report(drops);
    Ok(body)
}

fn head(model: &str, hosting: Hosting) -> Map<String, Value> {
    let (name, value) = match hosting.version_in_body() {
        Some(version) => ("anthropic_version", version),
        None => ("model", model),
    };
    Map::from_iter([(name.to_owned(), value.into())])
}

fn sampling(sampling: &Sampling, rule: SamplingRule, thinks: bool, body: &mut Map<String, Value>, drops: &mut Drops) {
    let allowed = rule != SamplingRule::Nothing && !thinks;
    let one_of = rule == SamplingRule::OneOf && sampling.temperature.is_some();
    let wished = [
        ("temperature", sampling.temperature.as_ref().map(at_most_one), allowed),
        ("top_p", sampling.top_p.clone().map(Value::from), allowed && !one_of),
        ("top_k", sampling.top_k.clone().map(Value::from), allowed),
        ("frequency_penalty", sampling.frequency_penalty.clone().map(Value::from), false),
        ("presence_penalty", sampling.presence_penalty.clone().map(Value::from), false),
        ("seed", sampling.seed.clone().map(Value::from), false),
    ];
    for (name, value, allowed) in wished {
        match value {
            Some(value) if allowed => drop(body.insert(name.into(), value)),
            Some(_) => drops.harmless(name),
            None => {}
        }
    }
}

/// OpenAI's temperatures end at 2, Anthropic's at 1. Anything of the first kind begins with a digit above zero.
pub(crate) fn at_most_one(temperature: &serde_json::Number) -> Value {
    let text = temperature.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let small = text.contains(['e', 'E', '-']) || whole == "0";
    if small || (whole == "1" && fraction.bytes().all(|digit| digit == b'0')) {
        temperature.clone().into()
    } else {
        1.into()
    }
}

/// How much to think, and in which shape to answer.
fn output(dialog: &Dialog, thinking: Thinking, body: &mut Map<String, Value>) {
    let mut config = Map::new();
    body.extend(thinking.object.map(|object| ("thinking".to_owned(), object)));
    config.extend(thinking.effort.map(|effort| ("effort".to_owned(), effort.into())));
    if let Format::Schema(format) = &dialog.format {
        let schema = schema::sanitized(&format.schema);
        config.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
    }
    if !config.is_empty() {
        body.insert("output_config".into(), config.into());
    }
}

/// What the caller says of themselves and of the request, and what there are no words for.
fn caller(dialog: &Dialog, body: &mut Map<String, Value>, drops: &mut Drops) -> Result<(), UpstreamError> {
    if let Some(user) = &dialog.end_user {
        body.insert("metadata".into(), json!({"user_id": user}));
    }
    match dialog.service_tier.as_deref() {
        Some("auto") => drop(body.insert("service_tier".into(), "auto".into())),
        Some("default") => drop(body.insert("service_tier".into(), "standard_only".into())),
        Some(_) => drops.harmless("service_tier"),
        None => {}
    }
    drops.essential_said(&[
        ("n", dialog.choices > 1),
        ("logprobs", dialog.logprobs.is_some()),
        ("modalities", dialog.modalities.is_some()),
    ])?;
    drops.harmless_said(&[
        ("logit_bias", dialog.sampling.logit_bias.is_some()),
        ("metadata", !dialog.metadata.is_empty()),
        ("verbosity", dialog.verbosity.is_some()),
        ("prompt_cache_key", dialog.cache_key.is_some()),
        ("prediction", dialog.prediction.is_some()),
        ("store", dialog.store == Some(true)),
    ]);
    Ok(())
}

/// The rules of a model, for hosts that say the same things in other words.
#[must_use]
pub(crate) fn rules_of(model: &str) -> Rules {
    models::rules(model)
}
