//! Rules of leads.

use cfr_core::id::LeadId;

use super::fixture::{DAY, Node};
use super::secrets::told;
use crate::audit_log::{Act, AuditFilter};
use crate::identity::Language;
use crate::lead::{Lead, LeadFilter, LeadStatus};
use crate::store::{PageRequest, Store, StoreError};

/// With what became of them, until they are forgotten.
pub async fn a_lead_is_kept_changed_and_forgotten(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let new = lead(&node, "Anna@Example.org");
    store.add_lead(&new, None, &act).await.expect("the store works");
    assert_eq!(store.lead(new.id).await.expect("it is there"), new);
    let wish = Lead { status: LeadStatus::Contacted, note: Some("called".into()), ..new.clone() };
    let changed = store.update_lead(&wish, &act).await.expect("it is current");
    assert_eq!((changed.version, changed.status), (2, LeadStatus::Contacted));
    let late = store.update_lead(&wish, &act).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    store.remove_lead(new.id, &act).await.expect("it is there");
    for gone in [store.lead(new.id).await.map(drop), store.remove_lead(new.id, &act).await] {
        assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
    }
    for action in ["lead.created", "lead.changed", "lead.removed"] {
        assert_eq!(told(store, action).await, 1, "{action}");
    }
}

/// The log says that somebody asked, and not who.
pub async fn nothing_personal_of_a_lead_is_told(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let new = Lead { note: Some("Secretive".into()), ..lead(&node, "anna@example.org") };
    store.add_lead(&new, None, &act).await.expect("the store works");
    store.update_lead(&Lead { note: Some("Discreet".into()), ..new.clone() }, &act).await.expect("it is current");
    store.remove_lead(new.id, &act).await.expect("it is there");
    let filter = AuditFilter { action: Some("lead.".into()), ..AuditFilter::default() };
    let events = store.audit_events(&filter, PageRequest::default()).await.expect("readable").items;
    assert_eq!(events.len(), 3);
    for word in ["Anna", "anna", "Acme", "budgets", "Secretive", "Discreet"] {
        assert!(events.iter().all(|event| !event.changes.contains(word)), "{word}: {events:?}");
    }
}

/// Newest first: by state, by address without regard to case, by age.
pub async fn leads_are_found_by_state_address_and_age(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let [old, new] = [lead(&node, "Anna@Example.org"), lead(&node.later(DAY), "bob@example.org")];
    for lead in [&old, &new] {
        store.add_lead(lead, None, &act).await.expect("the store works");
    }
    let list = async |filter: LeadFilter| store.leads(&filter, PageRequest::default()).await.expect("readable").items;
    assert_eq!(list(LeadFilter::default()).await, [new.clone(), old.clone()]);
    let of_anna = LeadFilter { email: Some(" anna@example.ORG".into()), ..LeadFilter::default() };
    assert_eq!(list(of_anna).await, std::slice::from_ref(&old));
    let before = LeadFilter { before: Some(new.updated_at), ..LeadFilter::default() };
    assert_eq!(list(before).await, [old]);
    assert_eq!(list(LeadFilter { status: Some(LeadStatus::Won), ..LeadFilter::default() }).await, []);
}

pub(super) fn lead(node: &Node<'_>, email: &str) -> Lead {
    Lead {
        id: LeadId::generate(node.now),
        name: "Anna Berg".into(),
        company: Some("Acme".into()),
        email: email.into(),
        message: "about budgets".into(),
        locale: Language::De,
        consent_at: node.now,
        status: LeadStatus::New,
        note: None,
        version: 1,
        created_at: node.now,
        updated_at: node.now,
    }
}
