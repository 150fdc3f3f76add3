//! Responses as clients speak it to providers that speak another dialect. Nothing is remembered: each call carries the
//! whole conversation, and what refers to an earlier response is refused by name.

use bytes::{Bytes, BytesMut};
use cfr_core::chat::Call;
use cfr_core::upstream::UpstreamError;

use crate::dialog::{Answer, Dialog, Fields, Piece, StreamWriter, Surface};

mod item;
mod read;
mod response;
mod turns;
mod writer;

/// Responses for clients.
#[derive(Debug)]
pub struct ResponsesSurface;

/// See [`ResponsesSurface`].
pub static RESPONSES_SURFACE: ResponsesSurface = ResponsesSurface;

impl Surface for ResponsesSurface {
    fn read(&self, call: &Call) -> Result<Dialog, UpstreamError> {
        read::dialog(Fields::of_body(&call.body)?, call.drop_params)
    }

    fn whole(&self, call: &Call, answer: Answer) -> Bytes {
        let mut writer = writer::Writer::new(call, true);
        answer.into_pieces().into_iter().for_each(|piece| writer.write(piece, &mut BytesMut::new()));
        writer.into_response().to_string().into()
    }

    fn stream(&self, call: &Call) -> Box<dyn StreamWriter> {
        Box::new(EventWriter(writer::Writer::new(call, false)))
    }
}

/// Writes one streamed response.
struct EventWriter(writer::Writer);

impl StreamWriter for EventWriter {
    fn write(&mut self, piece: Piece, out: &mut BytesMut) {
        self.0.write(piece, out);
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.0.end(out);
    }
}
