//! Counting the tokens of a prompt: free, with a rate limit of its own, and an estimate (providers.md §6.4).

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::native::Native;
use super::surface::strip_foreign;
use super::{error, request};
use crate::dialog::{Dialog, Drops, invalid};
use crate::transport::WireRequest;

/// The fields of a request that say something of its prompt; a count takes no others.
const COUNTED: [&str; 10] = [
    "model",
    "anthropic_version",
    "system",
    "messages",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "mcp_servers",
    "context_management",
];

/// The request that has the prompt of a client's own body counted: for a body of the Messages dialect.
pub(super) fn of_body(native: &Native, model: &str, body: &Bytes) -> Result<WireRequest, UpstreamError> {
    let own = strip_foreign(body).unwrap_or_else(|| body.clone());
    let body: Map<String, Value> = serde_json::from_slice(&own).map_err(|cause| invalid(cause.to_string()))?;
    Ok(native.token_request(counted_body(body, model)))
}

/// The request that has the prompt of a dialog counted, for clients of other dialects.
pub(super) fn of_dialog(
    native: &Native,
    model: &str,
    dialog: &Dialog,
    drops: &mut Drops,
) -> Result<WireRequest, UpstreamError> {
    let body = request::body(dialog, model, native.hosting(), drops)?;
    Ok(native.token_request(counted_body(body, model)))
}

/// The number that an answer says, or the error that it carries.
pub(super) fn counted(headers: &HeaderMap, body: &Bytes) -> Result<u64, UpstreamError> {
    #[derive(Deserialize)]
    struct Count {
        input_tokens: Option<u64>,
    }
    let malformed = |message: String| UpstreamError::Malformed { message: message.into() };
    let count: Count =
        crate::json::parse(body).map_err(|cause| malformed(format!("not a count of tokens: {cause}")))?;
    count.input_tokens.ok_or_else(|| error::in_success(headers, body))
}

/// Wherever it is hosted, a count names its model in the body.
fn counted_body(mut body: Map<String, Value>, model: &str) -> Bytes {
    body.retain(|name, _| COUNTED.contains(&name.as_str()));
    body.insert("model".into(), model.into());
    Value::Object(body).to_string().into()
}
