//! A batch from the wish for it to the moment when its provider has it.

use std::sync::Arc;

use cfr_billing::batch::{Batch, BatchState, FilePurpose, KeptFile, Owner, life};
use cfr_billing::escrow::AsideAsk;
use cfr_core::batch::{self, BatchHost, LINES_MAX, Lines, NewBatch, RequestLine, was_not_made};
use cfr_core::chat::envelope::METADATA_BYTES_MAX;
use cfr_core::chat::{Envelope, Operation};
use cfr_core::gateway::{BudgetExceeded, Caller, GatewayError, Offer};
use cfr_core::id::{BatchId, FileId};
use cfr_core::ledger::AuthorizeError;
use cfr_core::money::Money;
use cfr_core::price::PicoUsd;
use cfr_core::time::Timestamp;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};

use super::{ASK_EVERY, BatchDesk, BatchError, SUBMIT_PATIENCE};

/// Notes of a caller on a batch: one of OpenAI's sixteen is ours.
const METADATA_PAIRS_MAX: usize = 15;
/// Longer than any provider keeps the answers of a batch: then a store that many share may take its rights back.
const RIGHTS_KEPT: std::time::Duration = std::time::Duration::from_secs(60 * 24 * 3_600);

/// A batch that a caller wants.
#[derive(Debug)]
pub struct BatchWish {
    /// The file of requests.
    pub input_file: FileId,
    /// What each of its lines asks for.
    pub operation: Operation,
    /// How long it may take, in the provider's words.
    pub window: Box<str>,
    /// The caller's notes.
    pub metadata: Map<String, Value>,
}

impl BatchDesk {
    /// Makes a batch: reads its file, sets the most that it can cost aside, and has the provider begin.
    ///
    /// # Errors
    /// When a budget does not have that, the file is not the caller's, or the provider does not begin.
    ///
    /// # Cancel safety
    /// Dropping the future leaves what was begun to the worker: it goes on with a batch that the provider has, and gives the
    /// rights of any other back.
    pub async fn submit(&self, caller: &Caller, wish: BatchWish) -> Result<Batch, BatchError> {
        if self.halt.is_set() {
            return Err(BatchError::Halted);
        }
        check_metadata(&wish.metadata)?;
        let file = self.store.file(Owner::of(&caller.ids), wish.input_file).await?;
        if file.purpose != FilePurpose::Batch {
            return Err(BatchError::Field { param: "input_file_id", reason: "it has no requests".into() });
        }
        let host = Arc::clone(self.host(&file.upstream)?);
        let begun = self.begun(caller, &wish, &file, &*host).await?;
        self.store.add_batch(&begun).await?;
        let reserved = self.reserve(begun).await?;
        self.send(&*host, reserved, &file, wish).await
    }

    /// The batch before anything happens.
    async fn begun(
        &self,
        caller: &Caller,
        wish: &BatchWish,
        file: &KeptFile,
        host: &dyn BatchHost,
    ) -> Result<Batch, BatchError> {
        let (offer, now) = (self.gateway.offer(), self.clock.now());
        let fx = offer.rate(caller.currency)?;
        let mut stock =
            Stock { caller, file, operation: wish.operation, offer: &offer, at: now, found: Found::default() };
        stock.take(host, self.line_bytes_max).await?;
        let Found { lines, cost, dearest } = stock.found;
        let held = |cost| fx.hold(cost, caller.margin).map_err(|_| GatewayError::TooLarge);
        // Each line is charged by itself, and may be rounded up by a nano-unit.
        let rounding = i64::try_from(lines).unwrap_or(i64::MAX);
        Ok(Batch {
            id: BatchId::generate(now),
            owner: Owner::of(&caller.ids),
            state: BatchState::Begun,
            due_at: self.after(SUBMIT_PATIENCE),
            caller: caller.ids,
            upstream: Arc::clone(&file.upstream),
            upstream_id: None,
            input_file: file.id,
            operation: wish.operation,
            lines,
            models: file.models.clone(),
            path: caller.path.to_vec(),
            accounts: Vec::new(),
            amount_nanos: held(cost)?.nanos().checked_add(rounding).ok_or(GatewayError::TooLarge)?,
            line_max_nanos: held(dearest)?.nanos(),
            currency: caller.currency,
            fx_e6: fx.usd_per_unit_e6(),
            margin_bps: caller.margin.bps(),
            created_at: now,
            metadata: wish.metadata.clone(),
            object: beginning(wish, lines, now),
            output_file: None,
            error_file: None,
        })
    }

    async fn reserve(&self, begun: Batch) -> Result<Batch, BatchError> {
        let life = life(begun.id);
        let amount = Money::from_nanos(begun.amount_nanos, begun.currency);
        let ask = AsideAsk { life: &life, path: &begun.path, amount, keep: RIGHTS_KEPT };
        match self.escrow.set_aside(ask).await {
            Ok(accounts) => {
                let reserved = Batch { state: BatchState::Reserved, accounts, ..begun };
                let written = self.store.update_batch(BatchState::Begun, &reserved, &[]).await;
                if written.is_err() {
                    self.void(&reserved).await; // nothing was sent: whether or not it was written, nobody needs the rights
                }
                Ok(written.map(|()| reserved)?)
            }
            Err(error) => {
                self.void(&begun).await;
                Err(refused(error, amount).into())
            }
        }
    }

    async fn send(
        &self,
        host: &dyn BatchHost,
        reserved: Batch,
        file: &KeptFile,
        wish: BatchWish,
    ) -> Result<Batch, BatchError> {
        let mark = reserved.id.to_string();
        let BatchWish { operation, window, metadata, .. } = wish;
        let new = NewBatch { input_file: &file.upstream_id, operation, window: &window, metadata, mark: &mark };
        match host.create(new).await {
            Ok(remote) => {
                let due_at = self.after(ASK_EVERY);
                let (state, upstream_id) = (BatchState::Running, Some(remote.id.as_ref().into()));
                let running = Batch { state, upstream_id, object: remote.object, due_at, ..reserved };
                self.store.update_batch(BatchState::Reserved, &running, &[]).await?;
                Ok(running)
            }
            Err(error) => {
                if was_not_made(&error) {
                    self.void(&reserved).await;
                }
                Err(error.into())
            }
        }
    }

    /// Gives the rights of a batch back that the provider does not have. What fails here the worker does when it is due.
    pub(super) async fn void(&self, batch: &Batch) {
        let ended = self.escrow.end_aside(&batch.life(), &batch.path).await;
        let void = Batch { state: BatchState::Void, ..batch.clone() };
        let written = match ended {
            Ok(()) => self.store.update_batch(batch.state, &void, &[]).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(%error, batch = %batch.id, "the rights of a batch that was not made are given back later");
        }
    }
}

/// What is found in a file.
#[derive(Default)]
struct Found {
    lines: u64,
    cost: PicoUsd,
    dearest: PicoUsd,
}

/// Reads a file that the provider keeps, and adds up what its lines can cost.
struct Stock<'a> {
    caller: &'a Caller,
    file: &'a KeptFile,
    operation: Operation,
    offer: &'a Offer,
    at: Timestamp,
    found: Found,
}

impl Stock<'_> {
    async fn take(&mut self, host: &dyn BatchHost, line_bytes_max: usize) -> Result<(), BatchError> {
        let mut content = host.content(&self.file.upstream_id).await?;
        let mut lines = Lines::new(line_bytes_max.saturating_mul(2)); // a cap and a model's name make a line longer
        while let Some(piece) = content.next().await {
            lines.push(&piece?);
            while let Some(line) = lines.next_line().map_err(|error| self.wrong(&error))? {
                self.line(&line)?;
            }
        }
        if let Some(line) = lines.last_line().map_err(|error| self.wrong(&error))? {
            self.line(&line)?;
        }
        if self.found.lines == 0 {
            return Err(BatchError::Field { param: "input_file_id", reason: "it has no requests".into() });
        }
        Ok(())
    }

    fn line(&mut self, line: &bytes::Bytes) -> Result<(), BatchError> {
        self.found.lines += 1;
        if self.found.lines > LINES_MAX {
            return Err(BatchError::TooManyLines);
        }
        let request = RequestLine::parse(line).map_err(|error| self.wrong(&error))?;
        if request.operation != self.operation {
            let url = batch::endpoint(request.operation).unwrap_or_default();
            let reason = format!("the lines of the file ask for `{url}`");
            return Err(BatchError::Field { param: "endpoint", reason: reason.into() });
        }
        let envelope = Envelope::parse(self.operation, &request.body).map_err(|error| self.wrong(&error))?;
        let known = self.file.models.iter().find(|known| *known.model == *envelope.model);
        let model = known.ok_or_else(|| self.wrong(&"its model was not in the file when it was uploaded"))?;
        if !self.caller.models.allows(&model.public) {
            return Err(GatewayError::ForbiddenModel { model: (&*model.public).into() }.into());
        }
        let cost = self.offer.batch_cost_max(model, &envelope, self.at)?;
        let sum = self.found.cost.0.checked_add(cost.0).ok_or(GatewayError::TooLarge)?;
        (self.found.cost, self.found.dearest) = (PicoUsd(sum), self.found.dearest.max(cost));
        Ok(())
    }

    fn wrong(&self, reason: &dyn std::fmt::Display) -> BatchError {
        BatchError::Line { line: self.found.lines, reason: reason.to_string().into() }
    }
}

fn check_metadata(metadata: &Map<String, Value>) -> Result<(), BatchError> {
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    let reason = if metadata.len() > METADATA_PAIRS_MAX {
        format!("at most {METADATA_PAIRS_MAX} notes")
    } else if metadata.values().any(|value| !value.is_string()) {
        "notes are texts".into()
    } else if bytes > METADATA_BYTES_MAX {
        format!("at most {METADATA_BYTES_MAX} bytes of notes")
    } else {
        return Ok(());
    };
    Err(BatchError::Field { param: "metadata", reason: reason.into() })
}

/// What its owner is told of a batch before the provider says anything.
fn beginning(wish: &BatchWish, lines: u64, now: Timestamp) -> Map<String, Value> {
    let object = json!({
        "object": "batch",
        "endpoint": batch::endpoint(wish.operation),
        "errors": null,
        "completion_window": wish.window,
        "status": "validating",
        "created_at": now.as_second(),
        "request_counts": {"total": lines, "completed": 0, "failed": 0},
    });
    if let Value::Object(object) = object { object } else { Map::new() }
}

fn refused(error: AuthorizeError, estimate: Money) -> GatewayError {
    match error {
        AuthorizeError::Denied(denial) => {
            GatewayError::BudgetExceeded(Box::new(BudgetExceeded { denial, estimate, output_tokens_affordable: 0 }))
        }
        AuthorizeError::Ledger(error) => GatewayError::Ledger(error),
    }
}
