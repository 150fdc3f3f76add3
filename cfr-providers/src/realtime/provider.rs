//! What a provider says.

use std::borrow::Cow;

use bytes::Bytes;
use cfr_core::upstream::{FinishReason, Rejection, Report, UpstreamError};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Conversation, FromProvider, Object, rules, usage};

/// What we read of an event. Pieces of sound are long, and are not copied.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    item_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    status_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

impl Conversation {
    /// Reads the first event of the provider's, which must say how the session is set. Returns what is to be sent to it
    /// before anything else, and before the client may say anything: the next event `session.updated` is the answer.
    ///
    /// # Errors
    /// When it says something else.
    pub fn greet(&mut self, frame: &Bytes) -> Result<Option<String>, UpstreamError> {
        let event: Object = serde_json::from_slice(frame).map_err(|error| malformed(&error.to_string()))?;
        if event.get("type").is_none_or(|kind| kind != "session.created") {
            return Err(refusal(&event).unwrap_or_else(|| malformed("the session does not begin with its settings")));
        }
        if let Some(Value::Object(session)) = event.get("session") {
            self.context.configured(session);
        }
        let Some(turns) = turns_of(&event) else { return Ok(None) };
        self.answers_by_itself = turns.get(rules::CREATE_RESPONSE).is_none_or(|wanted| wanted != false);
        Ok(Some(rules::greeting(turns)))
    }

    /// Whether an event of the provider's is its answer to our settings, and says that it keeps to them.
    ///
    /// # Errors
    /// When it does not, or refuses them.
    pub fn takes_settings(&self, frame: &Bytes) -> Result<bool, UpstreamError> {
        let event: Object = serde_json::from_slice(frame).map_err(|error| malformed(&error.to_string()))?;
        match event.get("type").and_then(Value::as_str) {
            Some("session.updated") => self.settings(frame).map(|_| true),
            Some("error") => Err(refusal(&event).unwrap_or_else(|| malformed("our settings are refused"))),
            _ => Ok(false),
        }
    }

    /// Reads an event of the provider's.
    ///
    /// # Errors
    /// When it is none, or the provider makes a response that nobody asked for: the session must end.
    pub fn from_provider(&mut self, frame: Bytes) -> Result<FromProvider, UpstreamError> {
        let head: Head<'_> = serde_json::from_slice(&frame).map_err(|error| malformed(&error.to_string()))?;
        match &*head.kind {
            "session.created" | "session.updated" => self.settings(&frame).map(FromProvider::Pass),
            "error" => self.error(&frame),
            // It is about our account.
            "rate_limits.updated" => Ok(FromProvider::Keep),
            "input_audio_buffer.speech_stopped" => {
                self.spoken_item = head.item_id.as_deref().map(Into::into);
                Ok(FromProvider::Pass(frame))
            }
            "input_audio_buffer.committed" => {
                self.context.committed();
                let by_itself = self.spoken_item.is_some() && self.spoken_item.as_deref() == head.item_id.as_deref();
                let is_due = by_itself && self.answers_by_itself;
                self.spoken_item = self.spoken_item.take().filter(|_| !by_itself);
                Ok(if is_due { FromProvider::Turn(frame) } else { FromProvider::Pass(frame) })
            }
            "response.created" => {
                self.must_run()?;
                let id = head.response.and_then(|response| response.id).map(|id| id.as_ref().into());
                Ok(FromProvider::Began(frame, id))
            }
            "response.done" => {
                let (report, failed) = self.ended(head.response.as_ref())?;
                Ok(FromProvider::Done(frame, report, failed))
            }
            kind => match (kind.rsplit_once('.'), head.delta) {
                (Some((of, "delta")), Some(delta)) if kind.starts_with("response.") => {
                    let report = self.piece(of, delta)?;
                    Ok(FromProvider::Piece(frame, report))
                }
                _ => Ok(FromProvider::Pass(frame)),
            },
        }
    }

    /// A response that nobody asked for has no hold.
    fn must_run(&mut self) -> Result<&mut super::Running, UpstreamError> {
        self.running.as_mut().ok_or_else(|| malformed("the provider makes a response that nobody asked for"))
    }

    fn piece(&mut self, of: &str, delta: &RawValue) -> Result<Report, UpstreamError> {
        let bytes = delta.get().len().saturating_sub(2);
        self.must_run()?.delivered = true;
        Ok(if of.ends_with("audio") {
            Report { output_audio_tokens: self.context.spoken(bytes), ..Report::default() }
        } else {
            Report { output_bytes: bytes as u64, ..Report::default() }
        })
    }

    fn ended(&mut self, response: Option<&Response<'_>>) -> Result<(Report, Option<UpstreamError>), UpstreamError> {
        self.must_run()?;
        let running = self.running.take();
        let delivered = running.as_ref().is_some_and(|running| running.delivered);
        let read = response.and_then(|response| usage::read(response.usage?));
        // Zero tokens for what was delivered is no count.
        let usage = read.filter(|usage| !(usage.is_zero() && delivered));
        if let Some(usage) = usage.filter(|_| running.is_some_and(|running| running.in_conversation)) {
            self.context.counted(&usage);
        }
        let status = response.and_then(|response| response.status.as_deref()).unwrap_or_default();
        let failed = (status == "failed").then(|| UpstreamError::InStream { message: status.into(), frame: None });
        Ok((Report { usage, finish: Some(finish(status, response)), ..Report::default() }, failed))
    }

    /// The session's settings as the client wants them, when the provider keeps to ours.
    fn settings(&self, frame: &Bytes) -> Result<Bytes, UpstreamError> {
        let mut event: Object = serde_json::from_slice(frame).map_err(|error| malformed(&error.to_string()))?;
        let is_first = event.get("type").is_some_and(|kind| kind == "session.created");
        let answers = |turns: &Object| turns.get(rules::CREATE_RESPONSE).is_none_or(|wanted| wanted != false);
        if !is_first && turns_of(&event).is_some_and(answers) {
            return Err(malformed("the provider would answer by itself"));
        }
        if let Some(Value::Object(session)) = event.get_mut("session") {
            session.insert("model".into(), (&*self.model).into());
            session.shift_remove("client_secret");
            let turns = session.get_mut("audio").and_then(|audio| audio.get_mut("input")?.get_mut("turn_detection"));
            if let Some(Value::Object(turns)) = turns {
                turns.insert(rules::CREATE_RESPONSE.into(), self.answers_by_itself.into());
            }
        }
        Ok(Value::Object(event).to_string().into())
    }

    /// An error: of the response that we asked for, or of something else that the client said.
    fn error(&mut self, frame: &Bytes) -> Result<FromProvider, UpstreamError> {
        let mut event: Object = serde_json::from_slice(frame).map_err(|error| malformed(&error.to_string()))?;
        let about = event.get("error").and_then(|error| error["event_id"].as_str());
        let Some(running) = self.running.take_if(|running| about == Some(running.event_id.as_str())) else {
            return Ok(FromProvider::Pass(frame.clone()));
        };
        let error = refusal(&event).unwrap_or_else(|| malformed("an error without a text"));
        if let Some(Value::Object(error)) = event.get_mut("error") {
            error.insert("event_id".into(), running.client_event_id.as_deref().into());
        }
        Ok(FromProvider::Rejected(Value::Object(event).to_string().into(), error))
    }
}

/// How turns are told apart in a session; none where nobody listens for them.
fn turns_of(event: &Object) -> Option<&Object> {
    event.get("session")?.get("audio")?.get("input")?.get("turn_detection")?.as_object()
}

fn refusal(event: &Object) -> Option<UpstreamError> {
    let message = event.get("error")?["message"].as_str()?.into();
    Some(UpstreamError::Rejected { status: StatusCode::BAD_REQUEST, kind: Rejection::Invalid, message, body: None })
}

fn finish(status: &str, response: Option<&Response<'_>>) -> FinishReason {
    let says = |raw: Option<&RawValue>, word: &str| raw.is_some_and(|raw| raw.get().contains(word));
    let details = response.and_then(|response| response.status_details);
    match status {
        "completed" if says(response.and_then(|response| response.output), r#""function_call""#) => {
            FinishReason::ToolCalls
        }
        "completed" => FinishReason::Stop,
        "incomplete" if says(details, r#""content_filter""#) => FinishReason::ContentFilter,
        "incomplete" => FinishReason::Length,
        "failed" => FinishReason::Error,
        other => FinishReason::Other(other.into()),
    }
}

fn malformed(message: &str) -> UpstreamError {
    UpstreamError::Malformed { message: message.into() }
}
