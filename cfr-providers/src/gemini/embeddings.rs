//! Embeddings: asked for and answered in OpenAI's words (providers.md §7.6).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::upstream::{Capabilities, Order, Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::place::{Place, Site, bare};
use super::{error, request, usage};
use crate::adapter::{Adapter, Forward, StreamDecoder, WireEvent};
use crate::dialog::{Drops, Fields};
use crate::transport::WireRequest;

/// Google's embeddings for callers of OpenAI's.
#[derive(Debug, Clone)]
pub(super) struct Embeddings {
    place: Arc<Place>,
}

/// What a caller asks for.
struct Wanted {
    texts: Vec<String>,
    dimensions: Option<u64>,
    as_base64: bool,
}

impl Wanted {
    fn read(body: &[u8], drops: &mut Drops) -> Result<Self, UpstreamError> {
        let mut body = Fields::of_body(body)?;
        drop(body.take("model"));
        let texts = texts(&mut body)?;
        let as_base64 = body.text("encoding_format")?.as_deref() == Some("base64");
        let dimensions = body.integer("dimensions")?;
        body.left().into_iter().for_each(|field| drops.harmless(String::from(field)));
        Ok(Self { texts, dimensions, as_base64 })
    }
}

/// Texts; tokens of another provider's mean nothing to Google.
fn texts(body: &mut Fields) -> Result<Vec<String>, UpstreamError> {
    match body.take("input") {
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            Ok(list.into_iter().filter_map(|text| text.as_str().map(str::to_owned)).collect())
        }
        Some(Value::Array(_)) => Err(UpstreamError::Unsupported { message: "input: tokens in place of texts".into() }),
        _ => Err(body.wrong("input", "must be a string or a list of strings")),
    }
}

/// AI Studio's answer has `embeddings` of one list each; Vertex's has `predictions` around them.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Answer<'a> {
    #[serde(borrow)]
    embeddings: Vec<Embedding<'a>>,
    #[serde(borrow)]
    predictions: Vec<Prediction<'a>>,
    #[serde(borrow)]
    usage_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Prediction<'a> {
    #[serde(borrow)]
    embeddings: Embedding<'a>,
}

#[derive(Deserialize)]
struct Embedding<'a> {
    #[serde(borrow)]
    values: Vec<&'a RawValue>,
    #[serde(default)]
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    token_count: Option<Value>,
}

/// One vector in OpenAI's words. Its numbers stay as Google wrote them.
#[derive(Serialize)]
struct Vector<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    List(&'a [&'a RawValue]),
    Base64(String),
}

impl Answer<'_> {
    fn vectors(&self) -> Vec<&Embedding<'_>> {
        self.embeddings.iter().chain(self.predictions.iter().map(|prediction| &prediction.embeddings)).collect()
    }

    /// Tokens as Google counts them: all at once or vector by vector. Older models count none.
    fn tokens(&self) -> Option<u64> {
        let all = self.usage_metadata.and_then(usage::read).map(|reported| reported.usage.input_total());
        let each = || {
            let counts = self.vectors().into_iter().map(|vector| vector.statistics.as_ref()?.token_count.as_ref());
            counts.map(|count| whole(count?)).sum::<Option<u64>>().filter(|_| !self.vectors().is_empty())
        };
        all.or_else(each)
    }
}

/// A count; Vertex writes `7` as well as `7.0`.
fn whole(count: &Value) -> Option<u64> {
    let text = count.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    fraction.bytes().all(|digit| digit == b'0').then(|| whole.parse().ok()).flatten()
}

impl Embeddings {
    pub(super) fn new(place: &Arc<Place>) -> Self {
        Self { place: Arc::clone(place) }
    }
}

fn batch(wanted: &Wanted, model: &str) -> Value {
    let request = |text: &String| {
        let mut request = json!({"model": format!("models/{}", bare(model)), "content": {"parts": [{"text": text}]}});
        if let Some(dimensions) = wanted.dimensions {
            request["outputDimensionality"] = dimensions.into();
        }
        request
    };
    json!({"requests": wanted.texts.iter().map(request).collect::<Value>()})
}

fn instances(wanted: &Wanted) -> Value {
    let instances: Value = wanted.texts.iter().map(|text| json!({"content": text})).collect();
    // What is too long is refused rather than cut: the caller would not know.
    let mut body = json!({"instances": instances, "parameters": {"autoTruncate": false}});
    if let Some(dimensions) = wanted.dimensions {
        body["parameters"]["outputDimensionality"] = dimensions.into();
    }
    body
}

/// No tokenizer of Google's makes more tokens of a text than it has bytes, and one for its beginning (providers.md §17.1).
fn tokens_max(texts: &[String]) -> u64 {
    texts.iter().map(|text| text.len() as u64 + 1).sum()
}

impl Adapter for Embeddings {
    fn name(&self) -> &'static str {
        self.place.site.name()
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn encode(&self, order: &Order<'_>) -> Result<WireRequest, UpstreamError> {
        let mut drops = Drops::new(order.call.drop_params);
        let wanted = Wanted::read(&order.call.body, &mut drops)?;
        let (method, body) = match self.place.site {
            Site::Studio => ("batchEmbedContents", batch(&wanted, order.model)),
            Site::Vertex => ("predict", instances(&wanted)),
        };
        let request = self.place.request(order.model, method, request::written(&body)?)?;
        Ok(WireRequest { dropped: drops.into_names(), ..request })
    }

    fn decode(&self, call: &Call, _headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        let malformed = |message: String| UpstreamError::Malformed { message: message.into() };
        let answer: Answer<'_> =
            serde_json::from_slice(&body).map_err(|cause| malformed(format!("not embeddings in JSON: {cause}")))?;
        let wanted = Wanted::read(&call.body, &mut Drops::default())?;
        if answer.vectors().len() != wanted.texts.len() {
            return Err(malformed(format!("{} embeddings of {} texts", answer.vectors().len(), wanted.texts.len())));
        }
        let tokens = answer.tokens().unwrap_or_else(|| tokens_max(&wanted.texts));
        let body = written(call, &answer, wanted.as_base64, tokens)
            .map_err(|cause| malformed(format!("a vector is not one of numbers: {cause}")))?;
        let usage = Some(Usage::default().with(Meter::InputTokens, tokens));
        let report = Report { usage, ..Report::default() };
        let content_type = HeaderValue::from_static("application/json");
        Ok(WholeReply { content_type, body, report, upstream_id: None, dropped: Vec::new() })
    }

    fn decode_error(&self, _call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body, false)
    }

    fn stream_decoder(&self, _call: &Call) -> Box<dyn StreamDecoder> {
        Box::new(NoStream)
    }

    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        self.decode(call, headers, body)
    }
}

fn written(call: &Call, answer: &Answer<'_>, as_base64: bool, tokens: u64) -> serde_json::Result<Bytes> {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Vector<'a>>,
        model: &'a str,
        usage: Value,
    }
    let vectors = answer.vectors();
    let data = vectors.into_iter().enumerate().map(|(index, vector)| {
        let embedding =
            if as_base64 { Numbers::Base64(base64_of(&vector.values)?) } else { Numbers::List(&vector.values) };
        Ok(Vector { object: "embedding", index, embedding })
    });
    let data = data.collect::<serde_json::Result<_>>()?;
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    serde_json::to_vec(&List { object: "list", data, model: &call.envelope.model, usage }).map(Bytes::from)
}

/// 32-bit numbers, the lowest byte first, as OpenAI's clients read them.
fn base64_of(values: &[&RawValue]) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(values.len() * size_of::<f32>());
    for value in values {
        bytes.extend(serde_json::from_str::<f32>(value.get())?.to_le_bytes());
    }
    Ok(STANDARD.encode(bytes))
}

/// Embeddings have no streams.
struct NoStream;

impl StreamDecoder for NoStream {
    fn feed(&mut self, _: &WireEvent<'_>, _: &mut Report) -> Result<Forward, UpstreamError> {
        Err(UpstreamError::Malformed { message: "a stream of embeddings".into() })
    }

    fn is_done(&self) -> bool {
        false
    }

    fn finish(&mut self, _: &mut Report) -> Result<Bytes, UpstreamError> {
        Err(UpstreamError::Malformed { message: "a stream of embeddings".into() })
    }
}

#[cfg(test)]
mod tests {
    use cfr_core::chat::Operation;
    use jiff::Timestamp;

    use super::*;
    use crate::gemini::tests::order;

    fn embeddings(place: Place) -> Embeddings {
        Embeddings::new(&Arc::new(place))
    }

    fn call(body: &Value) -> Call {
        Call::parse(Operation::Embeddings, body.to_string().into(), Timestamp::UNIX_EPOCH).expect("a call")
    }

    fn answered(call: &Call, body: &'static str) -> (Value, u64) {
        let studio = embeddings(Place::studio(None).expect("an address"));
        let reply = studio.decode(call, &HeaderMap::new(), Bytes::from_static(body.as_bytes())).expect("an answer");
        let usage = reply.report.usage.expect("usage");
        (serde_json::from_slice(&reply.body).expect("JSON"), usage.get(Meter::InputTokens))
    }

    #[test]
    fn each_text_is_a_request_of_its_own_at_ai_studio_and_an_instance_at_vertex() {
        let call = call(&json!({"model": "m", "input": ["a", "b"], "dimensions": 3, "user": "u"}));
        let studio = embeddings(Place::studio(None).expect("an address")).encode(&order(&call)).expect("a request");
        let request = |text: &str| json!({"model": "models/m", "content": {"parts": [{"text": text}]}, "outputDimensionality": 3});
        let body: Value = serde_json::from_slice(&studio.body).expect("JSON");
        assert_eq!(body, json!({"requests": [request("a"), request("b")]}));
        assert_eq!(studio.endpoint.uri().path(), "/v1beta/models/m:batchEmbedContents");
        assert_eq!(studio.dropped, ["user".into()]);
        let vertex = embeddings(Place::vertex("p", "global", None).expect("an address"))
            .encode(&order(&call))
            .expect("a request");
        let body: Value = serde_json::from_slice(&vertex.body).expect("JSON");
        let instances = json!([{"content": "a"}, {"content": "b"}]);
        assert_eq!(
            body,
            json!({"instances": instances, "parameters": {"autoTruncate": false, "outputDimensionality": 3}})
        );
    }

    #[test]
    fn the_answer_is_openais_and_without_a_count_every_byte_is_a_token() {
        let body = r#"{"embeddings":[{"values":[0.25,-0.50,0.125]}]}"#;
        let (answer, tokens) = answered(&call(&json!({"model": "m", "input": "a\u{e4}"})), body);
        assert_eq!(tokens, 4);
        let data = json!([{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.125]}]);
        let usage = json!({"prompt_tokens": 4, "total_tokens": 4});
        assert_eq!(answer, json!({"object": "list", "data": data, "model": "m", "usage": usage}));
        let (answer, _) = answered(&call(&json!({"model": "m", "input": "a", "encoding_format": "base64"})), body);
        assert_eq!(answer["data"][0]["embedding"], "AACAPgAAAL8AAAA+");
    }

    #[test]
    fn a_count_of_googles_holds() {
        let one = call(&json!({"model": "m", "input": "a long text"}));
        let (_, tokens) = answered(&one, r#"{"embeddings":[{"values":[1]}],"usageMetadata":{"promptTokenCount":3}}"#);
        assert_eq!(tokens, 3);
        let vertex =
            r#"{"predictions":[{"embeddings":{"values":[1],"statistics":{"token_count":2.0,"truncated":false}}}]}"#;
        assert_eq!(answered(&one, vertex).1, 2);
    }

    #[test]
    fn tokens_are_refused_and_a_missing_vector_is_no_answer() {
        let studio = embeddings(Place::studio(None).expect("an address"));
        let tokens = call(&json!({"model": "m", "input": [1, 2]}));
        assert!(matches!(studio.encode(&order(&tokens)), Err(UpstreamError::Unsupported { .. })));
        let one = call(&json!({"model": "m", "input": "a"}));
        let none = studio.decode(&one, &HeaderMap::new(), Bytes::from_static(b"{}"));
        assert!(matches!(none, Err(UpstreamError::Malformed { .. })));
    }
}
