//! Counting a prompt without paying for an answer (providers.md §7.6).

use cfr_core::upstream::UpstreamError;
use serde::{Deserialize, Serialize};

use super::model::Family;
use super::place::{Place, Site, bare};
use super::request::{self, Prompt};
use crate::dialog::{Dialog, Drops};
use crate::transport::WireRequest;

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

/// The request that counts what the model would read.
pub(super) fn request(
    place: &Place,
    dialog: &Dialog,
    model: &str,
    drops: &mut Drops,
) -> Result<WireRequest, UpstreamError> {
    let prompt = request::prompt(place.site, Family::of(model), dialog, drops)?;
    let body = if place.site == Site::Studio && prompt.has_more_than_contents() {
        let named = Named { model: format!("models/{}", bare(model)), prompt: &prompt };
        request::written(&Wrapped { generate_content_request: named })
    } else {
        request::written(&prompt)
    };
    place.request(model, "countTokens", body?)
}

/// The number in the answer.
pub(super) fn answer(body: &[u8]) -> Result<u64, UpstreamError> {
    let counted: Counted = serde_json::from_slice(body)
        .map_err(|cause| UpstreamError::Malformed { message: format!("not a count: {cause}").into() })?;
    Ok(counted.total_tokens)
}
