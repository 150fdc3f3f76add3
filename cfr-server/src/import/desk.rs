//! Writes what is taken over: looks first whether it is there, and writes only when that is wanted.

use std::sync::Arc;

use cfr_billing::audit_log::{Act, Actor, ActorKind};
use cfr_billing::budget::{BudgetFilter, NewBudget, ScopeId};
use cfr_billing::identity::{NewTenant, Tenant, User};
use cfr_billing::outside::{Named, NamedKind, OutsideName, is_name};
use cfr_billing::people::Admission;
use cfr_billing::store::{PageRequest, StoreError};
use cfr_core::chat::{Operation, Tags, Usage, UsageSource};
use cfr_core::id::{BudgetId, RequestId, TenantId};
use cfr_core::ledger::{CallerIds, LimitPolicy, Scope, UsageRecord};
use cfr_core::money::{Charge, Currency, Money};
use cfr_core::time::{Period, Timestamp};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::report::Outcome;
use crate::auth::{KeyText, KeyWish, Sha256Digest};
use crate::compat::holds::OutsideDesk;
use crate::compat::names::{self, SOURCE};
use crate::state::Books;

/// Decimal places of an amount.
const PLACES: u32 = 9;

/// Where things are written, if they are.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) books: &'a Books,
    pub(super) act: Act,
    /// Whether anything is written.
    pub(super) apply: bool,
    /// The tool whose names are kept.
    source: &'static str,
}

/// A budget as it was there.
#[derive(Debug, Clone)]
pub(super) struct OldBudget {
    pub(super) scope: Scope,
    pub(super) scope_id: u128,
    /// What each period includes; none for no limit.
    pub(super) limit: Option<i64>,
    /// What was spent in the current one.
    pub(super) spent: i64,
    pub(super) period: Period,
}

impl<'a> Desk<'a> {
    pub(super) fn new(books: &'a Books, apply: bool, source: &'static str) -> Self {
        let act = Act { by: Arc::new(Actor::of_kind(ActorKind::Operator)), at: books.clock.now() };
        Self { books, act, apply, source }
    }

    /// What stands here for an id of the source, from this import or one before.
    ///
    /// # Errors
    /// In words for the report.
    pub(super) async fn named(&self, kind: NamedKind, name: &str) -> Result<Option<Named>, String> {
        Ok(self.books.store.outside_name(kind, name).await.map_err(told)?.map(|known| known.named))
    }

    /// Keeps the source's id of a thing.
    ///
    /// # Errors
    /// In words for the report.
    pub(super) async fn keep_name(
        &self,
        named: Named,
        tenant: Option<TenantId>,
        name: &str,
        mut notes: Map<String, Value>,
    ) -> Result<(), String> {
        if !is_name(name) {
            return Err("its id is too long".to_owned());
        }
        notes.insert(SOURCE.to_owned(), self.source.into());
        let kept = OutsideName { named, name: name.into(), tenant, notes };
        self.books.store.keep_outside_name(&kept, &self.act).await.map_err(told)
    }

    /// The tenant with this slug, made when it is missing; none when nothing is written.
    ///
    /// # Errors
    /// In words for the report.
    pub(super) async fn tenant(&self, new: &NewTenant) -> Result<(Outcome, Option<Tenant>), String> {
        if let Some(known) = self.books.store.tenant_by_slug(&new.slug).await.map_err(told)? {
            return Ok((Outcome::Kept, Some(known)));
        }
        if !self.apply {
            return Ok((Outcome::Taken, None));
        }
        let made = self.books.store.create_tenant(new, &self.act).await.map_err(told)?;
        Ok((Outcome::Taken, Some(made)))
    }

    /// The user with this address, made when they are missing; none when nothing is written.
    ///
    /// # Errors
    /// In words for the report.
    pub(super) async fn user(&self, admission: &Admission) -> Result<(Outcome, Option<User>), String> {
        if let Some(known) = self.books.store.user_by_email(&admission.user.email).await.map_err(told)? {
            return match known.tenant == admission.user.tenant || !self.apply {
                true => Ok((Outcome::Kept, Some(known))),
                false => Err("somebody of another tenant has this address".to_owned()),
            };
        }
        if !self.apply {
            return Ok((Outcome::Taken, None));
        }
        let made = self.books.store.admit(admission, &self.act).await.map_err(told)?;
        Ok((Outcome::Taken, Some(made)))
    }

    /// Makes a budget and books what was spent; one that is there stays as it is.
    ///
    /// # Errors
    /// In words for the report.
    pub(super) async fn budget(&self, old: &OldBudget, tenant: &Tenant, caller: CallerIds) -> Result<Outcome, String> {
        let filter = BudgetFilter { tenant: None, scope: Some(old.scope), scope_id: Some(ScopeId(old.scope_id)) };
        let there = self.books.store.budgets(&filter, PageRequest::default()).await.map_err(told)?.items;
        let new = NewBudget {
            scope: old.scope,
            scope_id: ScopeId(old.scope_id),
            tenant: Some(tenant.id),
            currency: tenant.currency,
            included_nanos: old.limit.unwrap_or_default(),
            policy: if old.limit.is_some() { LimitPolicy::Hard } else { LimitPolicy::Unlimited },
            period: old.period.clone(),
            zone: tenant.zone.clone(),
        };
        let (outcome, budget) = match there.into_iter().find(|budget| budget.active) {
            Some(budget) => (Outcome::Kept, budget),
            None => (Outcome::Taken, self.books.store.create_budget(&new, &self.act).await.map_err(told)?),
        };
        self.spend(budget.spec.id, old.spent, tenant.currency, caller).await?;
        Ok(outcome)
    }

    /// Books what was spent before, once for each budget.
    async fn spend(&self, budget: BudgetId, nanos: i64, currency: Currency, caller: CallerIds) -> Result<(), String> {
        let id = opening_of(self.source, budget);
        let (books, at) = (self.books, self.act.at);
        let desk = OutsideDesk::new(Arc::clone(&books.store), Arc::clone(&books.escrow), Arc::clone(&books.clock));
        if nanos <= 0 || desk.record(id).await.map_err(told)?.is_some() {
            return Ok(());
        }
        let price = Money::from_nanos(nanos, currency);
        let charge = Charge { cost: price, margin: Money::zero(currency), price };
        let record = opening(id, at, caller, nanos, self.source);
        desk.charge(&[budget], charge, record).await.map_err(|error| error.to_string())
    }

    /// Stores a key that works on here, by its text or by its SHA-256.
    ///
    /// # Errors
    /// In words for the report.
    pub(super) async fn key(&self, wish: KeyWish, secret: &OldSecret) -> Result<Outcome, String> {
        let known = self.books.keys.look_up(secret.shown()).await.map_err(told)?;
        if known.is_some() {
            return Ok(Outcome::Kept);
        }
        if !self.apply {
            return Ok(Outcome::Taken);
        }
        let stored = match secret {
            OldSecret::Text(text) => self.books.keys.import(wish, text, &self.act).await,
            OldSecret::Digest { digest, prefix, last4, .. } => {
                let hints = (Arc::clone(prefix), Arc::clone(last4));
                self.books.keys.import_digest(wish, digest, hints, &self.act).await
            }
        };
        stored.map(|_| Outcome::Taken).map_err(told)
    }
}

/// What the source kept of a key.
#[derive(Debug)]
pub(super) enum OldSecret {
    /// All of it.
    Text(KeyText),
    /// Its SHA-256, and what people recognise it by.
    Digest { digest: Sha256Digest, hex: String, prefix: Arc<str>, last4: Arc<str> },
}

impl OldSecret {
    fn shown(&self) -> &str {
        match self {
            Self::Text(text) => text.expose(),
            Self::Digest { hex, .. } => hex,
        }
    }
}

/// A short name out of a name for people.
pub(super) fn slug(name: &str) -> String {
    names::slug(name).unwrap_or_else(|| "imported".to_owned())
}

/// Billionths of a unit, rounded up: floats of other gateways have more places than money.
///
/// # Errors
/// When it is out of range, or negative.
pub(super) fn nanos(amount: Decimal) -> Result<i64, String> {
    if amount.is_sign_negative() && !amount.is_zero() {
        return Err(format!("an amount is negative: {amount}"));
    }
    let rounded = amount.round_dp_with_strategy(PLACES, RoundingStrategy::AwayFromZero);
    Money::from_decimal(rounded, Currency::EUR).map(Money::nanos).map_err(|error| error.to_string())
}

/// What the store says, in words for the report.
pub(super) fn told(error: StoreError) -> String {
    error.to_string()
}

/// The id under which what was spent before is booked.
fn opening_of(source: &str, budget: BudgetId) -> RequestId {
    let mut hash = Sha256::new_with_prefix("opening balance:");
    hash.update(source);
    hash.update(budget.to_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    RequestId::from_bytes(id)
}

fn opening(id: RequestId, at: Timestamp, caller: CallerIds, nanos: i64, source: &str) -> UsageRecord {
    UsageRecord {
        id,
        at,
        caller,
        operation: Operation::ChatCompletions,
        model_requested: "opening balance".into(),
        provider: source.into(),
        model_served: "opening balance".into(),
        usage: Usage::default(),
        source: UsageSource::External,
        cost_nanos: nanos,
        price_nanos: nanos,
        charged_nanos: nanos,
        overrun_nanos: 0,
        price_version: 0,
        fx_e6: 1_000_000,
        margin_bps: 0,
        status: 200,
        finish: "".into(),
        streamed: false,
        latency_ms: 0,
        first_byte_ms: None,
        attempts: Vec::new(),
        upstream_id: None,
        tags: Tags::default(),
        output_tokens_max_applied: None,
    }
}
