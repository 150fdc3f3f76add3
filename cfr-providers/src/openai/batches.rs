//! Files and batches of OpenAI and of servers that have them alike.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::batch::{self, BatchHost, ByteStream, NewBatch, RemoteBatch};
use cfr_core::chat::Operation;
use cfr_core::time::Timestamp;
use cfr_core::upstream::{Order, Report, UpstreamError};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::quirks::{OPENAI, Quirks};
use super::{OpenAi, decode, encode, error};
use crate::adapter::Adapter;
use crate::responses;
use crate::sign::Signer;
use crate::transport::{self, BadAddress, Body, Endpoint, Transport, WireRequest, path_segment};
use crate::upstream::ERROR_BODY_BYTES_MAX;

/// The note among a batch's metadata by which it is found again.
pub const MARK: &str = "cfr_batch";
/// How long an answer to a short question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a file may take to be sent.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(1_800);
/// How long a file that is read may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// What a batch or a file says of itself, at most.
const OBJECT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Batches on one page of a list.
const PAGE: usize = 100;
/// Pages of a list that are looked through for a mark.
const PAGES_MAX: usize = 200;
/// What stands between the parts of a form. No line of JSON begins like that.
const BOUNDARY: &str = "cfr-file-of-requests";

/// An account's files and batches.
#[derive(Debug, Clone)]
pub struct OpenAiBatches {
    quirks: &'static Quirks,
    adapter: OpenAi,
    base: Endpoint,
    headers: HeaderMap,
    signer: Arc<dyn Signer>,
    transport: Arc<dyn Transport>,
}

impl OpenAiBatches {
    /// Those of the server `quirks` at `base_url`, or at its usual address. `headers` go along with every request.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(
        quirks: &'static Quirks,
        base_url: Option<&str>,
        headers: HeaderMap,
        signer: Arc<dyn Signer>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, BadAddress> {
        let adapter = OpenAi::new(quirks, base_url)?;
        let base = Endpoint::below(base_url.unwrap_or(quirks.base_url), "")?;
        Ok(Self { quirks, adapter, base, headers, signer, transport })
    }

    /// A request without a body.
    fn request(&self, method: Method, path: &str) -> Result<WireRequest, UpstreamError> {
        let wrong = |bad: BadAddress| UpstreamError::Unsupported { message: bad.to_string().into() };
        let endpoint = Arc::new(self.base.join(path).map_err(wrong)?.with_method(method));
        let mut headers = self.headers.clone();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("cfr/", env!("CARGO_PKG_VERSION"))));
        Ok(WireRequest { endpoint, headers, body: Bytes::new(), dropped: Vec::new() })
    }

    async fn send(&self, mut request: WireRequest) -> Result<Response<Body>, UpstreamError> {
        self.signer.sign(&mut request).await?;
        succeeded(self.transport.send(request, ASK_TIMEOUT).await?).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Map<String, Value>, UpstreamError> {
        object(self.send(self.request(method, path)?).await?).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Map<String, Value>, UpstreamError> {
        let mut request = self.request(Method::POST, path)?;
        request.body = body.to_string().into();
        request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        object(self.send(request).await?).await
    }

    /// The batches after one of them, newest first.
    async fn page(&self, after: Option<&str>) -> Result<Vec<Map<String, Value>>, UpstreamError> {
        let after = after.map(|after| format!("&after={}", path_segment(after))).unwrap_or_default();
        let mut page = self.ask(Method::GET, &format!("/batches?limit={PAGE}{after}")).await?;
        let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) else {
            return Err(malformed("a list of batches has no data"));
        };
        Ok(data.into_iter().filter_map(|item| if let Value::Object(item) = item { Some(item) } else { None }).collect())
    }
}

#[async_trait]
impl BatchHost for OpenAiBatches {
    fn takes(&self, operation: Operation) -> bool {
        let served = self.quirks.capabilities.serves(operation);
        batch::endpoint(operation).is_some() && served && (operation != Operation::Responses || self.quirks.responses)
    }

    fn encode(&self, order: &Order<'_>) -> Result<Bytes, UpstreamError> {
        let wire = self.adapter.encode(order)?;
        let path = batch::endpoint(order.call.operation).and_then(|path| path.strip_prefix("/v1"));
        if path.is_none_or(|path| !wire.endpoint.uri().path().ends_with(path)) {
            let message = format!("`{}` does not answer such requests in a batch", order.model);
            return Err(UpstreamError::Unsupported { message: message.into() });
        }
        Ok(wire.body)
    }

    fn report(&self, operation: Operation, body: &Bytes) -> Report {
        report(self.quirks, operation, body)
    }

    async fn upload(&self, name: &str, content: ByteStream) -> Result<(Box<str>, u64), UpstreamError> {
        let mut request = self.request(Method::POST, "/files")?;
        request.headers.insert(header::CONTENT_TYPE, form_type());
        self.signer.sign(&mut request).await?;
        let [head, tail] = form_around(name).map(|text| stream::once(std::future::ready(Ok(Bytes::from(text)))));
        let form = head.chain(content).chain(tail).boxed();
        let answer = self.transport.send_stream(request, form, UPLOAD_TIMEOUT).await?;
        let file = object(succeeded(answer).await?).await?;
        Ok((text(&file, "id")?, file.get("bytes").and_then(Value::as_u64).unwrap_or(0)))
    }

    async fn content(&self, file: &str) -> Result<ByteStream, UpstreamError> {
        let request = self.request(Method::GET, &format!("/files/{}/content", path_segment(file)))?;
        let body = self.send(request).await?.into_body();
        Ok(stream::unfold(body, |mut body| async move {
            let piece = transport::next_chunk(&mut body, IDLE_TIMEOUT).await?;
            Some((piece.map_err(Into::into), body))
        })
        .boxed())
    }

    async fn delete(&self, file: &str) -> Result<(), UpstreamError> {
        match self.ask(Method::DELETE, &format!("/files/{}", path_segment(file))).await {
            Err(UpstreamError::Rejected { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn create(&self, new: NewBatch<'_>) -> Result<RemoteBatch, UpstreamError> {
        let mut metadata = new.metadata;
        metadata.insert(MARK.to_owned(), new.mark.into());
        let body = json!({
            "input_file_id": new.input_file,
            "endpoint": batch::endpoint(new.operation),
            "completion_window": new.window,
            "metadata": metadata,
        });
        remote(self.post("/batches", &body).await?)
    }

    async fn batch(&self, id: &str) -> Result<RemoteBatch, UpstreamError> {
        remote(self.ask(Method::GET, &format!("/batches/{}", path_segment(id))).await?)
    }

    async fn cancel(&self, id: &str) -> Result<RemoteBatch, UpstreamError> {
        remote(self.post(&format!("/batches/{}/cancel", path_segment(id)), &json!({})).await?)
    }

    async fn find(&self, mark: &str, since: Timestamp) -> Result<Option<RemoteBatch>, UpstreamError> {
        let mut after: Option<Box<str>> = None;
        for _ in 0..PAGES_MAX {
            let page = self.page(after.as_deref()).await?;
            let Some(last) = page.last() else { return Ok(None) };
            let older = last.get("created_at").and_then(Value::as_i64).is_some_and(|at| at < since.as_second());
            let (end, next) = (older || page.len() < PAGE, text(last, "id")?);
            let marked = |batch: &Map<String, Value>| batch.get("metadata").is_some_and(|notes| notes[MARK] == *mark);
            if let Some(found) = page.into_iter().find(marked) {
                return remote(found).map(Some);
            }
            if end {
                return Ok(None);
            }
            after = Some(next);
        }
        Err(malformed("the list of batches has no end"))
    }
}

/// The body of a line for a server that reads what OpenAI reads.
pub(crate) fn line(order: &Order<'_>) -> Result<Bytes, UpstreamError> {
    encode::body(&OPENAI, order)
}

/// What the answer of a line says of itself.
pub(crate) fn report(quirks: &Quirks, operation: Operation, body: &Bytes) -> Report {
    match operation {
        Operation::Responses => {
            let whole = responses::own::whole(quirks, &HeaderMap::new(), body.clone());
            whole.map(|whole| whole.report).unwrap_or_default()
        }
        _ => decode::report_of(quirks, operation, body),
    }
}

/// A batch by its object, without the mark.
pub(crate) fn remote(mut object: Map<String, Value>) -> Result<RemoteBatch, UpstreamError> {
    if let Some(Value::Object(notes)) = object.get_mut("metadata") {
        notes.remove(MARK);
    }
    let file = |name| text(&object, name).ok();
    Ok(RemoteBatch {
        id: text(&object, "id")?,
        output_file: file("output_file_id"),
        error_file: file("error_file_id"),
        is_over: matches!(&*text(&object, "status")?, "completed" | "failed" | "expired" | "cancelled"),
        completed: object.get("request_counts").and_then(|counts| counts["completed"].as_u64()).unwrap_or(0),
        object,
    })
}

fn text(object: &Map<String, Value>, name: &str) -> Result<Box<str>, UpstreamError> {
    let text = object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.map(Box::from).ok_or_else(|| malformed(&format!("the object has no `{name}`")))
}

async fn succeeded(answer: Response<Body>) -> Result<Response<Body>, UpstreamError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (head, mut body) = answer.into_parts();
    let body = transport::whole(&mut body, IDLE_TIMEOUT, ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
    Err(error::read(head.status, &head.headers, &body))
}

async fn object(answer: Response<Body>) -> Result<Map<String, Value>, UpstreamError> {
    let body = transport::whole(&mut answer.into_body(), IDLE_TIMEOUT, OBJECT_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(|error| malformed(&error.to_string()))
}

fn malformed(message: &str) -> UpstreamError {
    UpstreamError::Malformed { message: message.into() }
}

fn form_type() -> HeaderValue {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    HeaderValue::try_from(kind).unwrap_or(HeaderValue::from_static("multipart/form-data"))
}

/// What stands before and after the file in a form. Of its name only what is safe in a header is sent.
fn form_around(name: &str) -> [String; 2] {
    let safe = |char: char| if char.is_ascii_alphanumeric() || ".-_".contains(char) { char } else { '_' };
    let name: String = name.chars().map(safe).collect();
    let head = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         content-type: application/jsonl\r\n\r\n"
    );
    [head, format!("\r\n--{BOUNDARY}--\r\n")]
}
