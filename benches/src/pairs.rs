//! A client's dialect and a provider's: what the client sends, and who reads it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, Operation, Tags};
use cfr_core::time::{Clock as _, SystemClock};
use cfr_core::upstream::Order;
use cfr_providers::adapter::Adapter;
use cfr_providers::framing::Relay;
use cfr_providers::registry::{Account, Kind};
use serde_json::{Value, json};

use crate::Failure;
use crate::answers::Provider;
use crate::body::{OUTPUT_TOKENS_MAX, Wish, chat};

/// Who speaks with whom.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// What the client asks for, and in whose dialect.
    pub client: Operation,
    /// Who answers.
    pub provider: Provider,
}

/// The same dialect on both sides, then different ones.
pub const PAIRS: [Pair; 10] = [
    Pair::of(Operation::ChatCompletions, Provider::OpenAi),
    Pair::of(Operation::Messages, Provider::Anthropic),
    Pair::of(Operation::GenerateContent, Provider::Gemini),
    Pair::of(Operation::ChatCompletions, Provider::Anthropic),
    Pair::of(Operation::ChatCompletions, Provider::Gemini),
    Pair::of(Operation::ChatCompletions, Provider::Bedrock),
    Pair::of(Operation::Messages, Provider::OpenAi),
    Pair::of(Operation::Messages, Provider::Bedrock),
    Pair::of(Operation::GenerateContent, Provider::OpenAi),
    Pair::of(Operation::Responses, Provider::Anthropic),
];

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = match self.client {
            Operation::Messages => "Anthropic",
            Operation::GenerateContent => "Gemini",
            Operation::Responses => "Responses",
            _ => "OpenAI",
        };
        write!(f, "{client} to {:?}", self.provider)
    }
}

impl Pair {
    const fn of(client: Operation, provider: Provider) -> Self {
        Self { client, provider }
    }

    /// The provider's own name of the model.
    #[must_use]
    pub const fn model(self) -> &'static str {
        match self.provider {
            Provider::OpenAi => "gpt-4o-mini",
            Provider::Anthropic => "claude-sonnet-4-6",
            Provider::Gemini => "gemini-2.5-flash",
            Provider::Bedrock => "eu.anthropic.claude-sonnet-4-6",
        }
    }

    /// The provider by its name in configurations.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self.provider {
            Provider::OpenAi => "openai",
            Provider::Anthropic => "anthropic",
            Provider::Gemini => "gemini",
            Provider::Bedrock => "bedrock",
        }
    }

    /// The provider's wire format, at its usual address.
    ///
    /// # Errors
    /// Never for the pairs here.
    pub fn adapter(self) -> Result<Arc<dyn Adapter>, Failure> {
        let account = Account { region: Some("eu-central-1".to_owned()), ..Account::default() };
        Ok(Kind::by_name(self.kind()).ok_or("no such provider")?.adapter(&account)?)
    }

    /// The body that a client sends for a model: a conversation of about `bytes` bytes.
    ///
    /// # Errors
    /// Never: a body of ours is JSON.
    pub fn body(self, model: &str, bytes: usize, stream: bool) -> Result<Bytes, Failure> {
        let chat: Value = serde_json::from_str(&chat(bytes, Wish::default())?)?;
        let messages = chat["messages"].as_array().ok_or("no messages")?;
        let (system, turns) = messages.split_first().ok_or("no messages")?;
        let asks = turns.iter().rposition(|turn| turn["role"] == "user").ok_or("no question")?;
        let turns = &turns[..=asks]; // not every provider goes on with an answer that the caller began
        let body = match self.client {
            Operation::Messages => json!({
                "model": model, "max_tokens": OUTPUT_TOKENS_MAX, "stream": stream, "system": system["content"],
                "messages": turns,
            }),
            Operation::Responses => json!({
                "model": model, "max_output_tokens": OUTPUT_TOKENS_MAX, "stream": stream, "store": false,
                "instructions": system["content"], "input": turns,
            }),
            Operation::GenerateContent => json!({
                "contents": turns.iter().map(content).collect::<Vec<_>>(),
                "systemInstruction": {"parts": [{"text": system["content"]}]},
                "generationConfig": {"maxOutputTokens": OUTPUT_TOKENS_MAX},
            }),
            _ if stream => json!({
                "model": model, "max_tokens": OUTPUT_TOKENS_MAX, "stream": true,
                "stream_options": {"include_usage": true}, "messages": messages[..=asks + 1],
            }),
            _ => json!({"model": model, "max_tokens": OUTPUT_TOKENS_MAX, "messages": messages[..=asks + 1]}),
        };
        Ok(body.to_string().into())
    }

    /// What the gateway reads of a body.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn call(self, body: Bytes, stream: bool) -> Result<Call, Failure> {
        let envelope = Envelope::parse_named(self.client, self.model(), stream, &body)?;
        let stand_in = Bytes::from_static(br#"{"model":"m","input":"x"}"#);
        let mut call = Call::parse(Operation::Embeddings, stand_in, SystemClock::new().now())?;
        (call.operation, call.tags, call.envelope, call.body) = (self.client, Tags::of(&envelope), envelope, body);
        Ok(call)
    }

    /// An order for a call.
    #[must_use]
    pub fn order(self, call: &Call) -> Order<'_> {
        let second = Duration::from_secs(1);
        Order { call, model: self.model(), output_tokens_max: None, timeout: second, idle_timeout: second }
    }
}

fn content(message: &Value) -> Value {
    let role = if message["role"] == "assistant" { "model" } else { "user" };
    json!({"role": role, "parts": [{"text": message["content"]}]})
}

/// Everything that a client is handed of a stream whose events arrive one by one.
///
/// # Errors
/// When the stream is not understood.
pub fn relay(adapter: &dyn Adapter, call: &Call, events: Vec<Bytes>) -> Result<usize, Failure> {
    let mut relay = Relay::new(adapter.framing(), adapter.stream_decoder(call));
    let mut bytes = 0;
    for event in events {
        let relayed = relay.push(event);
        if let Some(error) = relayed.error {
            return Err(error.into());
        }
        bytes += relayed.event.bytes.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_asks_and_is_answered() {
        for pair in PAIRS {
            let adapter = pair.adapter().expect("a provider");
            for stream in [false, true] {
                let call = pair.call(pair.body("m", 4_000, stream).expect("JSON"), stream).expect("a call");
                let request = adapter.encode(&pair.order(&call)).expect("a request");
                assert!((1_000..6_000).contains(&request.body.len()), "{pair}: {}", request.body.len());
                if stream {
                    let bytes = relay(&*adapter, &call, pair.provider.stream(20)).expect("a stream");
                    assert!(bytes > 500, "{pair}: {bytes}");
                } else {
                    let reply =
                        adapter.decode(&call, &hyper::HeaderMap::new(), pair.provider.whole()).expect("an answer");
                    let usage = reply.report.usage.expect("usage");
                    assert_eq!((usage.input_total(), usage.output_total()), (120, 160), "{pair}");
                }
            }
        }
    }
}
