//! [`LedgerStore`]: every method is one transaction of the writer.

use std::time::Duration;

use async_trait::async_trait;
use cfr_billing::budget::Grant;
use cfr_billing::store::{
    AccountState, AcquireError, Incarnation, LeaseAsk, LeaseGrant, LedgerStore, NewGrant, Op, OrphanPolicy, Reclaimed,
    StoreError,
};
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::Timestamp;

use crate::{SqliteStore, audit};

pub(crate) mod account;
mod booking;
pub(crate) mod grant;
mod hold;
mod lease;
mod orphan;

#[async_trait]
impl LedgerStore for SqliteStore {
    fn exclusive(&self) -> bool {
        true
    }

    async fn register(&self, node: &str, now: Timestamp) -> Result<Incarnation, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let incarnation = lease::register(&mut tx, node).await?;
        tx.commit().await?;
        Ok(incarnation)
    }

    async fn acquire(
        &self,
        by: &Incarnation,
        asks: &[LeaseAsk],
        _ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<LeaseGrant>, AcquireError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        let answer = lease::acquire(&mut tx, by, asks).await;
        if !matches!(answer, Err(AcquireError::Store(_))) {
            tx.commit().await?;
        }
        answer
    }

    async fn commit(&self, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        booking::commit(&mut writer, by, ops, now).await?;
        Ok(())
    }

    async fn renew(&self, by: &Incarnation, _ttl: Duration, now: Timestamp) -> Result<Vec<AccountId>, StoreError> {
        let mut writer = self.writer().await?;
        let mut tx = writer.begin(now).await?;
        Ok(lease::renew(&mut tx, by).await?)
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

    async fn audit(&self) -> Result<Vec<String>, StoreError> {
        Ok(audit::run(self.readers()).await?)
    }
}
