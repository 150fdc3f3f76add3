//! OpenAI's chat dialect as clients speak it to providers that speak another.

use bytes::Bytes;
use cfr_core::chat::Call;
use cfr_core::upstream::UpstreamError;

use crate::dialog::{Answer, Dialog, Fields, StreamWriter, Surface};

mod message;
mod read;
mod stream;
mod whole;

pub(crate) use whole::created_at;

/// Chat completions for clients.
#[derive(Debug)]
pub struct ChatSurface;

/// See [`ChatSurface`].
pub static CHAT_SURFACE: ChatSurface = ChatSurface;

impl Surface for ChatSurface {
    fn read(&self, call: &Call) -> Result<Dialog, UpstreamError> {
        read::dialog(Fields::of_body(&call.body)?)
    }

    fn whole(&self, call: &Call, answer: Answer) -> Bytes {
        whole::completion(call, answer)
    }

    fn stream(&self, call: &Call) -> Box<dyn StreamWriter> {
        Box::new(stream::ChunkWriter::new(call))
    }
}
