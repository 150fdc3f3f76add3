//! OpenAI's dialects as a provider's, for clients that speak another: chat completions of every compatible server, and
//! Responses where a model answers there only.

use bytes::Bytes;
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};

use super::host::{Host, Path};
use super::{bridge, count, error, models};
use crate::adapter::WireEvent;
use crate::dialog::{Answer, Dialog, Drops, Manners, Piece, StreamReader, Wire};
use crate::media::MediaKind;
use crate::responses;
use crate::transport::WireRequest;

mod answer;
mod message;
mod request;
mod said;
mod stream;

pub(crate) use message::{FAILED, end_user};

/// One server as a target. Which of its two dialects a request is written in depends on the model and the call; an
/// answer says by itself which it is in.
#[derive(Debug, Clone)]
pub(super) struct Target(pub(super) Host);

impl Wire for Target {
    fn name(&self) -> &'static str {
        self.0.quirks.name
    }

    fn capabilities(&self) -> Capabilities {
        self.0.quirks.capabilities
    }

    /// Pictures alone: chat completions have no address for a document.
    fn fetches(&self, kind: MediaKind, _: &str) -> bool {
        kind == MediaKind::Image
    }

    fn manners(&self, _model: &str) -> Manners {
        self.0.quirks.words.manners
    }

    fn request(&self, dialog: &Dialog, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let (path, body) = if self.answers_on_responses_only(dialog, order.model) {
            (Path::Responses, responses::request::body(dialog, order.model, drops)?)
        } else {
            (Path::Chat, request::body(self.0.quirks, dialog, order.model, drops)?)
        };
        self.0.request(path, order.model, body)
    }

    fn answer(&self, headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
        match self.0.quirks.responses && bridge::is_response(body) {
            true => responses::answer::read(self.0.quirks, headers, body),
            false => answer::read(self.0.quirks, headers, body),
        }
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        without_body(error::read(status, headers, body))
    }

    fn count(
        &self,
        dialog: &Dialog,
        order: &Order<'_>,
        drops: &mut Drops,
    ) -> Result<Option<WireRequest>, UpstreamError> {
        count::of_dialog(&self.0, dialog, order.model, drops).map(Some)
    }

    fn counted(&self, _: &HeaderMap, body: &Bytes) -> Result<u64, UpstreamError> {
        count::counted(body)
    }

    fn stream(&self) -> Box<dyn StreamReader> {
        Box::new(EitherReader { host: self.0.clone(), reader: None })
    }
}

impl Target {
    /// Whether a call must go to `/responses` (providers.md §13.6).
    fn answers_on_responses_only(&self, dialog: &Dialog, model: &str) -> bool {
        let searches = dialog.web_search.is_some() && !models::searches(model);
        let refused = !dialog.tools.is_empty() && models::refuses_tools(model, dialog.reasoning);
        self.0.is_responses_only(model) || (self.0.bridges() && (refused || searches))
    }
}

/// The error for a client of another dialect, who could not read the provider's body.
pub(crate) fn without_body(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Rejected { status, kind, message, .. } => {
            UpstreamError::Rejected { status, kind, message, body: None }
        }
        UpstreamError::InStream { message, .. } => UpstreamError::InStream { message, frame: None },
        other => other,
    }
}

/// Reads a stream in the dialect that its first event is in.
struct EitherReader {
    host: Host,
    reader: Option<Box<dyn StreamReader>>,
}

impl EitherReader {
    fn reader(&mut self, event: &WireEvent<'_>) -> &mut dyn StreamReader {
        let quirks = self.host.quirks;
        let of = || -> Box<dyn StreamReader> {
            if responses::stream::is_event(event) {
                Box::new(responses::stream::EventReader::new(quirks))
            } else {
                Box::new(stream::ChunkReader::new(quirks))
            }
        };
        self.reader.get_or_insert_with(of).as_mut()
    }
}

impl StreamReader for EitherReader {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        self.reader(event).read(event, pieces)
    }

    fn is_done(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.is_done())
    }

    fn finish(&mut self, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        match &mut self.reader {
            Some(reader) => reader.finish(pieces),
            None => Err(UpstreamError::Truncated { message: "the stream ended before it began".into() }),
        }
    }
}
