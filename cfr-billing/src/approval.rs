//! Large amounts that wait for a second person: one proposes, another one books or refuses.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{BudgetId, GrantId, ProposalId, TenantId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit_log::{Act, Subject};
use crate::budget::{Grant, GrantKind};
use crate::store::{NewGrant, StoreError};

/// How long somebody may take to agree.
pub const PROPOSAL_LASTS: Duration = Duration::from_hours(7 * 24);
/// What one person grants to a budget within this time counts together.
pub const COUNTED_WITHIN: Duration = Duration::from_hours(24);
/// Why nobody agrees with themselves.
pub const OWN: &str = "it takes another person: you proposed this yourself";
/// Why a proposal is not decided again.
pub const DECIDED: &str = "somebody decided on it before";
/// Why a proposal is not decided any more.
pub const EXPIRED: &str = "nobody agreed in time: propose it again";

/// Whose consent a grant has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consent {
    /// It needs none.
    #[default]
    NotNeeded,
    /// That of one person, who may do so much alone.
    Alone(Alone),
    /// That of a second person, who books this proposal with it.
    Second(ProposalId),
}

/// What one person may do alone. What they and keys granted to the budget since, without a second person, counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// The id of the person, or a word for who has none.
    pub person: Arc<str>,
    /// In nano-units of the budget's currency.
    pub nanos_max: i64,
    /// From when on it is counted.
    pub since: Timestamp,
}

impl Alone {
    /// Whether a grant counts against what the person may do: their own, and what was booked by no person, because behind a
    /// key there may be one. What follows from terms does not.
    #[must_use]
    pub fn counts(&self, grant: &Grant) -> bool {
        let by_hand = !matches!(grant.kind, GrantKind::Included | GrantKind::Rollover);
        by_hand && grant.at >= self.since && (grant.actor == self.person || !grant.actor.starts_with(PERSON))
    }

    /// No grant that counts has a smaller id: ids begin with their moment (RFC 9562, UUIDv7).
    #[must_use]
    pub fn first_id(&self) -> GrantId {
        let millis = u128::try_from(self.since.as_millisecond()).unwrap_or_default();
        GrantId::from_u128(millis << 80)
    }

    /// Passes when these amounts together are not too much.
    ///
    /// # Errors
    /// [`StoreError::NeedsSecondPerson`].
    pub fn check(&self, amounts: impl Iterator<Item = i64>) -> Result<(), StoreError> {
        let total = amounts.map(i64::unsigned_abs).fold(0_u64, u64::saturating_add);
        if total <= self.nanos_max.unsigned_abs() { Ok(()) } else { Err(StoreError::NeedsSecondPerson) }
    }
}

/// What the ids of people begin with.
pub const PERSON: &str = "usr_";

/// Where a proposal is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProposalStatus {
    /// Nobody decided yet.
    Waiting,
    /// A second person agreed, and it was booked.
    Approved,
    /// A second person did not agree.
    Rejected,
    /// Nobody decided in time.
    Expired,
}

/// Money that is granted or taken when a second person agrees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its id.
    pub id: ProposalId,
    /// The budget.
    pub budget: BudgetId,
    /// The tenant that owns the budget.
    pub tenant: Option<TenantId>,
    /// What kind of money.
    pub kind: GrantKind,
    /// In nano-units of the budget's currency; negative takes money away.
    pub amount_nanos: i64,
    /// The unique key under which it is booked.
    pub idempotency_key: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// Whether it may leave less than is already used.
    pub overcommit: bool,
    /// Where it is in its life. Whether it expired says [`Proposal::status_at`].
    pub status: ProposalStatus,
    /// The person who proposed it: who made the key, where one was used.
    pub proposed_by: Arc<str>,
    /// When.
    pub proposed_at: Timestamp,
    /// Until when somebody may agree.
    pub expires_at: Timestamp,
    /// Who decided.
    pub decided_by: Option<Arc<str>>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// Why.
    pub decision: Option<Arc<str>>,
    /// What was booked.
    pub grant: Option<GrantId>,
}

impl Proposal {
    /// Where it is in its life at `now`.
    #[must_use]
    pub fn status_at(&self, now: Timestamp) -> ProposalStatus {
        match self.status {
            ProposalStatus::Waiting if self.expires_at <= now => ProposalStatus::Expired,
            status => status,
        }
    }

    /// What is booked when `act` is the consent to it.
    #[must_use]
    pub fn to_grant(&self, act: &Act) -> NewGrant {
        NewGrant {
            budget: self.budget,
            kind: self.kind,
            amount: self.amount_nanos,
            idempotency_key: Arc::clone(&self.idempotency_key),
            reason: Arc::clone(&self.reason),
            actor: Arc::clone(&act.by),
            overcommit: self.overcommit,
            consent: Consent::Second(self.id),
        }
    }

    /// The proposal after `act` agreed, and `grant` was booked.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is decided or expired, or `act` is of who proposed it.
    pub fn approved(&self, grant: GrantId, act: &Act) -> Result<Self, StoreError> {
        Ok(Self { grant: Some(grant), ..self.decided(ProposalStatus::Approved, None, act)? })
    }

    /// The proposal after `act` did not agree.
    ///
    /// # Errors
    /// As [`Proposal::approved`].
    pub fn rejected(&self, why: &str, act: &Act) -> Result<Self, StoreError> {
        self.decided(ProposalStatus::Rejected, Some(why.into()), act)
    }

    fn decided(&self, status: ProposalStatus, why: Option<Arc<str>>, act: &Act) -> Result<Self, StoreError> {
        self.check_open(act)?;
        let (decided_by, decided_at) = (Some(act.by.label()), Some(act.at));
        Ok(Self { status, decided_by, decided_at, decision: why, ..self.clone() })
    }

    /// Passes when `act` may decide.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is decided or expired, or `act` is of who proposed it.
    pub fn check_open(&self, act: &Act) -> Result<(), StoreError> {
        match self.status_at(act.at) {
            ProposalStatus::Waiting if act.by.label() == self.proposed_by => Err(StoreError::conflict(OWN)),
            ProposalStatus::Waiting => Ok(()),
            ProposalStatus::Expired => Err(StoreError::conflict(EXPIRED)),
            _ => Err(StoreError::conflict(DECIDED)),
        }
    }

    /// Whether the other one proposes the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.budget, self.kind, self.amount_nanos, &self.proposed_by)
            == (other.budget, other.kind, other.amount_nanos, &other.proposed_by)
    }
}

/// Which proposals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProposalFilter {
    /// Only those about budgets of this tenant.
    pub tenant: Option<TenantId>,
    /// Only those that were kept with this status: `Waiting` has those that expired, too.
    pub status: Option<ProposalStatus>,
}

impl ProposalFilter {
    /// Whether it wants a proposal.
    #[must_use]
    pub fn wants(&self, proposal: &Proposal) -> bool {
        self.tenant.is_none_or(|tenant| proposal.tenant == Some(tenant))
            && self.status.is_none_or(|status| proposal.status == status)
    }
}

impl Subject for Proposal {
    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }
}
