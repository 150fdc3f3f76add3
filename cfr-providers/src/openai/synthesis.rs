//! Chunks made from a complete answer, for servers that ignore `stream: true`. Rare, so a value tree is good enough.

use bytes::{BufMut, Bytes, BytesMut};
use cfr_core::chat::Call;
use cfr_core::upstream::UpstreamError;
use serde_json::{Map, Value, json};

/// The stream that says what the complete answer says.
pub(super) fn stream_of(call: &Call, body: &[u8]) -> Result<Bytes, UpstreamError> {
    let answer: Map<String, Value> =
        serde_json::from_slice(body).map_err(|cause| UpstreamError::Malformed { message: cause.to_string().into() })?;
    let mut head = answer;
    let usage = head.remove("usage");
    let choices = head.remove("choices");
    if head.get("object").and_then(Value::as_str) == Some("chat.completion") {
        head.insert("object".into(), "chat.completion.chunk".into());
    }
    let mut out = BytesMut::with_capacity(body.len() * 2);
    for choice in choices.iter().filter_map(Value::as_array).flatten() {
        for part in parts(choice) {
            frame(&mut out, &with(&head, "choices", json!([part])));
        }
    }
    if let Some(usage) = usage.filter(|_| call.envelope.include_usage) {
        frame(&mut out, &with(&with(&head, "choices", json!([])), "usage", usage));
    }
    out.put_slice(b"data: [DONE]\n\n");
    Ok(out.freeze())
}

/// A choice as chunks: what it says, and then why it ended.
fn parts(choice: &Value) -> [Value; 2] {
    let index = choice.get("index").cloned().unwrap_or_else(|| 0.into());
    let reason =
        choice.get("finish_reason").filter(|reason| !reason.is_null()).cloned().unwrap_or_else(|| "stop".into());
    let logprobs = choice.get("logprobs").cloned().unwrap_or_default();
    if let Some(text) = choice.get("text") {
        return [
            json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": null}),
            json!({"index": index, "text": "", "logprobs": null, "finish_reason": reason}),
        ];
    }
    let delta = delta(choice.get("message").cloned().unwrap_or_default());
    [
        json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null}),
        json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason}),
    ]
}

/// A message as the delta that says all of it at once: tool calls get the index that deltas have.
fn delta(mut message: Value) -> Value {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for (index, call) in calls.into_iter().flatten().enumerate() {
        if let Some(call) = call.as_object_mut() {
            call.entry("index").or_insert_with(|| index.into());
        }
    }
    message
}

fn with(head: &Map<String, Value>, name: &str, value: Value) -> Map<String, Value> {
    let mut whole = head.clone();
    whole.insert(name.into(), value);
    whole
}

fn frame(out: &mut BytesMut, chunk: &Map<String, Value>) {
    out.put_slice(b"data: ");
    out.put_slice(Value::Object(chunk.clone()).to_string().as_bytes());
    out.put_slice(b"\n\n");
}
