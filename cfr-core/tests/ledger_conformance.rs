//! The reference ledger passes the suite that it is the reference of.

use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::conformance::ledger::LedgerUnderTest;
use cfr_core::id::BudgetId;
use cfr_core::ledger::{BudgetLedger, BudgetSpec, MemoryLedger};
use cfr_core::money::Money;
use cfr_core::time::{ManualClock, Timestamp};

cfr_core::ledger_conformance!(fresh_ledger());

#[derive(Debug)]
struct Memory {
    ledger: Arc<MemoryLedger>,
    clock: Arc<ManualClock>,
}

fn fresh_ledger() -> Memory {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    Memory { ledger: Arc::new(MemoryLedger::new(clock.clone())), clock }
}

#[async_trait]
impl LedgerUnderTest for Memory {
    fn ledger(&self) -> Arc<dyn BudgetLedger> {
        self.ledger.clone()
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    async fn add_budget(&self, spec: BudgetSpec) {
        self.ledger.add_budget(spec);
    }

    async fn grant(&self, budget: BudgetId, amount: Money, idempotency_key: &str) {
        assert_eq!(self.ledger.grant(budget, amount, idempotency_key), Ok(()));
    }

    async fn settle_down(&self) {}
}
