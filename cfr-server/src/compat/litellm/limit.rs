//! Budgets under LiteLLM's names: `max_budget`, `budget_duration`, `spend`.

use cfr_billing::budget::{Budget, NewBudget, ScopeId};
use cfr_billing::identity::Tenant;
use cfr_billing::store::CatalogStore as _;
use cfr_core::ledger::{BudgetLedger, LimitPolicy, Scope};
use cfr_core::time::{Period, Timestamp};
use serde::Serialize;

use super::super::amount::Amount;
use super::super::body::{invalid, refused};
use super::super::manager::Manager;
use super::super::view::budget_of;
use super::fields::Fields;
use crate::error::ApiError;
use crate::state::App;

/// A limit that a request sets.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    max_budget: Option<Option<Amount>>,
    period: Option<Period>,
}

/// What LiteLLM shows of a budget.
#[derive(Debug, Default, Serialize)]
pub(super) struct LimitFields {
    pub(super) spend: Option<Amount>,
    max_budget: Option<Amount>,
    budget_duration: Option<String>,
    budget_reset_at: Option<Timestamp>,
    currency: Option<String>,
}

impl Limit {
    /// Takes the fields out of a request.
    ///
    /// # Errors
    /// 400 when they are no limit.
    pub(super) fn take(fields: &mut Fields, now: Timestamp) -> Result<Self, ApiError> {
        let max_budget = fields.take_nullable::<Amount>("max_budget")?;
        if max_budget.flatten().is_some_and(|amount| amount.0.is_sign_negative() && !amount.0.is_zero()) {
            return Err(invalid("max_budget", "zero or more"));
        }
        Ok(Self { max_budget, period: fields.period("budget_duration", now)? })
    }

    /// Sets the limit of a scope: a new budget, or what each period of the one that is there includes.
    ///
    /// # Errors
    /// 422 for what cannot be changed of a budget.
    pub(super) async fn apply(
        self,
        app: &App,
        manager: &Manager,
        tenant: &Tenant,
        (scope, id): (Scope, u128),
    ) -> Result<(), ApiError> {
        let known = budget_of(app, scope, id).await.map_err(refused)?;
        let amount = match (self.max_budget, &known) {
            (None, None) if self.period.is_none() => return Ok(()),
            (None, None) => return Err(invalid("budget_duration", "there is no budget: send `max_budget`, too")),
            (Some(None), None) => return Ok(()),
            (Some(None), Some(_)) => {
                return Err(invalid("max_budget", "a budget is not taken away: set another limit"));
            }
            (Some(Some(amount)), _) => Some(amount),
            (None, Some(_)) => None,
        };
        let nanos = amount.map(|amount| amount.money(tenant.currency)).transpose();
        let nanos = nanos.map_err(|error| invalid("max_budget", error))?.map(|money| money.nanos());
        match (known, nanos) {
            (Some(budget), nanos) => {
                if self.period.is_some_and(|period| duration(&period) != duration(&budget.spec.period)) {
                    return Err(invalid("budget_duration", "periods of a budget cannot be moved"));
                }
                let Some(nanos) = nanos.filter(|nanos| *nanos != budget.spec.included_nanos) else { return Ok(()) };
                let change = manager.view.set_budget_limit(budget.spec.id, budget.version, nanos, &manager.act);
                app.books.escrow.recalled(budget.spec.id, change).await.map_err(refused)?;
            }
            (None, Some(nanos)) => {
                let new = NewBudget {
                    scope,
                    scope_id: ScopeId(id),
                    tenant: Some(tenant.id),
                    currency: tenant.currency,
                    included_nanos: nanos,
                    policy: LimitPolicy::Hard,
                    period: self.period.unwrap_or(Period::Never),
                    zone: tenant.zone.clone(),
                };
                manager.view.create_budget(&new, &manager.act).await.map_err(refused)?;
            }
            (None, None) => {}
        }
        Ok(())
    }
}

impl LimitFields {
    /// Of the budget of a scope, where it has one.
    ///
    /// # Errors
    /// When the ledger cannot tell.
    pub(super) async fn of(app: &App, scope: Scope, id: u128) -> Result<Self, ApiError> {
        let Some(budget) = budget_of(app, scope, id).await.map_err(refused)? else { return Ok(Self::default()) };
        let balance = app.books.escrow.balance(budget.spec.id).await.map_err(ApiError::ledger_unavailable)?;
        Ok(Self {
            spend: Some(balance.settled.into()),
            max_budget: limited(&budget).then(|| Amount::of_nanos(budget.spec.included_nanos)),
            budget_duration: duration(&budget.spec.period),
            budget_reset_at: balance.period.end,
            currency: Some(budget.spec.currency.code().to_owned()),
        })
    }
}

fn limited(budget: &Budget) -> bool {
    budget.spec.policy == LimitPolicy::Hard
}

/// A period in LiteLLM's words.
fn duration(period: &Period) -> Option<String> {
    match period {
        Period::Day => Some("1d".to_owned()),
        Period::Week => Some("7d".to_owned()),
        Period::EveryNDays { days, .. } => Some(format!("{days}d")),
        Period::CalendarMonth | Period::AnniversaryMonth { .. } => Some("1mo".to_owned()),
        _ => None,
    }
}
