//! From network chunks to bytes for the caller: frames go to the decoder, which says what becomes of each.

use std::fmt;

use bytes::{Bytes, BytesMut};
use cfr_core::upstream::{Report, StreamEvent, UpstreamError};

use super::Cut;
use super::aws_event_stream::AwsEventStream;
use super::json_lines::JsonLines;
use super::sse::{self, Blocks, Frame};
use crate::adapter::{Forward, Framing, StreamDecoder, WireEvent};

/// One streamed answer on its way through. When no frame is dropped or changed, the caller gets the very bytes that
/// the network brought.
pub struct Relay {
    frames: Frames,
    decoder: Box<dyn StreamDecoder>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("frames", &self.frames).finish_non_exhaustive()
    }
}

/// Where the frames of a stream are found.
#[derive(Debug)]
enum Frames {
    Sse(Blocks),
    /// In a framing that no client of ours speaks, so that nothing of it is handed on as it came.
    Foreign(Box<dyn Cut>),
}

impl Frames {
    fn of(framing: Framing) -> Self {
        match framing {
            Framing::Sse => Self::Sse(Blocks::default()),
            Framing::JsonLines => Self::Foreign(Box::new(JsonLines::default())),
            Framing::AwsEventStream => Self::Foreign(Box::new(AwsEventStream::default())),
        }
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
    pub fn new(framing: Framing, decoder: Box<dyn StreamDecoder>) -> Self {
        Self { frames: Frames::of(framing), decoder }
    }

    /// Whether the answer has come to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// Takes the next bytes from the network. What follows the answer's end in them is left out.
    pub fn push(&mut self, chunk: Bytes) -> Relayed {
        match &mut self.frames {
            Frames::Sse(blocks) => match blocks.push(chunk) {
                Ok(block) => self.relay(block),
                Err(error) => Relayed::malformed(error.to_string()),
            },
            Frames::Foreign(cut) => {
                let mut events = Vec::new();
                let torn = cut.push(&chunk, &mut events);
                let relayed = self.translate(events);
                if self.is_done() { relayed } else { relayed.unless(torn) }
            }
        }
    }

    /// Takes notice that the network brings no more. A last frame without its end counts when it can be read; half a
    /// frame does not.
    pub fn finish(&mut self) -> Relayed {
        let mut relayed = match &mut self.frames {
            Frames::Sse(blocks) => {
                let rest = blocks.finish();
                self.relay(rest)
            }
            Frames::Foreign(cut) => {
                let mut events = Vec::new();
                let _half = cut.finish(&mut events);
                self.translate(events)
            }
        };
        relayed.error.take_if(|error| matches!(error, UpstreamError::Malformed { .. }));
        if relayed.error.is_none() {
            match self.decoder.finish(&mut relayed.event.report) {
                Ok(end) => relayed.append(&end),
                Err(error) => relayed.error = Some(error),
            }
        }
        relayed
    }

    /// Events of a framing that no client speaks: what is handed on is made anew.
    fn translate(&mut self, events: Vec<WireEvent<'static>>) -> Relayed {
        let (mut report, mut bytes) = (Report::default(), BytesMut::new());
        for event in events {
            if self.decoder.is_done() {
                break;
            }
            match self.decoder.feed(&event, &mut report) {
                Ok(Forward::Instead(made)) => bytes.extend_from_slice(&made),
                Ok(Forward::AsIs | Forward::Nothing) => {}
                Err(error) => {
                    return Relayed { event: StreamEvent { bytes: bytes.freeze(), report }, error: Some(error) };
                }
            }
        }
        Relayed { event: StreamEvent { bytes: bytes.freeze(), report }, error: None }
    }

    fn relay(&mut self, block: Bytes) -> Relayed {
        let mut report = Report::default();
        let mut kept = Kept::new(&block);
        let mut error = None;
        for frame in sse::frames(&block) {
            if self.decoder.is_done() {
                break;
            }
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
    fn malformed(message: impl Into<Box<str>>) -> Self {
        Self { error: Some(UpstreamError::Malformed { message: message.into() }), ..Self::default() }
    }

    /// What came before the stream tore counts; then it is over.
    fn unless(self, torn: Result<(), Box<str>>) -> Self {
        let error = self.error.or_else(|| torn.err().map(|message| UpstreamError::Malformed { message }));
        Self { error, ..self }
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
