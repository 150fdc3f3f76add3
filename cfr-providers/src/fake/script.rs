//! Orders to the fake provider, written into the last message.

use std::time::Duration;

use bytes::Bytes;
use cfr_core::upstream::{Order, UpstreamError};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::openai;

/// Tokens that an ordered answer has at the most.
pub const TOKENS_MAX: u64 = 100_000;

/// What the last message orders. Several orders may stand in one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// `fake:error:KIND`, where KIND is a status such as `429`, or `context`, `policy`, `quota`, `timeout` or
    /// `unreachable`: the call fails like that.
    pub error: Option<Box<str>>,
    /// `fake:tokens:N`: the answer has exactly N tokens, unless a cap is lower.
    pub tokens: Option<u64>,
    /// `fake:cut`: the answer breaks off in the middle.
    pub cut: bool,
    /// `fake:stream-error`: the stream reports an error in the middle.
    pub stream_error: bool,
    /// `fake:hang`: the stream falls silent in the middle.
    pub hang: bool,
    /// `fake:no-usage`: the answer reports no usage.
    pub no_usage: bool,
    /// `fake:slow:MS`: so many milliseconds pass before the answer begins.
    pub slow: Option<Duration>,
    /// `fake:echo`: the answer is the last message.
    pub echo: bool,
    /// `fake:call:NAME:ARGUMENTS`, where ARGUMENTS is JSON without blanks: the answer calls this tool, if it is offered.
    pub call: Option<(Box<str>, Box<str>)>,
}

impl Script {
    /// Reads the orders in a message.
    #[must_use]
    pub fn read(message: &str) -> Self {
        let mut script = Self::default();
        for word in message.split_whitespace().filter_map(|word| word.strip_prefix("fake:")) {
            match word.split_once(':').unwrap_or((word, "")) {
                ("error", kind) => script.error = Some(kind.into()),
                ("tokens", count) => script.tokens = count.parse().ok().map(|count: u64| count.min(TOKENS_MAX)),
                ("cut", _) => script.cut = true,
                ("stream-error", _) => script.stream_error = true,
                ("hang", _) => script.hang = true,
                ("no-usage", _) => script.no_usage = true,
                ("slow", millis) => script.slow = millis.parse().ok().map(Duration::from_millis),
                ("echo", _) => script.echo = true,
                ("call", call) => script.call = call.split_once(':').map(|(name, json)| (name.into(), json.into())),
                _ => {}
            }
        }
        script
    }

    /// Whether an answer is broken before its end, one way or another.
    pub(super) const fn breaks(&self) -> bool {
        self.cut || self.stream_error || self.hang
    }
}

/// Waits and fails as ordered.
pub(super) async fn obey_before(script: &Script, order: &Order<'_>) -> Result<(), UpstreamError> {
    if let Some(delay) = script.slow {
        if delay > order.timeout {
            tokio::time::sleep(order.timeout).await;
            return Err(UpstreamError::Timeout { after: order.timeout });
        }
        tokio::time::sleep(delay).await;
    }
    script.error.as_deref().map_or(Ok(()), |kind| Err(error(kind, order)))
}

fn error(kind: &str, order: &Order<'_>) -> UpstreamError {
    match kind {
        "timeout" => UpstreamError::Timeout { after: order.timeout },
        "unreachable" => UpstreamError::Unreachable { message: "ordered by the prompt".into() },
        "context" => refusal(StatusCode::BAD_REQUEST, "context_length_exceeded"),
        "policy" => refusal(StatusCode::BAD_REQUEST, "content_policy_violation"),
        "quota" => refusal(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota"),
        status => refusal(status.parse().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "ordered_by_the_prompt"),
    }
}

/// The error that a real provider's answer would be read as.
fn refusal(status: StatusCode, code: &str) -> UpstreamError {
    let error = json!({"message": format!("{code} ({status})"), "type": "fake_error", "param": null, "code": code});
    let mut headers = HeaderMap::new();
    if status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert("retry-after-ms", HeaderValue::from_static("20"));
    }
    openai::error::read(status, &headers, &Bytes::from(json!({ "error": error }).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_anywhere_in_the_message() {
        let script = Script::read("please fake:tokens:7 and fake:no-usage fake:error:429");
        let expected = Script { tokens: Some(7), no_usage: true, error: Some("429".into()), ..Script::default() };
        assert_eq!(script, expected);
    }

    #[test]
    fn a_call_is_ordered_with_its_arguments() {
        let script = Script::read(r#"fake:call:read:{"path":"a:b"} at once"#);
        assert_eq!(script.call, Some(("read".into(), r#"{"path":"a:b"}"#.into())));
    }

    #[test]
    fn a_message_without_orders_orders_nothing() {
        assert_eq!(Script::read("what is a fake? fake:unknown"), Script::default());
    }
}
