//! The end of a batch: every answered line is charged once, and what was set aside beyond that goes back.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cfr_billing::batch::{Batch, BatchState, KeptFile};
use cfr_billing::store::{SettledHold, StoreError};
use cfr_core::batch::RequestLine;
use cfr_core::batch::{ANSWER_LINE_BYTES_MAX, AnswerLine, BatchHost, BatchModel, ByteStream, Lines, RemoteBatch};
use cfr_core::chat::{Envelope, Tags, Usage, UsageSource};
use cfr_core::gateway::Offer;
use cfr_core::id::{BatchId, RequestId};
use cfr_core::ledger::UsageRecord;
use cfr_core::money::{Charge, FxRate, Margin, Money};
use cfr_core::upstream::Report;
use futures_util::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{BatchDesk, BatchError, is_missing, made_file};

/// Charges that are written in one transaction.
const CHARGES_AT_ONCE: usize = 500;
/// What a record keeps of the caller's name for a line.
const CUSTOM_ID_BYTES_KEPT: usize = 256;

/// Which of a batch's files a line stands in.
#[derive(Debug, Clone, Copy)]
enum Role {
    Output,
    Error,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Error => "errors",
        }
    }
}

impl BatchDesk {
    /// Charges a batch that is over and gives back what is left of its rights. May be done again, also by several at once.
    ///
    /// # Errors
    /// When its files cannot be read or the books cannot be written: it is done again later.
    pub(super) async fn settle(&self, batch: Batch, remote: RemoteBatch) -> Result<(), BatchError> {
        let host = Arc::clone(self.host(&batch.upstream)?);
        let pricer = self.pricer(&batch, &*host, &remote).await?;
        let output = self.charge_file(&batch, &pricer, remote.output_file.as_deref(), Role::Output).await?;
        let error = self.charge_file(&batch, &pricer, remote.error_file.as_deref(), Role::Error).await?;
        self.escrow.end_aside(&batch.life(), &batch.path).await?;
        let files: Vec<KeptFile> = [&output, &error].into_iter().flatten().cloned().collect();
        let id = |file: Option<KeptFile>| file.map(|file| file.id);
        let from = batch.state;
        let settled = Batch {
            state: BatchState::Settled,
            object: remote.object,
            output_file: id(output),
            error_file: id(error),
            ..batch
        };
        match self.store.update_batch(from, &settled, &files).await {
            Err(StoreError::Conflict { .. }) => Ok(()), // somebody else settled it in the same moment
            written => Ok(written?),
        }
    }

    async fn pricer<'a>(
        &self,
        batch: &'a Batch,
        host: &'a dyn BatchHost,
        remote: &'a RemoteBatch,
    ) -> Result<Pricer<'a>, BatchError> {
        let fx = FxRate::new(batch.currency, batch.fx_e6).map_err(StoreError::invalid)?;
        let margin = Margin::from_bps(batch.margin_bps).map_err(StoreError::invalid)?;
        let models = if batch.models.len() > 1 { self.models_of_lines(batch, host).await? } else { HashMap::new() };
        let ended = remote.object.get("completed_at").and_then(Value::as_i64);
        let ended = ended.map_or(0, |ended| ended.saturating_sub(batch.created_at.as_second()));
        let latency_ms = u32::try_from(ended.saturating_mul(1_000)).unwrap_or(0);
        Ok(Pricer {
            batch,
            host,
            completed: remote.completed,
            offer: self.gateway.offer(),
            fx,
            margin,
            models,
            latency_ms,
        })
    }

    /// Which model each line asked for, where they differ. Empty when the provider has the file no more.
    async fn models_of_lines(
        &self,
        batch: &Batch,
        host: &dyn BatchHost,
    ) -> Result<HashMap<Box<str>, usize>, BatchError> {
        let mut models = HashMap::new();
        let Ok(file) = self.store.file(batch.owner, batch.input_file).await else { return Ok(models) };
        let mut content = match host.content(&file.upstream_id).await {
            Err(error) if is_missing(&error) => return Ok(models),
            content => content?,
        };
        let mut lines = Lines::new(ANSWER_LINE_BYTES_MAX);
        while let Some(line) = next_line(&mut content, &mut lines, &mut 0).await? {
            let Ok(request) = RequestLine::parse(&line) else { continue };
            let Ok(envelope) = Envelope::parse(request.operation, &request.body) else { continue };
            let place = batch.models.iter().position(|known| *known.model == *envelope.model);
            models.extend(place.map(|place| (request.custom_id, place)));
        }
        Ok(models)
    }

    /// Charges every line of one file; none where there is no such file.
    async fn charge_file(
        &self,
        batch: &Batch,
        pricer: &Pricer<'_>,
        upstream_id: Option<&str>,
        role: Role,
    ) -> Result<Option<KeptFile>, BatchError> {
        let Some(upstream_id) = upstream_id else { return Ok(None) };
        let mut content = match pricer.host.content(upstream_id).await {
            Err(error) if is_missing(&error) => return self.charge_unseen(batch, pricer, role).await.map(|()| None),
            content => content?,
        };
        let (mut lines, mut bytes, mut charges) = (Lines::new(ANSWER_LINE_BYTES_MAX), 0, Vec::new());
        for index in 0.. {
            let Some(line) = next_line(&mut content, &mut lines, &mut bytes).await? else { break };
            charges.push(pricer.charge(role, index, &line));
            if charges.len() == CHARGES_AT_ONCE {
                self.escrow.settle_aside(&batch.life(), std::mem::take(&mut charges)).await?;
            }
        }
        self.escrow.settle_aside(&batch.life(), charges).await?;
        Ok(Some(made_file(batch, upstream_id, role.name(), bytes, self.clock.now())))
    }

    /// The provider has the answers no more, so nobody knows what they used: unknown is never free.
    async fn charge_unseen(&self, batch: &Batch, pricer: &Pricer<'_>, role: Role) -> Result<(), BatchError> {
        if matches!(role, Role::Error) {
            return Ok(());
        }
        tracing::error!(batch = %batch.id, "the answers of a batch are gone: each is charged with the most it can cost");
        let unseen = AnswerLine { custom_id: "".into(), status: Some(200), request_id: None, body: Bytes::new() };
        let charges =
            (0..pricer.completed.min(batch.lines)).map(|index| pricer.charged(role, index, &unseen)).collect();
        Ok(self.escrow.settle_aside(&batch.life(), charges).await?)
    }
}

/// The next line of a file that comes in pieces; adds up how many bytes came.
async fn next_line(content: &mut ByteStream, lines: &mut Lines, bytes: &mut u64) -> Result<Option<Bytes>, BatchError> {
    let too_long = |error: cfr_core::batch::LineTooLong| BatchError::Line { line: 0, reason: error.to_string().into() };
    loop {
        if let Some(line) = lines.next_line().map_err(too_long)? {
            return Ok(Some(line));
        }
        let Some(piece) = content.next().await else { return lines.last_line().map_err(too_long) };
        let piece = piece?;
        *bytes += piece.len() as u64;
        lines.push(&piece);
    }
}

/// What the lines of one batch cost.
struct Pricer<'a> {
    batch: &'a Batch,
    host: &'a dyn BatchHost,
    /// Lines that the provider says it answered.
    completed: u64,
    offer: Arc<Offer>,
    fx: FxRate,
    margin: Margin,
    /// The model of each line, by the caller's name for it, where there are several.
    models: HashMap<Box<str>, usize>,
    latency_ms: u32,
}

impl Pricer<'_> {
    fn charge(&self, role: Role, index: u64, line: &Bytes) -> SettledHold {
        let answer = AnswerLine::parse(line).unwrap_or_else(|error| {
            tracing::warn!(%error, batch = %self.batch.id, index, "a line of answers that cannot be read");
            let status = matches!(role, Role::Output).then_some(200); // what was answered is charged
            AnswerLine { custom_id: "".into(), status, request_id: None, body: Bytes::new() }
        });
        self.charged(role, index, &answer)
    }

    fn charged(&self, role: Role, index: u64, answer: &AnswerLine) -> SettledHold {
        let report = match answer.is_answered() {
            true => self.host.report(self.batch.operation, &answer.body),
            false => Report::default(),
        };
        let models = self.candidates(&answer.custom_id);
        let (usage, source) = match report.usage {
            _ if !answer.is_answered() => (Usage::default(), UsageSource::None),
            Some(usage) => (usage, UsageSource::Provider),
            None => (Usage::default(), UsageSource::Estimated),
        };
        let charge = self.price(models, &usage, source);
        let record =
            self.record(line_id(self.batch.id, role, index), answer, &report, models.first(), (usage, source, charge));
        let charged = record.charged_nanos;
        let accounts = self.batch.accounts.iter().copied().collect();
        SettledHold { id: record.id, epoch: self.batch.life().epoch, accounts, charged, record: Box::new(record) }
    }

    /// The model of a line, or all that it can be.
    fn candidates(&self, custom_id: &str) -> &[BatchModel] {
        let models = &self.batch.models[..];
        self.models.get(custom_id).and_then(|&place| models.get(place)).map_or(models, std::slice::from_ref)
    }

    /// The price of a line; the most that any line can cost where it has none.
    fn price(&self, models: &[BatchModel], usage: &Usage, source: UsageSource) -> Charge {
        let money = |nanos| Money::from_nanos(nanos, self.batch.currency);
        let flat = |nanos| Charge { cost: money(nanos), margin: money(0), price: money(nanos) };
        let at = self.batch.created_at;
        match source {
            UsageSource::None => flat(0),
            UsageSource::Provider => {
                let costs = models.iter().filter_map(|model| self.offer.batch_cost(model, usage, at).ok());
                let charge = costs.max().and_then(|cost| self.fx.charge(cost, self.margin).ok());
                charge.unwrap_or_else(|| flat(self.batch.line_max_nanos))
            }
            _ => flat(self.batch.line_max_nanos),
        }
    }

    fn record(
        &self,
        id: RequestId,
        answer: &AnswerLine,
        report: &Report,
        model: Option<&BatchModel>,
        (usage, source, charge): (Usage, UsageSource, Charge),
    ) -> UsageRecord {
        let batch = self.batch;
        let named =
            |name: fn(&BatchModel) -> &Arc<str>| model.map_or_else(|| Arc::from(""), |model| Arc::clone(name(model)));
        UsageRecord {
            id,
            at: batch.created_at,
            caller: batch.caller,
            operation: batch.operation,
            model_requested: named(|model| &model.public),
            provider: named(|model| &model.provider),
            model_served: named(|model| &model.model),
            usage,
            source,
            cost_nanos: charge.cost.nanos(),
            price_nanos: charge.price.nanos(),
            charged_nanos: charge.price.nanos(),
            overrun_nanos: 0,
            price_version: self.offer.prices.version().short(),
            fx_e6: batch.fx_e6,
            margin_bps: batch.margin_bps,
            status: answer.status.unwrap_or(502),
            finish: report.finish.as_ref().map_or_else(|| Arc::from(""), |finish| finish.name().into()),
            streamed: false,
            latency_ms: self.latency_ms,
            first_byte_ms: None,
            attempts: Vec::new(),
            upstream_id: answer.request_id.clone(),
            tags: tags(batch.id, &answer.custom_id),
            output_tokens_max_applied: None,
        }
    }
}

/// By which a record is found again: the caller's name for the line, and the batch.
fn tags(batch: BatchId, custom_id: &str) -> Tags {
    let kept = custom_id.get(..custom_id.floor_char_boundary(CUSTOM_ID_BYTES_KEPT)).unwrap_or_default();
    let metadata = json!({"batch_id": batch}).to_string();
    Tags { request_id: Some(kept.into()).filter(|_| !kept.is_empty()), user: None, metadata: Some(metadata.into()) }
}

/// The id under which a line is charged, whoever does it: its batch, its file and its place there never change.
fn line_id(batch: BatchId, role: Role, index: u64) -> RequestId {
    let mut hash = Sha256::new();
    hash.update(batch.to_bytes());
    hash.update(role.name());
    hash.update(index.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    RequestId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_one_id_and_no_other_line_has_it() {
        let batch = BatchId::from_u128(7);
        let id = |role, index| line_id(batch, role, index);
        assert_eq!(id(Role::Output, 3), id(Role::Output, 3));
        assert_ne!(id(Role::Output, 3), id(Role::Output, 4));
        assert_ne!(id(Role::Output, 3), id(Role::Error, 3));
        assert_ne!(id(Role::Output, 3), line_id(BatchId::from_u128(8), Role::Output, 3));
    }

    #[test]
    fn a_record_leads_back_to_its_line() {
        let tags = tags(BatchId::from_u128(0), "my-line");
        assert_eq!(tags.request_id.as_deref(), Some("my-line"));
        assert_eq!(tags.metadata.as_deref(), Some(r#"{"batch_id":"batch_00000000000000000000000000"}"#));
    }
}
