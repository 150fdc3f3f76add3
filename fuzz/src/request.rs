//! A client's request in the words of every provider: refused, or JSON with our cap on its answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use cfr_core::chat::Operation;
use serde_json::value::RawValue;

use crate::calls::{OPERATIONS, order, read};
use crate::input::Input;
use crate::promises::{check_error, check_json};
use crate::providers;

/// The cap that the budget of the caller allows.
const CAP: u64 = 4_711;
/// What providers call it.
const CAP_NAMES: [&str; 6] =
    ["max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens", "num_predict"];
/// The objects that hold a provider's settings.
const SETTINGS: [&str; 3] = ["generationConfig", "inferenceConfig", "options"];

/// Choices: provider, operation, whether what the provider has no words for may be left out. The body is a client's.
///
/// # Panics
/// When what is sent is not JSON, or asks for a longer answer than was allowed.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let at = usize::from(input.byte()) % providers::all().len();
    let (operation, flags, body) = (input.choose(&OPERATIONS), input.byte(), Bytes::copy_from_slice(input.body()));
    let (_, adapter) = &providers::all()[at];
    let Ok(mut call) = read(operation, flags & 2 == 0, &body) else { return };
    if !adapter.capabilities().serves(operation) {
        return;
    }
    call.drop_params = flags & 1 == 0;
    let own = call.envelope.output_cap.as_ref().map(|cap| cap.tokens);
    let cap = own.is_none().then_some(CAP);
    match adapter.encode(&order(&call, cap)) {
        Err(error) => check_error(&error),
        Ok(request) => {
            check_json(&request.body);
            if operation != Operation::Embeddings {
                check_cap(&request.body, own.unwrap_or(CAP));
            }
        }
    }
}

/// The provider's own cap stands on the outer level, or in the object with its settings. Members stay text: a
/// client may write numbers elsewhere that no `f64` holds, and a provider gets them as they are.
fn check_cap(sent: &[u8], allowed: u64) {
    let outer = members(std::str::from_utf8(sent).expect("JSON is UTF-8"));
    let settings = SETTINGS.iter().filter_map(|name| outer.get(*name)).flat_map(|inner| members(inner.get()));
    let caps: Vec<u64> = (outer.iter().map(|(name, value)| (name.clone(), *value)))
        .chain(settings)
        .filter(|(name, _)| CAP_NAMES.contains(&name.as_str()))
        .filter_map(|(_, value)| value.get().parse().ok())
        .collect();
    assert!(!caps.is_empty(), "no cap in {}", String::from_utf8_lossy(sent));
    assert!(caps.iter().all(|cap| *cap <= allowed), "{caps:?} for {allowed}");
}

/// The members of an object, the last of a name; none for what is no object.
fn members(json: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(json).unwrap_or_default()
}
