//! Durable money: rights, steps of holds, and the trait that a store implements for them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::id::{AccountId, BudgetId, HoldId};
use cfr_core::ledger::{CallerIds, LimitPolicy, ReleaseReason, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::time::{PeriodWindow, Timestamp};
use smallvec::SmallVec;

use super::StoreError;
use super::finding::{AccountsAudit, Correction, Finding};
use super::node::{Boot, Incarnation, NodeState, Renewal};
use crate::approval::Consent;
use crate::audit_log::{Act, Actor, ActorKind};
use crate::budget::{Grant, GrantKind};

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
    /// What the account has left for anybody after that: [`AccountState::room`].
    pub room: i64,
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
/// - Every method but `reclaim` is one transaction: all of it happens or none.
/// - Repeating a call that may have happened is harmless: `commit` books each hold id once, grants have idempotency keys.
/// - `settled + leased <= granted + overcommit` holds for every account at every committed state.
#[async_trait]
pub trait LedgerStore: Debug + Send + Sync + 'static {
    /// Whether one node owns the store for as long as it runs. Then its leases do not expire and it may take everything.
    fn exclusive(&self) -> bool;

    /// Begins a new life of `node`. All its earlier epochs are thereby proven dead. `boot` tells processes apart: the same
    /// process may register again at any time.
    ///
    /// A store that many nodes share refuses another process as long as it must take the earlier one for alive: until the
    /// lease time after its last [`LedgerStore::renew`], unless it [retired](LedgerStore::retire), was
    /// [fenced](LedgerStore::fence), or the store has other proof of its death.
    ///
    /// # Errors
    /// [`StoreError::NodeInUse`], or when the store cannot be written.
    async fn register(&self, node: &str, boot: Boot, now: Timestamp) -> Result<Incarnation, StoreError>;

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

    /// Answers groups of asks that have nothing to do with each other, in one transaction where the store can: one answer
    /// per group, in their order. Each is what [`LedgerStore::acquire`] would have said if the groups had come one after
    /// the other: all of a group's rights or none, out of what the groups before it left. A group that is refused takes
    /// nothing from the others, and nothing is taken for it; several groups may ask for the same budget.
    ///
    /// A store that does this in one transaction locks the accounts of all groups in one order, so that two such calls
    /// never wait in a circle, and opens the periods of all that need it together.
    ///
    /// # Errors
    /// Each answer has its own, as for `acquire`. When the store fails the groups of one transaction fail together; what
    /// was granted to others is theirs.
    ///
    /// # Cancel safety
    /// As for `acquire`: what a dropped call was granted is leased, and the node learns of it with its next renewal.
    async fn acquire_all(
        &self,
        by: &Incarnation,
        groups: &[&[LeaseAsk]],
        ttl: Duration,
        now: Timestamp,
    ) -> Vec<Result<Vec<LeaseGrant>, AcquireError>> {
        let mut answers = Vec::with_capacity(groups.len());
        for asks in groups {
            answers.push(self.acquire(by, asks, ttl, now).await);
        }
        answers
    }

    /// Makes steps of holds durable, in order, in one transaction. Counters change only by what was really inserted.
    ///
    /// - A settlement is booked unless its id was charged before: also when the hold's `Open` was never written, and when
    ///   the hold was released as an orphan. An `Open` after the end of its hold, and an `Extend`, `Checkpoint` or
    ///   `Release` of a hold that is not open, change nothing.
    /// - A settlement moves its charge from the lease of the hold's own epoch to `settled`. What the lease does not have
    ///   is taken from the account's room: under a hard limit the charge shrinks to what fits on every account, and the
    ///   written record says so; a soft or unlimited budget raises `overcommit` instead.
    /// - The sums of an account end at `i64::MAX`, nine billion units of a currency: of a charge that no hard limit bounds,
    ///   what is beyond that becomes overrun.
    /// - The record's overrun is added to `overrun` of every account. This sum and those of usage per day stop at the
    ///   largest number: no amount that an upstream reports may keep a batch from being written.
    ///
    /// # Errors
    /// When nothing was written. The same batch may be committed again. [`StoreError::Fenced`] as for `acquire`: the
    /// batch is then committed by the next incarnation, whose steps still name the epochs that made their holds.
    async fn commit(&self, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), StoreError>;

    /// Prolongs every lease of this incarnation, also one that expired and was not taken away, and names the accounts that
    /// it still holds.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] as for `acquire`, or when the store cannot be written.
    async fn renew(&self, by: &Incarnation, ttl: Duration, now: Timestamp) -> Result<Renewal, StoreError>;

    /// Gives rights back, at most what the lease has left. On the account of a past period, bought money among them rolls
    /// over to the newest one as it does when a period opens.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn give_back(&self, by: &Incarnation, rights: &[(AccountId, i64)]) -> Result<(), StoreError>;

    /// Ends this life in good order, after its rights were given back: the node's name is free at once. A node that
    /// [lives once](super::lives_once) is forgotten, unless it still has leases or open holds.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn retire(&self, by: &Incarnation, now: Timestamp) -> Result<(), StoreError>;

    /// Asks the other nodes to give back what they do not use of these budgets, and waits until some of it came back or
    /// `patience` is over. Nobody else has rights on an exclusive store.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn recall(&self, by: &Incarnation, budgets: &[BudgetId], patience: Duration) -> Result<(), StoreError> {
        let _ = (by, budgets, patience);
        Ok(())
    }

    /// The next budgets whose idle rights another node asks for with [`LedgerStore::recall`]. On an exclusive store
    /// nobody does, and this waits for ever.
    ///
    /// # Cancel safety
    /// A dropped future loses no request for good: who is not answered asks again.
    async fn recalled(&self, by: &Incarnation) -> Vec<BudgetId> {
        let _ = by;
        std::future::pending().await
    }

    /// Every node that ever registered and was not forgotten, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeState>, StoreError>;

    /// Declares the node's current life dead, whether it is or not: its leases can be [reclaimed](LedgerStore::reclaim) at
    /// once, and what it still asks for is refused as [`StoreError::Fenced`]. A process that lives comes back with a new
    /// epoch.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown node.
    async fn fence(&self, node: &str, act: &Act) -> Result<(), StoreError>;

    /// Takes leases away that are proven dead (an earlier epoch of a node that registered again) or expired before
    /// `expired_before`, and ends the open holds under them by `policy`. Under [`OrphanPolicy::Suspend`] the amounts of
    /// these holds stay counted as leased, until the holds are settled or released. A hold that was never journaled is not
    /// known here: what its lease had for it is released with the lease, and its settlement, should one come, is late.
    ///
    /// Nodes that [live once](super::lives_once), have nothing, and were not heard of for
    /// [`ONE_LIFE_REMEMBERED`](super::ONE_LIFE_REMEMBERED) are forgotten.
    ///
    /// A large node leaves much behind: a store may do this in several transactions, holds before their leases. The next
    /// call finds what one that was cut off has left.
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
    /// is settled and leased and `overcommit` is not set, or when the proposal that it books is not open to its actor;
    /// [`StoreError::NeedsSecondPerson`] when it is more than one person may grant alone. Both are judged in the transaction
    /// that books.
    async fn grant(&self, grant: &NewGrant, now: Timestamp) -> Result<Grant, StoreError>;

    /// Recomputes every sum from its parts and the hash chain from its rows, and names every difference; empty when the
    /// books agree. Reads everything, at one moment of the books: what is booked meanwhile is no finding. The rules are
    /// those of [`rules`](super::rules).
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn audit(&self) -> Result<Vec<Finding>, StoreError>;

    /// Recomputes the sums of at most `limit` accounts after `after`, in the order of their ids, on one snapshot: the
    /// audit in small pieces for a running system. It reads what has an index, not every usage record.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn audit_accounts(&self, after: AccountId, limit: u32) -> Result<AccountsAudit, StoreError>;

    /// Books the correction of a sum: an entry of its own, with the reason, sealed like every other. Nothing that was
    /// booked before is changed. What is used beyond a limit then stays allowed, as after a limit was lowered. Refused
    /// when the sum is not what the correction says it is.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the books moved on since the audit, [`StoreError::NotFound`] for an unknown account.
    async fn correct(&self, correction: &Correction, reason: &str, act: &Act) -> Result<(), StoreError>;
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
    /// Who did it, for the books and the audit log.
    pub actor: Arc<Actor>,
    /// Whether it may leave less than is already used.
    pub overcommit: bool,
    /// Whose consent it has.
    pub consent: Consent,
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
            actor: Arc::new(Actor::of_kind(ActorKind::System)),
            overcommit: true,
            consent: Consent::NotNeeded,
        }
    }
}
