//! [`SecretStore`] over a map that is ordered by id.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cfr_core::id::{DataKeyId, TenantId};

use super::MemoryStore;
use super::tables::page;
use crate::audit_log::{Act, Action};
use crate::secrets::DataKey;
use crate::store::{Page, PageRequest, SecretStore, StoreError};

pub(super) type DataKeys = BTreeMap<DataKeyId, DataKey>;

#[async_trait]
impl SecretStore for MemoryStore {
    async fn current_data_key(&self, tenant: Option<TenantId>) -> Result<Option<DataKey>, StoreError> {
        Ok(current(&self.state().data_keys, tenant).cloned())
    }

    async fn data_key(&self, id: DataKeyId) -> Result<DataKey, StoreError> {
        self.state().data_keys.get(&id).cloned().ok_or(StoreError::NotFound { what: "data key" })
    }

    async fn data_keys(&self, request: PageRequest) -> Result<Page<DataKey>, StoreError> {
        let state = self.state();
        let rows = state.data_keys.values().map(|key| (key.id.as_u128(), key.clone()));
        Ok(page(rows, request, false))
    }

    async fn add_data_key(&self, new: &DataKey, replaces: Option<DataKeyId>, act: &Act) -> Result<DataKey, StoreError> {
        let state = &mut *self.state();
        if let Some(other) = current(&state.data_keys, new.tenant).filter(|key| Some(key.id) != replaces) {
            return Ok(other.clone());
        }
        if let Some(old) = replaces.and_then(|id| state.data_keys.get_mut(&id)) {
            old.current = false;
        }
        state.data_keys.insert(new.id, new.clone());
        state.log.record(&new.event(Action::DataKeyCreated), act);
        Ok(new.clone())
    }

    async fn rewrap_data_key(&self, key: &DataKey, from: &str, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let known = state.data_keys.get_mut(&key.id).filter(|known| *known.master == *from);
        let known = known.ok_or_else(|| StoreError::conflict("the data key was wrapped anew meanwhile"))?;
        (known.master, known.wrapped) = (key.master.clone(), key.wrapped.clone());
        state.log.record(&key.event(Action::DataKeyRewrapped), act);
        Ok(())
    }

    async fn shred_data_keys(&self, tenant: TenantId, act: &Act) -> Result<u64, StoreError> {
        let state = &mut *self.state();
        let gone: Vec<_> = state.data_keys.extract_if(.., |_, key| key.tenant == Some(tenant)).collect();
        gone.iter().for_each(|(_, key)| state.log.record(&key.event(Action::DataKeyShredded), act));
        Ok(gone.len() as u64)
    }
}

fn current(keys: &DataKeys, tenant: Option<TenantId>) -> Option<&DataKey> {
    keys.values().find(|key| key.tenant == tenant && key.current)
}
