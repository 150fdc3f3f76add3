//! An adapter that serves clients of any dialect over a provider of one.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use cfr_core::chat::Call;
use cfr_core::upstream::{Capabilities, Order, Report, TokenCount, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::{Answer, Piece};
use super::drops::Drops;
use super::manners::Manners;
use super::part::Source;
use super::request::Dialog;
use super::surface::{StreamWriter, Surface, surface_of};
use crate::adapter::{Adapter, Forward, Framing, StreamDecoder, WireEvent};
use crate::media::{Fetched, MediaKind, Wanted};
use crate::transport::WireRequest;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// A provider's dialect. It holds addresses and names, and nothing that changes.
pub trait Wire: Debug + Send + Sync + 'static {
    /// The provider's name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// What the provider can do.
    fn capabilities(&self) -> Capabilities;

    /// How its streams are cut into events.
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// Whether the provider fetches by itself what is at an address. Otherwise it gets the bytes, where we may fetch them.
    fn fetches(&self, kind: MediaKind, address: &str) -> bool {
        let _ = (kind, address);
        true
    }

    /// What it demands of the order of turns.
    fn manners(&self, model: &str) -> Manners;

    /// The request to send, complete but for the signature. The dialog is in the provider's order, with the cap on answer
    /// tokens to send; what the provider has no words for goes to `drops`.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] with the field's name.
    fn request(&self, dialog: &Dialog, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError>;

    /// The meaning of a complete answer with a success status.
    ///
    /// # Errors
    /// [`UpstreamError::Malformed`] when it is not an answer; any other error that it carries under a success status.
    fn answer(&self, headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError>;

    /// The meaning of an answer with an error status. `body` of [`UpstreamError::Rejected`] stays `None`: it would not be
    /// in the caller's dialect.
    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError;

    /// Reads one streamed answer.
    fn stream(&self) -> Box<dyn StreamReader>;

    /// The request that has the prompt of a dialog counted for nothing; none where the provider has no counter for the
    /// model. The dialog is in the provider's order.
    ///
    /// # Errors
    /// As [`Wire::request`].
    fn count(
        &self,
        dialog: &Dialog,
        order: &Order<'_>,
        drops: &mut Drops,
    ) -> Result<Option<WireRequest>, UpstreamError> {
        let _ = (dialog, order, drops);
        Ok(None)
    }

    /// The number in the answer to that request. Who has no counter is never asked.
    ///
    /// # Errors
    /// As [`Wire::answer`].
    fn counted(&self, headers: &HeaderMap, body: &Bytes) -> Result<u64, UpstreamError> {
        let _ = (headers, body);
        Err(UpstreamError::Unsupported { message: "counting tokens".into() })
    }

    /// Who serves an operation without translation: callers of the provider's own dialect, and what is no conversation.
    fn own(&self, call: &Call) -> Option<&dyn Adapter> {
        let _ = call;
        None
    }
}

const _: fn(&dyn Wire) = |_| {};

/// Reads one streamed answer. It is fed; it never polls.
pub trait StreamReader: Send {
    /// Takes the next event and adds what it says.
    ///
    /// # Errors
    /// When the event ends the answer badly.
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError>;

    /// Whether the answer has come to its end, so that nothing more is expected from the wire.
    fn is_done(&self) -> bool;

    /// Takes notice that the wire ended; adds what the end says, if anything.
    ///
    /// # Errors
    /// [`UpstreamError::Truncated`] when the answer had not come to its end.
    fn finish(&mut self, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError>;
}

/// A provider's dialect as an adapter for clients of any other.
#[derive(Debug, Clone)]
pub struct Translated<W>(pub W);

impl<W: Wire> Translated<W> {
    fn own(&self, call: &Call) -> Option<&dyn Adapter> {
        self.0.own(call)
    }

    fn dialog(&self, order: &Order<'_>, fetched: &Fetched, drops: &mut Drops) -> Result<Dialog, UpstreamError> {
        let mut dialog = surface(order.call)?.read(order.call)?;
        dialog.sources().for_each(|(kind, source)| fetched.put_into(kind, source));
        for field in std::mem::take(&mut dialog.unread) {
            drops.harmless(String::from(field));
        }
        let caps = [dialog.output_tokens_max, order.output_tokens_max];
        dialog.output_tokens_max = caps.into_iter().flatten().min();
        self.0.manners(order.model).apply(&mut dialog, drops)?;
        Ok(dialog)
    }
}

impl<W: Wire> Adapter for Translated<W> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn framing(&self) -> Framing {
        self.0.framing()
    }

    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        self.encode_with(order, &Fetched::default())
    }

    fn wanted(&self, order: &Order<'_>) -> Result<Vec<Wanted>, UpstreamError> {
        if self.own(order.call).is_some() {
            return Ok(Vec::new());
        }
        let mut dialog = surface(order.call)?.read(order.call)?;
        let wanted = dialog.sources().filter_map(|(kind, source)| match source {
            Source::Url(address) if !self.0.fetches(kind, address) => {
                Some(Wanted { kind, address: std::mem::take(address) })
            }
            _ => None,
        });
        Ok(wanted.collect())
    }

    fn encode_with(&self, order: &Order<'_>, fetched: &Fetched) -> Result<WireRequest, UpstreamError> {
        if let Some(own) = self.own(order.call) {
            return own.encode(order);
        }
        let mut drops = Drops::new(order.call.drop_params);
        let dialog = self.dialog(order, fetched, &mut drops)?;
        let request = self.0.request(&dialog, order, &mut drops)?;
        Ok(WireRequest { dropped: drops.into_names(), ..request })
    }

    fn decode(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        if let Some(own) = self.own(call) {
            return own.decode(call, headers, body);
        }
        let answer = self.0.answer(headers, &body)?;
        let report = answer.report();
        let body = surface(call)?.whole(call, answer);
        Ok(WholeReply { content_type: JSON, body, report, upstream_id: None, dropped: Vec::new() })
    }

    fn decode_error(&self, call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        match self.own(call) {
            Some(own) => own.decode_error(call, status, headers, body),
            None => self.0.error(status, headers, body),
        }
    }

    fn stream_decoder(&self, call: &Call) -> Box<dyn StreamDecoder> {
        if let Some(own) = self.own(call) {
            return own.stream_decoder(call);
        }
        match surface(call) {
            Ok(surface) => Box::new(Translation::new(self.0.stream(), surface.stream(call))),
            Err(error) => Box::new(Untranslatable(error)),
        }
    }

    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        if let Some(own) = self.own(call) {
            return own.stream_of_whole(call, headers, body);
        }
        let answer = self.0.answer(headers, &body)?;
        let (report, mut writer, mut out) = (answer.report(), surface(call)?.stream(call), BytesMut::new());
        answer.into_pieces().into_iter().for_each(|piece| writer.write(piece, &mut out));
        writer.end(&mut out);
        Ok(WholeReply {
            content_type: EVENT_STREAM,
            body: out.freeze(),
            report,
            upstream_id: None,
            dropped: Vec::new(),
        })
    }

    /// A count is no answer: nothing is lost by leaving out what the provider has no words for, and no cap matters.
    fn encode_count(&self, order: &Order<'_>) -> Result<Option<WireRequest>, UpstreamError> {
        if let Some(own) = self.own(order.call) {
            return own.encode_count(order);
        }
        let mut drops = Drops::new(true);
        let dialog = Dialog { output_tokens_max: None, ..self.dialog(order, &Fetched::default(), &mut drops)? };
        self.0.count(&dialog, order, &mut drops)
    }

    fn decode_count(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<TokenCount, UpstreamError> {
        match self.own(call) {
            Some(own) => own.decode_count(call, headers, body),
            None => Ok(TokenCount { tokens: self.0.counted(headers, &body)?, body: None }),
        }
    }
}

fn surface(call: &Call) -> Result<&'static dyn Surface, UpstreamError> {
    surface_of(call.operation).ok_or_else(|| UpstreamError::Unsupported { message: call.operation.name().into() })
}

/// One streamed answer on its way from the provider's dialect to the client's.
struct Translation {
    reader: Box<dyn StreamReader>,
    writer: Box<dyn StreamWriter>,
    pieces: Vec<Piece>,
    ended: bool,
}

impl Translation {
    fn new(reader: Box<dyn StreamReader>, writer: Box<dyn StreamWriter>) -> Self {
        Self { reader, writer, pieces: Vec::new(), ended: false }
    }

    fn written(&mut self, report: &mut Report) -> BytesMut {
        let mut out = BytesMut::new();
        for piece in self.pieces.drain(..) {
            piece.tell(report);
            self.writer.write(piece, &mut out);
        }
        if self.reader.is_done() && !self.ended {
            self.ended = true;
            self.writer.end(&mut out);
        }
        out
    }
}

impl StreamDecoder for Translation {
    fn feed(&mut self, event: &WireEvent<'_>, report: &mut Report) -> Result<Forward, UpstreamError> {
        if self.ended {
            return Ok(Forward::Nothing);
        }
        if let Err(error) = self.reader.read(event, &mut self.pieces) {
            // What a bad end reports of its usage is settled all the same.
            self.pieces.drain(..).for_each(|piece| piece.tell(report));
            return Err(error);
        }
        let out = self.written(report);
        Ok(if out.is_empty() { Forward::Nothing } else { Forward::Instead(out.freeze()) })
    }

    fn is_done(&self) -> bool {
        self.ended
    }

    fn finish(&mut self, report: &mut Report) -> Result<Bytes, UpstreamError> {
        if self.ended {
            return Ok(Bytes::new());
        }
        self.reader.finish(&mut self.pieces)?;
        let mut out = self.written(report);
        if !self.ended {
            self.ended = true;
            self.writer.end(&mut out);
        }
        Ok(out.freeze())
    }
}

/// The stream of an operation that no dialog stands behind. Such a call is refused before it is sent.
struct Untranslatable(UpstreamError);

impl StreamDecoder for Untranslatable {
    fn feed(&mut self, _: &WireEvent<'_>, _: &mut Report) -> Result<Forward, UpstreamError> {
        Err(self.0.clone())
    }

    fn is_done(&self) -> bool {
        false
    }

    fn finish(&mut self, _: &mut Report) -> Result<Bytes, UpstreamError> {
        Err(self.0.clone())
    }
}
