//! `POST /api/check-budget`: may a call be made that another program makes, and what is held for it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cfr_billing::outside::OutsideHold;
use cfr_core::gateway::Caller;
use cfr_core::id::HoldId;
use cfr_core::ledger::{BudgetLedger, Denial};
use cfr_core::money::{FxRate, Money};
use cfr_core::time::Timestamp;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::amount::Amount;
use super::super::body::{Body, invalid, refused};
use super::super::holds::{OutsideDesk, ReserveError};
use super::super::manager::Manager;
use super::super::payer::{Payer, Whom};
use super::super::price::{Priced, positive};
use super::super::view::{BudgetFields, moment};
use super::hold_of;
use crate::auth::access::Permission;
use crate::error::ApiError;
use crate::state::App;

/// How long an amount is held when nobody says.
const HOLD_SECONDS_DEFAULT: u32 = 600;
/// How long at the most.
const HOLD_SECONDS_MAX: u32 = 86_400;
/// Bytes of another program's id of a request.
pub(super) const REQUEST_ID_BYTES_MAX: usize = 256;

/// A call that another program wants to make.
#[derive(Debug, Deserialize)]
pub(super) struct CheckBudget {
    #[serde(flatten)]
    whom: Whom,
    model: String,
    /// The price of the call at the most, in the budget's currency.
    estimated_cost: Option<Amount>,
    /// Tokens of the call at the most, prompt and answer together.
    tokens: Option<u64>,
    /// Whether the amount is held; else the answer is advice.
    reserve: Option<bool>,
    /// The program's own id of the request.
    request_id: Option<String>,
    hold_seconds: Option<u32>,
}

/// The answer when the call may be made.
#[derive(Debug, Serialize)]
struct Allowed {
    allowed: bool,
    /// Nothing is held: another call may take the money first.
    advisory: bool,
    hold_id: Option<HoldId>,
    request_id: Option<String>,
    expires_at: Option<String>,
    estimated_cost: Option<Amount>,
    #[serde(flatten)]
    budget: BudgetFields,
}

/// Whether a call may be made. With `reserve`, or a `request_id`, its price at the most is held until `/api/usage/log` tells
/// what became of it.
pub(super) async fn check_budget(
    State(app): State<Arc<App>>,
    manager: Manager,
    Body(ask): Body<CheckBudget>,
) -> Result<Response, ApiError> {
    manager.may(Permission::UsageWrite)?;
    let caller = ask.whom.caller(&app, &manager).await?;
    if !caller.models.allows(&ask.model) {
        let message = format!("the model `{}` is not allowed here", ask.model);
        return Err(ApiError::new(StatusCode::FORBIDDEN, "permission_error", "model_not_allowed", message));
    }
    let now = app.clock.now();
    let offer = app.gateway.offer();
    let fx = offer.rate(caller.currency).map_err(ApiError::internal)?;
    let estimate = ask.estimate(Priced { offer: &offer, model: &ask.model, at: now }, fx, &caller)?;
    match ask.reserves() {
        true => reserve(&app, &ask, &caller, fx, estimate, now).await,
        false => advise(&app, &caller, estimate).await,
    }
}

impl CheckBudget {
    /// Who sends an id of the request settles by it; who sends none, and does not ask for a hold, expects none.
    fn reserves(&self) -> bool {
        self.reserve.unwrap_or(self.request_id.is_some())
    }

    /// The price at the most, where one is told or follows from the tokens.
    fn estimate(&self, priced: Priced<'_>, fx: FxRate, caller: &Caller) -> Result<Option<Money>, ApiError> {
        if let Some(amount) = self.estimated_cost {
            let money = positive("estimated_cost", amount)?.money(fx.currency());
            return money.map(Some).map_err(|error| invalid("estimated_cost", error));
        }
        let Some(tokens) = self.tokens else { return Ok(None) };
        let held = fx.hold(priced.bound(tokens)?, caller.margin);
        held.map(Some).map_err(|error| invalid("tokens", error))
    }

    fn hold(&self, caller: &Caller, fx: FxRate, amount: Money, now: Timestamp) -> Result<OutsideHold, ApiError> {
        let id = match &self.request_id {
            Some(id) if id.is_empty() || id.len() > REQUEST_ID_BYTES_MAX => {
                return Err(invalid("request_id", format_args!("1 to {REQUEST_ID_BYTES_MAX} bytes")));
            }
            Some(id) => hold_of(caller.ids.tenant, id),
            None => HoldId::generate(now),
        };
        let seconds = self.hold_seconds.unwrap_or(HOLD_SECONDS_DEFAULT);
        if !(1..=HOLD_SECONDS_MAX).contains(&seconds) {
            return Err(invalid("hold_seconds", format_args!("1 to {HOLD_SECONDS_MAX}")));
        }
        let payer = Payer::from(caller);
        Ok(OutsideHold {
            id,
            caller: payer.ids,
            path: payer.path,
            amount_nanos: amount.nanos(),
            currency: amount.currency(),
            fx_e6: fx.usd_per_unit_e6(),
            margin_bps: payer.margin.bps(),
            model: self.model.as_str().into(),
            created_at: now,
            ends_at: now.checked_add(Duration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX),
        })
    }
}

async fn reserve(
    app: &App,
    ask: &CheckBudget,
    caller: &Caller,
    fx: FxRate,
    estimate: Option<Money>,
    now: Timestamp,
) -> Result<Response, ApiError> {
    let amount = estimate.filter(|amount| amount.nanos() > 0).ok_or_else(|| {
        invalid("estimated_cost", "to hold something, say what the call can cost at the most, or its `tokens`")
    })?;
    if app.is_halted() {
        return Err(ApiError::ledger_unavailable("the books do not agree"));
    }
    let wanted = ask.hold(caller, fx, amount, now)?;
    let hold = match app.outside().reserve(wanted).await {
        Ok(hold) => hold,
        Err(ReserveError::Denied(denial)) => return Ok(denied(app, &denial, Some(amount))),
        Err(error @ ReserveError::IdReused) => {
            let status = StatusCode::CONFLICT;
            let message = error.to_string();
            return Err(
                ApiError::new(status, "invalid_request_error", "request_id_reused", message).param("request_id")
            );
        }
        Err(ReserveError::Store(error)) => return Err(refused(error)),
        Err(ReserveError::Ledger(error)) => return Err(ApiError::ledger_unavailable(error)),
    };
    let budget = Payer::from(caller).own_budget(app).await?;
    let allowed = Allowed {
        allowed: true,
        advisory: false,
        hold_id: Some(hold.id),
        request_id: ask.request_id.clone(),
        expires_at: Some(moment(hold.ends_at)),
        estimated_cost: Some(amount.into()),
        budget: BudgetFields::of(app, &budget).await?,
    };
    Ok(Json(allowed).into_response())
}

/// Nothing is held: the answer is true for this moment only.
async fn advise(app: &App, caller: &Caller, estimate: Option<Money>) -> Result<Response, ApiError> {
    let least = estimate.unwrap_or(Money::from_nanos(1, caller.currency)); // something must be left
    for &budget in caller.path.iter() {
        let balance = app.books.escrow.balance(budget).await.map_err(ApiError::ledger_unavailable)?;
        let limited = balance.policy == cfr_core::ledger::LimitPolicy::Hard;
        if limited && balance.available.nanos() < least.nanos() {
            let denial = Denial {
                budget,
                scope: balance.scope,
                available: balance.available,
                asked: least,
                period_end: balance.period.end,
            };
            return Ok(denied(app, &denial, estimate));
        }
    }
    let budget = Payer::from(caller).own_budget(app).await?;
    let allowed = Allowed {
        allowed: true,
        advisory: true,
        hold_id: None,
        request_id: None,
        expires_at: None,
        estimated_cost: estimate.map(Amount::from),
        budget: BudgetFields::of(app, &budget).await?,
    };
    Ok(Json(allowed).into_response())
}

/// The refusal: with the status that is set for it, and with `allowed` for who reads that alone.
fn denied(app: &App, denial: &Denial, estimate: Option<Money>) -> Response {
    let decimal = |money: Money| money.to_decimal().to_string();
    let message = format!("Budget exceeded: {} left on the budget of the {}", denial.available, denial.scope.name());
    let body: Value = json!({
        "allowed": false,
        "error": {
            "message": message,
            "type": "budget_exceeded",
            "code": "budget_exceeded",
            "param": null,
            "scope": denial.scope.name(),
            "budget_id": denial.budget,
            "currency": denial.available.currency(),
            "available": decimal(denial.available),
            "estimate": estimate.map(decimal),
            "period_end": denial.period_end,
        },
    });
    (app.settings.budget_status, Json(body)).into_response()
}

impl App {
    /// Where amounts are held for other programs.
    pub(in crate::compat) fn outside(&self) -> OutsideDesk {
        OutsideDesk::new(Arc::clone(&self.books.store), Arc::clone(&self.books.escrow), Arc::clone(&self.clock))
    }
}
