//! What a store must do: the whole plug-in surface for money ([`LedgerStore`]) and for everything else ([`CatalogStore`]).
//!
//! Implement both, run the `conformance` suites on them, and the gateway runs on your database.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::id::{AccountId, BudgetId, HoldId, KeyId, ProductId, ProductVersionId, TenantId, UserId};
use cfr_core::ledger::{BudgetSpec, CallerIds, LimitPolicy, ReleaseReason, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::time::{PeriodWindow, Timestamp};
use smallvec::SmallVec;

use crate::budget::{Budget, BudgetFilter, Grant, GrantKind, NewBudget};
use crate::identity::{ApiKey, KeyContext, KeyMac, NewKey, NewTenant, NewUser, Tenant, TenantPatch, User, UserPatch};
use crate::plan::{NewProduct, Product, ProductVersion};
use crate::usage::{UsageDay, UsageFilter};

pub mod memory;

pub use memory::MemoryStore;

/// Rows on one page of a list, at most.
pub const PAGE_ROWS_MAX: u32 = 1_000;

/// What a store can fail with.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached, is read-only, full or broken.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// For the log.
        reason: Arc<str>,
    },
    /// There is no such row.
    #[error("no such {what}")]
    NotFound {
        /// The kind of row.
        what: &'static str,
    },
    /// A unique value is taken, or a row was changed by somebody else.
    #[error("{what}")]
    Conflict {
        /// What is in conflict.
        what: Arc<str>,
    },
    /// The store refuses the value.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: Arc<str>,
    },
    /// This incarnation of the node was declared dead: register again.
    #[error("this node's leases were taken away; it must register again")]
    Fenced,
}

impl StoreError {
    /// The database is out of reach, with the reason for the log.
    #[must_use]
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable { reason: reason.to_string().into() }
    }

    /// A value is taken, or was changed meanwhile.
    #[must_use]
    pub fn conflict(what: impl fmt::Display) -> Self {
        Self::Conflict { what: what.to_string().into() }
    }

    /// A value is refused.
    #[must_use]
    pub fn invalid(what: impl fmt::Display) -> Self {
        Self::Invalid { what: what.to_string().into() }
    }
}

// --- Money ---------------------------------------------------------------------------------------------------------

/// One life of one node: a node that lost a lease or restarted comes back under a higher epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// The node by its configured name.
    pub node: Arc<str>,
    /// Counts its lives, from 1.
    pub epoch: i64,
}

/// A wish for spending rights on a budget's current period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseAsk {
    /// The budget; its current period is opened if nobody did.
    pub budget: BudgetId,
    /// The least that helps, in nano-units; the ask fails below it. May be zero: only to open the period.
    pub min: i64,
    /// What is wanted; granted as far as there is room. `i64::MAX` asks for everything.
    pub want: i64,
}

/// Spending rights that were granted, and the account that they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGrant {
    /// The budget that was asked for.
    pub budget: BudgetId,
    /// Its current period's account.
    pub account: AccountId,
    /// Whom the budget limits.
    pub scope: Scope,
    /// The budget's currency.
    pub currency: Currency,
    /// What happens at its limit.
    pub policy: LimitPolicy,
    /// The account's period.
    pub period: PeriodWindow,
    /// Added to this incarnation's lease on the account, in nano-units.
    pub granted: i64,
}

/// Why spending rights were not granted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcquireError {
    /// A budget has less room than the least that was asked for; the one with the least room is named.
    #[error("not enough room")]
    Denied {
        /// The budget.
        budget: BudgetId,
        /// Whom it limits.
        scope: Scope,
        /// Its currency.
        currency: Currency,
        /// What it has left beyond all leases, possibly negative after a limit was lowered.
        room: i64,
        /// Its period.
        period: PeriodWindow,
    },
    /// A budget does not exist or is closed.
    #[error("{budget} does not exist or is closed")]
    UnknownBudget {
        /// The budget.
        budget: BudgetId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The accounts that a hold lies on.
pub type Accounts = SmallVec<[AccountId; 6]>;

/// One step in the life of a hold, to be made durable.
#[derive(Debug, Clone)]
pub enum Op {
    /// A hold was made.
    Open(Box<OpenedHold>),
    /// A hold was raised to a new total amount, in nano-units.
    Extend {
        /// The hold.
        hold: HoldId,
        /// Its new total.
        amount: i64,
    },
    /// What was delivered so far, to be charged if the node dies.
    Checkpoint {
        /// The hold.
        hold: HoldId,
        /// What the charge would be now, in nano-units.
        charged: i64,
        /// The record that would be written.
        record: Box<UsageRecord>,
    },
    /// A hold ended with a charge, which may be zero.
    Settle(Box<SettledHold>),
    /// A hold ended without a charge and without a record.
    Release {
        /// The hold.
        hold: HoldId,
        /// Why.
        reason: ReleaseReason,
    },
}

/// A hold as it is journaled.
#[derive(Debug, Clone)]
pub struct OpenedHold {
    /// Its id.
    pub id: HoldId,
    /// The epoch that made it.
    pub epoch: i64,
    /// Where it lies.
    pub accounts: Accounts,
    /// The amount on each account, in nano-units.
    pub amount: i64,
    /// Who asked.
    pub caller: CallerIds,
    /// The model asked for.
    pub model: Arc<str>,
    /// When the request began.
    pub at: Timestamp,
}

/// A settlement as it is booked. It carries what it needs: the hold's own row may not have been read or even written.
#[derive(Debug, Clone)]
pub struct SettledHold {
    /// The hold, and the usage record's id: the charge is booked once per id.
    pub id: HoldId,
    /// The epoch that made the hold: the charge is posted against that epoch's leases.
    pub epoch: i64,
    /// Where it lies.
    pub accounts: Accounts,
    /// The charge on each account, in nano-units.
    pub charged: i64,
    /// The usage record, complete.
    pub record: Box<UsageRecord>,
}

/// How open holds of a dead node end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OrphanPolicy {
    /// Charge what the last checkpoint says was delivered, release the rest.
    #[default]
    Evidence,
    /// Release everything.
    Release,
    /// Keep the amount counted until somebody decides.
    Suspend,
}

/// What reclaiming found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Leases that were taken back.
    pub leases: u64,
    /// Orphans that were released.
    pub released: u64,
    /// Orphans that were charged by their last checkpoint.
    pub charged: u64,
    /// Orphans that were left counted.
    pub suspended: u64,
}

/// An account as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountState {
    /// The budget.
    pub budget: BudgetId,
    /// The account of its current period.
    pub account: AccountId,
    /// Counts the periods of the budget, from 1.
    pub seq: i64,
    /// Whom the budget limits.
    pub scope: Scope,
    /// Its currency.
    pub currency: Currency,
    /// What happens at its limit.
    pub policy: LimitPolicy,
    /// The period.
    pub period: PeriodWindow,
    /// Everything granted, in nano-units.
    pub granted: i64,
    /// Everything charged.
    pub settled: i64,
    /// Everything leased to nodes and not yet charged.
    pub leased: i64,
    /// What may be used beyond `granted`: for soft and unlimited budgets, and after a limit was lowered below use.
    pub overcommit: i64,
    /// Prices that exceeded what could be charged: the operator's loss.
    pub overrun: i64,
}

impl AccountState {
    /// What can still be leased under a hard limit; negative when over-committed, because `overcommit` only says how far
    /// the books may be beyond the limit, never that more may be spent.
    #[must_use]
    pub const fn room(&self) -> i64 {
        self.granted.saturating_sub(self.settled).saturating_sub(self.leased)
    }
}

/// Durable money. Everything is append-only but the counters of accounts and leases.
///
/// # Contract
/// - Every method is one transaction: all of it happens or none.
/// - Repeating a call that may have happened is harmless: `commit` books each hold id once, grants have idempotency keys.
/// - `settled + leased <= granted + overcommit` holds for every account at every committed state.
#[async_trait]
pub trait LedgerStore: Debug + Send + Sync + 'static {
    /// Whether one node owns the store for as long as it runs. Then its leases do not expire and it may take everything.
    fn exclusive(&self) -> bool;

    /// Begins a new life of `node`. All its earlier epochs are thereby proven dead.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn register(&self, node: &str, now: Timestamp) -> Result<Incarnation, StoreError>;

    /// Grants spending rights on every budget asked for, or on none. Opens periods that nobody opened, with their
    /// included grant and what rolls over. The rights last for `ttl` on the store's clock, unless the store is exclusive.
    ///
    /// - Under a hard limit it grants `min(want, room)` where room is [`AccountState::room`], and nothing when that is
    ///   negative.
    /// - A soft or unlimited budget never denies: it grants `max(min, min(want, room))`, and what that takes beyond the
    ///   limit raises `overcommit`.
    /// - What rolls over is bought money: the sum of `TopUp`, `Promo`, `Import` and `Rollover` grants of the account
    ///   before, at most its room. It moves by two `Rollover` grants: one takes it from the old account, one adds it to
    ///   the new one. Included money is spent first and does not roll over.
    /// - A budget whose period has no next one (an ended subscription) is denied with no room.
    ///
    /// # Errors
    /// [`AcquireError::Denied`] names the budget with the least room. [`StoreError::Fenced`] when a lease of this
    /// incarnation was reclaimed or the node registered again.
    async fn acquire(
        &self,
        by: &Incarnation,
        asks: &[LeaseAsk],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<LeaseGrant>, AcquireError>;

    /// Makes steps of holds durable, in order, in one transaction. Counters change only by what was really inserted.
    ///
    /// - A settlement is booked unless its id was charged before: also when the hold's `Open` was never written, and when
    ///   the hold was released as an orphan. An `Open` after the end of its hold, and an `Extend`, `Checkpoint` or
    ///   `Release` of a hold that is not open, change nothing.
    /// - A settlement moves its charge from the lease of the hold's own epoch to `settled`. What the lease does not have
    ///   is taken from the account's room: under a hard limit the charge shrinks to what fits on every account, and the
    ///   written record says so; a soft or unlimited budget raises `overcommit` instead.
    /// - The record's overrun is added to `overrun` of every account. This sum and those of usage per day stop at the
    ///   largest number: no amount that an upstream reports may keep a batch from being written.
    ///
    /// # Errors
    /// When nothing was written. The same batch may be committed again. [`StoreError::Fenced`] as for `acquire`: the
    /// batch is then committed by the next incarnation, whose steps still name the epochs that made their holds.
    async fn commit(&self, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), StoreError>;

    /// Prolongs every lease of this incarnation and names the accounts that it still holds.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn renew(&self, by: &Incarnation, ttl: Duration, now: Timestamp) -> Result<Vec<AccountId>, StoreError>;

    /// Gives rights back, at most what the lease has left. On the account of a past period, bought money among them rolls
    /// over to the newest one as it does when a period opens.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn give_back(&self, by: &Incarnation, rights: &[(AccountId, i64)]) -> Result<(), StoreError>;

    /// Takes leases away that are proven dead (an earlier epoch of a node that registered again) or expired before
    /// `expired_before`, and ends the open holds under them by `policy`. Under [`OrphanPolicy::Suspend`] the amounts of
    /// these holds stay counted as leased, until the holds are settled or released.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn reclaim(
        &self,
        expired_before: Timestamp,
        policy: OrphanPolicy,
        now: Timestamp,
    ) -> Result<Reclaimed, StoreError>;

    /// The account of a budget's current period, opened if nobody did.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown or closed budget.
    async fn account(&self, budget: BudgetId, now: Timestamp) -> Result<AccountState, StoreError>;

    /// Every account that the budget ever had, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn accounts(&self, budget: BudgetId) -> Result<Vec<AccountState>, StoreError>;

    /// Adds money to a budget's current period, or takes some with a negative amount. A grant whose key was used before
    /// changes nothing and returns what was granted then.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the key was used with other terms, or when a negative amount would leave less than
    /// is settled and leased and `overcommit` is not set.
    async fn grant(&self, grant: &NewGrant, now: Timestamp) -> Result<Grant, StoreError>;

    /// Recomputes sums from entries and grants and names every difference; empty when the books agree.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn audit(&self) -> Result<Vec<String>, StoreError>;
}

const _: fn(&dyn LedgerStore) = |_| {};

/// Money to be added to a budget, or taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// The budget.
    pub budget: BudgetId,
    /// What kind of money.
    pub kind: GrantKind,
    /// In nano-units of the budget's currency; negative takes money away.
    pub amount: i64,
    /// Unique: a second grant with it is the first one.
    pub idempotency_key: Arc<str>,
    /// Why, for the books.
    pub reason: Arc<str>,
    /// Who did it, for the books.
    pub actor: Arc<str>,
    /// Whether it may leave less than is already used.
    pub overcommit: bool,
}

impl NewGrant {
    /// A grant that nobody asked for: it follows from the terms of the budget.
    #[must_use]
    pub fn by_terms(budget: BudgetId, kind: GrantKind, amount: i64, key: &str) -> Self {
        Self {
            budget,
            kind,
            amount,
            idempotency_key: key.into(),
            reason: "".into(),
            actor: "system".into(),
            overcommit: true,
        }
    }
}

// --- Everything else -----------------------------------------------------------------------------------------------

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, at most as many as were asked for.
    pub items: Vec<T>,
    /// Where the next page begins; none on the last one.
    pub next: Option<Cursor>,
}

/// A position in a list that is ordered by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub u128);

/// Which page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Only rows after this position.
    pub after: Option<Cursor>,
    /// At most this many rows, at most [`PAGE_ROWS_MAX`].
    pub limit: u32,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { after: None, limit: 100 }
    }
}

/// Durable tenants, products, users, keys, budgets, usage and prices.
#[async_trait]
pub trait CatalogStore: Debug + Send + Sync + 'static {
    /// Writes a tenant.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the slug or domain is taken.
    async fn create_tenant(&self, new: &NewTenant, now: Timestamp) -> Result<Tenant, StoreError>;
    /// A tenant by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError>;
    /// A tenant by its slug.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<Tenant>, StoreError>;
    /// Tenants in the order of their creation.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn tenants(&self, page: PageRequest) -> Result<Page<Tenant>, StoreError>;
    /// Changes a tenant if its version is still `version`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile.
    async fn update_tenant(
        &self,
        id: TenantId,
        version: i64,
        patch: &TenantPatch,
        now: Timestamp,
    ) -> Result<Tenant, StoreError>;

    /// Writes a product with its first version, or the next version of an existing code. Versions are immutable.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn publish_product(&self, new: &NewProduct, now: Timestamp) -> Result<ProductVersion, StoreError>;
    /// Products with their newest version.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn products(&self, page: PageRequest) -> Result<Page<Product>, StoreError>;
    /// A product by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn product(&self, id: ProductId) -> Result<Product, StoreError>;
    /// A product by code.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn product_by_code(&self, code: &str) -> Result<Option<Product>, StoreError>;
    /// One version of a product.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn product_version(&self, id: ProductVersionId) -> Result<ProductVersion, StoreError>;
    /// Every version of a product, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn product_versions(&self, id: ProductId) -> Result<Vec<ProductVersion>, StoreError>;
    /// Opens or closes a product for new customers.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn set_product_active(&self, id: ProductId, active: bool) -> Result<Product, StoreError>;

    /// Writes a user, and the user's budget by the product's terms, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the address is taken or the tenant is full.
    async fn create_user(&self, new: &NewUser, now: Timestamp) -> Result<User, StoreError>;
    /// A user by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn user(&self, id: UserId) -> Result<User, StoreError>;
    /// Users, of one tenant or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn users(&self, tenant: Option<TenantId>, page: PageRequest) -> Result<Page<User>, StoreError>;
    /// The user with this address, without regard to case. Reads all users; a store with an index does better.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        let email = email.to_lowercase();
        let mut page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
        loop {
            let users = self.users(None, page).await?;
            let found = users.items.into_iter().find(|user| user.email.to_lowercase() == email);
            match users.next {
                Some(next) if found.is_none() => page.after = Some(next),
                _ => return Ok(found),
            }
        }
    }
    /// Changes a user if its version is still `version`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile.
    async fn update_user(
        &self,
        id: UserId,
        version: i64,
        patch: &UserPatch,
        now: Timestamp,
    ) -> Result<User, StoreError>;

    /// Writes a key by its MAC.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown tenant or user.
    async fn create_key(&self, new: &NewKey, now: Timestamp) -> Result<ApiKey, StoreError>;
    /// A key by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn key(&self, id: KeyId) -> Result<ApiKey, StoreError>;
    /// Keys, of one tenant or user or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn keys(
        &self,
        tenant: Option<TenantId>,
        user: Option<UserId>,
        page: PageRequest,
    ) -> Result<Page<ApiKey>, StoreError>;
    /// Revokes a key for good.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<ApiKey, StoreError>;
    /// Everything that a request with this key needs, in one read: key, user, tenant, product terms, budgets of the path.
    ///
    /// # Errors
    /// When the store cannot be read. An unknown key is `None`.
    async fn key_context(&self, mac: &KeyMac) -> Result<Option<KeyContext>, StoreError>;

    /// Writes a budget.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the scope has one in this period kind and currency.
    async fn create_budget(&self, new: &NewBudget, now: Timestamp) -> Result<Budget, StoreError>;
    /// A budget by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn budget(&self, id: BudgetId) -> Result<Budget, StoreError>;
    /// Budgets.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn budgets(&self, filter: &BudgetFilter, page: PageRequest) -> Result<Page<Budget>, StoreError>;
    /// Changes what new periods are granted, and the current one by the difference.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile.
    async fn set_budget_limit(
        &self,
        id: BudgetId,
        version: i64,
        included: i64,
        actor: &str,
        now: Timestamp,
    ) -> Result<Budget, StoreError>;
    /// Grants of a budget, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn grants(&self, budget: BudgetId, page: PageRequest) -> Result<Page<Grant>, StoreError>;

    /// Usage records, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn usage(&self, filter: &UsageFilter, page: PageRequest) -> Result<Page<UsageRecord>, StoreError>;
    /// Usage per day, tenant, user, key and model, from the rollup.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn usage_daily(&self, filter: &UsageFilter) -> Result<Vec<UsageDay>, StoreError>;

    /// Keeps a price table under its hash, so that old usage can be priced again. A known hash changes nothing.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn save_prices(&self, hash: &[u8; 32], source: &str, body: &[u8], now: Timestamp) -> Result<(), StoreError>;
    /// The price table that was saved last.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn latest_prices(&self) -> Result<Option<Vec<u8>>, StoreError>;
}

const _: fn(&dyn CatalogStore) = |_| {};

/// A store for money and for everything else.
pub trait Store: LedgerStore + CatalogStore {}
impl<T: LedgerStore + CatalogStore> Store for T {}

/// What every budget of a path must satisfy before it is used: same currency.
#[must_use]
pub fn path_currency(budgets: &[BudgetSpec]) -> Option<Currency> {
    let first = budgets.first()?.currency;
    budgets.iter().all(|budget| budget.currency == first).then_some(first)
}
