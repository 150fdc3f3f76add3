//! `/budgets/{budget}/reset`: what was spent in a budget's period is granted once more. Nothing is zeroed, and no period moves:
//! the usage stays, and the next period begins when it would have.

use std::sync::Arc;

use axum::extract::Path;
use cfr_billing::approval::Consent;
use cfr_billing::audit_log::Actor;
use cfr_billing::budget::GrantKind;
use cfr_billing::store::{CatalogStore, NewGrant, PAGE_ROWS_MAX, PageRequest, StoreError};
use cfr_core::id::BudgetId;
use cfr_core::ledger::Balance;
use serde::Deserialize;
use utoipa::ToSchema;

use super::approvals;
use super::budgets::{Budget, with_balance};
use super::desk::Desk;
use super::guard::Acting;
use super::input::{Checks, Json};
use super::precondition::Versioned;
use super::problem::{Problem, Problems};
use super::{lookup, schema};

/// Why a budget is reset.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetBudget {
    /// For the books.
    #[schema(example = "the trial begins anew", min_length = 1, max_length = 2000)]
    pub(crate) reason: String,
}

/// Let a budget be spent anew in its current period: what was spent is granted once more, and what was reset before is not
/// counted twice. A tenant's administrator resets budgets of users and keys, up to what the tenant itself has.
#[utoipa::path(post, path = "/budgets/{budget}/reset", operation_id = "reset_budget", tag = "budgets", request_body = ResetBudget,
    params(("budget" = schema::BudgetId, Path, description = "Id")),
    responses((status = 200, description = "The budget as it is now", body = Budget,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn reset(
    desk: Desk,
    Acting(act): Acting,
    Path(budget): Path<String>,
    Json(body): Json<ResetBudget>,
) -> Result<Versioned<Budget>, Problem> {
    let mut checks = Checks::default();
    checks.text("reason", &body.reason);
    checks.finish()?;
    let row = desk.store.budget(lookup::id(&budget, "budget")?).await?;
    let balance = desk.balance(row.spec.id).await?;
    let consent = approvals::consent(&desk, &act).await?;
    let grant = grant_of(&*desk.store, row.spec.id, &balance, &body.reason, (&act.by, consent)).await?;
    if let Some(grant) = grant {
        desk.grant(&grant).await?;
    }
    with_balance(&desk, row).await.map(|budget| Versioned::ok(budget.version, budget))
}

/// What a reset grants now; none when nothing was spent since the last one. Of two at once, one is booked.
pub(crate) async fn grant_of(
    store: &dyn CatalogStore,
    budget: BudgetId,
    balance: &Balance,
    reason: &str,
    (by, consent): (&Arc<Actor>, Consent),
) -> Result<Option<NewGrant>, StoreError> {
    let spent = balance.settled.nanos();
    let prefix = format!("reset:{}:", balance.account.0);
    let missing = spent.saturating_sub(granted_again(store, budget, &prefix).await?);
    Ok((missing > 0).then(|| NewGrant {
        budget,
        kind: GrantKind::Adjustment,
        amount: missing,
        idempotency_key: format!("{prefix}{spent}").into(),
        reason: reason.into(),
        actor: Arc::clone(by),
        overcommit: false,
        consent,
    }))
}

/// What resets granted to the current period so far.
async fn granted_again(store: &dyn CatalogStore, budget: BudgetId, prefix: &str) -> Result<i64, StoreError> {
    let mut page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
    let mut sum = 0_i64;
    loop {
        let grants = store.grants(budget, page).await?;
        let resets = grants.items.iter().filter(|grant| grant.idempotency_key.starts_with(prefix));
        sum = resets.fold(sum, |sum, grant| sum.saturating_add(grant.amount_nanos));
        match grants.next {
            Some(next) => page.after = Some(next),
            None => return Ok(sum),
        }
    }
}
