//! Conversations over an open connection, as OpenAI's realtime API has them.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::UpstreamError;

/// A wish for a conversation.
#[derive(Debug, Clone, Copy)]
pub struct RealtimeOrder<'a> {
    /// The model by the upstream's own name.
    pub model: &'a str,
    /// How long the connection may take to be made.
    pub timeout: Duration,
    /// Bytes of one event, in either direction.
    pub event_bytes_max: usize,
}

/// An open connection to a provider, over which events go in both directions: JSON objects in OpenAI's words. Dropping it
/// closes it.
#[async_trait]
pub trait RealtimeSocket: Debug + Send {
    /// Sends one event; returns when the connection took it.
    ///
    /// # Errors
    /// When the connection is broken.
    ///
    /// # Cancel safety
    /// The event may be lost when the future is dropped.
    async fn send(&mut self, event: String) -> Result<(), UpstreamError>;

    /// The next event; none when the provider has closed the connection.
    ///
    /// # Errors
    /// When the connection is broken, or what came is no event.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    async fn receive(&mut self) -> Option<Result<Bytes, UpstreamError>>;
}

const _: fn(&dyn RealtimeSocket) = |_| {};
