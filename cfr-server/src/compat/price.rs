//! What a call that another program makes can cost, and what it did.

use cfr_core::chat::envelope::InputBound;
use cfr_core::chat::{Meter, Usage};
use cfr_core::gateway::{GatewayError, Offer};
use cfr_core::money::{Charge, FxRate, Margin, Money};
use cfr_core::price::{PicoUsd, PriceEntry, PriceTerms};
use cfr_core::time::Timestamp;

use super::amount::Amount;
use super::body::invalid;
use crate::error::ApiError;

/// A dollar has so many pico-USD.
const PICO_PLACES: u32 = 12;

/// What another program calls a model by: a model that is offered here, `provider/model`, or a model of any provider.
#[derive(Debug, Clone, Copy)]
pub(super) struct Priced<'a> {
    pub(super) offer: &'a Offer,
    pub(super) model: &'a str,
    pub(super) at: Timestamp,
}

impl<'a> Priced<'a> {
    /// Every entry that the name can mean.
    fn entries(self) -> Vec<(&'a PriceEntry, PriceTerms<'a>)> {
        let Self { offer, model, at } = self;
        let terms = PriceTerms { at: Some(at), ..PriceTerms::default() };
        if let Some(offered) = offer.routes.find(model) {
            let priced = offered.targets.iter().filter_map(|target| {
                let terms = PriceTerms { region: target.region.as_deref(), factor: target.price.factor, ..terms };
                Some((target.entry(&offer.prices, at)?, terms))
            });
            return priced.collect();
        }
        let of_provider = model.split_once('/').and_then(|(provider, model)| offer.prices.find(provider, model, at));
        if let Some(entry) = of_provider {
            return vec![(entry, terms)];
        }
        let providers = offer.prices.providers_of(model);
        providers.filter_map(|provider| Some((offer.prices.find(provider, model, at)?, terms))).collect()
    }

    /// No less than any call with so many tokens, prompt and answer together, can cost at any of them.
    ///
    /// # Errors
    /// 400 when the model has no price: unknown is never free.
    pub(super) fn bound(self, tokens: u64) -> Result<PicoUsd, ApiError> {
        let input = InputBound { text_tokens: tokens, cache_markers: true, ..InputBound::default() };
        let bounds =
            self.entries().into_iter().map(|(entry, terms)| Ok(entry.upper_bound(&input, 1, &terms)?.total(tokens)));
        let dearest =
            bounds.collect::<Result<Vec<_>, GatewayError>>().map_err(|error| self.unpriced().because(error))?;
        dearest.into_iter().max().ok_or_else(|| self.unpriced())
    }

    /// What a call that used this costs, at the dearest of them; none when no price is known.
    pub(super) fn cost(self, usage: &Usage) -> Option<PicoUsd> {
        let costs = self.entries().into_iter().map(|(entry, terms)| entry.cost(usage, &terms).ok());
        costs.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn unpriced(self) -> ApiError {
        let message = format!("the model `{}` has no price here: send `estimated_cost` or `cost_total`", self.model);
        ApiError::bad_request("model_not_priced", message).param("model")
    }
}

/// How another program says what a call cost: the price in the budget's currency, the provider's cost in dollars, or what was
/// used.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::large_enum_variant, reason = "made once per call of another program and taken apart at once")]
pub(super) enum Told {
    /// What the customer pays.
    Price(Amount),
    /// What the provider takes, in dollars; the margin comes on top.
    Cost(Amount),
    /// What was used, priced by the table here.
    Usage(Usage),
    /// Nothing.
    Nothing,
}

impl Told {
    /// Cost, margin and price; none when nothing tells the price.
    ///
    /// # Errors
    /// 422 for an amount that cannot be.
    pub(super) fn charge(self, priced: Priced<'_>, fx: FxRate, margin: Margin) -> Result<Option<Charge>, ApiError> {
        match self {
            Self::Price(amount) => {
                let price = positive("cost_total", amount)?.money(fx.currency());
                let price = price.map_err(|error| invalid("cost_total", error))?;
                Ok(Some(of_price(price, margin)))
            }
            Self::Cost(amount) => {
                let cost = pico(positive("response_cost", amount)?)?;
                Ok(Some(fx.charge(cost, margin).map_err(|error| invalid("response_cost", error))?))
            }
            Self::Usage(usage) => {
                let Some(cost) = priced.cost(&usage) else { return Ok(None) };
                Ok(Some(fx.charge(cost, margin).map_err(|error| invalid("tokens_input", error))?))
            }
            Self::Nothing => Ok(None),
        }
    }
}

/// Tokens of a prompt and of an answer.
pub(super) fn usage(input: u64, output: u64, cached: u64) -> Usage {
    let cached = cached.min(input);
    Usage::text(input - cached, output).with(Meter::CacheReadTokens, cached)
}

/// Refuses what is below zero.
pub(super) fn positive(field: &'static str, amount: Amount) -> Result<Amount, ApiError> {
    if amount.0.is_sign_negative() && !amount.0.is_zero() { Err(invalid(field, "zero or more")) } else { Ok(amount) }
}

fn pico(amount: Amount) -> Result<PicoUsd, ApiError> {
    let rounded =
        amount.0.round_dp_with_strategy(PICO_PLACES, rust_decimal::RoundingStrategy::AwayFromZero).normalize();
    let pico = rounded.mantissa().checked_mul(10_i128.pow(PICO_PLACES - rounded.scale()));
    pico.map(PicoUsd).ok_or_else(|| invalid("response_cost", "too large"))
}

/// The cost that this price comes from by the margin: down, so that no cost is made up.
fn of_price(price: Money, margin: Margin) -> Charge {
    let bps = 10_000_i128;
    let cost = i128::from(price.nanos()) * bps / (bps + i128::from(margin.bps())); // down
    let cost = Money::from_nanos(i64::try_from(cost).unwrap_or(price.nanos()), price.currency());
    let margin = Money::from_nanos(price.nanos() - cost.nanos(), price.currency());
    Charge { cost, margin, price }
}
