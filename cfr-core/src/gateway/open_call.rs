//! A call with an open hold. Whatever happens to it, it closes the hold exactly once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::quote::Quote;
use super::stored::Keeper;
use super::{AnswerHead, Caller, GatewayError, Inner, Offer};
use crate::cache::{CacheKey, CacheOutcome};
use crate::chat::envelope::Work;
use crate::chat::usage::tokens_estimated;
use crate::chat::{Call, Meter, Operation, Usage, UsageSource};
use crate::ledger::{Attempt, Commit, Hold, LedgerError, Settled, Settlement, UsageRecord};
use crate::limit::Permit;
use crate::money::{Charge, Money};
use crate::price::{PicoUsd, PriceError, PriceTerms};
use crate::route::{Failure, Target};
use crate::upstream::{FinishReason, Report, UpstreamError};

/// Bytes of an upstream's word that a record keeps.
const WORD_BYTES_MAX: usize = 256;
/// The caller's field that says where the answer is to be made.
const GEO_FIELD: &str = "inference_geo";

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending<'a> {
    /// The answer is complete.
    Complete,
    /// The upstream failed, before or while it answered.
    Failed(&'a UpstreamError),
    /// The client went away.
    Abandoned,
    /// The ledger could not make the hold durable: nothing was delivered.
    Refused,
}

/// A call between its hold and its settlement. Dropping it settles what was delivered.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) gateway: Arc<Inner>,
    pub(super) call: Call,
    pub(super) report: Report,
    pub(super) attempts: Vec<Attempt>,
    /// The cap to set on answer tokens because the caller set none.
    pub(super) output_tokens_max: Option<u64>,
    /// Where the answer goes when it is to be kept.
    pub(super) cache_key: Option<CacheKey>,
    /// Where the earlier answer is kept that this call goes on from.
    pub(super) keeper: Option<Keeper>,
    /// Whether the answer was given before and comes out of the cache: no upstream is asked, and the price is the quote's.
    replayed: bool,
    /// The target that was asked last; none while the call cannot have reached an upstream.
    asked: Mutex<Option<Arc<Target>>>,
    upstream_id: Option<Box<str>>,
    /// Fields that were left out of the call for the target that answers.
    dropped: Vec<Box<str>>,
    /// Bytes of the answer that the latest usage counts.
    bytes_counted: u64,
    offer: Arc<Offer>,
    caller: Arc<Caller>,
    quote: Quote,
    held: Money,
    available: Money,
    hold_commit: Option<Commit>,
    pub(super) permit: Permit,
    started: Duration,
    first_byte: Option<Duration>,
    closed: bool,
}

impl OpenCall {
    pub(super) fn begin(
        gateway: &Arc<Inner>,
        offer: Arc<Offer>,
        caller: &Arc<Caller>,
        call: Call,
        quote: Quote,
        hold: Hold,
        permit: Permit,
    ) -> Self {
        Self {
            gateway: Arc::clone(gateway),
            call,
            report: Report::default(),
            attempts: Vec::new(),
            output_tokens_max: quote.output_tokens_max(hold.amount),
            cache_key: None,
            keeper: None,
            replayed: false,
            asked: Mutex::default(),
            upstream_id: None,
            dropped: Vec::new(),
            bytes_counted: 0,
            offer,
            caller: Arc::clone(caller),
            held: hold.amount,
            available: hold.available_after,
            hold_commit: Some(hold.committed),
            quote,
            permit,
            started: gateway.clock.uptime(),
            first_byte: None,
            closed: false,
        }
    }

    pub(super) fn take_hold_commit(&mut self) -> Commit {
        self.hold_commit.take().unwrap_or_else(Commit::done)
    }

    /// A target is about to be asked: from here on it may charge for the call.
    pub(super) fn asks(&self, target: &Arc<Target>) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(target));
    }

    pub(super) fn asked(&self) -> Option<Arc<Target>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The answer comes out of the cache, as this target gave it before.
    pub(super) fn replays(&mut self, target: &Arc<Target>, usage: Usage, finish: Option<FinishReason>) {
        self.asks(target);
        self.report = Report { usage: Some(usage), finish, ..Report::default() };
        self.replayed = true;
    }

    /// The target that was asked last answers.
    pub(super) fn answered(&mut self, upstream_id: Option<Box<str>>, dropped: Vec<Box<str>>) {
        self.first_byte = Some(self.elapsed());
        self.upstream_id = upstream_id;
        self.dropped = dropped;
    }

    /// Takes in what the answer, or a piece of it, says about itself.
    pub(super) fn note(&mut self, report: Report) {
        let counts = report.usage.is_some();
        self.report.absorb(report);
        if counts {
            self.bytes_counted = self.report.output_bytes;
        }
    }

    pub(super) fn head(&self, target: &Target, settled: Option<&Settled>) -> AnswerHead {
        AnswerHead {
            provider: Arc::clone(&target.provider),
            model: Arc::clone(&target.model),
            upstream_id: self.upstream_id.clone(),
            output_tokens_max_applied: self.output_tokens_max,
            rate: self.permit.rate,
            charged: settled.map(|settled| settled.charged),
            available: settled.map_or(self.available, |settled| settled.available),
            dropped: self.dropped.clone(),
            cache: if self.replayed { Some(CacheOutcome::Hit) } else { self.cache_key.map(|_| CacheOutcome::Miss) },
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.gateway.clock.uptime().saturating_sub(self.started)
    }

    /// How long the hold may still last.
    pub(super) fn time_left(&self) -> Duration {
        self.gateway.config.hold_max.saturating_sub(self.elapsed())
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Our own side failed before an answer began: nothing is charged.
    pub(super) fn fail(&mut self, error: GatewayError) -> GatewayError {
        self.log_refusal(Ending::Refused);
        error
    }

    /// No upstream answered: nothing is charged.
    pub(super) fn fail_upstream(&mut self, failure: Failure) -> GatewayError {
        self.attempts = failure.attempts;
        self.close_failed(&failure.error);
        GatewayError::Upstream { error: Box::new(failure.error), attempts: std::mem::take(&mut self.attempts) }
    }

    /// The upstream failed, possibly in the middle: what was delivered is charged.
    pub(super) fn close_failed(&mut self, error: &UpstreamError) {
        self.log_refusal(Ending::Failed(error));
    }

    /// Notes what was delivered so far, for a charge by evidence after a crash.
    pub(super) fn checkpoint(&self) {
        let noted = self.gateway.ledger.checkpoint(self.call.id, self.settlement(Ending::Abandoned));
        if let Err(error) = noted {
            tracing::warn!(hold = %self.call.id, %error, "checkpoint refused");
        }
    }

    /// Ends the hold. The first call counts.
    pub(super) fn close(&mut self, ending: Ending<'_>) -> Result<Settled, LedgerError> {
        if std::mem::replace(&mut self.closed, true) {
            return Err(LedgerError::AlreadyClosed { hold: self.call.id });
        }
        let settlement = self.settlement(ending);
        let record = (!self.gateway.post_hooks.is_empty()).then(|| settlement.record.clone());
        let settled = self.gateway.ledger.settle(self.call.id, settlement)?;
        if let Some(mut record) = record {
            record.charged_nanos = settled.charged.nanos();
            record.overrun_nanos = settled.overrun.nanos();
            self.gateway.post_hooks.iter().for_each(|hook| hook.after(&self.caller, &record));
        }
        Ok(settled)
    }

    /// Ends the hold of a call whose caller already hears of another error.
    fn log_refusal(&mut self, ending: Ending<'_>) {
        if let Err(error) = self.close(ending) {
            tracing::error!(hold = %self.call.id, %error, "settlement refused");
        }
    }

    fn settlement(&self, ending: Ending<'_>) -> Settlement {
        let (usage, source) = self.usage(ending);
        let charge = self.charge(&usage, source);
        Settlement { charge, record: Box::new(self.record(ending, usage, source, charge)) }
    }

    /// What was used, by the table of money.md §2.6: the provider's word first, even when it says zero; what came after
    /// that word, or came without any, is counted from bytes. An answer that never began used nothing.
    fn usage(&self, ending: Ending<'_>) -> (Usage, UsageSource) {
        if self.replayed {
            return match (ending, self.report.usage) {
                (Ending::Complete, Some(usage)) => (usage, UsageSource::Cache),
                _ => (Usage::default(), UsageSource::None),
            };
        }
        let counted_here =
            if matches!(ending, Ending::Complete) { UsageSource::Estimated } else { UsageSource::Partial };
        let uncounted = tokens_estimated(self.report.output_bytes.saturating_sub(self.bytes_counted));
        if let Some(usage) = self.report.usage {
            let output = usage.get(Meter::OutputTokens).saturating_add(uncounted);
            return match self.provider_cost() {
                _ if uncounted > 0 => (usage.with(Meter::OutputTokens, output), counted_here),
                Some(_) => (usage, UsageSource::ProviderCost),
                None => (usage, UsageSource::Provider),
            };
        }
        let nothing = match ending {
            Ending::Complete => false,
            Ending::Failed(_) => self.report.output_bytes == 0 && self.report.output_audio_tokens == 0,
            Ending::Abandoned => self.asked().is_none(),
            Ending::Refused => true,
        };
        if nothing {
            return (Usage::default(), UsageSource::None);
        }
        let envelope = &self.call.envelope;
        if let Work::Conversation(heard) = envelope.input.work {
            let said = Usage::text(heard.text_tokens, uncounted).with(Meter::InputAudioTokens, heard.audio_tokens);
            return (said.with(Meter::OutputAudioTokens, self.report.output_audio_tokens), counted_here);
        }
        let estimated = || self.input_estimated().with(Meter::OutputTokens, uncounted);
        (envelope.input.pieces(envelope.choices).unwrap_or_else(estimated), counted_here)
    }

    /// What the request is taken for where nobody counted it.
    fn input_estimated(&self) -> Usage {
        let bound = &self.call.envelope.input;
        let bytes = match self.call.operation {
            Operation::Rerank => bound.text_tokens, // the query is read with each document
            _ => self.call.body.len() as u64,
        };
        let tokens = tokens_estimated(bytes).min(bound.text_tokens);
        let target = self.asked();
        let entry = target.as_ref().and_then(|target| target.entry(&self.offer.prices, self.quote.at));
        let searches = entry.map_or(0, |entry| entry.searches(&bound.search_units).estimated);
        Usage::text(tokens, 0).with(Meter::RerankQueries, searches)
    }

    /// What the provider says it charges. Nobody charges less than nothing.
    fn provider_cost(&self) -> Option<PicoUsd> {
        self.report.provider_cost.filter(|cost| cost.0 >= 0)
    }

    /// The price of a usage. What cannot be priced is charged with the whole hold: unknown is never free.
    fn charge(&self, usage: &Usage, source: UsageSource) -> Charge {
        let nothing = Money::zero(self.held.currency());
        if source == UsageSource::None {
            return Charge { cost: nothing, margin: nothing, price: nothing };
        }
        if source == UsageSource::Cache {
            return Charge { cost: nothing, margin: self.quote.amount, price: self.quote.amount };
        }
        let charge = self
            .cost(usage, source)
            .and_then(|cost| self.quote.fx.charge(cost, self.quote.margin).map_err(|_| PriceError::OutOfRange));
        let whole_hold = Charge { cost: self.held, margin: nothing, price: self.held };
        match charge {
            // What is only estimated of a long conversation is never more than was held for all of it.
            Ok(charge) if self.is_guessed(source) && charge.price.nanos() > self.held.nanos() => whole_hold,
            Ok(charge) => charge,
            Err(error) => {
                tracing::error!(request = %self.call.id, %error, "usage without a price: the whole hold is charged");
                whole_hold
            }
        }
    }

    /// Whether a usage is our estimate of a conversation that only the provider has.
    fn is_guessed(&self, source: UsageSource) -> bool {
        self.call.operation == Operation::Realtime && matches!(source, UsageSource::Estimated | UsageSource::Partial)
    }

    /// What the complete answer used and cost; none when that has no price.
    pub(super) fn used(&self) -> Option<(Usage, PicoUsd)> {
        let (usage, source) = self.usage(Ending::Complete);
        Some((usage, self.cost(&usage, source).ok()?))
    }

    /// The provider's own word, else priced as the operator says, else as the model that answered when the table knows it,
    /// else as the one that was asked.
    fn cost(&self, usage: &Usage, source: UsageSource) -> Result<PicoUsd, PriceError> {
        if let Some(cost) = self.provider_cost().filter(|_| source == UsageSource::ProviderCost) {
            return Ok(cost);
        }
        let unknown = || PriceError::UnknownModel { model: self.call.envelope.model.clone() };
        let target = self.asked().ok_or_else(unknown)?;
        let find = |model: &str| self.offer.prices.find(&target.provider, model, self.quote.at);
        let served = self.report.model.as_deref().filter(|_| target.price.model.is_none()).and_then(find);
        let entry = served.or_else(|| target.entry(&self.offer.prices, self.quote.at)).ok_or_else(unknown)?;
        let asked = self.call.envelope.service_tier.as_deref();
        let tier = self.report.service_tier.as_deref().or(asked);
        let wished = self.call.envelope.geo.as_deref();
        let wished = wished.filter(|_| !self.dropped.iter().any(|field| &**field == GEO_FIELD));
        let geo = self.report.geo.as_deref().or(wished);
        let (region, factor) = (target.region.as_deref(), target.price.factor);
        entry.cost(usage, &PriceTerms { tier, region, geo, at: Some(self.quote.at), factor })
    }

    fn record(&self, ending: Ending<'_>, usage: Usage, source: UsageSource, charge: Charge) -> UsageRecord {
        let asked = self.asked();
        let nobody = || Arc::from("");
        UsageRecord {
            id: self.call.id,
            at: self.quote.at,
            caller: self.caller.ids,
            operation: self.call.operation,
            model_requested: Arc::clone(&self.quote.model),
            provider: asked.as_ref().map_or_else(nobody, |target| Arc::clone(&target.provider)),
            model_served: asked.as_ref().map_or_else(nobody, |target| Arc::clone(&target.model)),
            usage,
            source,
            cost_nanos: charge.cost.nanos(),
            price_nanos: charge.price.nanos(),
            charged_nanos: 0,
            overrun_nanos: 0,
            price_version: self.offer.prices.version().short(),
            fx_e6: self.quote.fx.usd_per_unit_e6(),
            margin_bps: self.quote.margin.bps(),
            status: status(ending),
            finish: self.report.finish.as_ref().map_or_else(nobody, |finish| Arc::from(cut(finish.name()))),
            streamed: self.call.envelope.stream,
            latency_ms: millis(self.elapsed()),
            first_byte_ms: self.first_byte.map(millis),
            attempts: self.attempts.clone(),
            upstream_id: self.upstream_id.as_deref().map(|id| cut(id).into()),
            tags: self.call.tags.clone(),
            output_tokens_max_applied: self.output_tokens_max,
        }
    }
}

/// The client went away: its future or its stream was dropped.
impl Drop for OpenCall {
    fn drop(&mut self) {
        if !self.closed {
            self.log_refusal(Ending::Abandoned);
        }
    }
}

/// How records count an ending: 200, the upstream's refusal, a gateway's 502 and 504, or 499 as proxies log a client
/// that went away.
fn status(ending: Ending<'_>) -> u16 {
    match ending {
        Ending::Complete => 200,
        Ending::Abandoned => 499,
        Ending::Refused => 503,
        Ending::Failed(UpstreamError::Rejected { status, .. }) => status.as_u16(),
        Ending::Failed(UpstreamError::RateLimited { .. }) => 429,
        Ending::Failed(UpstreamError::Timeout { .. }) => 504,
        Ending::Failed(_) => 502,
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// An upstream may be wordy; records are kept for years.
fn cut(word: &str) -> &str {
    word.get(..word.floor_char_boundary(WORD_BYTES_MAX)).unwrap_or(word)
}
