//! A store that counts: every call of the engine is one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cfr_billing::audit_log::Act;
use cfr_billing::budget::Grant;
use cfr_billing::store::{
    AccountState, AccountsAudit, AcquireError, Boot, Correction, Finding, Incarnation, LeaseAsk, LeaseGrant,
    LedgerStore, NewGrant, NodeState, Op, OrphanPolicy, Reclaimed, Renewal, StoreError,
};
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::Timestamp;

/// What was asked of a store so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// For rights.
    pub acquires: u64,
    /// Requests that needed them: several are answered in one transaction.
    pub asks: u64,
    /// To write steps of holds.
    pub commits: u64,
    /// Steps in them.
    pub ops: u64,
    /// To give rights back, and to ask others for theirs.
    pub returns: u64,
    /// To renew leases, and everything else.
    pub others: u64,
}

impl Calls {
    /// All transactions.
    #[must_use]
    pub const fn transactions(&self) -> u64 {
        self.acquires + self.commits + self.returns + self.others
    }
}

impl std::ops::Sub for Calls {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            acquires: self.acquires - before.acquires,
            asks: self.asks - before.asks,
            commits: self.commits - before.commits,
            ops: self.ops - before.ops,
            returns: self.returns - before.returns,
            others: self.others - before.others,
        }
    }
}

/// Passes every call on.
#[derive(Debug)]
pub struct Counted {
    store: Arc<dyn LedgerStore>,
    acquires: AtomicU64,
    asks: AtomicU64,
    commits: AtomicU64,
    ops: AtomicU64,
    returns: AtomicU64,
    others: AtomicU64,
}

impl Counted {
    /// Counts from zero.
    #[must_use]
    pub fn new(store: Arc<dyn LedgerStore>) -> Self {
        let zero = || AtomicU64::new(0);
        let (acquires, asks, commits, ops, returns, others) = (zero(), zero(), zero(), zero(), zero(), zero());
        Self { store, acquires, asks, commits, ops, returns, others }
    }

    /// What was counted so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Calls {
            acquires: read(&self.acquires),
            asks: read(&self.asks),
            commits: read(&self.commits),
            ops: read(&self.ops),
            returns: read(&self.returns),
            others: read(&self.others),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl LedgerStore for Counted {
    fn exclusive(&self) -> bool {
        self.store.exclusive()
    }

    async fn register(&self, node: &str, boot: Boot, now: Timestamp) -> Result<Incarnation, StoreError> {
        count(&self.others);
        self.store.register(node, boot, now).await
    }

    async fn acquire(
        &self,
        by: &Incarnation,
        asks: &[LeaseAsk],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<LeaseGrant>, AcquireError> {
        count(&self.acquires);
        count(&self.asks);
        self.store.acquire(by, asks, ttl, now).await
    }

    async fn acquire_all(
        &self,
        by: &Incarnation,
        groups: &[&[LeaseAsk]],
        ttl: Duration,
        now: Timestamp,
    ) -> Vec<Result<Vec<LeaseGrant>, AcquireError>> {
        count(&self.acquires);
        self.asks.fetch_add(groups.len() as u64, Ordering::Relaxed);
        self.store.acquire_all(by, groups, ttl, now).await
    }

    async fn commit(&self, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), StoreError> {
        count(&self.commits);
        self.ops.fetch_add(ops.len() as u64, Ordering::Relaxed);
        self.store.commit(by, ops, now).await
    }

    async fn renew(&self, by: &Incarnation, ttl: Duration, now: Timestamp) -> Result<Renewal, StoreError> {
        count(&self.others);
        self.store.renew(by, ttl, now).await
    }

    async fn give_back(&self, by: &Incarnation, rights: &[(AccountId, i64)]) -> Result<(), StoreError> {
        count(&self.returns);
        self.store.give_back(by, rights).await
    }

    async fn retire(&self, by: &Incarnation, now: Timestamp) -> Result<(), StoreError> {
        count(&self.others);
        self.store.retire(by, now).await
    }

    async fn recall(&self, by: &Incarnation, budgets: &[BudgetId], patience: Duration) -> Result<(), StoreError> {
        count(&self.returns);
        self.store.recall(by, budgets, patience).await
    }

    async fn recalled(&self, by: &Incarnation) -> Vec<BudgetId> {
        self.store.recalled(by).await
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeState>, StoreError> {
        count(&self.others);
        self.store.nodes(now).await
    }

    async fn fence(&self, node: &str, act: &Act) -> Result<(), StoreError> {
        count(&self.others);
        self.store.fence(node, act).await
    }

    async fn reclaim(
        &self,
        expired_before: Timestamp,
        policy: OrphanPolicy,
        now: Timestamp,
    ) -> Result<Reclaimed, StoreError> {
        count(&self.others);
        self.store.reclaim(expired_before, policy, now).await
    }

    async fn account(&self, budget: BudgetId, now: Timestamp) -> Result<AccountState, StoreError> {
        count(&self.others);
        self.store.account(budget, now).await
    }

    async fn accounts(&self, budget: BudgetId) -> Result<Vec<AccountState>, StoreError> {
        count(&self.others);
        self.store.accounts(budget).await
    }

    async fn grant(&self, grant: &NewGrant, now: Timestamp) -> Result<Grant, StoreError> {
        count(&self.others);
        self.store.grant(grant, now).await
    }

    async fn audit(&self) -> Result<Vec<Finding>, StoreError> {
        count(&self.others);
        self.store.audit().await
    }

    async fn audit_accounts(&self, after: AccountId, limit: u32) -> Result<AccountsAudit, StoreError> {
        count(&self.others);
        self.store.audit_accounts(after, limit).await
    }

    async fn correct(&self, correction: &Correction, reason: &str, act: &Act) -> Result<(), StoreError> {
        count(&self.others);
        self.store.correct(correction, reason, act).await
    }
}
