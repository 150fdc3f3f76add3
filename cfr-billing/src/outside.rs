//! What other programs were told: amounts that are held for calls which they make themselves, and the names under which they
//! know what is here.
//!
//! A program beside the gateway asks before its call and tells afterwards. What it asked for waits as the rights of a life of
//! its own in the ledger ([`Escrow::set_aside`](crate::escrow::Escrow::set_aside)): no restart touches it, and it goes back when
//! nobody tells in time.

use std::fmt;
use std::sync::Arc;

use cfr_core::id::{BudgetId, HoldId, KeyId, ProductId, TenantId, UserId};
use cfr_core::ledger::CallerIds;
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::store::Incarnation;

/// How the names of lives begin whose rights are set aside for the call of another program. Each has one epoch.
pub const LIFE_PREFIX: &str = "hold:";
/// The only epoch of such a life.
const EPOCH: i64 = 1;
/// Bytes of a name: every store finds it by an index.
pub const NAME_BYTES_MAX: usize = 255;

/// An amount that is held for a call which another program makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideHold {
    /// Its id, and that of the usage record which ends it.
    pub id: HoldId,
    /// For whom; the usage record names them.
    pub caller: CallerIds,
    /// The budgets that it is held on.
    pub path: Vec<BudgetId>,
    /// How much on each, in nano-units.
    pub amount_nanos: i64,
    /// The currency of the budgets.
    pub currency: Currency,
    /// The exchange rate, frozen: millionths of a dollar per unit.
    pub fx_e6: i64,
    /// The margin, frozen: basis points.
    pub margin_bps: u32,
    /// The model that is called.
    pub model: Arc<str>,
    /// When it was asked for: which prices hold.
    pub created_at: Timestamp,
    /// When it goes back, unless somebody told what became of the call.
    pub ends_at: Timestamp,
}

impl OutsideHold {
    /// The life in the ledger whose rights are those of the hold.
    #[must_use]
    pub fn life(&self) -> Incarnation {
        life(self.id)
    }
}

/// The life in the ledger whose rights are those of a hold.
#[must_use]
pub fn life(hold: HoldId) -> Incarnation {
    Incarnation { node: format!("{LIFE_PREFIX}{hold}").into(), epoch: EPOCH }
}

/// A thing that another program has a name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Named {
    /// A tenant.
    Tenant(TenantId),
    /// A product.
    Product(ProductId),
    /// A user.
    User(UserId),
    /// A key.
    Key(KeyId),
}

/// The kinds of things that have such names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NamedKind {
    /// Tenants.
    Tenant,
    /// Products.
    Product,
    /// Users.
    User,
    /// Keys.
    Key,
}

impl NamedKind {
    /// The word that stores keep.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Product => "product",
            Self::User => "user",
            Self::Key => "key",
        }
    }
}

impl Named {
    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> NamedKind {
        match self {
            Self::Tenant(_) => NamedKind::Tenant,
            Self::Product(_) => NamedKind::Product,
            Self::User(_) => NamedKind::User,
            Self::Key(_) => NamedKind::Key,
        }
    }

    /// Its id as bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        match self {
            Self::Tenant(id) => id.to_bytes(),
            Self::Product(id) => id.to_bytes(),
            Self::User(id) => id.to_bytes(),
            Self::Key(id) => id.to_bytes(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(id) => id.fmt(f),
            Self::Product(id) => id.fmt(f),
            Self::User(id) => id.fmt(f),
            Self::Key(id) => id.fmt(f),
        }
    }
}

/// A name under which another program knows a thing here. A name stands for one thing of a kind; a thing may have several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideName {
    /// What it stands for.
    #[serde(flatten)]
    pub named: Named,
    /// The name, 1 to [`NAME_BYTES_MAX`] bytes: see [`is_name`].
    pub name: Arc<str>,
    /// The tenant of the thing.
    pub tenant: Option<TenantId>,
    /// What that program keeps with it, and wants to see again.
    #[serde(default)]
    pub notes: Map<String, Value>,
}

/// Whether every store can keep the name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains('\0')
}
