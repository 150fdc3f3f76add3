//! The tasks that keep leases alive, give idle ones back, and take over those of dead nodes.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{AccountId, BudgetId};
use cfr_core::time::Clock;

use super::book::Book;
use super::engine::{Engine, in_time};
use super::gates::Passage;
use super::lives;
use crate::store::StoreError;

/// Leases are renewed this many times in their life, so that one failure does no harm.
const RENEWALS_PER_LEASE: u32 = 3;
/// A renewal that failed is tried again after this time, or with the next one.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Idle budgets whose rights go back in one transaction, at most: requests for them wait until it ends.
const BUDGETS_PER_RETURN: usize = 256;

/// Keeps the leases of a shared store until it is cancelled. The first renewal was made at the start.
pub(super) async fn keep_leases(engine: Arc<Engine>) {
    let renew_every = engine.config.lease_ttl / RENEWALS_PER_LEASE;
    let mut pause = renew_every;
    let mut unknown = Vec::new();
    loop {
        tokio::time::sleep(pause).await;
        match in_time(renew_every, renew(&engine)).await {
            Ok(leased) => {
                pause = renew_every;
                unknown = return_stranded(&engine, &unknown, leased).await;
                reclaim(&engine).await;
            }
            Err(error) => {
                pause = renew_every.min(RENEW_AGAIN_AFTER);
                tracing::warn!(%error, "leases could not be renewed; holds are made until they end");
            }
        }
    }
}

/// Prolongs this node's leases and names the accounts that the store says they are on. When one of them is gone the node
/// begins a new life (R9).
pub(super) async fn renew(engine: &Engine) -> Result<Vec<AccountId>, StoreError> {
    let (by, known) = {
        let book = engine.book();
        (book.incarnation().clone(), book.leased_accounts())
    };
    let (sent, sent_at) = (engine.clock.uptime(), engine.clock.machine().now());
    let renewal = match engine.store.renew(&by, engine.config.lease_ttl, sent_at).await {
        Err(StoreError::Fenced) => {
            lives::next(engine, &by).await?;
            return Ok(Vec::new());
        }
        renewal => renewal?,
    };
    engine.clock.learn(sent_at, engine.clock.uptime().saturating_sub(sent), renewal.now);
    let complete = engine.book().renewed(&by, &known, &renewal, engine.deadline(sent));
    if !complete {
        lives::next(engine, &by).await?;
    }
    Ok(renewal.accounts)
}

/// Gives back what the store says is leased to this node although it knows of no right there: an answer was lost, of a
/// grant or of a return. What was `unknown` at the last renewal and still is goes back; what is now is returned.
async fn return_stranded(engine: &Engine, unknown: &[AccountId], leased: Vec<AccountId>) -> Vec<AccountId> {
    let now = engine.book().without_rights(leased);
    let stranded: Vec<AccountId> = now.iter().copied().filter(|account| unknown.contains(account)).collect();
    if !stranded.is_empty()
        && let Err(error) = in_time(engine.config.commit_patience, give_back_whole(engine, stranded)).await
    {
        tracing::warn!(%error, "leases that this node does not know could not be given back yet");
    }
    now
}

/// Nobody may get rights on these accounts meanwhile, and what was charged there must be written before.
async fn give_back_whole(engine: &Engine, stranded: Vec<AccountId>) -> Result<(), StoreError> {
    let _closed = engine.gates.pass_all().await;
    let (by, stranded) = {
        let book = engine.book();
        (book.incarnation().clone(), book.without_rights(stranded))
    };
    engine.decide(Book::barrier).await.map_err(StoreError::unavailable)?;
    let _returned = engine.returns.write().await;
    let whole: Vec<_> = engine.book().without_rights(stranded).into_iter().map(|account| (account, i64::MAX)).collect();
    engine.store.give_back(&by, &whole).await
}

async fn reclaim(engine: &Engine) {
    let now = engine.clock.now();
    let longest = engine.config.hold_max + engine.config.reclaim_grace;
    let Ok(expired_before) = now.checked_sub(longest) else { return };
    match engine.store.reclaim(expired_before, engine.config.orphan_policy, now).await {
        Ok(found) if found.leases > 0 => tracing::warn!(?found, "leases of a dead node were taken over"),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "leases of dead nodes could not be taken over"),
    }
}

/// Gives back what nobody used for a while, until it is cancelled. What somebody asks the store about just now is in use.
pub(super) async fn return_idle(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(engine.config.idle_time(engine.store.exclusive())).await;
        let idle = engine.book().idle_budgets();
        for budgets in idle.chunks(BUDGETS_PER_RETURN) {
            let closed = engine.gates.pass_free(budgets.iter().copied());
            return_rights(&engine, closed, Book::drop_idle).await;
        }
    }
}

/// Gives back what `take` takes of the budgets whose gates are closed: a request that comes right now finds the rights at
/// the store, not on the way there.
pub(super) async fn return_rights(
    engine: &Engine,
    closed: Passage,
    mut take: impl FnMut(&mut Book, BudgetId) -> Option<(AccountId, i64)>,
) {
    let rights = engine.take(|book| closed.budgets().filter_map(|budget| take(book, budget)).collect());
    engine.give_back(rights).await;
}
