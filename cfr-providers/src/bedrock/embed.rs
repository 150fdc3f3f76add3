//! Embeddings: each maker's own body, through `/invoke` (providers.md §8.6).

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Site, error};
use crate::dialog::Drops;
use crate::embeddings::{EmbeddingWire, Made, Wanted};
use crate::transport::WireRequest;

/// Tokens of an answer that does not count them itself.
const INPUT_TOKENS: &str = "x-amzn-bedrock-input-token-count";
/// What Cohere's vectors are for where the caller does not say: it has to be told.
const COHERE_PURPOSE: &str = "search_document";

/// How models on Bedrock make embeddings.
#[derive(Debug, Clone)]
pub(super) struct Invoke(pub(super) Arc<Site>);

/// Titan makes one vector, Cohere many.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow, default)]
    embedding: Option<&'a RawValue>,
    #[serde(default)]
    input_text_token_count: Option<u64>,
    #[serde(borrow, default)]
    embeddings: Option<&'a RawValue>,
}

/// Cohere's vectors where it was asked for kinds of numbers, as some models always are.
#[derive(Deserialize)]
struct OfKind {
    float: Vec<Box<RawValue>>,
}

impl EmbeddingWire for Invoke {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn request(&self, wanted: &Wanted, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let name = order.model.to_ascii_lowercase();
        let body = if name.contains("cohere.") {
            cohere(wanted)
        } else if name.contains("amazon.titan-embed") {
            titan(wanted, drops)?
        } else {
            return Err(unsupported(format!("embeddings of the model `{}`", order.model)));
        };
        self.0.request(order.model, "invoke", body.to_string().into())
    }

    fn answer(&self, headers: &HeaderMap, body: &Bytes) -> Result<Made, UpstreamError> {
        let (vectors, counted) = vectors(body)
            .map_err(|cause| UpstreamError::Malformed { message: format!("not embeddings: {cause}").into() })?;
        let in_header = || headers.get(INPUT_TOKENS)?.to_str().ok()?.parse().ok();
        Ok(Made { vectors, tokens: counted.or_else(in_header) })
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body)
    }
}

/// Titan takes one text.
fn titan(wanted: &Wanted, drops: &mut Drops) -> Result<Value, UpstreamError> {
    let [text] = &wanted.texts[..] else { return Err(unsupported("input: more than one text")) };
    if wanted.purpose.is_some() {
        drops.harmless("input_type");
    }
    let mut body = json!({ "inputText": text });
    if let Some(dimensions) = wanted.dimensions {
        body["dimensions"] = dimensions.into();
    }
    Ok(body)
}

fn cohere(wanted: &Wanted) -> Value {
    let purpose = wanted.purpose.as_deref().unwrap_or(COHERE_PURPOSE);
    let mut body = json!({"texts": wanted.texts, "input_type": purpose});
    if let Some(dimensions) = wanted.dimensions {
        body["output_dimension"] = dimensions.into();
    }
    body
}

fn vectors(body: &[u8]) -> serde_json::Result<(Vec<Box<RawValue>>, Option<u64>)> {
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let list = match (answer.embedding, answer.embeddings) {
        (Some(one), _) => vec![one.to_owned()],
        (None, Some(list)) if list.get().starts_with('[') => serde_json::from_str(list.get())?,
        (None, of_kind) => serde_json::from_str::<OfKind>(of_kind.map_or("null", RawValue::get))?.float,
    };
    Ok((list, answer.input_text_token_count))
}

fn unsupported(message: impl Into<Box<str>>) -> UpstreamError {
    UpstreamError::Unsupported { message: message.into() }
}
