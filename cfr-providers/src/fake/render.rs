//! OpenAI's JSON for what the fake provider says.

use bytes::Bytes;
use cfr_core::chat::Operation;
use cfr_core::upstream::{FinishReason, Order};
use serde_json::{Value, json};

use super::answer::Answer;
use super::prompt::Prompt;

/// What every chunk of one answer has in common.
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
    operation: Operation,
    pub(super) logprobs: bool,
}

impl Head {
    pub(super) fn new(prompt: &Prompt, order: &Order<'_>) -> Self {
        let (id, created) = prompt.identity(order);
        let wanted = &prompt.body["logprobs"];
        let logprobs = wanted.as_bool().unwrap_or(wanted.is_number());
        Self { id, created, model: order.model.into(), operation: order.call.operation, logprobs }
    }

    fn is_chat(&self) -> bool {
        self.operation == Operation::ChatCompletions
    }

    /// The complete answer.
    pub(super) fn whole(&self, answers: &[Answer], usage: Option<Value>) -> Bytes {
        let choices: Vec<Value> =
            answers.iter().enumerate().map(|(index, answer)| self.choice(index, answer)).collect();
        let object = if self.is_chat() { "chat.completion" } else { "text_completion" };
        self.bytes(object, &choices, usage).into()
    }

    fn choice(&self, index: usize, answer: &Answer) -> Value {
        let logprobs = self.logprobs_of(&answer.tokens);
        let finish = answer.finish.name();
        if !self.is_chat() {
            return json!({"index": index, "text": answer.text(), "logprobs": logprobs, "finish_reason": finish});
        }
        let message = match &answer.tool {
            Some(name) => json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                {"id": self.call_id(index), "type": "function", "function": {"name": name, "arguments": answer.text()}}
            ]}),
            None => json!({"role": "assistant", "content": answer.text(), "refusal": null, "annotations": []}),
        };
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish})
    }

    /// The frame that begins a choice; it names the tool when one is called.
    pub(super) fn first_frame(&self, index: usize, answer: &Answer) -> Bytes {
        let delta = match &answer.tool {
            Some(name) => json!({"role": "assistant", "content": null, "tool_calls": [
                {"index": 0, "id": self.call_id(index), "type": "function", "function": {"name": name, "arguments": ""}}
            ]}),
            None => json!({"role": "assistant", "content": "", "refusal": null}),
        };
        self.frame(&json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null}))
    }

    /// The frame of one token.
    pub(super) fn token_frame(&self, index: usize, answer: &Answer, token: &str) -> Bytes {
        let logprobs = self.logprobs_of(&[token.to_owned()]);
        if !self.is_chat() {
            return self.frame(&json!({"index": index, "text": token, "logprobs": logprobs, "finish_reason": null}));
        }
        let delta = match &answer.tool {
            Some(_) => json!({"tool_calls": [{"index": 0, "function": {"arguments": token}}]}),
            None => json!({"content": token}),
        };
        self.frame(&json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null}))
    }

    /// The frame that ends a choice.
    pub(super) fn last_frame(&self, index: usize, finish: &FinishReason) -> Bytes {
        let finish = finish.name();
        self.frame(&if self.is_chat() {
            json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": finish})
        } else {
            json!({"index": index, "text": "", "logprobs": null, "finish_reason": finish})
        })
    }

    /// The frame that has the usage and nothing else.
    pub(super) fn usage_frame(&self, usage: Value) -> Bytes {
        frame_of(&self.bytes(self.chunk_object(), &[], Some(usage)))
    }

    fn frame(&self, choice: &Value) -> Bytes {
        frame_of(&self.bytes(self.chunk_object(), std::slice::from_ref(choice), None))
    }

    fn chunk_object(&self) -> &'static str {
        if self.is_chat() { "chat.completion.chunk" } else { "text_completion" }
    }

    fn bytes(&self, object: &str, choices: &[Value], usage: Option<Value>) -> String {
        let mut body = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "system_fingerprint": "fp_fake", "choices": choices,
        });
        if let Some(usage) = usage {
            body["usage"] = usage;
        }
        body.to_string()
    }

    fn call_id(&self, index: usize) -> String {
        format!("call_{}{index}", self.id.rsplit('-').next().unwrap_or_default())
    }

    fn logprobs_of(&self, tokens: &[String]) -> Value {
        match (self.logprobs, self.is_chat()) {
            (false, _) => Value::Null,
            (true, true) => {
                json!({"content": tokens.iter().map(|token| logprob(token)).collect::<Vec<_>>(), "refusal": null})
            }
            (true, false) => {
                json!({"tokens": tokens, "token_logprobs": vec![LOGPROB; tokens.len()], "top_logprobs": null})
            }
        }
    }
}

/// Every token is as likely as every other.
const LOGPROB: f64 = -0.25;

fn logprob(token: &str) -> Value {
    json!({"token": token, "logprob": LOGPROB, "bytes": token.as_bytes(), "top_logprobs": []})
}

fn frame_of(json: &str) -> Bytes {
    format!("data: {json}\n\n").into()
}

/// Usage in OpenAI's words.
pub(super) fn usage(prompt: &Prompt, completion_tokens: u64) -> Value {
    json!({
        "prompt_tokens": prompt.tokens, "completion_tokens": completion_tokens,
        "total_tokens": prompt.tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}
