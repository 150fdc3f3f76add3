//! A store in memory: the plain reference for every other store, for tests and for embedders who need no durability.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cfr_core::ledger::BudgetSpec;
use cfr_core::time::{Clock, Timestamp};

use self::approval::Proposals;
use self::batch::Batches;
use self::books::Books;
use self::catalog::Catalog;
use self::claims::Claims;
pub use self::fault::Faults;
use self::lead::Leads;
use self::log::Log;
use self::oidc::Oidc;
use self::outside::Outside;
use self::people::People;
use self::provider_account::ProviderAccounts;
use self::recall::{Bells, Questions};
use self::secrets::DataKeys;
use crate::budget::{Budget, ScopeId};

mod approval;
mod batch;
mod books;
mod catalog;
mod claims;
mod fault;
mod keys;
mod lead;
mod ledger;
mod log;
mod oidc;
mod outside;
mod people;
mod provider_account;
mod recall;
mod secrets;
mod subscription;
mod tables;

/// A [`super::Store`] in memory. It keeps everything it was ever told.
#[derive(Debug)]
pub struct MemoryStore {
    exclusive: bool,
    /// The store's own time, when it has one.
    clock: Option<Arc<dyn Clock>>,
    state: Mutex<State>,
    bells: Bells,
    /// Makes the store fail on purpose, for tests.
    pub faults: Faults,
}

/// Everything the store knows, behind one lock: a transaction is one critical section.
#[derive(Debug, Default)]
struct State {
    books: Books,
    catalog: Catalog,
    batches: Batches,
    claims: Claims,
    people: People,
    oidc: Oidc,
    data_keys: DataKeys,
    provider_accounts: ProviderAccounts,
    outside: Outside,
    proposals: Proposals,
    leads: Leads,
    log: Log,
    questions: Questions,
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

    /// A shared store that goes by a clock of its own, as a database server does, and not by what it is told.
    #[must_use]
    pub fn shared_with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..Self::shared() }
    }

    /// Adds a budget whose id is known beforehand, as examples and tests like it. It belongs to no tenant and to no scope
    /// that a key leads to.
    pub fn add_budget(&self, spec: BudgetSpec, now: Timestamp) {
        let scope_id = ScopeId(spec.id.as_u128());
        let budget = Budget { spec, tenant: None, scope_id, active: true, version: 1, created_at: now };
        self.state().catalog.budgets.insert(budget.spec.id, budget);
    }

    fn new(exclusive: bool) -> Self {
        Self { exclusive, clock: None, state: Mutex::default(), bells: Bells::default(), faults: Faults::default() }
    }

    /// The time by which the store goes.
    fn time(&self, told: Timestamp) -> Timestamp {
        self.clock.as_ref().map_or(told, |clock| clock.now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
