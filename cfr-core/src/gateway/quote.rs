//! The worst-case price of a call over every target that may answer it.

use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;

use super::{BudgetExceeded, Caller, GatewayConfig, GatewayError, Offer};
use crate::chat::Call;
use crate::ledger::AuthorizeError;
use crate::money::{Currency, FxRate, Margin, Money};
use crate::price::{Bound, PicoUsd, PriceError, PriceTerms};
use crate::route::Plan;

/// What a call can cost at the most, and what is needed to price it again when it is settled.
#[derive(Debug)]
pub(super) struct Quote {
    /// The worst-case price of the call as asked for.
    pub(super) amount: Money,
    /// The worst-case price of the shortest answer that is worth having.
    pub(super) amount_min: Money,
    /// The public model.
    pub(super) model: Arc<str>,
    /// When the request began; decides which prices hold.
    pub(super) at: Timestamp,
    /// Frozen for the settlement.
    pub(super) fx: FxRate,
    /// Frozen for the settlement.
    pub(super) margin: Margin,
    /// Answer tokens that were priced into `amount`.
    output_tokens: u64,
    /// Whether the caller left the cap to us.
    capped_by_us: bool,
    /// One per target.
    bounds: SmallVec<[Bound; 4]>,
}

impl Quote {
    /// Prices the worst case over all targets of the plan.
    ///
    /// A caller's own cap on answer tokens is priced as it is. Without one, the call gets the product's default or the
    /// model's maximum, and may be shortened to what the budget affords, down to the configured minimum.
    pub(super) fn worst_case(
        offer: &Offer,
        plan: &Plan,
        caller: &Caller,
        call: &Call,
        config: &GatewayConfig,
        at: Timestamp,
    ) -> Result<Self, GatewayError> {
        let fx = rate(offer, caller.currency)?;
        let bounds = bounds(offer, plan, call, at)?;
        let produces = bounds.iter().any(|bound| bound.per_output_token.0 > 0);
        let own_cap = call.envelope.output_cap.as_ref().map(|cap| cap.tokens);
        let output_tokens = match own_cap {
            Some(tokens) => tokens,
            None if produces => default_cap(&bounds, caller, &call.envelope.model)?,
            None => 0,
        };
        let capped_by_us = produces && own_cap.is_none();
        let least = if capped_by_us { output_tokens.min(config.output_tokens_min) } else { output_tokens };
        let price = |tokens| fx.hold(worst(&bounds, tokens), caller.margin).map_err(|_| GatewayError::TooLarge);
        Ok(Self {
            amount: price(output_tokens)?,
            amount_min: price(least)?,
            model: Arc::from(&*call.envelope.model),
            at,
            fx,
            margin: caller.margin,
            output_tokens,
            capped_by_us,
            bounds,
        })
    }

    /// What an answer out of the cache costs: so many hundredths of its price.
    pub(super) fn of_hit(
        offer: &Offer,
        caller: &Caller,
        call: &Call,
        cost: PicoUsd,
        percent: u8,
        at: Timestamp,
    ) -> Result<Self, GatewayError> {
        let fx = rate(offer, caller.currency)?;
        let amount = fx.charge(cost, caller.margin).map_err(|_| GatewayError::TooLarge)?.price.share(percent);
        Ok(Self {
            amount,
            amount_min: amount,
            model: Arc::from(&*call.envelope.model),
            at,
            fx,
            margin: caller.margin,
            output_tokens: 0,
            capped_by_us: false,
            bounds: SmallVec::new(),
        })
    }

    /// The cap on answer tokens that makes `held` a true bound: none when the caller set one.
    pub(super) fn output_tokens_max(&self, held: Money) -> Option<u64> {
        self.capped_by_us.then(|| {
            if held == self.amount { self.output_tokens } else { self.affordable(held).min(self.output_tokens) }
        })
    }

    /// Turns a denial into an error that says what would have been affordable.
    pub(super) fn explain(&self, error: AuthorizeError) -> GatewayError {
        match error {
            AuthorizeError::Ledger(error) => GatewayError::Ledger(error),
            AuthorizeError::Denied(denial) => {
                let output_tokens_affordable = self.affordable(denial.available);
                GatewayError::BudgetExceeded(Box::new(BudgetExceeded {
                    denial,
                    estimate: self.amount,
                    output_tokens_affordable,
                }))
            }
        }
    }

    fn affordable(&self, money: Money) -> u64 {
        let cost = self.fx.affordable(money, self.margin);
        self.bounds.iter().map(|bound| bound.output_tokens_within(cost).unwrap_or(0)).min().unwrap_or(0)
    }
}

pub(super) fn rate(offer: &Offer, currency: Currency) -> Result<FxRate, GatewayError> {
    if currency == Currency::USD {
        return Ok(FxRate::USD);
    }
    let known = offer.fx.iter().find(|rate| rate.currency() == currency);
    known.copied().ok_or(GatewayError::NoExchangeRate { currency })
}

fn bounds(offer: &Offer, plan: &Plan, call: &Call, at: Timestamp) -> Result<SmallVec<[Bound; 4]>, GatewayError> {
    let envelope = &call.envelope;
    plan.iter()
        .map(|target| {
            let unpriced = || GatewayError::ModelNotPriced { model: envelope.model.clone() };
            let entry = target.entry(&offer.prices, at).ok_or_else(unpriced)?;
            let terms = PriceTerms {
                tier: envelope.service_tier.as_deref(),
                region: target.region.as_deref(),
                geo: envelope.geo.as_deref(),
                at: Some(at),
                factor: target.price.factor,
            };
            Ok(entry.upper_bound(&envelope.input, envelope.choices, &terms)?)
        })
        .collect()
}

/// The smallest of what the targets can answer, so that every one of them takes the cap.
pub(super) fn default_cap(bounds: &[Bound], caller: &Caller, model: &str) -> Result<u64, GatewayError> {
    let of_models = bounds.iter().filter_map(|bound| bound.output_tokens_model_max).min();
    let cap = caller.output_tokens_default.into_iter().chain(of_models).min();
    cap.ok_or_else(|| PriceError::UnboundedOutput { model: model.into() }.into())
}

/// No model answers with more than its own maximum, whatever cap was asked for.
fn worst(bounds: &[Bound], output_tokens: u64) -> PicoUsd {
    let price = |bound: &Bound| bound.total(output_tokens.min(bound.output_tokens_model_max.unwrap_or(u64::MAX)));
    bounds.iter().map(price).max().unwrap_or_default()
}
