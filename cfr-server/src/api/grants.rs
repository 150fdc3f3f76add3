//! `/budgets/{budget}/grants`: money added to a budget or taken from it. Append-only, each with a reason and a unique key.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use cfr_billing::budget::{Grant as Row, GrantKind};
use cfr_billing::store::{NewGrant, StoreError};
use cfr_core::id::{BudgetId, GrantId};
use cfr_core::money::{Currency, Money as Amount};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::approvals::{self, Approval};
use super::budgets::require_currency;
use super::desk::Desk;
use super::guard::Acting;
use super::idempotency::IDEMPOTENCY_KEY;
use super::input::{Checks, Json, Params, WORD_CHARS_MAX};
use super::money::Money;
use super::page::{Listing, page_request};
use super::problem::{Problem, Problems};
use super::{lookup, schema};

/// Money that was granted to one period of a budget. Never changed, never deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Grant {
    /// Its id.
    #[schema(value_type = schema::GrantId)]
    pub(crate) id: GrantId,
    /// The budget.
    #[schema(value_type = schema::BudgetId)]
    pub(crate) budget: BudgetId,
    /// Where it comes from.
    #[schema(value_type = schema::GrantKind)]
    pub(crate) kind: GrantKind,
    /// How much; negative when money was taken.
    pub(crate) amount: Money,
    /// Why.
    #[schema(value_type = String)]
    pub(crate) reason: Arc<str>,
    /// Who: the id of an admin key, `operator`, or a part of the system.
    #[schema(value_type = String)]
    pub(crate) actor: Arc<str>,
    /// The unique key under which it was booked.
    #[schema(value_type = String)]
    pub(crate) idempotency_key: Arc<str>,
    /// When.
    #[schema(value_type = schema::Time)]
    pub(crate) at: Timestamp,
}

impl Grant {
    pub(super) fn present(row: Row, currency: Currency) -> Self {
        Self {
            id: row.id,
            budget: row.budget,
            kind: row.kind,
            amount: Money::nanos(row.amount_nanos, currency),
            reason: row.reason,
            actor: row.actor,
            idempotency_key: row.idempotency_key,
            at: row.at,
        }
    }
}

/// Money to grant, or to take with a negative amount.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateGrant {
    /// `top_up`, `promo`, `import` or `adjustment`; the first when absent, the last for a negative amount.
    #[schema(value_type = Option<schema::GrantKind>)]
    pub(crate) kind: Option<GrantKind>,
    /// How much, in the budget's currency. Negative takes money away.
    pub(crate) amount: Money,
    /// Why, for the books.
    #[schema(example = "refund for the outage of 3 May", min_length = 1, max_length = 2000)]
    pub(crate) reason: String,
    /// Take money although less is left than is already used. Nothing new is then held until the next period.
    #[serde(default)]
    pub(crate) overcommit: bool,
}

impl CreateGrant {
    fn check(self, currency: Currency) -> Result<(GrantKind, i64, Arc<str>), Problem> {
        let mut checks = Checks::default();
        let nanos = self.amount.check("amount", &mut checks).map_or(0, Amount::nanos);
        let kind = self.kind.unwrap_or(if nanos < 0 { GrantKind::Adjustment } else { GrantKind::TopUp });
        let by_hand = [GrantKind::TopUp, GrantKind::Promo, GrantKind::Adjustment, GrantKind::Import];
        checks.require(
            by_hand.contains(&kind),
            "kind",
            "one of top_up, promo, adjustment, import; the others are made by the ledger",
        );
        checks.require(nanos >= 0 || kind == GrantKind::Adjustment, "kind", "a negative amount is an adjustment");
        checks.require(nanos != 0, "amount.amount", "not zero");
        checks.text("reason", &self.reason);
        require_currency(&mut checks, "amount", &self.amount, currency);
        checks.finish()?;
        Ok((kind, nanos, self.reason.into()))
    }
}

/// The caller's unique key of a mutation.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let key = parts.headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
        let good = (1..=WORD_CHARS_MAX).contains(&key.len());
        let missing =
            "send `idempotency-key`: 1 to 64 characters that no other grant has; a repetition with it changes nothing";
        if good { Ok(Self(key.into())) } else { Err(Problem::bad_request(missing)) }
    }
}

/// Which grants.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GrantQuery {
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List the grants of a budget, the newest first.
#[utoipa::path(get, path = "/budgets/{budget}/grants", operation_id = "list_grants", tag = "budgets",
    params(("budget" = schema::BudgetId, Path, description = "Id"), GrantQuery),
    responses((status = 200, description = "A page of grants", body = Listing<Grant>), Problems))]
pub(crate) async fn list(
    desk: Desk,
    Path(budget): Path<String>,
    Params(query): Params<GrantQuery>,
) -> Result<Answer<Listing<Grant>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let spec = desk.store.budget(lookup::id(&budget, "budget")?).await?.spec;
    let rows = desk.store.grants(spec.id, page).await?;
    Ok(Answer(Listing::of(rows, |row| Grant::present(row, spec.currency))))
}

/// Grant money to a budget's current period, or take some. A repetition with the same key gives the first one's answer. What is
/// more than one person may grant alone waits for another one: see `/approvals`.
#[utoipa::path(post, path = "/budgets/{budget}/grants", operation_id = "create_grant", tag = "budgets", request_body = CreateGrant,
    params(("budget" = schema::BudgetId, Path, description = "Id"),
        ("idempotency-key" = String, Header, description = "1 to 64 characters that no other grant has")),
    responses((status = 201, description = "The grant", body = Grant),
        (status = 202, description = "It waits for a second person", body = Approval), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Path(budget): Path<String>,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    Json(body): Json<CreateGrant>,
) -> Result<Response, Problem> {
    let known = desk.store.budget(lookup::id(&budget, "budget")?).await?;
    let spec = &known.spec;
    let overcommit = body.overcommit;
    let (kind, amount, reason) = body.check(spec.currency)?;
    let consent = approvals::consent(&desk, &act).await?;
    let actor = Arc::clone(&act.by);
    let new = NewGrant { budget: spec.id, kind, amount, idempotency_key, reason, actor, overcommit, consent };
    match desk.grant(&new).await {
        Ok(row) => Ok((StatusCode::CREATED, Answer(Grant::present(row, spec.currency))).into_response()),
        Err(StoreError::NeedsSecondPerson) => {
            let waiting = approvals::propose(&desk, &known, &new, &act).await?;
            Ok((StatusCode::ACCEPTED, Answer(waiting)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
