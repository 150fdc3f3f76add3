//! A conversation in nobody's dialect: what a call asks and what an answer says, between any two wire formats.
//!
//! ```text
//! body ─ Surface::read ─ Dialog ─ Manners::apply ─ Wire::request ─ provider
//! body ─ Surface::whole ─── Answer ──────────────── Wire::answer ──── provider
//! frames ─ Surface::stream ─ Piece, Piece, … ────── Wire::stream ──── provider
//! ```
//!
//! A [`Surface`] is a dialect that clients speak, a [`Wire`] one that a provider speaks, and [`Translated`] makes an
//! adapter of a wire that serves every surface. When both sides speak the same dialect none of this is used: bytes stay
//! bytes, and what we do not understand is passed on. Between different dialects nothing is guessed: what a provider has
//! no words for is either refused by name or, where that does no harm or the caller allowed it, left out and reported.

mod answer;
mod drops;
mod fields;
mod manners;
mod part;
mod request;
mod surface;
mod translated;

pub use answer::{Answer, Choice, Piece};
pub use drops::Drops;
pub use fields::Fields;
pub use manners::{Manners, SystemTurns, ToolIds, invalid};
pub use part::{
    CacheMark, Citation, File, Image, Part, Role, Seal, Source, Text, Thought, ToolCall, ToolResult, Turn, value_of,
};
pub use request::{
    Dialog, Effort, Format, Logprobs, Modalities, Reasoning, Sampling, SchemaFormat, Tool, ToolChoice, WebSearch,
};
pub use surface::{StreamWriter, Surface, surface_of};
pub use translated::{StreamReader, Translated, Wire};
