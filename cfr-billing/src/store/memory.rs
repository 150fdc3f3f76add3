//! A store in memory: the plain reference for every other store, for tests and for embedders who need no durability.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cfr_core::ledger::BudgetSpec;
use cfr_core::time::Timestamp;

use self::books::Books;
use self::catalog::Catalog;
pub use self::fault::Faults;
use crate::budget::{Budget, ScopeId};

mod books;
mod catalog;
mod fault;
mod ledger;
mod tables;

/// A [`super::Store`] in memory. It keeps everything it was ever told.
#[derive(Debug)]
pub struct MemoryStore {
    exclusive: bool,
    state: Mutex<State>,
    /// Makes the store fail on purpose, for tests.
    pub faults: Faults,
}

/// Everything the store knows, behind one lock: a transaction is one critical section.
#[derive(Debug, Default)]
struct State {
    books: Books,
    catalog: Catalog,
}

impl MemoryStore {
    /// An empty store that one node owns.
    #[must_use]
    pub fn exclusive() -> Self {
        Self::new(true)
    }

    /// An empty store that many nodes share: leases expire.
    #[must_use]
    pub fn shared() -> Self {
        Self::new(false)
    }

    /// Adds a budget whose id is known beforehand, as examples and tests like it. It belongs to no tenant and to no scope
    /// that a key leads to.
    pub fn add_budget(&self, spec: BudgetSpec, now: Timestamp) {
        let scope_id = ScopeId(spec.id.as_u128());
        let budget = Budget { spec, tenant: None, scope_id, active: true, version: 1, created_at: now };
        self.state().catalog.budgets.insert(budget.spec.id, budget);
    }

    fn new(exclusive: bool) -> Self {
        Self { exclusive, state: Mutex::default(), faults: Faults::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
