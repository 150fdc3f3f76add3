//! How Google makes embeddings: as a batch at AI Studio and for Vertex's newer models, as instances of a prediction for
//! its older ones (providers.md §7.1, §7.6).

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::upstream::{Capabilities, Order, UpstreamError};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::place::{Place, Site, bare};
use super::{error, usage};
use crate::dialog::Drops;
use crate::embeddings::{EmbeddingWire, Made, Wanted};
use crate::transport::WireRequest;

/// Google's embeddings at one of its hosts.
#[derive(Debug, Clone)]
pub(super) struct Vectors {
    place: Arc<Place>,
}

impl Vectors {
    pub(super) fn new(place: &Arc<Place>) -> Self {
        Self { place: Arc::clone(place) }
    }
}

/// A batch's answer has the vectors at once; a prediction's has predictions around them.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    embeddings: Vec<Embedding>,
    predictions: Vec<Prediction>,
    usage_metadata: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Embedding,
}

#[derive(Deserialize)]
struct Embedding {
    values: Box<RawValue>,
    #[serde(default)]
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    token_count: Option<Value>,
}

impl Answer {
    /// Tokens as Google counts them: all at once or vector by vector. Older models count none.
    fn tokens(&self) -> Option<u64> {
        let all = self.usage_metadata.as_deref().and_then(usage::read).map(|reported| reported.usage.input_total());
        let counts =
            self.predictions.iter().map(|prediction| prediction.embeddings.statistics.as_ref()?.token_count.as_ref());
        let each = || counts.map(|count| whole(count?)).sum::<Option<u64>>().filter(|_| !self.predictions.is_empty());
        all.or_else(each)
    }
}

/// A count; Vertex writes `7` as well as `7.0`.
fn whole(count: &Value) -> Option<u64> {
    let text = count.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    fraction.bytes().all(|digit| digit == b'0').then(|| whole.parse().ok()).flatten()
}

impl EmbeddingWire for Vectors {
    fn name(&self) -> &'static str {
        self.place.site.name()
    }

    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn request(&self, wanted: &Wanted, order: &Order<'_>, _: &mut Drops) -> Result<WireRequest, UpstreamError> {
        let (method, body) = match self.place.site {
            Site::Studio => ("batchEmbedContents", batch(wanted, order.model)),
            Site::Vertex if predicts(order.model) => ("predict", instances(wanted)),
            Site::Vertex => ("batchEmbedContents", configured_batch(wanted)),
        };
        self.place.request(order.model, method, body.to_string().into())
    }

    fn answer(&self, _headers: &HeaderMap, body: &Bytes) -> Result<Made, UpstreamError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|cause| UpstreamError::Malformed { message: format!("not embeddings: {cause}").into() })?;
        let tokens = answer.tokens();
        let predicted = answer.predictions.into_iter().map(|prediction| prediction.embeddings);
        let vectors = answer.embeddings.into_iter().chain(predicted).map(|embedding| embedding.values);
        Ok(Made { vectors: vectors.collect(), tokens })
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        error::read(status, headers, body, false)
    }
}

/// Whether a model of Vertex's is asked for a prediction: all from before Gemini.
fn predicts(model: &str) -> bool {
    !model.contains("gemini")
}

fn batch(wanted: &Wanted, model: &str) -> Value {
    let request = |text: &String| {
        let mut request = json!({"model": format!("models/{}", bare(model)), "content": {"parts": [{"text": text}]}});
        if let Some(dimensions) = wanted.dimensions {
            request["outputDimensionality"] = dimensions.into();
        }
        if let Some(purpose) = &wanted.purpose {
            request["taskType"] = purpose.as_str().into();
        }
        request
    };
    json!({"requests": wanted.texts.iter().map(request).collect::<Value>()})
}

/// A batch as Vertex takes it. What is too long is refused rather than cut: the caller would not know.
fn configured_batch(wanted: &Wanted) -> Value {
    let mut config = json!({"autoTruncate": false});
    if let Some(dimensions) = wanted.dimensions {
        config["outputDimensionality"] = dimensions.into();
    }
    if let Some(purpose) = &wanted.purpose {
        config["taskType"] = purpose.as_str().into();
    }
    let request =
        |text: &String| json!({"content": {"role": "user", "parts": [{"text": text}]}, "embedContentConfig": config});
    json!({"requests": wanted.texts.iter().map(request).collect::<Value>()})
}

fn instances(wanted: &Wanted) -> Value {
    let instance = |text: &String| {
        let mut instance = json!({ "content": text });
        if let Some(purpose) = &wanted.purpose {
            instance["task_type"] = purpose.as_str().into();
        }
        instance
    };
    let mut parameters = json!({"autoTruncate": false});
    if let Some(dimensions) = wanted.dimensions {
        parameters["outputDimensionality"] = dimensions.into();
    }
    json!({"instances": wanted.texts.iter().map(instance).collect::<Value>(), "parameters": parameters})
}

#[cfg(test)]
mod tests {
    use cfr_core::chat::{Call, Meter, Operation};
    use cfr_core::time::Timestamp;

    use super::*;
    use crate::adapter::Adapter;
    use crate::embeddings::Embeddings;
    use crate::gemini::tests::{fixture, order};

    fn embeddings(place: Place) -> Embeddings<Vectors> {
        Embeddings(Vectors::new(&Arc::new(place)))
    }

    fn studio() -> Embeddings<Vectors> {
        embeddings(Place::studio(None).expect("an address"))
    }

    fn call(body: &Value) -> Call {
        Call::parse(Operation::Embeddings, body.to_string().into(), Timestamp::UNIX_EPOCH).expect("a call")
    }

    fn asked(adapter: &dyn Adapter, body: &Value) -> (String, Value) {
        let request = adapter.encode(&order(&call(body))).expect("a request");
        (request.endpoint.uri().path().to_owned(), serde_json::from_slice(&request.body).expect("JSON"))
    }

    /// The answer in OpenAI's words, and the tokens that are charged.
    fn answered(body: &Value, answer: &Value) -> (Value, u64) {
        let reply = studio().decode(&call(body), &HeaderMap::new(), answer.to_string().into()).expect("an answer");
        let usage = reply.report.usage.expect("usage");
        (serde_json::from_slice(&reply.body).expect("JSON"), usage.get(Meter::InputTokens))
    }

    #[test]
    fn the_recording_is_asked_for_and_answered_in_openais_words() {
        let case = fixture("gemini/embed.json");
        let body = json!({"model": "gemini-embedding-001", "input": "a", "dimensions": 3});
        let (path, sent) = asked(&studio(), &body);
        assert_eq!((json!(path), &sent), (case["request"]["path"].clone(), &case["request"]["body"]));
        let (answer, tokens) = answered(&body, &case["response"]["body"]);
        assert_eq!(tokens, 2, "without a count every byte is a token, and one is for the beginning");
        assert_eq!(answer["data"], json!([{"object": "embedding", "index": 0, "embedding": case["expect"]["vector"]}]));
    }

    #[test]
    fn each_text_is_an_instance_at_vertex() {
        let vertex = embeddings(Place::vertex("p", "global", None).expect("an address"));
        let (path, body) = asked(
            &vertex,
            &json!({"model": "m", "input": ["a", "b"], "dimensions": 3, "input_type": "RETRIEVAL_QUERY"}),
        );
        assert!(path.ends_with("/publishers/google/models/m:predict"), "{path}");
        let instance = |text: &str| json!({"content": text, "task_type": "RETRIEVAL_QUERY"});
        let parameters = json!({"autoTruncate": false, "outputDimensionality": 3});
        assert_eq!(body, json!({"instances": [instance("a"), instance("b")], "parameters": parameters}));
    }

    #[test]
    fn newer_models_of_vertex_take_a_batch_with_a_configuration_for_each_text() {
        let vertex = embeddings(Place::vertex("p", "global", None).expect("an address"));
        let (path, body) =
            asked(&vertex, &json!({"model": "gemini-embedding-2", "input": ["a", "b"], "dimensions": 3}));
        assert!(path.ends_with("/models/gemini-embedding-2:batchEmbedContents"), "{path}");
        let config = json!({"autoTruncate": false, "outputDimensionality": 3});
        let content = |text: &str| json!({"role": "user", "parts": [{"text": text}]});
        let request = |text: &str| json!({"content": content(text), "embedContentConfig": config});
        assert_eq!(body, json!({"requests": [request("a"), request("b")]}));
    }

    #[test]
    fn a_count_of_googles_holds() {
        let body = json!({"model": "m", "input": "a long text"});
        let usage = json!({"promptTokenCount": 3});
        assert_eq!(answered(&body, &json!({"embeddings": [{"values": [1]}], "usageMetadata": usage})).1, 3);
        let statistics = json!({"token_count": 2.0, "truncated": false});
        let embeddings = json!({"values": [1], "statistics": statistics});
        assert_eq!(answered(&body, &json!({"predictions": [{"embeddings": embeddings}]})).1, 2);
    }

    #[test]
    fn a_missing_vector_is_no_answer() {
        let one = call(&json!({"model": "m", "input": "a"}));
        let none = studio().decode(&one, &HeaderMap::new(), Bytes::from_static(b"{}"));
        assert!(matches!(none, Err(UpstreamError::Malformed { .. })));
    }
}
