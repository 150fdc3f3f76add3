//! From a dialog to a Converse request (providers.md §8.2, §13, §14).

use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Number, Value, json};

use super::family::Family;
use crate::anthropic::{self, JSON_ONLY, Marks, Rules, SamplingRule, Thinking};
use crate::dialog::{Dialog, Drops, Effort, Format, Reasoning, SchemaFormat};

mod content;
mod document;
mod tools;

pub(super) use content::Content;
use tools::Tools;

/// Members of `requestMetadata`, and bytes of a name or a value in it.
const METADATA_MAX: usize = 16;
const METADATA_BYTES_MAX: usize = 256;
/// Service tiers that have the same name in both dialects.
const TIERS: [&str; 3] = ["default", "flex", "priority"];

/// The body that asks `model` for the next turn of a dialog. The dialog is in Bedrock's order.
pub(super) fn body(dialog: &Dialog, model: &str, drops: &mut Drops) -> Result<Value, UpstreamError> {
    let (family, rules) = (Family::of(model), anthropic::rules_of(model));
    let mut marks = Marks::of(dialog);
    let tools = Tools::of(dialog, family, &rules, &mut marks, drops)?;
    let mut content = Content::new(family, tools.config.is_some(), &mut marks, drops);
    let system = content.system(&dialog.system, (dialog.format == Format::Json).then_some(JSON_ONLY));
    let messages = content.messages(&dialog.turns)?;
    if family.caches() {
        marks.report(drops);
    }

    let mut body = Map::from_iter([("messages".to_owned(), Value::from(messages))]);
    if !system.is_empty() {
        body.insert("system".into(), system.into());
    }
    let mut native = Native { family, rules, fields: Map::new() };
    native.fields.extend(tools.native_choice.map(|choice| ("tool_choice".to_owned(), choice)));
    let thinks = native.thinking(dialog, tools.is_forced, drops);
    let inference = inference(dialog, &mut native, thinks, drops);
    let parts = [
        ("inferenceConfig", Value::from(inference)),
        ("toolConfig", tools.config.map_or(Value::Null, Value::from)),
        ("outputConfig", output(&dialog.format)),
        ("additionalModelRequestFields", native.fields.into()),
        ("requestMetadata", metadata(&dialog.metadata, drops).into()),
        ("serviceTier", tier(dialog.service_tier.as_deref(), drops)),
    ];
    let said = parts.into_iter().filter(|(_, value)| value.as_object().is_some_and(|members| !members.is_empty()));
    body.extend(said.map(|(name, value)| (name.to_owned(), value)));
    leave_out(dialog, drops)?;
    Ok(body.into())
}

/// How long the answer may be, how its tokens are chosen, and what ends it.
fn inference(dialog: &Dialog, native: &mut Native, thinks: bool, drops: &mut Drops) -> Map<String, Value> {
    let (wish, mut config) = (&dialog.sampling, Map::new());
    // A model that thinks is told its own cap where nobody sets one: the usual one may be less than it is to think.
    let own = Some(native.rules.output_tokens_max).filter(|_| thinks && native.family == Family::Claude);
    config.extend(dialog.output_tokens_max.or(own).map(|tokens| ("maxTokens".to_owned(), tokens.into())));
    let allowed = native.takes_sampling(thinks);
    let top_p_allowed = allowed && !(native.takes_one_of_both() && wish.temperature.is_some());
    let mut set = |name: &str, field: &'static str, value: Option<Value>, allowed: bool| match value {
        Some(value) if allowed => drop(config.insert(name.to_owned(), value)),
        Some(_) => drops.harmless(field),
        None => {}
    };
    set("temperature", "temperature", wish.temperature.as_ref().map(anthropic::at_most_one), allowed);
    set("topP", "top_p", wish.top_p.clone().map(Value::from), top_p_allowed);
    let stop: Vec<&String> = dialog.stop.iter().filter(|stop| !stop.trim().is_empty()).collect();
    if !stop.is_empty() {
        config.insert("stopSequences".into(), json!(stop));
    }
    if let Some(top_k) = &wish.top_k {
        native.top_k(top_k, allowed, drops);
    }
    config
}

/// What goes to the model in its maker's own words.
struct Native {
    family: Family,
    rules: Rules,
    fields: Map<String, Value>,
}

impl Native {
    fn takes_sampling(&self, thinks: bool) -> bool {
        self.family != Family::Claude || (self.rules.sampling != SamplingRule::Nothing && !thinks)
    }

    fn takes_one_of_both(&self) -> bool {
        self.family == Family::Claude && self.rules.sampling == SamplingRule::OneOf
    }

    fn top_k(&mut self, top_k: &Number, allowed: bool, drops: &mut Drops) {
        match self.family {
            Family::Claude | Family::Mistral if allowed => {
                self.fields.insert("top_k".into(), top_k.clone().into());
            }
            Family::Nova => drop(self.fields.insert("inferenceConfig".into(), json!({ "topK": top_k }))),
            _ => drops.harmless("top_k"),
        }
    }

    /// How much to think. Returns whether the model does.
    fn thinking(&mut self, dialog: &Dialog, forced: bool, drops: &mut Drops) -> bool {
        match (self.family, dialog.reasoning) {
            (Family::Claude, _) => self.claude_thinking(dialog, forced, drops),
            (Family::Gpt, Some(wish)) => {
                self.fields.insert("reasoning_effort".into(), gpt_effort(wish).into());
                true
            }
            (_, Some(Reasoning::Off) | None) => false,
            (_, Some(_)) => {
                drops.harmless("reasoning_effort");
                false
            }
        }
    }

    fn claude_thinking(&mut self, dialog: &Dialog, forced: bool, drops: &mut Drops) -> bool {
        let tokens_max = dialog.output_tokens_max.unwrap_or(self.rules.output_tokens_max);
        let thinking = Thinking::of(dialog, &self.rules, tokens_max, forced, drops);
        let thinks = thinking.is_on();
        self.fields.extend(thinking.object.map(|object| ("thinking".to_owned(), object)));
        self.fields.extend(thinking.effort.map(|effort| ("output_config".to_owned(), json!({ "effort": effort }))));
        thinks
    }
}

/// OpenAI's open models know three efforts, and think a little at the least.
fn gpt_effort(wish: Reasoning) -> &'static str {
    match wish.effort() {
        None | Some(Effort::Minimal | Effort::Low) => Effort::Low.name(),
        Some(Effort::Medium) => Effort::Medium.name(),
        Some(Effort::High | Effort::XHigh | Effort::Max) => Effort::High.name(),
    }
}

/// JSON of one shape. The schema stands in the request as a text.
fn output(format: &Format) -> Value {
    let Format::Schema(SchemaFormat { name, description, schema, .. }) = format else { return Value::Null };
    let mut inner = Map::from_iter([
        ("schema".to_owned(), Value::from(anthropic::sanitized(schema).to_string())),
        ("name".to_owned(), name.as_str().into()),
    ]);
    inner.extend(description.as_deref().map(|description| ("description".to_owned(), description.into())));
    json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": inner}}})
}

/// The caller's notes, as far as Bedrock's logs take them.
fn metadata(notes: &Map<String, Value>, drops: &mut Drops) -> Map<String, Value> {
    let fits =
        |(name, value): &(&String, &Value)| !name.is_empty() && is_note(name) && value.as_str().is_some_and(is_note);
    let kept = notes.iter().filter(fits).take(METADATA_MAX);
    let kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    if kept.len() < notes.len() {
        drops.harmless("metadata");
    }
    kept
}

fn is_note(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b" :_@$#=/+,-.".contains(&byte);
    text.len() <= METADATA_BYTES_MAX && text.bytes().all(known)
}

fn tier(tier: Option<&str>, drops: &mut Drops) -> Value {
    match tier {
        None | Some("auto") => Value::Null,
        Some(tier) if TIERS.contains(&tier) => json!({ "type": tier }),
        Some(_) => {
            drops.harmless("service_tier");
            Value::Null
        }
    }
}

/// What Bedrock has no words for.
fn leave_out(dialog: &Dialog, drops: &mut Drops) -> Result<(), UpstreamError> {
    drops.essential_said(&[
        ("n", dialog.choices > 1),
        ("logprobs", dialog.logprobs.is_some()),
        ("modalities", dialog.modalities.is_some()),
        ("web_search_options", dialog.web_search.is_some()),
    ])?;
    drops.wishes_of_openai(dialog);
    let wish = &dialog.sampling;
    drops.harmless_said(&[
        ("frequency_penalty", wish.frequency_penalty.is_some()),
        ("presence_penalty", wish.presence_penalty.is_some()),
        ("seed", wish.seed.is_some()),
    ]);
    Ok(())
}
