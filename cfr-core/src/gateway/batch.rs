//! Lines of batches: let in by the same rules as calls, priced by what batches cost.

use std::sync::Arc;

use jiff::Timestamp;

use super::quote::{default_cap, rate};
use super::{Caller, Gateway, GatewayError, Offer};
use crate::batch::BatchModel;
use crate::chat::{Call, Envelope, EnvelopeError, Usage};
use crate::money::{Currency, FxRate};
use crate::price::{Bound, PicoUsd, PriceError, PriceTerms, Tier};
use crate::route::Target;

/// A line that its caller may send, and how.
#[derive(Debug)]
pub struct AdmittedLine {
    /// The line, as hooks left it.
    pub call: Call,
    /// Who is to answer.
    pub target: Arc<Target>,
    /// The cap to set on answer tokens because the caller set none.
    pub output_tokens_max: Option<u64>,
}

impl Gateway {
    /// Lets a line in as if it were a call of its own: hooks, the caller's models, a target, a price for batches. The target
    /// is the first one of the model at an upstream that `keeps` the file. Rate limits are for calls that are made now.
    ///
    /// # Errors
    /// As [`Gateway::answer`], before anything is held.
    pub async fn admit_line(
        &self,
        caller: &Caller,
        call: Call,
        keeps: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<AdmittedLine, GatewayError> {
        let (call, keeper) = self.inner.unseal(caller, self.inner.run_pre_hooks(caller, call).await?)?;
        refuse_other_service(&call.envelope)?;
        refuse_kept(&call)?;
        let (offer, at) = (self.offer(), self.inner.clock.now());
        let plan = self.inner.plan(&offer, caller, &call, keeper.as_ref(), at)?;
        let unknown = || GatewayError::UnknownModel { model: call.envelope.model.clone() };
        let target = plan.into_iter().find(|target| keeps(&target.upstream)).ok_or_else(unknown)?;
        let bound = offer.bound_in_batch(&BatchModel::of(&target, &call.envelope.model), &call.envelope, at)?;
        let needs_cap = call.envelope.output_cap.is_none() && bound.per_output_token.0 > 0;
        let cap = needs_cap.then(|| default_cap(&[bound], caller, &call.envelope.model)).transpose()?;
        Ok(AdmittedLine { call, target, output_tokens_max: cap })
    }
}

impl BatchModel {
    /// The model of a target under its public name.
    #[must_use]
    pub fn of(target: &Target, public: &str) -> Self {
        Self {
            public: public.into(),
            provider: Arc::clone(&target.provider),
            model: Arc::clone(&target.model),
            region: target.region.clone(),
            price: target.price.clone(),
        }
    }
}

impl Offer {
    /// The rate for the currency of somebody's budgets.
    ///
    /// # Errors
    /// [`GatewayError::NoExchangeRate`].
    pub fn rate(&self, currency: Currency) -> Result<FxRate, GatewayError> {
        rate(self, currency)
    }

    /// The most that a line costs in a batch that begins at a moment. The line has its cap already.
    ///
    /// # Errors
    /// When it has no price for batches, or nothing bounds it.
    pub fn batch_cost_max(
        &self,
        model: &BatchModel,
        envelope: &Envelope,
        at: Timestamp,
    ) -> Result<PicoUsd, GatewayError> {
        refuse_other_service(envelope)?;
        let bound = self.bound_in_batch(model, envelope, at)?;
        let model_max = bound.output_tokens_model_max;
        let tokens = match &envelope.output_cap {
            Some(cap) => cap.tokens.min(model_max.unwrap_or(u64::MAX)),
            None if bound.per_output_token.0 == 0 => 0,
            None => model_max.ok_or_else(|| PriceError::UnboundedOutput { model: (&*model.public).into() })?,
        };
        Ok(bound.total(tokens))
    }

    /// What a line did cost in a batch that began at a moment.
    ///
    /// # Errors
    /// When something that was used has no price.
    pub fn batch_cost(&self, model: &BatchModel, usage: &Usage, at: Timestamp) -> Result<PicoUsd, PriceError> {
        let unknown = || PriceError::UnknownModel { model: (&*model.public).into() };
        let entry = model.price.find(&self.prices, &model.provider, &model.model, at).ok_or_else(unknown)?;
        entry.cost(usage, &terms(model, at))
    }

    fn bound_in_batch(&self, model: &BatchModel, envelope: &Envelope, at: Timestamp) -> Result<Bound, GatewayError> {
        let unpriced = || GatewayError::ModelNotPriced { model: (&*model.public).into() };
        let entry = model.price.find(&self.prices, &model.provider, &model.model, at).ok_or_else(unpriced)?;
        Ok(entry.batch_upper_bound(&envelope.input, envelope.choices, &terms(model, at))?)
    }
}

fn terms(model: &BatchModel, at: Timestamp) -> PriceTerms<'_> {
    let (region, factor) = (model.region.as_deref(), model.price.factor);
    PriceTerms { tier: Some(Tier::Batch.name()), region, geo: None, at: Some(at), factor }
}

/// What a provider keeps for others must not be read by guessing its name.
fn refuse_kept(call: &Call) -> Result<(), GatewayError> {
    let Some(kept) = &call.envelope.refers_to else { return Ok(()) };
    let reason = "a batch does not go on from what is kept".into();
    Err(EnvelopeError::Field { param: kept.field, reason }.into())
}

/// A batch is a service of its own, and its answers do not stream.
fn refuse_other_service(envelope: &Envelope) -> Result<(), GatewayError> {
    let wrong = |param, reason: &str| Err(EnvelopeError::Field { param, reason: reason.into() }.into());
    match envelope.service_tier.as_deref() {
        _ if envelope.stream => wrong("stream", "the answers of a batch do not stream"),
        None | Some("auto" | "default" | "batch") => Ok(()),
        Some(_) => wrong("service_tier", "a batch has no other tier"),
    }
}
