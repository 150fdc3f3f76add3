//! What becomes of keys: changes, new secrets, secrets that were found, and their last use.

use cfr_core::id::{KeyId, TenantId, UserId};
use cfr_core::ledger::{LimitPolicy, Scope};
use cfr_core::time::Timestamp;

use super::State;
use super::catalog::Catalog;
use super::tables::{check_free, check_version};
use crate::audit_log::{Act, Action, Event};
use crate::budget::{Budget, NewBudget, ScopeId};
use crate::identity::{ApiKey, KeyMac, KeyPatch, KeyStatus, NewKey, NewSecret};
use crate::store::StoreError;

impl State {
    pub(super) fn update_key(
        &mut self,
        id: KeyId,
        version: i64,
        patch: &KeyPatch,
        act: &Act,
    ) -> Result<ApiKey, StoreError> {
        let before = self.catalog.known_key(id)?;
        check_version(before.version, version)?;
        let mut key = before.clone();
        patch.apply(&mut key)?;
        Ok(self.keep_key(Action::KeyChanged, &before, key, act))
    }

    pub(super) fn rotate_key(
        &mut self,
        id: KeyId,
        secret: &NewSecret,
        grace_until: Timestamp,
        act: &Act,
    ) -> Result<ApiKey, StoreError> {
        let before = self.catalog.known_key(id)?;
        check_free(self.catalog.macs.contains_key(&secret.mac), "the key")?;
        let mut key = before.clone();
        key.rotate(secret, grace_until)?;
        self.catalog.replace_mac(id, secret.mac);
        Ok(self.keep_key(Action::KeyRotated, &before, key, act))
    }

    pub(super) fn revoke_secret(&mut self, mac: &KeyMac, act: &Act) -> Option<ApiKey> {
        let (present, old) = (self.catalog.macs.get(mac).copied(), self.catalog.old_macs.remove(mac));
        let before = self.catalog.known_key(present.or(old)?).ok()?;
        if before.status == KeyStatus::Revoked {
            return None;
        }
        let mut key = before.clone();
        match present {
            Some(_) => key.status = KeyStatus::Revoked,
            None => key.grace_until = None,
        }
        key.version += 1;
        Some(self.keep_key(Action::KeyLeaked, &before, key, act))
    }

    /// Revokes every key of a user, and forgets what they called it.
    pub(super) fn erase_keys(&mut self, user: UserId, act: &Act) {
        let keys: Vec<_> = self.catalog.keys.values().filter(|key| key.user == Some(user)).cloned().collect();
        for before in keys {
            let key = ApiKey { name: "".into(), status: KeyStatus::Revoked, ..before.clone() };
            self.keep_key(Action::KeyRevoked, &before, key, act);
        }
    }

    fn keep_key(&mut self, action: Action, before: &ApiKey, key: ApiKey, act: &Act) -> ApiKey {
        self.log.record(&Event::changed(action, before, &key), act);
        self.catalog.keys.insert(key.id, key.clone());
        key
    }
}

impl Catalog {
    fn known_key(&self, id: KeyId) -> Result<ApiKey, StoreError> {
        self.keys.get(&id).cloned().ok_or(StoreError::NotFound { what: "key" })
    }

    /// The present secret becomes the old one, and the old one is forgotten.
    fn replace_mac(&mut self, id: KeyId, mac: KeyMac) {
        self.old_macs.retain(|_, key| *key != id);
        let present = self.macs.iter().find(|(_, key)| **key == id).map(|(mac, _)| *mac);
        if let Some(present) = present {
            self.macs.remove(&present);
            self.old_macs.insert(present, id);
        }
        self.macs.insert(mac, id);
    }

    pub(super) fn touch_keys(&mut self, used: &[(KeyId, Timestamp)]) {
        for (id, at) in used {
            if let Some(key) = self.keys.get_mut(id) {
                key.used_at = key.used_at.max(Some(*at));
            }
        }
    }

    /// The budget that a key was to have of its own.
    pub(super) fn insert_key_budget(&mut self, key: &ApiKey, new: &NewKey) -> Result<Option<Budget>, StoreError> {
        let Some(wanted) = &new.budget else { return Ok(None) };
        let tenant: TenantId = key.tenant.ok_or_else(|| StoreError::invalid("the key of a tenant has a budget"))?;
        let tenant = self.tenant(tenant)?.clone();
        let budget = NewBudget {
            scope: Scope::Key,
            scope_id: ScopeId(key.id.as_u128()),
            tenant: Some(tenant.id),
            currency: tenant.currency,
            included_nanos: wanted.included_nanos,
            policy: LimitPolicy::Hard,
            period: wanted.period.clone(),
            zone: tenant.zone,
        };
        Ok(Some(self.insert_budget(&budget, key.created_at)))
    }
}
