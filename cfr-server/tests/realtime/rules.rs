//! What is refused, and how.

use serde_json::{Value, json};

use crate::client::{MODEL, Talk, open, records, request};
use crate::support::{FAKE, Site, terms};

const EURO: i64 = 1_000_000_000;

#[tokio::test]
async fn what_has_no_price_is_refused_by_its_name_and_the_session_lives_on() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::in_text(&site, &key).await;
    let transcription = json!({ "audio": { "input": { "transcription": { "model": "whisper-1" } } } });
    for (event, code, param) in [
        (
            json!({ "type": "session.update", "event_id": "e", "session": transcription }),
            "invalid_value",
            Some("session.audio.input.transcription"),
        ),
        (
            json!({ "type": "session.update", "event_id": "e", "session": { "tools": [{ "type": "mcp" }] } }),
            "invalid_value",
            Some("session.tools"),
        ),
        (
            json!({ "type": "session.update", "event_id": "e", "session": { "model": "gpt-realtime-2" } }),
            "invalid_value",
            Some("session.model"),
        ),
        (
            json!({ "type": "response.create", "event_id": "e", "response": { "prompt": { "id": "p" } } }),
            "invalid_value",
            Some("response.prompt"),
        ),
        (json!({ "type": "transcription_session.update", "event_id": "e" }), "unsupported_event", None),
    ] {
        talk.say(event.clone()).await;
        let error = talk.error().await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{event}");
        assert_eq!((&error["type"], &error["event_id"]), (&json!("invalid_request_error"), &json!("e")));
    }
    assert_eq!(talk.answer("fake:tokens:2").await["status"], "completed");
    assert_eq!(records(&site).await.len(), 1, "nothing ran for what was refused");
}

#[tokio::test]
async fn a_session_that_cannot_be_has_a_status_and_a_reason() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let narrow = site.key_for("bob@example.org", terms(EURO), &["gpt-4o-mini"]).await;
    let session = |model: &str| format!("/v1/realtime?model={model}");
    for (path, key, status, code) in [
        (session(MODEL), "", 401, "invalid_api_key"),
        (session(MODEL), &*narrow, 403, "model_not_allowed"),
        (session("no-such-model"), &key, 404, "model_not_found"),
        (session("gpt-4o-mini"), &key, 400, "invalid_value"),
        ("/v1/realtime".into(), &key, 400, "invalid_value"),
        ("/v1/realtime/translations".into(), &key, 404, "unsupported_endpoint"),
    ] {
        let refused = open(request(&site, &path, key)).await.err();
        let (seen, body) = refused.unwrap_or_else(|| panic!("{path} is refused"));
        assert_eq!((seen, &body["error"]["code"]), (status, &Value::from(code)), "{path}: {body}");
    }
}

#[tokio::test]
async fn other_ways_into_a_session_are_refused_with_the_one_that_works() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    for path in ["/v1/realtime/client_secrets", "/v1/realtime/calls", "/v1/realtime/sessions"] {
        let error = site.post(path, &key, "{}").await.is_error(404, "unsupported_endpoint");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("GET /v1/realtime?model=")), "{error}");
    }
    site.get(&format!("/v1/realtime?model={MODEL}"), &key).await.is_error(426, "websocket_required");
}

#[tokio::test]
async fn sessions_are_for_models_of_sessions_and_other_calls_are_not() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let models = site.get("/v1/models", &key).await.json();
    let names: Vec<_> = models["data"].as_array().expect("models").iter().map(|model| model["id"].clone()).collect();
    assert!(names.contains(&json!(MODEL)), "{names:?}");
}
