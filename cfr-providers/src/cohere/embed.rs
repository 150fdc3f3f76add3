//! `/v2/embed` (providers.md §11).

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{error, usage};
use crate::dialog::Drops;
use crate::embeddings::{EmbeddingWire, Made, Wanted};
use crate::transport::{Endpoint, WireRequest};

/// What vectors are for where the caller does not say: Cohere has to be told.
const PURPOSE: &str = "search_document";

/// How Cohere makes embeddings.
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
    embeddings: OfKind,
    #[serde(default)]
    meta: Value,
}

/// Vectors by the kind of their numbers.
#[derive(Deserialize)]
struct OfKind {
    float: Vec<Box<RawValue>>,
}

impl EmbeddingWire for Embed {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn request(&self, wanted: &Wanted, order: &Order<'_>, _drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let mut body = json!({
            "model": order.model,
            "input_type": wanted.purpose.as_deref().unwrap_or(PURPOSE),
            "texts": wanted.texts,
            "embedding_types": ["float"],
        });
        if let Some(dimensions) = wanted.dimensions {
            body["output_dimension"] = dimensions.into();
        }
        let (endpoint, headers) = (Arc::clone(&self.endpoint), self.headers.clone());
        Ok(WireRequest { endpoint, headers, body: body.to_string().into(), dropped: Vec::new() })
    }

    fn answer(&self, _headers: &HeaderMap, body: &Bytes) -> Result<Made, UpstreamError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|cause| UpstreamError::Malformed { message: format!("not embeddings: {cause}").into() })?;
        let billed = answer.meta.get("billed_units");
        let tokens = billed.and_then(|billed| usage::units(billed, "input_tokens"));
        Ok(Made { vectors: answer.embeddings.float, tokens })
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }
}
