//! From network chunks to bytes for the caller: frames go to the decoder, which says what becomes of each.

use std::fmt;

use bytes::{Bytes, BytesMut};
use cfr_core::upstream::{Report, StreamEvent, UpstreamError};

use super::sse::{self, Blocks, Frame};
use crate::adapter::{Forward, StreamDecoder};

/// One streamed answer on its way through. When no frame is dropped or changed, the caller gets the very bytes that
/// the network brought.
pub struct Relay {
    blocks: Blocks,
    decoder: Box<dyn StreamDecoder>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

/// What a chunk brought: bytes for the caller, and then perhaps the error that ends the answer.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Whole frames with their report.
    pub event: StreamEvent,
    /// Why nothing follows.
    pub error: Option<UpstreamError>,
}

impl Relay {
    /// A relay into `decoder`.
    #[must_use]
    pub fn new(decoder: Box<dyn StreamDecoder>) -> Self {
        Self { blocks: Blocks::default(), decoder }
    }

    /// Whether the answer has come to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// Takes the next bytes from the network.
    pub fn push(&mut self, chunk: Bytes) -> Relayed {
        match self.blocks.push(chunk) {
            Ok(block) => self.relay(block),
            Err(error) => Relayed::failed(UpstreamError::Malformed { message: error.to_string().into() }),
        }
    }

    /// Takes notice that the network brings no more. A last frame without its empty line counts when it can be read;
    /// half a frame does not.
    pub fn finish(&mut self) -> Relayed {
        let rest = self.blocks.finish();
        let mut relayed = self.relay(rest);
        if matches!(relayed.error, Some(UpstreamError::Malformed { .. })) {
            relayed.error = None;
        }
        if relayed.error.is_none() {
            match self.decoder.finish() {
                Ok(end) => relayed.append(&end),
                Err(error) => relayed.error = Some(error),
            }
        }
        relayed
    }

    fn relay(&mut self, block: Bytes) -> Relayed {
        let mut report = Report::default();
        let mut kept = Kept::new(&block);
        let mut error = None;
        for frame in sse::frames(&block) {
            match self.decide(&frame, &mut report) {
                Ok(Forward::AsIs) => kept.keep(&frame),
                Ok(Forward::Nothing) => {}
                Ok(Forward::Instead(bytes)) => kept.replace(&bytes),
                Err(cause) => {
                    error = Some(cause);
                    break;
                }
            }
        }
        Relayed { event: StreamEvent { bytes: kept.into_bytes(), report }, error }
    }

    fn decide(&mut self, frame: &Frame<'_>, report: &mut Report) -> Result<Forward, UpstreamError> {
        frame.event.as_ref().map_or(Ok(Forward::AsIs), |event| self.decoder.feed(event, report))
    }
}

impl Relayed {
    fn failed(error: UpstreamError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// Adds frames of our own; a last frame that the provider left open is closed first.
    fn append(&mut self, end: &Bytes) {
        let bytes = &self.event.bytes;
        let open =
            !(bytes.is_empty() || bytes.ends_with(b"\n\n") || bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"\r\r"));
        if !open && end.is_empty() {
            return;
        }
        let mut whole = BytesMut::from(&bytes[..]);
        if open {
            whole.extend_from_slice(b"\n\n");
        }
        whole.extend_from_slice(end);
        self.event.bytes = whole.freeze();
    }
}

/// The bytes of a block that are handed on; a part of the block itself as long as that is possible.
struct Kept<'a> {
    block: &'a Bytes,
    start: usize,
    end: usize,
    copy: Option<BytesMut>,
}

impl<'a> Kept<'a> {
    const fn new(block: &'a Bytes) -> Self {
        Self { block, start: 0, end: 0, copy: None }
    }

    fn keep(&mut self, frame: &Frame<'_>) {
        let (range, block) = (frame.range.clone(), self.block);
        match &mut self.copy {
            None if self.end == self.start => (self.start, self.end) = (range.start, range.end),
            None if self.end == range.start => self.end = range.end,
            _ => self.copied().extend_from_slice(&block[range]),
        }
    }

    fn replace(&mut self, bytes: &[u8]) {
        self.copied().extend_from_slice(bytes);
    }

    fn copied(&mut self) -> &mut BytesMut {
        self.copy.get_or_insert_with(|| BytesMut::from(&self.block[self.start..self.end]))
    }

    fn into_bytes(self) -> Bytes {
        self.copy.map_or_else(|| self.block.slice(self.start..self.end), BytesMut::freeze)
    }
}
