//! Embeddings of the fake provider: unit vectors, the same text always the same one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cfr_core::chat::Usage;
use cfr_core::upstream::{Order, Reply, Report, UpstreamError, WholeReply};
use http::HeaderValue;
use serde_json::{Value, json};

use super::log::Entry;
use super::prompt::{self, Prompt};
use super::words::Dice;

/// Numbers in a vector at the most.
const DIMENSIONS_MAX: u64 = 8_192;
/// Numbers in a vector of a model that we do not know.
const DIMENSIONS_DEFAULT: u64 = 1_536;

pub(super) fn reply(prompt: &Prompt, order: &Order<'_>, entry: Entry) -> Result<Reply, UpstreamError> {
    let dimensions =
        prompt.body["dimensions"].as_u64().unwrap_or_else(|| dimensions_of(order.model)).clamp(1, DIMENSIONS_MAX);
    let base64 = prompt.body["encoding_format"] == "base64";
    let data: Vec<Value> = inputs(&prompt.body["input"])
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": encoded(&vector(text, dimensions), base64)}))
        .collect();
    let mut body = json!({"object": "list", "data": data, "model": order.model});
    if !prompt.script.no_usage {
        body["usage"] = json!({"prompt_tokens": prompt.tokens, "total_tokens": prompt.tokens});
    }
    entry.finish();
    let usage = (!prompt.script.no_usage).then(|| Usage::text(prompt.tokens, 0));
    let report = Report { usage, model: Some(order.model.into()), ..Report::default() };
    let content_type = HeaderValue::from_static("application/json");
    Ok(Reply::Whole(WholeReply {
        content_type,
        body: body.to_string().into(),
        report,
        upstream_id: None,
        dropped: Vec::new(),
    }))
}

/// The texts to embed; a list of token numbers is one text.
fn inputs(input: &Value) -> Vec<String> {
    match input {
        Value::Array(items) if !items.first().is_some_and(Value::is_number) => {
            items.iter().map(|item| prompt::texts(item).concat()).collect()
        }
        other => vec![prompt::texts(other).concat()],
    }
}

fn dimensions_of(model: &str) -> u64 {
    match model {
        _ if model.contains("3-large") => 3_072,
        _ if model.contains("mistral") || model.contains("bge") => 1_024,
        _ if model.contains("nomic") => 768,
        _ => DIMENSIONS_DEFAULT,
    }
}

/// A vector of length one. It is no money, so that floats are what it is made of.
#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "embeddings are floats on the wire")]
fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let mut dice = Dice::new(prompt::hash(std::iter::once(text)));
    let raw: Vec<f32> = (0..dimensions).map(|_| (dice.roll() % 2_001) as f32 - 1_000.0).collect();
    let length = raw.iter().map(|number| number * number).sum::<f32>().sqrt().max(1.0);
    raw.iter().map(|number| number / length).collect()
}

fn encoded(vector: &[f32], base64: bool) -> Value {
    if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        return STANDARD.encode(bytes).into();
    }
    json!(vector)
}
