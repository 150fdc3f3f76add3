//! Reranks: Cohere's models and Amazon's own, through `/invoke`. No answer says what was used: searches are counted from
//! the documents.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::envelope::DOCUMENT_TOKENS_DEFAULT;
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Site, error};
use crate::dialog::Drops;
use crate::rerank::{Place, Ranked, RerankWire, Wanted};
use crate::transport::WireRequest;

/// The version of Cohere's dialect that is spoken.
const COHERE_VERSION: u64 = 2;

/// How models on Bedrock rank.
#[derive(Debug, Clone)]
pub(super) struct InvokeRerank(pub(super) Arc<Site>);

#[derive(Deserialize)]
struct Answer {
    results: Vec<Place>,
}

impl RerankWire for InvokeRerank {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn request(&self, wanted: &Wanted, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let name = order.model.to_ascii_lowercase();
        let mut body = json!({"query": wanted.query, "documents": wanted.documents});
        if let Some(places) = wanted.top_n {
            body["top_n"] = places.into();
        }
        if name.contains("cohere.") {
            body["api_version"] = COHERE_VERSION.into();
            body["max_tokens_per_doc"] = wanted.document_tokens_max.unwrap_or(DOCUMENT_TOKENS_DEFAULT).into();
        } else if !name.contains("amazon.rerank") {
            let message = format!("reranks by the model `{}`", order.model);
            return Err(UpstreamError::Unsupported { message: message.into() });
        } else if wanted.document_tokens_max.is_some() {
            drops.essential("max_tokens_per_doc")?;
        }
        drops.essential_said(&[("relevant_spans", wanted.relevant_spans.is_some())])?;
        drops.harmless_said(&[("priority", wanted.priority.is_some())]);
        self.0.request(order.model, "invoke", body.to_string().into())
    }

    fn answer(&self, _headers: &HeaderMap, body: &Bytes) -> Result<Ranked, UpstreamError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|cause| UpstreamError::Malformed { message: format!("no places: {cause}").into() })?;
        Ok(Ranked { places: answer.results, id: None, usage: None })
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }
}
