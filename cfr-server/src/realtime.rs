//! OpenAI's realtime API: a conversation over a WebSocket.
//!
//! A session holds nothing. Each response in it is a call of its own, with a hold before it is asked for, a settlement when it
//! ends, and a record (`cfr_core::gateway::RealtimeSession`). The provider never answers by itself; what may be said, and when
//! a response is due, is known to [`cfr_providers::realtime`]. This is what is left: the handshake, the two connections, the
//! clock.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cfr_core::chat::Operation;
use cfr_core::upstream::{RealtimeSocket, UpstreamError};
use cfr_providers::realtime::{Conversation, FromProvider};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use serde::Deserialize;

use crate::calls::api_error;
use crate::error::ApiError;
use crate::serve::{self, Lasting};
use crate::state::App;

mod session;

use session::{Caller, Session};

/// What browsers name, and we choose.
const PROTOCOL: &str = "realtime";
/// How browsers, which can send no headers, present their key.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";
/// How long a provider may take to say how the session is set, and to take our settings.
const GREETING_TIMEOUT: Duration = Duration::from_secs(20);
/// Events that a provider may send before it has taken our settings.
const GREETING_EVENTS_MAX: usize = 16;

/// What stands behind the question mark.
#[derive(Debug, Deserialize)]
pub struct Wish {
    model: Option<Box<str>>,
}

/// `GET /v1/realtime`.
pub async fn realtime(
    State(app): State<Arc<App>>,
    wish: Result<Query<Wish>, axum::extract::rejection::QueryRejection>,
    request: Request<Body>,
) -> Response {
    let opened =
        match wish {
            Ok(Query(Wish { model: Some(model) })) => open(&app, model, request).await,
            _ => Err(ApiError::bad_request("invalid_value", "the address names the model: /v1/realtime?model=…")
                .param("model")),
        };
    let response = opened.unwrap_or_else(IntoResponse::into_response);
    app.metrics.answered(Operation::Realtime, response.status());
    response
}

/// Below this are other ways into a session, which have no hold for each response.
pub const OTHER_WAYS: &str = "/v1/realtime/";

/// Says which way into a session there is.
#[must_use]
pub fn other_ways() -> ApiError {
    let message = "sessions are opened here by a WebSocket to GET /v1/realtime?model=…, with a key of this server; client \
        secrets, WebRTC, SIP, transcription and translation sessions are not available";
    ApiError::not_found("unsupported_endpoint", message)
}

/// Connects to the provider before the client is told that it is connected, so that what is wrong has a status.
async fn open(app: &Arc<App>, model: Box<str>, request: Request<Body>) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let lasting = parts.extensions.get::<Lasting>().cloned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, app).await;
    let (upgrade, lasting) = upgrade.ok().zip(lasting).ok_or_else(no_websocket)?;
    let address = serve::address(&parts.extensions);
    let caller = Caller { app: Arc::clone(app), headers: with_key(parts.headers), address };
    let who = caller.authenticate().await?;
    let mut talk = Conversation::new(&model);
    let opening = caller.call(&model, &talk.own_wish()).map_err(|error| api_error(error, &app.settings))?;
    let event_bytes_max = app.settings.body_bytes_max;
    let connected = app.gateway.connect(&who, &opening, event_bytes_max).await;
    let (seat, mut provider) = connected.map_err(|error| api_error(error, &app.settings))?;
    let greeting = tokio::time::timeout(GREETING_TIMEOUT, greet(&mut talk, &mut *provider)).await;
    let late = || UpstreamError::Timeout { after: GREETING_TIMEOUT };
    let greeting = greeting.unwrap_or_else(|_| Err(late())).map_err(|error| {
        let error = cfr_core::gateway::GatewayError::Upstream { error: Box::new(error), attempts: Vec::new() };
        api_error(error, &app.settings)
    })?;
    let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(event_bytes_max).max_frame_size(event_bytes_max);
    Ok(upgrade.on_upgrade(move |client| async move {
        let session = Session::new(caller, model, client, provider, talk, seat);
        lasting.run(|stop| session.run(greeting, stop)).await;
    }))
}

/// Switches the provider's own answers off before anybody says anything; returns what the client is to hear first.
async fn greet(talk: &mut Conversation, provider: &mut dyn RealtimeSocket) -> Result<Vec<Bytes>, UpstreamError> {
    let broken = || UpstreamError::Truncated { message: "the provider closed the session at once".into() };
    let created = provider.receive().await.ok_or_else(broken)??;
    let update = talk.greet(&created)?;
    let mut first = passed(talk, created)?;
    let Some(update) = update else { return Ok(first) };
    provider.send(update).await?;
    while first.len() < GREETING_EVENTS_MAX {
        let frame = provider.receive().await.ok_or_else(broken)??;
        if talk.takes_settings(&frame)? {
            return Ok(first);
        }
        first.extend(passed(talk, frame)?);
    }
    Err(UpstreamError::Malformed { message: "the provider does not take our settings".into() })
}

fn passed(talk: &mut Conversation, frame: Bytes) -> Result<Vec<Bytes>, UpstreamError> {
    match talk.from_provider(frame)? {
        FromProvider::Pass(frame) => Ok(vec![frame]),
        _ => Ok(Vec::new()),
    }
}

/// The headers, with the key where a browser puts it.
fn with_key(mut headers: HeaderMap) -> HeaderMap {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut words = offered.flat_map(|value| value.split(',')).map(str::trim);
    let key = words.find_map(|word| word.strip_prefix(KEY_PROTOCOL)).map(|key| format!("Bearer {key}"));
    let key = key.and_then(|key| HeaderValue::try_from(key).ok());
    if let Some(mut key) = key.filter(|_| !headers.contains_key(AUTHORIZATION)) {
        key.set_sensitive(true);
        headers.insert(AUTHORIZATION, key);
    }
    headers
}

fn no_websocket() -> ApiError {
    let message = "this address is spoken to over a WebSocket of HTTP/1.1";
    ApiError::new(StatusCode::UPGRADE_REQUIRED, "invalid_request_error", "websocket_required", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(own: &[(http::HeaderName, &'static str)], expected: Option<&str>) {
        let headers = own.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        let headers = with_key(headers);
        assert_eq!(headers.get(AUTHORIZATION).map(|value| value.to_str().expect("text")), expected);
    }

    #[test]
    fn a_browsers_key_stands_among_the_protocols_and_a_header_counts_more() {
        check(&[(SEC_WEBSOCKET_PROTOCOL, "realtime, openai-insecure-api-key.k1")], Some("Bearer k1"));
        check(&[(SEC_WEBSOCKET_PROTOCOL, "realtime")], None);
        let both = [(SEC_WEBSOCKET_PROTOCOL, "openai-insecure-api-key.k1"), (AUTHORIZATION, "Bearer k2")];
        check(&both, Some("Bearer k2"));
    }
}
