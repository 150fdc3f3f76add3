//! Tenants, users and keys.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use cfr_core::id::{KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::BudgetSpec;
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone, Timestamp};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::plan::ProductVersion;
use crate::store::StoreError;
use crate::subscription::Subscription;

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
    /// How people join it and sign in.
    #[serde(flatten)]
    pub settings: TenantSettings,
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
    /// How people join it and sign in.
    pub settings: TenantSettings,
}

/// How people join a tenant and sign in there. Tenants of older versions have the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantSettings {
    /// Who may become a user.
    pub signup: SignupMode,
    /// Domains whose addresses may sign up, in lower case; empty for all of them.
    pub signup_domains: Vec<Arc<str>>,
    /// The product of who signs up, in its newest version, unless somebody chooses another one.
    pub signup_product: Option<ProductId>,
    /// Whether who signs up where that is [open](SignupMode::Open) is active at once: on the product, while there is a place.
    pub signup_activates: bool,
    /// Who needs a second factor.
    pub mfa_required: MfaRequired,
    /// The language of people who have not chosen one.
    pub locale: Language,
}

/// Who may become a user of a tenant. Administrators make users in every mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SignupMode {
    /// Nobody by themselves, and nobody is invited.
    Closed,
    /// Who was invited.
    #[default]
    Invite,
    /// Who was invited, and who asks: they wait until an administrator activates them.
    Request,
    /// Who was invited, and who proves an address at one of the tenant's domains. They wait, too, unless the tenant
    /// [activates](TenantSettings::signup_activates) them by itself.
    Open,
}

impl SignupMode {
    /// Whether people may be invited.
    #[must_use]
    pub const fn takes_invitations(self) -> bool {
        !matches!(self, Self::Closed)
    }

    /// Whether people may sign up without an invitation.
    #[must_use]
    pub const fn takes_sign_ups(self) -> bool {
        matches!(self, Self::Request | Self::Open)
    }
}

/// Who needs a second factor beside the password. Administrators of the platform always do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MfaRequired {
    /// Nobody of the tenant.
    Nobody,
    /// The tenant's administrators.
    #[default]
    Admins,
    /// Everybody.
    Everybody,
}

/// A language that people are written to in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Language {
    /// English.
    #[default]
    En,
    /// German.
    De,
}

impl Language {
    /// Its code (ISO 639-1).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }
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
    /// New settings, all of them.
    pub settings: Option<TenantSettings>,
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
    /// Gone for good: nothing is kept that says who it was.
    Erased,
}

impl UserStatus {
    /// Whether a user in this state takes a place of the tenant and a seat of the product.
    #[must_use]
    pub const fn takes_place(self) -> bool {
        matches!(self, Self::Active | Self::Suspended)
    }

    /// Whether a user in this state never had a place or a budget.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::Pending | Self::Rejected)
    }
}

/// Why a user is not activated.
pub const NOT_PENDING: &str = "the user is not pending";
/// Why nobody comes back from being erased.
pub const ERASED: &str = "the user was erased: nobody knows any more who it was";
/// Why a change of state alone admits nobody.
pub const NOT_ACTIVATED: &str = "the user was never activated: that gives them a place, terms and a budget";

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
    /// The terms that they are on, or of who is pending: that they would get.
    pub product_version: Option<ProductVersionId>,
    /// When they proved that they read their address.
    #[serde(default)]
    pub email_verified_at: Option<Timestamp>,
    /// The language that they chose; none for their tenant's.
    #[serde(default)]
    pub locale: Option<Language>,
    /// Counts changes, from 1.
    pub version: i64,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl User {
    /// What is left when a person is erased: an id that usage and the books go on to name.
    #[must_use]
    pub fn erased(&self, now: Timestamp) -> Self {
        Self {
            email: format!("{}@erased.invalid", self.id).into(),
            name: "".into(),
            status: UserStatus::Erased,
            email_verified_at: None,
            locale: None,
            version: self.version + 1,
            updated_at: now,
            ..self.clone()
        }
    }

    /// Passes a change that this user can undergo: erasing somebody takes more than a state.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a user who was erased, [`StoreError::Invalid`] for a patch that says so.
    pub fn check_change(&self, patch: &UserPatch) -> Result<(), StoreError> {
        self.check_not_erased()?;
        match patch.status {
            Some(UserStatus::Erased) => {
                Err(StoreError::invalid("a user is erased by `erase`, not by a change of state"))
            }
            _ => Ok(()),
        }
    }

    /// Passes who is still somebody.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a user who was erased.
    pub fn check_not_erased(&self) -> Result<(), StoreError> {
        if self.status == UserStatus::Erased { Err(StoreError::conflict(ERASED)) } else { Ok(()) }
    }
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
    /// The language that they chose.
    pub locale: Option<Language>,
}

/// What to change of a user; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserPatch {
    /// A new name.
    pub name: Option<Arc<str>>,
    /// A new role.
    pub role: Option<Role>,
    /// A new state. Nobody who is pending becomes active so: that takes an activation.
    pub status: Option<UserStatus>,
    /// A new language.
    pub locale: Option<Language>,
    /// New terms. They hold for new requests; the budget's limit follows with its next period.
    pub product_version: Option<ProductVersionId>,
}

/// Which users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Only those of this tenant.
    pub tenant: Option<TenantId>,
    /// Only those in this state.
    pub status: Option<UserStatus>,
}

impl UserFilter {
    /// The users of one tenant.
    #[must_use]
    pub const fn of_tenant(tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), status: None }
    }

    /// Whether it wants a user.
    #[must_use]
    pub fn wants(&self, user: &User) -> bool {
        self.tenant.is_none_or(|tenant| user.tenant == tenant) && self.status.is_none_or(|status| user.status == status)
    }
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
    /// What else it is bound to.
    #[serde(flatten)]
    pub rules: KeyRules,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Until when the secret before its present one works, too.
    #[serde(default)]
    pub grace_until: Option<Timestamp>,
    /// When it was last used, to some minutes.
    #[serde(default)]
    pub used_at: Option<Timestamp>,
    /// Who made it: the id of a key or a user, or a word for who has none.
    #[serde(default)]
    pub created_by: Option<Arc<str>>,
    /// Counts changes, from 1.
    #[serde(default = "first_version")]
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The version of what was kept before versions were counted.
const fn first_version() -> i64 {
    1
}

/// What a key is bound to beyond its kind and its models. Keys of older versions have the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRules {
    /// Names of permissions: what it may do in the management API.
    pub scopes: Vec<Arc<str>>,
    /// Networks that it may be used from; empty for all of them.
    pub networks: Vec<IpNet>,
    /// Requests per minute, within what the product allows.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests at the same time, within what the product allows.
    pub parallel_requests_max: Option<NonZeroU32>,
    /// Whether its requests may be made for users whom a signed header names.
    pub on_behalf_of: bool,
}

/// A budget of the key's own, made with it. Its currency and zone are the tenant's, its limit is hard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBudget {
    /// What each period is granted, in nano-units.
    pub included_nanos: i64,
    /// When it begins anew.
    pub period: Period,
}

/// What is stored of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// Its MAC.
    pub mac: KeyMac,
    /// Its first characters.
    pub prefix: Arc<str>,
    /// Its last four characters.
    pub last4: Arc<str>,
}

/// What to change of a key; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPatch {
    /// A new name.
    pub name: Option<Arc<str>>,
    /// Whether it is switched on.
    pub enabled: Option<bool>,
    /// New models.
    pub models: Option<Vec<Arc<str>>>,
    /// New rules, all of them.
    pub rules: Option<KeyRules>,
    /// A new end; `Some(None)` for none.
    pub expires_at: Option<Option<Timestamp>>,
}

/// Why a key that was revoked is not changed.
pub const REVOKED: &str = "the key was revoked for good: make another one";

impl KeyPatch {
    /// Makes the change.
    ///
    /// # Errors
    /// Of a revoked key: it stays as it is.
    pub fn apply(&self, key: &mut ApiKey) -> Result<(), StoreError> {
        key.check_lives()?;
        key.name = self.name.clone().unwrap_or_else(|| Arc::clone(&key.name));
        key.models = self.models.clone().unwrap_or_else(|| key.models.clone());
        key.rules = self.rules.clone().unwrap_or_else(|| key.rules.clone());
        key.expires_at = self.expires_at.unwrap_or(key.expires_at);
        key.status = match self.enabled {
            Some(true) => KeyStatus::Active,
            Some(false) => KeyStatus::Disabled,
            None => key.status,
        };
        key.version += 1;
        Ok(())
    }
}

impl ApiKey {
    /// Passes when the key was not revoked.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub fn check_lives(&self) -> Result<(), StoreError> {
        if self.status == KeyStatus::Revoked { Err(StoreError::conflict(REVOKED)) } else { Ok(()) }
    }

    /// Takes a new secret. The one before works until `grace_until`.
    ///
    /// # Errors
    /// Of a revoked key: it stays as it is.
    pub fn rotate(&mut self, secret: &NewSecret, grace_until: Timestamp) -> Result<(), StoreError> {
        self.check_lives()?;
        self.prefix = Arc::clone(&secret.prefix);
        self.last4 = Arc::clone(&secret.last4);
        // As a store keeps it: to the microsecond.
        self.grace_until = Timestamp::from_microsecond(grace_until.as_microsecond()).ok();
        self.version += 1;
        Ok(())
    }
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
    /// What else it is bound to.
    pub rules: KeyRules,
    /// A budget of its own.
    pub budget: Option<KeyBudget>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Everything that a request with a key needs to know, read at once and cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyContext {
    /// The key.
    pub key: ApiKey,
    /// Whether it was found by the secret before its present one.
    pub superseded: bool,
    /// The user that it acts for.
    pub user: Option<User>,
    /// The tenant; none for keys of the operator.
    pub tenant: Option<Tenant>,
    /// The terms: the user's product, or that of the tenant's subscription.
    pub product: Option<ProductVersion>,
    /// The last subscription of the user that began, or else of the tenant.
    pub subscription: Option<Subscription>,
    /// The active budgets of the path, in order: key, user, tenant, product, platform.
    pub budgets: Vec<BudgetSpec>,
}

/// Everything that a request of a user needs to know, read at once and cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserContext {
    /// The user.
    pub user: User,
    /// Their tenant.
    pub tenant: Tenant,
    /// The terms: the user's product, or that of the tenant's subscription.
    pub product: Option<ProductVersion>,
    /// The last subscription of the user that began, or else of the tenant.
    pub subscription: Option<Subscription>,
    /// The active budgets of the path, in order: key, user, tenant, product, platform.
    pub budgets: Vec<BudgetSpec>,
}
