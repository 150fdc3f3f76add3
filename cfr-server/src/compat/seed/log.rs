//! `POST /api/usage/log`: what became of a call that another program made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cfr_billing::outside::OutsideHold;
use cfr_core::chat::{Operation, Tags, Usage, UsageSource};
use cfr_core::id::HoldId;
use cfr_core::ledger::UsageRecord;
use cfr_core::money::{Charge, FxRate, Money};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::amount::Amount;
use super::super::body::{Body, invalid, not_found, refused};
use super::super::manager::Manager;
use super::super::payer::{Payer, Whom};
use super::super::price::{Priced, Told, usage};
use super::super::view::BudgetFields;
use super::check::REQUEST_ID_BYTES_MAX;
use super::hold_of;
use crate::auth::access::Permission;
use crate::error::ApiError;
use crate::state::App;

/// Bytes of the program's own notes that a record keeps.
const METADATA_BYTES_MAX: usize = 4 * 1024;

/// What became of a call.
#[derive(Debug, Deserialize)]
pub(super) struct LogUsage {
    #[serde(flatten)]
    whom: Whom,
    hold_id: Option<String>,
    request_id: Option<String>,
    model: Option<String>,
    provider: Option<String>,
    #[serde(alias = "prompt_tokens", alias = "input_tokens")]
    tokens_input: Option<u64>,
    #[serde(alias = "completion_tokens", alias = "output_tokens")]
    tokens_output: Option<u64>,
    /// Of the prompt, what the provider had in its cache.
    #[serde(default)]
    tokens_cached: u64,
    /// What the customer pays, in the budget's currency.
    #[serde(alias = "cost")]
    cost_total: Option<Amount>,
    /// What the provider takes, in dollars; the margin comes on top.
    #[serde(alias = "cost_usd")]
    response_cost: Option<Amount>,
    /// As HTTP counts; 200 when absent.
    status_code: Option<u16>,
    latency_ms: Option<u32>,
    metadata: Option<Map<String, Value>>,
}

/// What was booked.
#[derive(Debug, Serialize)]
pub(super) struct Logged {
    recorded: bool,
    /// It was told before, and is booked once.
    duplicate: bool,
    id: HoldId,
    request_id: Option<Box<str>>,
    user_id: Option<String>,
    model: Arc<str>,
    tokens_input: u64,
    tokens_output: u64,
    /// What the customer was charged.
    cost_total: Amount,
    /// What the budgets did not have: the operator's loss.
    overrun: Amount,
    usage_source: UsageSource,
    #[serde(flatten)]
    budget: BudgetFields,
}

/// Charges a call that another program made, once for each request: against what was held for it, or as it is.
pub(super) async fn log_usage(
    State(app): State<Arc<App>>,
    manager: Manager,
    Body(told): Body<LogUsage>,
) -> Result<Json<Logged>, ApiError> {
    manager.may(Permission::UsageWrite)?;
    told.check()?;
    let desk = app.outside();
    let named = match told.whom.is_named() {
        true => Some(Payer::from(&told.whom.caller(&app, &manager).await?)),
        false => None,
    };
    let id = told.id(&app, &manager, named.as_ref())?;
    let hold = desk.hold(id).await.map_err(refused)?.filter(|hold| manager.reaches(hold));
    let booked = desk.record(id).await.map_err(refused)?;
    if let Some(record) = booked.filter(|record| manager.view.check_tenant(record.caller.tenant).is_ok()) {
        if let Some(hold) = &hold {
            desk.end(hold).await.map_err(refused)?; // who told it first was cut off
        }
        return answer(&app, record, named, true).await;
    }
    let payer = hold.as_ref().map(Payer::from).or(named).ok_or_else(|| {
        let message = "this hold is over or unknown: name the `user_id` or `key` that is to be charged";
        ApiError::not_found("hold_not_found", message).param("hold_id")
    })?;
    let (record, charge) = told.record(&app, id, &payer, hold.as_ref())?;
    let settled = match &hold {
        Some(hold) => desk.settle(hold, record.clone()).await.map_err(refused)?,
        None => false,
    };
    if !settled {
        desk.charge(&payer.path, charge, record).await.map_err(ApiError::ledger_unavailable)?;
    }
    let record = desk.record(id).await.map_err(refused)?;
    answer(&app, record.ok_or_else(|| ApiError::internal("a booked record is not there"))?, Some(payer), false).await
}

impl Manager {
    fn reaches(&self, hold: &OutsideHold) -> bool {
        self.view.check_tenant(hold.caller.tenant).is_ok()
    }
}

impl LogUsage {
    fn check(&self) -> Result<(), ApiError> {
        if self.request_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > REQUEST_ID_BYTES_MAX) {
            return Err(invalid("request_id", format_args!("1 to {REQUEST_ID_BYTES_MAX} bytes")));
        }
        let notes = self.metadata.as_ref().and_then(|notes| serde_json::to_string(notes).ok());
        if notes.is_some_and(|notes| notes.len() > METADATA_BYTES_MAX) {
            return Err(invalid("metadata", format_args!("at most {METADATA_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// The hold that was answered, or the one of the program's own id; a new one for who has neither.
    fn id(&self, app: &App, manager: &Manager, named: Option<&Payer>) -> Result<HoldId, ApiError> {
        if let Some(id) = &self.hold_id {
            return id.parse().map_err(|_| not_found("hold"));
        }
        let tenant = named.map(|payer| payer.ids.tenant).or(manager.tenant());
        match (&self.request_id, tenant) {
            (Some(id), Some(tenant)) => Ok(hold_of(tenant, id)),
            (Some(_), None) => Err(invalid("user_id", "name a user, a `key`, or the `hold_id`")),
            (None, _) => Ok(HoldId::generate(app.clock.now())),
        }
    }

    /// How the call's price is told: what is most certain first.
    fn told(&self) -> Told {
        match (self.cost_total, self.response_cost, self.used()) {
            (Some(price), ..) => Told::Price(price),
            (None, Some(cost), _) => Told::Cost(cost),
            (None, None, Some(used)) => Told::Usage(used),
            (None, None, None) => Told::Nothing,
        }
    }

    fn used(&self) -> Option<Usage> {
        let counted = self.tokens_input.is_some() || self.tokens_output.is_some();
        counted.then(|| {
            usage(self.tokens_input.unwrap_or_default(), self.tokens_output.unwrap_or_default(), self.tokens_cached)
        })
    }

    /// The record as it is booked. What nothing tells the price of is charged with all that was held for it.
    fn record(
        &self,
        app: &App,
        id: HoldId,
        payer: &Payer,
        hold: Option<&OutsideHold>,
    ) -> Result<(UsageRecord, Charge), ApiError> {
        let offer = app.gateway.offer();
        let now = app.clock.now();
        let at = hold.map_or(now, |hold| hold.created_at);
        let fx = match hold {
            Some(hold) => FxRate::new(hold.currency, hold.fx_e6).map_err(ApiError::internal)?,
            None => offer.rate(payer.currency).map_err(ApiError::internal)?,
        };
        let asked: Arc<str> = match (&self.model, hold) {
            (Some(model), _) => model.as_str().into(),
            (None, Some(hold)) => Arc::clone(&hold.model),
            (None, None) => return Err(invalid("model", "which model was called")),
        };
        let charge = self.told().charge(Priced { offer: &offer, model: &asked, at }, fx, payer.margin)?;
        let (charge, source) = match (charge, hold) {
            (Some(charge), _) => (charge, UsageSource::External),
            (None, Some(hold)) => (flat(Money::from_nanos(hold.amount_nanos, hold.currency)), UsageSource::Estimated),
            (None, None) => return Err(self.unpriced(&asked)),
        };
        let record = UsageRecord {
            id,
            at,
            caller: payer.ids,
            operation: Operation::ChatCompletions,
            provider: self.provider.as_deref().unwrap_or_default().into(),
            model_served: Arc::clone(&asked),
            model_requested: asked,
            usage: self.used().unwrap_or_default(),
            source,
            cost_nanos: charge.cost.nanos(),
            price_nanos: charge.price.nanos(),
            charged_nanos: charge.price.nanos(),
            overrun_nanos: 0,
            price_version: offer.prices.version().short(),
            fx_e6: fx.usd_per_unit_e6(),
            margin_bps: payer.margin.bps(),
            status: self.status_code.unwrap_or(200),
            finish: "".into(),
            streamed: false,
            latency_ms: self.latency_ms.unwrap_or_default(),
            first_byte_ms: None,
            attempts: Vec::new(),
            upstream_id: None,
            tags: self.tags(),
            output_tokens_max_applied: None,
        };
        Ok((record, charge))
    }

    fn tags(&self) -> Tags {
        let metadata = self.metadata.as_ref().and_then(|notes| serde_json::to_string(notes).ok());
        Tags { request_id: self.request_id.as_deref().map(Box::from), user: None, metadata: metadata.map(Box::from) }
    }

    fn unpriced(&self, model: &str) -> ApiError {
        let message =
            format!("the model `{model}` has no price here: send `cost_total`, or `response_cost` in dollars");
        ApiError::bad_request("model_not_priced", message).param("model")
    }
}

/// Nobody knows what of it is margin.
fn flat(price: Money) -> Charge {
    Charge { cost: price, margin: Money::zero(price.currency()), price }
}

async fn answer(
    app: &App,
    record: UsageRecord,
    payer: Option<Payer>,
    duplicate: bool,
) -> Result<Json<Logged>, ApiError> {
    let budget = match payer {
        Some(payer) => BudgetFields::of(app, &payer.own_budget(app).await?).await?,
        None => BudgetFields::NONE,
    };
    Ok(Json(Logged {
        recorded: true,
        duplicate,
        id: record.id,
        request_id: record.tags.request_id,
        user_id: record.caller.user.map(|user| user.to_string()),
        model: record.model_served,
        tokens_input: record.usage.input_total(),
        tokens_output: record.usage.output_total(),
        cost_total: Amount::of_nanos(record.charged_nanos),
        overrun: Amount::of_nanos(record.overrun_nanos),
        usage_source: record.source,
        budget,
    }))
}
