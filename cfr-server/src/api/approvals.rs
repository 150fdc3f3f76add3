//! `/approvals`: money that waits for a second person, and who may agree to it.
//!
//! One person may grant and take so much of a budget within a day as `money.second_person_above` says; more is a proposal
//! that another person books or rejects. Behind every act stands a person: whoever signed in, or who made the key. Only who is
//! signed in decides, so that nobody agrees with themselves through a key. A key that names the scope `ledger:adjust` is a
//! program's, and books by itself: a person with a recent proof made it for that.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use axum::http::StatusCode;
use cfr_billing::approval::{
    Alone, COUNTED_WITHIN, Consent, PERSON, PROPOSAL_LASTS, Proposal, ProposalFilter, ProposalStatus,
};
use cfr_billing::audit_log::Act;
use cfr_billing::budget::{Budget, GrantKind};
use cfr_billing::store::{NewGrant, PageRequest, StoreError};
use cfr_core::id::{BudgetId, GrantId, KeyId, ProposalId};
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::grants::Grant;
use super::guard::Acting;
use super::input::{Checks, Json, Params};
use super::money::Money;
use super::page::{Listing, page_request};
use super::problem::{Problem, Problems};
use super::{lookup, schema};
use crate::auth::access::{Permission, Subject};

/// Keys that were made by keys, until one was made by a person, at most.
const MAKERS_MAX: usize = 8;

/// Money that is granted or taken when a second person agrees.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Approval {
    /// Its id.
    #[schema(value_type = schema::ProposalId)]
    pub(crate) id: ProposalId,
    /// The budget.
    #[schema(value_type = schema::BudgetId)]
    pub(crate) budget: BudgetId,
    /// What kind of money.
    #[schema(value_type = schema::GrantKind)]
    pub(crate) kind: GrantKind,
    /// How much; negative when money is to be taken.
    pub(crate) amount: Money,
    /// Why.
    #[schema(value_type = String)]
    pub(crate) reason: Arc<str>,
    /// Where it is in its life.
    #[schema(value_type = schema::ProposalStatus)]
    pub(crate) status: ProposalStatus,
    /// The person who proposed it: the id of a user, or of a key that no user made, or `operator`.
    #[schema(value_type = String)]
    pub(crate) proposed_by: Arc<str>,
    /// When.
    #[schema(value_type = schema::Time)]
    pub(crate) proposed_at: Timestamp,
    /// Until when somebody may agree.
    #[schema(value_type = schema::Time)]
    pub(crate) expires_at: Timestamp,
    /// Who decided; null until then.
    #[schema(value_type = Option<String>)]
    pub(crate) decided_by: Option<Arc<str>>,
    /// When; null until then.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) decided_at: Option<Timestamp>,
    /// Why it was rejected.
    #[schema(value_type = Option<String>)]
    pub(crate) decision: Option<Arc<str>>,
    /// What was booked.
    #[schema(value_type = Option<schema::GrantId>)]
    pub(crate) grant: Option<GrantId>,
}

impl Approval {
    fn present(row: Proposal, currency: Currency, now: Timestamp) -> Self {
        let status = row.status_at(now);
        Self {
            id: row.id,
            budget: row.budget,
            kind: row.kind,
            amount: Money::nanos(row.amount_nanos, currency),
            reason: row.reason,
            status,
            proposed_by: row.proposed_by,
            proposed_at: row.proposed_at,
            expires_at: row.expires_at,
            decided_by: row.decided_by,
            decided_at: row.decided_at,
            decision: row.decision,
            grant: row.grant,
        }
    }
}

/// Why somebody does not agree.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rejection {
    /// Why, for the books.
    #[schema(example = "agreed with the customer on half of it", min_length = 1, max_length = 2000)]
    reason: String,
}

/// Which proposals.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ApprovalQuery {
    /// Only those in this state; `waiting` has those that expired, too.
    #[param(value_type = Option<schema::ProposalStatus>)]
    status: Option<ProposalStatus>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// List what waits for a second person, and what became of what did, the newest first.
#[utoipa::path(get, path = "/approvals", operation_id = "list_approvals", tag = "budgets", params(ApprovalQuery),
    responses((status = 200, description = "A page of proposals", body = Listing<Approval>), Problems))]
pub(crate) async fn list(
    desk: Desk,
    Params(query): Params<ApprovalQuery>,
) -> Result<Answer<Listing<Approval>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let filter = ProposalFilter { tenant: desk.view.reach().tenant(), status: query.status };
    let rows = desk.approvals().proposals(&filter, page).await?;
    let (mut shown, next) = (Vec::with_capacity(rows.items.len()), rows.next);
    for row in rows.items {
        shown.push(present(&desk, row).await?);
    }
    Ok(Answer(Listing::page(shown, next)))
}

/// Show what waits for a second person.
#[utoipa::path(get, path = "/approvals/{approval}", operation_id = "get_approval", tag = "budgets",
    params(("approval" = schema::ProposalId, Path, description = "Id")),
    responses((status = 200, description = "The proposal", body = Approval), Problems))]
pub(crate) async fn show(desk: Desk, Path(approval): Path<String>) -> Result<Answer<Approval>, Problem> {
    let row = found(&desk, &approval).await?;
    Ok(Answer(present(&desk, row).await?))
}

/// Agree: the money is booked at once, in one transaction with the consent. Whoever proposed it cannot, and no key can.
#[utoipa::path(post, path = "/approvals/{approval}/approve", operation_id = "approve_proposal", tag = "budgets",
    params(("approval" = schema::ProposalId, Path, description = "Id")),
    responses((status = 201, description = "The grant", body = Grant), Problems))]
pub(crate) async fn approve(
    desk: Desk,
    Acting(act): Acting,
    Path(approval): Path<String>,
) -> Result<(StatusCode, Answer<Grant>), Problem> {
    let proposal = found(&desk, &approval).await?;
    require_person(&desk)?;
    let spec = desk.store.budget(proposal.budget).await?.spec;
    let row = desk.grant(&proposal.to_grant(&act)).await?;
    Ok((StatusCode::CREATED, Answer(Grant::present(row, spec.currency))))
}

/// Do not agree: nothing is booked. Whoever proposed it cannot, and no key can.
#[utoipa::path(post, path = "/approvals/{approval}/reject", operation_id = "reject_proposal", tag = "budgets",
    params(("approval" = schema::ProposalId, Path, description = "Id")), request_body = Rejection,
    responses((status = 200, description = "The proposal as it is now", body = Approval), Problems))]
pub(crate) async fn reject(
    desk: Desk,
    Acting(act): Acting,
    Path(approval): Path<String>,
    Json(body): Json<Rejection>,
) -> Result<Answer<Approval>, Problem> {
    let proposal = found(&desk, &approval).await?;
    require_person(&desk)?;
    let mut checks = Checks::default();
    checks.text("reason", &body.reason);
    checks.finish()?;
    let row = desk.approvals().reject_proposal(proposal.id, &body.reason, &act).await?;
    Ok(Answer(present(&desk, row).await?))
}

/// Whose consent a grant of whoever acts has: everybody's own, as far as that goes.
pub(super) async fn consent(desk: &Desk, act: &Act) -> Result<Consent, Problem> {
    Ok(alone(desk, act).await?.map_or(Consent::NotNeeded, Consent::Alone))
}

/// Passes a change of a limit by an amount that one person may grant alone.
///
/// # Errors
/// 403 when it is more: then the difference is granted, and another person agrees to it.
pub(super) async fn check_alone(desk: &Desk, budget: BudgetId, nanos: i64, act: &Act) -> Result<(), Problem> {
    let Some(alone) = alone(desk, act).await? else { return Ok(()) };
    desk.balance(budget).await?; // opens the period: then the change books a grant, and counts
    let mut amounts = vec![nanos];
    let mut page = PageRequest::default();
    loop {
        let grants = desk.store.grants(budget, page).await?;
        let recent = grants.items.iter().take_while(|grant| grant.at >= alone.since);
        amounts.extend(recent.filter(|grant| alone.counts(grant)).map(|grant| grant.amount_nanos));
        page.after = grants.next.filter(|_| grants.items.last().is_some_and(|grant| grant.at >= alone.since));
        if page.after.is_none() {
            return Ok(alone.check(amounts.into_iter())?);
        }
    }
}

/// What whoever acts may do alone; none for everything.
async fn alone(desk: &Desk, act: &Act) -> Result<Option<Alone>, Problem> {
    let Some(nanos_max) = desk.second_person_above() else { return Ok(None) };
    let person = match desk.access.subject {
        Subject::Key(id) => match behind(desk, id).await? {
            Some(person) => person,
            None => return Ok(None),
        },
        _ => act.by.label(),
    };
    let since = act.at.checked_sub(jiff::SignedDuration::try_from(COUNTED_WITHIN).unwrap_or_default());
    Ok(Some(Alone { person, nanos_max, since: since.unwrap_or(Timestamp::MIN) }))
}

/// The person behind a key; none for a program's.
async fn behind(desk: &Desk, key: KeyId) -> Result<Option<Arc<str>>, StoreError> {
    let mut key = desk.any_key(key).await?;
    if key.rules.scopes.iter().any(|scope| **scope == *Permission::LedgerAdjust.name()) {
        return Ok(None);
    }
    for _ in 0..MAKERS_MAX {
        match key.created_by.as_deref().map(str::parse) {
            Some(Ok(maker)) => key = desk.any_key(maker).await?,
            _ => break,
        }
    }
    let maker = key.created_by.filter(|maker| maker.starts_with(PERSON));
    Ok(Some(maker.unwrap_or_else(|| key.id.to_string().into())))
}

/// Keeps a grant for a second person to agree to.
pub(super) async fn propose(desk: &Desk, budget: &Budget, new: &NewGrant, act: &Act) -> Result<Approval, Problem> {
    let Consent::Alone(alone) = &new.consent else { return Err(Problem::internal("a consent that nobody asked for")) };
    let proposal = Proposal {
        id: ProposalId::generate(act.at),
        budget: new.budget,
        tenant: budget.tenant,
        kind: new.kind,
        amount_nanos: new.amount,
        idempotency_key: Arc::clone(&new.idempotency_key),
        reason: Arc::clone(&new.reason),
        overcommit: new.overcommit,
        status: ProposalStatus::Waiting,
        proposed_by: Arc::clone(&alone.person),
        proposed_at: act.at,
        expires_at: act.at + PROPOSAL_LASTS,
        decided_by: None,
        decided_at: None,
        decision: None,
        grant: None,
    };
    let kept = desk.approvals().add_proposal(&proposal, act).await?;
    Ok(Approval::present(kept, budget.spec.currency, act.at))
}

/// Passes who is signed in as themselves.
fn require_person(desk: &Desk) -> Result<(), Problem> {
    match (desk.access.subject, desk.access.impersonated) {
        (Subject::User(..), None) => Ok(()),
        _ => Err(Problem::forbidden("a second person decides: sign in, no key can")),
    }
}

/// A proposal within reach.
async fn found(desk: &Desk, id: &str) -> Result<Proposal, Problem> {
    let proposal = desk.approvals().proposal(lookup::id(id, "proposal")?).await?;
    desk.within(proposal.tenant).map_err(|_| Problem::not_found("proposal"))?;
    Ok(proposal)
}

async fn present(desk: &Desk, row: Proposal) -> Result<Approval, Problem> {
    let currency = desk.store.budget(row.budget).await?.spec.currency;
    Ok(Approval::present(row, currency, desk.now()))
}
