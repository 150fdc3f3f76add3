//! [`ProviderAccountStore`] over a map that is ordered by id.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cfr_core::id::{ProviderAccountId, TenantId};

use super::MemoryStore;
use super::tables::{check_free, check_version, page};
use crate::audit_log::{Act, Action, Event};
use crate::provider_account::{ProviderAccount, SealedAccount};
use crate::store::provider_account::PROVIDER_ACCOUNTS_MAX;
use crate::store::{Page, PageRequest, ProviderAccountStore, StoreError};

pub(super) type ProviderAccounts = BTreeMap<ProviderAccountId, SealedAccount>;

const NOT_FOUND: StoreError = StoreError::NotFound { what: "provider account" };

#[async_trait]
impl ProviderAccountStore for MemoryStore {
    async fn add_provider_account(&self, new: &SealedAccount, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        check_name(&state.provider_accounts, &new.account)?;
        if state.provider_accounts.len() >= PROVIDER_ACCOUNTS_MAX as usize {
            return Err(StoreError::conflict("there are as many provider accounts as there may be"));
        }
        state.provider_accounts.insert(new.account.id, new.clone());
        state.log.record(&Event::created(Action::ProviderAccountCreated, &new.account), act);
        Ok(())
    }

    async fn provider_account(&self, id: ProviderAccountId) -> Result<SealedAccount, StoreError> {
        self.state().provider_accounts.get(&id).cloned().ok_or(NOT_FOUND)
    }

    async fn provider_accounts(
        &self,
        tenant: Option<TenantId>,
        request: PageRequest,
    ) -> Result<Page<SealedAccount>, StoreError> {
        let state = self.state();
        let wanted = |sealed: &&SealedAccount| tenant.is_none() || sealed.account.tenant == tenant;
        let rows = state.provider_accounts.values().filter(wanted);
        Ok(page(rows.map(|sealed| (sealed.account.id.as_u128(), sealed.clone())), request, false))
    }

    async fn update_provider_account(&self, version: i64, new: &SealedAccount, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        check_name(&state.provider_accounts, &new.account)?;
        let known = state.provider_accounts.get_mut(&new.account.id).ok_or(NOT_FOUND)?;
        check_version(known.account.version, version)?;
        let after = ProviderAccount { version: version + 1, tenant: known.account.tenant, ..new.account.clone() };
        state.log.record(&Event::changed(Action::ProviderAccountChanged, &known.account, &after), act);
        let secret = new.secret.clone().or_else(|| known.secret.clone());
        *known = SealedAccount { account: after, secret };
        Ok(())
    }

    async fn remove_provider_account(&self, id: ProviderAccountId, act: &Act) -> Result<ProviderAccount, StoreError> {
        let state = &mut *self.state();
        let gone = state.provider_accounts.remove(&id).ok_or(NOT_FOUND)?.account;
        state.log.record(&Event::created(Action::ProviderAccountRemoved, &gone), act);
        Ok(gone)
    }
}

fn check_name(accounts: &ProviderAccounts, new: &ProviderAccount) -> Result<(), StoreError> {
    let mut others = accounts.values().map(|sealed| &sealed.account).filter(|other| other.id != new.id);
    check_free(others.any(|other| other.tenant == new.tenant && other.name == new.name), "the name of the account")
}
