//! WebSockets over the bundled transport: the handshake is an ordinary request, so that proxies, certificates and the guard
//! against addresses inside hold for it too.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cfr_core::upstream::{RealtimeSocket, UpstreamError};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Response, Upgraded};
use ring::rand::{SecureRandom, SystemRandom};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::TransportError;

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// A wish to speak over a WebSocket, and what proves that the server agreed.
#[derive(Debug)]
pub(super) struct Handshake {
    key: String,
}

impl Handshake {
    pub(super) fn new() -> Result<Self, TransportError> {
        let mut nonce = [0; 16];
        let no_chance = |_| TransportError::Unreachable { message: "no random numbers".into() };
        SystemRandom::new().fill(&mut nonce).map_err(no_chance)?;
        Ok(Self { key: STANDARD.encode(nonce) })
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) -> Result<(), TransportError> {
        let unfit = |_| TransportError::Unreachable { message: "no header carries the key".into() };
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(&self.key).map_err(unfit)?);
        headers.insert(header::SEC_WEBSOCKET_VERSION, VERSION);
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
        Ok(())
    }

    /// Whether the server speaks over a WebSocket from here on.
    pub(super) fn is_agreed(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let accepted = headers.get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        status == StatusCode::SWITCHING_PROTOCOLS && accepted == Some(derive_accept_key(self.key.as_bytes()).as_bytes())
    }
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Socket(WebSocketStream<Upgraded>);

impl Socket {
    pub(super) async fn open(response: Response, event_bytes_max: usize) -> Result<Self, TransportError> {
        let broken = |error: reqwest::Error| TransportError::Broken { message: error.to_string().into() };
        let stream = response.upgrade().await.map_err(broken)?;
        let limit = Some(event_bytes_max);
        let config = WebSocketConfig::default().max_message_size(limit).max_frame_size(limit);
        Ok(Self(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await))
    }
}

#[async_trait]
impl RealtimeSocket for Socket {
    async fn send(&mut self, event: String) -> Result<(), UpstreamError> {
        self.0.send(Message::text(event)).await.map_err(|error| broken(&error))
    }

    async fn receive(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        loop {
            return match self.0.next().await? {
                Ok(Message::Text(text)) => Some(Ok(text.into())),
                Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                Ok(Message::Close(_)) => None,
                Ok(_) => continue, // pings are answered by the library
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => None,
                Err(error) => Some(Err(broken(&error))),
            };
        }
    }
}

fn broken(error: &Error) -> UpstreamError {
    let message = error.to_string().into();
    match error {
        Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_) => UpstreamError::Malformed { message },
        _ => UpstreamError::Truncated { message },
    }
}
