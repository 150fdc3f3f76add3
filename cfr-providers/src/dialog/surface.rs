//! Dialects that clients speak.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::UpstreamError;

use super::answer::{Answer, Piece};
use super::request::Dialog;
use crate::{anthropic, gemini, openai, responses};

/// A dialect that clients speak, for a provider that speaks another.
pub trait Surface: Debug + Send + Sync + 'static {
    /// What the body of a call asks for.
    ///
    /// # Errors
    /// [`UpstreamError::Rejected`] with the field that cannot be read.
    fn read(&self, call: &Call) -> Result<Dialog, UpstreamError>;

    /// A complete answer in this dialect.
    fn whole(&self, call: &Call, answer: Answer) -> Bytes;

    /// Writes a streamed answer to `call` in this dialect.
    fn stream(&self, call: &Call) -> Box<dyn StreamWriter>;
}

const _: fn(&dyn Surface) = |_| {};

/// Writes one streamed answer.
pub trait StreamWriter: Send {
    /// Adds the frames that say what a piece says; often none.
    fn write(&mut self, piece: Piece, out: &mut BytesMut);

    /// Adds the frames that end a complete answer. Called once, after the last piece.
    fn end(&mut self, out: &mut BytesMut);
}

/// The dialect in which an operation is asked for; none for those that no dialog stands behind.
#[must_use]
pub fn surface_of(operation: Operation) -> Option<&'static dyn Surface> {
    match operation {
        Operation::ChatCompletions => Some(&openai::CHAT_SURFACE),
        Operation::Messages => Some(&anthropic::MESSAGES_SURFACE),
        Operation::GenerateContent => Some(&gemini::GENERATE_SURFACE),
        Operation::Responses => Some(&responses::RESPONSES_SURFACE),
        _ => None,
    }
}
