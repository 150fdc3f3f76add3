//! AWS Bedrock: one dialect, Converse, for the models of many makers (providers.md §8).
//!
//! The model stands in the path, an answer streams in Amazon's own framing, and what only some models know goes to them
//! beside the request in their makers' own words.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::{Call, Operation};
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};

use crate::adapter::{Adapter, Framing};
use crate::anthropic;
use crate::dialog::{Answer, Dialog, Drops, Manners, StreamReader, ToolIds, Wire};
use crate::embeddings::Embeddings;
use crate::media::MediaKind;
use crate::rerank::Reranking;
use crate::transport::{BadAddress, Endpoint, WireRequest, json_headers, path_segment};

mod answer;
mod count;
mod embed;
mod error;
mod family;
mod request;
mod rerank;
mod stream;
mod usage;

#[cfg(test)]
mod tests;

use embed::Invoke;
use family::Family;
use rerank::InvokeRerank;

/// The provider's name, for logs and metrics.
const NAME: &str = "bedrock";

/// The service's name in signatures: shorter than in addresses.
pub const SIGNING_NAME: &str = "bedrock";

/// How addresses begin from which it fetches by itself.
const S3: &str = "s3://";

/// What is thought is charged and may be hidden.
pub(crate) const CAPABILITIES: Capabilities = {
    let mut capabilities = Capabilities::TEXT;
    capabilities.completions = false;
    capabilities.rerank = true;
    capabilities.visible_output = false;
    capabilities
};

/// Bedrock in one region.
#[derive(Debug, Clone)]
pub struct Bedrock {
    site: Arc<Site>,
    embeddings: Embeddings<Invoke>,
    reranking: Reranking<InvokeRerank>,
}

/// Where it is.
#[derive(Debug)]
struct Site {
    base: Endpoint,
    headers: HeaderMap,
}

impl Bedrock {
    /// Bedrock in `region`, such as `eu-central-1`.
    ///
    /// # Errors
    /// When that is no name of a region.
    pub fn in_region(region: &str) -> Result<Self, BadAddress> {
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || !region.bytes().all(letters) {
            return Err(BadAddress { address: region.into() });
        }
        let top = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Self::at(&format!("https://bedrock-runtime.{region}.{top}"))
    }

    /// Bedrock at another address: a FIPS or private endpoint.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn at(base_url: &str) -> Result<Self, BadAddress> {
        let headers = json_headers();
        let site = Arc::new(Site { base: Endpoint::below(base_url, "")?, headers });
        let (embeddings, reranking) = (Invoke(Arc::clone(&site)), InvokeRerank(Arc::clone(&site)));
        Ok(Self { embeddings: Embeddings(embeddings), reranking: Reranking(reranking), site })
    }
}

impl Site {
    /// The request for an operation of a model.
    fn request(&self, model: &str, operation: &str, body: Bytes) -> Result<WireRequest, UpstreamError> {
        let endpoint = self
            .base
            .join(&format!("/model/{}/{operation}", path_segment(model)))
            .map_err(|_| UpstreamError::Unsupported { message: format!("the model `{model}`").into() })?;
        Ok(WireRequest { endpoint: Arc::new(endpoint), headers: self.headers.clone(), body, dropped: Vec::new() })
    }
}

impl Wire for Bedrock {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn framing(&self) -> Framing {
        Framing::AwsEventStream
    }

    /// From S3 alone.
    fn fetches(&self, _: MediaKind, address: &str) -> bool {
        address.starts_with(S3)
    }

    fn manners(&self, model: &str) -> Manners {
        let family = Family::of(model);
        let tool_ids = if family == Family::Mistral { ToolIds::Nine } else { ToolIds::Word64 };
        let prefill = family == Family::Claude && anthropic::rules_of(model).prefill;
        Manners { prefill, tool_ids, ..Manners::STRICT }
    }

    fn request(&self, dialog: &Dialog, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let operation = if dialog.stream { "converse-stream" } else { "converse" };
        let body = request::body(dialog, order.model, drops)?.to_string().into();
        self.site.request(order.model, operation, body)
    }

    fn answer(&self, _headers: &HeaderMap, body: &Bytes) -> Result<Answer, UpstreamError> {
        answer::read(body)
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }

    fn stream(&self) -> Box<dyn StreamReader> {
        Box::new(stream::EventReader::default())
    }

    /// Of the models here only Anthropic's can be counted for.
    fn count(
        &self,
        dialog: &Dialog,
        order: &Order<'_>,
        drops: &mut Drops,
    ) -> Result<Option<WireRequest>, UpstreamError> {
        if Family::of(order.model) != Family::Claude {
            return Ok(None);
        }
        count::of_dialog(&self.site, dialog, order.model, drops).map(Some)
    }

    fn counted(&self, _: &HeaderMap, body: &Bytes) -> Result<u64, UpstreamError> {
        count::counted(body)
    }

    fn own(&self, call: &Call) -> Option<&dyn Adapter> {
        match call.operation {
            Operation::Embeddings => Some(&self.embeddings),
            Operation::Rerank => Some(&self.reranking),
            _ => None,
        }
    }
}
