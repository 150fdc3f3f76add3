//! Frames: where an event of a stream begins and ends, apart from what it means.

use crate::adapter::WireEvent;

pub mod aws_event_stream;
pub mod json_lines;
pub mod relay;
pub mod sse;

pub use relay::Relay;

/// Cuts a byte stream into events, where no bytes of it can be handed on as they are.
pub trait Cut: Send + std::fmt::Debug {
    /// Takes the next bytes; adds the events that are complete now.
    ///
    /// # Errors
    /// When the stream is not in this framing, or an event is beyond the limit.
    fn push(&mut self, chunk: &[u8], events: &mut Vec<WireEvent<'static>>) -> Result<(), Box<str>>;

    /// Takes notice that no more bytes come; adds the last event, if one was waiting for its end.
    ///
    /// # Errors
    /// When the stream ended inside an event.
    fn finish(&mut self, events: &mut Vec<WireEvent<'static>>) -> Result<(), Box<str>>;
}
