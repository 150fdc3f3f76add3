//! Reranks: asked for and answered as Cohere and Jina have it, whoever ranks.
//!
//! A [`RerankWire`] is how a provider is asked to put documents in order; [`Reranking`] makes an [`Adapter`] of one.

use std::fmt::Debug;

use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::upstream::{Capabilities, Order, Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::adapter::{Adapter, StreamDecoder};
use crate::dialog::{Drops, Fields};
use crate::no_stream::NoStream;
use crate::transport::WireRequest;

/// What a caller asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// What the documents are ranked by.
    pub query: String,
    /// The documents.
    pub documents: Vec<String>,
    /// How many places are wanted; all where nothing is said.
    pub top_n: Option<u64>,
    /// Where a document is cut, in tokens.
    pub document_tokens_max: Option<u64>,
    /// Whether the documents come back with their places.
    pub with_documents: bool,
    /// Which parts of each document are wanted beside its place, in Cohere's words.
    pub relevant_spans: Option<Value>,
    /// How urgent it is, in Cohere's numbers.
    pub priority: Option<u64>,
}

/// Documents in order as a provider gave them.
#[derive(Debug)]
pub struct Ranked {
    /// The best first.
    pub places: Vec<Place>,
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// What was used, where the provider says so.
    pub usage: Option<Usage>,
}

/// One document's place.
#[derive(Debug, Deserialize)]
pub struct Place {
    /// Which document, from 0.
    pub index: usize,
    /// How well it fits: a number, as it stood in the answer.
    pub relevance_score: Box<RawValue>,
    /// The parts of the document that fit best, where they were wanted.
    #[serde(default)]
    pub relevant_spans: Option<Box<RawValue>>,
}

/// How a provider puts documents in order.
pub trait RerankWire: Debug + Send + Sync + 'static {
    /// The provider's name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// What the provider can do.
    fn capabilities(&self) -> Capabilities;

    /// The request to send, complete but for the signature.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] when the provider has no words for what is wanted.
    fn request(&self, wanted: &Wanted, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError>;

    /// The order in an answer with a success status.
    ///
    /// # Errors
    /// [`UpstreamError::Malformed`] when there is none in it.
    fn answer(&self, headers: &HeaderMap, body: &Bytes) -> Result<Ranked, UpstreamError>;

    /// The meaning of an answer with an error status.
    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError;
}

/// A provider's reranks for callers of Cohere's and Jina's.
#[derive(Debug, Clone)]
pub struct Reranking<W>(pub W);

impl Wanted {
    fn read(body: &[u8], drops: &mut Drops) -> Result<Self, UpstreamError> {
        let mut body = Fields::of_body(body)?;
        drop(body.take("model"));
        let wanted = Self {
            query: body.required_text("query")?,
            documents: documents(&mut body)?,
            top_n: body.integer("top_n")?,
            document_tokens_max: body.integer("max_tokens_per_doc")?,
            with_documents: body.flag("return_documents")?.unwrap_or(false),
            relevant_spans: body.take("relevant_spans"),
            priority: body.integer("priority")?,
        };
        body.left().into_iter().for_each(|field| drops.harmless(String::from(field)));
        Ok(wanted)
    }
}

/// Texts, or objects around them.
fn documents(body: &mut Fields) -> Result<Vec<String>, UpstreamError> {
    let path = body.at("documents");
    let text = |(index, document): (usize, Value)| match document {
        Value::String(text) => Ok(text),
        object => Fields::of(object, format!("{path}[{index}]"))?.required_text("text"),
    };
    body.list("documents")?.into_iter().enumerate().map(text).collect()
}

impl<W: RerankWire> Adapter for Reranking<W> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        let mut drops = Drops::new(order.call.drop_params);
        let wanted = Wanted::read(&order.call.body, &mut drops)?;
        let request = self.0.request(&wanted, order, &mut drops)?;
        Ok(WireRequest { dropped: drops.into_names(), ..request })
    }

    fn decode(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let ranked = self.0.answer(headers, &body)?;
        let wanted = Wanted::read(&call.body, &mut Drops::default())?;
        let body = written(call, &wanted, &ranked)?;
        let report = Report { usage: ranked.usage, ..Report::default() };
        let content_type = HeaderValue::from_static("application/json");
        Ok(WholeReply { content_type, body, report, upstream_id: None, dropped: Vec::new() })
    }

    fn decode_error(&self, _call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        self.0.error(status, headers, body)
    }

    fn stream_decoder(&self, _call: &Call) -> Box<dyn StreamDecoder> {
        Box::new(NoStream("places"))
    }

    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        self.decode(call, headers, body)
    }
}

/// The answer in Cohere's words, with the model as Jina adds it.
#[derive(Serialize)]
struct Answer<'a> {
    id: String,
    model: &'a str,
    results: Vec<Told<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Value>,
}

#[derive(Serialize)]
struct Told<'a> {
    index: usize,
    relevance_score: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    relevant_spans: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    text: &'a str,
}

fn written(call: &Call, wanted: &Wanted, ranked: &Ranked) -> Result<Bytes, UpstreamError> {
    let told = |place| told(wanted, place);
    let answer = Answer {
        id: ranked.id.clone().unwrap_or_else(|| call.id.to_string()),
        model: &call.envelope.model,
        results: ranked.places.iter().map(told).collect::<Result<_, _>>()?,
        meta: ranked.usage.as_ref().map(billed),
    };
    serde_json::to_vec(&answer).map(Bytes::from).map_err(|cause| malformed(cause.to_string()))
}

fn told<'a>(wanted: &'a Wanted, place: &'a Place) -> Result<Told<'a>, UpstreamError> {
    let Place { index, relevance_score, relevant_spans } = place;
    let relevant_spans = relevant_spans.as_deref();
    let unknown = || malformed(format!("a place for document {index} of {}", wanted.documents.len()));
    let text = wanted.documents.get(*index).ok_or_else(unknown)?;
    let document = wanted.with_documents.then_some(Document { text });
    Ok(Told { index: *index, relevance_score, relevant_spans, document })
}

/// What is charged, in Cohere's words.
fn billed(usage: &Usage) -> Value {
    let mut units = json!({});
    for (name, meter) in [("search_units", Meter::RerankQueries), ("input_tokens", Meter::InputTokens)] {
        if usage.get(meter) > 0 {
            units[name] = usage.get(meter).into();
        }
    }
    json!({ "billed_units": units })
}

fn malformed(message: impl Into<Box<str>>) -> UpstreamError {
    UpstreamError::Malformed { message: message.into() }
}

#[cfg(test)]
mod tests {
    use cfr_core::chat::Operation;
    use cfr_core::time::Timestamp;

    use super::*;

    fn call(body: &Value) -> Call {
        Call::parse(Operation::Rerank, body.to_string().into(), Timestamp::UNIX_EPOCH).expect("a call")
    }

    fn told(body: &Value, places: &str, usage: Option<Usage>) -> Result<Value, UpstreamError> {
        let wanted = Wanted::read(body.to_string().as_bytes(), &mut Drops::default())?;
        let places = serde_json::from_str(places).expect("places");
        let ranked = Ranked { places, id: Some("fx".into()), usage };
        let body = written(&call(body), &wanted, &ranked)?;
        Ok(serde_json::from_slice(&body).expect("JSON"))
    }

    #[test]
    fn objects_are_the_texts_in_them_and_what_is_not_understood_is_told() {
        let body =
            json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "rank_fields": []});
        let mut drops = Drops::default();
        let wanted = Wanted::read(body.to_string().as_bytes(), &mut drops).expect("a wish");
        assert_eq!((wanted.documents, wanted.top_n), (vec!["a".to_owned(), "b".to_owned()], Some(1)));
        assert_eq!(drops.into_names(), ["rank_fields".into()]);
    }

    #[test]
    fn documents_come_back_where_they_are_wanted_and_scores_keep_their_digits() {
        let mut body = json!({"model": "m", "query": "q", "documents": ["a", "b"]});
        let places = r#"[{"index":1,"relevance_score":0.90},{"index":0,"relevance_score":1e-7}]"#;
        let bare = told(&body, places, None).expect("an answer");
        let expected = json!({"id": "fx", "model": "m", "results":
            [{"index": 1, "relevance_score": 0.90}, {"index": 0, "relevance_score": 1e-7}]});
        assert_eq!(bare, expected);
        body["return_documents"] = true.into();
        let usage = Usage::default().with(Meter::RerankQueries, 2);
        let full = told(&body, places, Some(usage)).expect("an answer");
        assert_eq!(full["results"][0]["document"], json!({"text": "b"}));
        assert_eq!(full["meta"], json!({"billed_units": {"search_units": 2}}));
    }

    #[test]
    fn a_place_for_a_document_that_nobody_gave_is_no_answer() {
        let body = json!({"model": "m", "query": "q", "documents": ["a"]});
        let error = told(&body, r#"[{"index":1,"relevance_score":0.5}]"#, None).expect_err("too far");
        assert_eq!(error.name(), "malformed");
    }
}
