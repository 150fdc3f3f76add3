//! [`ApprovalStore`] over a map that is ordered by id, and what a grant asks of it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cfr_core::id::{GrantId, ProposalId};
use cfr_core::time::Timestamp;

use super::tables::page;
use super::{MemoryStore, State};
use crate::approval::{Alone, Consent, Proposal, ProposalFilter};
use crate::audit_log::{Act, Action, Event};
use crate::store::{ApprovalStore, NewGrant, Page, PageRequest, StoreError};

pub(super) type Proposals = BTreeMap<ProposalId, Proposal>;

const NOT_FOUND: StoreError = StoreError::NotFound { what: "proposal" };

impl State {
    /// Passes a grant that has the consent that it needs.
    pub(super) fn check_consent(&self, new: &NewGrant, now: Timestamp) -> Result<(), StoreError> {
        match &new.consent {
            Consent::NotNeeded => Ok(()),
            Consent::Alone(alone) => self.check_alone(new, alone),
            Consent::Second(id) => {
                let proposal = self.proposals.get(id).ok_or(NOT_FOUND)?;
                proposal.check_open(&Act { by: new.actor.clone(), at: now })
            }
        }
    }

    fn check_alone(&self, new: &NewGrant, alone: &Alone) -> Result<(), StoreError> {
        let approved = |grant: GrantId| self.proposals.values().any(|proposal| proposal.grant == Some(grant));
        let counted = self
            .books
            .grants
            .values()
            .filter(|grant| grant.budget == new.budget && alone.counts(grant) && !approved(grant.id));
        alone.check(counted.map(|grant| grant.amount_nanos).chain([new.amount]))
    }

    /// Notes that a grant was the consent to a proposal.
    pub(super) fn note_consent(&mut self, consent: &Consent, grant: GrantId, act: &Act) -> Result<(), StoreError> {
        let Consent::Second(id) = *consent else { return Ok(()) };
        let before = self.proposals.get(&id).ok_or(NOT_FOUND)?.clone();
        let after = before.approved(grant, act)?;
        self.log.record(&Event::changed(Action::ProposalApproved, &before, &after), act);
        self.proposals.insert(id, after);
        Ok(())
    }
}

#[async_trait]
impl ApprovalStore for MemoryStore {
    async fn add_proposal(&self, new: &Proposal, act: &Act) -> Result<Proposal, StoreError> {
        let state = &mut *self.state();
        state.catalog.open_budget(new.budget)?;
        let known = state.proposals.values().find(|known| known.idempotency_key == new.idempotency_key);
        if let Some(known) = known {
            let conflict = || StoreError::conflict("the idempotency key was used before with other terms");
            return if known.is_same(new) { Ok(known.clone()) } else { Err(conflict()) };
        }
        state.proposals.insert(new.id, new.clone());
        state.log.record(&Event::created(Action::ProposalMade, new), act);
        Ok(new.clone())
    }

    async fn proposal(&self, id: ProposalId) -> Result<Proposal, StoreError> {
        self.state().proposals.get(&id).cloned().ok_or(NOT_FOUND)
    }

    async fn proposals(&self, filter: &ProposalFilter, request: PageRequest) -> Result<Page<Proposal>, StoreError> {
        let state = self.state();
        let rows = state.proposals.values().rev().filter(|proposal| filter.wants(proposal));
        Ok(page(rows.map(|row| (row.id.as_u128(), row.clone())), request, true))
    }

    async fn reject_proposal(&self, id: ProposalId, why: &str, act: &Act) -> Result<Proposal, StoreError> {
        let state = &mut *self.state();
        let before = state.proposals.get(&id).ok_or(NOT_FOUND)?.clone();
        let after = before.rejected(why, act)?;
        state.log.record(&Event::changed(Action::ProposalRejected, &before, &after), act);
        state.proposals.insert(id, after.clone());
        Ok(after)
    }
}
