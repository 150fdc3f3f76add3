//! [`LedgerStore`] over the books: one lock per transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::Timestamp;

use super::MemoryStore;
use crate::approval::{Consent, DECIDED};
use crate::audit_log::{Act, Action, Event, GrantOf};
use crate::budget::Grant;
use crate::store::{
    AccountState, AccountsAudit, AcquireError, Boot, Correction, Finding, Incarnation, LeaseAsk, LeaseGrant,
    LedgerStore, NewGrant, NodeState, ONE_LIFE_REMEMBERED, Op, OrphanPolicy, Reclaimed, Renewal, StoreError,
};

impl MemoryStore {
    fn expiry(&self, ttl: Duration, now: Timestamp) -> Timestamp {
        if self.exclusive { Timestamp::MAX } else { after(ttl, now) }
    }

    /// Changes what is settled on an account without an entry, as a broken program would: for tests of `audit`.
    pub fn tamper(&self, account: AccountId, by: i64) {
        self.state().books.tamper(account, by);
    }
}

fn after(time: Duration, now: Timestamp) -> Timestamp {
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}

#[async_trait]
impl LedgerStore for MemoryStore {
    fn exclusive(&self) -> bool {
        self.exclusive
    }

    async fn register(&self, node: &str, boot: Boot, now: Timestamp) -> Result<Incarnation, StoreError> {
        let now = self.time(now);
        self.faults.check()?;
        let by = self.state().books.register(node, boot, self.exclusive, now)?;
        self.faults.after_answer()?;
        Ok(by)
    }

    async fn acquire(
        &self,
        by: &Incarnation,
        asks: &[LeaseAsk],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<LeaseGrant>, AcquireError> {
        let now = self.time(now);
        self.faults.answers().await?;
        let expires = self.expiry(ttl, now);
        let granted = {
            let state = &mut *self.state();
            state.books.acquire(&state.catalog.budgets, by, asks, expires, now)?
        };
        self.faults.after_answer()?;
        Ok(granted)
    }

    async fn commit(&self, by: &Incarnation, ops: &[Op], _now: Timestamp) -> Result<(), StoreError> {
        self.faults.before_commit().await?;
        {
            let books = &mut self.state().books;
            books.check_alive(by)?;
            ops.iter().for_each(|op| books.apply(&by.node, op));
        }
        self.faults.after_commit(ops.len())
    }

    async fn renew(&self, by: &Incarnation, ttl: Duration, now: Timestamp) -> Result<Renewal, StoreError> {
        let now = self.time(now);
        self.faults.check()?;
        let expires = self.expiry(ttl, now);
        let renewal = {
            let books = &mut self.state().books;
            books.check_alive(by)?;
            books.renew(by, expires, after(ttl, now), now)
        };
        self.faults.after_answer()?;
        Ok(renewal)
    }

    async fn give_back(&self, by: &Incarnation, rights: &[(AccountId, i64)]) -> Result<(), StoreError> {
        self.faults.answers().await?;
        {
            let books = &mut self.state().books;
            rights.iter().for_each(|&(account, amount)| books.give_back(by, account, amount));
        }
        self.bells.returned.notify_waiters();
        self.faults.after_answer()
    }

    async fn recall(&self, by: &Incarnation, budgets: &[BudgetId], patience: Duration) -> Result<(), StoreError> {
        self.faults.answers().await?;
        let _ = tokio::time::timeout(patience, self.ask_others(by, budgets)).await; // whoever waited long enough goes on
        Ok(())
    }

    async fn recalled(&self, by: &Incarnation) -> Vec<BudgetId> {
        self.next_question(by).await
    }

    async fn reclaim(
        &self,
        expired_before: Timestamp,
        policy: OrphanPolicy,
        now: Timestamp,
    ) -> Result<Reclaimed, StoreError> {
        let now = self.time(now);
        self.faults.check()?;
        let reclaimed = {
            let books = &mut self.state().books;
            books.forget_nodes(now.checked_sub(ONE_LIFE_REMEMBERED).unwrap_or(Timestamp::MIN));
            books.reclaim(expired_before, policy)
        };
        self.bells.returned.notify_waiters();
        Ok(reclaimed)
    }

    async fn account(&self, budget: BudgetId, now: Timestamp) -> Result<AccountState, StoreError> {
        let now = self.time(now);
        self.faults.answers().await?;
        let state = &mut *self.state();
        let terms = state.catalog.open_budget(budget)?;
        let opened = state.books.open(terms, now)?;
        let newest = || state.books.accounts(budget).into_iter().next();
        let account = opened.and_then(|account| state.books.account(account).cloned()).or_else(newest);
        account.ok_or(StoreError::NotFound { what: "open period" })
    }

    async fn accounts(&self, budget: BudgetId) -> Result<Vec<AccountState>, StoreError> {
        self.faults.check()?;
        Ok(self.state().books.accounts(budget))
    }

    async fn grant(&self, grant: &NewGrant, now: Timestamp) -> Result<Grant, StoreError> {
        let now = self.time(now);
        self.faults.check()?;
        let state = &mut *self.state();
        let second = matches!(grant.consent, Consent::Second(_));
        if let Some(known) = state.books.granted(grant)? {
            return if second { Err(StoreError::conflict(DECIDED)) } else { Ok(known) };
        }
        state.check_consent(grant, now)?;
        let budget = state.catalog.open_budget(grant.budget)?;
        let booked = state.books.grant(budget, grant, now)?;
        let act = Act { by: Arc::clone(&grant.actor), at: now };
        let event = Event::created(Action::GrantBooked, &GrantOf { grant: &booked, tenant: budget.tenant });
        state.log.record(&event, &act);
        state.note_consent(&grant.consent, booked.id, &act)?;
        Ok(booked)
    }

    async fn retire(&self, by: &Incarnation, now: Timestamp) -> Result<(), StoreError> {
        let now = self.time(now);
        self.faults.check()?;
        self.state().books.end_life(by, now);
        Ok(())
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeState>, StoreError> {
        let now = self.time(now);
        self.faults.check()?;
        Ok(self.state().books.nodes(now))
    }

    async fn fence(&self, node: &str, act: &Act) -> Result<(), StoreError> {
        let now = self.time(act.at);
        self.faults.check()?;
        let state = &mut *self.state();
        state.books.fence(node, now)?;
        state.log.record(&Event::node_fenced(node), act);
        Ok(())
    }

    async fn audit(&self) -> Result<Vec<Finding>, StoreError> {
        self.faults.check()?;
        Ok(self.state().books.audit())
    }

    async fn audit_accounts(&self, after: AccountId, limit: u32) -> Result<AccountsAudit, StoreError> {
        self.faults.check()?;
        Ok(self.state().books.audit_accounts(after, limit))
    }

    async fn correct(&self, correction: &Correction, reason: &str, act: &Act) -> Result<(), StoreError> {
        self.faults.check()?;
        let state = &mut *self.state();
        state.books.correct(correction)?;
        state.log.record(&Event::ledger_corrected(correction, reason), act);
        Ok(())
    }
}
