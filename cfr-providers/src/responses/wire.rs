//! What we read of a response and of its events. What we do not need is skipped.

use cfr_core::upstream::{FinishReason, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::openai::error;
use crate::openai::wire::Word;

/// A response, as an answer or inside an event.
#[derive(Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow, default)]
    pub(super) id: Word<'a>,
    #[serde(borrow, default)]
    pub(super) model: Word<'a>,
    #[serde(borrow, default)]
    pub(super) status: Word<'a>,
    #[serde(borrow, default)]
    pub(super) service_tier: Word<'a>,
    #[serde(borrow, default)]
    store: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) error: Option<Value>,
    #[serde(default)]
    incomplete_details: Option<Value>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) tool_usage: Option<Value>,
}

/// An event of a stream.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Word<'a>,
    #[serde(borrow, default)]
    pub(super) response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output_index: Option<&'a RawValue>,
    #[serde(borrow, default)]
    summary_index: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) delta: Word<'a>,
    #[serde(default)]
    pub(super) logprobs: Option<Value>,
    #[serde(default)]
    pub(super) annotation: Option<Value>,
}

/// What kind of item it is.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Word<'a>,
}

/// An object, read as far as it can be.
pub(super) fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

impl Event<'_> {
    /// Which item of the output it is about.
    pub(super) fn output_index(&self) -> u64 {
        self.output_index.and_then(parse).unwrap_or(0)
    }

    /// Which part of a thought's summary it is about.
    pub(super) fn summary_index(&self) -> u64 {
        self.summary_index.and_then(parse).unwrap_or(0)
    }
}

impl<'a> Response<'a> {
    /// Whether the provider keeps it; it does when it says nothing.
    pub(super) fn is_kept(&self) -> bool {
        self.store.is_none_or(|store| store.get() != "false")
    }

    /// Its items; none when it has no output.
    pub(super) fn items(&self) -> Option<Vec<&'a RawValue>> {
        self.output.and_then(parse)
    }

    /// The kinds of its items.
    pub(super) fn kinds(&self) -> Vec<String> {
        let kind = |item: &RawValue| parse::<Kind<'_>>(item)?.kind.text().map(str::to_owned);
        self.items().unwrap_or_default().into_iter().filter_map(kind).collect()
    }

    /// Why it ended, in OpenAI's older words; none while it goes on (providers.md §15).
    pub(super) fn finish(&self) -> Option<FinishReason> {
        match self.status.text()? {
            "completed" if self.kinds().iter().any(|kind| is_call(kind)) => Some(FinishReason::ToolCalls),
            "completed" => Some(FinishReason::Stop),
            "incomplete" => Some(self.incomplete()),
            "failed" | "cancelled" => Some(FinishReason::Error),
            _ => None,
        }
    }

    fn incomplete(&self) -> FinishReason {
        let details = self.incomplete_details.as_ref();
        match details.and_then(|details| details["reason"].as_str()) {
            None | Some("max_output_tokens" | "max_tokens") => FinishReason::Length,
            Some("content_filter") => FinishReason::ContentFilter,
            Some(other) => FinishReason::Other(other.into()),
        }
    }

    /// What went wrong, if it did.
    pub(super) fn failure(&self) -> Option<UpstreamError> {
        (self.status.text() == Some("failed")).then(|| failure(self.error.as_ref().unwrap_or(&Value::Null)))
    }
}

/// Calls that the client must answer.
fn is_call(kind: &str) -> bool {
    matches!(
        kind,
        "function_call" | "custom_tool_call" | "local_shell_call" | "shell_call" | "apply_patch_call" | "computer_call"
    )
}

/// The error behind an error object without a status: the status that it would have had follows from its code.
pub(super) fn failure(error: &Value) -> UpstreamError {
    let code = error["code"].as_str().unwrap_or_default();
    let status = match code {
        "rate_limit_exceeded" | "insufficient_quota" | "slow_down" => StatusCode::TOO_MANY_REQUESTS,
        "" | "server_error" | "server_is_overloaded" | "vector_store_timeout" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let message = error["message"].as_str().unwrap_or("the response failed");
    let kind = error["type"].as_str().unwrap_or("invalid_request_error");
    let body = json!({"error": {"message": message, "type": kind, "param": error["param"], "code": error["code"]}});
    error::read(status, &HeaderMap::new(), &body.to_string().into())
}

/// The error object of a top-level `error` event, which servers nest or do not.
pub(super) fn event_error(data: &[u8]) -> Value {
    let mut event: Value = serde_json::from_slice(data).unwrap_or_default();
    match event.get_mut("error") {
        Some(inner) if inner.is_object() => inner.take(),
        _ => event,
    }
}
