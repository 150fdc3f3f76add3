//! What providers answer, each in its own dialect: about a kilobyte at once, or a word per event.

use bytes::Bytes;
use serde_json::{Value, json};

/// Prompt tokens that every answer claims: fewer than any request has bytes.
pub const PROMPT_TOKENS: u32 = 120;
/// Answer tokens of an answer that is not streamed.
pub const ANSWER_TOKENS: u32 = 160;
/// Text of an answer that is not streamed, so that it has about a kilobyte.
pub const ANSWER_TEXT: &str = concat!(
    "The total of the month is the sum of its settled calls: each call was held at its worst price before it was sent, ",
    "and settled at its true price when the answer was complete. What was held beyond that went back at once. ",
    "A call that failed was charged nothing; a stream that was cut was charged for what had been delivered. ",
    "No call was charged twice, and none was lost, because the charge is written before the last byte leaves. ",
    "If the sum differs from the provider's bill by more than the rounding of one nano-unit for each call, ",
    "somebody should look at the price table first and at the exchange rate of the day second. ",
    "The books are kept in integers, so that a sum is a sum and nobody has to ask which of two numbers is right."
);

/// A provider's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
    /// generateContent.
    Gemini,
    /// Converse.
    Bedrock,
}

impl Provider {
    /// A complete answer.
    #[must_use]
    pub fn whole(self) -> Bytes {
        let answer = match self {
            Self::OpenAi => json!({
                "id": "chatcmpl-mock", "object": "chat.completion", "created": 1_763_700_000, "model": "m",
                "choices": [{
                    "index": 0, "message": {"role": "assistant", "content": ANSWER_TEXT}, "logprobs": null,
                    "finish_reason": "stop",
                }],
                "usage": {
                    "prompt_tokens": PROMPT_TOKENS, "completion_tokens": ANSWER_TOKENS,
                    "total_tokens": PROMPT_TOKENS + ANSWER_TOKENS,
                },
            }),
            Self::Anthropic => json!({
                "id": "msg_mock", "type": "message", "role": "assistant", "model": "m",
                "content": [{"type": "text", "text": ANSWER_TEXT}], "stop_reason": "end_turn", "stop_sequence": null,
                "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": ANSWER_TOKENS},
            }),
            Self::Gemini => gemini(ANSWER_TEXT, Some("STOP"), ANSWER_TOKENS),
            Self::Bedrock => json!({
                "output": {"message": {"role": "assistant", "content": [{"text": ANSWER_TEXT}]}},
                "stopReason": "end_turn", "metrics": {"latencyMs": 1}, "usage": bedrock_usage(ANSWER_TOKENS),
            }),
        };
        answer.to_string().into()
    }

    /// The events of a stream of so many words, as they go over the wire.
    #[must_use]
    pub fn stream(self, words: u32) -> Vec<Bytes> {
        let word = |at: u32| format!(" word{at}");
        match self {
            Self::OpenAi => {
                let said =
                    |at| chunk(&json!([{"index": 0, "delta": {"content": word(at)}, "finish_reason": null}]), None);
                let stop = chunk(&json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), None);
                let total = PROMPT_TOKENS + words;
                let usage = json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": words, "total_tokens": total});
                let end = [stop, chunk(&json!([]), Some(usage)), Bytes::from_static(b"data: [DONE]\n\n")];
                (0..words).map(said).chain(end).collect()
            }
            Self::Anthropic => anthropic_stream(words, word),
            Self::Gemini => {
                let said = |at| sse(None, &gemini(&word(at), None, at + 1));
                (0..words).map(said).chain([sse(None, &gemini("", Some("STOP"), words))]).collect()
            }
            Self::Bedrock => bedrock_stream(words, word),
        }
    }
}

fn sse(name: Option<&str>, data: &Value) -> Bytes {
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    format!("{name}data: {data}\n\n").into()
}

fn chunk(choices: &Value, usage: Option<Value>) -> Bytes {
    let data = json!({
        "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_763_700_000, "model": "m",
        "service_tier": "default", "system_fingerprint": "fp_mock", "choices": choices, "usage": usage,
    });
    sse(None, &data)
}

fn anthropic_stream(words: u32, word: impl Fn(u32) -> String) -> Vec<Bytes> {
    let event = |data: Value| sse(data["type"].as_str(), &data);
    let message = json!({
        "id": "msg_mock", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": 1},
    });
    let start = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ];
    let said =
        |at| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word(at)}});
    let end = [
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": words},
        }),
        json!({"type": "message_stop"}),
    ];
    start.into_iter().chain((0..words).map(said)).chain(end).map(event).collect()
}

fn gemini(text: &str, finish: Option<&str>, tokens: u32) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [{"text": text}]}});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    json!({
        "candidates": [candidate], "modelVersion": "m", "responseId": "mock",
        "usageMetadata": {
            "promptTokenCount": PROMPT_TOKENS, "candidatesTokenCount": tokens, "totalTokenCount": PROMPT_TOKENS + tokens,
        },
    })
}

fn bedrock_usage(tokens: u32) -> Value {
    json!({"inputTokens": PROMPT_TOKENS, "outputTokens": tokens, "totalTokens": PROMPT_TOKENS + tokens})
}

fn bedrock_stream(words: u32, word: impl Fn(u32) -> String) -> Vec<Bytes> {
    let said =
        |at| frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": word(at)}, "p": "ab"}));
    let end = [
        frame("contentBlockStop", &json!({"contentBlockIndex": 0})),
        frame("messageStop", &json!({"stopReason": "end_turn"})),
        frame("metadata", &json!({"metrics": {"latencyMs": 1}, "usage": bedrock_usage(words)})),
    ];
    let start = frame("messageStart", &json!({"role": "assistant"}));
    std::iter::once(start).chain((0..words).map(said)).chain(end).collect()
}

/// A frame of Amazon's event stream, with the headers that Bedrock sends.
fn frame(name: &str, payload: &Value) -> Bytes {
    let (mut headers, payload) = (Vec::new(), payload.to_string());
    for (header, value) in [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")] {
        headers.extend(u8::try_from(header.len()).unwrap_or(u8::MAX).to_be_bytes());
        headers.extend_from_slice(header.as_bytes());
        headers.push(7); // a text
        headers.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = [length(16 + headers.len() + payload.len()), length(headers.len())].concat();
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.into()
}
