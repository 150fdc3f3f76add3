//! Tenants, users and keys.

use std::fmt;
use std::sync::Arc;

use cfr_core::id::{KeyId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::BudgetSpec;
use cfr_core::money::Currency;
use cfr_core::time::{TimeZone, Timestamp};
use serde::{Deserialize, Serialize};

use crate::plan::ProductVersion;

/// What a tenant is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TenantKind {
    /// The operator's own.
    Internal,
    /// For visitors.
    Demo,
    /// For building and testing.
    Development,
    /// A customer.
    Customer,
}

/// Where a tenant is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TenantStatus {
    /// Not yet in use.
    Pending,
    /// In use.
    Active,
    /// Its requests are refused.
    Suspended,
    /// Gone, kept as a tombstone.
    Deleted,
}

/// A customer organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// A short unique name in lower case.
    pub slug: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// Its own domain, unique.
    pub domain: Option<Arc<str>>,
    /// What it is for.
    pub kind: TenantKind,
    /// Where it is in its life.
    pub status: TenantStatus,
    /// Users that it may have.
    pub users_max: Option<u32>,
    /// Where its days begin.
    pub zone: TimeZone,
    /// The currency of its budgets.
    pub currency: Currency,
    /// Counts changes, from 1.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A tenant to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTenant {
    /// Lower case letters, digits and `-`.
    pub slug: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// Its own domain.
    pub domain: Option<Arc<str>>,
    /// What it is for.
    pub kind: TenantKind,
    /// Users that it may have.
    pub users_max: Option<u32>,
    /// Where its days begin.
    pub zone: TimeZone,
    /// The currency of its budgets.
    pub currency: Currency,
}

/// What to change of a tenant; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantPatch {
    /// A new name.
    pub name: Option<Arc<str>>,
    /// A new state.
    pub status: Option<TenantStatus>,
    /// A new limit of users; `Some(None)` lifts it.
    pub users_max: Option<Option<u32>>,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Runs the platform.
    Admin,
    /// Runs one tenant.
    TenantAdmin,
    /// Uses models.
    User,
    /// Tries the demo.
    Guest,
}

/// Where a user is in their life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserStatus {
    /// Signed up, not yet admitted.
    Pending,
    /// Admitted.
    Active,
    /// Locked out for now.
    Suspended,
    /// Not admitted.
    Rejected,
    /// Gone, kept as a tombstone.
    Deleted,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their tenant.
    pub tenant: TenantId,
    /// Their address as they wrote it; unique without regard to case.
    pub email: Arc<str>,
    /// Their name.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// Where they are in their life.
    pub status: UserStatus,
    /// The terms that they are on.
    pub product_version: Option<ProductVersionId>,
    /// Counts changes, from 1.
    pub version: i64,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A user to make. With a product, the user gets a budget by its terms in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// The tenant.
    pub tenant: TenantId,
    /// The address.
    pub email: Arc<str>,
    /// The name.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// The terms that they are on.
    pub product_version: Option<ProductVersionId>,
}

/// What to change of a user; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserPatch {
    /// A new name.
    pub name: Option<Arc<str>>,
    /// A new role.
    pub role: Option<Role>,
    /// A new state.
    pub status: Option<UserStatus>,
    /// New terms. They hold for new requests; the budget's limit follows with its next period.
    pub product_version: Option<ProductVersionId>,
}

/// HMAC-SHA256 of a key under the server's pepper: all that is stored of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyMac(pub [u8; 32]);

impl fmt::Debug for KeyMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMac([redacted])")
    }
}

/// What a key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyKind {
    /// Calls to models.
    Live,
    /// Calls to models, marked as tests.
    Test,
    /// Calls to models by a service without a user.
    Service,
    /// The management API.
    Admin,
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyStatus {
    /// In use.
    Active,
    /// Switched off for now.
    Disabled,
    /// Gone for good.
    Revoked,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The tenant that owns it; none for keys of the operator.
    pub tenant: Option<TenantId>,
    /// The user that it acts for; none for a service.
    pub user: Option<UserId>,
    /// For people.
    pub name: Arc<str>,
    /// What it opens.
    pub kind: KeyKind,
    /// Its first characters, to recognise it.
    pub prefix: Arc<str>,
    /// Its last four characters, to recognise it.
    pub last4: Arc<str>,
    /// Public model names that it may use, within the product's; empty for all of them.
    pub models: Vec<Arc<str>>,
    /// Where it is in its life.
    pub status: KeyStatus,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A key to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The tenant that owns it.
    pub tenant: Option<TenantId>,
    /// The user that it acts for.
    pub user: Option<UserId>,
    /// For people.
    pub name: Arc<str>,
    /// What it opens.
    pub kind: KeyKind,
    /// The secret's MAC.
    pub mac: KeyMac,
    /// The secret's first characters.
    pub prefix: Arc<str>,
    /// The secret's last four characters.
    pub last4: Arc<str>,
    /// Public model names that it may use.
    pub models: Vec<Arc<str>>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Everything that a request with a key needs to know, read at once and cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyContext {
    /// The key.
    pub key: ApiKey,
    /// The user that it acts for.
    pub user: Option<User>,
    /// The tenant; none for keys of the operator.
    pub tenant: Option<Tenant>,
    /// The terms: the user's product.
    pub product: Option<ProductVersion>,
    /// The active budgets of the path, in order: key, user, tenant, product, platform.
    pub budgets: Vec<BudgetSpec>,
}
