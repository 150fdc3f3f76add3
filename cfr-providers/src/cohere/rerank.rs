//! `/v2/rerank` (providers.md §11).

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::chat::envelope::DOCUMENT_TOKENS_DEFAULT;
use cfr_core::chat::{Meter, Usage};
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{error, usage};
use crate::dialog::Drops;
use crate::rerank::{Place, Ranked, RerankWire, Wanted};
use crate::transport::{Endpoint, WireRequest};

/// How Cohere ranks.
#[derive(Debug, Clone)]
pub(super) struct Rerank {
    endpoint: Arc<Endpoint>,
    headers: HeaderMap,
}

impl Rerank {
    pub(super) const fn new(endpoint: Arc<Endpoint>, headers: HeaderMap) -> Self {
        Self { endpoint, headers }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<String>,
    results: Vec<Place>,
    #[serde(default)]
    meta: Value,
}

impl RerankWire for Rerank {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    /// Where documents are cut is always said: the price was bounded by it.
    fn request(&self, wanted: &Wanted, order: &Order<'_>, _drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let mut body = json!({
            "model": order.model,
            "query": wanted.query,
            "documents": wanted.documents,
            "max_tokens_per_doc": wanted.document_tokens_max.unwrap_or(DOCUMENT_TOKENS_DEFAULT),
        });
        for (name, number) in [("top_n", wanted.top_n), ("priority", wanted.priority)] {
            if let Some(number) = number {
                body[name] = number.into();
            }
        }
        if let Some(spans) = &wanted.relevant_spans {
            body["relevant_spans"] = spans.clone();
        }
        let (endpoint, headers) = (Arc::clone(&self.endpoint), self.headers.clone());
        Ok(WireRequest { endpoint, headers, body: body.to_string().into(), dropped: Vec::new() })
    }

    fn answer(&self, _headers: &HeaderMap, body: &Bytes) -> Result<Ranked, UpstreamError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|cause| UpstreamError::Malformed { message: format!("no places: {cause}").into() })?;
        Ok(Ranked { places: answer.results, id: answer.id, usage: charged(&answer.meta) })
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }
}

/// Searches, or tokens where a model is charged by them; `None` where neither is said, which is not the same as nothing.
fn charged(meta: &Value) -> Option<Usage> {
    let billed = meta.get("billed_units")?;
    let tokens = usage::units(billed, "input_tokens").or_else(|| usage::units(billed, "text_tokens"));
    let searches = usage::units(billed, "search_units");
    searches.or(tokens)?;
    Some(Usage::text(tokens.unwrap_or(0), 0).with(Meter::RerankQueries, searches.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_and_tokens_are_read_and_neither_is_not_nothing() {
        let of = |units: Value| charged(&json!({ "billed_units": units }));
        assert_eq!(of(json!({"search_units": 2.0})), Some(Usage::default().with(Meter::RerankQueries, 2)));
        assert_eq!(of(json!({"input_tokens": 70})), Some(Usage::text(70, 0)));
        assert_eq!(of(json!({"text_tokens": 70.0})), Some(Usage::text(70, 0)));
        assert_eq!(of(json!({"classifications": 1})), None);
        assert_eq!(charged(&Value::Null), None);
    }
}
