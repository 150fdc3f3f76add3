//! Rules of large amounts that wait for a second person.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{BudgetId, ProposalId, UserId};

use super::fixture::{DAY, Node, top_up};
use super::secrets::told;
use crate::approval::{Alone, COUNTED_WITHIN, Consent, PROPOSAL_LASTS, Proposal, ProposalFilter, ProposalStatus};
use crate::audit_log::{Act, Actor, ActorKind};
use crate::budget::GrantKind;
use crate::store::{NewGrant, PageRequest, Store, StoreError};

/// What one person may grant alone, in nano-units.
const MAX: i64 = 1_000;

/// What somebody grants within a day counts together, taken or given, and what keys grant counts for everybody.
pub async fn one_person_grants_so_much_within_a_day(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(5_000).await;
    let (ada, bob) = (person(&node), person(&node));
    let give = async |node: &Node<'_>, by: &Arc<Actor>, amount, key| {
        store.grant(&alone(node, budget, by, amount, key), node.now).await
    };
    give(&node, &ada, 600, "a").await.expect("within what one may do");
    needs_another(give(&node, &ada, 401, "b").await);
    give(&node, &ada, -400, "c").await.expect("exactly as much as one may do");
    needs_another(give(&node, &ada, 1, "d").await);
    give(&node, &bob, 1_000, "e").await.expect("another person");
    let other = node.hard(0).await;
    store.grant(&alone(&node, other, &ada, 1_000, "f"), node.now).await.expect("another budget");
    let later = node.later(COUNTED_WITHIN + DAY);
    give(&later, &ada, 1_000, "g").await.expect("another day");
    let cleo = person(&node);
    let by_key = NewGrant { actor: actor(ActorKind::Key, "key_1"), ..top_up(budget, 500, "h") };
    store.grant(&by_key, later.now).await.expect("a program's");
    needs_another(give(&later, &cleo, 501, "i").await);
    give(&later, &cleo, 500, "j").await.expect("with what the key granted");
    let again = give(&later, &cleo, 500, "j").await.expect("a repetition changes nothing");
    assert_eq!(again.amount_nanos, 500);
    assert_eq!(told(store, "grant.booked").await, 7);
    node.assert_books_agree().await;
}

/// Two that are together too much are not both booked when they come at once.
pub async fn nobody_splits_an_amount_by_being_fast(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(0).await;
    let ada = person(&node);
    let [one, other] = ["a", "b"].map(|key| alone(&node, budget, &ada, 600, key));
    let both = tokio::join!(store.grant(&one, node.now), store.grant(&other, node.now));
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    assert_eq!(node.sums(budget).await.0, 600);
    node.assert_books_agree().await;
}

/// By another person, once, with the events of both in the log; what was agreed to counts for nobody.
pub async fn a_second_person_books_a_proposal_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(0).await;
    let (ada, bob, cleo) = (person(&node), person(&node), person(&node));
    let waiting = propose(&node, budget, &ada, 9_000, "a").await;
    assert_eq!(node.sums(budget).await.0, 0);
    refused(store.grant(&waiting.to_grant(&act(&node, &ada)), node.now).await.map(drop));
    let consents = [&bob, &cleo].map(|by| waiting.to_grant(&act(&node, by)));
    let both = tokio::join!(store.grant(&consents[0], node.now), store.grant(&consents[1], node.now));
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    let grant = both.0.or(both.1).expect("one of them");
    let found = store.proposal(waiting.id).await.expect("it is there");
    assert_eq!(
        (found.status, found.grant, found.decided_by),
        (ProposalStatus::Approved, Some(grant.id), Some(grant.actor))
    );
    assert_eq!(node.sums(budget).await.0, 9_000);
    let own = alone(&node, budget, &ada, 1_000, "b");
    store.grant(&own, node.now).await.expect("what was agreed to does not count");
    assert_eq!((told(store, "proposal.approved").await, told(store, "grant.booked").await), (1, 2));
    node.assert_books_agree().await;
}

/// Either, never both.
pub async fn a_proposal_is_approved_or_rejected(store: &dyn Store) {
    let node = Node::start(store).await;
    let (ada, bob, cleo) = (person(&node), person(&node), person(&node));
    for round in 0..4 {
        let budget = node.hard(0).await;
        let waiting = propose(&node, budget, &ada, 9_000, &format!("round-{round}")).await;
        let (consent, by) = (waiting.to_grant(&act(&node, &bob)), act(&node, &cleo));
        let both = tokio::join!(store.grant(&consent, node.now), store.reject_proposal(waiting.id, "no", &by));
        assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
        let granted = if both.0.is_ok() { 9_000 } else { 0 };
        let budget_now = store.accounts(budget).await.expect("readable");
        assert_eq!(budget_now.first().map_or(0, |account| account.granted), granted);
        refused(store.reject_proposal(waiting.id, "again", &by).await.map(drop));
        refused(store.grant(&consent, node.now).await.map(drop));
    }
    node.assert_books_agree().await;
}

/// Nobody rejects their own, and nobody decides on what is too old.
pub async fn a_proposal_waits_for_somebody_else_and_not_for_ever(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(0).await;
    let (ada, bob) = (person(&node), person(&node));
    let waiting = propose(&node, budget, &ada, 9_000, "a").await;
    refused(store.reject_proposal(waiting.id, "mine", &act(&node, &ada)).await.map(drop));
    let late = node.later(PROPOSAL_LASTS);
    refused(store.reject_proposal(waiting.id, "late", &act(&late, &bob)).await.map(drop));
    refused(store.grant(&waiting.to_grant(&act(&late, &bob)), late.now).await.map(drop));
    assert_eq!(store.accounts(budget).await.expect("readable").len(), 0);
    let early = node.later(PROPOSAL_LASTS - Duration::from_secs(1));
    let rejected = store.reject_proposal(waiting.id, "no", &act(&early, &bob)).await;
    assert!(rejected.is_ok_and(|row| row.decision.as_deref() == Some("no")) || early.now <= late.now);
}

/// Once per key, newest first, by tenant and state.
pub async fn proposals_are_kept_once_and_listed(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(0).await;
    let (ada, bob) = (person(&node), person(&node));
    let first = propose(&node, budget, &ada, 9_000, "a").await;
    assert_eq!(propose(&node, budget, &ada, 9_000, "a").await, first);
    let other = Proposal { amount_nanos: 1, ..proposal(&node, budget, &ada, 9_000, "a") };
    refused(store.add_proposal(&other, &act(&node, &ada)).await.map(drop));
    let second = propose(&node.later(DAY), budget, &bob, 7_000, "b").await;
    let list =
        async |filter: ProposalFilter| store.proposals(&filter, PageRequest::default()).await.expect("readable").items;
    let of_tenant = ProposalFilter { tenant: Some(node.tenant), status: Some(ProposalStatus::Waiting) };
    assert_eq!(list(of_tenant).await, [second, first]);
    assert_eq!(list(ProposalFilter { status: Some(ProposalStatus::Rejected), ..of_tenant }).await, []);
    assert_eq!(told(store, "proposal.created").await, 2);
}

fn person(node: &Node<'_>) -> Arc<Actor> {
    actor(ActorKind::User, &UserId::generate(node.now).to_string())
}

fn actor(kind: ActorKind, id: &str) -> Arc<Actor> {
    Arc::new(Actor { id: Some(id.into()), ..Actor::of_kind(kind) })
}

fn act(node: &Node<'_>, by: &Arc<Actor>) -> Act {
    Act { by: Arc::clone(by), at: node.now }
}

/// An adjustment that somebody books alone.
fn alone(node: &Node<'_>, budget: BudgetId, by: &Arc<Actor>, amount: i64, key: &str) -> NewGrant {
    let since = node.now.checked_sub(COUNTED_WITHIN).expect("inside the calendar");
    let consent = Consent::Alone(Alone { person: by.label(), nanos_max: MAX, since });
    NewGrant { kind: GrantKind::Adjustment, actor: Arc::clone(by), consent, ..top_up(budget, amount, key) }
}

pub(super) async fn propose(node: &Node<'_>, budget: BudgetId, by: &Arc<Actor>, amount: i64, key: &str) -> Proposal {
    let new = proposal(node, budget, by, amount, key);
    node.store.add_proposal(&new, &act(node, by)).await.expect("the key is new, or it is the same")
}

pub(super) fn proposal(node: &Node<'_>, budget: BudgetId, by: &Arc<Actor>, amount: i64, key: &str) -> Proposal {
    Proposal {
        id: ProposalId::generate(node.now),
        budget,
        tenant: Some(node.tenant),
        kind: GrantKind::Adjustment,
        amount_nanos: amount,
        idempotency_key: key.into(),
        reason: "a rule".into(),
        overcommit: false,
        status: ProposalStatus::Waiting,
        proposed_by: by.label(),
        proposed_at: node.now,
        expires_at: node.now + PROPOSAL_LASTS,
        decided_by: None,
        decided_at: None,
        decision: None,
        grant: None,
    }
}

fn needs_another<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::NeedsSecondPerson)), "{outcome:?}");
}

fn refused(outcome: Result<(), StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Conflict { .. })), "{outcome:?}");
}
