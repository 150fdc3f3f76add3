//! Reads the file: which of its models are ours, and under which of our names.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::model::{Facts, Fields};
use super::{LITELLM_MODELS_MAX, Omissions, malformed};
use crate::price::{PRICE_TABLE_BYTES_MAX, PriceTableError};

/// What the file says, by provider and model.
pub(super) type Models = BTreeMap<&'static str, BTreeMap<Box<str>, Facts>>;

/// A name that is longer is none.
const NAME_BYTES_MAX: usize = 200;
/// The file describes its own fields under this name.
const SAMPLE: &str = "sample_spec";

/// Each provider of the file that we know: its name there, ours, and what its models' names begin with there.
const PROVIDERS: [(&str, &str, &str); 21] = [
    ("openai", "openai", "openai/"),
    ("anthropic", "anthropic", "anthropic/"),
    ("gemini", "gemini", "gemini/"),
    ("vertex_ai-language-models", "vertex", "vertex_ai/"),
    ("vertex_ai", "vertex", "vertex_ai/"),
    ("vertex_ai-anthropic_models", "vertex", "vertex_ai/"),
    ("vertex_ai-embedding-models", "vertex", "vertex_ai/"),
    ("azure", "azure", "azure/"),
    ("bedrock", "bedrock", ""),
    ("bedrock_converse", "bedrock", ""),
    ("bedrock_mantle", "bedrock-mantle", "bedrock_mantle/"),
    ("mistral", "mistral", "mistral/"),
    ("groq", "groq", "groq/"),
    ("deepseek", "deepseek", "deepseek/"),
    ("xai", "xai", "xai/"),
    ("together_ai", "together", "together_ai/"),
    ("fireworks_ai", "fireworks", "fireworks_ai/"),
    ("cerebras", "cerebras", "cerebras/"),
    ("perplexity", "perplexity", "perplexity/"),
    ("cohere", "cohere", "cohere/"),
    ("cohere_chat", "cohere", "cohere/"),
];

/// Whether the JSON is a map of models as LiteLLM writes it. A table of ours has a schema at the top.
pub(super) fn is_litellm(json: &[u8]) -> bool {
    let models = serde_json::from_slice::<BTreeMap<String, &RawValue>>(json).unwrap_or_default();
    !models.contains_key("schema") && models.values().any(|model| model.get().contains("\"litellm_provider\""))
}

/// Every model that is ours and has a price.
pub(super) fn read(json: &[u8], today: &str, omissions: &mut Omissions) -> Result<Models, PriceTableError> {
    if json.len() > PRICE_TABLE_BYTES_MAX {
        return Err(PriceTableError::TooLarge);
    }
    let file: BTreeMap<String, &RawValue> =
        serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
    if file.len() > LITELLM_MODELS_MAX {
        return Err(malformed(format!("more than {LITELLM_MODELS_MAX} models")));
    }
    let mut models = Models::new();
    for (key, model) in file.into_iter().filter(|(key, _)| key != SAMPLE) {
        let Some((provider, model, facts)) = read_model(key, model, today, omissions) else { continue };
        let models = models.entry(provider).or_default();
        // Several names of one model: the one with most prices counts.
        if models.get(&model).is_none_or(|known| known.rates.len() <= facts.rates.len()) {
            models.insert(model, facts);
        }
    }
    Ok(models)
}

fn read_model(
    key: String,
    json: &RawValue,
    today: &str,
    omissions: &mut Omissions,
) -> Option<(&'static str, Box<str>, Facts)> {
    let fields = serde_json::from_str::<Fields<'_>>(json.get()).ok().filter(|_| key.len() <= NAME_BYTES_MAX);
    let Some(fields) = fields else {
        omissions.add("not a model", key.chars().take(NAME_BYTES_MAX).collect::<String>());
        return None;
    };
    let provider = fields.text("litellm_provider").unwrap_or_default();
    let Some((_, ours, prefix)) = PROVIDERS.iter().find(|(theirs, ..)| *theirs == provider) else {
        omissions.add("of a provider that we do not reach, or price in another way", provider);
        return None;
    };
    let model = wire_name(ours, key.strip_prefix(prefix).unwrap_or(&key));
    match Facts::read(&key, ours, &fields, today, omissions) {
        Ok(facts) => Some((ours, model, facts)),
        Err(reason) => {
            omissions.add(reason, key);
            None
        }
    }
}

/// The model by the name that its provider wants.
fn wire_name(provider: &str, model: &str) -> Box<str> {
    match provider {
        "fireworks" if !model.starts_with("accounts/") => format!("accounts/fireworks/models/{model}").into(),
        _ => model.into(),
    }
}
