//! [`LedgerStore`]: every method is one transaction of the writer.

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

use crate::{SqliteStore, audit};

pub(crate) mod account;
mod booking;
mod correction;
pub(crate) mod grant;
mod hold;
mod lease;
mod node;
mod orphan;
pub(crate) mod rollup;

#[async_trait]
impl LedgerStore for SqliteStore {
    fn exclusive(&self) -> bool {
        true
    }

    /// The lock of the file proves that no other process is alive.
    async fn register(&self, node: &str, boot: Boot, now: Timestamp) -> Result<Incarnation, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let incarnation = node::register(&mut tx, node, boot).await?;
        tx.commit().await?;
        Ok(incarnation)
    }

    async fn acquire(
        &self,
        by: &Incarnation,
        asks: &[LeaseAsk],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<LeaseGrant>, AcquireError> {
        let answers = self.acquire_all(by, &[asks], ttl, now).await; // one for the one group
        Ok(answers.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    async fn acquire_all(
        &self,
        by: &Incarnation,
        groups: &[&[LeaseAsk]],
        _ttl: Duration,
        now: Timestamp,
    ) -> Vec<Result<Vec<LeaseGrant>, AcquireError>> {
        let answers = self.answer(by, groups, now).await;
        answers.unwrap_or_else(|error| vec![Err(error.into()); groups.len()])
    }

    async fn commit(&self, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        booking::commit(&mut writer, by, ops, now).await?;
        Ok(())
    }

    async fn renew(&self, by: &Incarnation, ttl: Duration, now: Timestamp) -> Result<Renewal, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let renewal = lease::renew(&mut tx, by, ttl, now).await?;
        tx.commit().await?;
        Ok(renewal)
    }

    async fn give_back(&self, by: &Incarnation, rights: &[(AccountId, i64)]) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(Timestamp::MIN).await?; // the writer's own clock is later: it never goes back
        for &(account, amount) in rights {
            lease::give_back(&mut tx, by, account, amount).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn retire(&self, by: &Incarnation, now: Timestamp) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        node::retire(&mut tx, by).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeState>, StoreError> {
        Ok(node::all(self.readers(), now).await?)
    }

    async fn fence(&self, node: &str, act: &Act) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        node::fence(&mut tx, node, act).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn reclaim(
        &self,
        _expired_before: Timestamp,
        policy: OrphanPolicy,
        now: Timestamp,
    ) -> Result<Reclaimed, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let found = orphan::reclaim(&mut tx, policy).await?;
        tx.commit().await?;
        Ok(found)
    }

    async fn account(&self, budget: BudgetId, now: Timestamp) -> Result<AccountState, StoreError> {
        if let Some(account) = account::current(self.readers(), budget, now).await? {
            return Ok(account);
        }
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let account = account::open_or_newest(&mut tx, budget).await?;
        tx.commit().await?;
        Ok(account)
    }

    async fn accounts(&self, budget: BudgetId) -> Result<Vec<AccountState>, StoreError> {
        Ok(account::all(self.readers(), budget).await?)
    }

    async fn grant(&self, grant: &NewGrant, now: Timestamp) -> Result<Grant, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let granted = grant::grant(&mut tx, grant).await?;
        tx.commit().await?;
        Ok(granted)
    }

    async fn audit(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(audit::run(self.readers()).await?)
    }

    async fn audit_accounts(&self, after: AccountId, limit: u32) -> Result<AccountsAudit, StoreError> {
        Ok(audit::piece(self.readers(), after, limit).await?)
    }

    async fn correct(&self, correction: &Correction, reason: &str, act: &Act) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(act.at).await?;
        correction::correct(&mut tx, correction, reason, act).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl SqliteStore {
    /// Rights for each group, one after the other. The periods that this opens stay open when a group is refused, and of what
    /// it asked for nothing was written.
    async fn answer(
        &self,
        by: &Incarnation,
        groups: &[&[LeaseAsk]],
        now: Timestamp,
    ) -> Result<Vec<Result<Vec<LeaseGrant>, AcquireError>>, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let mut answers = Vec::with_capacity(groups.len());
        for asks in groups {
            match lease::acquire(&mut tx, by, asks).await {
                Err(AcquireError::Store(error)) if !matches!(error, StoreError::Invalid { .. }) => return Err(error),
                answer => answers.push(answer),
            }
        }
        tx.commit().await?;
        Ok(answers)
    }
}
