//! Budgets and the money granted to them.

use std::sync::Arc;

use cfr_core::id::{AccountId, BudgetId, GrantId, TenantId};
use cfr_core::ledger::{BudgetSpec, LimitPolicy, Scope};
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone, Timestamp};
use serde::{Deserialize, Serialize};

/// A budget as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its terms.
    #[serde(flatten)]
    pub spec: BudgetSpec,
    /// The tenant that owns it; none for product and platform budgets.
    pub tenant: Option<TenantId>,
    /// Whom it limits: the 128 bits of the key's, user's, tenant's or product's id; zero for the platform.
    pub scope_id: ScopeId,
    /// Whether requests may be charged to it.
    pub active: bool,
    /// Counts changes, from 1.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The id of whatever a budget limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeId(pub u128);

/// A budget to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBudget {
    /// Whom it limits.
    pub scope: Scope,
    /// Which of them.
    pub scope_id: ScopeId,
    /// The owner, none for product and platform budgets.
    pub tenant: Option<TenantId>,
    /// Its currency.
    pub currency: Currency,
    /// What each period is granted, in nano-units.
    pub included_nanos: i64,
    /// What happens at the limit.
    pub policy: LimitPolicy,
    /// When it begins anew.
    pub period: Period,
    /// Where its days begin.
    pub zone: TimeZone,
}

/// Which budgets are wanted; empty means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BudgetFilter {
    /// Only those of this tenant.
    pub tenant: Option<TenantId>,
    /// Only those of this scope.
    pub scope: Option<Scope>,
    /// Only those of this key, user, tenant or product.
    pub scope_id: Option<ScopeId>,
}

/// Where granted money comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrantKind {
    /// Part of every new period.
    Included,
    /// Bought.
    TopUp,
    /// Given away.
    Promo,
    /// Left over from the period before.
    Rollover,
    /// A correction by an administrator.
    Adjustment,
    /// Taken over from another system.
    Import,
}

/// Money that was granted to one period of a budget. Never changed, never deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The budget.
    pub budget: BudgetId,
    /// The account of the period.
    pub account: AccountId,
    /// Where it comes from.
    pub kind: GrantKind,
    /// In nano-units; negative when money was taken.
    pub amount_nanos: i64,
    /// Its unique key.
    pub idempotency_key: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// Who.
    pub actor: Arc<str>,
    /// When.
    pub at: Timestamp,
}
