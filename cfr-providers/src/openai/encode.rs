//! The request for the provider: the caller's bytes, changed only where the provider needs it.

use bytes::Bytes;
use cfr_core::chat::envelope::{Edit, OutputCap, splice};
use cfr_core::chat::{Envelope, Operation};
use cfr_core::upstream::{Order, UpstreamError};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use super::fields;
use super::quirks::{CapField, Quirks};

/// The body to send.
pub(super) fn body(quirks: &Quirks, order: &Order<'_>) -> Result<Bytes, UpstreamError> {
    let call = order.call;
    let kept = fields::without(&call.body, quirks.drops);
    if kept.len() == call.body.len() {
        return edited(quirks, order, &call.envelope, &kept);
    }
    // Places have moved. This is the rare case: a server that refuses fields, and a caller who sends one.
    let envelope = Envelope::parse(call.operation, &kept).map_err(|error| UpstreamError::Unsupported {
        message: format!("the body cannot be read without the fields that {} refuses: {error}", quirks.name).into(),
    })?;
    edited(quirks, order, &envelope, &kept)
}

fn edited(quirks: &Quirks, order: &Order<'_>, envelope: &Envelope, body: &Bytes) -> Result<Bytes, UpstreamError> {
    let operation = order.call.operation;
    let model = model(order, envelope);
    let cap = cap(quirks, operation, order.output_tokens_max, envelope.output_cap.as_ref(), body);
    let options = stream_options(quirks, operation, envelope, body)?;

    let mut edits = Vec::with_capacity(4);
    if let Some(json) = &model {
        edits.push(Edit::Replace { span: envelope.model_span.clone(), json: json.as_bytes() });
    }
    if let Some(cap) = &cap {
        edits.extend(cap.edits());
    }
    if let Some(json) = &options {
        let json = json.as_bytes();
        edits.push(match &envelope.stream_options_span {
            Some(span) => Edit::Replace { span: span.clone(), json },
            None => Edit::Insert { field: "stream_options", json },
        });
    }
    edits.sort_by_key(place);
    Ok(splice(body, &edits))
}

fn place(edit: &Edit<'_>) -> usize {
    match edit {
        Edit::Replace { span, .. } => span.start,
        Edit::Insert { .. } => usize::MAX,
    }
}

/// The model's value when the provider has another name for it.
fn model(order: &Order<'_>, envelope: &Envelope) -> Option<String> {
    (order.model != &*envelope.model).then(|| serde_json::Value::from(order.model).to_string())
}

/// A cap on answer tokens to be written.
struct Cap<'a> {
    field: CapField,
    tokens: Option<String>,
    renamed: Option<std::ops::Range<usize>>,
    caller: Option<&'a OutputCap>,
}

/// Our cap where the caller set none or a higher one, and the caller's own under the name that the provider takes.
fn cap<'a>(
    quirks: &Quirks,
    operation: Operation,
    ours: Option<u64>,
    caller: Option<&'a OutputCap>,
    body: &[u8],
) -> Option<Cap<'a>> {
    let field = match operation {
        Operation::ChatCompletions => quirks.cap_field,
        Operation::Completions => CapField::MaxTokens,
        _ => return None,
    };
    let tokens = ours.filter(|ours| caller.is_none_or(|caller| *ours < caller.tokens)).map(|ours| ours.to_string());
    let other_name = caller.filter(|caller| quirks.cap_field_only && caller.completion != (field == CapField::MaxCompletionTokens));
    let renamed = other_name.and_then(|caller| fields::name_before(body, caller.span.start));
    (tokens.is_some() || renamed.is_some()).then_some(Cap { field, tokens, renamed, caller })
}

impl Cap<'_> {
    fn edits(&self) -> impl Iterator<Item = Edit<'_>> {
        let quoted = match self.field {
            CapField::MaxTokens => "\"max_tokens\"",
            CapField::MaxCompletionTokens => "\"max_completion_tokens\"",
        };
        let renamed = self.renamed.clone().map(|span| Edit::Replace { span, json: quoted.as_bytes() });
        let tokens = self.tokens.as_ref().map(|tokens| match self.caller {
            Some(caller) => Edit::Replace { span: caller.span.clone(), json: tokens.as_bytes() },
            None => Edit::Insert { field: self.field.name(), json: tokens.as_bytes() },
        });
        renamed.into_iter().chain(tokens)
    }
}

/// `stream_options` that ask for usage, when the caller's do not and the provider must be asked.
fn stream_options(
    quirks: &Quirks,
    operation: Operation,
    envelope: &Envelope,
    body: &[u8],
) -> Result<Option<String>, UpstreamError> {
    let streams = envelope.stream && operation != Operation::Embeddings;
    if !streams || envelope.include_usage || !quirks.accepts_stream_options {
        return Ok(None);
    }
    let Some(span) = &envelope.stream_options_span else { return Ok(Some(ASK_FOR_USAGE.into())) };
    let caller = body.get(span.clone()).unwrap_or_default();
    with_usage(caller).map(Some).map_err(|error| UpstreamError::Unsupported {
        message: format!("stream_options: {error}").into(),
    })
}

const ASK_FOR_USAGE: &str = r#"{"include_usage":true}"#;

/// The caller's options, every other member as it was, with the wish for usage.
fn with_usage(options: &[u8]) -> serde_json::Result<String> {
    let members: Option<BTreeMap<String, Box<RawValue>>> = serde_json::from_slice(options)?;
    let Some(mut members) = members else { return Ok(ASK_FOR_USAGE.into()) };
    members.insert("include_usage".into(), RawValue::from_string("true".into())?);
    serde_json::to_string(&members)
}
