//! Frames: where an event of a stream begins and ends, apart from what it means.

pub mod relay;
pub mod sse;

pub use relay::Relay;
