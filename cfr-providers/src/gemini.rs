//! Google's Gemini, at AI Studio and at Vertex: one dialect on two hosts (providers.md §7).
//!
//! Clients that speak the dialect themselves are served by an adapter of their own: their bytes stay bytes. Everybody
//! else goes through a dialog. Embeddings, images and speech are asked for in OpenAI's words and answered in them.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};

use crate::adapter::Adapter;
use crate::dialog::{Answer, Dialog, Drops, Manners, StreamReader, Wire};
use crate::embeddings::Embeddings;
use crate::media::MediaKind;
use crate::transport::{BadAddress, WireRequest};

mod answer;
mod citation;
mod count;
mod embeddings;
mod error;
mod finish;
mod logprobs;
mod media;
mod model;
mod native;
mod place;
mod request;
mod schema;
mod stream;
mod surface;
mod usage;
mod wire;

use place::{Place, Site};
pub(crate) use place::{STUDIO, publisher};
pub use surface::{GENERATE_SURFACE, GenerateSurface};

/// What Google can do. Thoughts are charged and not shown.
pub const CAPABILITIES: Capabilities = {
    let mut capabilities = Capabilities::TEXT;
    capabilities.completions = false;
    capabilities.visible_output = false;
    capabilities.images = true;
    capabilities.speech = true;
    capabilities
};

/// Google's wire format at one of its hosts. Keys of AI Studio go into the header `x-goog-api-key`, see
/// [`KeyHeader`](crate::sign::KeyHeader); Vertex takes the tokens of [`GoogleToken`](crate::sign::google::GoogleToken).
#[derive(Debug, Clone)]
pub struct Gemini {
    place: Arc<Place>,
    native: native::Native,
    embeddings: Embeddings<embeddings::Vectors>,
    media: media::Media,
}

impl Gemini {
    /// AI Studio, at its usual address or another, which ends with the version: `https://…/v1beta`.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn studio(base_url: Option<&str>) -> Result<Self, BadAddress> {
        Ok(Self::at(Place::studio(base_url)?))
    }

    /// Vertex for a project in a location (a region, `global`, or one of the multi-regions `eu` and `us`), at its usual
    /// address or another, which ends with the version: `https://…/v1beta1`.
    ///
    /// # Errors
    /// When the project or the location is not a name, or the address is not one.
    pub fn vertex(project: &str, location: &str, base_url: Option<&str>) -> Result<Self, BadAddress> {
        Ok(Self::at(Place::vertex(project, location, base_url)?))
    }

    fn at(place: Place) -> Self {
        let place = Arc::new(place);
        let (native, embeddings) = (native::Native::new(&place), Embeddings(embeddings::Vectors::new(&place)));
        let media = media::Media::new(&place);
        Self { place, native, embeddings, media }
    }
}

impl Wire for Gemini {
    fn name(&self) -> &'static str {
        self.place.site.name()
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    /// Vertex does, where the address says what is there; AI Studio wants the bytes.
    fn fetches(&self, _: MediaKind, address: &str) -> bool {
        self.place.site == Site::Vertex && request::media_type_of(address).is_some()
    }

    fn manners(&self, _model: &str) -> Manners {
        Manners::STRICT
    }

    fn request(&self, dialog: &Dialog, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let body = request::body(self.place.site, dialog, order.model, drops)?;
        let mut request = self.place.generate(order.model, dialog.stream, body)?;
        if self.place.site == Site::Vertex {
            request::tier_headers(dialog, &mut request.headers, drops);
        }
        Ok(request)
    }

    fn answer(&self, headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
        answer::read(headers, body)
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body, false)
    }

    fn stream(&self) -> Box<dyn StreamReader> {
        Box::new(stream::ChunkReader::default())
    }

    fn count(
        &self,
        dialog: &Dialog,
        order: &Order<'_>,
        drops: &mut Drops,
    ) -> Result<Option<WireRequest>, UpstreamError> {
        count::of_dialog(&self.place, dialog, order.model, drops).map(Some)
    }

    fn counted(&self, _: &HeaderMap, body: &Bytes) -> Result<u64, UpstreamError> {
        count::counted(body)
    }

    fn own(&self, call: &Call) -> Option<&dyn Adapter> {
        match call.operation {
            Operation::GenerateContent => Some(&self.native),
            Operation::Embeddings => Some(&self.embeddings),
            Operation::ImageGenerations | Operation::ImageEdits | Operation::Speech => Some(&self.media),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
