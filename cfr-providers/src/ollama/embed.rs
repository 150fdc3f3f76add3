//! `/api/embed` (providers.md §9.1).

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::error;
use crate::dialog::Drops;
use crate::embeddings::{EmbeddingWire, Made, Wanted};
use crate::transport::{Endpoint, WireRequest};

/// How Ollama makes embeddings.
#[derive(Debug, Clone)]
pub(super) struct Embed {
    endpoint: Arc<Endpoint>,
    headers: HeaderMap,
}

impl Embed {
    pub(super) const fn new(endpoint: Arc<Endpoint>, headers: HeaderMap) -> Self {
        Self { endpoint, headers }
    }
}

#[derive(Deserialize)]
struct Answer {
    embeddings: Vec<Box<RawValue>>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
}

impl EmbeddingWire for Embed {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn request(&self, wanted: &Wanted, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let mut body = json!({"model": order.model, "input": wanted.texts});
        if let Some(dimensions) = wanted.dimensions {
            body["dimensions"] = dimensions.into();
        }
        if wanted.purpose.is_some() {
            drops.harmless("input_type");
        }
        let (endpoint, headers) = (Arc::clone(&self.endpoint), self.headers.clone());
        Ok(WireRequest { endpoint, headers, body: body.to_string().into(), dropped: Vec::new() })
    }

    fn answer(&self, _headers: &HeaderMap, body: &Bytes) -> Result<Made, UpstreamError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|cause| UpstreamError::Malformed { message: format!("not embeddings: {cause}").into() })?;
        Ok(Made { vectors: answer.embeddings, tokens: answer.prompt_eval_count })
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }
}
