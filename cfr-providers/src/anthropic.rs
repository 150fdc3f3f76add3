//! Anthropic's Messages: as a provider, as the dialect of clients, and byte for byte between the two (providers.md §6).
//!
//! A client of this dialect is served without translation, see [`Native`]; clients of others through [`Anthropic`] as a
//! [`Wire`]. [`MESSAGES_SURFACE`] serves clients of this dialect over every other provider.

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::adapter::Adapter;
use crate::dialog::{Answer, Dialog, Drops, Manners, StreamReader, SystemTurns, ToolIds, Wire};
use crate::gemini;
use crate::media::MediaKind;
use crate::transport::{BadAddress, WireRequest};

mod answer;
mod count;
mod error;
mod models;
mod native;
mod request;
mod schema;
mod stream;
mod surface;
mod usage;
mod wire;

#[cfg(test)]
mod tests;

pub(crate) use models::{Rules, SamplingRule, ThinkingRule};
pub use native::Native;
pub use request::Hosting;
pub(crate) use request::{JSON_ONLY, Marks, Thinking, at_most_one, rules_of};
pub(crate) use schema::sanitized;
pub use surface::{MESSAGES_SURFACE, MessagesSurface};

/// Where Anthropic itself is.
pub const BASE_URL: &str = "https://api.anthropic.com";

/// What every provider of Claude demands of the order of turns. The operator may speak at the beginning only: where the
/// dialect allows more, it depends on the model and on what stands before.
pub(crate) const MANNERS: Manners =
    Manners { system_turns: SystemTurns::First, prefill: true, tool_ids: ToolIds::Word, ..Manners::STRICT };

/// Messages, and nothing else. What is thought is charged and may be hidden.
pub(crate) const CAPABILITIES: Capabilities = {
    let mut capabilities = Capabilities::TEXT;
    capabilities.completions = false;
    capabilities.embeddings = false;
    capabilities.visible_output = false;
    capabilities
};

/// A provider that speaks the Messages dialect.
#[derive(Debug, Clone)]
pub struct Anthropic {
    native: Native,
}

impl Anthropic {
    /// The provider at `base_url`, with or without the final `/v1`, or Anthropic itself. Azure's Foundry and others that
    /// serve the same dialect are addresses.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(base_url: Option<&str>) -> Result<Self, BadAddress> {
        Ok(Self { native: Native::new(base_url.unwrap_or(BASE_URL))? })
    }

    /// Vertex for a project in a location, at its usual address or another, which ends with the version: `https://…/v1`.
    ///
    /// # Errors
    /// When the project or the location is not a name, or the address is not one.
    pub fn on_vertex(project: &str, location: &str, base_url: Option<&str>) -> Result<Self, BadAddress> {
        let publisher = gemini::publisher(project, location, base_url, ("v1", "anthropic"))?;
        Ok(Self { native: Native::on_vertex(&publisher)? })
    }

    /// Asks for features that are not for everybody yet, by their names separated by commas.
    #[must_use]
    pub fn with_betas(self, betas: HeaderValue) -> Self {
        Self { native: self.native.with_betas(betas) }
    }
}

impl Wire for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn fetches(&self, _: MediaKind, _: &str) -> bool {
        self.native.hosting().fetches()
    }

    fn manners(&self, model: &str) -> Manners {
        Manners { prefill: models::rules(model).prefill, ..MANNERS }
    }

    fn request(&self, dialog: &Dialog, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let body = request::body(dialog, order.model, self.native.hosting(), drops)?;
        let body = serde_json::Value::Object(body).to_string();
        self.native.request(order.model, dialog.stream, body.into())
    }

    fn answer(&self, headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
        answer::read(headers, body).map_err(error::without_body)
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::without_body(error::read(status, headers, body))
    }

    fn stream(&self) -> Box<dyn StreamReader> {
        Box::new(stream::EventReader::default())
    }

    fn count(
        &self,
        dialog: &Dialog,
        order: &Order<'_>,
        drops: &mut Drops,
    ) -> Result<Option<WireRequest>, UpstreamError> {
        count::of_dialog(&self.native, order.model, dialog, drops).map(Some)
    }

    fn counted(&self, headers: &HeaderMap, body: &Bytes) -> Result<u64, UpstreamError> {
        count::counted(headers, body).map_err(error::without_body)
    }

    fn own(&self, call: &Call) -> Option<&dyn Adapter> {
        (call.operation == Operation::Messages).then_some(&self.native)
    }
}
