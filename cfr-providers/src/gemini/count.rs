//! Counting a prompt without paying for an answer (providers.md §7.6).

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model::Family;
use super::place::{Place, Site, bare};
use super::request::{self, Prompt};
use crate::dialog::{Dialog, Drops, invalid};
use crate::transport::WireRequest;

/// The fields of a request that Vertex counts; it refuses all others.
const COUNTED_BY_VERTEX: [&str; 6] =
    ["contents", "systemInstruction", "system_instruction", "tools", "generationConfig", "generation_config"];

/// AI Studio takes a whole request in a member of its own; a conversation alone stands by itself.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wrapped<'a> {
    generate_content_request: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    model: String,
    #[serde(flatten)]
    prompt: &'a Prompt,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counted {
    total_tokens: u64,
}

/// The request that counts what the model would read of a dialog.
pub(super) fn of_dialog(
    place: &Place,
    dialog: &Dialog,
    model: &str,
    drops: &mut Drops,
) -> Result<WireRequest, UpstreamError> {
    let prompt = request::prompt(place.site, Family::of(model), dialog, drops)?;
    let body = if place.site == Site::Studio && prompt.has_more_than_contents() {
        let named = Named { model: named(model), prompt: &prompt };
        request::written(&Wrapped { generate_content_request: named })
    } else {
        request::written(&prompt)
    };
    place.request(model, METHOD, body?)
}

/// The same for the body of a client who speaks Google's dialect.
pub(super) fn of_body(place: &Place, body: &Bytes, model: &str) -> Result<WireRequest, UpstreamError> {
    let mut body: Map<String, Value> = serde_json::from_slice(body).map_err(|cause| invalid(cause.to_string()))?;
    let body = match place.site {
        Site::Studio => {
            body.insert("model".to_owned(), named(model).into());
            json!({ "generateContentRequest": body })
        }
        Site::Vertex => {
            body.retain(|name, _| COUNTED_BY_VERTEX.contains(&name.as_str()));
            body.into()
        }
    };
    place.request(model, METHOD, body.to_string().into())
}

const METHOD: &str = "countTokens";

fn named(model: &str) -> String {
    format!("models/{}", bare(model))
}

/// The number in the answer.
pub(super) fn counted(body: &[u8]) -> Result<u64, UpstreamError> {
    let counted: Counted = serde_json::from_slice(body)
        .map_err(|cause| UpstreamError::Malformed { message: format!("not a count: {cause}").into() })?;
    Ok(counted.total_tokens)
}
