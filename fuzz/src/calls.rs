//! Calls whose answers are read.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::chat::{Call, Envelope, EnvelopeError, Operation, Tags};
use cfr_core::upstream::Order;
use jiff::Timestamp;

/// What clients ask for with a JSON body.
pub const OPERATIONS: [Operation; 6] = [
    Operation::ChatCompletions,
    Operation::Completions,
    Operation::Embeddings,
    Operation::Responses,
    Operation::Messages,
    Operation::GenerateContent,
];

/// The model that a path names where the body does not.
pub const MODEL: &str = "m";

/// The least that a call says, for each operation.
const BODIES: [(Operation, bool, &str); 8] = [
    (Operation::ChatCompletions, false, r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#),
    (
        Operation::ChatCompletions,
        true,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}"#,
    ),
    (Operation::ChatCompletions, true, r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#),
    (Operation::Completions, true, r#"{"model":"m","stream":true,"prompt":"Hi"}"#),
    (Operation::Embeddings, false, r#"{"model":"m","input":"Hi"}"#),
    (Operation::Responses, true, r#"{"model":"m","stream":true,"input":"Hi"}"#),
    (
        Operation::Messages,
        true,
        r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}]}"#,
    ),
    (Operation::GenerateContent, true, r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#),
];

static CALLS: LazyLock<Vec<Call>> = LazyLock::new(|| {
    let call = |(operation, stream, body): (Operation, bool, &'static str)| {
        read(operation, stream, &Bytes::from_static(body.as_bytes())).expect("a call that can be read")
    };
    BODIES.into_iter().map(call).collect()
});

/// A small call for each operation, chat completions with and without a usage chunk.
#[must_use]
pub fn all() -> &'static [Call] {
    &CALLS
}

/// A body as a call, with its model in the path where the dialect has it there.
///
/// # Errors
/// When the gateway refuses it.
pub fn read(operation: Operation, stream: bool, body: &Bytes) -> Result<Call, EnvelopeError> {
    let envelope = Envelope::parse_named(operation, MODEL, stream, body)?;
    let mut call = Call::parse(Operation::Embeddings, EMBEDDING, Timestamp::UNIX_EPOCH)?;
    (call.operation, call.tags, call.envelope, call.body) = (operation, Tags::of(&envelope), envelope, body.clone());
    Ok(call)
}

/// Stands in where a call is made of parts.
const EMBEDDING: Bytes = Bytes::from_static(br#"{"model":"e","input":"x"}"#);

/// An order for a call, with our cap on its answer.
#[must_use]
pub fn order(call: &Call, output_tokens_max: Option<u64>) -> Order<'_> {
    let second = Duration::from_secs(1);
    Order { call, model: "provider-model", output_tokens_max, timeout: second, idle_timeout: second }
}
