//! [`OutsideStore`] over maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::id::{HoldId, UserId};
use cfr_core::time::Timestamp;

use super::MemoryStore;
use super::tables::check_free;
use crate::audit_log::{Act, Action, Event};
use crate::outside::{Named, NamedKind, OutsideHold, OutsideName};
use crate::store::outside::OUTSIDE_HOLDS_MAX;
use crate::store::{OutsideStore, StoreError};

#[derive(Debug, Default)]
pub(super) struct Outside {
    holds: BTreeMap<HoldId, OutsideHold>,
    names: BTreeMap<(NamedKind, Arc<str>), OutsideName>,
}

impl Outside {
    pub(super) fn forget_user(&mut self, user: UserId) {
        self.names.retain(|_, name| name.named != Named::User(user));
    }
}

#[async_trait]
impl OutsideStore for MemoryStore {
    async fn add_outside_hold(&self, hold: &OutsideHold) -> Result<(), StoreError> {
        let holds = &mut self.state().outside.holds;
        check_free(holds.contains_key(&hold.id), "the id of the hold")?;
        holds.insert(hold.id, hold.clone());
        Ok(())
    }

    async fn outside_hold(&self, id: HoldId) -> Result<Option<OutsideHold>, StoreError> {
        Ok(self.state().outside.holds.get(&id).cloned())
    }

    async fn ended_outside_holds(&self, now: Timestamp, limit: u32) -> Result<Vec<OutsideHold>, StoreError> {
        let state = self.state();
        let mut ended: Vec<&OutsideHold> = state.outside.holds.values().filter(|hold| hold.ends_at <= now).collect();
        ended.sort_by_key(|hold| (hold.ends_at, hold.id));
        Ok(ended.into_iter().take(limit.min(OUTSIDE_HOLDS_MAX) as usize).cloned().collect())
    }

    async fn forget_outside_hold(&self, id: HoldId) -> Result<(), StoreError> {
        self.state().outside.holds.remove(&id);
        Ok(())
    }

    async fn keep_outside_name(&self, name: &OutsideName, act: &Act) -> Result<(), StoreError> {
        let mut state = self.state();
        let place = (name.named.kind(), Arc::clone(&name.name));
        let known = state.outside.names.get(&place);
        check_free(known.is_some_and(|known| known.named != name.named), "the name")?;
        if known == Some(name) {
            return Ok(());
        }
        state.outside.names.insert(place, name.clone());
        state.log.record(&Event::created(Action::OutsideNameKept, name), act);
        Ok(())
    }

    async fn outside_name(&self, kind: NamedKind, name: &str) -> Result<Option<OutsideName>, StoreError> {
        Ok(self.state().outside.names.get(&(kind, name.into())).cloned())
    }

    async fn outside_names_of(&self, named: Named) -> Result<Vec<OutsideName>, StoreError> {
        let state = self.state();
        Ok(state.outside.names.values().filter(|name| name.named == named).cloned().collect())
    }
}
