//! What may be said, and when a response is due.

use bytes::Bytes;
use cfr_core::chat::Meter;
use cfr_core::upstream::FinishReason;
use serde_json::{Value, json};

use super::*;

fn frame(event: Value) -> Bytes {
    event.to_string().into()
}

fn turns(create_response: Value) -> Value {
    json!({ "audio": { "input": { "turn_detection": { "type": "server_vad", "create_response": create_response } } } })
}

/// A conversation whose provider has taken our settings.
fn talk() -> Conversation {
    let mut talk = Conversation::new("public");
    let update =
        talk.greet(&frame(json!({ "type": "session.created", "session": turns(json!(true)) }))).expect("a greeting");
    let update: Value = serde_json::from_str(&update.expect("an update")).expect("JSON");
    assert_eq!(update["session"]["audio"]["input"]["turn_detection"]["create_response"], false);
    assert!(
        talk.takes_settings(&frame(json!({ "type": "session.updated", "session": turns(json!(false)) })))
            .expect("taken")
    );
    talk
}

fn wish(talk: &mut Conversation, event: Value) -> Wish {
    match talk.from_client(&event.to_string()).expect("a wish") {
        FromClient::Respond(wish) => wish,
        other => panic!("{other:?}"),
    }
}

/// Asks for a response and lets it begin.
fn answering(talk: &mut Conversation) -> Value {
    let wish = wish(talk, json!({ "type": "response.create", "event_id": "mine" }));
    let body = wish.body.clone();
    let asked = talk.ask(wish, &body, "ours".into(), Some(70)).expect("an event");
    let began =
        talk.from_provider(frame(json!({ "type": "response.created", "response": { "id": "r1" } }))).expect("read");
    assert!(matches!(began, FromProvider::Began(_, Some(id)) if &*id == "r1"));
    serde_json::from_str(&asked).expect("JSON")
}

#[track_caller]
fn refused(event: Value, code: &str, param: Option<&str>) {
    let mut talk = talk();
    let error = talk.from_client(&event.to_string()).expect_err("refused");
    assert_eq!((error.code, error.param.as_deref()), (code, param), "{event}");
}

#[test]
fn the_provider_never_answers_by_itself() {
    let mut talk = talk();
    let update = json!({ "type": "session.update", "session": turns(Value::Null) });
    let FromClient::Pass(event) = talk.from_client(&update.to_string()).expect("passes") else { panic!("no response") };
    assert!(event.contains(r#""create_response":false"#), "{event}");
    let own = frame(json!({ "type": "session.updated", "session": turns(json!(true)) }));
    assert!(talk.from_provider(own).is_err(), "a provider that keeps its own answers");
    let ours = frame(json!({ "type": "session.updated", "session": turns(json!(false)) }));
    let FromProvider::Pass(shown) = talk.from_provider(ours).expect("read") else { panic!("passes") };
    assert!(shown.windows(22).any(|part| part == br#""create_response":true"#), "the client sees what it wants");
}

#[test]
fn a_response_is_due_when_somebody_stopped_speaking_and_the_client_wants_it() {
    let stopped = |talk: &mut Conversation| {
        let stop = frame(json!({ "type": "input_audio_buffer.speech_stopped", "item_id": "i" }));
        assert!(matches!(talk.from_provider(stop), Ok(FromProvider::Pass(_))));
        talk.from_provider(frame(json!({ "type": "input_audio_buffer.committed", "item_id": "i" }))).expect("read")
    };
    let mut talk = talk();
    assert!(matches!(stopped(&mut talk), FromProvider::Turn(_)));
    let by_hand = frame(json!({ "type": "input_audio_buffer.committed", "item_id": "j" }));
    assert!(matches!(talk.from_provider(by_hand), Ok(FromProvider::Pass(_))), "the client's own commit");
    let update = json!({ "type": "session.update", "session": turns(json!(false)) });
    talk.from_client(&update.to_string()).expect("passes");
    assert!(matches!(stopped(&mut talk), FromProvider::Pass(_)));
}

#[test]
fn a_response_that_nobody_asked_for_ends_the_session() {
    for event in ["response.created", "response.output_text.delta", "response.done"] {
        let event = json!({ "type": event, "response": { "id": "r" }, "delta": "x" });
        assert!(talk().from_provider(frame(event.clone())).is_err(), "{event}");
    }
}

#[test]
fn the_cap_is_the_responses_own_the_sessions_or_ours() {
    let mut talk = talk();
    let asked = answering(&mut talk);
    assert_eq!((&asked["event_id"], &asked["response"]["max_output_tokens"]), (&json!("ours"), &json!(70)));
    let mut talk = self::talk();
    let update = json!({ "type": "session.update", "session": { "max_output_tokens": 50 } });
    talk.from_client(&update.to_string()).expect("passes");
    let body = |wish: Wish| {
        serde_json::from_slice::<Value>(&wish.body).expect("JSON")["response"]["max_output_tokens"].clone()
    };
    assert_eq!(body(wish(&mut talk, json!({ "type": "response.create" }))), 50);
    assert_eq!(body(wish(&mut talk, json!({ "type": "response.create", "response": { "max_output_tokens": 9 } }))), 9);
    assert_eq!(body(talk.own_wish()), 50);
}

#[test]
fn an_error_is_of_the_response_only_when_it_names_the_event_that_nobody_can_guess() {
    let mut talk = talk();
    answering(&mut talk);
    let error = |id: &str| frame(json!({ "type": "error", "error": { "message": "no", "event_id": id } }));
    assert!(matches!(talk.from_provider(error("mine")), Ok(FromProvider::Pass(_))), "of something else");
    let Ok(FromProvider::Rejected(shown, _)) = talk.from_provider(error("ours")) else { panic!("rejected") };
    assert_eq!(serde_json::from_slice::<Value>(&shown).expect("JSON")["error"]["event_id"], "mine");
    assert!(!talk.is_answering());
}

#[test]
fn one_response_is_made_at_a_time() {
    let mut talk = talk();
    answering(&mut talk);
    let error = talk.from_client(r#"{"type":"response.create","event_id":"second"}"#).expect_err("refused");
    assert_eq!(error.code, "conversation_already_has_active_response");
    assert_eq!(error.event_id.as_deref(), Some("second"));
}

#[test]
fn pieces_are_measured_and_the_end_is_read() {
    let mut talk = talk();
    answering(&mut talk);
    let sound = json!({ "type": "response.output_audio.delta", "delta": "A".repeat(3_200) });
    let Ok(FromProvider::Piece(_, report)) = talk.from_provider(frame(sound)) else { panic!("a piece") };
    assert_eq!((report.output_audio_tokens, report.output_bytes), (1, 0));
    let text = json!({ "type": "response.output_audio_transcript.delta", "delta": "hello" });
    let Ok(FromProvider::Piece(_, report)) = talk.from_provider(frame(text)) else { panic!("a piece") };
    assert_eq!((report.output_audio_tokens, report.output_bytes), (0, 5));
    let usage = json!({ "input_tokens": 4, "output_tokens": 3, "input_token_details": { "text_tokens": 4 },
        "output_token_details": { "text_tokens": 3 } });
    let output = json!([{ "type": "function_call" }]);
    let done =
        json!({ "type": "response.done", "response": { "status": "completed", "usage": usage, "output": output } });
    let Ok(FromProvider::Done(_, report, None)) = talk.from_provider(frame(done)) else { panic!("the end") };
    assert_eq!(report.finish, Some(FinishReason::ToolCalls));
    assert_eq!(report.usage.expect("usage").get(Meter::OutputTokens), 3);
    let next = talk.own_wish();
    assert_eq!((next.heard.text_tokens, next.heard.audio_tokens), (7, 0), "the provider's own count");
}

#[test]
fn zero_tokens_for_what_was_delivered_is_no_count() {
    let mut talk = talk();
    answering(&mut talk);
    let _ =
        talk.from_provider(frame(json!({ "type": "response.output_text.delta", "delta": "hello" }))).expect("a piece");
    let done = json!({ "type": "response.done", "response": { "status": "completed",
        "usage": { "input_tokens": 0, "output_tokens": 0 } } });
    let Ok(FromProvider::Done(_, report, _)) = talk.from_provider(frame(done)) else { panic!("the end") };
    assert_eq!(report.usage, None);
}

#[test]
fn what_has_no_price_is_refused_by_its_name() {
    let session = |session: Value| json!({ "type": "session.update", "session": session });
    let input = |input: Value| session(json!({ "audio": { "input": input } }));
    let response = |response: Value| json!({ "type": "response.create", "response": response });
    let (invalid, mcp) = ("invalid_value", json!([{ "type": "mcp", "server_label": "x" }]));
    for (event, param) in [
        (input(json!({ "transcription": { "model": "whisper-1" } })), "session.audio.input.transcription"),
        (
            input(json!({ "turn_detection": { "type": "server_vad", "idle_timeout_ms": 5_000 } })),
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            input(json!({ "turn_detection": { "create_response": "no" } })),
            "session.audio.input.turn_detection.create_response",
        ),
        (session(json!({ "tools": mcp })), "session.tools"),
        (session(json!({ "tool_choice": { "type": "mcp" } })), "session.tool_choice"),
        (session(json!({ "prompt": { "id": "pmpt_1" } })), "session.prompt"),
        (session(json!({ "model": "another" })), "session.model"),
        (session(json!({ "type": "transcription" })), "session.type"),
        (session(json!({ "Audio": {} })), "session.Audio"),
        (response(json!({ "tools": mcp })), "response.tools"),
        (response(json!({ "prompt": { "id": "pmpt_1" } })), "response.prompt"),
        (response(json!({ "background": true })), "response.background"),
        (response(json!({ "max_output_tokens": 0 })), "response.max_output_tokens"),
        (response(json!({ "input": [{ "type": "mcp_call" }] })), "response.input.type"),
        (json!({ "type": "conversation.item.create", "item": { "type": "mcp_approval_response" } }), "item.type"),
        (json!({ "type": "response.cancel", "reason": "x" }), "reason"),
        (json!({ "type": "input_audio_buffer.append", "audio": 7 }), "audio"),
    ] {
        refused(event, invalid, Some(param));
    }
    for unknown in ["transcription_session.update", "output_audio_buffer.clear", "something.new", ""] {
        refused(json!({ "type": unknown }), "unsupported_event", None);
    }
    assert_eq!(talk().from_client("[]").expect_err("refused").code, "invalid_json");
}

#[test]
fn what_functions_and_settings_cost_is_known() {
    let mut talk = talk();
    let tools = json!([{ "type": "function", "name": "weather" }]);
    let session =
        json!({ "model": "public", "instructions": "Be brief.", "tools": tools, "tracing": "auto", "prompt": null });
    let FromClient::Pass(event) =
        talk.from_client(&json!({ "type": "session.update", "session": session }).to_string()).expect("passes")
    else {
        panic!("no response")
    };
    assert!(!event.contains("public"), "the provider has a name of its own: {event}");
    let output = json!({ "type": "function_call_output", "call_id": "c", "output": "sunny" });
    let item = json!({ "type": "conversation.item.create", "item": output });
    assert!(matches!(talk.from_client(&item.to_string()), Ok(FromClient::Pass(_))));
    let before = talk.own_wish().heard.text_tokens;
    assert!(before > 0);
    let apart =
        wish(&mut talk, json!({ "type": "response.create", "response": { "conversation": "none", "input": [] } }));
    assert_eq!(apart.heard.text_tokens, 0, "it reads nothing of the conversation");
}

#[test]
fn what_is_about_our_account_stays_here() {
    let mut talk = talk();
    let limits = frame(json!({ "type": "rate_limits.updated", "rate_limits": [] }));
    assert!(matches!(talk.from_provider(limits), Ok(FromProvider::Keep)));
}
