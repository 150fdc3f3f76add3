//! Embeddings: asked for and answered in OpenAI's words, whoever makes them.
//!
//! An [`EmbeddingWire`] is how a provider is asked for vectors and gives them; [`Embeddings`] makes an [`Adapter`] of one.

use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::upstream::{Capabilities, Order, Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::adapter::{Adapter, StreamDecoder};
use crate::dialog::{Drops, Fields};
use crate::no_stream::NoStream;
use crate::transport::WireRequest;

/// What a caller asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// One vector of each.
    pub texts: Vec<String>,
    /// Numbers in each vector; the model's usual ones where nothing is said.
    pub dimensions: Option<u64>,
    /// What the vectors are for, in the provider's word. OpenAI has none: an extension.
    pub purpose: Option<String>,
    /// The vectors as bytes rather than as lists of numbers.
    pub as_base64: bool,
}

/// Vectors as a provider gave them.
#[derive(Debug, Clone)]
pub struct Made {
    /// One list of numbers for each text, as it stood in the answer.
    pub vectors: Vec<Box<RawValue>>,
    /// Tokens of all texts, where the provider counts them.
    pub tokens: Option<u64>,
}

/// How a provider makes embeddings.
pub trait EmbeddingWire: Debug + Send + Sync + 'static {
    /// The provider's name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// What the provider can do.
    fn capabilities(&self) -> Capabilities;

    /// The request to send, complete but for the signature.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] when the provider has no words for what is wanted.
    fn request(&self, wanted: &Wanted, order: &Order<'_>, drops: &mut Drops) -> Result<WireRequest, UpstreamError>;

    /// The vectors of an answer with a success status.
    ///
    /// # Errors
    /// [`UpstreamError::Malformed`] when there are none in it.
    fn answer(&self, headers: &HeaderMap, body: &Bytes) -> Result<Made, UpstreamError>;

    /// The meaning of an answer with an error status.
    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError;
}

/// A provider's embeddings for callers of OpenAI's.
#[derive(Debug, Clone)]
pub struct Embeddings<W>(pub W);

impl Wanted {
    fn read(body: &[u8], drops: &mut Drops) -> Result<Self, UpstreamError> {
        let mut body = Fields::of_body(body)?;
        drop(body.take("model"));
        let wanted = Self {
            texts: texts(&mut body)?,
            dimensions: body.integer("dimensions")?,
            purpose: body.text("input_type")?,
            as_base64: body.text("encoding_format")?.as_deref() == Some("base64"),
        };
        body.left().into_iter().for_each(|field| drops.harmless(String::from(field)));
        Ok(wanted)
    }

    /// No tokenizer makes more tokens of a text than it has bytes, and one for its beginning (providers.md §17.1).
    fn tokens_max(&self) -> u64 {
        self.texts.iter().map(|text| text.len() as u64 + 1).sum()
    }
}

/// Texts; tokens of OpenAI's mean nothing to anybody else.
fn texts(body: &mut Fields) -> Result<Vec<String>, UpstreamError> {
    match body.take("input") {
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        Some(Value::Array(_)) => Err(UpstreamError::Unsupported { message: "input: tokens in place of texts".into() }),
        _ => Err(body.wrong("input", "must be a string or a list of strings")),
    }
}

impl<W: EmbeddingWire> Adapter for Embeddings<W> {
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
        let made = self.0.answer(headers, &body)?;
        let wanted = Wanted::read(&call.body, &mut Drops::default())?;
        if made.vectors.len() != wanted.texts.len() {
            return Err(malformed(format!("{} embeddings of {} texts", made.vectors.len(), wanted.texts.len())));
        }
        let tokens = made.tokens.unwrap_or_else(|| wanted.tokens_max());
        let body = written(call, &made.vectors, wanted.as_base64, tokens)?;
        let usage = Some(Usage::default().with(Meter::InputTokens, tokens));
        let report = Report { usage, ..Report::default() };
        let content_type = HeaderValue::from_static("application/json");
        Ok(WholeReply { content_type, body, report, upstream_id: None, dropped: Vec::new() })
    }

    fn decode_error(&self, _call: &Call, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> UpstreamError {
        self.0.error(status, headers, body)
    }

    fn stream_decoder(&self, _call: &Call) -> Box<dyn StreamDecoder> {
        Box::new(NoStream("embeddings"))
    }

    fn stream_of_whole(&self, call: &Call, headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
        self.decode(call, headers, body)
    }
}

/// One vector in OpenAI's words. Its numbers stay as the provider wrote them.
#[derive(Serialize)]
struct Vector<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    List(&'a RawValue),
    Base64(String),
}

fn written(call: &Call, vectors: &[Box<RawValue>], as_base64: bool, tokens: u64) -> Result<Bytes, UpstreamError> {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Vector<'a>>,
        model: &'a str,
        usage: Value,
    }
    let numbers = |vector| if as_base64 { base64_of(vector).map(Numbers::Base64) } else { Ok(Numbers::List(vector)) };
    let vectors = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| numbers(vector).map(|embedding| Vector { object: "embedding", index, embedding }));
    let list = List {
        object: "list",
        data: vectors.collect::<Result<_, _>>()?,
        model: &call.envelope.model,
        usage: json!({"prompt_tokens": tokens, "total_tokens": tokens}),
    };
    serde_json::to_vec(&list).map(Bytes::from).map_err(|cause| malformed(cause.to_string()))
}

/// Numbers as OpenAI packs them: 32 bits each, the lowest byte first.
fn base64_of(vector: &RawValue) -> Result<String, UpstreamError> {
    let numbers: Vec<f32> = serde_json::from_str(vector.get())
        .map_err(|cause| malformed(format!("a vector is not one of numbers: {cause}")))?;
    Ok(STANDARD.encode(numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()))
}

fn malformed(message: impl Into<Box<str>>) -> UpstreamError {
    UpstreamError::Malformed { message: message.into() }
}

#[cfg(test)]
mod tests {
    use cfr_core::chat::Operation;
    use cfr_core::time::Timestamp;

    use super::*;

    fn wanted(body: &Value) -> Result<(Wanted, Vec<Box<str>>), UpstreamError> {
        let mut drops = Drops::default();
        let wanted = Wanted::read(body.to_string().as_bytes(), &mut drops)?;
        Ok((wanted, drops.into_names()))
    }

    #[test]
    fn one_text_is_a_list_of_one_and_tokens_are_refused() {
        let (read, dropped) = wanted(&json!({"model": "m", "input": "a", "user": "u"})).expect("a wish");
        assert_eq!((read.texts, dropped), (vec!["a".to_owned()], vec!["user".into()]));
        assert_eq!(wanted(&json!({"input": [1, 2]})).expect_err("tokens").name(), "unsupported");
        assert_eq!(wanted(&json!({"input": 7})).expect_err("a number").name(), "rejected");
    }

    #[test]
    fn vectors_keep_their_numbers_or_become_bytes() {
        let body = json!({"model": "m", "input": "a"}).to_string();
        let call = Call::parse(Operation::Embeddings, body.into(), Timestamp::UNIX_EPOCH).expect("a call");
        let vector = RawValue::from_string("[0.250, -5e-1]".to_owned()).expect("JSON");
        let list = written(&call, std::slice::from_ref(&vector), false, 3).expect("a list");
        let expected = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.250, -5e-1]}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
        assert_eq!(list, expected);
        assert_eq!(base64_of(&vector).expect("bytes"), STANDARD.encode([0, 0, 0x80, 0x3e, 0, 0, 0, 0xbf]));
        let words = RawValue::from_string(r#"["a"]"#.to_owned()).expect("JSON");
        base64_of(&words).expect_err("words");
    }
}
