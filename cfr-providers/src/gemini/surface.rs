//! Google's dialect as clients speak it to providers that speak another.

use bytes::Bytes;
use cfr_core::chat::Call;
use cfr_core::upstream::UpstreamError;

use crate::dialog::{Answer, Dialog, StreamWriter, Surface};

mod contents;
mod read;
pub(super) mod seal;
mod stream;
mod whole;

/// `:generateContent` and `:streamGenerateContent` for clients.
#[derive(Debug)]
pub struct GenerateSurface;

/// See [`GenerateSurface`].
pub static GENERATE_SURFACE: GenerateSurface = GenerateSurface;

impl Surface for GenerateSurface {
    fn read(&self, call: &Call) -> Result<Dialog, UpstreamError> {
        read::dialog(call)
    }

    fn whole(&self, call: &Call, answer: Answer) -> Bytes {
        whole::response(call, answer)
    }

    fn stream(&self, call: &Call) -> Box<dyn StreamWriter> {
        Box::new(stream::ChunkWriter::new(call))
    }
}
