//! What a client may set: fields whose price we know. All else is refused by its name.

use serde_json::{Value, json};

use super::Object;
use super::client::Refused;

/// The cap on answer tokens, of a session and of a response.
pub(super) const CAP: &str = "max_output_tokens";
/// Whether the provider answers by itself.
pub(super) const CREATE_RESPONSE: &str = "create_response";

const SESSION: &[&str] = &[
    "type",
    "model",
    "output_modalities",
    "instructions",
    "audio",
    "include",
    CAP,
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "tracing",
    "truncation",
    "prompt",
];
const RESPONSE: &[&str] = &[
    "audio",
    "conversation",
    "input",
    "instructions",
    CAP,
    "metadata",
    "output_modalities",
    "parallel_tool_calls",
    "prompt",
    "reasoning",
    "tool_choice",
    "tools",
];
const TURN_DETECTION: &[&str] = &[
    "type",
    "threshold",
    "prefix_padding_ms",
    "silence_duration_ms",
    "eagerness",
    CREATE_RESPONSE,
    "interrupt_response",
    "idle_timeout_ms",
];
const ITEMS: &[&str] = &["message", "function_call", "function_call_output"];
/// The only kind of session: transcriptions have prices of their own.
const REALTIME: &str = "realtime";

/// Checks a session's settings, takes out what is ours to say, and switches the provider's own answers off. Returns whether
/// the client wants them, where it says something of turns.
pub(super) fn session(session: &mut Object, model: &str) -> Result<Option<bool>, Refused> {
    only(session, "session", SESSION)?;
    if session.get("type").is_some_and(|kind| kind != REALTIME) {
        return Err(Refused::field("session.type", "must be `realtime`: other sessions have no price"));
    }
    match session.shift_remove("model") {
        Some(named) if named != model => return Err(Refused::field("session.model", "cannot change in a session")),
        _ => {}
    }
    tools(session, "session")?;
    absent(session, "prompt", "session.prompt", "a stored prompt may bring tools that have a price of their own")?;
    match session.get_mut("audio") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(audio)) => sound(audio),
        Some(_) => Err(Refused::field("session.audio", "must be an object")),
    }
}

/// Checks what is wanted of a response.
pub(super) fn response(response: &Object) -> Result<(), Refused> {
    only(response, "response", RESPONSE)?;
    tools(response, "response")?;
    absent(response, "prompt", "response.prompt", "a stored prompt may bring tools that have a price of their own")?;
    if let Some(audio) = response.get("audio").and_then(Value::as_object) {
        only(audio, "response.audio", &["output"])?;
    }
    match response.get("input") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(items)) => items.iter().try_for_each(|each| match each["type"].as_str() {
            Some("item_reference") => Ok(()),
            _ => item(each, "response.input"),
        }),
        Some(_) => Err(Refused::field("response.input", "must be an array")),
    }
}

/// Checks a thing that is said.
pub(super) fn item(item: &Value, place: &str) -> Result<(), Refused> {
    let kind = item["type"].as_str().unwrap_or_default();
    if ITEMS.contains(&kind) {
        return Ok(());
    }
    Err(Refused::field(&format!("{place}.type"), &format!("`{kind}` is not available here")))
}

/// Everything of the object is on the list.
pub(super) fn only(object: &Object, place: &str, known: &[&str]) -> Result<(), Refused> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Refused::field(&format!("{place}.{name}"), "is not available here")),
        None => Ok(()),
    }
}

fn absent(object: &Object, name: &str, place: &str, why: &str) -> Result<(), Refused> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Refused::field(place, why)),
    }
}

/// Functions run at the client. Whatever runs at the provider costs something that we cannot bound.
fn tools(object: &Object, place: &str) -> Result<(), Refused> {
    let is_function = |tool: &Value| tool["type"] == "function";
    match object.get("tools") {
        None | Some(Value::Null) => {}
        Some(Value::Array(tools)) if tools.iter().all(is_function) => {}
        Some(_) => return Err(Refused::field(&format!("{place}.tools"), "must be an array of functions")),
    }
    match object.get("tool_choice") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(choice) if is_function(choice) => Ok(()),
        Some(_) => Err(Refused::field(&format!("{place}.tool_choice"), "must be a word or a function")),
    }
}

fn sound(audio: &mut Object) -> Result<Option<bool>, Refused> {
    only(audio, "session.audio", &["input", "output"])?;
    let input = match audio.get_mut("input") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(input)) => input,
        Some(_) => return Err(Refused::field("session.audio.input", "must be an object")),
    };
    only(input, "session.audio.input", &["format", "noise_reduction", "transcription", "turn_detection"])?;
    let why = "transcripts of the input have a price of their own; transcribe it with /v1/audio/transcriptions";
    absent(input, "transcription", "session.audio.input.transcription", why)?;
    match input.get_mut("turn_detection") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(false)),
        Some(Value::Object(turns)) => {
            only(turns, "session.audio.input.turn_detection", TURN_DETECTION)?;
            let place = "session.audio.input.turn_detection.idle_timeout_ms";
            absent(turns, "idle_timeout_ms", place, "the model would answer by itself when nobody speaks")?;
            silence(turns).map(Some)
        }
        Some(_) => Err(Refused::field("session.audio.input.turn_detection", "must be an object or null")),
    }
}

/// Switches the provider's own answers off; returns whether they were on.
pub(super) fn silence(turns: &mut Object) -> Result<bool, Refused> {
    match turns.insert(CREATE_RESPONSE.into(), false.into()) {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(wanted)) => Ok(wanted),
        Some(_) => {
            let place = "session.audio.input.turn_detection.create_response";
            Err(Refused::field(place, "must be true or false"))
        }
    }
}

/// The update that switches the provider's own answers off in a session that has just begun with these turns.
pub(super) fn greeting(turns: &Object) -> String {
    let mut turns = turns.clone();
    turns.insert(CREATE_RESPONSE.into(), false.into());
    turns.shift_remove("idle_timeout_ms");
    let audio = json!({ "input": { "turn_detection": turns } });
    json!({ "type": "session.update", "session": { "type": REALTIME, "audio": audio } }).to_string()
}
