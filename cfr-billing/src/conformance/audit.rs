//! Books that somebody edited: what each rule finds, and what a correction sets right.

use std::sync::atomic::{AtomicBool, Ordering};

use cfr_core::id::AccountId;
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::Period;

use super::fixture::{DAY, Node, new_tenant, top_up};
use crate::audit_log::Act;
use crate::store::{AuditRule, Finding, Op, Store, StoreError};

/// An edit that only one rule finds.
#[derive(Debug, Clone, Copy)]
pub struct Tampering {
    /// The rule.
    pub rule: AuditRule,
    /// The edit, in words that both databases know; none where the node itself books something wrong.
    pub sql: &'static str,
    /// Part of what the finding says.
    pub finding: &'static str,
    /// Whether a booking sets it right.
    pub correctable: bool,
}

const fn correctable(sql: &'static str, finding: &'static str) -> Tampering {
    Tampering { rule: AuditRule::Sums, sql, finding, correctable: true }
}

const fn lasting(rule: AuditRule, sql: &'static str, finding: &'static str) -> Tampering {
    Tampering { rule, sql, finding, correctable: false }
}

/// Edits of the books that [`write_books`] writes, each of which only one rule finds. They are made behind the store's
/// back, without its triggers and constraints.
pub const TAMPERINGS: &[Tampering] = &[
    correctable(
        "UPDATE accounts SET settled = settled - 1 WHERE settled > 0",
        "settled is 209 but its parts add up to 210",
    ),
    correctable(
        "UPDATE accounts SET granted = granted + 5 WHERE settled > 0",
        "granted is 1055 but its parts add up to 1050",
    ),
    correctable("UPDATE accounts SET overrun = 7 WHERE settled > 0", "overrun is 7 but its parts add up to 0"),
    correctable(
        "UPDATE leases SET granted = granted + 1 WHERE consumed > 0",
        "leased is 390 but its parts add up to 391",
    ),
    lasting(
        AuditRule::Sums,
        "UPDATE grants SET amount = 51 WHERE kind = 'top_up'",
        "its grants add up to 1051 and its entries to 1050",
    ),
    lasting(
        AuditRule::Limit,
        "UPDATE accounts SET overcommit = 0 WHERE overcommit > 0",
        "settled 0 and leased 800 exceed granted 500 and overcommit 0",
    ),
    lasting(
        AuditRule::Charges,
        "INSERT INTO holds (id, node, epoch, accounts, amount, tenant_id, model, at) \
         SELECT id, 'node-1', 1, accounts, 10, tenant_id, 'm', at FROM usage_records LIMIT 1",
        "it is open in the journal, but was charged",
    ),
    lasting(AuditRule::Prices, "", "charged 20 and overrun 0 are not the price 30"),
    lasting(
        AuditRule::Periods,
        "UPDATE accounts SET ends_at = ends_at + 3600000000 WHERE seq = 1 AND ends_at IS NOT NULL",
        "before it ends at",
    ),
    lasting(AuditRule::Periods, "UPDATE accounts SET seq = 9 WHERE seq = 2", "but there is no period 8"),
    lasting(
        AuditRule::Isolation,
        "UPDATE budgets SET tenant_id = (SELECT id FROM tenants WHERE slug = 'other') \
         WHERE id = (SELECT budget_id FROM accounts WHERE settled > 0)",
        "was charged on",
    ),
    lasting(
        AuditRule::Chain,
        "UPDATE ledger_batches SET epoch = epoch + 1 WHERE rows > 0",
        "was changed after it was sealed",
    ),
    lasting(AuditRule::Chain, "UPDATE usage_records SET model_served = 'x'", "was changed after it was sealed"),
    lasting(AuditRule::Days, "UPDATE usage_daily SET requests = requests + 1", "the rollup counts 4 requests"),
];

/// Edits of the correction that was booked for the first of the [`TAMPERINGS`]. The chain finds each of them.
pub const CORRECTION_EDITS: &[&str] = &[
    "UPDATE ledger_corrections SET account_id = account_id + 1",
    "UPDATE ledger_corrections SET sum = 'overrun'",
    "UPDATE ledger_corrections SET was = was + 1",
    "UPDATE ledger_corrections SET became = became + 1",
    "UPDATE ledger_corrections SET reason = 'none'",
    "UPDATE ledger_corrections SET actor = 'nobody'",
    "DELETE FROM ledger_corrections",
];

/// Writes a little of everything, and what this tampering needs of the node.
pub async fn write_books(store: &dyn Store, tampering: &Tampering) {
    let node = Node::start(store).await;
    store.create_tenant(&new_tenant("other"), &Act::of_system(node.now)).await.expect("the slug is free");
    let budget = node.hard(1_000).await;
    let account = node.lease(budget, 600).await;
    store.grant(&top_up(budget, 50, "bought"), node.now).await.expect("the budget exists");
    for _ in 0..3 {
        node.commit(&[node.settle(node.hold(), &[account], 70)]).await;
    }
    let daily = node.budget(10, LimitPolicy::Hard, Period::Day).await;
    node.state(daily).await;
    node.later(DAY).state(daily).await;
    let lowered = node.hard(1_000).await;
    node.lease(lowered, 800).await;
    store.set_budget_limit(lowered, 1, 500, &Act::of_system(node.now)).await.expect("the budget exists");
    node.assert_books_agree().await;
    if tampering.rule == AuditRule::Prices {
        node.commit(&[overpriced(&node, account)]).await;
    }
}

/// A settlement whose record names another price than is charged.
fn overpriced(node: &Node<'_>, account: AccountId) -> Op {
    let Op::Settle(mut settled) = node.settle(node.hold(), &[account], 20) else { panic!("it is a settlement") };
    settled.record.price_nanos = 30;
    Op::Settle(settled)
}

/// Only the tampering's own rule finds it; what can be corrected is, once, and then the books agree.
pub async fn check_tampering(store: &dyn Store, tampering: &Tampering) {
    let found = store.audit().await.expect("the store works");
    assert!(found.iter().all(|finding| finding.rule == tampering.rule), "{tampering:?}: {found:#?}");
    assert!(found.iter().any(|finding| finding.what.contains(tampering.finding)), "{tampering:?}: {found:#?}");
    let piece = store.audit_accounts(AccountId(i64::MIN), 100).await.expect("the store works");
    if matches!(tampering.rule, AuditRule::Sums | AuditRule::Limit | AuditRule::Periods) {
        assert_eq!(piece.findings.len(), found.len(), "{tampering:?}: a look at the accounts finds the same");
    } else {
        assert_eq!(piece.findings, [], "{tampering:?}: it is not about accounts");
    }
    let corrections: Vec<_> = found.iter().filter_map(|finding| finding.correction).collect();
    assert_eq!(corrections.len(), if tampering.correctable { found.len() } else { 0 }, "{tampering:?}");
    let now = super::fixture::noon();
    for correction in corrections {
        store.correct(&correction, "a test", &Act::of_system(now)).await.expect("it can be booked");
        let again = store.correct(&correction, "a test", &Act::of_system(now)).await;
        assert!(matches!(again, Err(StoreError::Conflict { .. })), "{tampering:?}: once is enough: {again:?}");
    }
    if tampering.correctable {
        assert_eq!(store.audit().await.expect("the store works"), [], "{tampering:?}");
    }
}

/// Settlements that go on while an audit reads.
const WRITES: u32 = 100;

/// An audit reads one moment of the books: what is being booked beside it is no finding.
pub async fn an_audit_beside_writes_finds_nothing(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(1_000_000).await;
    let account = node.lease(budget, 1_000_000).await;
    let written = AtomicBool::new(false);
    let write = async {
        for number in 0..WRITES {
            node.commit(&[node.settle(node.hold(), &[account], 70)]).await;
            if number % 10 == 0 {
                node.grant(budget, 100, &format!("grant-{number}")).await;
            }
        }
        written.store(true, Ordering::Relaxed);
    };
    let audit = async {
        let mut found: Vec<Finding> = Vec::new();
        while !written.load(Ordering::Relaxed) {
            found.extend(store.audit().await.expect("the store works"));
            found.extend(store.audit_accounts(AccountId(i64::MIN), 10).await.expect("the store works").findings);
            tokio::task::yield_now().await;
        }
        found
    };
    let ((), found) = tokio::join!(write, audit);
    assert_eq!(found, []);
    node.assert_books_agree().await;
}

/// Looking at the accounts in pieces looks at each of them once.
pub async fn accounts_are_audited_in_pieces(store: &dyn Store) {
    let node = Node::start(store).await;
    for _ in 0..5 {
        node.state(node.hard(10).await).await;
    }
    let (mut after, mut checked) = (AccountId(i64::MIN), Vec::new());
    loop {
        let piece = store.audit_accounts(after, 2).await.expect("the store works");
        assert_eq!(piece.findings, []);
        checked.push(piece.checked);
        let Some(next) = piece.next else { break };
        assert!(next > after, "it goes on");
        after = next;
    }
    assert_eq!(checked, [2, 2, 1]);
}
