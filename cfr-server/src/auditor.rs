//! The online auditor: walks the accounts in small pieces while calls run, counts what does not agree, and may stop new
//! calls until it does again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cfr_billing::store::{AuditRule, Finding, LedgerStore};
use cfr_core::id::{AccountId, BudgetId, HoldId};
use cfr_core::ledger::{
    AuthorizeError, Balance, BudgetLedger, Commit, Hold, HoldRequest, LedgerError, ReleaseReason, Settled, Settlement,
};
use cfr_core::money::Money;

use crate::observe::Metrics;

/// Accounts that are looked at in one piece.
const PIECE_ACCOUNTS: u32 = 100;
/// Pauses between two pieces that pass after the last account, before the next walk.
const REST_PAUSES: u32 = 60;
/// Findings that are remembered, so that each is logged once.
const REMEMBERED_MAX: usize = 10_000;

/// Looks at the books of a running server.
#[derive(Debug)]
pub struct Auditor {
    store: Arc<dyn LedgerStore>,
    metrics: Arc<Metrics>,
    halt: Arc<Halt>,
    /// Whether a finding stops new calls.
    halts: bool,
    pause: Duration,
    /// What was found in this walk and the one before: the rule and the place.
    known: BTreeSet<(AuditRule, String)>,
    found: BTreeSet<(AuditRule, String)>,
}

impl Auditor {
    /// An auditor that pauses between two looks at a few accounts. When `halts` is set, what it finds stops new calls
    /// through `halt`, until a whole walk finds nothing.
    #[must_use]
    pub fn new(
        store: Arc<dyn LedgerStore>,
        metrics: Arc<Metrics>,
        halt: Arc<Halt>,
        halts: bool,
        pause: Duration,
    ) -> Self {
        Self { store, metrics, halt, halts, pause, known: BTreeSet::new(), found: BTreeSet::new() }
    }

    /// Walks for ever.
    pub async fn run(mut self) {
        loop {
            self.walk().await;
            tokio::time::sleep(self.pause.saturating_mul(REST_PAUSES)).await;
        }
    }

    /// Looks at every account once, a few at a time.
    pub async fn walk(&mut self) {
        let mut after = AccountId(i64::MIN);
        loop {
            tokio::time::sleep(self.pause).await;
            match self.store.audit_accounts(after, PIECE_ACCOUNTS).await {
                Ok(piece) => {
                    piece.findings.iter().for_each(|finding| self.note(finding));
                    let Some(next) = piece.next else { break };
                    after = next;
                }
                Err(error) => {
                    tracing::warn!(%error, "the books cannot be audited now");
                    self.known.append(&mut self.found); // the next whole walk tells whether it is gone
                    return;
                }
            }
        }
        if self.found.is_empty() {
            self.halt.resume();
        }
        self.known = std::mem::take(&mut self.found);
    }

    /// Counts and logs what was not known before.
    fn note(&mut self, finding: &Finding) {
        if self.halts {
            self.halt.stop();
        }
        let place = finding.what.split_once(": ").map_or(&*finding.what, |(place, _)| place);
        let key = (finding.rule, place.to_owned());
        if !self.known.contains(&key) && !self.found.contains(&key) {
            self.metrics.violated(finding.rule);
            tracing::error!(
                rule = finding.rule.name(),
                "the books do not agree: {finding}; run `cfr-server ledger verify`"
            );
        }
        if self.found.len() < REMEMBERED_MAX {
            self.found.insert(key);
        }
    }
}

/// Whether new calls are stopped because the books do not agree.
#[derive(Debug, Default)]
pub struct Halt(AtomicBool);

impl Halt {
    /// Whether they are.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tracing::error!("new calls are refused until the books agree");
        }
    }

    fn resume(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::info!("the books agree again: calls are accepted");
        }
    }
}

/// A ledger that makes no holds while the books do not agree. What runs goes on to its end.
#[derive(Debug)]
pub struct Halting {
    ledger: Arc<dyn BudgetLedger>,
    halt: Arc<Halt>,
}

impl Halting {
    /// Puts a halt over a ledger.
    #[must_use]
    pub fn new(ledger: Arc<dyn BudgetLedger>, halt: Arc<Halt>) -> Self {
        Self { ledger, halt }
    }

    fn check(&self) -> Result<(), LedgerError> {
        if self.halt.is_set() { Err(LedgerError::unavailable("the books do not agree")) } else { Ok(()) }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BudgetLedger for Halting {
    async fn authorize(&self, ask: HoldRequest) -> Result<Hold, AuthorizeError> {
        self.check()?;
        self.ledger.authorize(ask).await
    }

    async fn extend(&self, hold: HoldId, step: u32, amount: Money) -> Result<Commit, AuthorizeError> {
        self.check()?;
        self.ledger.extend(hold, step, amount).await
    }

    fn checkpoint(&self, hold: HoldId, so_far: Settlement) -> Result<(), LedgerError> {
        self.ledger.checkpoint(hold, so_far)
    }

    fn settle(&self, hold: HoldId, settlement: Settlement) -> Result<Settled, LedgerError> {
        self.ledger.settle(hold, settlement)
    }

    fn release(&self, hold: HoldId, reason: ReleaseReason) -> Result<Commit, LedgerError> {
        self.ledger.release(hold, reason)
    }

    async fn balance(&self, budget: BudgetId) -> Result<Balance, LedgerError> {
        self.ledger.balance(budget).await
    }
}

#[cfg(test)]
mod tests {
    use cfr_billing::store::MemoryStore;
    use cfr_core::ledger::{BudgetSpec, LimitPolicy, MemoryLedger, Scope};
    use cfr_core::money::Currency;
    use cfr_core::time::{Period, SystemClock, TimeZone, Timestamp};

    use super::*;

    async fn store_with_accounts(number: u128) -> (Arc<MemoryStore>, AccountId) {
        let (store, now) = (Arc::new(MemoryStore::exclusive()), Timestamp::UNIX_EPOCH);
        let mut last = AccountId(0);
        for number in 1..=number {
            let id = BudgetId::from_u128(number);
            let (scope, currency, policy) = (Scope::User, Currency::EUR, LimitPolicy::Hard);
            let spec = BudgetSpec {
                id,
                scope,
                currency,
                included_nanos: 10,
                policy,
                period: Period::Never,
                zone: TimeZone::UTC,
            };
            store.add_budget(spec, now);
            last = store.account(id, now).await.expect("it exists").account;
        }
        (store, last)
    }

    fn auditor(store: &Arc<MemoryStore>, halts: bool) -> (Auditor, Arc<Metrics>, Arc<Halt>) {
        let (metrics, halt) = (Arc::new(Metrics::new()), Arc::new(Halt::default()));
        let store = Arc::clone(store) as Arc<dyn LedgerStore>;
        let auditor = Auditor::new(store, Arc::clone(&metrics), Arc::clone(&halt), halts, Duration::ZERO);
        (auditor, metrics, halt)
    }

    fn violations(metrics: &Metrics, rule: &str) -> String {
        let page = metrics.render(&cfr_billing::escrow::EscrowStats::default(), crate::database::PoolUse::default());
        let name = format!("cfr_ledger_invariant_violation_total{{rule=\"{rule}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)).expect("it is exported").to_owned()
    }

    #[tokio::test]
    async fn a_violation_is_counted_once_until_it_is_gone() {
        let (store, last) = store_with_accounts(u128::from(PIECE_ACCOUNTS) + 1).await;
        let (mut auditor, metrics, halt) = auditor(&store, false);
        auditor.walk().await;
        assert_eq!(violations(&metrics, "sums"), "0");
        store.tamper(last, 3);
        auditor.walk().await;
        store.tamper(last, 1);
        auditor.walk().await;
        assert_eq!(violations(&metrics, "sums"), "1", "the same place, with other figures");
        store.tamper(last, -4);
        auditor.walk().await;
        store.tamper(last, 2);
        auditor.walk().await;
        assert_eq!(violations(&metrics, "sums"), "2", "it was gone in between");
        assert!(!halt.is_set(), "nobody asked for that");
    }

    #[tokio::test]
    async fn a_halted_ledger_makes_no_holds_until_the_books_agree_again() {
        let (store, last) = store_with_accounts(1).await;
        let (mut auditor, _, halt) = auditor(&store, true);
        let ledger = Halting::new(Arc::new(MemoryLedger::new(Arc::new(SystemClock::new()))), Arc::clone(&halt));
        assert!(ledger.check().is_ok());
        store.tamper(last, 3);
        auditor.walk().await;
        let refused = ledger.extend(HoldId::from_u128(1), 1, Money::zero(Currency::EUR)).await;
        assert!(matches!(refused, Err(AuthorizeError::Ledger(LedgerError::Unavailable { .. }))));
        store.tamper(last, -3);
        auditor.walk().await;
        assert!(ledger.check().is_ok());
    }
}
