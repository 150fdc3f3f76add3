//! One session, from its first event to its last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseCode, CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use cfr_core::cache::CacheUse;
use cfr_core::chat::envelope::Work;
use cfr_core::chat::{Call, Envelope, Operation, Tags};
use cfr_core::gateway::{GatewayError, RealtimeResponse, RealtimeSession};
use cfr_core::id::RequestId;
use cfr_core::upstream::{RealtimeSocket, UpstreamError};
use cfr_providers::realtime::{CANCEL, Conversation, FromClient, FromProvider, Refused, Wish};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::auth::AuthError;
use crate::calls::api_error;
use crate::error::ApiError;
use crate::state::App;

/// How often the client is asked whether it is there, and its key whether it still opens.
const BEAT_EVERY: Duration = Duration::from_secs(15);
/// A client that is not heard of for so long, not even as the answer to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Whoever does not take an event in this time is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a response may take to stop when nobody wants it any more; then what was delivered is charged.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Who opened a session, and how they proved it. The headers hold the key: they are never printed.
pub(super) struct Caller {
    pub(super) app: Arc<App>,
    pub(super) headers: HeaderMap,
    pub(super) address: Option<IpAddr>,
}

impl Caller {
    /// Who calls, as of now.
    pub(super) async fn authenticate(&self) -> Result<Arc<cfr_core::gateway::Caller>, AuthError> {
        Ok(self.app.callers.caller(&self.headers, self.address).await?.0)
    }

    /// The call that a wish for a response is.
    pub(super) fn call(&self, model: &str, wish: &Wish) -> Result<Call, GatewayError> {
        let body = wish.body.clone();
        let mut envelope = Envelope::parse_named(Operation::Realtime, model, true, &body)?;
        envelope.input.work = Work::Conversation(wish.heard);
        Ok(Call {
            id: RequestId::generate(self.app.clock.now()),
            operation: Operation::Realtime,
            tags: Tags::of(&envelope),
            envelope,
            body,
            files: Vec::new(),
            cache: CacheUse::Off,
            drop_params: false,
            betas: None,
            dialect_version: None,
        })
    }

    fn error(&self, error: GatewayError) -> ApiError {
        api_error(error, &self.app.settings)
    }
}

/// Two connections, and what runs between them.
pub(super) struct Session {
    caller: Caller,
    model: Box<str>,
    client: WebSocket,
    provider: Box<dyn RealtimeSocket>,
    talk: Conversation,
    seat: RealtimeSession,
    response: Option<RealtimeResponse>,
    /// Whether somebody stopped speaking while a response was being made.
    is_due: bool,
    heard_at: Instant,
}

/// What happens next.
enum Happened {
    Client(Option<Result<Message, axum::Error>>),
    Provider(Option<Result<Bytes, UpstreamError>>),
    Beat,
    /// The hold of the response that runs is at its end.
    Late,
}

/// Why a session ends, in a code of WebSockets and words for people.
struct End(CloseCode, &'static str);

const GONE: End = End(close_code::NORMAL, "");

impl Session {
    pub(super) fn new(
        caller: Caller,
        model: Box<str>,
        client: WebSocket,
        provider: Box<dyn RealtimeSocket>,
        talk: Conversation,
        seat: RealtimeSession,
    ) -> Self {
        let heard_at = Instant::now();
        Self { caller, model, client, provider, talk, seat, response: None, is_due: false, heard_at }
    }

    /// Runs to the end, with what the client is to hear first; whatever the reason for it, a response that runs then is
    /// stopped and settled.
    pub(super) async fn run(mut self, greeting: Vec<Bytes>, stop: CancellationToken) {
        let end = Instant::now() + self.caller.app.settings.realtime_session_max;
        let End(code, reason) = tokio::select! {
            end = self.converse(greeting) => end,
            () = stop.cancelled() => End(close_code::RESTART, "the server is stopping"),
            () = tokio::time::sleep_until(end) => End(close_code::NORMAL, "the session has lasted as long as one may"),
        };
        self.stop_response().await;
        let farewell = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        if let Ok(Err(error)) = timeout(SEND_TIMEOUT, self.client.send(farewell)).await {
            tracing::debug!(%error, "the client did not hear the end of its session");
        }
    }

    async fn converse(&mut self, greeting: Vec<Bytes>) -> End {
        for frame in greeting {
            if let Err(end) = self.tell(frame).await {
                return end;
            }
        }
        let mut beats = interval(BEAT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (client, provider) = (&mut self.client, &mut self.provider);
            let late = self.response.as_ref().map(RealtimeResponse::time_left);
            let late = async {
                match late {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            let happened = tokio::select! {
                event = provider.receive() => Happened::Provider(event),
                message = client.recv() => Happened::Client(message),
                _ = beats.tick() => Happened::Beat,
                () = late => Happened::Late,
            };
            if let Err(end) = self.react(happened).await {
                return end;
            }
        }
    }

    async fn react(&mut self, happened: Happened) -> Result<(), End> {
        match happened {
            Happened::Client(Some(Ok(message))) => {
                self.heard_at = Instant::now();
                self.client_said(message).await
            }
            Happened::Client(_) => Err(GONE),
            Happened::Provider(Some(Ok(frame))) => self.provider_said(frame).await,
            Happened::Provider(Some(Err(error))) => Err(self.broken(error).await),
            Happened::Provider(None) => {
                Err(self.broken(UpstreamError::Truncated { message: "the provider closed the session".into() }).await)
            }
            Happened::Beat => self.beat().await,
            Happened::Late => Err(End(close_code::NORMAL, "the response took longer than one may")),
        }
    }

    async fn client_said(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => {
                let error = ApiError::bad_request("invalid_json", "events are texts, not bytes");
                return self.refuse(&error, None).await;
            }
            Message::Close(_) => return Err(GONE),
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
        };
        match self.talk.from_client(&text) {
            Ok(FromClient::Pass(event)) => self.say(event).await,
            Ok(FromClient::Respond(wish)) => self.respond(wish).await,
            Err(Refused { code, message, param, event_id }) => {
                let error = ApiError::bad_request(code, message);
                let error = param.into_iter().fold(error, |error, param| error.param(param));
                self.refuse(&error, event_id.as_deref()).await
            }
        }
    }

    async fn provider_said(&mut self, frame: Bytes) -> Result<(), End> {
        let event = match self.talk.from_provider(frame) {
            Ok(event) => event,
            Err(error) => return Err(self.broken(error).await),
        };
        match event {
            FromProvider::Keep => Ok(()),
            FromProvider::Pass(frame) => self.tell(frame).await,
            FromProvider::Turn(frame) => {
                self.tell(frame).await?;
                self.is_due = true;
                self.respond_if_due().await
            }
            FromProvider::Began(frame, id) => {
                self.response.iter_mut().for_each(|response| response.began(id.clone()));
                self.tell(frame).await
            }
            FromProvider::Piece(frame, report) => {
                if let Some(response) = &mut self.response {
                    response.note(report);
                }
                self.tell(frame).await
            }
            FromProvider::Done(frame, report, failed) => {
                self.settle(report, failed).await?;
                self.tell(frame).await?;
                self.respond_if_due().await
            }
            FromProvider::Rejected(frame, error) => {
                if let Some(response) = self.response.take() {
                    self.seat.fail(response, &error);
                }
                self.tell(frame).await
            }
        }
    }

    async fn respond_if_due(&mut self) -> Result<(), End> {
        if !self.is_due || self.talk.is_answering() {
            return Ok(());
        }
        self.is_due = false;
        self.respond(self.talk.own_wish()).await
    }

    /// Asks for a response once its hold is durable.
    async fn respond(&mut self, wish: Wish) -> Result<(), End> {
        let event_id = wish.event_id().map(str::to_owned);
        match self.held(&wish).await {
            Ok(Ok(response)) => self.ask(wish, response).await,
            Ok(Err(error)) => {
                self.caller.app.metrics.answered(Operation::Realtime, error.status());
                self.refuse(&error, event_id.as_deref()).await
            }
            Err(error) => self.turn_away(error).await,
        }
    }

    /// A response that may be asked for, or why not; the outer error says that the caller may not call at all.
    async fn held(&mut self, wish: &Wish) -> Result<Result<RealtimeResponse, ApiError>, AuthError> {
        let who = self.caller.authenticate().await?;
        let held = match self.caller.call(&self.model, wish) {
            Ok(call) => self.seat.respond(&who, call).await,
            Err(error) => Err(error),
        };
        Ok(held.map_err(|error| self.caller.error(error)))
    }

    async fn ask(&mut self, wish: Wish, response: RealtimeResponse) -> Result<(), End> {
        let (call, cap) = (response.call(), response.output_tokens_max());
        match self.talk.ask(wish, &call.body, call.id.to_string(), cap) {
            Ok(event) => {
                self.response = Some(response);
                self.say(event).await
            }
            Err(error) => {
                let unfit = UpstreamError::Unsupported { message: error.to_string().into() };
                self.seat.fail(response, &unfit);
                self.refuse(&ApiError::internal(error), None).await
            }
        }
    }

    /// Settles the response that ended. Its end is told after that is durable.
    async fn settle(&mut self, report: cfr_core::upstream::Report, failed: Option<UpstreamError>) -> Result<(), End> {
        let Some(mut response) = self.response.take() else { return Ok(()) };
        response.note(report);
        let settled = match failed {
            Some(error) => {
                self.seat.fail(response, &error);
                Ok(())
            }
            None => self.seat.complete(response).await,
        };
        match settled {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(&self.caller.error(error), None).await,
        }
    }

    /// Asks the client whether it is there, and its key whether it still opens.
    async fn beat(&mut self) -> Result<(), End> {
        if self.heard_at.elapsed() > SILENCE_MAX {
            return Err(End(close_code::NORMAL, "nothing was heard of the client"));
        }
        if let Err(error) = self.caller.authenticate().await {
            return self.turn_away(error).await;
        }
        self.send(Message::Ping(Bytes::new())).await
    }

    /// Who may not call any more is told so, and the session ends; a store that cannot be read says nothing of anybody.
    async fn turn_away(&mut self, error: AuthError) -> Result<(), End> {
        let may_pass = matches!(error, AuthError::Store(_));
        self.refuse(&ApiError::from(error), None).await?;
        if may_pass { Ok(()) } else { Err(End(close_code::POLICY, "the key opens nothing any more")) }
    }

    /// The provider broke off: what was delivered is charged, and the client hears of it.
    async fn broken(&mut self, error: UpstreamError) -> End {
        if let Some(response) = self.response.take() {
            self.seat.fail(response, &error);
        }
        let error = GatewayError::Upstream { error: Box::new(error), attempts: Vec::new() };
        match self.refuse(&self.caller.error(error), None).await {
            Ok(()) => End(close_code::ERROR, "the provider broke off"),
            Err(end) => end,
        }
    }

    /// Stops a response that nobody waits for any more, and settles it by the provider's last word on it.
    async fn stop_response(&mut self) {
        let Some(response) = self.response.take() else { return };
        let deadline = Instant::now() + STOP_TIMEOUT;
        let stopped = timeout_at(deadline, self.stopped(response)).await;
        if stopped.is_err() {
            tracing::debug!("a response did not stop in time: what was delivered is charged");
        }
    }

    async fn stopped(&mut self, mut response: RealtimeResponse) {
        if self.provider.send(CANCEL.into()).await.is_err() {
            return;
        }
        while let Some(Ok(frame)) = self.provider.receive().await {
            match self.talk.from_provider(frame) {
                Ok(FromProvider::Piece(_, report)) => response.note(report),
                Ok(FromProvider::Done(_, report, _)) => return response.note(report),
                Ok(FromProvider::Rejected(_, error)) => return self.seat.fail(response, &error),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    async fn refuse(&mut self, error: &ApiError, event_id: Option<&str>) -> Result<(), End> {
        let id = RequestId::generate(self.caller.app.clock.now());
        if let Some(reason) = error.reason() {
            reason.log(id, error.status());
        }
        self.tell(error_event(id, error, event_id).to_string().into()).await
    }

    async fn tell(&mut self, frame: Bytes) -> Result<(), End> {
        match Utf8Bytes::try_from(frame) {
            Ok(text) => self.send(Message::Text(text)).await,
            Err(_) => Err(End(close_code::ERROR, "the provider's words are no text")),
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_TIMEOUT, self.client.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(GONE),
        }
    }

    async fn say(&mut self, event: String) -> Result<(), End> {
        match timeout(SEND_TIMEOUT, self.provider.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(error).await),
            Err(_) => Err(self.broken(UpstreamError::Timeout { after: SEND_TIMEOUT }).await),
        }
    }
}

/// An error as an event of OpenAI's, about an event of the client's.
fn error_event(id: RequestId, error: &ApiError, event_id: Option<&str>) -> Value {
    let mut body: Value = serde_json::from_slice(&error.body()).unwrap_or_default();
    let mut error = body["error"].take();
    error["event_id"] = event_id.into();
    json!({ "type": "error", "event_id": format!("event_{id}"), "error": error })
}
