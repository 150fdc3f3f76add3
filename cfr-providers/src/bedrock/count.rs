//! Counting the tokens of a prompt: free, with a rate limit of its own, and an estimate (providers.md §8.1, §14).

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Site, request};
use crate::dialog::{Dialog, Drops};
use crate::transport::WireRequest;

/// The members of a request that say something of its prompt; a count takes no others.
const COUNTED: [&str; 4] = ["messages", "system", "toolConfig", "additionalModelRequestFields"];

/// The request that has the prompt of a dialog counted.
pub(super) fn of_dialog(
    site: &Site,
    dialog: &Dialog,
    model: &str,
    drops: &mut Drops,
) -> Result<WireRequest, UpstreamError> {
    let mut body = request::body(dialog, model, drops)?;
    if let Value::Object(members) = &mut body {
        members.retain(|name, _| COUNTED.contains(&name.as_str()));
    }
    let body = json!({"input": {"converse": body}});
    site.request(model, "count-tokens", body.to_string().into())
}

/// The number that an answer says.
pub(super) fn counted(body: &Bytes) -> Result<u64, UpstreamError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Count {
        input_tokens: u64,
    }
    let count: Result<Count, _> = serde_json::from_slice(body);
    let malformed = |cause| UpstreamError::Malformed { message: format!("not a count of tokens: {cause}").into() };
    count.map(|count| count.input_tokens).map_err(malformed)
}
