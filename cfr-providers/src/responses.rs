//! OpenAI's Responses (providers.md §3): what a provider is asked and says in it, and what clients of it are answered.
//!
//! ```text
//! client of Responses ── host with `/responses` ── bytes stay bytes (own)
//! client of Responses ── any other provider ────── RESPONSES_SURFACE, without a memory: each call carries everything
//! any other client ───── model that answers here ─ request, answer, stream (providers.md §13.6)
//! ```

pub(crate) mod answer;
mod input;
pub(crate) mod own;
pub(crate) mod request;
mod seal;
pub(crate) mod stream;
mod surface;
mod usage;
mod wire;

pub use surface::{RESPONSES_SURFACE, ResponsesSurface};
