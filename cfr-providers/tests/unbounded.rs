//! What a caller can ask for whose tokens nothing in the request bounds: tools that the provider runs, grounding, documents,
//! compressed sound. For every caller and every provider: refused by the name of the field, or held for as much as the model
//! can read at all, as often as it may read (providers.md §17.2, §17.3).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, EnvelopeError, Operation};
use cfr_core::price::{Limits, Mode, OwnPrice, PriceTable, PriceTerms, UnitPrice};
use cfr_core::upstream::{Order, UpstreamError};
use cfr_providers::registry::Kind;
use serde_json::{Value, json};

const MODEL: &str = "m";
/// What the model can read at the most.
const CONTEXT_TOKENS: u64 = 1_000_000;
/// Pico-dollars of one token of a prompt.
const PICOS: i128 = 2_000_000;
/// Calls of tools that a caller allows.
const CALLS: u64 = 3;

/// Something that is asked for.
struct Wish {
    name: &'static str,
    operation: Operation,
    body: Value,
    /// How often the context may be read.
    reads: u64,
    /// Words of which a refusal has one: the field, or the value in it that is not known.
    fields: &'static [&'static str],
}

fn chat(more: Value) -> Value {
    with(json!({"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}), more)
}

fn chat_with(part: Value) -> Value {
    chat(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, part]}]}))
}

fn messages(more: Value) -> Value {
    chat(more)
}

fn responses(more: Value) -> Value {
    with(json!({"model": MODEL, "max_output_tokens": 64, "store": false, "input": "Hi"}), more)
}

fn generate(parts: Value, more: Value) -> Value {
    with(json!({"contents": [{"role": "user", "parts": parts}], "generationConfig": {"maxOutputTokens": 64}}), more)
}

fn with(mut body: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn wishes() -> Vec<Wish> {
    use Operation::{ChatCompletions, GenerateContent, Messages, Responses};
    let text = || json!([{"text": "Hi"}]);
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"});
    let search = |kind: &str| json!({"tools": [{"type": kind, "name": "web_search", "max_uses": CALLS}]});
    let wish = |name, operation, body, reads, fields| Wish { name, operation, body, reads, fields };
    vec![
        wish("a search", ChatCompletions, chat(json!({"web_search_options": {}})), 1, &["web_search_options"]),
        wish(
            "a tool of the provider's",
            ChatCompletions,
            chat(json!({"tools": [{"type": "web_search"}]})),
            1,
            &["tools", "web_search"],
        ),
        wish(
            "a document",
            ChatCompletions,
            chat_with(
                json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQK"}}),
            ),
            1,
            &["file", "document", "PDF"],
        ),
        wish(
            "compressed sound",
            ChatCompletions,
            chat_with(json!({"type": "input_audio", "input_audio": {"data": "SUQzBAAAAAAA", "format": "mp3"}})),
            1,
            &["audio"],
        ),
        wish("a search", Messages, messages(search("web_search_20250305")), CALLS + 1, &["tools", "web_search"]),
        wish("a look at pages", Messages, messages(search("web_fetch_20250910")), CALLS + 1, &["tools", "web_fetch"]),
        wish(
            "code that runs there",
            Messages,
            messages(json!({"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]})),
            2,
            &["tools", "code_execution"],
        ),
        wish(
            "servers of tools",
            Messages,
            messages(json!({"mcp_servers": [{"type": "url", "url": "https://a.example", "name": "a"}]})),
            2,
            &["mcp_servers"],
        ),
        wish(
            "a document",
            Messages,
            messages(json!({"messages": [{"role": "user", "content": [{"type": "document", "source": pdf}]}]})),
            1,
            &["document", "file"],
        ),
        wish(
            "a search",
            Responses,
            responses(json!({"tools": [{"type": "web_search"}], "max_tool_calls": CALLS})),
            CALLS + 1,
            &["tools", "web_search"],
        ),
        wish(
            "files of the provider's",
            Responses,
            responses(
                json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}], "max_tool_calls": CALLS}),
            ),
            CALLS + 1,
            &["tools", "file_search"],
        ),
        wish(
            "code that runs there",
            Responses,
            responses(
                json!({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}], "max_tool_calls": CALLS}),
            ),
            CALLS + 1,
            &["tools", "code_interpreter"],
        ),
        wish(
            "a server of tools",
            Responses,
            responses(
                json!({"tools": [{"type": "mcp", "server_label": "a", "server_url": "https://a.example"}], "max_tool_calls": CALLS}),
            ),
            CALLS + 1,
            &["tools", "mcp"],
        ),
        wish(
            "a document",
            Responses,
            responses(json!({"input": [{"role": "user", "content": [
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQK"},
            ]}]})),
            1,
            &["file", "document"],
        ),
        wish(
            "grounding",
            GenerateContent,
            generate(text(), json!({"tools": [{"googleSearch": {}}]})),
            2,
            &["googleSearch", "web_search"],
        ),
        wish("maps", GenerateContent, generate(text(), json!({"tools": [{"googleMaps": {}}]})), 2, &["googleMaps"]),
        wish("pages", GenerateContent, generate(text(), json!({"tools": [{"urlContext": {}}]})), 2, &["urlContext"]),
        wish(
            "code that runs there",
            GenerateContent,
            generate(text(), json!({"tools": [{"codeExecution": {}}]})),
            2,
            &["codeExecution"],
        ),
        wish(
            "a document",
            GenerateContent,
            generate(json!([{"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0xLjQK"}}]), json!({})),
            1,
            &["inlineData", "document", "file"],
        ),
        wish(
            "compressed sound",
            GenerateContent,
            generate(json!([{"inlineData": {"mimeType": "audio/mp3", "data": "SUQzBAAAAAAA"}}]), json!({})),
            1,
            &["inlineData", "audio"],
        ),
        wish(
            "a film",
            GenerateContent,
            generate(json!([{"fileData": {"mimeType": "video/mp4", "fileUri": "https://a.example/f"}}]), json!({})),
            1,
            &["fileData", "video", "file"],
        ),
    ]
}

fn read(wish: &Wish) -> Result<Call, EnvelopeError> {
    let body = Bytes::from(wish.body.to_string());
    let envelope = Envelope::parse_named(wish.operation, MODEL, false, &body)?;
    let any = support::call(Operation::Embeddings, &json!({"model": MODEL, "input": "x"}));
    Ok(Call { operation: wish.operation, envelope, body, ..any })
}

/// The hold of a call at a provider whose tools all have a price.
fn held(kind: Kind, call: &Call) -> i128 {
    let nothing = br#"{"schema":"cfr.prices/1","as_of":"2026-11-21","currency":"USD","entries":[]}"#;
    let unit = |picos: i128| format!("0.{picos:012}").parse::<UnitPrice>().unwrap();
    let own = OwnPrice {
        provider: kind.name().into(),
        model: MODEL.into(),
        mode: Mode::Chat,
        input: unit(PICOS),
        output: unit(PICOS),
        cache_read: None,
        piece: None,
        limits: Limits { max_input_tokens: Some(CONTEXT_TOKENS), max_output_tokens: Some(1_000) },
    };
    let table = PriceTable::from_json(nothing).and_then(|table| table.with_own_prices(&[own])).unwrap();
    let at = "2026-11-21T12:00:00Z".parse().unwrap();
    let entry = table.find(kind.name(), MODEL, at).unwrap();
    match entry.upper_bound(&call.envelope.input, call.envelope.choices, &PriceTerms::default()) {
        Ok(bound) => bound.total(0).0,
        Err(_) => i128::MAX, // a fee without a price: refused before anything is sent
    }
}

#[test]
fn what_has_no_bound_is_refused_by_its_name_or_held_for_all_that_the_model_can_read() {
    let (mut failed, mut sent, mut refused) = (Vec::new(), BTreeSet::new(), 0);
    for wish in wishes() {
        for kind in Kind::all() {
            let name = format!("{} by {:?} at {}", wish.name, wish.operation, kind.name());
            let call = read(&wish).unwrap_or_else(|cause| panic!("{name}: {cause}"));
            let (timeout, idle_timeout) = (Duration::ZERO, Duration::ZERO);
            let order = Order { call: &call, model: MODEL, output_tokens_max: None, timeout, idle_timeout };
            match support::adapter(kind.name()).unwrap().encode(&order) {
                Ok(_) => {
                    sent.insert((wish.operation.name(), wish.name));
                    let most = i128::from(CONTEXT_TOKENS * wish.reads) * PICOS;
                    let held = held(kind, &call);
                    if held < most {
                        failed.push(format!("{name}: {held} held of {most}"));
                    }
                }
                Err(UpstreamError::Unsupported { message } | UpstreamError::Rejected { message, .. })
                    if wish.fields.iter().any(|field| message.contains(field)) =>
                {
                    refused += 1;
                }
                Err(error) => failed.push(format!("{name}: {error}")),
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(refused > 0, "nobody refuses");
    let unsent: Vec<_> = wishes().into_iter().map(|wish| (wish.operation.name(), wish.name)).collect();
    let unsent: Vec<_> = unsent.into_iter().filter(|wish| !sent.contains(wish)).collect();
    assert!(unsent.is_empty(), "no provider takes {unsent:?}: the hold was never looked at");
}
