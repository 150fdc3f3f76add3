//! One conversation with the store per budget at a time.

use std::sync::Arc;

use cfr_core::id::BudgetId;
use smallvec::SmallVec;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Budgets share this many gates.
const GATES: usize = 64;

/// Locks that are held while the store is asked about a budget: whoever comes second finds what the first one got.
#[derive(Debug)]
pub(super) struct Gates(Vec<Arc<Mutex<()>>>);

/// The gates of some budgets, held until dropped.
#[derive(Debug)]
pub(super) struct Passage {
    gates: SmallVec<[usize; 6]>,
    _held: SmallVec<[OwnedMutexGuard<()>; 6]>,
}

impl Default for Gates {
    fn default() -> Self {
        Self((0..GATES).map(|_| Arc::default()).collect())
    }
}

impl Gates {
    /// Waits for the gates of these budgets, in an order in which nobody waits in a circle.
    pub(super) async fn pass(&self, budgets: impl Iterator<Item = BudgetId>) -> Passage {
        let mut gates: SmallVec<[usize; 6]> = budgets.map(gate).collect();
        gates.sort_unstable();
        gates.dedup();
        let mut held = SmallVec::new();
        for gate in gates.iter().filter_map(|&gate| self.0.get(gate)) {
            held.push(gate.clone().lock_owned().await);
        }
        Passage { gates, _held: held }
    }
}

impl Gates {
    /// The gate of a budget, unless somebody holds it.
    pub(super) fn try_pass(&self, budget: BudgetId) -> Option<OwnedMutexGuard<()>> {
        self.0.get(gate(budget))?.clone().try_lock_owned().ok()
    }

    /// Waits for all gates.
    pub(super) async fn pass_all(&self) -> Vec<OwnedMutexGuard<()>> {
        let mut held = Vec::with_capacity(GATES);
        for gate in &self.0 {
            held.push(gate.clone().lock_owned().await);
        }
        held
    }
}

impl Passage {
    /// Whether it holds the gates of all these budgets.
    pub(super) fn covers(&self, mut budgets: impl Iterator<Item = BudgetId>) -> bool {
        budgets.all(|budget| self.gates.contains(&gate(budget)))
    }
}

/// The gate of a budget.
pub(super) fn gate(budget: BudgetId) -> usize {
    (budget.as_u128() % GATES as u128) as usize
}
