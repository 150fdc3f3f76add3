//! Responses of the realtime API.

use super::*;
use crate::chat::envelope::Work;

#[track_caller]
fn response(body: &str) -> Result<Envelope, EnvelopeError> {
    Envelope::parse_named(Operation::Realtime, "gpt-realtime", true, &Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn only_the_models_context_bounds_a_conversation() {
    let envelope = response(r#"{"type":"response.create"}"#).unwrap();
    assert_eq!((&*envelope.model, envelope.stream, envelope.output_cap), ("gpt-realtime", true, None));
    assert!(envelope.input.unbounded && matches!(envelope.input.work, Work::Conversation(_)));
}

#[test]
fn a_cap_is_read_where_it_stands() {
    let body = r#"{"type":"response.create","response":{"max_output_tokens":70,"metadata":{"a":"b"}}}"#;
    let envelope = response(body).unwrap();
    let cap = envelope.output_cap.unwrap();
    assert_eq!((cap.tokens, &body[cap.span]), (70, "70"));
    assert_eq!(envelope.metadata.as_deref(), Some(r#"{"a":"b"}"#));
    for open in [r#""inf""#, "null"] {
        let body = format!(r#"{{"type":"response.create","response":{{"max_output_tokens":{open}}}}}"#);
        assert_eq!(response(&body).unwrap().output_cap, None, "{open}");
    }
}

#[test]
fn what_parsers_may_read_differently_is_refused() {
    for (body, expected) in [
        (r#"{"type":"session.update"}"#, "type"),
        (r#"{"type":"response.create","type":"response.create"}"#, "type"),
        (r#"{"type":"response.create","response":7}"#, "response"),
        (r#"{"type":"response.create","response":{"max_output_tokens":0}}"#, "response.max_output_tokens"),
        (
            r#"{"type":"response.create","response":{"max_output_tokens":1,"Max_Output_Tokens":9}}"#,
            "response.max_output_tokens",
        ),
        (
            r#"{"type":"response.create","response":{"max_output_tokens":1,"max_output_tokens":9}}"#,
            "response.max_output_tokens",
        ),
    ] {
        match response(body) {
            Err(EnvelopeError::Field { param, .. }) => assert_eq!(param, expected, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    assert!(parse(Operation::Realtime, r#"{"type":"response.create"}"#).is_err(), "the address names the model");
}
