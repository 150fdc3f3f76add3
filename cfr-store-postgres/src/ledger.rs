//! [`LedgerStore`]: every method is one transaction, those that book on the connection that seals.

use std::time::Duration;

use async_trait::async_trait;
use cfr_billing::audit_log::Act;
use cfr_billing::budget::Grant;
use cfr_billing::store::{
    ASIDE_PREFIXES, AccountState, AccountsAudit, AcquireError, Boot, Correction, Finding, Incarnation, LeaseAsk,
    LeaseGrant, LedgerStore, NewGrant, NodeState, Op, OrphanPolicy, Reclaimed, Renewal, StoreError,
};
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::Timestamp;

use self::lease::{Acquired, Outcome, Refusals, Return};
use crate::error::Fault;
use crate::notify::NameHolder;
use crate::writer::{Attempts, in_time, write};
use crate::{PostgresStore, audit};

pub(crate) mod account;
mod booking;
mod correction;
pub(crate) mod grant;
mod hold;
mod lease;
mod node;
mod orphan;
#[cfg(test)]
mod plans;
pub(crate) mod rollup;

/// How often the periods of an acquisition are opened: once, and again when one ends in the same moment.
const OPENINGS_MAX: u32 = 3;

#[async_trait]
impl LedgerStore for PostgresStore {
    fn exclusive(&self) -> bool {
        false
    }

    async fn register(&self, node: &str, boot: Boot, now: Timestamp) -> Result<Incarnation, StoreError> {
        if ASIDE_PREFIXES.iter().any(|prefix| node.starts_with(prefix)) {
            return write!(self, now, |tx| node::register(tx, node, boot, false)).await; // no process has its name
        }
        let name_is_ours = self.notices().take_name(node, boot).await == NameHolder::Us;
        let registered = write!(self, now, |tx| node::register(tx, node, boot, name_is_ours)).await;
        registered.inspect(|_| self.notices().name_taken(node, boot))
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
        ttl: Duration,
        now: Timestamp,
    ) -> Vec<Result<Vec<LeaseGrant>, AcquireError>> {
        let answers: Result<_, StoreError> = in_time(self.answer(by, groups, ttl, now)).await;
        answers.unwrap_or_else(|error| vec![Err(error.into()); groups.len()])
    }

    async fn commit(&self, by: &Incarnation, ops: &[Op], now: Timestamp) -> Result<(), StoreError> {
        in_time(async { Ok(booking::commit(self, by, ops, now).await?) }).await
    }

    async fn renew(&self, by: &Incarnation, ttl: Duration, now: Timestamp) -> Result<Renewal, StoreError> {
        let name_is_ours = self.notices().holds_name(&by.node);
        write!(self, now, |tx| lease::renew(tx, by, ttl, name_is_ours)).await
    }

    async fn give_back(&self, by: &Incarnation, rights: &[(AccountId, i64)]) -> Result<(), StoreError> {
        let back = |&(account, amount): &_| Return { by: by.clone(), account, amount };
        let returns: Vec<Return> = rights.iter().map(back).collect();
        write!(self, Timestamp::MIN, |tx| lease::give_back(tx, &returns)).await // the store's own clock is later
    }

    async fn retire(&self, by: &Incarnation, now: Timestamp) -> Result<(), StoreError> {
        write!(self, now, |tx| node::retire(tx, by)).await
    }

    async fn recall(&self, by: &Incarnation, budgets: &[BudgetId], patience: Duration) -> Result<(), StoreError> {
        self.notices().recall(by, budgets, patience).await
    }

    async fn recalled(&self, by: &Incarnation) -> Vec<BudgetId> {
        self.notices().recalled(by).await
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeState>, StoreError> {
        let mut reader = self.reader().await?;
        let now = self.clock().moment(&mut reader, now).await?;
        Ok(node::all(&mut reader, now).await?)
    }

    async fn fence(&self, node: &str, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| node::fence(tx, node, act)).await
    }

    async fn reclaim(
        &self,
        expired_before: Timestamp,
        policy: OrphanPolicy,
        now: Timestamp,
    ) -> Result<Reclaimed, StoreError> {
        self.months().keep_ahead(now).await; // here, because every node comes by regularly
        let mut progress = orphan::Progress::default();
        while !progress.over {
            let piece: Result<_, StoreError> =
                write!(self, now, |tx| orphan::reclaim(tx, expired_before, policy, &progress)).await;
            progress = piece?;
        }
        Ok(progress.found)
    }

    async fn account(&self, budget: BudgetId, now: Timestamp) -> Result<AccountState, StoreError> {
        {
            let mut reader = self.reader().await?;
            let now = self.clock().moment(&mut reader, now).await?;
            if let Some(account) = account::current(&mut reader, budget, now).await? {
                return Ok(account);
            }
        }
        write!(self, now, |tx| account::open_or_newest(tx, budget)).await
    }

    async fn accounts(&self, budget: BudgetId) -> Result<Vec<AccountState>, StoreError> {
        Ok(account::all(&mut *self.reader().await?, budget).await?)
    }

    async fn grant(&self, grant: &NewGrant, now: Timestamp) -> Result<Grant, StoreError> {
        write!(sealing self, now, |tx| grant::grant(tx, grant)).await
    }

    async fn audit(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(audit::run(self).await?)
    }

    async fn audit_accounts(&self, after: AccountId, limit: u32) -> Result<AccountsAudit, StoreError> {
        Ok(audit::piece(self, after, limit).await?)
    }

    async fn correct(&self, correction: &Correction, reason: &str, act: &Act) -> Result<(), StoreError> {
        write!(sealing self, act.at, |tx| correction::correct(tx, correction, reason, act)).await
    }
}

impl PostgresStore {
    /// Rights, after the periods that are asked for and not open were opened: all of them in a transaction of their own,
    /// so that they stay open whatever comes next.
    async fn answer(
        &self,
        by: &Incarnation,
        groups: &[&[LeaseAsk]],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<Acquired>, StoreError> {
        let mut refusals = Refusals::default();
        for _ in 0..OPENINGS_MAX {
            match self.acquire_open(by, groups, &refusals, ttl, now).await? {
                Outcome::Answered(answers) => return Ok(answers),
                Outcome::Unopened(budgets) => {
                    let opened = async { write!(sealing self, now, |tx| lease::open_periods(tx, &budgets)).await };
                    let refused: Result<Refusals, StoreError> = Box::pin(opened).await; // seldom, and large
                    refusals.extend(refused?);
                }
            }
        }
        Err(StoreError::unavailable("a period ended each time it was opened"))
    }

    /// Rights on accounts whose periods are open.
    async fn acquire_open(
        &self,
        by: &Incarnation,
        groups: &[&[LeaseAsk]],
        refusals: &Refusals,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Outcome, Fault> {
        let mut attempts = Attempts::default();
        loop {
            let mut tx = self.begin_untimed(now).await?;
            let outcome = lease::acquire(&mut tx, by, groups, refusals, ttl).await;
            let ended = match outcome {
                Ok(unchanged) if !unchanged.is_a_change() => tx.end_unchanged().await.map(|()| unchanged),
                outcome => tx.end(outcome).await,
            };
            match ended {
                Err(fault) => attempts.next(self.collision_counter(), fault)?,
                ended => return ended,
            }
        }
    }
}
