//! What the gateway reads of a body: places that are where they should be, and edits that leave it JSON.

use bytes::Bytes;
use cfr_core::chat::envelope::{CapField, Edit, Span, splice};
use cfr_core::chat::{Envelope, Operation};

use crate::calls::{MODEL, OPERATIONS};
use crate::input::Input;
use crate::promises::check_json;

const CAPS: [CapField; 4] =
    [CapField::MaxTokens, CapField::MaxCompletionTokens, CapField::MaxOutputTokens, CapField::GenerationConfig];

/// A cap on answer tokens that no caller in his right mind sends.
const CAP: u64 = 4_711;

/// Choices: the operation. The body is as a client sends it.
///
/// # Panics
/// When a body that is taken is not JSON, a place lies elsewhere, or an edit breaks it.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (operation, body) = (input.choose(&OPERATIONS), Bytes::copy_from_slice(input.body()));
    let Ok(envelope) = read(operation, &body) else { return };
    check_json(&body);
    check_model(operation, &envelope, &body);
    check_cap(&envelope, &body);
    check_edits(operation, &envelope, &body);
    assert_eq!(read(operation, &body), Ok(envelope), "read twice");
}

fn read(operation: Operation, body: &Bytes) -> Result<Envelope, cfr_core::chat::EnvelopeError> {
    Envelope::parse_named(operation, MODEL, false, body)
}

fn check_model(operation: Operation, envelope: &Envelope, body: &Bytes) {
    let Some(span) = &envelope.model_span else { return };
    let text: String = serde_json::from_slice(part(body, span)).expect("a name in quotes");
    assert!(operation == Operation::GenerateContent || *text == *envelope.model, "{text:?} for {:?}", envelope.model);
    if operation != Operation::GenerateContent {
        let renamed = splice(body, &[Edit::Replace { span: span.clone(), json: br#""other""#.into() }]);
        let renamed = read(operation, &renamed).expect("another name");
        assert_eq!(&*renamed.model, "other");
    }
}

fn check_cap(envelope: &Envelope, body: &Bytes) {
    if let Some(cap) = &envelope.output_cap {
        let written: u64 = serde_json::from_slice(part(body, &cap.span)).expect("a number");
        assert_eq!(written, cap.tokens);
    }
    if let Some(span) = &envelope.stream_options_span {
        check_json(part(body, span));
    }
}

/// All that an adapter of the same dialect may change at once.
fn check_edits(operation: Operation, envelope: &Envelope, body: &Bytes) {
    let cap = CAP.to_string();
    for field in CAPS.into_iter().filter(|field| fits(operation, *field)) {
        let mut edits: Vec<Edit<'_>> = envelope.hosted_edits().collect();
        edits.extend(envelope.model_span.clone().map(|span| Edit::Replace { span, json: br#""other""#.into() }));
        if envelope.output_cap.is_none() {
            edits.push(envelope.cap_edit(field, cap.as_bytes()));
        }
        let edited = splice(body, &edits);
        check_json(&edited);
        if operation == Operation::GenerateContent && envelope.model_span.is_some() {
            continue; // the name in such a body must be the path's
        }
        let edited = read(operation, &edited).expect("what we edit can be read");
        assert!(envelope.output_cap.is_some() || edited.output_cap.is_some_and(|cap| cap.tokens == CAP), "{field:?}");
        assert!(edited.hosted_caps.is_empty(), "capped: {:?}", edited.hosted_caps);
    }
}

const fn fits(operation: Operation, field: CapField) -> bool {
    match field {
        CapField::MaxTokens => {
            matches!(operation, Operation::ChatCompletions | Operation::Completions | Operation::Messages)
        }
        CapField::MaxCompletionTokens => matches!(operation, Operation::ChatCompletions),
        CapField::MaxOutputTokens => matches!(operation, Operation::Responses),
        CapField::GenerationConfig => matches!(operation, Operation::GenerateContent),
        _ => false,
    }
}

fn part<'a>(body: &'a Bytes, span: &Span) -> &'a [u8] {
    body.get(span.clone()).expect("a place in the body")
}
