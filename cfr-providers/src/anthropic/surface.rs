//! The Messages dialect as clients speak it to providers that speak another (providers.md §14).

use bytes::Bytes;
use cfr_core::chat::Call;
use cfr_core::upstream::UpstreamError;

use crate::dialog::{Answer, Dialog, Fields, StreamWriter, Surface};

mod blocks;
mod calls;
mod proof;
mod read;
mod stream;
mod tools;
mod whole;

pub(super) use proof::strip_foreign;

/// Messages for clients.
#[derive(Debug)]
pub struct MessagesSurface;

/// See [`MessagesSurface`].
pub static MESSAGES_SURFACE: MessagesSurface = MessagesSurface;

impl Surface for MessagesSurface {
    fn read(&self, call: &Call) -> Result<Dialog, UpstreamError> {
        read::dialog(Fields::of_body(&call.body)?, call.drop_params)
    }

    fn whole(&self, call: &Call, answer: Answer) -> Bytes {
        whole::message(call, answer)
    }

    fn stream(&self, call: &Call) -> Box<dyn StreamWriter> {
        Box::new(stream::EventWriter::new(call))
    }
}
