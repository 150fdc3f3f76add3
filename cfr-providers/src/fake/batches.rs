//! Files and batches of the fake provider. A batch is answered when somebody asks what has become of it; files and batches
//! are forgotten with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cfr_core::batch::{self, BatchHost, ByteStream, Lines, NewBatch, RemoteBatch, RequestLine};
use cfr_core::chat::{Call, Operation};
use cfr_core::time::{Clock, SystemClock, Timestamp};
use cfr_core::upstream::{Order, Rejection, Reply, Report, Upstream, UpstreamError};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Fake;
use crate::openai::batches::{self, MARK};
use crate::openai::quirks::OPENAI;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest line that is read; whoever sends longer ones limits them.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    ids: u64,
    files: BTreeMap<Box<str>, Bytes>,
    batches: BTreeMap<Box<str>, Map<String, Value>>,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self, id: &str) -> Result<Map<String, Value>, UpstreamError> {
        self.lock().batches.get(id).cloned().ok_or_else(|| missing("batch", id))
    }

    fn file(&self, id: &str) -> Result<Bytes, UpstreamError> {
        self.lock().files.get(id).cloned().ok_or_else(|| missing("file", id))
    }
}

impl Kept {
    fn id(&mut self, prefix: &str) -> Box<str> {
        self.ids += 1;
        format!("{prefix}-fake-{}", self.ids).into()
    }

    fn keep(&mut self, content: Bytes) -> Box<str> {
        let id = self.id("file");
        self.files.insert(id.clone(), content);
        id
    }
}

#[async_trait]
impl BatchHost for Fake {
    fn takes(&self, operation: Operation) -> bool {
        batch::endpoint(operation).is_some() && self.capabilities().serves(operation)
    }

    fn encode(&self, order: &Order<'_>) -> Result<Bytes, UpstreamError> {
        batches::line(order)
    }

    fn report(&self, operation: Operation, body: &Bytes) -> Report {
        batches::report(&OPENAI, operation, body)
    }

    async fn upload(&self, _name: &str, mut content: ByteStream) -> Result<(Box<str>, u64), UpstreamError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = content.next().await {
            whole.extend_from_slice(&piece?);
        }
        let bytes = whole.len() as u64;
        Ok((self.shelf.lock().keep(whole.freeze()), bytes))
    }

    async fn content(&self, file: &str) -> Result<ByteStream, UpstreamError> {
        let content = self.shelf.file(file)?;
        Ok(stream::once(async move { Ok(content) }).boxed())
    }

    async fn delete(&self, file: &str) -> Result<(), UpstreamError> {
        self.shelf.lock().files.remove(file);
        Ok(())
    }

    async fn create(&self, new: NewBatch<'_>) -> Result<RemoteBatch, UpstreamError> {
        self.shelf.file(new.input_file)?;
        let (mut metadata, mut kept) = (new.metadata, self.shelf.lock());
        metadata.insert(MARK.to_owned(), new.mark.into());
        let id = kept.id("batch");
        let now = SystemClock::new().now().as_second();
        let object = json!({
            "id": id, "object": "batch", "endpoint": batch::endpoint(new.operation), "errors": null,
            "input_file_id": new.input_file, "completion_window": new.window, "status": "in_progress",
            "output_file_id": null, "error_file_id": null, "created_at": now, "in_progress_at": now,
            "request_counts": {"total": 0, "completed": 0, "failed": 0}, "metadata": metadata,
        });
        let Value::Object(object) = object else { return Err(missing("batch", &id)) };
        kept.batches.insert(id, object.clone());
        batches::remote(object)
    }

    async fn batch(&self, id: &str) -> Result<RemoteBatch, UpstreamError> {
        let mut object = self.shelf.batch(id)?;
        if object["status"] == "in_progress" {
            self.work_off(&mut object).await?;
            self.shelf.lock().batches.insert(id.into(), object.clone());
        }
        batches::remote(object)
    }

    async fn cancel(&self, id: &str) -> Result<RemoteBatch, UpstreamError> {
        let mut object = self.shelf.batch(id)?;
        if object["status"] == "in_progress" {
            object.insert("status".into(), "cancelled".into());
            self.shelf.lock().batches.insert(id.into(), object.clone());
        }
        batches::remote(object)
    }

    async fn find(&self, mark: &str, _since: Timestamp) -> Result<Option<RemoteBatch>, UpstreamError> {
        let found = self.shelf.lock().batches.values().find(|batch| batch["metadata"][MARK] == *mark).cloned();
        found.map(batches::remote).transpose()
    }
}

impl Fake {
    /// Answers every line of a batch.
    async fn work_off(&self, batch: &mut Map<String, Value>) -> Result<(), UpstreamError> {
        let input = self.shelf.file(batch["input_file_id"].as_str().unwrap_or_default())?;
        let (mut lines, mut answered, mut failed) =
            (Lines::new(LINE_BYTES_MAX), Answers::default(), Answers::default());
        lines.push(&input);
        while let Some(line) = next(&mut lines)? {
            match self.answer_line(&line).await {
                (custom_id, Ok(body)) => {
                    answered.add(&custom_id, &json!({"status_code": 200, "body": body}), &Value::Null)
                }
                (custom_id, Err(error)) => failed.add(&custom_id, &Value::Null, &json!({"message": error.to_string()})),
            }
        }
        let counts =
            json!({"total": answered.count + failed.count, "completed": answered.count, "failed": failed.count});
        let mut kept = self.shelf.lock();
        let mut file = |answers: Answers| (answers.count > 0).then(|| kept.keep(answers.lines.into()));
        batch.insert("output_file_id".into(), json!(file(answered)));
        batch.insert("error_file_id".into(), json!(file(failed)));
        batch.insert("request_counts".into(), counts);
        batch.insert("status".into(), "completed".into());
        batch.insert("completed_at".into(), SystemClock::new().now().as_second().into());
        Ok(())
    }

    async fn answer_line(&self, line: &Bytes) -> (Box<str>, Result<Value, UpstreamError>) {
        let wrong = |error: &dyn std::fmt::Display| UpstreamError::Malformed { message: error.to_string().into() };
        let request = match RequestLine::parse(line) {
            Ok(request) => request,
            Err(error) => return ("".into(), Err(wrong(&error))),
        };
        let call = match Call::parse(request.operation, request.body, SystemClock::new().now()) {
            Ok(call) => call,
            Err(error) => return (request.custom_id, Err(wrong(&error))),
        };
        let model = &*call.envelope.model;
        let order = Order { call: &call, model, output_tokens_max: None, timeout: TIMEOUT, idle_timeout: TIMEOUT };
        let answer = match self.send(order).await {
            Ok(Reply::Whole(reply)) => serde_json::from_slice(&reply.body).map_err(|error| wrong(&error)),
            Ok(_) => Err(wrong(&"a stream")),
            Err(error) => Err(error),
        };
        (request.custom_id, answer)
    }
}

fn next(lines: &mut Lines) -> Result<Option<Bytes>, UpstreamError> {
    let line = match lines.next_line() {
        Ok(None) => lines.last_line(),
        line => line,
    };
    line.map_err(|error| UpstreamError::Malformed { message: error.to_string().into() })
}

/// Lines of a file that is made.
#[derive(Default)]
struct Answers {
    lines: String,
    count: u64,
}

impl Answers {
    fn add(&mut self, custom_id: &str, response: &Value, error: &Value) {
        self.count += 1;
        let id = format!("batch_req_{}", self.count);
        let line = json!({"id": id, "custom_id": custom_id, "response": response, "error": error});
        self.lines.push_str(&line.to_string());
        self.lines.push('\n');
    }
}

fn missing(what: &str, id: &str) -> UpstreamError {
    let message = format!("there is no {what} `{id}`");
    UpstreamError::Rejected {
        status: StatusCode::NOT_FOUND,
        kind: Rejection::Invalid,
        message: message.into(),
        body: None,
    }
}
