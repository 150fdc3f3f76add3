//! One conversation with the store per budget at a time.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cfr_core::id::BudgetId;
use smallvec::SmallVec;
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::id_hash::IdMap;

/// Locks that are held while the store is asked about a budget: whoever comes second finds what the first one got.
#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Held alone by somebody who needs all gates.
    all: Arc<RwLock<()>>,
    used: Arc<Used>,
}

/// The gates that somebody holds or waits for.
#[derive(Debug, Default)]
struct Used(Mutex<IdMap<BudgetId, Gate>>);

type Gate = Arc<tokio::sync::Mutex<()>>;

/// The gates of some budgets, held until dropped.
#[derive(Debug)]
pub(super) struct Passage {
    turns: SmallVec<[Turn; 6]>,
    _not_all: Option<OwnedRwLockReadGuard<()>>,
}

/// A gate that is held.
#[derive(Debug)]
struct Turn {
    _held: OwnedMutexGuard<()>,
    interest: Interest,
}

/// Somebody who holds a gate or waits for it. The last one to lose interest takes the gate away.
#[derive(Debug)]
struct Interest {
    budget: BudgetId,
    used: Arc<Used>,
}

impl Gates {
    /// Waits for the gates of these budgets, in an order in which nobody waits in a circle.
    pub(super) async fn pass(&self, budgets: impl Iterator<Item = BudgetId>) -> Passage {
        let not_all = Arc::clone(&self.all).read_owned().await;
        let mut turns = SmallVec::new();
        for budget in in_order(budgets) {
            let interest = self.interest(budget);
            turns.push(Turn { _held: self.used.gate(budget).lock_owned().await, interest });
        }
        Passage { turns, _not_all: Some(not_all) }
    }

    /// Those of these gates that nobody holds.
    pub(super) fn pass_free(&self, budgets: impl Iterator<Item = BudgetId>) -> Passage {
        let Ok(not_all) = Arc::clone(&self.all).try_read_owned() else {
            return Passage { turns: SmallVec::new(), _not_all: None };
        };
        let turn = |budget| {
            let interest = self.interest(budget);
            self.used.gate(budget).try_lock_owned().ok().map(|held| Turn { _held: held, interest })
        };
        Passage { turns: in_order(budgets).into_iter().filter_map(turn).collect(), _not_all: Some(not_all) }
    }

    /// Waits until nobody holds a gate, and lets nobody pass until it is dropped.
    pub(super) async fn pass_all(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.all).write_owned().await
    }

    fn interest(&self, budget: BudgetId) -> Interest {
        Interest { budget, used: Arc::clone(&self.used) }
    }
}

fn in_order(budgets: impl Iterator<Item = BudgetId>) -> SmallVec<[BudgetId; 6]> {
    let mut budgets: SmallVec<[BudgetId; 6]> = budgets.collect();
    budgets.sort_unstable();
    budgets.dedup();
    budgets
}

impl Passage {
    /// Whether it holds the gates of all these budgets.
    pub(super) fn covers(&self, mut budgets: impl Iterator<Item = BudgetId>) -> bool {
        budgets.all(|budget| self.budgets().any(|held| held == budget))
    }

    /// The budgets whose gates it holds, in the order of their ids.
    pub(super) fn budgets(&self) -> impl Iterator<Item = BudgetId> {
        self.turns.iter().map(|turn| turn.interest.budget)
    }
}

impl Used {
    fn gate(&self, budget: BudgetId) -> Gate {
        Arc::clone(self.lock().entry(budget).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, IdMap<BudgetId, Gate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if let Entry::Occupied(gate) = self.used.lock().entry(self.budget)
            && Arc::strong_count(gate.get()) == 1
        {
            gate.remove(); // nobody else can take a share of it meanwhile
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn budget(number: u128) -> BudgetId {
        BudgetId::from_u128(number)
    }

    fn budgets(numbers: &[u128]) -> impl Iterator<Item = BudgetId> {
        numbers.iter().copied().map(budget)
    }

    fn used(gates: &Gates) -> usize {
        gates.used.lock().len()
    }

    #[tokio::test]
    async fn only_gates_that_are_held_or_waited_for_are_kept() {
        let gates = Gates::default();
        let first = gates.pass(budgets(&[1, 2])).await;
        {
            let mut waiting = Box::pin(gates.pass(budgets(&[2, 3])));
            assert!(is_pending(&mut waiting).await);
            drop(first);
            assert_eq!(used(&gates), 1, "somebody waits for one of the two");
        }
        assert_eq!(used(&gates), 0, "who waited has gone");
    }

    #[tokio::test]
    async fn a_gate_that_is_held_is_not_free() {
        let gates = Gates::default();
        let held = gates.pass(budgets(&[2])).await;
        let free = gates.pass_free(budgets(&[3, 2, 1]));
        assert_eq!(free.budgets().collect::<Vec<_>>(), [budget(1), budget(3)]);
        assert!(free.covers(budgets(&[3])) && !free.covers(budgets(&[1, 2])));
        drop((held, free));
        assert_eq!(used(&gates), 0);
    }

    #[tokio::test]
    async fn nobody_passes_while_somebody_holds_all() {
        let gates = Gates::default();
        let all = gates.pass_all().await;
        assert_eq!(gates.pass_free(budgets(&[1])).budgets().count(), 0);
        let mut waiting = Box::pin(gates.pass(budgets(&[1])));
        assert!(is_pending(&mut waiting).await);
        drop(all);
        assert!(waiting.await.covers(budgets(&[1])));
    }

    async fn is_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }
}
