//! One node's way to the store, and what can happen on it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cfr_billing::audit_log::Act;
use cfr_billing::budget::Grant;
use cfr_billing::store::{
    AccountState, AccountsAudit, AcquireError, Boot, Correction, Finding, Incarnation, LeaseAsk, LeaseGrant,
    LedgerStore, MemoryStore, NewGrant, NodeState, Op, OrphanPolicy, Reclaimed, Renewal, StoreError,
};
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::Timestamp;
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Nothing arrives.
    Cut,
    /// What is asked for happens, and the answers are lost.
    Deaf,
    /// Everything waits until the weather changes.
    Frozen,
}

#[derive(Debug)]
pub(crate) struct Link {
    store: Arc<MemoryStore>,
    weather: watch::Sender<Weather>,
    /// Budgets that nobody gets an answer about: conversations with them wait, or fail.
    stuck: watch::Sender<HashSet<BudgetId>>,
    broken: Mutex<HashSet<BudgetId>>,
    /// Groups in each conversation about rights that was begun.
    conversations: Mutex<Vec<usize>>,
    /// Accounts in each return of rights.
    returns: Mutex<Vec<usize>>,
}

impl Link {
    pub(crate) fn to(store: Arc<MemoryStore>) -> Arc<Self> {
        let (weather, stuck) = (watch::Sender::new(Weather::Fair), watch::Sender::default());
        let (broken, conversations, returns) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { store, weather, stuck, broken, conversations, returns })
    }

    /// Conversations about these budgets wait for as long as they are named here.
    pub(crate) fn set_stuck(&self, budgets: &[BudgetId]) {
        self.stuck.send_replace(budgets.iter().copied().collect());
    }

    /// Conversations about these budgets fail.
    pub(crate) fn set_broken(&self, budgets: &[BudgetId]) {
        *self.broken.lock().expect("nobody panics") = budgets.iter().copied().collect();
    }

    /// Groups in each conversation about rights that was begun.
    pub(crate) fn conversations(&self) -> Vec<usize> {
        self.conversations.lock().expect("nobody panics").clone()
    }

    /// Accounts in each return of rights that was begun.
    pub(crate) fn returns(&self) -> Vec<usize> {
        self.returns.lock().expect("nobody panics").clone()
    }

    async fn about(&self, groups: &[&[LeaseAsk]]) -> Result<(), StoreError> {
        self.conversations.lock().expect("nobody panics").push(groups.len());
        let names = |budgets: &HashSet<BudgetId>| {
            groups.iter().any(|asks| asks.iter().any(|ask| budgets.contains(&ask.budget)))
        };
        let _ = self.stuck.subscribe().wait_for(|stuck| !names(stuck)).await.expect("self keeps it");
        let broken = names(&self.broken.lock().expect("nobody panics"));
        if broken { Err(StoreError::unavailable("broken on purpose")) } else { Ok(()) }
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    async fn over<T, E: From<StoreError>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let weather = *self.weather.subscribe().wait_for(|now| *now != Weather::Frozen).await.expect("self keeps it");
        match weather {
            Weather::Cut => Err(StoreError::unavailable("the connection is cut on purpose").into()),
            Weather::Deaf => {
                call.await?;
                Err(StoreError::unavailable("the answer is lost on purpose").into())
            }
            Weather::Fair | Weather::Frozen => call.await,
        }
    }
}

#[async_trait]
impl LedgerStore for Link {
    fn exclusive(&self) -> bool {
        self.store.exclusive()
    }

    async fn register(&self, node: &str, boot: Boot, now: Timestamp) -> Result<Incarnation, StoreError> {
        self.over(self.store.register(node, boot, now)).await
    }

    async fn acquire(
        &self,
        by: &Incarnation,
        asks: &[LeaseAsk],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<LeaseGrant>, AcquireError> {
        self.over(self.store.acquire(by, asks, ttl, now)).await
    }

    async fn acquire_all(
        &self,
        by: &Incarnation,
        groups: &[&[LeaseAsk]],
        ttl: Duration,
        now: Timestamp,
    ) -> Vec<Result<Vec<LeaseGrant>, AcquireError>> {
        let answers = async {
            self.about(groups).await?;
            Ok::<_, StoreError>(self.store.acquire_all(by, groups, ttl, now).await)
        };
        self.over(answers).await.unwrap_or_else(|error| vec![Err(error.into()); groups.len()])
    }

    async fn commit(&self, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), StoreError> {
        self.over(self.store.commit(by, ops, now)).await
    }

    async fn renew(&self, by: &Incarnation, ttl: Duration, now: Timestamp) -> Result<Renewal, StoreError> {
        self.over(self.store.renew(by, ttl, now)).await
    }

    async fn give_back(&self, by: &Incarnation, rights: &[(AccountId, i64)]) -> Result<(), StoreError> {
        self.returns.lock().expect("nobody panics").push(rights.len());
        self.over(self.store.give_back(by, rights)).await
    }

    async fn retire(&self, by: &Incarnation, now: Timestamp) -> Result<(), StoreError> {
        self.over(self.store.retire(by, now)).await
    }

    async fn recall(&self, by: &Incarnation, budgets: &[BudgetId], patience: Duration) -> Result<(), StoreError> {
        self.over(self.store.recall(by, budgets, patience)).await
    }

    async fn recalled(&self, by: &Incarnation) -> Vec<BudgetId> {
        self.over(async { Ok::<_, StoreError>(self.store.recalled(by).await) }).await.unwrap_or_default()
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeState>, StoreError> {
        self.over(self.store.nodes(now)).await
    }

    async fn fence(&self, node: &str, act: &Act) -> Result<(), StoreError> {
        self.over(self.store.fence(node, act)).await
    }

    async fn reclaim(
        &self,
        expired_before: Timestamp,
        policy: OrphanPolicy,
        now: Timestamp,
    ) -> Result<Reclaimed, StoreError> {
        self.over(self.store.reclaim(expired_before, policy, now)).await
    }

    async fn account(&self, budget: BudgetId, now: Timestamp) -> Result<AccountState, StoreError> {
        self.over(self.store.account(budget, now)).await
    }

    async fn accounts(&self, budget: BudgetId) -> Result<Vec<AccountState>, StoreError> {
        self.over(self.store.accounts(budget)).await
    }

    async fn grant(&self, grant: &NewGrant, now: Timestamp) -> Result<Grant, StoreError> {
        self.over(self.store.grant(grant, now)).await
    }

    async fn audit(&self) -> Result<Vec<Finding>, StoreError> {
        self.over(self.store.audit()).await
    }

    async fn audit_accounts(&self, after: AccountId, limit: u32) -> Result<AccountsAudit, StoreError> {
        self.over(self.store.audit_accounts(after, limit)).await
    }

    async fn correct(&self, correction: &Correction, reason: &str, act: &Act) -> Result<(), StoreError> {
        self.over(self.store.correct(correction, reason, act)).await
    }
}
