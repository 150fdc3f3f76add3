//! [`LeadStore`] over a map that is ordered by id.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cfr_core::id::LeadId;

use super::MemoryStore;
use super::tables::{check_version, page};
use crate::audit_log::{Act, Action, Event};
use crate::lead::{Lead, LeadFilter};
use crate::people::Mail;
use crate::store::{LeadStore, Page, PageRequest, StoreError};

pub(super) type Leads = BTreeMap<LeadId, Lead>;

const NOT_FOUND: StoreError = StoreError::NotFound { what: "lead" };

#[async_trait]
impl LeadStore for MemoryStore {
    async fn add_lead(&self, new: &Lead, letter: Option<&Mail>, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        state.leads.insert(new.id, new.clone());
        if let Some(letter) = letter {
            state.people.queue(letter);
        }
        state.log.record(&Event::created(Action::LeadReceived, new), act);
        Ok(())
    }

    async fn lead(&self, id: LeadId) -> Result<Lead, StoreError> {
        self.state().leads.get(&id).cloned().ok_or(NOT_FOUND)
    }

    async fn leads(&self, filter: &LeadFilter, request: PageRequest) -> Result<Page<Lead>, StoreError> {
        let state = self.state();
        let rows = state.leads.values().rev().filter(|lead| filter.wants(lead));
        Ok(page(rows.map(|row| (row.id.as_u128(), row.clone())), request, true))
    }

    async fn update_lead(&self, new: &Lead, act: &Act) -> Result<Lead, StoreError> {
        let state = &mut *self.state();
        let known = state.leads.get_mut(&new.id).ok_or(NOT_FOUND)?;
        check_version(known.version, new.version)?;
        let after = Lead { version: new.version + 1, updated_at: act.at, ..new.clone() };
        state.log.record(&Event::changed(Action::LeadChanged, known, &after), act);
        *known = after.clone();
        Ok(after)
    }

    async fn remove_lead(&self, id: LeadId, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let gone = state.leads.remove(&id).ok_or(NOT_FOUND)?;
        state.log.record(&Event::created(Action::LeadRemoved, &gone), act);
        Ok(())
    }
}
