//! A file of requests on its way from a caller to the provider. It is never here as a whole: each line is read, let in,
//! changed where the provider needs it, and sent on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cfr_billing::batch::{FilePurpose, KeptFile, Owner};
use cfr_core::batch::{BatchHost, BatchModel, FILE_BYTES_MAX, LINES_MAX, Lines, RequestLine};
use cfr_core::chat::{Call, Operation};
use cfr_core::gateway::Caller;
use cfr_core::id::FileId;
use cfr_core::upstream::{Order, UpstreamError};
use futures_util::{StreamExt, stream};
use multer::{Field, Multipart};
use tokio::sync::{mpsc, oneshot};

use super::{BatchDesk, BatchError};

/// Lines that may wait for the provider to take them.
const LINES_WAITING_MAX: usize = 16;
/// Bytes of a field that is no file.
const FIELD_BYTES_MAX: usize = 1_024;
/// Bytes of a file's name.
const NAME_BYTES_MAX: usize = 256;
/// Fields of one form.
const FIELDS_MAX: usize = 16;

impl BatchDesk {
    /// Takes a form with a file of requests, and has the provider keep it.
    ///
    /// The provider is the first one whose models the first line can have and that works on batches; every other line must
    /// have a model there too.
    ///
    /// # Errors
    /// When a line could not be asked by this caller; then nothing is kept.
    ///
    /// # Cancel safety
    /// Dropping the future breaks the file off, and the provider keeps nothing of it, until its last byte was sent: a file
    /// that the provider has and nobody knows of costs nobody anything.
    pub async fn upload(&self, caller: &Caller, mut form: Multipart<'_>) -> Result<KeptFile, BatchError> {
        let (begin, begun) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
        let feed = Feed::new(self, caller, begin, sender);
        let sent = async {
            let Ok(Beginning { host, name }) = begun.await else { return std::future::pending().await };
            let lines = stream::unfold(receiver, |mut lines| async move { Some((lines.recv().await?, lines)) });
            Ok::<_, BatchError>(host.upload(&name, lines.boxed()).await?)
        };
        let (fed, (upstream_id, bytes)) = tokio::try_join!(feed.run(&mut form), sent)?;
        let now = self.clock.now();
        let file = KeptFile {
            id: FileId::generate(now),
            owner: Owner::of(&caller.ids),
            upstream: fed.upstream,
            upstream_id: upstream_id.into(),
            purpose: FilePurpose::Batch,
            name: fed.name,
            bytes: Some(bytes.max(fed.bytes)),
            models: fed.models,
            created_at: now,
        };
        self.store.add_file(&file).await?;
        Ok(file)
    }
}

/// A part of the form.
enum Part {
    File,
    Purpose,
    Other,
}

impl Part {
    fn of(field: &Field<'_>) -> Self {
        match field.name() {
            Some("file") => Self::File,
            Some("purpose") => Self::Purpose,
            _ => Self::Other,
        }
    }
}

/// Where a file goes, known with its first line.
struct Beginning {
    host: Arc<dyn BatchHost>,
    name: Arc<str>,
}

/// What a whole file turned out to be.
struct Fed {
    name: Arc<str>,
    upstream: Arc<str>,
    models: Vec<BatchModel>,
    bytes: u64,
}

/// Reads the form and hands lines on.
struct Feed<'a> {
    desk: &'a BatchDesk,
    caller: &'a Caller,
    begin: Option<oneshot::Sender<Beginning>>,
    lines: mpsc::Sender<Result<Bytes, UpstreamError>>,
    name: Arc<str>,
    place: Option<(Arc<str>, Arc<dyn BatchHost>)>,
    operation: Option<Operation>,
    models: Vec<BatchModel>,
    count: u64,
    received: u64,
    sent: u64,
}

impl<'a> Feed<'a> {
    fn new(
        desk: &'a BatchDesk,
        caller: &'a Caller,
        begin: oneshot::Sender<Beginning>,
        lines: mpsc::Sender<Result<Bytes, UpstreamError>>,
    ) -> Self {
        Self {
            desk,
            caller,
            begin: Some(begin),
            lines,
            name: "".into(),
            place: None,
            operation: None,
            models: Vec::new(),
            count: 0,
            received: 0,
            sent: 0,
        }
    }

    /// Clients differ in whether the file or what it is for comes first: the provider gets its last byte when both are
    /// known.
    async fn run(mut self, form: &mut Multipart<'_>) -> Result<Fed, BatchError> {
        let (mut purpose, mut seen) = (false, false);
        for count in 0.. {
            let Some(field) = form.next_field().await.map_err(|error| unreadable(&error))? else { break };
            if count == FIELDS_MAX {
                return Err(BatchError::Form("it has too many fields".into()));
            }
            match Part::of(&field) {
                Part::File if !seen => {
                    seen = true;
                    self.file(field).await?;
                }
                Part::File => return Err(wrong("file", "one file at a time")),
                Part::Purpose if text(field).await? == FilePurpose::Batch.name() => purpose = true,
                Part::Purpose => return Err(wrong("purpose", "only `batch` is kept")),
                Part::Other => return Err(wrong("expires_after", "only `file` and `purpose` are known")),
            }
        }
        if !purpose {
            return Err(wrong("purpose", "is needed"));
        }
        let Some((upstream, _)) = self.place else { return Err(wrong("file", "a line is needed")) };
        Ok(Fed { name: self.name, upstream, models: self.models, bytes: self.sent })
    }

    async fn file(&mut self, mut field: Field<'_>) -> Result<(), BatchError> {
        let name = field.file_name().unwrap_or("requests.jsonl");
        self.name = name.get(..name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default().into();
        let mut lines = Lines::new(self.desk.line_bytes_max);
        while let Some(piece) = field.chunk().await.map_err(|error| unreadable(&error))? {
            self.received += piece.len() as u64;
            if self.received > FILE_BYTES_MAX {
                return Err(BatchError::TooLarge);
            }
            lines.push(&piece);
            while let Some(line) = lines.next_line().map_err(|error| self.wrong_line(&error, 1))? {
                self.line(&line).await?;
            }
        }
        match lines.last_line().map_err(|error| self.wrong_line(&error, 1))? {
            Some(line) => self.line(&line).await,
            None => Ok(()),
        }
    }

    async fn line(&mut self, line: &Bytes) -> Result<(), BatchError> {
        self.count += 1;
        if self.count > LINES_MAX {
            return Err(BatchError::TooManyLines);
        }
        let request = RequestLine::parse(line).map_err(|error| self.wrong_line(&error, 0))?;
        if *self.operation.get_or_insert(request.operation) != request.operation {
            return Err(self.wrong_line(&"url: every line of a file asks for the same", 0));
        }
        let sent = self.admitted(&request).await?;
        self.sent += sent.len() as u64;
        if self.lines.send(Ok(sent)).await.is_err() {
            std::future::pending::<()>().await; // the provider takes no more: what it said ends the upload
        }
        Ok(())
    }

    /// The line as the provider is to read it.
    async fn admitted(&mut self, request: &RequestLine) -> Result<Bytes, BatchError> {
        let (desk, operation) = (self.desk, request.operation);
        let call = Call::parse(operation, request.body.clone(), desk.clock.now());
        let call = call.map_err(|error| self.wrong_line(&error, 0))?;
        let place = self.place.as_ref().map(|(upstream, _)| Arc::clone(upstream));
        let keeps = |upstream: &str| {
            let host = desk.hosts.get(upstream).filter(|_| place.as_deref().is_none_or(|place| place == upstream));
            host.is_some_and(|host| host.takes(operation))
        };
        let admitted = desk.gateway.admit_line(self.caller, call, &keeps).await;
        let admitted = admitted.map_err(|error| self.wrong_line(&error, 0))?;
        let host = self.settle_on(&admitted.target.upstream)?;
        let model = BatchModel::of(&admitted.target, &admitted.call.envelope.model);
        if !self.models.iter().any(|known| known.model == model.model) {
            self.models.push(model);
        }
        let order = Order {
            call: &admitted.call,
            model: &admitted.target.model,
            output_tokens_max: admitted.output_tokens_max,
            timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
        };
        let body = host.encode(&order).map_err(|error| self.wrong_line(&error, 0))?;
        request.with_body(&body).map_err(|error| self.wrong_line(&error, 0))
    }

    /// The account that the file goes to: the first line decides.
    fn settle_on(&mut self, upstream: &Arc<str>) -> Result<Arc<dyn BatchHost>, BatchError> {
        if let Some((_, host)) = &self.place {
            return Ok(Arc::clone(host));
        }
        let host = Arc::clone(self.desk.host(upstream)?);
        self.place = Some((Arc::clone(upstream), Arc::clone(&host)));
        if let Some(begin) = self.begin.take() {
            let beginning = Beginning { host: Arc::clone(&host), name: Arc::clone(&self.name) };
            drop(begin.send(beginning)); // nobody listens when the upload was given up, and then nobody reads this
        }
        Ok(host)
    }

    /// An error in the line that was counted last, or so many after it.
    fn wrong_line(&self, reason: &dyn std::fmt::Display, after: u64) -> BatchError {
        BatchError::Line { line: self.count + after, reason: reason.to_string().into() }
    }
}

async fn text(mut field: Field<'_>) -> Result<String, BatchError> {
    let mut text = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| unreadable(&error))? {
        text.extend_from_slice(&piece);
        if text.len() > FIELD_BYTES_MAX {
            return Err(BatchError::Form(format!("a field has more than {FIELD_BYTES_MAX} bytes").into()));
        }
    }
    String::from_utf8(text).map_err(|_| BatchError::Form("a field is not UTF-8".into()))
}

fn unreadable(error: &multer::Error) -> BatchError {
    BatchError::Form(error.to_string().into())
}

fn wrong(param: &'static str, reason: &str) -> BatchError {
    BatchError::Field { param, reason: reason.into() }
}
