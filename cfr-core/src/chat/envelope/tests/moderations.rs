//! Moderations.

use super::*;

fn moderation(body: &Value) -> Envelope {
    parse(Operation::Moderations, &body.to_string()).unwrap()
}

#[test]
fn who_names_no_model_means_the_usual_one() {
    for body in [json!({"input": "x"}), json!({"input": "x", "model": null})] {
        assert_eq!(&*moderation(&body).model, "omni-moderation-latest");
    }
    let body = r#"{"input":"x","model":"m","user":"anna"}"#;
    let envelope = parse(Operation::Moderations, body).unwrap();
    assert_eq!(&body[envelope.model_span.unwrap()], r#""m""#);
    assert_eq!((&*envelope.model, envelope.user.as_deref()), ("m", Some("anna")));
    refuses_body(Operation::Moderations, r#"{"input":"x","model":7}"#, "model", "must be a string");
    refuses_body(Operation::Moderations, r#"{"input":"x","model":""}"#, "model", "is empty");
}

#[test]
fn each_text_of_a_list_is_judged_by_itself() {
    assert_eq!(moderation(&json!({"input": "x"})).choices, 1);
    assert_eq!(moderation(&json!({"input": ["x", "y", "z"]})).choices, 3);
    let parts = json!({"input": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]});
    assert_eq!(moderation(&parts).choices, 1);
}

#[test]
fn images_are_counted_and_their_bytes_are_no_text() {
    let data = format!("data:image/png;base64,{}", "A".repeat(9_000));
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let input = moderation(&json!({"input": [image(&data), image("https://example.com/a.png")]})).input;
    assert_eq!((input.images, input.unbounded), (2, false));
    assert!(input.text_tokens < 1_000, "{input:?}");
}

#[test]
fn something_must_be_judged() {
    for (body, reason) in [
        (r"{}", "is missing"),
        (r#"{"input":null}"#, "is missing"),
        (r#"{"input":7}"#, "must be a string or an array"),
        (r#"{"input":[7]}"#, "must be an array of well-formed objects"),
        (r#"{"input":"a","input":"b"}"#, "is given twice"),
    ] {
        refuses_body(Operation::Moderations, body, "input", reason);
    }
}

#[test]
fn nothing_streams() {
    assert!(!moderation(&json!({"input": "x", "stream": true})).stream);
}
