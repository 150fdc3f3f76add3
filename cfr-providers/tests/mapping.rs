//! One request in the words of every provider: `fixtures/mapping/*.json`, exact to the member.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cfr_core::chat::Operation;
use cfr_core::upstream::{Order, UpstreamError};
use cfr_providers::openai::OpenAi;
use cfr_providers::transport::WireRequest;
use serde_json::Value;

/// What we brought along; more may be added.
const VECTORS_MIN: usize = 38;

/// The model that a provider's vectors are for, where its body does not name one.
fn model_of(provider: &str) -> &'static str {
    match provider {
        "gemini" => "gemini-3.8-flash",
        "bedrock" => "eu.anthropic.claude-sonnet-4-6",
        other => panic!("no model for {other}"),
    }
}

fn encoded(operation: Operation, provider: &str, request: &Value, model: &str) -> Result<WireRequest, UpstreamError> {
    let call = support::call(operation, request);
    let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
    let unknown = || UpstreamError::Unreachable { message: format!("no provider {provider}").into() };
    let adapter = match provider {
        "openai_chat" => Arc::new(OpenAi::new(&support::CHAT_ALONE, None).unwrap()),
        other => support::adapter(other).ok_or_else(unknown)?,
    };
    adapter.encode(&Order { call: &call, model, output_tokens_max: None, timeout, idle_timeout })
}

#[test]
fn every_request_is_what_the_provider_expects_to_the_member() {
    let (mut compared, mut different) = (0, Vec::new());
    for file in support::folder(&support::own_folder().join("mapping")) {
        let vector: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let operation = match vector["surface"].as_str().unwrap() {
            "openai.chat" => Operation::ChatCompletions,
            "anthropic.messages" => Operation::Messages,
            other => panic!("{}: no surface {other}", file.display()),
        };
        for (name, expected) in vector["expect"].as_object().unwrap() {
            let provider = match name.as_str() {
                "openai_responses" => "openai",
                "ollama" => "ollama_native",
                other => other,
            };
            let model = expected["model"].as_str().unwrap_or_else(|| model_of(provider));
            let name = format!("{} for {name}", file.file_stem().unwrap().to_str().unwrap());
            match encoded(operation, provider, &vector["request"], model) {
                Ok(request) => {
                    let body: Value = serde_json::from_slice(&request.body).unwrap();
                    if &body != expected {
                        different.push(format!("{name}:\n  {body}\nis not\n  {expected}"));
                    }
                }
                Err(error) => different.push(format!("{name}: {error}")),
            }
            compared += 1;
        }
    }
    assert!(different.is_empty(), "{} of {compared} differ:\n{}", different.len(), different.join("\n"));
    assert!(compared >= VECTORS_MIN, "only {compared} vectors");
}
