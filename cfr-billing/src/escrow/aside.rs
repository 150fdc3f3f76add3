//! Rights for work that outlasts processes: they are leased to a life of their own, which nobody spends from until the work
//! is charged.
//!
//! The lease is durable before anything is sent, like every other, and no restart and no death of a node touches it. A
//! charge is posted against it by whoever finds the work done, once for each id, and the rest goes back.

use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId};
use cfr_core::ledger::{AuthorizeError, LedgerError};
use cfr_core::money::Money;
use cfr_core::time::Clock;

use super::book::Asks;
use super::engine::{denial, ledger_error};
use super::outbox::disown;
use super::{ACQUIRE_ROUNDS_MAX, Escrow, refusal};
use crate::store::{AcquireError, Incarnation, LeaseAsk, LeaseGrant, Op, SettledHold, StoreError};

/// Rights that are to be set aside.
#[derive(Debug, Clone)]
pub struct AsideAsk<'a> {
    /// The life that has them, which nobody began before: its name [lives once](crate::store::lives_once).
    pub life: &'a Incarnation,
    /// The budgets.
    pub path: &'a [BudgetId],
    /// How much on each.
    pub amount: Money,
    /// How long at the least: then a store that many nodes share may take them back.
    pub keep: Duration,
}

impl Escrow {
    /// Sets rights aside on every budget of the path, or on none. What this node and others have and do not use counts as
    /// room. They are durable when this returns.
    ///
    /// # Errors
    /// [`AuthorizeError::Denied`] names the tightest budget.
    ///
    /// # Cancel safety
    /// A dropped future may leave the life with rights: [`Escrow::end_aside`] finds them.
    pub async fn set_aside(&self, ask: AsideAsk<'_>) -> Result<Vec<AccountId>, AuthorizeError> {
        self.in_time(self.set_aside_with_store(ask)).await
    }

    async fn set_aside_with_store(&self, ask: AsideAsk<'_>) -> Result<Vec<AccountId>, AuthorizeError> {
        let (engine, nanos) = (&self.engine, ask.amount.nanos());
        let life = engine.store.register(&ask.life.node, engine.config.boot, engine.clock.now()).await;
        if life.map_err(refusal_of)? != *ask.life {
            return Err(LedgerError::Malformed { reason: "a life has rights set aside once" }.into());
        }
        let asks: Asks = ask.path.iter().map(|&budget| LeaseAsk { budget, min: nanos, want: nanos }).collect();
        let mut patience = None;
        let mut rounds = 0..ACQUIRE_ROUNDS_MAX;
        let error = loop {
            let may_recall = rounds.next().is_some();
            match self.take_aside(&ask, &asks).await {
                Ok(grants) if grants.iter().any(|grant| grant.currency != ask.amount.currency()) => {
                    break LedgerError::Malformed { reason: "a path has one currency, and the amount is in it" }.into();
                }
                Ok(grants) => return Ok(grants.iter().map(|grant| grant.account).collect()),
                Err(AcquireError::Denied { budget, .. }) if may_recall && self.recall(budget, &mut patience).await => {}
                Err(denied) => match denial(ask.amount, &denied) {
                    Some(denial) => break AuthorizeError::Denied(denial),
                    None => break ledger_error(denied).into(),
                },
            }
        };
        if let Err(error) = self.end_aside(ask.life, &[]).await {
            tracing::warn!(%error, life = %ask.life.node, "a life that got no rights was not ended");
        }
        Err(error)
    }

    /// Leases the rights to the life while this node has none that it does not use.
    async fn take_aside(&self, ask: &AsideAsk<'_>, asks: &Asks) -> Result<Vec<LeaseGrant>, AcquireError> {
        let engine = &self.engine;
        let _closed = engine.gates.pass(ask.path.iter().copied()).await;
        for &budget in ask.path {
            self.give_up(budget).await;
        }
        let granted = engine.store.acquire(ask.life, asks, ask.keep, engine.clock.now()).await;
        for &budget in ask.path {
            self.take_again(budget).await;
        }
        granted
    }

    /// Books charges against rights that were set aside. A charge that was booked before is left out, and what the rights do
    /// not cover is taken from what the accounts have left, as for any settlement.
    ///
    /// # Errors
    /// When nothing was written. The same charges may be booked again.
    pub async fn settle_aside(&self, life: &Incarnation, charges: Vec<SettledHold>) -> Result<(), StoreError> {
        let engine = &self.engine;
        let mut ops: Vec<Op> = charges.into_iter().map(|charge| Op::Settle(Box::new(charge))).collect();
        match engine.store.commit(life, &ops, engine.clock.now()).await {
            Err(StoreError::Fenced) => {} // its rights went back: after they were charged, or by an operator
            written => return written,
        }
        ops.iter_mut().for_each(disown);
        engine.store.commit(&engine.incarnation(), &ops, engine.clock.now()).await
    }

    /// Gives back what is left of the rights of a life, and ends it. One that is over, or never began, is no error.
    ///
    /// # Errors
    /// When the store cannot be written. This may be asked for again.
    pub async fn end_aside(&self, life: &Incarnation, path: &[BudgetId]) -> Result<(), StoreError> {
        let (store, now) = (&self.engine.store, self.engine.clock.now());
        let leased = match store.renew(life, Duration::ZERO, now).await {
            Err(StoreError::Fenced) => return Ok(()),
            renewal => renewal?.accounts,
        };
        let whole: Vec<_> = leased.into_iter().map(|account| (account, i64::MAX)).collect();
        store.give_back(life, &whole).await?;
        store.retire(life, now).await?;
        for &budget in path {
            self.forget(budget).await;
        }
        Ok(())
    }
}

fn refusal_of(error: StoreError) -> LedgerError {
    tracing::warn!(%error, "no rights can be set aside");
    refusal("the store does not begin a life")
}
